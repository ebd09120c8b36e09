"""What is answered of a time whose events were removed: an error, or what is right."""

from __future__ import annotations

import asyncio
import datetime
import itertools
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import (
    URL,
    DateTime,
    Engine,
    bindparam,
    create_engine,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AggregateEvent, Snapshot, track
from sa_history.capture.partitioning import Horizon, bound_at
from sa_history.exc import EventsRemovedError, PastError, UndoError
from sa_history.install import check
from sa_history.query.event_search import EventSearch, key_from_texts, version_at
from sa_history.query.removed_events import read_horizon
from sa_history.testing.binaries import find_bindir

LATER = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=40)


@pytest.fixture
def times(account: Any, create_all: Callable[[], None], pg_engine: Engine) -> list[Any]:
    """The time after each event: ten rows, changes of nine, a deletion, a new key."""
    create_all()
    times = []

    def commit(session: Session) -> None:
        session.commit()
        times.append(session.scalar(select(func.clock_timestamp())))
        session.commit()

    with Session(pg_engine) as session:
        for number in range(1, 11):
            session.add(account(id=number, balance=0))
            commit(session)
        history.partitions(pg_engine, account)
        for number in range(1, 10):
            session.get_one(account, number).balance = number
            commit(session)
        session.delete(session.get_one(account, 2))
        commit(session)
        session.get_one(account, 1).id = 11
        commit(session)
    history.partitions(pg_engine, account)
    return times


Rows = dict[int, int]


def rows_as_of(engine: Engine, account: Any, moment: Any) -> Rows:
    with history.as_of(engine, moment) as past:
        return {row.id: row.balance for row in past.scalars(select(account))}


def test_as_of_reads_across_partitions(
    times: list[Any], account: Any, pg_engine: Engine, bounds: Any
) -> None:
    assert len(bounds()) >= 3
    assert rows_as_of(pg_engine, account, times[9]) == dict.fromkeys(range(1, 11), 0)
    assert rows_as_of(pg_engine, account, times[-1]) == {
        **{number: number for number in range(3, 10)},
        10: 0,
        11: 1,
    }


@pytest.fixture
def removed(times: list[Any], account: Any, pg_engine: Engine) -> None:
    history.partitions(pg_engine, account, keep="1 day", now=LATER)


def test_as_of_sees_the_rows_of_any_time_since_the_removal(
    times: list[Any], account: Any, pg_engine: Engine
) -> None:
    before = [rows_as_of(pg_engine, account, time) for time in times]
    assert history.partitions(pg_engine, account, keep="1 day", now=LATER)[0].done
    seen = 0
    for time, rows in zip(times, before, strict=True):
        try:
            assert rows_as_of(pg_engine, account, time) == rows
            seen += 1
        except EventsRemovedError:
            assert seen == 0
    assert seen >= 1


@pytest.mark.usefixtures("removed")
def test_as_of_an_earlier_time_is_an_error_that_names_it(
    times: list[Any], account: Any, pg_engine: Engine
) -> None:
    with history.as_of(pg_engine, times[0]) as past:
        for read in (
            lambda: past.get(account, 1),
            lambda: past.scalar(select(func.count()).select_from(account)),
        ):
            with pytest.raises(EventsRemovedError) as refused:
                read()
            assert isinstance(refused.value, PastError)
            assert str(refused.value).startswith("the events of 'account' until 20")
            assert str(refused.value).endswith(
                "were removed; give as_of a later moment, or allow=[...] to see it as "
                "it is now"
            )
            past.rollback()
    with history.as_of(pg_engine, times[0], allow=[account]) as past:
        assert len(past.scalars(select(account)).all()) == 10 - 1
    for number, is_refused in ((1, True), (2**62, False)):
        with history.as_of(pg_engine, transaction=number) as past:
            if is_refused:
                with pytest.raises(EventsRemovedError):
                    past.get(account, 1)
            else:
                assert past.get(account, 11) is not None
    with Session(pg_engine) as session:
        session.get_one(account, 11).balance = 0
        session.commit()
        oldest, *_, newest = session.scalars(account.events.select()).all()
    with history.as_of(pg_engine, oldest) as past, pytest.raises(EventsRemovedError):
        past.get(account, 1)
    with history.as_of(pg_engine, newest) as past:
        assert past.get(account, 11) is not None


@pytest.mark.parametrize("keeps_last", [True, False])
def test_a_version_that_may_have_been_removed_is_no_row_that_did_not_exist(
    times: list[Any], account: Any, pg_engine: Engine, keeps_last: bool
) -> None:
    history.partitions(
        pg_engine, account, keep="1 day", keep_last_events=keeps_last, now=LATER
    )
    with Session(pg_engine) as session:
        key = key_from_texts(session, account, ["10"])
        earlier = datetime.timedelta(days=1)
        for at in (1, times[0] - earlier, *([] if keeps_last else [LATER])):
            with pytest.raises(EventsRemovedError, match="give a later time"):
                version_at(session, account, key, at)
        if keeps_last:
            for at in (10, times[-1]):
                version = version_at(session, account, key, at)
                assert version is not None
                assert version.number < 0
            nobody = key_from_texts(session, account, ["99"])
            assert version_at(session, account, nobody, LATER) is None


def test_no_version_is_kept_where_events_do_not_tell_what_rows_there_are(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_engine: Engine
) -> None:
    @track(Snapshot, partition_by=1)  # no deletions
    class Loose(base):  # type: ignore[misc, valid-type]
        __tablename__ = "loose"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    with Session(pg_engine) as session:
        session.add(Loose(id=1))
        session.commit()
    for keep in (None, "1 day"):
        history.partitions(pg_engine, Loose, keep=keep, now=LATER)
    with Session(pg_engine) as session:
        assert session.scalars(Loose.events.select()).all() == []
        key = key_from_texts(session, Loose, ["1"])
        with pytest.raises(EventsRemovedError, match="give a later time"):
            version_at(session, Loose, key, LATER)


@pytest.mark.usefixtures("removed")
def test_an_async_session_is_refused_as_well(
    times: list[Any], account: Any, pg_async_engine: AsyncEngine
) -> None:
    async def read() -> None:
        async with history.as_of(pg_async_engine, times[0]) as past:
            with pytest.raises(EventsRemovedError):
                await past.get(account, 1)

    asyncio.run(read())


def test_without_last_events_no_past_is_known(
    times: list[Any], account: Any, pg_engine: Engine, bounds: Any
) -> None:
    history.partitions(
        pg_engine, account, keep="1 day", keep_last_events=False, now=LATER
    )
    with history.as_of(pg_engine, LATER) as past:
        with pytest.raises(EventsRemovedError) as refused:
            past.get(account, 11)
        assert "and the last ones of its rows with them" in str(refused.value)
    with Session(pg_engine) as session:
        assert all(e.pgh_id > 0 for e in session.scalars(account.events.select()))
    assert bounds()[0] == (None, 1)
    # What was not kept once is not known afterwards either.
    with Session(pg_engine) as session:
        for number in range(20, 60):
            session.add(account(id=number))
            session.commit()
    history.partitions(pg_engine, account)
    history.partitions(pg_engine, account, keep="1 day", now=LATER)
    with history.as_of(pg_engine, LATER) as past, pytest.raises(EventsRemovedError):
        past.get(account, 11)
    assert check(pg_engine, account) == []


@pytest.mark.usefixtures("removed")
def test_undo_of_what_may_have_been_removed_is_refused(
    account: Any, pg_engine: Engine
) -> None:
    with Session(pg_engine) as session:
        with pytest.raises(EventsRemovedError) as refused:
            history.undo(session, account, transaction=1)
        assert isinstance(refused.value, UndoError)
        assert str(refused.value).startswith(
            "nothing is undone, since the events of 'account' until 20"
        )
        with pytest.raises(EventsRemovedError):
            history.undo(session, account, context=uuid.uuid4())
        with history.context(session, user=1) as context:
            session.get_one(account, 11).balance = 5
            session.commit()
        history.undo(session, account, context=context)
        session.commit()
        assert session.get_one(account, 11).balance == 1


@pytest.mark.usefixtures("removed")
def test_what_came_before_the_first_event_that_is_left_is_known(
    account: Any, pg_engine: Engine
) -> None:
    with Session(pg_engine) as session:
        session.get_one(account, 10).balance = 5
        session.commit()
        row = session.get_one(account, 10)
        *_, newest = session.execute(AggregateEvent.select(row)).all()
        assert newest.pgh_diff == {"balance": [0, 5]}


@pytest.mark.usefixtures("removed")
def test_a_dump_has_all_of_it(
    account: Any, pg_engine: Engine, pg_url: URL, other_url: URL
) -> None:
    def uri(url: URL) -> str:
        return url.set(drivername="postgresql").render_as_string(hide_password=False)

    dumped = subprocess.run(
        [find_bindir() / "pg_dump", "--no-owner", uri(pg_url)],
        capture_output=True,
        text=True,
        check=True,
    )
    subprocess.run(
        [find_bindir() / "psql", "-q", "-v", "ON_ERROR_STOP=1", uri(other_url)],
        input=dumped.stdout.replace("CREATE SCHEMA public;", ""),
        capture_output=True,
        text=True,
        check=True,
    )
    other = create_engine(other_url)
    try:
        assert check(other, account) == []
        assert rows_as_of(other, account, LATER) == rows_as_of(
            pg_engine, account, LATER
        )
        assert history.partitions(other, account)[0].postponed == ()
    finally:
        other.dispose()


@pytest.mark.parametrize("transaction", [123, -123])
@pytest.mark.parametrize("folder", [None, "/archive of; 2"])
def test_how_far_back_events_were_removed_is_read_from_the_comment(
    transaction: int, folder: str | None
) -> None:
    # Events of another history library may have numbers of their own.
    horizon = Horizon(7, LATER, transaction, True, folder)
    assert Horizon.of_comment(horizon.comment) == horizon


@pytest.fixture
def horizon(removed: None, account: Any, pg_engine: Engine) -> Horizon:
    """How far back the events of the accounts were removed."""
    with pg_engine.connect() as connection:
        found = read_horizon(connection, account.events.model.pgh_tracking)
    assert found is not None
    return found


def questions(horizon: Horizon) -> list[dict[str, Any]]:
    """What names a time before the first event that is left."""
    version_7 = 7 << 76 | 2 << 62
    return [
        {"transaction": horizon.transaction},
        {"since": horizon.until},
        {"until": horizon.until},
        {"context": uuid.UUID(int=bound_at(horizon.until) | version_7)},
        {"context": uuid.UUID(int=bound_at(horizon.until) | version_7), "limit": 3},
    ]


def test_events_asked_for_by_a_time_that_was_removed_are_refused(
    account: Any, base: Any, pg_engine: Engine, horizon: Horizon
) -> None:
    with Session(pg_engine) as session:
        for asked in questions(horizon):
            with pytest.raises(EventsRemovedError) as refused:
                session.execute(AggregateEvent.select(base, **asked))
            assert str(refused.value) == (
                f"the events of 'account' until {horizon.until} (transaction "
                f"{horizon.transaction}) were removed, and some of what is asked for "
                "may have been among them; ask for what came later, or leave that "
                "table out"
            )
            with pytest.raises(EventsRemovedError):
                AggregateEvent.page(session, account, references=True, **asked)
        with pytest.raises(EventsRemovedError):
            list(EventSearch([account], since=horizon.until).rows(session, 1))


def test_events_asked_for_by_an_expression_of_a_time_that_was_removed_are_refused(
    account: Any, pg_engine: Engine, horizon: Horizon
) -> None:
    day = bindparam("day", type_=DateTime(timezone=True))
    later = {"day": LATER}
    refused: list[Any] = [
        literal(horizon.until),
        func.now() - datetime.timedelta(days=1),
        # As the database understands it, by its time zone.
        (horizon.until - datetime.timedelta(days=2)).replace(tzinfo=None),
        horizon.until.date() - datetime.timedelta(days=2),
    ]
    with Session(pg_engine) as session:
        for time, name in itertools.product(refused, ("since", "until")):
            asked = {name: time}
            with pytest.raises(EventsRemovedError):
                session.execute(AggregateEvent.select(account, **asked))
            with pytest.raises(EventsRemovedError):
                AggregateEvent.page(session, account, **asked)
        statement = AggregateEvent.select(account, since=day)
        with pytest.raises(EventsRemovedError):
            session.execute(statement, {"day": horizon.until})
        assert session.execute(statement, later).all() == []
        tomorrow = func.now() + datetime.timedelta(days=1)
        assert AggregateEvent.page(session, account, since=tomorrow) == []


@pytest.mark.usefixtures("removed")
def test_events_asked_for_without_a_time_are_those_that_are_left(
    account: Any, base: Any, pg_engine: Engine, horizon: Horizon
) -> None:
    later = horizon.until + datetime.timedelta(microseconds=1)
    with Session(pg_engine) as session:
        everything = session.execute(AggregateEvent.select(base)).all()
        assert everything
        for asked in (
            {"transaction": horizon.transaction + 1},
            {"since": later, "until": LATER},
            {"until": LATER},
            {"until": datetime.datetime(2300, 1, 1)},  # the server knows its zone
            {"context": uuid.uuid4()},
            {"context": {"user": 1}},
            {"before": 1},
        ):
            found = session.execute(AggregateEvent.select(base, **asked)).all()
            assert found == AggregateEvent.page(session, base, **asked)
            assert all(row in everything for row in found)
    with pg_engine.connect() as connection:
        refused = AggregateEvent.select(base, transaction=horizon.transaction)
        assert connection.execute(refused).all()[0].pgh_id < 0


def test_async_sessions_refuse_it_too(
    account: Any, pg_async_engine: AsyncEngine, horizon: Horizon
) -> None:
    async def read() -> None:
        async with AsyncSession(pg_async_engine) as session:
            asked = {"transaction": horizon.transaction}
            with pytest.raises(EventsRemovedError):
                await session.execute(AggregateEvent.select(account, **asked))
            with pytest.raises(EventsRemovedError):
                await AggregateEvent.page(session, account, **asked)

    asyncio.run(read())


def test_a_copy_of_the_database_numbers_transactions_anew(
    account: Any, pg_engine: Engine, horizon: Horizon, bounds: Any
) -> None:
    copied = replace(horizon, transaction=10**12)
    with pg_engine.begin() as connection:
        name = account.events.model.pgh_tracking.partitioning().kept.name
        connection.execute(text(f"COMMENT ON TABLE {name} IS '{copied.comment}'"))
    with Session(pg_engine) as session:
        asked = AggregateEvent.select(account, transaction=horizon.transaction + 1)
        session.execute(asked)
        session.execute(history.feed(account, after=(5, horizon.first_id)))


def test_the_feed_refuses_a_position_after_which_events_were_removed(
    account: Any, base: Any, pg_engine: Engine, horizon: Horizon
) -> None:
    last = horizon.transaction, horizon.first_id - 1
    with Session(pg_engine) as session:
        for ask in (
            lambda *target, **after: session.execute(history.feed(*target, **after)),
            lambda *target, **after: history.feed_page(session, *target, **after),
        ):
            with pytest.raises(EventsRemovedError) as refused:
                ask(base, after=history.FeedPosition(1, 1))
            assert f"go on after {last}, or give targets" in str(refused.value)
            assert [*ask(base, after=last)] == []
            assert [*ask(base)]
            # Who reads one row has missed none of its events, maybe.
            assert [*ask((account, 10), after=(1, 1))]
