"""What is particular to a type of column: its literals, its equality, its values."""

from __future__ import annotations

import datetime
import enum
from typing import Any

import pytest
from sqlalchemy import Column, MetaData, Table, or_, types
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.elements import quoted_name

from sa_history.sql.column_types import (
    cast_of_literal,
    equality,
    equality_is_identity,
    literal_sql,
    wrong_value,
)
from sa_history.sql.comparison import any_differs, stored_differs
from sa_history.sql.expressions import expression_sql


class State(enum.Enum):
    OPEN = "open"


class Upper(types.TypeDecorator[str]):
    impl = types.String
    cache_ok = True


@pytest.mark.parametrize(
    ("type_", "operator", "is_identity"),
    [
        (types.Integer(), "OPERATOR(pg_catalog.=)", True),
        (types.String(), "OPERATOR(pg_catalog.=)", True),
        (types.String(collation="und"), "OPERATOR(pg_catalog.=)", False),
        (types.Enum(State), "OPERATOR(pg_catalog.=)", True),
        (types.DateTime(), "OPERATOR(pg_catalog.=)", True),
        (types.Time(), "OPERATOR(pg_catalog.=)", False),
        (types.Numeric(), "OPERATOR(pg_catalog.=)", False),
        (types.Float(), "OPERATOR(pg_catalog.=)", False),
        (types.Double(), "OPERATOR(pg_catalog.=)", False),
        (types.Interval(), "OPERATOR(pg_catalog.=)", False),
        (Upper(), "OPERATOR(pg_catalog.=)", True),
        (postgresql.CITEXT(), "=", False),
        (postgresql.JSONB(), "=", False),
        (postgresql.ARRAY(types.Integer), "=", False),
        (postgresql.DOMAIN("short", types.String()), "=", False),
    ],
)
def test_values_are_equal_by_an_operator_that_tells_more_or_less(
    type_: types.TypeEngine[Any], operator: str, is_identity: bool
) -> None:
    assert equality(type_) == operator
    assert equality_is_identity(type_) == is_identity


@pytest.mark.parametrize(
    ("type_", "value", "literal"),
    [
        (types.String(), "a\\b", " E'a\\\\b'"),
        (postgresql.CITEXT(), "it's", "'it''s'"),
        (types.LargeBinary(), b"\x00'", " E'\\\\x0027'::bytea"),
        (types.Integer(), 5, None),
        (Upper(), "a", None),
    ],
)
def test_a_literal_is_written_here_or_by_the_type(
    type_: types.TypeEngine[Any], value: Any, literal: str | None
) -> None:
    assert literal_sql(type_, value) == literal


def test_a_literal_that_would_be_a_text_is_cast_to_its_type() -> None:
    assert isinstance(cast_of_literal(types.Uuid()), types.Uuid)
    assert isinstance(cast_of_literal(types.Time()), types.Time)
    assert cast_of_literal(types.String()) is None
    assert cast_of_literal(types.Integer()) is None


@pytest.mark.parametrize(
    ("type_", "value", "reason"),
    [
        (types.Integer(), 5, None),
        (types.Integer(), True, "its values are of type int"),
        (types.Date(), "today", "its values are of type date"),
        (types.Date(), datetime.date(2024, 5, 1), None),
        (types.String(3), "four", "it has 3 characters at most"),
        (types.Enum(State), "OPEN", None),
        (types.Enum(State), State.OPEN, None),
        (types.Enum(State), "open", "it has <State.OPEN: 'open'>"),
        (types.Enum("a", "b"), "c", "it has 'a', 'b'"),
        (postgresql.JSONB(), [1], None),
        (postgresql.INET(), object(), None),
        (
            postgresql.DOMAIN("short", types.String(3)),
            "four",
            "it has 3 characters at most",
        ),
    ],
)
def test_a_value_that_a_column_cannot_hold_is_told_with_the_reason(
    type_: types.TypeEngine[Any], value: Any, reason: str | None
) -> None:
    assert wrong_value(type_, value) == reason


@pytest.mark.parametrize(
    "stored",
    [
        [types.Integer()],
        [types.Numeric()],
        [types.Integer(), Upper(), types.String(collation="und")],
        [types.JSON(), types.Interval(), postgresql.ARRAY(types.Integer)],
        [postgresql.CITEXT(), types.Enum(State), postgresql.DOMAIN("d", types.Text())],
    ],
    ids=lambda stored: "_".join(type(each).__name__ for each in stored),
)
def test_a_change_of_columns_is_written_as_sqlalchemy_compiles_it(
    stored: list[types.TypeEngine[Any]],
) -> None:
    names = ["plain", 'an "odd" %(name)s:', "select"]
    columns = [Column(*each) for each in zip(names, stored, strict=False)]
    table = Table("thing", MetaData(), *columns)
    old, new = (table.alias(quoted_name(row, quote=False)) for row in ("OLD", "NEW"))
    compared = [stored_differs(old.c[c.name], new.c[c.name]) for c in columns]
    assert any_differs(columns) == expression_sql(or_(*compared))


def test_a_type_with_a_variant_has_the_rules_of_the_variant() -> None:
    variant = types.Text().with_variant(postgresql.CITEXT(), "postgresql")
    assert equality_is_identity(types.Text())
    assert not equality_is_identity(variant)
    of_other = types.Text().with_variant(types.JSON(), "sqlite")
    assert equality_is_identity(of_other)
