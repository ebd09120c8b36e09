"""Contexts are in partitions of their own, and go with the events of their time."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import Snapshot, track
from sa_history.capture.partitioning import bound_at
from sa_history.contexts.frame import new_id, time_of_id
from sa_history.install import check
from tests.partitions.conftest import before

UTC = datetime.timezone.utc
NOW = datetime.datetime.now(UTC)

ADD = """
INSERT INTO pghistory_context (id, metadata, updated_at) VALUES ('{}', '{{}}', '{}')
"""


def id_at(time: datetime.datetime) -> uuid.UUID:
    return uuid.UUID(int=bound_at(time) + (7 << 76) + (2 << 62) + 1)


@pytest.fixture
def note(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    @track(Snapshot, partition_by="month")
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    return Note


def names(partitions: Any) -> list[str]:
    return [p.name.name for p in partitions("pghistory_context")]


def test_the_id_of_a_context_begins_with_the_time() -> None:
    found = time_of_id(uuid.UUID(new_id()))
    assert found is not None
    assert abs(found - datetime.datetime.now(UTC)) < datetime.timedelta(minutes=1)
    assert time_of_id(uuid.uuid4()) is None


def test_contexts_are_stored_and_found(
    note: Any, base: type[DeclarativeBase], pg_engine: Engine, partitions: Any
) -> None:
    with Session(pg_engine) as session, history.context(session, user=7):
        session.add(note(id=1))
        session.commit()
    history.partitions(pg_engine, base)
    with Session(pg_engine) as session, history.context(session, user=8):
        session.add(note(id=2))
        session.commit()
    with Session(pg_engine) as session:
        events = session.scalars(note.events.select()).all()
        assert [e.pgh_context.metadata for e in events] == [{"user": 7}, {"user": 8}]
    assert len(partitions("pghistory_context")) == 3
    assert check(pg_engine, base) == []


def test_partitions_are_those_of_the_calendar(
    note: Any, base: type[DeclarativeBase], pg_engine: Engine, partitions: Any
) -> None:
    now = datetime.datetime(2026, 11, 28, tzinfo=UTC)
    *_, report = history.partitions(pg_engine, base, now=now)
    assert report.done == (
        "end public.pghistory_context_p1 before 2026-12-01",
        "end public.pghistory_context_p20261201 before 2027-01-01",
    )
    assert names(partitions) == [
        "pghistory_context_p1",
        "pghistory_context_p20261201",
        "pghistory_context_p20270101",
    ]
    *_, report = history.partitions(pg_engine, base, now=now, dry_run=True)
    assert report.done == ()
    later = now + datetime.timedelta(days=4)
    *_, report = history.partitions(pg_engine, base, now=later)
    assert report.done == ("end public.pghistory_context_p20270101 before 2027-02-01",)


def test_what_is_ahead_of_its_time_stays_in_the_tail(
    note: Any, base: type[DeclarativeBase], pg_engine: Engine, run: Any
) -> None:
    run(ADD.format(uuid.UUID(int=2**127), NOW), ADD.format(id_at(NOW), NOW))
    history.partitions(pg_engine, base)
    history.partitions(pg_engine, base, now=NOW + datetime.timedelta(days=70))
    with pg_engine.connect() as connection:
        found = connection.execute(
            text(
                "SELECT tableoid::regclass::text, count(*) FROM pghistory_context"
                " GROUP BY 1 ORDER BY 1"
            )
        ).all()
    assert found[0] == ("pghistory_context_p1", 1)
    assert [count for _, count in found] == [1, 1]


def test_contexts_go_a_period_after_the_events_of_their_time(
    note: Any, base: type[DeclarativeBase], pg_engine: Engine, run: Any, partitions: Any
) -> None:
    def at(days: int) -> datetime.datetime:
        return datetime.datetime(2026, 1, 15, tzinfo=UTC) + datetime.timedelta(days)

    for days in range(0, 121, 30):
        run(
            ADD.format(id_at(at(days)), at(days)),
            "INSERT INTO note_event (pgh_created_at, pgh_op, pgh_label, pgh_obj_id, id)"
            f" VALUES ('{at(days).isoformat()}', 'I', 'insert', {days}, {days})",
        )
        history.partitions(pg_engine, base, now=at(days))
    run(
        "INSERT INTO note_event (pgh_op, pgh_label, pgh_obj_id, id)"
        " VALUES ('I', 'insert', 1, 1)"
    )
    history.partitions(pg_engine, base, now=at(150))
    assert names(partitions)[0] == "pghistory_context_p1"
    *_, report = history.partitions(pg_engine, base, now=at(150), keep="2 months")
    events = [p.name.name for p in partitions("note_event")]
    assert events[0] == "note_event_p0"
    assert "drop public.pghistory_context_p1" in report.done
    assert names(partitions)[0].startswith("pghistory_context_p0_2026")
    with pg_engine.connect() as connection:
        (oldest,) = connection.scalars(
            text("SELECT min(pgh_created_at) FROM note_event WHERE pgh_id > 0")
        )
        (first,) = connection.scalars(
            text("SELECT min(id::text)::uuid FROM pghistory_context")
        )
    found = time_of_id(first)
    assert found is not None
    assert found < oldest
    assert check(pg_engine, base) == []
    before = names(partitions)
    history.partitions(pg_engine, base, now=at(150), keep="2 months")
    assert names(partitions) == before
    # A process that goes on in a context of long ago may still write.
    run(ADD.format(id_at(at(1)), at(150)))
    history.partitions(pg_engine, base, now=at(150), keep="2 months")
    assert names(partitions) == before
    history.partitions(pg_engine, base, now=at(240), keep="2 months")
    assert names(partitions)[0] == before[0]


def test_contexts_of_which_one_is_used_again_before_the_lock_stay(
    note: Any, base: type[DeclarativeBase], pg_engine: Engine, run: Any, partitions: Any
) -> None:
    later = NOW + datetime.timedelta(days=400)
    run(ADD.format(id_at(NOW), NOW))
    history.partitions(pg_engine, base)
    history.partitions(pg_engine, base, now=later)
    found = names(partitions)
    again = ADD.format(id_at(NOW + datetime.timedelta(seconds=1)), later)
    lock = 'LOCK TABLE "public"."pghistory_context" IN'
    with before(pg_engine, lock, lambda: run(again)):
        *_, report = history.partitions(pg_engine, base, now=later, keep="1 day")
    assert report.postponed[0].endswith(
        "somebody has used a context of that time again"
    )
    assert names(partitions) == found


def test_contexts_stay_while_a_table_without_partitions_may_have_them(
    base: type[DeclarativeBase], pg_engine: Engine, run: Any, partitions: Any
) -> None:
    @track(Snapshot, partition_by="week")
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    @track(Snapshot)
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)

    base.metadata.create_all(pg_engine)
    history.partitions(pg_engine, base)
    later = NOW + datetime.timedelta(days=400)
    before = names(partitions)
    history.partitions(pg_engine, base, now=later, keep="1 day")
    assert set(before[:-1]) < set(names(partitions))


def test_contexts_that_are_stored_with_events_need_no_partitions(
    base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    @track(Snapshot, partition_by="week", context="inline")
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    base.metadata.create_all(pg_engine)
    (report,) = history.partitions(pg_engine, base)
    assert report.table == "public.note_event"
    table = base.metadata.tables["pghistory_context"]
    assert dict(table.kwargs) == {}


def test_partitions_that_are_missing_are_made(
    note: Any, base: type[DeclarativeBase], pg_engine: Engine, run: Any, partitions: Any
) -> None:
    run("DROP TABLE pghistory_context_p1")
    missing = (
        "missing partition public.pghistory_context without an end: "
        "run sa-history partitions"
    )
    assert [str(f) for f in check(pg_engine, base)] == [missing]
    history.partitions(pg_engine, base, now=NOW)
    *_, tail = names(partitions)
    run(f"DROP TABLE {tail}")
    assert [str(f) for f in check(pg_engine, base)] == [missing]
    *_, report = history.partitions(pg_engine, base, now=NOW)
    assert report.done == ("create the last partition of public.pghistory_context",)
    assert names(partitions)[-1] == tail
    assert check(pg_engine, base) == []


def test_a_context_table_without_partitions_stays_as_it_is(
    base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    @track(Snapshot)
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)

    base.metadata.create_all(pg_engine)

    @track(Snapshot, partition_by="week")
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    base.metadata.create_all(pg_engine)
    (report,) = history.partitions(pg_engine, base)
    assert report.table == "public.note_event"
    assert check(pg_engine, base) == []
