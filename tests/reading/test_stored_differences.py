"""What differs between versions: what is stored, not what Python calls unequal."""

from __future__ import annotations

import asyncio
import datetime
import itertools
import zoneinfo
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Double,
    Integer,
    Interval,
    Numeric,
    Table,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB, TIMESTAMP
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Session

import sa_history as history
from sa_history import AggregateEvent, track
from sa_history.exc import ConflictError
from sa_history.tracking.stored_values import is_same_value

from .transactions import commit

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


class Opaque:
    """An object that equals nothing but itself."""


class Opaquely(TypeDecorator[Any]):
    """Text, of which Python has a new object each time."""

    impl = Text
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: Any) -> Any:
        return None if value is None else Opaque()


CHANGES: dict[str, tuple[Any, str, str]] = {
    "true of json": (JSONB, '{"on": 1}', '{"on": true}'),
    "null of json": (JSONB, '{"on": 1}', "null"),
    "digits of json": (JSONB, "[1.0]", "[1.00]"),
    "spaces of json": (JSON, '{"on": 1}', '{"on":1}'),
    "a month": (Interval, "30 days", "1 mon"),
    "digits": (Numeric, "1.0", "1.00"),
    "digits as a float": (Numeric(asdecimal=False), "1.0", "1.00"),
    "minus zero": (Double, "0", "-0"),
    "the repeated hour": (
        TIMESTAMP(timezone=True),
        "2026-10-25 02:30:00+02",
        "2026-10-25 02:30:00+01",
    ),
    "bounds of an array": (ARRAY(Integer), "{1}", "[2:2]={1}"),
    "an object of its own": (Opaquely, "a", "b"),
}
"""Types, with two values that Python may call equal, or cannot compare."""

ALIKE_AS_JSON = ("spaces of json", "minus zero", "bounds of an array")
"""Changes that are none once the values are jsonb, which ``pgh_diff`` is made of."""


@pytest.fixture(params=CHANGES)
def probe(
    request: pytest.FixtureRequest,
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
) -> Table:
    """A table with a row, whose value is changed, and then its name."""
    type_, *values = CHANGES[request.param]
    table = Table(
        "probe",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("value", type_, nullable=True),
        Column("level", Double),
        Column("name", Text),
        info={"change": request.param},
    )
    track()(table)
    create_all()
    name = table.c.value.type.compile(dialect=pg_session.get_bind().dialect)
    before, after = (
        text(sql).bindparams(value=value)
        for sql, value in zip(
            (
                f"INSERT INTO probe VALUES (1, CAST(:value AS {name}), 'NaN', 'x')",
                f"UPDATE probe SET value = CAST(:value AS {name})",
            ),
            values,
            strict=True,
        )
    )
    for statement in (before, after, text("UPDATE probe SET name = 'y'")):
        commit(pg_session, statement)
    commit(pg_session, text("SET TIME ZONE 'Europe/Berlin'"))
    return table


def names(diffs: Any) -> list[Any]:
    return [None if diff is None else [*diff] for diff in diffs]


def test_a_diff_has_what_is_stored_differently_and_nothing_else(
    probe: Table, pg_session: Session
) -> None:
    expected = [None, ["value"], ["name"]]
    events = pg_session.scalars(history.events(probe).select()).all()
    assert names(event.diff for event in events) == expected
    assert names(diff for _, diff in history.steps(events)) == expected
    pairs = itertools.pairwise(events)
    assert names(history.diff(*pair) for pair in pairs) == expected[1:]
    if probe.info["change"] not in ALIKE_AS_JSON:
        in_sql = pg_session.execute(AggregateEvent.select(probe)).all()
        assert names(row.pgh_diff for row in in_sql) == expected


@pytest.mark.usefixtures("undo_way")
def test_undo_writes_what_is_stored_differently(
    probe: Table, pg_session: Session
) -> None:
    def now() -> Any:
        return pg_session.execute(text("SELECT value::text, name FROM probe")).all()

    inserted, changed, renamed = (
        event.pgh_xact_id
        for event in pg_session.scalars(history.events(probe).select())
    )
    ((after, name),) = now()
    pg_session.execute(text("UPDATE probe SET value = NULL"))
    with pytest.raises(ConflictError, match="value is None and was"):
        history.undo(pg_session, probe, transaction=changed)
    pg_session.rollback()
    with pytest.raises(ConflictError, match="value is .* name is 'y' and was 'x'"):
        history.undo(pg_session, probe, transaction=inserted)
    assert name == "y"
    done = history.undo(pg_session, probe, transaction=changed)
    pg_session.commit()
    ((before, _),) = now()
    assert before != after
    history.undo(pg_session, probe, transaction=done.transaction)
    assert now() == [(after, "y")], "exactly as it was"
    pg_session.rollback()
    history.undo(pg_session, probe, transaction=renamed)
    history.undo(pg_session, probe, transaction=inserted)
    assert now() == []


def test_revert_writes_exactly_what_was_stored(
    probe: Table, pg_session: Session
) -> None:
    def now() -> list[Any]:
        return list(pg_session.scalars(text("SELECT value::text FROM probe")))

    after = now()
    first, _, last = pg_session.scalars(history.events(probe).select()).all()
    first.revert(pg_session)
    before = now()
    last.revert(pg_session)
    assert before != after
    assert now() == after
    pg_session.execute(text("DELETE FROM probe"))
    first.revert(pg_session)
    assert now() == before


def test_steps_go_on_over_many_events(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    columns = Column("id", Integer, primary_key=True), Column("data", JSONB)
    log = track()(Table("log", base.metadata, *columns))
    create_all()
    commit(pg_session, text("INSERT INTO log VALUES (1, '1.0')"))
    for number in range(250):
        value = "1.00" if number % 2 == 0 else "1.0"
        pg_session.execute(text(f"UPDATE log SET data = '{value}'"))
    pg_session.commit()
    diffs = [
        d for _, d in history.steps(pg_session.scalars(history.events(log).select()))
    ]
    assert names(diffs) == [None, *[["data"]] * 250]


def test_events_that_cannot_ask_are_compared_by_what_python_has(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    pg_async_engine: AsyncEngine,
) -> None:
    columns = Column("id", Integer, primary_key=True), Column("data", JSONB)
    log = track()(Table("log", base.metadata, *columns, Column("level", Double)))
    create_all()
    commit(pg_session, text("INSERT INTO log VALUES (1, '1', 'NaN')"))
    commit(pg_session, text("UPDATE log SET data = 'true'"))
    statement = history.events(log).select()
    first, last = pg_session.scalars(statement).all()
    expected = {"data": (1, True)}
    pg_session.expunge(first)
    assert history.diff(first, last) == expected
    pg_session.expunge_all()
    assert history.diff(first, last) == expected

    async def main() -> Any:
        async with AsyncSession(pg_async_engine) as session:
            events = (await session.scalars(statement)).all()
            (_, (_, plain)) = history.steps(events)
            return plain, await session.run_sync(lambda _: history.diff(*events))

    assert asyncio.run(main()) == (expected, expected)


REPEATED = datetime.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN)
SAME: list[tuple[Any, Any]] = [
    (float("nan"), float("nan")),
    (Decimal("NaN"), Decimal("NaN")),
    ([{"a": (1.5, None)}], [{"a": (1.5, None)}]),
    (REPEATED, REPEATED.astimezone(datetime.timezone.utc)),
    (datetime.datetime.max.replace(tzinfo=BERLIN),) * 2,
    (datetime.time(1, tzinfo=datetime.timezone.utc),) * 2,
]
OTHERS: list[tuple[Any, Any]] = [
    (1, True),
    (1, 1.0),
    ({"a": 1}, {"a": True}),
    ({"a": 1}, {"b": 1}),
    ([1], [1, 1]),
    ([1], [True]),
    (0.0, -0.0),
    (Decimal("1.0"), Decimal("1.00")),
    (REPEATED, REPEATED.replace(fold=1)),
    (REPEATED, REPEATED.replace(tzinfo=None)),
    (
        datetime.time(1, tzinfo=datetime.timezone.utc),
        datetime.time(2, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
    ),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_values_that_are_stored_alike_are_the_same(one: Any, other: Any) -> None:
    assert is_same_value(one, other)


@pytest.mark.parametrize(("one", "other"), OTHERS)
def test_values_that_are_stored_differently_are_not_the_same(
    one: Any, other: Any
) -> None:
    assert not is_same_value(one, other)
