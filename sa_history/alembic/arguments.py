"""The arguments of autogenerate on the command line, ``-x name=value``."""

from __future__ import annotations

import difflib

from alembic.autogenerate.api import AutogenContext
from alembic.util import CommandError

_KNOWN = ("baseline", "harden", "rename_column", "rename_table")
"""The arguments of sa_history; an environment may have others of its own."""


def x_arguments(autogen_context: AutogenContext) -> dict[str, list[str]]:
    """Return the values by name; an argument without a value has an empty one.

    :raises CommandError: a name is almost one of the library's, so that what it asks
        for would not be done.
    """
    migration = autogen_context.migration_context
    environment = migration.environment_context if migration else None
    arguments: dict[str, list[str]] = {}
    if environment is not None and environment.config is not None:
        for item in environment.get_x_argument():
            name, _, value = item.partition("=")
            close = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0.8)
            if close and close[0] != name:
                raise CommandError(
                    f"-x {item}: there is no argument {name!r}; write -x {close[0]}"
                )
            arguments.setdefault(name, []).append(value)
    return arguments
