"""A model with partitions, its events, and the folder of an archive."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterDelete, Snapshot, track
from sa_history.archiving.manifest import Manifest

LATER = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=100)
"""A time at which the contexts of now are settled."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the archive, which is made by who writes it."""
    return tmp_path / "archive"


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
    """Write a number of events, each in a context of its own, and end partitions."""
    create_all()
    numbers = itertools.count(1)

    def run(count: int) -> None:
        for _ in range(count):
            number = next(numbers)
            with Session(pg_engine) as session, history.context(session, user=number):
                session.add(account(id=number))
                session.commit()
            if number % 10 == 5:  # ends the partition, and closes the one before
                history.partitions(pg_engine, base)

    return run


@pytest.fixture
def archive(pg_engine: Engine, base: type[DeclarativeBase], folder: Path) -> Any:
    """Archive, and return the reports by the names of tables."""

    def run(to: Path = folder, **options: Any) -> dict[str, history.ArchiveReport]:
        reports = history.archive(pg_engine, base, to=to, **options)
        return {report.table.partition(".")[2]: report for report in reports}

    return run


@pytest.fixture
def manifest(folder: Path) -> Any:
    """Read the manifest of a table."""

    def read(table: str = "account_event") -> Manifest:
        file = folder / f"public.{table}" / "_manifest.json"
        return Manifest.from_json(file.read_text(), str(file))

    return read


@pytest.fixture
def rows(pg_engine: Engine) -> Callable[..., list[str]]:
    """Return the rows of a table as PostgreSQL writes them."""

    def read(table: str = "account_event", where: str = "true") -> list[str]:
        query = f"SELECT t::text FROM {table} AS t WHERE {where} ORDER BY 1"
        with pg_engine.connect() as connection:
            return list(connection.scalars(text(query)))

    return read


@pytest.fixture
def files(folder: Path) -> Callable[[], list[str]]:
    """Return the files of the archive, by their paths."""

    def read() -> list[str]:
        found = (path for path in folder.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(folder)) for path in found)

    return read


@pytest.fixture
def person(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    """A model with sealed events, of which a partition has ten."""

    @track(
        Snapshot,
        AfterDelete,
        sealed=True,
        append_only=True,
        erasable=["name"],
        erasable_context=["ip"],
        partition_by=10,
    )
    class Person(base):  # type: ignore[misc, valid-type]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str | None]
        rate: Mapped[float] = mapped_column(default=0.1)

    create_all()
    return Person


@pytest.fixture
def sealed(person: Any, base: Any, pg_engine: Engine) -> Any:
    """Events 1 to 33 of persons 1 to 11, sealed, with the digest."""
    for number in range(33):
        with (
            Session(pg_engine) as session,
            history.context(session, user=number, ip=f"10.0.0.{number}"),
        ):
            session.merge(person(id=number % 11 + 1, name=f"name {number}"))
            session.commit()
        if number % 10 == 5:
            history.partitions(pg_engine, base)
        if number == 19:
            history.seal(pg_engine, base)
    return history.seal(pg_engine, base)
