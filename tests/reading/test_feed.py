"""The feed: all events, in an order in which none can appear behind a reader."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from sqlalchemy import (
    URL,
    Column,
    Engine,
    Integer,
    NullPool,
    Table,
    create_engine,
    delete,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Session

import sa_history as history
from sa_history import AggregateEvent, FeedPosition, track
from sa_history.exc import DefinitionError, EventsError

from .transactions import settle


@pytest.fixture
def logs(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    request: pytest.FixtureRequest,
) -> list[Table]:
    """Two tables that tell a channel of their events."""
    level = getattr(request, "param", "statement")
    tables = [
        track(notify="It's %", level=level)(
            Table(
                name,
                base.metadata,
                Column("id", Integer, primary_key=True),
                Column("n", Integer),
            )
        )
        for name in ("one", "two")
    ]
    create_all()
    return tables


def read(engine: Engine, metadata: Any, limit: int, after: Any = None) -> list[Any]:
    """Read pages until one is empty, once all other transactions have ended."""
    with Session(engine) as session:
        settle(session)
    return pages(engine, metadata, limit, after)


def pages(engine: Engine, metadata: Any, limit: int, after: Any = None) -> list[Any]:
    rows: list[Any] = []
    with engine.connect() as connection:
        while True:
            page = connection.execute(
                history.feed(metadata, after=after, limit=limit)
            ).all()
            connection.rollback()
            if not page:
                return rows
            assert len(page) <= limit
            rows += page
            after = FeedPosition(*json.loads(json.dumps(history.cursor_of(page[-1]))))


def test_pages_follow_each_other_by_their_positions(
    shop: SimpleNamespace, pg_engine: Engine
) -> None:
    metadata = shop.Product.metadata
    whole = read(pg_engine, metadata, 1000)
    order = [history.cursor_of(row) for row in whole]
    assert order == sorted(order)
    with pg_engine.connect() as connection:
        events = connection.execute(AggregateEvent.select(metadata)).all()
    assert sorted(whole, key=lambda row: row.pgh_id) == events
    for limit in (1, 3):
        assert read(pg_engine, metadata, limit) == whole
    rest = read(pg_engine, metadata, 2, after=tuple(order[4]))
    assert rest == whole[5:]
    some = read(pg_engine, shop.Product, 2)
    assert {row.pgh_obj_model for row in some} == {"Product"}
    with pytest.raises(EventsError, match="one event at least, got limit=0"):
        history.feed(metadata, limit=0)


def test_limits_and_positions_are_numbers(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    Product = shop.Product

    def refused(message: str, **arguments: Any) -> None:
        with pytest.raises(EventsError, match=message):
            history.feed(Product, **arguments)
        with pytest.raises(EventsError, match=message):
            history.feed_page(pg_session, Product, **arguments)

    for limit in (None, "5", -1, True, 2**63):
        refused(f"one event at least, got limit={limit!r}; give an int", limit=limit)
    for after in ((1,), (1, 2, 3), ("1", "2"), (1, None), (True, 1), (2**63, 1), 5):
        refused("feed goes on after a transaction and an event, got", after=after)
    for row in (None, (1, 2), Product):
        with pytest.raises(EventsError, match="cursor_of takes a row of the feed, got"):
            history.cursor_of(row)


def test_a_transaction_that_stays_open_holds_the_feed_back(
    logs: list[Table], pg_engine: Engine
) -> None:
    one, two = logs
    metadata = one.metadata
    with Session(pg_engine) as early, Session(pg_engine) as late:
        early.execute(insert(one).values(id=1))
        late.execute(insert(two).values(id=2))
        late.commit()
        assert pages(pg_engine, metadata, 10) == []
        assert len(late.execute(select(two)).all()) == 1
        late.rollback()
        early.execute(insert(one).values(id=3))
        early.commit()
    found = read(pg_engine, metadata, 10)
    assert [row.pgh_data["id"] for row in found] == [1, 3, 2]
    with Session(pg_engine) as session:
        session.execute(insert(one).values(id=9))
        session.rollback()
    assert read(pg_engine, metadata, 10, after=history.cursor_of(found[-1])) == []


def test_nothing_is_missed_and_nothing_comes_twice(
    logs: list[Table], pg_engine: Engine, pg_url: URL
) -> None:
    metadata = logs[0].metadata
    engine = create_engine(pg_url, poolclass=NullPool)
    start, failures = threading.Barrier(9), []
    done = threading.Event()

    def write(number: int) -> None:
        dice = random.Random(number)
        try:
            with engine.connect() as connection:
                start.wait()
                for turn in range(12):
                    for step in range(dice.randint(1, 2)):
                        key = number * 1000 + turn * 10 + step
                        table = dice.choice(logs)
                        connection.execute(insert(table).values(id=key, n=0))
                        own = table.c.id.between(number * 1000, key)
                        connection.execute(update(table).where(own).values(n=turn))
                    if dice.random() < 0.3:
                        connection.rollback()
                    else:
                        connection.commit()
        except Exception as error:
            failures.append(error)

    seen: list[Any] = []

    def follow() -> None:
        after = None
        try:
            with engine.connect() as connection:
                start.wait()
                while True:
                    last_round = done.is_set()
                    statement = history.feed(metadata, after=after, limit=7)
                    page = connection.execute(statement).all()
                    connection.rollback()
                    seen.extend(page)
                    if page:
                        after = history.cursor_of(page[-1])
                    elif last_round:
                        return
        except Exception as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(n,)) for n in range(1, 9)]
    reader = threading.Thread(target=follow)
    for thread in (*writers, reader):
        thread.start()
    for thread in writers:
        thread.join()
    with Session(engine) as session:
        settle(session)
    done.set()
    reader.join()
    assert failures == []
    numbers = [row.pgh_id for row in seen]
    assert len(numbers) == len(set(numbers))
    with pg_engine.connect() as connection:
        there = connection.execute(AggregateEvent.select(metadata)).all()
    assert sorted(numbers) == [row.pgh_id for row in there]


@pytest.mark.parametrize("logs", ["statement", "row"], indirect=True)
def test_a_channel_is_told_once_for_a_transaction(
    logs: list[Table], pg_engine: Engine, pg_url: URL
) -> None:
    one, two = logs
    url = pg_url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as listener:
        listener.execute('LISTEN "It\'s %"')

        heard: list[str] = []
        listener.add_notify_handler(lambda notice: heard.append(notice.payload))

        def told() -> list[str]:
            # Notices come in order, and the listener's own one is the last of them.
            heard.clear()
            listener.execute("SELECT pg_notify('It''s %%', 'end')", [])
            while "end" not in heard:
                listener.execute("SELECT 1")
            return heard[:-1]

        with Session(pg_engine) as session:
            session.execute(insert(one), [{"id": n, "n": 0} for n in range(5)])
            session.execute(update(one).values(n=1))
            session.execute(insert(two).values(id=1))
            assert told() == [], "before the commit"
            session.commit()
            assert told() == [""]
            session.execute(delete(two))
            session.rollback()
            session.execute(update(one).where(one.c.id == 99).values(n=1))
            session.commit()
            told()
            session.execute(text("TRUNCATE one"))
            session.commit()
            assert told() == [""]


@pytest.mark.parametrize("notify", ["", "x" * 64, 7])
def test_a_channel_has_a_name(base: type[DeclarativeBase], notify: Any) -> None:
    table = Table("log", base.metadata, Column("id", Integer, primary_key=True))
    with pytest.raises(DefinitionError, match="notify is the name of a channel"):
        track(notify=notify)(table)


def test_a_page_is_found_by_the_index_of_transactions(
    logs: list[Table], pg_engine: Engine
) -> None:
    one, _ = logs
    with pg_engine.connect() as connection:
        for n in range(40):
            connection.execute(insert(one), [{"id": n * 50 + m} for m in range(50)])
            connection.commit()
    last = read(pg_engine, one.metadata, 5000)[-1]
    with pg_engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE one_event, two_event")
        page = history.feed(one.metadata, after=history.cursor_of(last), limit=10)
        compiled = page.compile(pg_engine, compile_kwargs={"literal_binds": True})
        plan = "\n".join(
            connection.scalars(text(f"EXPLAIN {compiled}".replace(":", r"\:")))
        )
    assert "ix_one_event_pgh_xact_id" in plan, plan
    assert "Seq Scan on one_event" not in plan
