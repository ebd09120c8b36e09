"""Renames, which autogenerate cannot see: they are given on the command line.

::

    alembic -x rename_column=account.name:title revision --autogenerate
    alembic -x rename_table=account:customer revision --autogenerate
    alembic -x rename_table=account:crm.account revision --autogenerate
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from alembic.operations import ops
from alembic.util import CommandError
from sqlalchemy import Column, Index, MetaData

from sa_history.alembic.operations import HistoryOp
from sa_history.ddl.elements import PGSequence
from sa_history.ddl.fingerprint import SetComment
from sa_history.ddl.partitions import comment_on_partitions
from sa_history.sql.compose import (
    Fragment,
    Ident,
    Joined,
    Literal,
    Qualified,
    Raw,
    SchemaNames,
)
from sa_history.sql.naming import generated_name
from sa_history.tracking.registry import history_of, trackings_of_table


@dataclass(frozen=True)
class Renames:
    """The renames of one revision.

    :param operations: the operations that rename.
    :param tables: the names of renamed tables: those after, by those before.
    :param sequences: the names of renamed sequences, after.
    """

    operations: list[HistoryOp]
    tables: dict[Qualified, Qualified]
    sequences: set[Qualified]


@dataclass(frozen=True)
class TableName:
    """A table as the models name it."""

    schema: str | None
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name

    def in_database(self, schemas: SchemaNames) -> Qualified:
        """Return the name as the database has it."""
        return Qualified(schemas(self.schema), self.name)


@dataclass(frozen=True)
class TableRename:
    """A table that gets another name or schema, with its indexes and its comment.

    :param before: the table's name before.
    :param after: the table's name after.
    :param indexes: names of indexes, before and after.
    :param comments: the table's comment before and after, None for no comment.
    :param is_partitioned: whether it has partitions, which have the same comment.
    """

    before: TableName
    after: TableName
    indexes: tuple[tuple[str, str], ...]
    comments: tuple[str | None, str | None]
    is_partitioned: bool

    def reversed(self) -> TableRename:
        """Return the rename that takes this one back."""
        return TableRename(
            before=self.after,
            after=self.before,
            indexes=tuple((new, old) for old, new in self.indexes),
            comments=(self.comments[1], self.comments[0]),
            is_partitioned=self.is_partitioned,
        )

    def operation(self, schemas: SchemaNames) -> HistoryOp:
        """Return the operation, whose downgrade is the reversed rename."""
        back = self.reversed()
        return HistoryOp(
            self._title(),
            self._statements(schemas),
            (back._title(), back._statements(schemas)),
        )

    def _title(self) -> str:
        return f"rename table {self.before} to {self.after}"

    def _statements(self, schemas: SchemaNames) -> list[str]:
        source = self.before.in_database(schemas)
        target = self.after.in_database(schemas)
        statements = _moves("TABLE", source, target)
        for old, new in self.indexes:
            index = Qualified(target.schema, old)
            statements += _moves("INDEX", index, Qualified(target.schema, new))
        comment_before, comment = self.comments
        if comment_before != comment:
            text = Raw("NULL") if comment is None else Literal(comment)
            statements.append(Raw("COMMENT ON TABLE ") + target + Raw(" IS ") + text)
            if self.is_partitioned and comment_before and comment:
                statements.append(
                    comment_on_partitions(target, comment_before, comment)
                )
        return [statement.render(schemas) for statement in statements]


def rename(
    arguments: Mapping[str, list[str]],
    upgrade_ops: ops.UpgradeOps,
    metadatas: list[MetaData],
    schemas: SchemaNames,
) -> Renames:
    """Return the renames that ``-x`` asks for, and remove the operations they replace.

    The event tables of a table are renamed with it, and their columns with its columns.
    With a context table its sequence is renamed, which has to go on counting.

    :param arguments: the values of ``-x``, by name.
    :raises CommandError: the models have no such rename.
    """
    operations: list[HistoryOp] = []
    tables: dict[Qualified, Qualified] = {}
    sequences: set[Qualified] = set()
    for names in _pairs(arguments, "rename_table"):
        before, after = map(_table, names)
        pairs = _renamed_tables(upgrade_ops, metadatas, before, after)
        for old, new in pairs:
            tables[old.in_database(schemas)] = new.in_database(schemas)
            renamed = _table_rename(upgrade_ops, old, new)
            operations.append(renamed.operation(schemas))
        for sequence, target in _sequences(metadatas, before, after, schemas):
            operations.append(_renamed_sequence(sequence, target, schemas))
            sequences.add(target)
    for before_name, after_name in _pairs(arguments, "rename_column"):
        table, _, column = before_name.rpartition(".")
        operations += _rename_column(
            upgrade_ops, metadatas, _table(table), column, after_name, schemas
        )
    return Renames(operations, tables, sequences)


def _sequences(
    metadatas: list[MetaData], before: TableName, after: TableName, schemas: SchemaNames
) -> Iterator[tuple[Qualified, Qualified]]:
    """Yield the names before and after of a renamed context table's sequence."""
    for metadata in metadatas:
        history = history_of(metadata)
        if history is None:
            continue
        context_table = history.shared.context_table
        if TableName(context_table.schema, context_table.name) == after:
            name = generated_name(
                metadata, "history_sequence", context_table_name=before.name
            )
            source = Qualified(schemas(before.schema), name)
            target = history.shared.pg_sequence().name.in_database(schemas)
            if source != target:
                yield source, target


def _renamed_sequence(
    source: Qualified, target: Qualified, schemas: SchemaNames
) -> HistoryOp:
    def statements(old: Qualified, new: Qualified) -> list[str]:
        mark = SetComment(PGSequence(new))
        moves = (*_moves("SEQUENCE", old, new), mark)
        return [statement.render(schemas) for statement in moves]

    names = [name.dotted for name in (source, target)]
    return HistoryOp(
        f"rename sequence {names[0]} to {names[1]}",
        statements(source, target),
        (f"rename sequence {names[1]} to {names[0]}", statements(target, source)),
    )


_HOW = {"rename_table": "old:new", "rename_column": "table.old:new"}


def _pairs(arguments: Mapping[str, list[str]], name: str) -> Iterable[tuple[str, str]]:
    for value in arguments.get(name, ()):
        before, colon, after = value.partition(":")
        qualifies = "." in before.strip(".") or name == "rename_table"
        if not (before and colon and after and qualifies):
            raise CommandError(f"-x {name}={value}: write -x {name}={_HOW[name]}")
        yield before, after


def _table(name: str) -> TableName:
    schema, _, table = name.rpartition(".")
    return TableName(schema or None, table)


def _rename_column(
    upgrade_ops: ops.UpgradeOps,
    metadatas: list[MetaData],
    table: TableName,
    before: str,
    after: str,
    schemas: SchemaNames,
) -> list[HistoryOp]:
    renames = []
    for name in (table, *_event_tables(metadatas, table)):
        taken = _take(
            upgrade_ops,
            name,
            lambda op: (
                (isinstance(op, ops.DropColumnOp) and op.column_name == before)
                or (isinstance(op, ops.AddColumnOp) and op.column.name == after)
            ),
        )
        if taken != 2 and name == table:
            raise CommandError(
                f"-x rename_column={table}.{before}:{after}: the models do not drop "
                f"{before!r} and add {after!r} in {table}; rename it in the model, or "
                "correct the names"
            )
        if taken == 2:
            renames.append(_renamed_column(name, before, after, schemas))
    return renames


def _renamed_column(
    table: TableName, before: str, after: str, schemas: SchemaNames
) -> HistoryOp:
    def statement(old: str, new: str) -> list[str]:
        relation = table.in_database(schemas)
        parts = (
            Raw("ALTER TABLE "),
            relation,
            Raw(" RENAME COLUMN "),
            Ident(old),
            Raw(" TO "),
            Ident(new),
        )
        return [Joined(parts).render(schemas)]

    return HistoryOp(
        f"rename column {table}.{before} to {after}",
        statement(before, after),
        (f"rename column {table}.{after} to {before}", statement(after, before)),
    )


def _renamed_tables(
    upgrade_ops: ops.UpgradeOps,
    metadatas: list[MetaData],
    before: TableName,
    after: TableName,
) -> list[tuple[TableName, TableName]]:
    """Return the names before and after, of the table and of its event tables."""
    if not _is_replaced(upgrade_ops, before, after):
        raise CommandError(
            f"-x rename_table={before}:{after}: the models do not drop {before} and "
            f"create {after}; rename it in the models, or correct the names"
        )
    pairs = [(before, after)]
    for metadata in metadatas:
        for events in _event_tables([metadata], after):
            # It is named after the table, or by the model.
            name = generated_name(
                metadata, "history_event_table", table_name=before.name
            )
            schema = before.schema if events.schema == after.schema else events.schema
            for old_name in (name, events.name):
                old = TableName(schema, old_name)
                if _is_replaced(upgrade_ops, old, events):
                    pairs.append((old, events))
                    break
    return pairs


def _is_replaced(
    upgrade_ops: ops.UpgradeOps, before: TableName, after: TableName
) -> bool:
    return any(
        isinstance(op, ops.DropTableOp) and _name_of(op) == before
        for op in upgrade_ops.ops
    ) and any(
        isinstance(op, ops.CreateTableOp) and _name_of(op) == after
        for op in upgrade_ops.ops
    )


def _table_rename(
    upgrade_ops: ops.UpgradeOps, before: TableName, after: TableName
) -> TableRename:
    """Return the rename that replaces DROP TABLE and CREATE TABLE, and remove these."""
    dropped = next(
        op.to_table()
        for op in upgrade_ops.ops
        if isinstance(op, ops.DropTableOp) and _name_of(op) == before
    )
    created = next(
        op.to_table()
        for op in upgrade_ops.ops
        if isinstance(op, ops.CreateTableOp) and _name_of(op) == after
    )
    added = [c.name for c in created.columns if c.name not in dropped.columns]
    if added:
        raise CommandError(
            f"-x rename_table={before}:{after}: {after} has columns that {before} has "
            f"not: {', '.join(added)}; rename the table first, and add them in a "
            "revision of their own"
        )
    indexes = _index_renames(upgrade_ops, before, after)
    upgrade_ops.ops[:] = [
        op for op in upgrade_ops.ops if _name_of(op) not in (before, after)
    ]
    return TableRename(
        before,
        after,
        tuple(indexes),
        (dropped.comment, created.comment),
        "postgresql_partition_by" in created.kwargs,
    )


def _moves(kind: str, source: Qualified, target: Qualified) -> list[Fragment]:
    """Return the statements that give a table, index or sequence another name."""
    assert target.schema is not None
    result: list[Fragment] = []
    alter = Raw(f"ALTER {kind} ")
    if source.schema != target.schema:
        result.append(alter + source + Raw(" SET SCHEMA ") + Ident(target.schema))
    if source.name != target.name:
        moved = Qualified(target.schema, source.name)
        result.append(alter + moved + Raw(" RENAME TO ") + Ident(target.name))
    return result


def _index_renames(
    upgrade_ops: ops.UpgradeOps, before: TableName, after: TableName
) -> list[tuple[str, str]]:
    """Return the names of indexes that are on the same columns before and after.

    The text of an expression is not the same in a database and in the models. Indexes
    on expressions are taken for the same if there is only one on each side.
    """
    dropped: dict[tuple[str | None, ...], list[str]] = {}
    created: dict[tuple[str | None, ...], list[str]] = {}
    for modify in upgrade_ops.ops:
        if isinstance(modify, ops.ModifyTableOps):
            for op in modify.ops:
                if isinstance(op, ops.DropIndexOp) and _name_of(modify) == before:
                    names = dropped.setdefault(_columns(op.to_index()), [])
                    names.append(str(op.index_name))
                if isinstance(op, ops.CreateIndexOp) and _name_of(modify) == after:
                    names = created.setdefault(_columns(op.to_index()), [])
                    names.append(str(op.index_name))
    return [
        (old[0], new[0])
        for columns, old in dropped.items()
        if len(old) == len(new := created.get(columns, [])) == 1 and old != new
    ]


def _columns(index: Index) -> tuple[str | None, ...]:
    """Return the names of the columns; an expression has None in its place."""
    return tuple(c.name if isinstance(c, Column) else None for c in index.expressions)


def _take(
    upgrade_ops: ops.UpgradeOps, table: TableName, wanted: Callable[[Any], bool]
) -> int:
    """Remove operations on a table's columns, and return how many there were."""
    taken = 0
    for modify in list(upgrade_ops.ops):
        if isinstance(modify, ops.ModifyTableOps) and _name_of(modify) == table:
            kept = [op for op in modify.ops if not wanted(op)]
            taken += len(modify.ops) - len(kept)
            modify.ops[:] = kept
            if not kept:
                upgrade_ops.ops.remove(modify)
    return taken


def _event_tables(metadatas: list[MetaData], table: TableName) -> list[TableName]:
    return [
        TableName(tracking.event_table.schema, tracking.event_table.name)
        for metadata in metadatas
        for tracked in metadata.tables.values()
        if TableName(tracked.schema, tracked.name) == table
        for tracking in trackings_of_table(tracked)
    ]


def _name_of(operation: Any) -> TableName | None:
    name = getattr(operation, "table_name", None)
    return TableName(operation.schema, name) if name else None
