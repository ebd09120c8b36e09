"""Privileges of an application's role, which a revision is asked for by ``-x``.

::

    alembic -x harden=app revision --autogenerate
"""

from __future__ import annotations

from collections.abc import Mapping

from alembic.util import CommandError
from sqlalchemy import Connection, MetaData

from sa_history.alembic.operations import HistoryOp
from sa_history.ddl.grants import read_grants, role_problem, still_granted
from sa_history.install.privileges import (
    forbidden_past_triggers,
    guarded_in,
    harden_statements,
    ignorable,
    soften_statements,
)
from sa_history.sql.compose import SchemaNames


def hardenings(
    arguments: Mapping[str, list[str]],
    connection: Connection,
    metadatas: list[MetaData],
    schemas: SchemaNames,
) -> list[HistoryOp]:
    """Return the operations that leave roles no way to their history but to read it.

    A downgrade gives back what the role and PUBLIC have now.

    :param arguments: what is asked for, by ``-x``.
    :raises CommandError: it would be in vain.
    """
    roles = arguments.get("harden", [])
    loose = [name for metadata in metadatas for name in ignorable(metadata)]
    if roles and loose:
        raise CommandError(
            f"-x harden: any client may have the tracking of {', '.join(loose)} "
            "ignored; give track(..., ignorable=False)"
        )
    guarded = [each for metadata in metadatas for each in guarded_in(metadata)]
    named = [each.key(schemas) for each in guarded]
    forbidden = [
        each
        for metadata in metadatas
        for each in forbidden_past_triggers(metadata, schemas)
    ]
    operations = []
    for role in roles:
        problem = role_problem(connection, role, named)
        if problem is not None:
            raise CommandError(f"-x harden={role}: role {role!r} {problem}")
        if still := still_granted(connection, role, forbidden):
            raise CommandError(
                f"-x harden={role}: role {role!r} would still have "
                f"{', '.join(still)}, by which it leaves no event; revoke that; of a "
                'partition level="row" records it, too'
            )
        grants = read_grants(connection, role, named)
        undo = soften_statements(guarded, role, grants, schemas)
        operations.append(
            HistoryOp(
                f"leave role {role} no way to its history but to read it",
                [each.render(schemas) for each in harden_statements(guarded, role)],
                (
                    f"give role {role} back what it had of its history",
                    [each.render(schemas) for each in undo],
                ),
            )
        )
    return operations
