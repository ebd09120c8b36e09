"""What DuckDB is given for statements that are written for PostgreSQL.

It takes most of them as they are. What it means otherwise is written in another way, or
refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BinaryExpression,
    Column,
    Table,
    Tuple,
    and_,
    not_,
    null,
    or_,
    types,
)
from sqlalchemy.dialects.postgresql import CIDR, INET, INTERVAL
from sqlalchemy.dialects.postgresql.ranges import AbstractRange
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import CollectionAggregate, Grouping, UnaryExpression
from sqlalchemy.sql.functions import FunctionElement

from sa_history.exc import ArchiveError, PastError
from sa_history.query.as_of_compiler import AsOfCompiler
from sa_history.query.as_of_rows import PointInTime
from sa_history.sql.column_types import postgresql_type
from sa_history.sql.compose import quote_literal
from sa_history.tracking.registry import Tracking

# SQLAlchemy's compiler has no types; what it is given is passed on as it is.
# mypy: disable-error-code="override, no-untyped-call"


@dataclass(frozen=True)
class Past:
    """A point in time, and the rows of then.

    :param point: the event column that decides which events are seen.
    :param value: the point in time, as text.
    :param rows_of: returns the SELECT of the rows of a tracked table.
    """

    point: PointInTime
    value: str
    rows_of: Callable[[Tracking], str]


class ArchiveCompiler(AsOfCompiler):
    """Renders statements for DuckDB, and tracked tables as their rows of then."""

    allowed = frozenset()
    keys_stayed = frozenset()
    has_order_of_json = False
    past: Past | None = None
    """What a session of the past reads; None if it reads events."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        # Before the statement is compiled, which is done there.
        self.read: list[Table] = []
        self.trackings: list[Tracking] = []
        super().__init__(*arguments, **options)

    def visit_table(self, table: Any, asfrom: bool = False, **kw: Any) -> str:
        """Render a table, and keep in mind that it is read."""
        if asfrom and isinstance(table, Table):
            table_ = table.metadata.tables.get(table.key, table)
            tracking = self.tracking_of(table)
            self.read.append(table_ if tracking is None else tracking.event_table)
        return super().visit_table(table, asfrom=asfrom, **kw)

    def render_rows(self, tracking: Tracking, **kw: Any) -> str:
        """Return the SELECT of a table's rows as of the point in time."""
        if self.past is None:
            raise PastError(
                f"an archive has the events of {tracking.table.name!r} and not its "
                "rows, which change; read them as of a time: archive.as_of(...)"
            )
        self.trackings.append(tracking)
        self.point = self.past.point
        if tracking.table.primary_key.deferrable:
            # What the database is asked, of which there is no view.
            return super().render_rows(tracking, **kw)
        return self.past.rows_of(tracking)

    def visit_current_setting_func(self, function: Any, **_: Any) -> str:
        """Render the point in time, which is a setting in PostgreSQL."""
        assert self.past is not None
        return quote_literal(self.past.value)

    def render_bind_cast(self, type_: Any, dbapi_type: Any, sqltext: str) -> str:
        """Leave out the cast: DuckDB knows the types of parameters."""
        return sqltext

    def visit_cast(self, cast: Any, **kw: Any) -> str:
        """Render a cast to text as PostgreSQL writes what DuckDB writes otherwise."""
        if isinstance(cast.type, types.String) and isinstance(cast.clause, Column):
            value = self.process(cast.clause, **kw)
            type_ = postgresql_type(cast.clause.type)
            if isinstance(type_, types.LargeBinary):
                return rf"('\x' || lower(hex({value})))"
            if isinstance(type_, INET):
                bits = f"CASE WHEN contains({value}, ':') THEN '/128' ELSE '/32' END"
                has_bits = f"contains({value}, '/')"
                return f"CASE WHEN {has_bits} THEN {value} ELSE {value} || {bits} END"
        written: str = super().visit_cast(cast, **kw)
        length = getattr(cast.type, "length", None)
        if not isinstance(cast.type, types.String) or length is None:
            return written
        # DuckDB takes no notice of it.
        cut = f"left({written}, {length:d})"
        is_char = isinstance(cast.type, types.CHAR)
        return f"rpad({cut}, {length:d}, ' ')" if is_char else cut

    def visit_binary(self, binary: Any, *arguments: Any, **kw: Any) -> str:
        """Refuse to compare or reckon with what DuckDB has as text of other order."""
        row = _row_of(binary.left)
        if row is not None or _row_of(binary.right) is not None:
            members = _by_members(binary, row)
            if members is not None:
                return f"({self.process(members, **kw)})"
            _require_numbers(*(row or ()))
        if binary.operator in _OF_ORDER:
            _require_order(binary.left, binary.right)
        elif binary.operator not in _OF_TEXT:
            _require_numbers(binary.left, binary.right)
        written: str = super().visit_binary(binary, *arguments, **kw)
        array = _array_of(binary.right)
        if array is None:
            return written
        # DuckDB finds nothing in NULL, where PostgreSQL does not know.
        return f"CASE WHEN {self.process(array, **kw)} IS NOT NULL THEN {written} END"

    def visit_function(self, func: Any, *arguments: Any, **kw: Any) -> str:
        """Refuse what would be another one in DuckDB."""
        name = func.name.lower()
        if name in ("max", "min", "greatest", "least"):
            _require_order(*func.clauses)
        if name in _OTHER_FUNCTIONS:
            raise ArchiveError(
                f"DuckDB, which reads the archive, means something else by {name!r}; "
                "select the values, and do it in Python"
            )
        written: str = super().visit_function(func, *arguments, **kw)
        return written

    def order_by_clause(self, select: Any, **kw: Any) -> str:
        """Refuse to sort by what DuckDB has as text of another order."""
        _require_order(*select._order_by_clauses)
        written: str = super().order_by_clause(select, **kw)
        return written

    def visit_over(self, over: Any, **kw: Any) -> str:
        """Refuse to sort by what DuckDB has as text of another order."""
        _require_order(*(over.order_by if over.order_by is not None else ()))
        written: str = super().visit_over(over, **kw)
        return written

    def visit_extract(self, extract: Any, **kw: Any) -> str:
        """Render a part of a time; of seconds, DuckDB gives whole ones."""
        parts = {"second": 1_000_000, "seconds": 1_000_000}
        parts |= {"millisecond": 1000, "milliseconds": 1000}
        part = parts.get(extract.field.lower())
        if part is None:
            written: str = super().visit_extract(extract, **kw)
            return written
        micros = f"EXTRACT(microsecond FROM {self.process(extract.expr, **kw)})"
        return f"(CAST({micros} AS DECIMAL(18, 6)) / {part})"

    def visit_round_func(self, function: Any, **kw: Any) -> str:
        """Render a rounded number; PostgreSQL rounds a half of a float to even."""
        values = [self.process(value, **kw) for value in function.clauses]
        first = next(iter(function.clauses))
        if len(values) == 1 and isinstance(postgresql_type(first.type), types.Float):
            return f"round_even({values[0]}, 0)"
        return f"round({', '.join(values)})"

    def visit_substring_func(self, function: Any, **kw: Any) -> str:
        """Render a part of a text; for DuckDB, numbers below 1 count from its end."""
        text_, start, *length = (self.process(v, **kw) for v in function.clauses)
        end = [f"greatest(({start}) + ({n}) - greatest({start}, 1), 0)" for n in length]
        return f"substring({', '.join([text_, f'greatest({start}, 1)', *end])})"

    visit_substr_func = visit_substring_func

    def visit_date_trunc_func(self, function: Any, **kw: Any) -> str:
        """Render the beginning of a period; that of a date has a time zone."""
        part, time, *zone = (self.process(value, **kw) for value in function.clauses)
        if isinstance(postgresql_type([*function.clauses][1].type), types.Date):
            time = f"CAST({time} AS TIMESTAMPTZ)"
        return f"date_trunc({', '.join([part, time, *zone])})"

    def visit_date_part_func(self, function: Any, **kw: Any) -> str:
        """Render a part of a time; of seconds, DuckDB gives whole ones."""
        part, time = (self.process(value, **kw) for value in function.clauses)
        micros = f"CAST(date_part('microsecond', {time}) AS DOUBLE)"
        return (
            f"CASE WHEN {part} IN ('second', 'seconds') THEN {micros} / 1000000"
            f" WHEN {part} IN ('millisecond', 'milliseconds') THEN {micros} / 1000"
            f" ELSE date_part({part}, {time}) END"
        )

    def visit_concat_func(self, function: Any, **kw: Any) -> str:
        """Render texts after one another; PostgreSQL writes t and f for booleans."""
        values = [self.process(value, **kw) for value in function.clauses]
        texts = [
            f"CASE {value} WHEN true THEN 't' WHEN false THEN 'f' END"
            if isinstance(postgresql_type(clause.type), types.Boolean)
            else value
            for clause, value in zip(function.clauses, values, strict=True)
        ]
        return f"{function.name}({', '.join(texts)})"

    visit_concat_ws_func = visit_concat_func

    def visit_getitem_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        """Render an item of an array, which files have as PostgreSQL writes it."""
        index = binary.right
        if not isinstance(postgresql_type(index.type), types.Integer):
            raise ArchiveError(
                "DuckDB, which reads the archive, has arrays as text, and no parts of "
                "them; select the array, and take its part in Python"
            )
        return f"({self._items(binary.left, **kw)})[{self.process(index, **kw)}]"

    def visit_any_op_unary_operator(
        self, element: Any, operator: Any, **kw: Any
    ) -> str:
        """Render ANY of an array."""
        return f"ANY ({self._items(element.element, **kw)})"

    def visit_ilike_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        """Render ILIKE with the character that PostgreSQL takes to escape others."""
        written: str = super().visit_ilike_op_binary(binary, operator, **kw)
        is_given = binary.modifiers.get("escape") is not None
        return written if is_given else rf"{written} ESCAPE '\'"

    def visit_like_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        """Render LIKE with the character that PostgreSQL takes to escape others."""
        written: str = super().visit_like_op_binary(binary, operator, **kw)
        is_given = binary.modifiers.get("escape") is not None
        return written if is_given else rf"{written} ESCAPE '\'"

    def visit_row_func(self, function: Any, **kw: Any) -> str:
        """Render a row of one column as this column, which is compared as text."""
        written = str(self.process(function.clauses, **kw))
        return written if len(function.clauses) == 1 else f"row({written})"

    def visit_jsonb_build_array_func(self, function: Any, **kw: Any) -> str:
        """Render a list of JSON with the blanks that PostgreSQL writes."""
        values = [self.process(value, **kw) for value in function.clauses]
        parts = ", ".join(f"CAST(to_json({value}) AS VARCHAR)" for value in values)
        return f"('[' || concat_ws(', ', {parts}) || ']')"

    def visit_to_jsonb_func(self, function: Any, **kw: Any) -> str:
        """Render a value as JSON."""
        return f"to_json({self.process(function.clauses, **kw)})"

    def visit_any_func(self, function: Any, **kw: Any) -> str:
        """Render ANY of an array."""
        (array,) = function.clauses
        return f"ANY ({self._items(array, **kw)})"

    def _items(self, element: Any, **kw: Any) -> str:
        """Return the items of an array, which files have as PostgreSQL writes it.

        https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
        """
        array = self.process(element, **kw)
        item_type = getattr(postgresql_type(element.type), "item_type", types.Text())
        items = f"""regexp_extract_all({array}, '"([^"\\\\]|\\\\.)*"|[^,{{}}"]+')"""
        quoted = r"regexp_replace(item[2:-2], '\\(.)', '\1', 'g')"
        item = (
            f"CASE WHEN item[1] = '\"' THEN {quoted} "
            "WHEN upper(item) <> 'NULL' THEN item END"
        )
        type_ = self.dialect.type_compiler_instance.process(item_type)
        return f"CAST(list_transform({items}, lambda item: {item}) AS {type_}[])"

    def visit_record_image_ne_func(self, function: Any, **kw: Any) -> str:
        """Render whether two rows differ."""
        left, right = (self.process(e, **kw) for e in function.clauses)
        return f"({left} IS DISTINCT FROM {right})"

    def visit_custom_op_binary(self, element: Any, operator: Any, **kw: Any) -> str:
        """Render the operators that DuckDB has under other names."""
        left, right = (self.process(e, **kw) for e in (element.left, element.right))
        if operator.opstring.upper() in ("SIMILAR TO", "NOT SIMILAR TO"):
            raise ArchiveError(
                "DuckDB, which reads the archive, means something else by SIMILAR TO; "
                "write it as LIKE, or as a regular expression: regexp_match(...)"
            )
        if operator.opstring == "@>":
            return f"json_contains({left}, {right})"
        written: str = super().visit_custom_op_binary(element, operator, **kw)
        return written


_OF_TEXT = (
    operators.is_,
    operators.is_not,
    operators.is_distinct_from,
    operators.is_not_distinct_from,
)
"""The operators that are right for numbers that are text."""


_OF_ORDER = (
    *(operators.lt, operators.le, operators.gt, operators.ge),
    *(operators.between_op, operators.not_between_op),
)

_OTHER_FUNCTIONS = ("format", "row_to_json", "sha256")
"""Functions of PostgreSQL that are others in DuckDB, or give other text."""

_OTHER_ORDER = (
    types.Enum,
    types.JSON,
    types.ARRAY,
    types.Interval,
    INTERVAL,
    INET,
    CIDR,
    AbstractRange,
)
"""The types whose values are text in an archive, of another order than they have."""


def _row_of(element: Any) -> list[Any] | None:
    """Return the members of a row, as ``tuple_`` makes it; None for anything else."""
    while isinstance(element, Grouping):
        element = element.element
    if isinstance(element, Tuple):
        return [*element.clauses]
    is_row = isinstance(element, FunctionElement) and element.name.lower() == "row"
    return [*element.clauses] if is_row and len(element.clauses) > 1 else None


_STRICT = {
    operators.lt: operators.lt,
    operators.le: operators.lt,
    operators.gt: operators.gt,
    operators.ge: operators.gt,
}
"""The operators that sort rows, each with the one for all members but the last."""


def _by_members(binary: Any, row: list[Any] | None) -> Any:
    """Return a comparison of a row as one of its members.

    To DuckDB a NULL in a row is a value like others, and PostgreSQL does not know.
    https://www.postgresql.org/docs/current/functions-comparisons.html

    :param row: the members of the left side; None if it is no row.
    :return: None if DuckDB means the same by it.
    :raises ArchiveError: the other side is no row whose members are known.
    """
    operator, right = binary.operator, binary.right
    if row is not None:
        if operator in (operators.is_, operators.is_not):
            return and_(*(_compared(operator, one, null()) for one in row))
        if operator in (operators.in_op, operators.not_in_op):
            if not isinstance(right, Grouping):
                return None  # a SELECT, or values, which it takes for one
            items: Any = right.element
            found = or_(
                *(_rows_compared(operators.eq, row, one) for one in items.clauses)
            )
            return found if operator is operators.in_op else not_(found)
        if operator in (operators.between_op, operators.not_between_op):
            low, high = right.clauses
            found = _between(row, low, high)
            if binary.modifiers.get("symmetric"):
                found = or_(found, _between(row, high, low))
            return found if operator is operators.between_op else not_(found)
    if operator in (operators.eq, operators.ne, *_STRICT):
        return _rows_compared(operator, row, right)
    return None


def _between(row: list[Any], low: Any, high: Any) -> Any:
    return and_(
        _rows_compared(operators.ge, row, low),
        _rows_compared(operators.le, row, high),
    )


def _rows_compared(operator: Any, row: list[Any] | None, other: Any) -> Any:
    """Return the comparison of a row with another, member by member.

    :raises ArchiveError: the other is no row with as many members.
    """
    members = _row_of(other)
    if row is None or members is None or len(row) != len(members):
        raise ArchiveError(
            "DuckDB, which reads the archive, means something else by the comparison "
            "of a row with what is none of as many values; compare tuple_(...) with "
            "tuple_(...), or write it as IN"
        )
    pairs = [*zip(row, members, strict=True)]
    if operator in (operators.eq, operators.ne):
        joined = and_ if operator is operators.eq else or_
        return joined(*(_compared(operator, *pair) for pair in pairs))
    *first, last = pairs
    found = _compared(operator, *last)
    for pair in reversed(first):
        equal = _compared(operators.eq, *pair)
        found = or_(_compared(_STRICT[operator], *pair), and_(equal, found))
    return found


def _compared(operator: Any, left: Any, right: Any) -> Any:
    # Not by the operators of Python, which make "IS NULL" of "= NULL".
    return BinaryExpression(
        left.self_group(against=operator),
        right.self_group(against=operator),
        operator,
        types.Boolean(),
    )


def _array_of(element: Any) -> Any:
    """Return the array of ANY, or None."""
    if isinstance(element, CollectionAggregate):
        array = element.element
    elif isinstance(element, FunctionElement) and element.name.lower() == "any":
        (array,) = element.clauses
    else:
        return None
    return array if isinstance(postgresql_type(array.type), types.ARRAY) else None


def _require_numbers(*elements: Any) -> None:
    for element in elements:
        if not isinstance(element, Column):
            continue
        type_ = postgresql_type(element.type)
        if is_numeric(type_) and getattr(type_, "precision", None) is None:
            raise ArchiveError(
                f"{element.table.name}.{element.name} is a numeric without a precision,"
                " which DuckDB has as text; cast it to compare it or to reckon with "
                "it: cast(..., Float)"
            )


def _require_order(*elements: Any) -> None:
    """Refuse what is text in an archive, and has another order than its text."""
    for element in elements:
        column = element
        while isinstance(column, (UnaryExpression, Grouping)):
            column = column.element
        _require_numbers(column)
        if not isinstance(column, Column):
            continue
        type_ = postgresql_type(column.type)
        if isinstance(type_, _OTHER_ORDER) and getattr(type_, "native_enum", True):
            raise ArchiveError(
                f"{column.table.name}.{column.name} is text for DuckDB, which reads "
                "the archive, and has another order than in PostgreSQL; cast it to be "
                "sorted and compared as text: cast(..., Text)"
            )


def is_numeric(type_: Any) -> bool:
    """Return whether PostgreSQL has the values of a type as ``numeric``."""
    plain = postgresql_type(type_)
    return isinstance(plain, types.Numeric) and not isinstance(plain, types.Float)
