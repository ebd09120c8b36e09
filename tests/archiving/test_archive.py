"""Closed partitions become files of Parquet that hold what the table holds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterDelete, Snapshot, track
from sa_history.archiving.manifest import Manifest


@pytest.fixture
def account(base: type[DeclarativeBase]) -> Any:
    """A tracked class that gets a partition every ten events."""

    @track(Snapshot, AfterDelete, append_only=True, partition_by=10)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int] = mapped_column(default=0)

    return Account


@pytest.fixture
def write(
    account: Any,
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_engine: Engine,
) -> Any:
    """Write a number of events, in contexts, and end partitions as it goes."""
    create_all()
    numbers = itertools.count(1)

    def run(count: int) -> None:
        for _ in range(count):
            number = next(numbers)
            with Session(pg_engine) as session, history.context(session, user=number):
                session.add(account(id=number))
                session.commit()
            if number % 5 == 0:
                history.partitions(pg_engine, base)

    return run


def test_closed_partitions_are_archived_and_open_ones_are_not(
    pg_engine: Engine, base: Any, write: Any, folder: Path
) -> None:
    write(25)
    reports = history.archive(pg_engine, base, to=folder)
    events = next(r for r in reports if r.table == "public.account_event")
    assert [part.path for part in events.archived] == [
        "pgh_part=1/events.parquet",
        "pgh_part=11/events.parquet",
    ]
    manifest = Manifest.from_json(
        (folder / "public.account_event" / "_manifest.json").read_text(), "it"
    )
    assert manifest.parts == events.archived
    table = parquet.read_table(
        folder / "public.account_event" / events.archived[0].path
    )
    assert table.column("pgh_id").to_pylist() == list(range(1, 11))
