"""The compiler of sessions that read the past."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BinaryExpression,
    BindParameter,
    BooleanClauseList,
    Column,
    Select,
    Table,
)
from sqlalchemy.dialects.postgresql.base import PGDDLCompiler
from sqlalchemy.sql.operators import and_, eq

from sa_history.capture.context_table import is_context_table
from sa_history.capture.event_table import is_event_table
from sa_history.exc import PastError
from sa_history.query.as_of_rows import PointInTime, rows_as_of
from sa_history.query.event_json import NamedTable
from sa_history.query.past_erasures import MarkingCompiler, MarkReader
from sa_history.tracking.completeness import complete_tracking, missing_operations
from sa_history.tracking.registry import Tracking, trackings_of_table

# SQLAlchemy's compiler has no types; what it is given is passed on as it is.
# mypy: disable-error-code="override, no-untyped-call"


class AsOfCompiler(MarkingCompiler):
    """Renders each tracked table as a subquery of its rows as of a point in time."""

    point: PointInTime
    allowed: frozenset[Table]
    keys_stayed: frozenset[Tracking]
    has_order_of_json = True
    """Whether what runs the statements orders JSON, as PostgreSQL does."""

    @functools.cached_property
    def partitioned(self) -> list[Tracking]:
        """The trackings whose rows are read, if their event tables have partitions."""
        return []

    @functools.cached_property
    def _by_key(self) -> list[set[str]]:
        """The tables of which each SELECT that is being rendered reads one row."""
        return []

    def visit_select(self, select_stmt: Any, *args: Any, **kw: Any) -> str:
        """Render a SELECT, and keep in mind of which tables it reads one row."""
        self._by_key.append(_read_by_key(select_stmt))
        try:
            written: str = super().visit_select(select_stmt, *args, **kw)
            return written
        finally:
            self._by_key.pop()

    def visit_table(self, table: Any, asfrom: bool = False, **kw: Any) -> str:
        """Render a table, or the subquery of its rows."""
        if isinstance(table, NamedTable):
            events: str = super().visit_table(table, asfrom=asfrom, **kw)
            return events
        if not isinstance(table, Table):
            raise PastError(
                f"{table.name!r} is not a Table of a MetaData, so its past is not "
                "known; give the class or table that is tracked"
            )
        tracking = self.tracking_of(table)
        if tracking is None or not asfrom:
            written: str = super().visit_table(table, asfrom=asfrom, **kw)
            return written
        if tracking.options.partition_by is not None:
            self.partitioned.append(tracking)
        if kw.get("from_linter"):
            kw["from_linter"].froms[table] = table.fullname
        alias = kw.get("enclosing_alias")
        if alias is not None and alias.element is table:
            return f"({self.render_rows(tracking, **kw)})"
        # A table is always in a SELECT here, as DML is refused.
        is_by_key = table.key in self._by_key[-1]
        rows = f"({self.render_rows(tracking, is_by_key=is_by_key, **kw)})"
        return f"{rows} AS {self.preparer.quote(_name_of(table))}"

    def render_rows(
        self, tracking: Tracking, *, is_by_key: bool = False, **kw: Any
    ) -> str:
        """Return the SELECT of a table's rows as of the point in time.

        :param is_by_key: True if the row with one key is read.
        """
        then = rows_as_of(
            tracking,
            self.point,
            keys_stayed=tracking in self.keys_stayed,
            is_by_key=is_by_key,
            has_order_of_json=self.has_order_of_json,
        )
        literal_binds = kw.get("literal_binds", False)
        rows: str = self.process(then, asfrom=True, literal_binds=literal_binds)
        return rows

    def visit_column(self, column: Any, *args: Any, **kw: Any) -> str:
        """Render a column; that of a subquery without the table's schema."""
        table = column.table
        if not kw.get("include_table", True) or self.tracking_of(table) is None:
            written: str = super().visit_column(column, *args, **kw)
            return written
        kw["include_table"] = False
        name = super().visit_column(column, *args, **kw)
        return f"{self.preparer.quote(_name_of(table))}.{name}"

    def tracking_of(self, table: Any) -> Tracking | None:
        """Return the tracking of a table, None to render the table itself.

        :raises PastError: the table is neither tracked in full nor in ``allow``.
        """
        if not isinstance(table, Table):
            return None
        # The ORM's tables are annotated copies.
        table = table.metadata.tables.get(table.key, table)
        if table in self.allowed or is_event_table(table) or is_context_table(table):
            return None
        tracking = complete_tracking(table)
        if tracking is None:
            raise PastError(_not_in_full(table))
        return tracking

    def visit_textclause(self, textclause: Any, **kw: Any) -> str:
        """Refuse a statement that is text: its tables are not known."""
        if not self.stack:
            raise _text_refused(textclause.text)
        written: str = super().visit_textclause(textclause, **kw)
        return written

    def visit_textual_select(self, taf: Any, *_: Any, **__: Any) -> str:
        """Refuse ``text(...).columns(...)``: its tables are not known."""
        raise _text_refused(taf.element.text)

    def for_update_clause(self, *_: Any, **__: Any) -> str:
        """Refuse to lock rows, which PostgreSQL counts as writing."""
        raise PastError("the past is not written: FOR UPDATE; leave the lock out")

    def visit_insert(self, *_: Any, **__: Any) -> str:
        """Refuse to write."""
        raise PastError("the past is not written: INSERT; use a session of its own")

    def visit_update(self, *_: Any, **__: Any) -> str:
        """Refuse to write."""
        raise PastError("the past is not written: UPDATE; use a session of its own")

    def visit_delete(self, *_: Any, **__: Any) -> str:
        """Refuse to write."""
        raise PastError("the past is not written: DELETE; use a session of its own")


def _read_by_key(statement: Select[Any]) -> set[str]:
    """Return the keys of the tables of which a SELECT reads the row with a given key.

    It is what ``Session.get`` and the loading of a parent render. That no other row is
    read is up to PostgreSQL; this only tells which SELECT of the rows suits it.
    """
    criteria: Sequence[Any] = [statement.whereclause]
    if isinstance(criteria[0], BooleanClauseList) and criteria[0].operator is and_:
        criteria = criteria[0].clauses
    given: dict[Table, set[str]] = {}
    for criterion in criteria:
        if (
            isinstance(criterion, BinaryExpression)
            and criterion.operator is eq
            and isinstance(criterion.left, Column)
            and isinstance(criterion.left.table, Table)
            and isinstance(criterion.right, BindParameter)
        ):
            column = criterion.left
            given.setdefault(column.table, set()).add(column.name)
    return {
        table.key
        for table, names in given.items()
        if table.primary_key and names.issuperset(c.name for c in table.primary_key)
    }


def _name_of(table: Table) -> str:
    """Return the alias of a table's rows, with the schema: two may have one name."""
    name: str = table.fullname
    return name


def _text_refused(statement: str) -> PastError:
    return PastError(f"text sees no past: {statement!r}; write it as a select(...)")


class NoText(MarkReader):
    """Refuses ``exec_driver_sql``, whose text is given to the driver as it is."""

    @classmethod
    def _init_statement(cls, *arguments: Any) -> Any:
        # The arguments are the dialect, two connections, the options, the statement.
        raise _text_refused(arguments[4])


def _not_in_full(table: Table) -> str:
    trackings = trackings_of_table(table)
    if not trackings:
        missing = f"{table.name!r} is not tracked"
    else:
        unknown = [", ".join(missing_operations(tracking)) for tracking in trackings]
        missing = f"the events of {table.name!r} do not record {'; or '.join(unknown)}"
    return (
        f"{missing}, so its past is not known; track it with @track(), or give "
        "as_of(..., allow=[...]) to see it as it is now"
    )


class NoDDL(PGDDLCompiler):
    """Refuses to change the schema."""

    def process(self, obj: Any, **_: Any) -> str:
        """Refuse any DDL element."""
        raise PastError(f"the past is not written: {type(obj).__name__}")
