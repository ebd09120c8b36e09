"""Privileges under which an application cannot touch its history.

The triggers write with the rights of the tables' owner. So a role that may write a
tracked table needs no right on its events, and here it loses what it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import MetaData, Table

from sa_history._types import Level
from sa_history.ddl.elements import PGFunction
from sa_history.ddl.grants import Grant, Named
from sa_history.install.expected import objects_of, trackings_in
from sa_history.sql.compose import Fragment, Ident, Joined, Qualified, Raw, SchemaNames
from sa_history.tracking.registry import history_of

WRITING = ("INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
"""The privileges on a table that are more than to read it."""

_EMPTYING = ("TRUNCATE", "REFERENCES", "TRIGGER")


@dataclass(frozen=True)
class Guarded:
    """Something of which a role loses privileges.

    :param kind: ``"TABLE"``, ``"SEQUENCE"``, ``"FUNCTION"`` or ``"SCHEMA"``.
    :param schema: of the model.
    :param name: in its schema; empty for the schema itself.
    :param arguments: of a function.
    :param privileges: which it loses, and must not have by another way.
    :param is_history: whether it loses all of them, and may only read it.
    """

    kind: str
    schema: str | None
    name: str = ""
    arguments: str = ""
    privileges: tuple[str, ...] = ()
    is_history: bool = False

    def revoke(self, role: str) -> Fragment:
        """Return the statement that takes the privileges from a role and PUBLIC."""
        return Joined(
            (
                Raw(f"REVOKE {self._taken()} ON {self.kind} "),
                self._target(),
                Raw(" FROM PUBLIC, "),
                Ident(role),
            )
        )

    def let_read(self, role: str) -> Fragment:
        """Return the statement by which a role may read it."""
        return Joined(
            (Raw("GRANT SELECT ON TABLE "), self._target(), Raw(" TO "), Ident(role))
        )

    def let_read_no_more(self, role: str) -> Fragment:
        """Return the statement by which a role may not read it."""
        return Joined(
            (
                Raw("REVOKE SELECT ON TABLE "),
                self._target(),
                Raw(" FROM "),
                Ident(role),
            )
        )

    def give_back(self, role: str, grant: Grant) -> Fragment:
        """Return the statement that gives back what was granted."""
        option = " WITH GRANT OPTION" if grant.is_grantable else ""
        columns = (Raw(" ("), Ident(grant.column), Raw(")")) if grant.column else ()
        return Joined(
            (
                Raw(f"GRANT {grant.privilege}"),
                *columns,
                Raw(f" ON {self.kind} "),
                self._target(),
                Raw(" TO "),
                Raw("PUBLIC") if grant.to_public else Ident(role),
                Raw(option),
            )
        )

    def takes(self, grant: Grant, schemas: SchemaNames) -> bool:
        """Return whether it takes what was granted."""
        return (grant.kind, grant.schema, grant.name) == self.key(schemas) and (
            self._taken() == "ALL" or grant.privilege in self.privileges
        )

    def key(self, schemas: SchemaNames) -> tuple[str, str, str]:
        """Return what tells it from others."""
        return self.kind, schemas(self.schema), self.name

    def _taken(self) -> str:
        keeps_some = self.kind in ("TABLE", "SCHEMA") and not self.is_history
        return ", ".join(self.privileges) if keeps_some else "ALL"

    def _target(self) -> Fragment:
        if self.kind == "SCHEMA":
            return _Schema(self.schema)
        arguments = Raw(f"({self.arguments})" if self.kind == "FUNCTION" else "")
        return Qualified(self.schema, self.name) + arguments


def guarded_in(metadata: MetaData) -> list[Guarded]:
    """Return what a role must not touch."""
    return list(_guarded(metadata))


def harden_statements(guarded: Iterable[Guarded], role: str) -> list[Fragment]:
    """Return the statements that leave a role no way to its history.

    :param guarded: as :func:`guarded_in` returns it.
    :param role: the application's role; it must own nothing of it.
    """
    statements = []
    for each in guarded:
        statements.append(each.revoke(role))
        if each.is_history:
            statements.append(each.let_read(role))
    return statements


def soften_statements(
    guarded: Iterable[Guarded], role: str, grants: list[Grant], schemas: SchemaNames
) -> list[Fragment]:
    """Return the statements that give back what a role and PUBLIC had.

    :param guarded: as for :func:`harden_statements`.
    :param role: the application's role.
    :param grants: what they have.
    """
    statements = []
    for each in guarded:
        if each.is_history:
            statements.append(each.let_read_no_more(role))
        statements += [
            each.give_back(role, grant)
            for grant in grants
            if each.takes(grant, schemas)
        ]
    return statements


def ignorable(metadata: MetaData) -> list[str]:
    """Return the tracked tables whose tracking any client may have ignored."""
    return sorted(
        tracking.table.fullname
        for tracking in trackings_in(metadata)
        if tracking.options.ignorable
    )


def forbidden_past_triggers(
    metadata: MetaData, schemas: SchemaNames
) -> list[tuple[Named, str]]:
    """Return what a role must not have on partitions, where that leaves no event.

    A trigger for each statement fires for the table that the statement names.
    """
    by_statement = dict.fromkeys(
        ("PARTITIONS", schemas(tracking.table.schema), tracking.table.name)
        for tracking in trackings_in(metadata)
        if tracking.options.level is Level.STATEMENT and tracking.recordings()
    )
    return [
        (table, privilege)
        for table in by_statement
        for privilege in ("INSERT", "UPDATE", "DELETE")
    ]


def _guarded(metadata: MetaData) -> Iterator[Guarded]:
    history = history_of(metadata)
    if history is None:
        return
    trackings = trackings_in(metadata)
    read_only = [history.shared.context_table, *(t.event_table for t in trackings)]
    for table in read_only:
        yield _table(table, WRITING, is_history=True)
    numbers = history.shared.numbers().name
    yield Guarded(
        "SEQUENCE", numbers.schema, numbers.name, privileges=("USAGE", "UPDATE")
    )
    for table in dict.fromkeys(tracking.table for tracking in trackings):
        yield _table(table, _EMPTYING)
    for owned in objects_of(metadata):
        if isinstance(owned.made, PGFunction):
            name, arguments = owned.made.name, owned.made.arguments
            yield Guarded("FUNCTION", name.schema, name.name, arguments, ("EXECUTE",))
    for schema in dict.fromkeys(table.schema for table in read_only):
        yield Guarded("SCHEMA", schema, privileges=("CREATE",))


def _table(
    table: Table, privileges: tuple[str, ...], is_history: bool = False
) -> Guarded:
    return Guarded(
        "TABLE",
        table.schema,
        table.name,
        privileges=privileges,
        is_history=is_history,
    )


@dataclass(frozen=True)
class _Schema(Fragment):
    """The name of a schema."""

    schema: str | None

    def render(self, schemas: SchemaNames) -> str:
        return Ident(schemas(self.schema)).render(schemas)
