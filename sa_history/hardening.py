"""Privileges under which an application cannot touch its history.

The triggers write with the rights of the tables' owner. So a role that may write a
tracked table needs no right on its events, and here it loses what it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import MetaData, Table

from sa_history.ddl import Function
from sa_history.objects import objects_of, trackings_in
from sa_history.sql.compose import Fragment, Ident, Joined, Qualified, Raw, SchemaNames
from sa_history.tracking import history_of


def harden_statements(metadata: MetaData, role: str) -> list[Fragment]:
    """Return the statements that leave a role no way to its history.

    :param role: the application's role; it must own none of the tables.
    """
    return list(_statements(metadata, role))


def ignorable(metadata: MetaData) -> list[str]:
    """Return the tracked tables whose tracking any client may have ignored."""
    return sorted(
        tracking.table.fullname
        for tracking in trackings_in(metadata)
        if tracking.options.ignorable
    )


def _statements(metadata: MetaData, role: str) -> Iterator[Fragment]:
    history = history_of(metadata)
    if history is None:
        return
    of_both = Raw("PUBLIC, ") + Ident(role)
    trackings = trackings_in(metadata)
    read_only = [history.shared.context_table, *(t.event_table for t in trackings)]
    for table in read_only:
        yield _revoke("ALL", "TABLE", _name(table), of_both)
        yield _grant("SELECT", "TABLE", _name(table), Ident(role))
    yield _revoke("ALL", "SEQUENCE", history.shared.numbers().name, of_both)
    for table in dict.fromkeys(tracking.table for tracking in trackings):
        yield _revoke("TRUNCATE, REFERENCES, TRIGGER", "TABLE", _name(table), of_both)
    for owned in objects_of(metadata):
        if isinstance(owned.made, Function):
            arguments = Raw(f"({owned.made.arguments})")
            yield _revoke("ALL", "FUNCTION", owned.made.name + arguments, of_both)
    for schema in dict.fromkeys(table.schema for table in read_only):
        yield _revoke("CREATE", "SCHEMA", _Schema(schema), of_both)


@dataclass(frozen=True)
class _Schema(Fragment):
    """The name of a schema."""

    schema: str | None

    def render(self, schemas: SchemaNames) -> str:
        return Ident(schemas(self.schema)).render(schemas)


def _name(table: Table) -> Qualified:
    return Qualified(table.schema, table.name)


def _revoke(what: str, kind: str, target: Fragment, roles: Fragment) -> Fragment:
    return Joined((Raw(f"REVOKE {what} ON {kind} "), target, Raw(" FROM "), roles))


def _grant(what: str, kind: str, target: Fragment, role: Fragment) -> Fragment:
    return Joined((Raw(f"GRANT {what} ON {kind} "), target, Raw(" TO "), role))
