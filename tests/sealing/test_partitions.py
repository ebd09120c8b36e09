"""Seals of partitioned event tables: partitions change nothing, but what is removed."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterDelete, Snapshot, track
from sa_history.capture.partitioning import KEPT_OFFSET
from sa_history.cli.command import Database
from sa_history.cli.sealing import erase as erase_command
from sa_history.ddl.partitions import REMOVED
from sa_history.exc import ErasureError
from sa_history.sealing.discrepancies import SealProblem
from sa_history.sealing.event_seals import seals_of_events
from sa_history.tracking.events import trackings_of

LATER = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=60)


@pytest.fixture
def note(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    """A model with sealed events, of which a partition has ten."""

    @track(Snapshot, AfterDelete, sealed=True, erasable=["words"], partition_by=10)
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        words: Mapped[str | None]

    create_all()
    return Note


def write(engine: Engine, note: Any, numbers: range) -> None:
    for number in numbers:
        with Session(engine) as session:
            session.add(note(id=number, words=f"secret {number}"))
            session.commit()


def problems(engine: Engine, base: Any) -> list[SealProblem]:
    return [found.problem for found in history.verify(engine, base).discrepancies]


def test_partitions_that_end_or_are_detached_and_attached_change_nothing(
    note: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    write(pg_engine, note, range(1, 13))
    history.seal(pg_engine, base)
    history.partitions(pg_engine, base)
    write(pg_engine, note, range(13, 33))
    history.seal(pg_engine, base)
    report, _ = history.partitions(pg_engine, base)
    assert problems(pg_engine, base) == []
    first = report.partitions[0]
    with pg_engine.begin() as connection:
        for statement in (
            f"ALTER TABLE note_event DETACH PARTITION {first.name.name}",
            f"ALTER TABLE note_event ATTACH PARTITION {first.name.name}"
            f" FOR VALUES FROM ({first.lower}) TO ({first.upper})",
        ):
            connection.execute(text(statement))
    assert problems(pg_engine, base) == []


@pytest.mark.parametrize("keeps_last", [True, False])
def test_what_retention_removes_is_told_as_removed_and_is_no_fault(
    keeps_last: bool, note: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    write(pg_engine, note, range(1, 4))
    with pg_engine.begin() as connection:
        for count in range(3):
            connection.execute(text(f"UPDATE note SET words = 'more {count}'"))
    history.partitions(pg_engine, base)
    write(pg_engine, note, range(4, 33))
    history.seal(pg_engine, base)
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=60)
    history.partitions(
        pg_engine, base, keep="1 month", keep_last_events=keeps_last, now=later
    )
    verification = history.verify(pg_engine, base)
    assert verification.discrepancies == ()
    assert {d.problem for d in verification.removed} == {SealProblem.REMOVED}
    with pg_engine.connect() as connection:
        kept = connection.scalar(
            text("SELECT count(*) FROM note_event WHERE pgh_id < 1")
        )
    assert bool(kept) is keeps_last
    if keeps_last:
        tracking = trackings_of(note)[0]
        with pg_engine.begin() as connection:
            lowest = connection.scalar(text("SELECT min(pgh_id) FROM note_event"))
            of_kept = seals_of_events(connection, base.metadata, tracking, [lowest])
            assert of_kept is not None
            assert of_kept[lowest] is not None
            connection.execute(
                text("UPDATE note_event SET words = 'forged' WHERE pgh_id < 1")
            )
        assert problems(pg_engine, base) == [SealProblem.CHANGED]
        return
    history.seal(pg_engine, base)
    assert problems(pg_engine, base) == []


@pytest.mark.parametrize("sealed", [0, 4])
def test_events_of_which_the_last_are_kept_are_sealed_before(
    sealed: int, note: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    write(pg_engine, note, range(1, sealed + 1))
    if sealed:
        history.seal(pg_engine, base)
    write(pg_engine, note, range(sealed + 1, 33))
    history.partitions(pg_engine, base)
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=60)
    report, _ = history.partitions(pg_engine, base, keep="1 month", now=later)
    assert report.done == ()
    assert report.postponed == (
        "remove public.note_event_p1: some of its events are not sealed yet; seal "
        "them, or give keep_last_events=False (--without-last-events)",
    )
    history.seal(pg_engine, base)
    report, _ = history.partitions(pg_engine, base, keep="1 month", now=later)
    assert "drop public.note_event_p1" in report.done
    assert problems(pg_engine, base) == []
    history.seal(pg_engine, base)
    assert problems(pg_engine, base) == []


def test_events_of_which_none_is_kept_need_no_seal(
    note: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    write(pg_engine, note, range(1, 33))
    history.partitions(pg_engine, base)
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=60)
    report, _ = history.partitions(
        pg_engine, base, keep="1 month", now=later, keep_last_events=False
    )
    assert "drop public.note_event_p1" in report.done
    history.seal(pg_engine, base)
    assert problems(pg_engine, base) == []


def test_what_is_erased_is_erased_in_kept_events_too(
    note: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    write(pg_engine, note, range(1, 33))
    history.seal(pg_engine, base)
    history.partitions(pg_engine, base)
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=60)
    history.partitions(pg_engine, base, keep="1 month", now=later)
    with Session(pg_engine) as session:
        history.erase(session, note, 1, reason="asked to")
        session.commit()
    with pg_engine.connect() as connection:
        words = connection.scalars(
            text("SELECT words FROM note_event WHERE pgh_obj_id = 1")
        ).all()
    assert words == [None]
    assert problems(pg_engine, base) == []


TWICE = """
INSERT INTO note_event
SELECT (jsonb_populate_record(e, jsonb_build_object('pgh_id', pgh_id - :offset))).*
FROM note_event AS e WHERE id = 35
"""


def test_an_event_that_is_there_under_both_numbers_is_erased_once(
    note: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    write(pg_engine, note, range(1, 33))
    history.seal(pg_engine, base)
    history.partitions(pg_engine, base)
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=60)
    history.partitions(pg_engine, base, keep="1 month", now=later)
    write(pg_engine, note, range(33, 36))
    with pg_engine.begin() as connection:
        # As it is until the partition of an event that is kept has been dropped.
        connection.execute(text(TWICE), {"offset": KEPT_OFFSET})
    with Session(pg_engine) as session:
        assert history.erase(session, note, 35) == history.Erasure(2, 1, 0)
        session.commit()
        of_note = "SELECT pgh_id > 0, words FROM note_event WHERE id = 35 ORDER BY 1"
        found = session.execute(text(of_note)).all()
    assert found == [(False, None), (True, None)]


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_an_erasure_that_would_not_see_what_is_kept_meanwhile_is_refused(
    level: Any, note: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    write(pg_engine, note, range(1, 3))
    engine = pg_engine.execution_options(isolation_level=level)
    with Session(engine) as session, pytest.raises(ErasureError, match=f"is {level}, "):
        history.erase(session, note, 1)
    with Session(pg_engine) as session:
        assert history.erase(session, note, 1).events == 1
    # The command has a transaction of its own.
    database = Database([base.metadata], "sa-history {}", engine, ["base"], model=note)
    assert (
        erase_command(*(database, ["1"], [], None, None), dry_run=False, json=False)
        == 0
    )


def test_an_erasure_refuses_what_somebody_has_detached(
    note: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    write(pg_engine, note, range(1, 13))
    history.partitions(pg_engine, base)
    write(pg_engine, note, range(13, 33))
    report, _ = history.partitions(pg_engine, base)
    first = report.partitions[0]
    name, bounds = first.name.name, f"FROM ({first.lower}) TO ({first.upper})"

    def execute(statement: str) -> None:
        with pg_engine.begin() as connection:
            connection.execute(text(statement))

    execute(f"ALTER TABLE note_event DETACH PARTITION {name}")
    with Session(pg_engine) as session:
        with pytest.raises(ErasureError, match=rf"{name}, .*to be erased \(1\)"):
            history.erase(session, note, 3, dry_run=True)
        assert history.erase(session, note, 30).events == 1
        session.commit()
        # A removal drops what it has detached.
        execute(f"COMMENT ON TABLE {name} IS '{REMOVED}'")
        assert history.erase(session, note, 3).events == 0
        execute(f"COMMENT ON TABLE {name} IS 'somebody has detached it'")
        with pytest.raises(ErasureError, match="no partition of note_event any more"):
            history.erase(session, note, 3)
        execute(f"ALTER TABLE note_event ATTACH PARTITION {name} FOR VALUES {bounds}")
        assert history.erase(session, note, 3).events == 1
        session.commit()
    assert problems(pg_engine, base) == []


def test_an_erasure_refuses_contexts_that_somebody_has_detached(
    base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    @track(erasable_context=["ip"], partition_by=10)
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    base.metadata.create_all(pg_engine)
    with Session(pg_engine) as session:
        for number in (1, 2):
            with history.context(session, ip="10.0.0.1" if number == 1 else None):
                session.add(Note(id=number))
                session.commit()
        find = "SELECT inhrelid::regclass::text FROM pg_inherits"
        of_contexts = f"{find} WHERE inhparent = 'pghistory_context'::regclass"
        for name in session.scalars(text(of_contexts)).all():
            session.execute(
                text(f"ALTER TABLE pghistory_context DETACH PARTITION {name}")
            )
        session.commit()
        with pytest.raises(ErasureError, match="no partition of pghistory_context any"):
            history.erase(session, Note, 1)
        history.erase(session, Note, 2)


def test_events_that_were_kept_before_the_table_was_sealed_are_no_fault(
    base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    class Later(DeclarativeBase):
        metadata = MetaData()

    def model(of: Any, **options: Any) -> Any:
        @track(Snapshot, AfterDelete, partition_by=10, **options)
        class Note(of):  # type: ignore[misc]
            __tablename__ = "note"
            id: Mapped[int] = mapped_column(primary_key=True)
            words: Mapped[str | None]

        return Note

    def remove(of: Any) -> list[str]:
        history.partitions(pg_engine, of)
        report, *_ = history.partitions(pg_engine, of, keep="1 month", now=LATER)
        return [step for step in report.done if step.startswith("drop")]

    note = model(base)
    base.metadata.create_all(pg_engine)
    write(pg_engine, note, range(1, 33))
    assert remove(base)
    note = model(Later, sealed=True)
    Later.metadata.create_all(pg_engine)
    write(pg_engine, note, range(33, 66))
    history.seal(pg_engine, Later)
    assert problems(pg_engine, Later) == []
    assert remove(Later)
    assert problems(pg_engine, Later) == []
    with pg_engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE note_event SET words = 'other' WHERE pgh_id BETWEEN :a AND :b"
            ),
            {"a": 20 - KEPT_OFFSET, "b": 40 - KEPT_OFFSET},
        )
    (found,) = history.verify(pg_engine, Later).discrepancies
    assert (found.problem, found.ids) == (SealProblem.CHANGED, tuple(range(20, 41)))
