"""A model whose event table is partitioned, and what its database has of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import AfterDelete, Snapshot, track
from sa_history.ddl.partitions import RangePartition, read_range_partitions
from sa_history.sql.compose import Qualified


@pytest.fixture
def account(base: type[DeclarativeBase], level: str) -> Any:
    """A tracked class, at both levels, that gets a partition every ten events."""

    @track(Snapshot, AfterDelete, level=level, append_only=True, partition_by=10)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int] = mapped_column(default=0)

    return Account


@pytest.fixture
def write(account: Any, create_all: Callable[[], None], pg_engine: Engine) -> Any:
    """Write a number of events, each in a transaction of its own."""
    create_all()
    numbers = itertools.count(1)

    def run(count: int) -> None:
        for _ in range(count):
            with Session(pg_engine) as session:
                session.add(account(id=next(numbers)))
                session.commit()

    return run


@pytest.fixture
def partitions(pg_engine: Engine) -> Any:
    """Return the partitions of the event table."""

    def read(name: str = "account_event") -> list[RangePartition]:
        with pg_engine.connect() as connection:
            return read_range_partitions(connection, ["public"])[
                Qualified("public", name)
            ]

    return read


@pytest.fixture
def bounds(partitions: Any) -> Any:
    """Return the bounds of the partitions."""

    def read(name: str = "account_event") -> list[tuple[int | None, int | None]]:
        return [(p.lower, p.upper) for p in partitions(name)]

    return read


@pytest.fixture
def run(pg_engine: Engine) -> Callable[..., None]:
    """Run statements as somebody with psql would."""

    def execute(*statements: str) -> None:
        with pg_engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    return execute


@contextmanager
def before(
    engine: Engine, statement_with: str, act: Callable[[], Any]
) -> Iterator[None]:
    """Do something once, before the first statement that has some text in it."""
    is_done: list[bool] = []

    def look(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement_with in statement and not is_done:
            is_done.append(True)
            act()

    event.listen(engine, "before_cursor_execute", look)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", look)
    assert is_done
