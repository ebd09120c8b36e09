"""Privileges of an application's role: ``-x harden`` asks a revision to revoke them.

::

    alembic -x harden=app revision --autogenerate
"""

from __future__ import annotations

from collections.abc import Mapping

from alembic.util import CommandError
from sqlalchemy import Connection, MetaData

from sa_history.alembic.operations import HistoryOp
from sa_history.install.privileges import Hardening
from sa_history.sql.compose import SchemaNames


def hardenings(
    arguments: Mapping[str, list[str]],
    connection: Connection,
    metadatas: list[MetaData],
    schemas: SchemaNames,
) -> list[HistoryOp]:
    """Return the operations that leave roles no way to their history but to read it.

    A downgrade gives back what the role and PUBLIC have now.

    :param arguments: the values of ``-x``, by name.
    :raises CommandError: a role would still have another way.
    """
    operations = []
    for role in arguments.get("harden", []):
        hardening = Hardening(metadatas, role, schemas)
        if problem := hardening.problem(connection):
            raise CommandError(f"-x harden={role}: {problem}")
        if remaining := hardening.remaining(connection, is_done=False):
            raise CommandError(
                f"-x harden={role}: {hardening.advice}role {role!r} would still have "
                f"{', '.join(remaining)}, by which it leaves no event, or writes one; "
                'revoke that; what is written to a partition level="row" records, too, '
                "but for its TRUNCATE"
            )
        operations.append(
            HistoryOp(
                f"leave role {role} no way to its history but to read it",
                hardening.statements(),
                (
                    f"give role {role} back what it had of its history",
                    hardening.restore_grants(connection),
                ),
            )
        )
    return operations
