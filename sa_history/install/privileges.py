"""Privileges under which an application cannot touch its history.

The triggers write with the rights of the tables' owner. So a role that may write a
tracked table needs no right on its events, and here it loses those that it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, MetaData, Table

from sa_history.capture.archive_table import archive_table_of
from sa_history.capture.seal_tables import seal_tables_of
from sa_history.ddl.elements import PGFunction
from sa_history.ddl.grants import (
    Grant,
    Named,
    read_grants,
    role_problem,
    still_granted,
)
from sa_history.install.expected import objects_of
from sa_history.sql.compose import Fragment, Ident, Joined, Qualified, Raw, SchemaNames
from sa_history.tracking.registry import history_of, trackings_in

_NOT_ON_TRACKED_TABLES = ("TRUNCATE", "REFERENCES", "TRIGGER")
_NOT_ON_HISTORY = ("INSERT", "UPDATE", "DELETE", *_NOT_ON_TRACKED_TABLES)

# With these a session switches triggers off, or runs code of its own in the server.
_NOT_SET = (
    "session_replication_role",
    "session_preload_libraries",
    "dynamic_library_path",
    "extension_control_path",
)
_NOT_SET_FOR_ALL = (
    *_NOT_SET,
    "archive_cleanup_command",
    "archive_command",
    "archive_library",
    "hba_file",
    "ident_file",
    "jit_provider",
    "local_preload_libraries",
    "oauth_validator_libraries",
    "recovery_end_command",
    "restore_command",
    "shared_preload_libraries",
    "ssl_passphrase_command",
)

_NOT_ON_SERVER: tuple[tuple[Named, str], ...] = (
    *((("PARAMETER", "", name), "SET") for name in _NOT_SET),
    *((("PARAMETER", "", name), "ALTER SYSTEM") for name in _NOT_SET_FOR_ALL),
    (("ROLE", "", "pg_execute_server_program"), ""),
    (("ROLE", "", "pg_write_server_files"), ""),
    (("ROLE", "", "pg_create_subscription"), ""),
    (("FUNCTION", "pg_catalog", "lo_export"), "EXECUTE"),
)
"""Rights on the server with which a role can write without leaving an event."""


@dataclass(frozen=True)
class GuardedObject:
    """An object on which a role loses privileges.

    :param kind: ``"TABLE"``, ``"SEQUENCE"``, ``"FUNCTION"`` or ``"SCHEMA"``.
    :param schema: its schema as the models name it, None for the default schema.
    :param name: its name in the schema; empty for the schema itself.
    :param arguments: the types of a function's arguments, as in CREATE FUNCTION.
    :param privileges: the privileges that the role must not have by any way.
    :param is_history: True for a table that the role may read and no more.
    """

    kind: str
    schema: str | None
    name: str = ""
    arguments: str = ""
    privileges: tuple[str, ...] = ()
    is_history: bool = False

    def revoke(self, role: str) -> Fragment:
        """Return the REVOKE of the privileges from a role and from PUBLIC."""
        return Joined(
            (
                Raw(f"REVOKE {self._taken()} ON {self.kind} "),
                self._target(),
                Raw(" FROM PUBLIC, "),
                Ident(role),
            )
        )

    def grant_select(self, role: str) -> Fragment:
        """Return the GRANT with which a role may read the table."""
        return Joined(
            (Raw("GRANT SELECT ON TABLE "), self._target(), Raw(" TO "), Ident(role))
        )

    def revoke_select(self, role: str) -> Fragment:
        """Return the REVOKE of what :meth:`grant_select` grants."""
        return Joined(
            (
                Raw("REVOKE SELECT ON TABLE "),
                self._target(),
                Raw(" FROM "),
                Ident(role),
            )
        )

    def restore(self, role: str, grant: Grant) -> Fragment:
        """Return the GRANT that a downgrade repeats."""
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
        """Return True if :meth:`revoke` takes away a grant."""
        return (grant.kind, grant.schema, grant.name) == self.key(schemas) and (
            self._taken() == "ALL" or grant.privilege in self.privileges
        )

    def key(self, schemas: SchemaNames) -> tuple[str, str, str]:
        """Return kind, schema and name, as the catalog has them."""
        return self.kind, schemas(self.schema), self.name

    def _taken(self) -> str:
        keeps_some = self.kind in ("TABLE", "SCHEMA") and not self.is_history
        return ", ".join(self.privileges) if keeps_some else "ALL"

    def _target(self) -> Fragment:
        if self.kind == "SCHEMA":
            return _Schema(self.schema)
        arguments = Raw(f"({self.arguments})" if self.kind == "FUNCTION" else "")
        return Qualified(self.schema, self.name) + arguments


@dataclass(frozen=True, eq=False)
class Hardening:
    """What leaves a role no way to its history but to read it.

    :param metadatas: the models.
    :param role: the application's role.
    :param schemas: gives the name in the database of a schema of the models.
    """

    metadatas: Sequence[MetaData]
    role: str
    schemas: SchemaNames

    def problem(self, connection: Connection) -> str | None:
        """Return why hardening the role would be in vain, or None if it is not."""
        loose = sorted(
            tracking.table.fullname
            for tracking in trackings_in(*self.metadatas)
            if tracking.options.ignorable
        )
        if loose:
            return (
                f"any client may have the tracking of {', '.join(loose)} ignored; give "
                "track(..., ignorable=False), and migrate"
            )
        problem = role_problem(connection, self.role, self._keys())
        return problem and f"role {self.role!r} {problem}"

    def statements(self) -> list[str]:
        """Return the statements that harden the role; to run them again is harmless."""
        statements = []
        for guarded in self._objects():
            statements.append(guarded.revoke(self.role))
            if guarded.is_history:
                statements.append(guarded.grant_select(self.role))
        return [statement.render(self.schemas) for statement in statements]

    def restore_grants(self, connection: Connection) -> list[str]:
        """Return the statements that restore the grants that exist now."""
        grants = read_grants(connection, self.role, self._keys())
        statements = []
        for guarded in self._objects():
            if guarded.is_history:
                statements.append(guarded.revoke_select(self.role))
            statements += [
                guarded.restore(self.role, grant)
                for grant in grants
                if guarded.takes(grant, self.schemas)
            ]
        return [statement.render(self.schemas) for statement in statements]

    def remaining(self, connection: Connection, is_done: bool) -> list[str]:
        """Return the rights, in words, with which the role gets around the triggers.

        :param is_done: True if :meth:`statements` have been run. Before that only the
            rights are looked for that these do not revoke.
        """
        forbidden = [*_NOT_ON_SERVER, *self._on_partitions()]
        if is_done:
            forbidden += [
                (guarded.key(self.schemas), privilege)
                for guarded in self._objects()
                for privilege in guarded.privileges
            ]
        return still_granted(connection, self.role, forbidden)

    @property
    def advice(self) -> str:
        """What to do first about partitions of history; empty if there are none."""
        is_partitioned = any(
            tracking.options.partition_by is not None
            for tracking in trackings_in(*self.metadatas)
        )
        if not is_partitioned:
            return ""
        return (
            "rights on partitions of history are revoked by the command partitions: "
            "run it first, then this again. "
        )

    def _objects(self) -> list[GuardedObject]:
        return [each for metadata in self.metadatas for each in _guarded(metadata)]

    def _keys(self) -> list[Named]:
        return [guarded.key(self.schemas) for guarded in self._objects()]

    def _on_partitions(self) -> list[tuple[Named, str]]:
        """Return the privileges on partitions with which the role changes history.

        A trigger for each statement fires for the table that the statement names. So
        what is written to a partition of that table leaves no event, and a TRUNCATE of
        one, which has no trigger for each row, leaves none at either level. What is
        granted on a partition is not revoked with what is granted on the table.
        """
        forbidden: dict[tuple[Named, str], None] = {}
        for metadata in self.metadatas:
            for table in _history_tables(metadata):
                forbidden |= self._of_partitions(table, _NOT_ON_HISTORY)
            for tracking in trackings_in(metadata):
                written = ("INSERT", "UPDATE", "DELETE")
                by_statement = written if tracking.statement_operations else ()
                privileges = (*by_statement, *_NOT_ON_TRACKED_TABLES)
                forbidden |= self._of_partitions(tracking.table, privileges)
        return list(forbidden)

    def _of_partitions(
        self, table: Table, privileges: Sequence[str]
    ) -> dict[tuple[Named, str], None]:
        named = ("PARTITIONS", self.schemas(table.schema), table.name)
        return {(named, privilege): None for privilege in privileges}


def _history_tables(metadata: MetaData) -> list[Table]:
    """Return the event tables of a MetaData and that of contexts, if there are some."""
    history = history_of(metadata)
    if history is None:
        return []
    events = [tracking.event_table for tracking in trackings_in(metadata)]
    return [history.shared.context_table, *events]


def _guarded(metadata: MetaData) -> Iterator[GuardedObject]:
    history = history_of(metadata)
    if history is None:
        return
    trackings = trackings_in(metadata)
    read_only = _history_tables(metadata)
    seals = seal_tables_of(metadata)
    if seals is not None:
        read_only += [t for t in seals.all() if t is not seals.salt]
        # With a salt, the values could be guessed that a commitment is made of.
        yield _table(seals.salt, ("SELECT", *_NOT_ON_HISTORY))
    archived = archive_table_of(metadata)
    if archived is not None:
        read_only.append(archived)
    for table in read_only:
        yield _table(table, _NOT_ON_HISTORY, is_history=True)
    numbers = history.shared.pg_sequence().name
    yield GuardedObject(
        "SEQUENCE", numbers.schema, numbers.name, privileges=("USAGE", "UPDATE")
    )
    for table in dict.fromkeys(tracking.table for tracking in trackings):
        yield _table(table, _NOT_ON_TRACKED_TABLES)
    for definition in (expected.definition for expected in objects_of(metadata)):
        if isinstance(definition, PGFunction):
            name, arguments = definition.name, definition.arguments
            yield GuardedObject(
                "FUNCTION", name.schema, name.name, arguments, ("EXECUTE",)
            )
    for schema in dict.fromkeys(table.schema for table in read_only):
        yield GuardedObject("SCHEMA", schema, privileges=("CREATE",))


def _table(
    table: Table, privileges: tuple[str, ...], is_history: bool = False
) -> GuardedObject:
    return GuardedObject(
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
