"""Writers in each other's way: deadlocks, serialization failures, and their retries."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from psycopg import errors
from sqlalchemy import URL, Engine, create_engine, event, func, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

import sa_history as history

Story = Callable[[], list[tuple[str, int, int, Any]]]


@pytest.fixture
def waiting(pg_url: URL) -> Iterator[Callable[..., Engine]]:
    """Return an engine whose sessions look for a deadlock after waiting so long."""
    engines = []

    def make(milliseconds: int, **options: Any) -> Engine:
        engine = create_engine(pg_url, **options)
        engines.append(engine)

        @event.listens_for(engine, "connect")
        def set_timeout(connection: Any, _: Any) -> None:
            connection.execute(f"SET deadlock_timeout = {milliseconds}")
            connection.commit()

        return engine

    yield make
    for engine in engines:
        engine.dispose()


def add(session: Session, account: Any, key: int, amount: int) -> None:
    statement = update(account.__table__).where(account.id == key)
    session.execute(statement.values(balance=account.balance + amount))


def test_of_writers_in_a_deadlock_one_is_recorded_and_the_other_can_try_again(
    waiting: Callable[..., Engine],
    account: Any,
    story: Story,
    blocked: Callable[[], int],
) -> None:
    patient, hasty = waiting(60_000), waiting(10)
    with (
        ThreadPoolExecutor(1) as thread,
        Session(patient) as winner,
        Session(hasty) as loser,
    ):
        with history.context(winner, user="first"):
            winner.add_all(account(id=key, balance=0) for key in (1, 2))
            winner.commit()
        with history.context(loser, user="loser"):
            with history.context(winner, user="winner"):
                add(winner, account, 1, 10)
                add(loser, account, 2, 200)
                second = thread.submit(add, winner, account, 2, 20)
                blocked()
                with pytest.raises(OperationalError) as caught:
                    add(loser, account, 1, 100)
                assert isinstance(caught.value.orig, errors.DeadlockDetected)
                loser.rollback()
                second.result(20)
                winner.commit()
            add(loser, account, 2, 200)
            with history.context(loser, attempt=2):
                add(loser, account, 1, 100)
            loser.commit()
        for session in (loser, winner):
            add(session, account, 1, 1)
            session.commit()
    assert story() == [
        ("I", 1, 0, {"user": "first"}),
        ("I", 2, 0, {"user": "first"}),
        ("U", 1, 10, {"user": "winner"}),
        ("U", 2, 20, {"user": "winner"}),
        ("U", 2, 220, {"user": "loser"}),
        ("U", 1, 110, {"user": "loser", "attempt": 2}),
        ("U", 1, 111, None),
        ("U", 1, 112, None),
    ]


@pytest.mark.parametrize(
    ("isolation_level", "conflict"),
    [
        ("READ COMMITTED", errors.DeadlockDetected),
        ("SERIALIZABLE", errors.SerializationFailure),
    ],
    ids=["read committed", "serializable"],
)
def test_writers_that_try_again_are_recorded_once_each_and_as_themselves(
    isolation_level: Any,
    conflict: type[Exception],
    waiting: Callable[..., Engine],
    account: Any,
    story: Story,
) -> None:
    """Each moves money from some accounts to others, in any order."""
    writers, transfers = 4, 5
    engine = waiting(5, isolation_level=isolation_level)
    with Session(engine) as session:
        session.add_all(account(id=key, balance=100) for key in range(writers))
        session.commit()
    in_a_ring = Barrier(writers)
    conflicts = set()

    def work(writer: int) -> dict[Any, Counter[Any]]:
        luck, done = random.Random(writer), {}
        for number in range(transfers):
            attempt, found = 0, {}
            while not found:
                attempt += 1
                keys = luck.sample(range(writers), 2)
                if (number, attempt) == (0, 1):
                    keys = [writer, (writer + 1) % writers]
                try:
                    found = transfer(writer, number, attempt, keys)
                except OperationalError as error:
                    conflicts.add(type(error.orig))
            done |= found
        return done

    def transfer(
        writer: int, number: int, attempt: int, keys: list[int]
    ) -> dict[Any, Counter[Any]]:
        with (
            Session(engine) as session,
            history.context(session, user=writer, transfer=number),
            history.context(session, attempt=attempt),
        ):
            add(session, account, keys[0], 1)
            if (number, attempt) == (0, 1):
                in_a_ring.wait(20)
            session.get_one(account, keys[1], with_for_update=True).balance -= 1
            session.flush()
            total = session.scalar(select(func.sum(account.balance)))
            session.commit()
        assert total == 100 * writers
        return {(writer, number, attempt): Counter(keys)}

    with ThreadPoolExecutor(writers) as threads:
        done = list(threads.map(work, range(writers)))
    assert conflict in conflicts
    assert conflicts <= {errors.DeadlockDetected, errors.SerializationFailure}
    recorded: dict[Any, Counter[Any]] = defaultdict(Counter)
    for op, key, _, told in story()[writers:]:
        assert op == "U"
        recorded[told["user"], told["transfer"], told["attempt"]][key] += 1
    assert recorded == {author: keys for each in done for author, keys in each.items()}
    assert sum(map(len, done)) == writers * transfers
