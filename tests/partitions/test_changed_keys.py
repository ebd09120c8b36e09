"""Statements of the past look for changed keys only where there are any."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event, select, text
from sqlalchemy.orm import Session

import sa_history as history


@pytest.fixture
def looked(pg_engine: Engine) -> Iterator[list[bool]]:
    """Whether each statement that reads accounts has looked for changed keys."""
    found: list[bool] = []

    def look(_: Any, __: Any, statement: str, *___: Any) -> None:
        if "AS account" in statement:
            found.append("pgh_moved" in statement)

    event.listen(pg_engine, "before_cursor_execute", look)
    yield found
    event.remove(pg_engine, "before_cursor_execute", look)


def change_a_key(engine: Engine, account: Any) -> None:
    with Session(engine) as session:
        session.get_one(account, 1).id = 50
        session.commit()


def now(engine: Engine) -> Any:
    with engine.connect() as connection:
        return connection.scalar(text("SELECT clock_timestamp()"))


def test_they_look_once_if_no_key_has_changed(
    write: Any, account: Any, pg_engine: Engine, looked: list[bool]
) -> None:
    write(12)
    history.partitions(pg_engine, account)
    with history.as_of(pg_engine, now(pg_engine)) as past:
        assert past.get_one(account, 1).id == 1
        assert past.get(account, 50) is None
        assert len(past.scalars(select(account)).all()) == 12
    assert looked == [True, False, False]


def test_they_look_always_if_a_key_has_changed(
    write: Any, account: Any, pg_engine: Engine, looked: list[bool]
) -> None:
    write(3)
    before = now(pg_engine)
    change_a_key(pg_engine, account)
    for when, ids in ((before, [1, 2, 3]), (now(pg_engine), [2, 3, 50])):
        looked.clear()
        with history.as_of(pg_engine, when) as past:
            for _ in range(2):
                rows = past.scalars(select(account.id).order_by(account.id)).all()
                assert rows == ids
        assert looked == [True, True]


def test_what_is_known_is_known_in_one_transaction_only(
    write: Any, account: Any, pg_engine: Engine, looked: list[bool]
) -> None:
    write(3)
    with pg_engine.connect() as connection:
        later = connection.scalar(text("SELECT now() + interval '1 hour'"))
    ids = select(account.id).order_by(account.id)
    with history.as_of(pg_engine, later) as past:
        assert [past.scalars(ids).all() for _ in range(2)] == [[1, 2, 3]] * 2
        change_a_key(pg_engine, account)
        # The snapshot is from before.
        assert past.scalars(ids).all() == [1, 2, 3]
        past.rollback()
        assert [past.scalars(ids).all() for _ in range(2)] == [[2, 3, 50]] * 2
    assert looked == [True, False, False, True, True]
