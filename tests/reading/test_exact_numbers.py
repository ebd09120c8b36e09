"""Decimal numbers in lists of events have all their digits."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    Float,
    Integer,
    Numeric,
    TypeDecorator,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import DOMAIN, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import AggregateEvent, feed, track
from sa_history.sql.readable_json import dumps, loads

from .transactions import commit, settle


class Money(TypeDecorator[Any]):
    """A type of an application, on top of numeric."""

    impl = Numeric
    cache_ok = True


PRECISE = ("1234567890123456789.0123456789", "1234567890123456789.0123456788")
TYPES: dict[str, tuple[Any, str, str, list[Any]]] = {
    "numeric": (Numeric(30, 10), *PRECISE, [Decimal(p) for p in PRECISE]),
    "scale": (Numeric(10, 2), "11.9", "12", [Decimal("11.90"), Decimal("12.00")]),
    "whole": (Numeric(30, 0), "1", "2", [Decimal(1), Decimal(2)]),
    "decorated": (Money(10, 2), "1.1", "1.2", [Decimal("1.10"), Decimal("1.20")]),
    "domain": (
        DOMAIN("share", Numeric(5, 2)),
        "1",
        "2",
        [Decimal("1.00"), Decimal("2.00")],
    ),
    "array": (
        ARRAY(Numeric(10, 2)),
        "ARRAY[1.1, NULL]",
        "ARRAY[2]",
        [[Decimal("1.10"), None], [Decimal("2.00")]],
    ),
    "as float": (Numeric(10, 2, asdecimal=False), "1.1", "1", [1.1, 1.0]),
    "float": (Float(), "1.5", "2.25", [1.5, 2.25]),
    "integer": (Integer(), "1", "2", [1, 2]),
    "json": (JSONB(), "'{\"a\": 1.10}'", "'1.20'", [{"a": 1.1}, 1.2]),
    "NaN": (Numeric(), "'NaN'", "1.0", ["NaN", Decimal("1.0")]),
    "NULL": (Numeric(5, 1), "NULL", "1", [None, Decimal("1.0")]),
}


@pytest.mark.parametrize("name", TYPES)
def test_numbers_are_as_postgresql_writes_them(
    name: str,
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: Callable[[Callable[[Session], Any]], Any],
) -> None:
    type_, before, after, values = TYPES[name]

    @track()
    class Price(base):  # type: ignore[misc, valid-type]
        __tablename__ = "price"
        id: Mapped[int] = mapped_column(primary_key=True)
        value = mapped_column("Value %", type_)

    create_all()

    def act(session: Session) -> None:
        commit(session, text(f"INSERT INTO price VALUES (1, {before})"))
        commit(session, text(f'UPDATE price SET "Value %" = {after}'))
        settle(session)
        statement = AggregateEvent.select(Price)
        wrapped = statement.subquery()
        for rows in (
            session.execute(statement).all(),
            session.execute(feed(Price)).all(),
            session.execute(select(wrapped).order_by(wrapped.c.pgh_id)).all(),
        ):
            assert [repr(row.pgh_data["value"]) for row in rows] == list(
                map(repr, values)
            )
            assert repr(rows[1].pgh_diff) == repr({"value": values})
            assert rows[0].pgh_data["id"] == 1
        narrow = statement.where(AggregateEvent.pgh_diff.has_key("value"))
        assert len(session.execute(narrow).all()) == 1

    in_session(act)


def test_a_name_that_has_floats_in_another_model_loses_no_digits(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: Callable[[Callable[[Session], Any]], Any],
) -> None:
    @track()
    class Exact(base):  # type: ignore[misc, valid-type]
        __tablename__ = "exact"
        id: Mapped[int] = mapped_column(primary_key=True)
        value = mapped_column(Numeric)

    @track()
    class Rough(base):  # type: ignore[misc, valid-type]
        __tablename__ = "rough"
        id: Mapped[int] = mapped_column(primary_key=True)
        value = mapped_column(Float)

    create_all()

    def act(session: Session) -> None:
        commit(session, text("INSERT INTO exact VALUES (1, 0.1000)"))
        commit(session, text("INSERT INTO rough VALUES (1, 0.1)"))

        def values(*models: Any) -> list[Any]:
            rows = session.execute(AggregateEvent.select(*models)).all()
            return [repr(row.pgh_data["value"]) for row in rows]

        assert values(Rough) == ["0.1"]
        assert values(Exact) == ["Decimal('0.1000')"]
        assert values(Rough, Exact) == ["Decimal('0.1000')", "Decimal('0.1')"]

    in_session(act)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ('{"a": 1.10, "b": 1.10}', {"a": Decimal("1.10"), "b": 1.1}),
        ('{"b": 2}', {"b": 2}),
        ("1.10", 1.1),
        ("[1.10]", [1.1]),
        (f'{{"a": {"1" * 4300}}}', {"a": Decimal("1" * 4300)}),
        (f'{{"a": {"1" * 4301}}}', {"a": f"{'1' * 20}… (4301 characters)"}),
        (
            f'{{"a": 1.0, "b": {"1" * 5000}, "c": {"[" * 500}{"]" * 500}}}',
            {"a": Decimal("1.0"), "b": f"{'1' * 20}… (5000 characters)"},
        ),
    ],
)
def test_only_the_keys_that_are_decimal_are_read_so(given: str, expected: Any) -> None:
    found = loads(given, {"a"})
    if isinstance(found, dict):
        found.pop("c", None)
    assert repr(found) == repr(expected)


def test_json_has_the_digits_that_were_stored() -> None:
    value = {
        "é": Decimal("11.90"),
        "b": (Decimal("1E+2"), [1.5, None, True]),
        "c": {"d": "x"},
    }
    text_ = dumps(value)
    assert text_ == (
        r'{"\u00e9": 11.90, "b": [100, [1.5, null, true]], "c": {"d": "x"}}'
    )
    assert json.loads(text_)["b"] == [100, [1.5, None, True]]
