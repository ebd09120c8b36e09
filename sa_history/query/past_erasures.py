"""The word for erased values in what a session of the past reads.

In the database such a value is NULL. A SELECT of a column that may have been erased
gets one column more, its mark, which says whether the value was. So does each subquery
in a FROM that it comes through. When rows are fetched, a value whose mark is true is
replaced by ``ERASED``, and the marks are taken out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnClause,
    ColumnElement,
    FromClause,
    Label,
    Select,
    Table,
    false,
    func,
)
from sqlalchemy.dialects.postgresql.base import PGCompiler
from sqlalchemy.engine.cursor import (
    BufferedRowCursorFetchStrategy,
    CursorFetchStrategy,
)
from sqlalchemy.sql.elements import _truncated_label
from sqlalchemy.sql.expression import AliasedReturnsRows
from sqlalchemy.types import TypeEngine

from sa_history.capture.seal_tables import ERASED_COLUMN
from sa_history.tracking.erased import ERASED, is_erased
from sa_history.tracking.registry import Tracking

# SQLAlchemy's compiler has no types; what it is given is passed on as it is.
# mypy: disable-error-code="override, no-untyped-call"

_MARK = "erased "
"""What the names of marks in subqueries begin with; the column's name follows."""


class MarkingCompiler(PGCompiler):
    """Renders a mark after each column whose values may have been erased."""

    tracking_of: Callable[[Table], Tracking | None]
    """Returns the tracking whose rows are rendered for a table, or None."""

    @functools.cached_property
    def are_marks(self) -> list[bool]:
        """Whether each column of the result is a mark of the one before it."""
        return []

    @functools.cached_property
    def _may_mark(self) -> list[bool]:
        """Whether each of the SELECT that are being rendered may have marks."""
        return []

    def visit_select(
        self,
        select_stmt: Any,
        asfrom: bool = False,
        compound_index: int | None = None,
        **kw: Any,
    ) -> str:
        """Render a SELECT, with marks unless its columns have to be as they are."""
        # Those of IN and UNION do, and a scalar one.
        self._may_mark.append(compound_index is None and (asfrom or not self.stack))
        try:
            written: str = super().visit_select(
                select_stmt, asfrom=asfrom, compound_index=compound_index, **kw
            )
            return written
        finally:
            self._may_mark.pop()

    def _label_select_column(
        self,
        select: Any,
        column: Any,
        populate_result_map: bool,
        asfrom: bool,
        column_clause_args: Any,
        **kw: Any,
    ) -> str:
        """Render a column of a SELECT, with its mark."""
        written: str = super()._label_select_column(
            select, column, populate_result_map, asfrom, column_clause_args, **kw
        )
        is_result = len(self._may_mark) == 1
        if is_result:
            self.are_marks.append(False)
        mark = self._mark_of(column) if self._may_mark[-1] else None
        if mark is None:
            return written
        if select._group_by_clauses:
            # Of a group that has NULL as well, it cannot be said.
            mark = func.bool_and(func.coalesce(mark, false()))
        if is_result:
            self.are_marks.append(True)
            entry = self._result_columns[-1]
            self._result_columns[-1] = entry._replace(type=ErasedOr(entry.type))
            return f"{written}, {self.process(mark)}"
        label = column.name if isinstance(column, Label) else kw["name"]
        known_as = self._mark_name(label or kw["fallback_label_name"])
        return f"{written}, {self.process(mark)} AS {self.preparer.quote(known_as)}"

    def _mark_of(self, column: Any) -> ColumnElement[bool] | None:
        """Return the mark of a column, None if it cannot have been erased."""
        if isinstance(column, Label):
            column = column.element
        if not isinstance(column, ColumnClause) or column.table is None:
            return None
        source: Any = column.table
        while isinstance(source, AliasedReturnsRows):
            source = source.element
        if isinstance(source, Table):
            tracking = self.tracking_of(source)
            if tracking is None or column.name not in _erasable_names(tracking):
                return None
            erased = _column_of(column.table, ERASED_COLUMN)
            return is_erased(column.name, erased)
        if isinstance(source, Select) and self._comes_with_mark(column):
            mark: ColumnElement[bool] = _column_of(
                column.table, self._mark_name(column.name)
            )
            return mark
        return None

    def _comes_with_mark(self, column: Any) -> bool:
        """Return whether a column of a subquery has a mark there."""
        return any(self._mark_of(inner) is not None for inner in column._proxies[:1])

    def _mark_name(self, name: Any) -> str:
        if isinstance(name, _truncated_label):
            name = self._truncated_identifier("colident", name)
        return f"{_MARK}{name}"


def _erasable_names(tracking: Tracking) -> set[str]:
    columns = tracking.tracked_columns
    return {columns.column_name(name) for name in tracking.options.erasable}


def _column_of(table: FromClause, name: str) -> Any:
    """Return a column of which the models know nothing."""
    column: ColumnClause[Any] = ColumnClause(name, Boolean())
    column.table = table
    return column


class ErasedOr(TypeEngine[Any]):
    """The type of a result that has ``ERASED``, or values of another type.

    :param type_: the other type.
    """

    def __init__(self, type_: TypeEngine[Any]) -> None:
        self.type_ = type_

    def result_processor(self, dialect: Any, coltype: object) -> Any:
        """Return what makes a value of what the driver returns."""
        own = self.type_.dialect_impl(dialect)
        return self.processor(own.result_processor(dialect, coltype))

    def processor(self, own: Callable[[Any], Any] | None) -> Any:
        """Return what makes a value of what the driver returns.

        :param own: what does so for the other type; None for as it is.
        """
        if own is None:
            return None
        return lambda value: value if value is ERASED else own(value)


class MarkReader:
    """Takes marks out of what is fetched: for the execution contexts of a dialect."""

    def post_exec(self) -> None:
        """Have rows fetched without marks, after a statement is executed."""
        super().post_exec()  # type: ignore[misc]
        context: Any = self
        are_marks = getattr(context.compiled, "are_marks", ())
        if any(are_marks):
            inner = context.cursor_fetch_strategy
            options = context.execution_options
            if context._is_server_side or options.get("stream_results", False):
                inner = BufferedRowCursorFetchStrategy(context.cursor, options)
            context.cursor_fetch_strategy = _MarkedRows(
                inner, are_marks, context.cursor.description
            )


class _MarkedRows(CursorFetchStrategy):
    """Fetches rows without their marks.

    :param inner: what fetches rows as they are.
    :param are_marks: whether each of their columns is a mark.
    :param description: what the driver says of their columns.
    """

    def __init__(
        self,
        inner: CursorFetchStrategy,
        are_marks: Sequence[bool],
        description: Sequence[Any],
    ) -> None:
        self._inner = inner
        values = [place for place, is_mark in enumerate(are_marks) if not is_mark]
        marks = [*are_marks[1:], False]
        self._places = [(place, marks[place]) for place in values]
        self.alternate_cursor_description = [description[place] for place in values]

    def _row(self, row: Any) -> Any:
        return tuple(
            ERASED if has_mark and row[place + 1] else row[place]
            for place, has_mark in self._places
        )

    def fetchone(self, *args: Any, **kw: Any) -> Any:
        """Return the next row, or None."""
        row = self._inner.fetchone(*args, **kw)
        return None if row is None else self._row(row)

    def fetchmany(self, *args: Any, **kw: Any) -> Any:
        """Return the next rows."""
        return [*map(self._row, self._inner.fetchmany(*args, **kw))]

    def fetchall(self, *args: Any, **kw: Any) -> Any:
        """Return all rows that are left."""
        return [*map(self._row, self._inner.fetchall(*args, **kw))]

    def yield_per(self, result: Any, dbapi_cursor: Any, num: int) -> None:
        """Fetch so many rows at once."""
        self._inner.yield_per(result, dbapi_cursor, num)
        # A strategy may have put another one in its own place.
        if result.cursor_strategy is not self:
            self._inner, result.cursor_strategy = result.cursor_strategy, self

    def soft_close(self, *args: Any) -> None:
        """Let go of the cursor."""
        self._inner.soft_close(*args)

    def hard_close(self, *args: Any) -> None:
        """Let go of the cursor and of what was fetched."""
        self._inner.hard_close(*args)
