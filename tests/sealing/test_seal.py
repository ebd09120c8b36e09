"""What is sealed, and when: committed events, by the transactions that are open."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Connection,
    Engine,
    MetaData,
    create_engine,
    event,
    func,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import SealDigest, seal, track, verify
from sa_history.exc import SealError
from sa_history.sealing.chain import write_digest
from sa_history.sealing.sources import canonical_settings

Base = type[DeclarativeBase]


@pytest.fixture
def open_writer(person: Any, pg_engine: Engine) -> Iterator[Connection]:
    """A transaction that has written an event, and after it another one committed."""
    with pg_engine.connect() as connection:
        connection.execute(text("INSERT INTO person VALUES (1, 'open', NULL, 0)"))
        with pg_engine.begin() as other:
            other.execute(text("INSERT INTO person VALUES (2, 'done', NULL, 0)"))
        yield connection


def sealed_events(engine: Engine, base: Base) -> int:
    return verify(engine, base).events


def test_events_of_a_table_with_an_open_writer_are_left_to_the_next_call(
    base: Base, open_writer: Connection, pg_engine: Engine
) -> None:
    seal(pg_engine, base, timeout=20)
    assert sealed_events(pg_engine, base) == 0
    open_writer.commit()
    seal(pg_engine, base, timeout=20)
    assert sealed_events(pg_engine, base) == 2
    assert verify(pg_engine, base).discrepancies == ()


def test_a_writer_that_rolls_back_leaves_a_gap_that_is_no_fault(
    base: Base, open_writer: Connection, pg_engine: Engine
) -> None:
    open_writer.rollback()
    seal(pg_engine, base)
    assert sealed_events(pg_engine, base) == 1
    assert verify(pg_engine, base).discrepancies == ()


def test_sealing_waits_for_the_transactions_that_are_open(
    base: Base, open_writer: Connection, pg_engine: Engine
) -> None:
    timer = threading.Timer(0.3, open_writer.commit)
    timer.start()
    seal(pg_engine, base, timeout=60_000)
    timer.join()
    assert sealed_events(pg_engine, base) == 2


def test_a_transaction_that_is_prepared_is_open(
    base: Base, open_writer: Connection, pg_engine: Engine
) -> None:
    open_writer.execute(text("PREPARE TRANSACTION 'two'"))
    seal(pg_engine, base, timeout=20)
    assert sealed_events(pg_engine, base) == 0
    with pg_engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text("COMMIT PREPARED 'two'"))
    seal(pg_engine, base, timeout=20)
    assert sealed_events(pg_engine, base) == 2


def test_who_writes_other_tables_is_not_waited_for(
    base: Base, person: Any, pg_engine: Engine
) -> None:
    with pg_engine.connect() as other:
        other.execute(text("CREATE TABLE elsewhere AS SELECT pg_current_xact_id()"))
        with pg_engine.begin() as connection:
            connection.execute(text("INSERT INTO person VALUES (2, 'x', NULL, 0)"))
        seal(pg_engine, base, timeout=20)
        assert sealed_events(pg_engine, base) == 1


def test_a_connection_that_has_written_events_is_refused(
    base: Base, person: Any, pg_engine: Engine
) -> None:
    with pg_engine.connect() as connection:
        connection.execute(text("INSERT INTO person VALUES (1, 'x', NULL, 0)"))
        with pytest.raises(SealError, match="has written person_event and not"):
            seal(connection, base)


def test_a_connection_in_read_uncommitted_seals_as_postgresql_reads_there(
    base: Base, some_events: list[int], pg_engine: Engine
) -> None:
    uncommitted = pg_engine.execution_options(isolation_level="READ UNCOMMITTED")
    with uncommitted.begin() as connection:
        seal(connection, base)
    assert verify(pg_engine, base).events == len(some_events)


@pytest.mark.parametrize(
    ("level", "message"),
    [
        ("REPEATABLE READ", "is REPEATABLE READ, and so does not see"),
        ("AUTOCOMMIT", "the connection is in AUTOCOMMIT"),
    ],
)
def test_a_connection_on_which_seals_would_be_wrong_is_refused(
    base: Base, some_events: list[int], pg_engine: Engine, level: Any, message: str
) -> None:
    with pg_engine.connect() as connection:
        connection.execution_options(isolation_level=level)
        with pytest.raises(SealError, match=message):
            seal(connection, base)


def test_a_connection_seals_within_its_transaction(
    base: Base, some_events: list[int], pg_engine: Engine
) -> None:
    with pg_engine.connect() as connection:
        seal(connection, base)
        assert verify(connection, base).events == 12
    assert sealed_events(pg_engine, base) == 0


async def _of_async(engine: AsyncEngine, base: Base) -> int:
    async with engine.begin() as connection:
        await connection.run_sync(seal, base)
        found = await connection.run_sync(verify, base)
    await engine.dispose()
    return found.events


def test_an_async_connection_seals_by_run_sync(
    base: Base, some_events: list[int], pg_async_engine: AsyncEngine
) -> None:
    assert asyncio.run(_of_async(pg_async_engine, base)) == 12


def test_models_without_seals_are_refused(
    base: Base, person: Any, pg_engine: Engine
) -> None:
    for models in (MetaData(), history):
        with pytest.raises(SealError):
            seal(pg_engine, models)  # type: ignore[arg-type]
    with pytest.raises(SealError, match="a batch has 1000 events at least"):
        seal(pg_engine, base, batch=999)

    class Erasable(DeclarativeBase):
        metadata = MetaData()

    @track(erasable=["name"])
    class Thing(Erasable):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    with pytest.raises(SealError, match="no model of this MetaData .* is sealed"):
        seal(pg_engine, Erasable)
    with pg_engine.begin() as connection:
        connection.execute(text("DROP TABLE pghistory_erased"))
    with pytest.raises(SealError, match="has no table pghistory_erased; run the"):
        seal(pg_engine, base)


def test_the_digest_goes_to_an_anchor_and_progress_is_told(
    base: Base, some_events: list[int], pg_engine: Engine
) -> None:
    kept: list[SealDigest] = []
    told: list[int] = []
    digest = seal(pg_engine, base, anchor=kept.append, progress=told.append)
    assert (kept, told) == ([digest], [12])
    assert seal(pg_engine, base, progress=told.append) == digest
    assert told == [12]


def test_many_events_are_sealed_in_ranges_and_batches(
    base: Base, person: Any, pg_engine: Engine
) -> None:
    fill = text(
        "INSERT INTO person SELECT i, 'x', NULL, 0 FROM generate_series(1,:n) i"
    )
    with pg_engine.begin() as connection:
        connection.execute(fill, {"n": 3_500})
    seal(pg_engine, base, batch=2_000)
    with pg_engine.connect() as connection:
        ranges = connection.execute(
            text("SELECT seal_id, first_id, last_id, events FROM pghistory_seal_range")
        ).all()
    assert sorted(map(tuple, ranges)) == [
        (1, 1, 1000, 1000),
        (1, 1001, 2000, 1000),
        (2, 2001, 3000, 1000),
        (2, 3001, 3500, 500),
    ]
    assert verify(pg_engine, base).discrepancies == ()


def test_no_time_is_spent_to_compress_what_a_seal_keeps_of_events(
    base: Base, person: Any, pg_engine: Engine
) -> None:
    fill = "INSERT INTO person SELECT i, 'x', NULL, 0 FROM generate_series(1, 1000) i"
    with Session(pg_engine) as session, history.context(session, user=1):
        session.execute(text(fill))
        session.commit()
    seal(pg_engine, base)
    with pg_engine.connect() as connection:
        size, compression = connection.execute(
            text(
                "SELECT length(marks), pg_column_compression(marks)"
                " FROM pghistory_seal_range WHERE first_id = 1"
            )
        ).one()
    assert (size, compression) == (10_000, None)


class _Stop(Exception):
    """An interruption."""


@pytest.fixture
def interrupted(pg_engine: Engine) -> Callable[[Callable[[], object]], int]:
    """Run something again and again, stopped before each of its statements."""

    def run(work: Callable[[], object]) -> int:
        steps = 0
        while True:
            left = steps

            def stop(*_: Any) -> None:
                nonlocal left
                if left == 0:
                    raise _Stop
                left -= 1

            event.listen(pg_engine, "before_cursor_execute", stop)
            try:
                work()
            except _Stop:
                steps += 1
            else:
                return steps
            finally:
                event.remove(pg_engine, "before_cursor_execute", stop)

    return run


def test_sealing_goes_on_after_any_interruption(
    base: Base,
    some_events: list[int],
    pg_engine: Engine,
    interrupted: Callable[[Callable[[], object]], int],
) -> None:
    assert interrupted(lambda: seal(pg_engine, base)) > 10
    found = verify(pg_engine, base)
    assert (found.discrepancies, found.events) == ((), 12)


def test_an_erasure_is_whole_or_not_at_all(
    base: Base,
    person: Any,
    some_events: list[int],
    pg_engine: Engine,
    interrupted: Callable[[Callable[[], object]], int],
) -> None:
    seal(pg_engine, base)

    unwatched = create_engine(pg_engine.url)

    def names() -> set[str | None]:
        with unwatched.connect() as connection:
            rows = text("SELECT name FROM person_event WHERE pgh_obj_id = 2")
            return set(connection.scalars(rows))

    def erase_or_nothing() -> None:
        try:
            with Session(pg_engine) as session:
                history.erase(session, person, 2)
                session.commit()
        except _Stop:
            assert names() == {"Name2"}
            raise
        assert names() == {None}

    assert interrupted(erase_or_nothing) > 10
    unwatched.dispose()
    assert verify(pg_engine, base).discrepancies == ()


def test_the_digest_is_written_whole(
    base: Base, some_events: list[int], pg_engine: Engine, tmp_path: Path
) -> None:
    path = tmp_path / "digest.json"
    digest = seal(pg_engine, base)
    write_digest(path, digest)
    assert SealDigest.from_json(path.read_text()) == digest
    assert list(tmp_path.iterdir()) == [path]


def test_many_events_and_contexts_are_sealed_as_few_are(
    base: Any, pg_engine: Engine, some_events: list[int], monkeypatch: Any
) -> None:
    """By other plans, and with the contexts that are used in a table of their own."""
    monkeypatch.setattr("sa_history.sealing.sources._MANY", 3)
    monkeypatch.setattr("sa_history.sealing.leaves._FEW", 1)
    history.seal(pg_engine, base)
    monkeypatch.undo()
    assert history.verify(pg_engine, base).discrepancies == ()


@pytest.mark.parametrize("many_times", [-1, 1_000_000])
def test_salts_are_found_one_by_one_or_all_at_once(
    base: Any,
    person: Any,
    pg_engine: Engine,
    some_events: list[int],
    monkeypatch: Any,
    many_times: int,
) -> None:
    monkeypatch.setattr("sa_history.sealing.sources._MANY_TIMES", many_times)
    history.seal(pg_engine, base)
    with Session(pg_engine) as session:
        session.get_one(person, 2).points = 7
        session.add(person(id=4, name="Name4"))
        session.commit()
    history.seal(pg_engine, base)
    with pg_engine.connect() as connection:
        salts = connection.scalars(text("SELECT salt FROM pghistory_salt")).all()
    assert len({bytes(salt) for salt in salts}) == 7  # four persons, three contexts
    assert history.verify(pg_engine, base).discrepancies == ()
    monkeypatch.undo()
    assert history.verify(pg_engine, base).discrepancies == ()


@pytest.mark.parametrize("has_events_of_rows", [True, False])
def test_objects_whose_first_events_are_gone_have_salts(
    base: Any,
    pg_engine: Engine,
    some_events: list[int],
    monkeypatch: Any,
    has_events_of_rows: bool,
) -> None:
    """A long run of seals looks for others only if there is one without a salt."""
    monkeypatch.setattr("sa_history.sealing.seal.RANGE", 3)
    if not has_events_of_rows:
        with pg_engine.begin() as connection:
            connection.execute(text("DELETE FROM person_event WHERE pgh_op = 'I'"))
    history.seal(pg_engine, base, batch=3)
    keys = "SELECT key FROM pghistory_salt WHERE table_name = 'person_event' ORDER BY 1"
    with pg_engine.connect() as connection:
        assert [*connection.scalars(text(keys))] == ["1", "2", "3"]
        events = text("SELECT sum(events), count(*) FROM pghistory_seal")
        number = 12 if has_events_of_rows else 9
        assert connection.execute(events).one() == (number, number // 3)
    assert history.verify(pg_engine, base).discrepancies == ()


@pytest.mark.usefixtures("some_events")
def test_a_role_that_may_write_seals_and_owns_nothing_seals(
    base: Any, pg_engine: Engine, monkeypatch: Any
) -> None:
    """It may not analyze the salts, which makes no difference but for the time."""
    has_grown = text("SELECT true OR CAST(:relation AS text) IS NULL")
    monkeypatch.setattr("sa_history.sealing.sources._HAS_GROWN", has_grown)
    role = f"sealer_{pg_engine.url.database}"
    with pg_engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {role}"))
        for grant in (
            "SELECT ON ALL TABLES IN SCHEMA public",
            "SELECT ON ALL SEQUENCES IN SCHEMA public",
            "INSERT ON pghistory_salt, pghistory_seal, pghistory_seal_range",
            "UPDATE ON pghistory_seal",
        ):
            connection.execute(text(f"GRANT {grant} TO {role}"))
    try:
        with pg_engine.begin() as connection:
            connection.execute(text(f"SET ROLE {role}"))
            assert history.seal(connection, base).chains["pghistory_seal"].number == 1
            connection.execute(text("RESET ROLE"))
        assert history.verify(pg_engine, base).discrepancies == ()
    finally:
        with pg_engine.begin() as connection:
            connection.execute(text(f"DROP OWNED BY {role}"))
            connection.execute(text(f"DROP ROLE {role}"))


def test_each_of_many_batches_has_a_plan_of_its_own(
    base: Any, person: Any, pg_engine: Engine
) -> None:
    """One for any batch takes half as much time again; it would be the eleventh's."""
    with pg_engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO person SELECT i, 'Name', NULL, 0"
                " FROM generate_series(1, 12000) AS i"
            )
        )
    general = text(
        "SELECT sum(generic_plans) FROM pg_prepared_statements"
        " WHERE statement LIKE '%each_event%' AND NOT statement LIKE '%general%'"
    )
    with pg_engine.connect() as connection:
        history.seal(connection, base, batch=1_000)
        assert connection.scalar(general) == 0
        connection.commit()
        # And PostgreSQL knows of the salts, by which it chooses a plan.
        known = text("SELECT reltuples FROM pg_class WHERE relname = 'pghistory_salt'")
        assert connection.scalar(known) > 9_000
    assert history.verify(pg_engine, base).discrepancies == ()


@pytest.mark.usefixtures("some_events")
def test_ranges_that_the_events_fill_end_with_the_seal(
    base: Any, pg_engine: Engine, monkeypatch: Any
) -> None:
    monkeypatch.setattr("sa_history.sealing.seal.RANGE", 4)
    history.seal(pg_engine, base)
    query = "SELECT events FROM pghistory_seal_range ORDER BY seal_id, first_id"
    with pg_engine.connect() as connection:
        assert [*connection.scalars(text(query))] == [4, 4, 4]
    assert history.verify(pg_engine, base).discrepancies == ()


def test_digests_of_a_million_events_are_sorted_in_memory(pg_engine: Engine) -> None:
    """A very large seal takes no more, and the server's settings may give more."""
    with pg_engine.connect() as connection:
        for events, memory in ((5_001, 64), (1_000_000, 143), (50_000_000, 143)):
            with canonical_settings(connection, events):
                size = select(func.pg_size_bytes(func.current_setting("work_mem")))
                assert (connection.scalar(size) or 0) >> 20 == memory
        connection.execute(text("SET LOCAL maintenance_work_mem = '1GB'"))
        with canonical_settings(connection, 1_000_000):
            assert connection.scalar(text("SHOW work_mem")) == "1GB"


def test_the_columns_of_a_table_are_read_when_its_events_are_sealed(
    base: Base, some_events: list[int], pg_engine: Engine
) -> None:
    asked: list[str] = []
    event.listen(
        pg_engine, "before_cursor_execute", lambda *args: asked.append(args[2])
    )
    seal(pg_engine, base)
    assert len([statement for statement in asked if "pg_attribute" in statement]) == 2
    asked.clear()
    seal(pg_engine, base)  # of nothing
    assert len([statement for statement in asked if "pg_attribute" in statement]) == 1
