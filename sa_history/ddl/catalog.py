"""Objects of sa_history that are installed, as PostgreSQL's catalog has them."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import ARRAY, Connection, Text, bindparam, text

from sa_history.ddl.elements import switch_trigger
from sa_history.ddl.fingerprint import PREFIX
from sa_history.ddl.foreign_keys import ReferentialActions
from sa_history.sql import catalog_queries as catalog
from sa_history.sql.compose import (
    Fragment,
    Ident,
    Joined,
    Literal,
    Qualified,
    Raw,
    join,
)
from sa_history.sql.output_settings import OUTPUT_SETTINGS


@dataclass(frozen=True)
class InstalledFunction:
    """A function with a comment of sa_history.

    :param name: with its schema.
    :param source: its body.
    :param definer: whether it is SECURITY DEFINER, and runs with its owner's rights.
    :param path: its ``search_path``; None if it uses the caller's.
    :param by_index: whether ``enable_seqscan`` is off in it.
    :param settings: those of :data:`OUTPUT_SETTINGS` that are set in it, as pairs of a
        name and a value.
    :param arguments: as in CREATE FUNCTION, without the parentheses.
    :param definition: its CREATE statement.
    :param fingerprint: the comment on it.
    """

    name: Qualified
    source: str
    definer: bool
    path: tuple[str, ...] | None
    by_index: bool
    settings: tuple[tuple[str, str], ...]
    arguments: str
    definition: str
    fingerprint: str

    kind = "function"

    def target(self) -> Fragment:
        """Return its name as DROP and COMMENT ON have it."""
        return Joined((Raw("FUNCTION "), self.name, Raw(f"({self.arguments})")))

    def restore(self) -> list[Fragment]:
        """Return the statements that create it as it is now, with its comment."""
        return [Raw(self.definition.rstrip()), _comment(self)]


TRIGGER_TYPE_ROW = 1
"""The bit of ``pg_trigger.tgtype`` that FOR EACH ROW sets; see ``pg_trigger.h``."""


@dataclass(frozen=True)
class InstalledTrigger:
    """A trigger with a comment of sa_history, or one that runs such a function.

    :param name: of the trigger.
    :param relation: the table or view that it is on.
    :param function: the function that it runs.
    :param type: the bits of ``pg_trigger.tgtype``.
    :param enabled: a key of ``ENABLED``.
    :param has_condition: whether it has a WHEN.
    :param deferrable: None, ``"IMMEDIATE"`` or ``"DEFERRED"``.
    :param old_rows: the name of the transition table of old rows.
    :param new_rows: the name of the transition table of new rows.
    :param columns: the columns of UPDATE OF; none if any update fires it.
    :param depends_on: the columns that cannot be dropped while it exists.
    :param is_on_events: whether it is on an event table.
    :param definition: its CREATE statement.
    :param fingerprint: the comment on it; None if it has none of sa_history.
    """

    name: str
    relation: Qualified
    function: Qualified
    type: int
    enabled: str
    has_condition: bool
    deferrable: str | None
    old_rows: str | None
    new_rows: str | None
    columns: tuple[str, ...]
    depends_on: tuple[str, ...]
    is_on_events: bool
    definition: str
    fingerprint: str | None

    kind = "trigger"

    @property
    def is_for_rows(self) -> bool:
        """True if it is FOR EACH ROW, which partitions have by their table."""
        return bool(self.type & TRIGGER_TYPE_ROW)

    def target(self) -> Fragment:
        """Return its name as DROP and COMMENT ON have it."""
        return Joined((Raw("TRIGGER "), Ident(self.name), Raw(" ON "), self.relation))

    def restore(self) -> list[Fragment]:
        """Return the statements that create it as it is now, with its comment."""
        statements: list[Fragment] = [Raw(self.definition)]
        if self.enabled != "O":
            statements.append(self.enable(self.enabled))
        return [*statements, _comment(self)] if self.fingerprint else statements

    def enable(self, state: str) -> Fragment:
        """Return the statement that enables or disables it.

        :param state: a key of ``ENABLED``.
        """
        return switch_trigger(self.relation, self.name, state)


@dataclass(frozen=True)
class InstalledView:
    """A view with a comment of sa_history.

    :param name: with its schema.
    :param columns: their names.
    :param definition: the query.
    :param fingerprint: the comment on it.
    """

    name: Qualified
    columns: tuple[str, ...]
    definition: str
    fingerprint: str

    kind = "view"

    def target(self) -> Fragment:
        """Return its name as DROP and COMMENT ON have it."""
        return Raw("VIEW ") + self.name

    def restore(self) -> list[Fragment]:
        """Return the statements that create it as it is now, with its comment."""
        create = Joined(
            (
                Raw("CREATE VIEW "),
                self.name,
                Raw(" ("),
                join(", ", map(Ident, self.columns)),
                Raw(") AS\n"),
                Raw(self.definition.rstrip().removesuffix(";")),
            )
        )
        return [create, _comment(self)]


@dataclass(frozen=True)
class InstalledSequence:
    """A sequence with a comment of sa_history.

    :param name: with its schema.
    :param used_by: the tables with a column whose default takes its numbers.
    :param fingerprint: the comment on it.
    """

    name: Qualified
    used_by: tuple[Qualified, ...]
    fingerprint: str

    kind = "sequence"

    def target(self) -> Fragment:
        """Return its name as DROP and COMMENT ON have it."""
        return Raw("SEQUENCE ") + self.name

    def restore(self) -> list[Fragment]:
        """Return the statements that create an equal sequence, with its comment."""
        return [Raw("CREATE SEQUENCE ") + self.name + Raw(" AS bigint"), _comment(self)]


Installed: TypeAlias = (
    InstalledFunction | InstalledTrigger | InstalledView | InstalledSequence
)
"""An object that is installed."""


@dataclass(frozen=True)
class Partition:
    """A partition that holds rows.

    :param table: the partitioned table.
    :param name: of the partition.
    :param disabled: triggers of ours that are disabled on it.
    :param is_foreign: whether it is a foreign table.
    """

    table: Qualified
    name: Qualified
    disabled: tuple[str, ...]
    is_foreign: bool


@dataclass(frozen=True)
class Catalog:
    """The objects of sa_history in some schemas, in the order of their creation.

    :param functions: by name and the names in their arguments.
    :param triggers: by relation and name.
    :param views: by name.
    :param sequences: by name.
    """

    functions: dict[tuple[Qualified, tuple[str, ...]], InstalledFunction]
    triggers: dict[tuple[Qualified, str], InstalledTrigger]
    views: dict[Qualified, InstalledView]
    sequences: dict[Qualified, InstalledSequence]

    def all(self) -> list[Installed]:
        """Return all objects: triggers first, which need the others."""
        return [
            *self.triggers.values(),
            *self.views.values(),
            *self.functions.values(),
            *self.sequences.values(),
        ]


def read_catalog(
    connection: Connection, schemas: Sequence[str], definitions: bool = True
) -> Catalog:
    """Read the objects that are installed, by three queries.

    :param schemas: the names of the schemas to look into.
    :param definitions: whether to read the CREATE statements of triggers and views,
        which ``restore()`` needs; without them nothing is locked.
    """
    how = {"definitions": definitions}
    relations = _rows(connection, catalog.RELATIONS, schemas, how)
    functions = map(_function, _rows(connection, catalog.FUNCTIONS, schemas))
    views = [
        InstalledView(
            Qualified(row.schema, row.name),
            tuple(row.columns),
            row.definition or "",
            row.mark,
        )
        for row in relations
        if text_of_char(row.kind) == "v"
    ]
    sequences = [
        InstalledSequence(
            Qualified(row.schema, row.name),
            tuple(Qualified(*name) for name in row.used_by),
            row.mark,
        )
        for row in relations
        if text_of_char(row.kind) == "S"
    ]
    return Catalog(
        {(f.name, names_in(f.arguments)): f for f in functions},
        read_triggers(connection, schemas, definitions),
        {v.name: v for v in views},
        {s.name: s for s in sequences},
    )


def read_triggers(
    connection: Connection,
    schemas: Sequence[str],
    definitions: bool,
    relations: Sequence[str] | None = None,
) -> dict[tuple[Qualified, str], InstalledTrigger]:
    """Read the triggers that are installed, by relation and name.

    :param schemas: the names of the schemas to look into.
    :param definitions: as for :func:`read_catalog`.
    :param relations: the names of the relations to look at; None for all.
    """
    of = None if relations is None else list(relations)
    parameters = {"definitions": definitions, "relations": of}
    rows = _rows(connection, catalog.TRIGGERS, schemas, parameters)
    return {(t.relation, t.name): t for t in map(_trigger, rows)}


def read_partitions(connection: Connection, schemas: Sequence[str]) -> list[Partition]:
    """Read the partitions that hold rows.

    :param schemas: of the partitioned tables.
    """
    return [
        Partition(
            Qualified(row.schema, row.name),
            Qualified(row.leaf_schema, row.leaf),
            tuple(row.disabled),
            row.is_foreign,
        )
        for row in _rows(connection, catalog.PARTITIONS, schemas)
    ]


@dataclass(frozen=True)
class Child:
    """A table that is a partition of another, or inherits from it.

    :param name: of the table.
    :param parent: the other table.
    :param is_partition: whether it is a partition.
    """

    name: Qualified
    parent: Qualified
    is_partition: bool


def read_children(connection: Connection, schemas: Sequence[str]) -> list[Child]:
    """Read the tables that are partitions, or inherit from others.

    :param schemas: of these tables.
    """
    return [
        Child(
            Qualified(row.schema, row.name),
            Qualified(row.parent_schema, row.parent),
            row.is_partition,
        )
        for row in _rows(connection, catalog.CHILDREN, schemas)
    ]


def read_foreign_keys(
    connection: Connection, schemas: Sequence[str]
) -> dict[Hashable, list[ReferentialActions]]:
    """Read what foreign keys do to the rows of their tables.

    :param schemas: of these tables.
    :return: the foreign keys of each table, by its name.
    """
    found: dict[Hashable, list[ReferentialActions]] = {}
    for row in _rows(connection, catalog.FOREIGN_KEYS, schemas):
        parent = Qualified(row.parent_schema, row.parent)
        found.setdefault(Qualified(row.schema, row.name), []).append(
            ReferentialActions(parent, row.deletes, row.updates)
        )
    return found


def read_columns(
    connection: Connection,
    schemas: Iterable[str],
    tables: Iterable[str] | None = None,
) -> dict[Qualified, set[str]]:
    """Read the names of tables and views, and of their columns.

    :param schemas: the names of the schemas to look into.
    :param tables: the names of tables, to read the columns of no others; None for all.
    """
    parameters = {"tables": None if tables is None else list(tables)}
    return {
        Qualified(row.schema, row.name): set(row.columns)
        for row in _rows(connection, catalog.COLUMNS, schemas, parameters)
    }


def read_generated_columns(
    connection: Connection, schemas: Sequence[str]
) -> dict[tuple[Qualified, str], str]:
    """Read the kinds of generated columns, ``"STORED"`` or ``"VIRTUAL"``.

    :param schemas: the schemas of the tables.
    :return: the kinds by table and name of the column.
    """
    return {
        (Qualified(row.schema, row.name), row.column): row.kind
        for row in _rows(connection, catalog.GENERATED_COLUMNS, schemas)
    }


def read_readable(
    connection: Connection, relations: Iterable[Qualified]
) -> set[Qualified]:
    """Read which of some tables and sequences the connection's user may read.

    :param relations: their names, with their schemas.
    """
    names = list(relations)
    parameters = {"names": [name.name for name in names]}
    schemas = [str(name.schema) for name in names]
    return {
        Qualified(row.schema, row.name)
        for row in _rows(connection, catalog.READABLE, schemas, parameters)
    }


def read_schemas(connection: Connection) -> list[str]:
    """Read the names of all schemas but those of PostgreSQL."""
    return list(connection.scalars(text(catalog.SCHEMAS)))


def _rows(
    connection: Connection,
    query: str,
    schemas: Iterable[str],
    parameters: Mapping[str, Any] | None = None,
) -> list[Any]:
    statement = text(query).bindparams(bindparam("schemas", type_=ARRAY(Text)))
    known = {"schemas": list(schemas), "mark": PREFIX + "%", **(parameters or {})}
    return list(connection.execute(statement, known))


def _function(row: Any) -> InstalledFunction:
    settings = dict(setting.split("=", 1) for setting in row.settings or ())
    path = settings.pop("search_path", None)
    by_index = settings.pop("enable_seqscan", None) == "off"
    return InstalledFunction(
        name=Qualified(row.schema, row.name),
        source=row.source,
        definer=row.definer,
        path=None if path is None else names_in(path),
        by_index=by_index,
        settings=tuple(
            (name, settings[name]) for name in OUTPUT_SETTINGS if name in settings
        ),
        arguments=row.arguments,
        definition=row.definition,
        fingerprint=row.mark,
    )


_NAME = re.compile(r'"((?:[^"]|"")*)"|([^",\s]+)')


def names_in(sql: str) -> tuple[str, ...]:
    """Return the names in a ``search_path`` or in the arguments of a function.

    PostgreSQL quotes them only where needed, or all if ``quote_all_identifiers`` is on.

    Example::

        names_in('key text, "in" "name"') == ("key", "text", "in", "name")
    """
    return tuple(
        quoted.replace('""', '"') if quoted else plain
        for quoted, plain in _NAME.findall(sql)
    )


def _trigger(row: Any) -> InstalledTrigger:
    deferrable = "DEFERRED" if row.deferred else "IMMEDIATE"
    return InstalledTrigger(
        name=row.name,
        relation=Qualified(row.schema, row.relation),
        function=Qualified(row.function_schema, row.function),
        type=row.type,
        enabled=text_of_char(row.enabled),
        has_condition=row.has_condition,
        deferrable=deferrable if row.deferrable else None,
        old_rows=row.old_rows,
        new_rows=row.new_rows,
        columns=tuple(row.columns),
        depends_on=tuple(row.depends_on),
        is_on_events=row.is_on_events,
        definition=row.definition or "",
        fingerprint=row.mark,
    )


def text_of_char(value: Any) -> str:
    """Return a value of the type ``"char"``, which some drivers give as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def _comment(installed: Installed) -> Fragment:
    comment = Literal(installed.fingerprint or "")
    return Joined((Raw("COMMENT ON "), installed.target(), Raw(" IS "), comment))
