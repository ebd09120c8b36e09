"""``Audit``: one log for the changes of many tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    MetaData,
    Table,
    Text,
    Uuid,
    func,
    inspect,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from sa_history._types import Level, Operation
from sa_history.ddl.elements import PGFunction, PGTrigger, transition_tables
from sa_history.definition.binding import condition_sql, with_condition
from sa_history.definition.columns import chosen_names
from sa_history.definition.conditions import AnyChange
from sa_history.definition.mapped_tables import check_table
from sa_history.definition.operations import Delete, Insert, Operations, Update
from sa_history.definition.row_order import ROWS, operations_by_row
from sa_history.exc import DefinitionError
from sa_history.sql.compose import (
    Fragment,
    Ident,
    Joined,
    Literal,
    Qualified,
    Raw,
    SchemaNames,
    Setting,
    join,
    pairs_by_call,
    quote_literal,
)
from sa_history.sql.ignore_switch import switched
from sa_history.sql.naming import CONTEXT_ID, CONTEXT_METADATA
from sa_history.sql.output_settings import output_settings
from sa_history.triggers.base import TableTrigger, TriggerTarget
from sa_history.triggers.refusing import check_operations, with_truncate
from sa_history.triggers.transition_rows import (
    PAIRS,
    ROW_NUMBER,
    USE_COLUMN,
    holds_for_pair,
    refuse_hidden_rows,
    rows_of,
)
from sa_history.util.arguments import as_names, check_names

ALL = Insert | Update | Delete
REQUIRED = ("operation", "table_name", "key", "old_row", "new_row")
OPTIONAL = ("table_schema", "context_id", "context")


def audit_table(
    name: str, metadata: MetaData, *columns: Column[Any], schema: str | None = None
) -> Table:
    """Return a table that :class:`Audit` can write into.

    The table has the columns ``id``, ``created_at``, ``xact_id``, ``operation``,
    ``table_schema``, ``table_name``, ``key``, ``old_row``, ``new_row``,
    ``context_id`` and ``context``. A table of your own needs ``operation``,
    ``table_name``, ``key``, ``old_row`` and ``new_row``.

    :param name: the name of the table.
    :param metadata: the MetaData that the table is added to.
    :param columns: more columns, each nullable or with a server default.
    :param schema: the schema of the table; None for that of the MetaData.
    :return: the table.

    Example::

        class AuditLog(Base):
            __table__ = audit_table("audit_log", Base.metadata)
    """
    return Table(
        name,
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column(
            "created_at",
            DateTime(timezone=True),
            nullable=False,
            server_default=func.now(),
        ),
        Column(
            "xact_id",
            BigInteger,
            nullable=False,
            server_default=text("((pg_current_xact_id())::text)::bigint"),
        ),
        Column("context_id", Uuid),
        Column("operation", Text, nullable=False),
        Column("table_schema", Text, nullable=False),
        Column("table_name", Text, nullable=False),
        Column("key", JSONB, nullable=False),
        Column("old_row", JSONB),
        Column("new_row", JSONB),
        Column("context", JSONB),
        *columns,
        schema=schema,
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Audit(TableTrigger):
    """Writes each change of a row into a log that many tables share, as JSON.

    A row of the log has the operation, the table, the row's key, the row before and
    after, and the context. If an update changes the key, ``key`` is the new one. An
    update that changes nothing writes nothing; TRUNCATE counts as a deletion of each
    row. A generated column that is not stored is left out.

    :func:`track` stores typed columns instead, has the diffs and the queries, and takes
    less room.

    :param into: the log: a table such as :func:`audit_table` makes, or a class that is
        mapped to one.
    :param operation: the operations that are written: ``Insert``, ``Update``,
        ``Delete``, ``Truncate`` or several.
    :param columns: attribute names of the columns to store, beside those of the key.
        None stores the whole row, with columns that the model does not know; a change
        of these alone is not written.
    :param exclude: attribute names of columns not to store, instead of ``columns``;
        none of the key.
    :param name: the name of the trigger; if left out, ``"audit"``.
    :param condition: the rows to write, as an expression over ``old`` and ``new``, as
        far as each of the operations has them; None for all.
    :param level: ``"statement"`` writes all rows of a statement at once, ``"row"`` each
        by itself, as either does where :func:`track` records row by row.
    :param ignorable: whether ``history.ignore`` turns it off.
    :param search_path: schemas in which a condition finds operators.
    :raises DefinitionError: the log lacks a column, or has one that cannot be filled.

    Example::

        @attach(Audit(into=AuditLog, exclude=["password"]))
        class User(Base): ...
    """

    into: Any
    operation: Operations = ALL
    columns: Sequence[str] | None = None
    exclude: Sequence[str] | None = None
    level: Level | str = Level.STATEMENT
    search_path: Sequence[str] = ()
    log: Table = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the arguments, without knowing the model."""
        super().__post_init__()
        check_names("Audit", self.columns, self.exclude)
        if check_operations("Audit", self.operation).columns:
            raise DefinitionError(
                "Audit takes no UpdateOf; give Update, and a condition such as "
                'AnyChange("name")'
            )
        for argument in ("columns", "exclude", "search_path"):
            names = getattr(self, argument)
            if names is not None:
                object.__setattr__(
                    self, argument, as_names(f"Audit: {argument}", names)
                )
        object.__setattr__(self, "log", _log_table(self.into))

    @property
    def default_name(self) -> str:
        """The name if none is given."""
        return "audit"

    def statement_operations(self, table: Table) -> frozenset[Operation]:
        """Return the operations on rows that are written once for each statement.

        :param table: the table, with the foreign keys that it has now.
        """
        return ROWS.intersection(self.operation.members) - self._row_operations(table)

    def _row_operations(self, table: Table) -> frozenset[Operation]:
        return operations_by_row(table, self.level)

    def function_at(self, target: TriggerTarget) -> PGFunction:
        """Return the function, with a branch for each operation."""
        branches: list[Fragment] = []
        for operation in with_truncate(self.operation):
            keyword = "ELSIF" if branches else "IF"
            branches.append(
                Joined(
                    (
                        Raw(f"  {keyword} TG_OP = '{operation.value}' THEN\n"),
                        refuse_hidden_rows(operation, "    "),
                        self._insert(target, operation),
                    )
                )
            )
        body = Joined(
            (
                Raw(f"{USE_COLUMN}BEGIN\n"),
                *branches,
                Raw("  END IF;\n  RETURN NULL;\nEND\n"),
            )
        )
        stored = (target.columns.by_attribute[name] for name in self._stored(target))
        return PGFunction(
            target.function,
            body,
            search_path=tuple(self.search_path),
            settings=output_settings(column.type for column in stored),
        )

    def triggers_at(self, target: TriggerTarget) -> list[PGTrigger]:
        """Return a trigger for each operation."""
        table = target.columns.table
        if target.is_view or self.log is table:
            raise DefinitionError(
                f"{target.subject}: Audit needs a table, other than the log; attach it "
                "to a table, and have it write into another"
            )
        if self._pairs(target, Operation.UPDATE) and ROW_NUMBER in _names(table):
            raise DefinitionError(
                f"{target.subject}: the column {ROW_NUMBER!r} has a name that Audit "
                'needs for updates; give level="row"'
            )
        return [
            self._trigger(target, operation)
            for operation in with_truncate(self.operation)
        ]

    def _trigger(self, target: TriggerTarget, operation: Operation) -> PGTrigger:
        table = target.columns.table
        truncate = operation is Operation.TRUNCATE
        by_row = operation in self._row_operations(table)
        condition = self._where(target, operation) if by_row else None
        return PGTrigger(
            name=target.trigger_name(operation.value.lower()),
            table=target.relation,
            function=target.function,
            timing="BEFORE" if truncate else "AFTER",  # after it the rows are gone
            operations=(operation,),
            level=Level.ROW if by_row else Level.STATEMENT,
            referencing=None if by_row or truncate else transition_tables(operation),
            when=switched(Raw(condition) if condition else None, target.switch),
        )

    def _stored(self, target: TriggerTarget) -> tuple[str, ...]:
        known = target.columns.by_attribute
        owner = f"{target.subject}: Audit"
        chosen = chosen_names(owner, known, self.columns, self.exclude)
        if self.columns is None:
            for name in target.columns.key:
                if name not in chosen:
                    raise DefinitionError(
                        f"{owner} leaves out {name!r}, which is of the primary key; "
                        "the log has the key of each row"
                    )
        return tuple(n for n in known if n in chosen or n in target.columns.key)

    def _where(self, target: TriggerTarget, operation: Operation) -> str | None:
        condition = self._condition_sql(target, operation, before=False)
        if operation is not Operation.UPDATE:
            return condition
        scope = self._scope(target, operation, before=False)
        changed = condition_sql(AnyChange(*self._stored(target)), scope)
        return with_condition(condition, changed)

    def _insert(self, target: TriggerTarget, operation: Operation) -> Fragment:
        names = [target.columns.column_name(name) for name in target.columns.key]
        key = _object("NEW" if operation.has_new else "OLD", names)
        if self._pairs(target, operation):
            # See holds_for_pair: the log has no row without a key, so this fails.
            lone = f"NEW.{ROW_NUMBER} IS NULL OR OLD.{ROW_NUMBER} IS NULL"
            key = Raw(f"CASE WHEN {lone} THEN NULL ELSE ") + key + Raw(" END")
        values: dict[str, Fragment] = {
            # Not TG_OP and TG_TABLE_NAME: the table may have such columns, and at row
            # level the name would be that of a partition.
            "operation": Literal(operation.value),
            "table_schema": _SchemaName(target.columns.table.schema),
            "table_name": Literal(target.columns.table.name),
            "key": key,
            "old_row": self._row(target, operation, "OLD", operation.has_old),
            "new_row": self._row(target, operation, "NEW", operation.has_new),
            "context_id": Setting(CONTEXT_ID) + Raw("::uuid"),
            "context": Setting(CONTEXT_METADATA) + Raw("::jsonb"),
        }
        columns = [c for c in self.log.columns if c.name in (*REQUIRED, *OPTIONAL)]
        return Joined(
            (
                Raw("    INSERT INTO "),
                Qualified(self.log.schema, self.log.name),
                Raw(" ("),
                join(", ", (Ident(column.name) for column in columns)),
                Raw(")\n    SELECT "),
                join(", ", (values[column.name] for column in columns)),
                *self._source(target, operation),
                Raw(";\n"),
            )
        )

    def _pairs(self, target: TriggerTarget, operation: Operation) -> bool:
        """Return whether the old and the new rows of a statement have to be paired."""
        by_row = self._row_operations(target.columns.table)
        return operation is Operation.UPDATE and operation not in by_row

    def _row(
        self, target: TriggerTarget, operation: Operation, row: str, there: bool
    ) -> Fragment:
        if not there:
            return Raw("NULL::jsonb")
        stored = [target.columns.column_name(name) for name in self._stored(target)]
        if self.columns is not None:
            # Not the row without the others: the table may have columns that the model
            # does not know.
            return _object(row, stored)
        left_out = [n for n in _names(target.columns.table) if n not in stored]
        if self._pairs(target, operation):
            left_out.append(ROW_NUMBER)
        # The star: without it, this could be a column that is named "old" or "new".
        whole = Raw(f"to_jsonb({row}.*)")
        if not left_out:
            return whole
        return Joined(
            (whole, Raw(" - ARRAY["), join(", ", map(Literal, left_out)), Raw("]"))
        )

    def _source(self, target: TriggerTarget, operation: Operation) -> list[Fragment]:
        condition = self._where(target, operation)
        if operation in self._row_operations(target.columns.table):
            return []  # the condition is in the trigger's WHEN
        if operation is Operation.UPDATE:
            assert condition is not None
            return [Raw(f"\n    FROM {PAIRS}\n    WHERE {holds_for_pair(condition)}")]
        row = "new" if operation.has_new else "old"
        where = f"\n    WHERE {condition}" if condition else ""
        return [
            Raw("\n    FROM "),
            rows_of(operation, target.relation, row),
            Raw(where),
        ]


@dataclass(frozen=True)
class _SchemaName(Fragment):
    """The name of a schema, as a string literal."""

    schema: str | None

    def render(self, schemas: SchemaNames) -> str:
        return quote_literal(schemas(self.schema))


def _object(row: str, names: Sequence[str]) -> Fragment:
    """Return the columns of a row as a JSON object."""
    parts = pairs_by_call(names) or [()]
    return join(
        " || ",
        (
            Raw("jsonb_build_object(")
            + join(
                ", ",
                (Literal(n) + Raw(f"::text, {row}.") + Ident(n) for n in part),
            )
            + Raw(")")
            for part in parts
        ),
    )


def _names(table: Table) -> list[str]:
    return [column.name for column in table.columns]


def _log_table(into: Any) -> Table:
    table = into
    if isinstance(into, type):
        mapper: Any = inspect(into, raiseerr=False)
        table = getattr(mapper, "local_table", None)
    if not isinstance(table, Table):
        raise DefinitionError(
            f"Audit: into is a table or a mapped class, got {into!r}; make one with "
            'audit_table("audit_log", metadata)'
        )
    check_table(table)
    columns = {column.name: column for column in table.columns}
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise DefinitionError(
            f"Audit: {table.name!r} has no column {', '.join(missing)}; it needs "
            f"{', '.join(REQUIRED)}, as audit_table() makes them"
        )
    if columns["key"].nullable:
        raise DefinitionError(
            f"Audit: {table.name!r}.key is nullable; make it NOT NULL, so that nothing "
            "is logged without its key"
        )
    for name, column in columns.items():
        if name not in (*REQUIRED, *OPTIONAL) and not _fills_itself(column):
            raise DefinitionError(
                f"Audit: {table.name!r}.{name} is NOT NULL without a server default, "
                "and the trigger does not fill it; give it a server_default=..., or "
                "make it nullable"
            )
    return table


def _fills_itself(column: Column[Any]) -> bool:
    return (
        column.nullable
        or column.server_default is not None  # Identity and Computed are such, too
        or column is column.table.autoincrement_column
    )
