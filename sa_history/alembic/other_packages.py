"""Other packages of ``env.py`` that drop each function and trigger they do not know."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from alembic.operations import ops

from sa_history.ddl.elements import DatabaseObject, PGTrigger

# Alembic's env.py turns off the loggers that alembic.ini does not name.
log = logging.getLogger("alembic.sa_history")

SETTINGS: Mapping[str, str] = {
    "alembic_utils": "an include_object for context.configure",
    "sqlalchemy_declarative_extensions": "ignore_unspecified=True",
}
"""The packages, and by what each leaves alone what it finds in the database."""

_DROPPED = ("target", "function", "procedure", "trigger", "view")
"""The attributes by which their operations name what they drop."""


def warn_of_drops(
    operations: Iterable[ops.MigrateOperation], expected: Iterable[DatabaseObject]
) -> None:
    """Warn if operations of other packages drop what the models expect.

    :param operations: the operations of the revision.
    :param expected: the objects that the models expect in the database.
    """
    names = {
        each.name if isinstance(each, PGTrigger) else each.name.name
        for each in expected
    }
    dropped = defaultdict(list)
    for operation in operations:
        package = type(operation).__module__.partition(".")[0]
        if package in SETTINGS and type(operation).__name__.startswith("Drop"):
            name = _dropped_by(operation)
            if name in names:
                dropped[package].append(name)
    for package, lost in dropped.items():
        log.warning(
            "%s drops what history is kept by: %s; give it %s, see 'Beside other"
            " packages' in sa_history's documentation of migrations, and make the"
            " revision again",
            package,
            ", ".join(lost),
            SETTINGS[package],
        )


def _dropped_by(operation: Any) -> str:
    attributes = (getattr(operation, attribute, None) for attribute in _DROPPED)
    dropped: Any = next(filter(None, attributes))
    # That of a function in alembic_utils has its arguments.
    name: str = getattr(dropped, "signature", None) or dropped.name
    return name.partition("(")[0]
