"""A dump of a database with its history, and what a restored one goes on with.

On servers of our own, since the programs may be of another version than ``pg_server``.
"""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    CHAR,
    URL,
    DateTime,
    Engine,
    NullPool,
    Numeric,
    create_engine,
    text,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import (
    AfterDelete,
    AfterUpdate,
    AnyChange,
    Protect,
    ReadOnly,
    Snapshot,
    Touch,
    Update,
    Versioned,
    attach,
    track,
)
from sa_history.install import check
from sa_history.testing import PgServer
from sa_history.testing.binaries import find_bindir
from tests.replication.helpers import everything


@pytest.fixture
def account(base: type[DeclarativeBase], level: str, pair: Any) -> Iterator[Any]:
    """A tracked model, whose tables are in a database."""

    @track(Snapshot, AfterDelete, level=level, append_only=True)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int]

    base.metadata.create_all(pair.subscriber)
    yield Account
    base.registry.dispose()


def write(engine: Engine, account: Any) -> None:
    """Make three accounts, change them, and delete one."""
    with Session(engine) as session, history.context(session, user=7):
        session.add_all([account(id=n, balance=n) for n in (1, 2, 3)])
        session.commit()
        session.execute(update(account).values(balance=account.balance + 10))
        session.delete(session.get_one(account, 1))
        session.commit()


ALWAYS = "ALTER TABLE account ENABLE ALWAYS TRIGGER account_event_truncate"


@pytest.fixture
def lived(account: Any, pair: Any) -> Engine:
    """A database in which something has happened, with a trigger that fires always."""
    engine: Engine = pair.subscriber
    write(engine, account)
    with engine.begin() as connection:
        connection.execute(text(ALWAYS))
    return engine


@pytest.fixture
def other(servers: tuple[PgServer, PgServer]) -> Iterator[Engine]:
    """Another database there, which is empty."""
    name = f"other_{uuid.uuid4().hex[:8]}"
    yield create_engine(servers[1].create_database(name), poolclass=NullPool)
    servers[1].drop_database(name)


@pytest.fixture
def dumped(lived: Engine, tmp_path: Path) -> Path:
    """A dump of the database, in pg_dump's own format."""
    return dump_of(lived, tmp_path)


def pg(
    program: str, url: URL, *arguments: str, input: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program of PostgreSQL's on a database."""
    name = url.set(drivername="postgresql").render_as_string(hide_password=False)
    command = [str(find_bindir() / program), f"--dbname={name}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, input=input)


def dump_of(engine: Engine, directory: Path) -> Path:
    """Dump a database."""
    file = directory / "dump"
    done = pg("pg_dump", engine.url, "--format=custom", f"--file={file}")
    assert (done.returncode, done.stderr) == (0, "")
    return file


def goes_on(engine: Engine, account: Any, id_: int = 9) -> bool:
    """Write, and tell if the event has the next number, and its context."""
    newest = (
        account.events.select().order_by(None).order_by(account.events.pgh_id.desc())
    )
    with Session(engine) as session:
        last = session.scalars(newest).first()
        with history.context(session, user=8):
            session.add(account(id=id_, balance=9))
            session.commit()
        event, *_ = session.scalars(newest)
        assert (event.id, event.pgh_context.metadata) == (id_, {"user": 8})
        return event.pgh_id == last.pgh_id + 1


STATES = """
SELECT tgname, tgenabled::text FROM pg_trigger
WHERE NOT tgisinternal AND tgenabled <> 'O'
"""


def test_a_restored_database_has_it_all_and_goes_on(
    account: Any, lived: Engine, dumped: Path, other: Engine
) -> None:
    done = pg("pg_restore", other.url, "--jobs=2", str(dumped))
    assert (done.returncode, done.stderr) == (0, "")

    assert check(other, account) == []
    assert everything(other, account) == everything(lived, account)
    with other.connect() as connection:
        states = connection.execute(text(STATES)).all()
    assert states == [("account_event_truncate", "A")]
    assert goes_on(other, account)


@pytest.mark.parametrize("level", ["row"])
def test_conditions_over_values_of_any_type_are_restored(
    base: type[DeclarativeBase], level: str, pair: Any, other: Engine, tmp_path: Path
) -> None:
    """Equal values of some types are not the same, as 1.5 and 1.50."""

    @track(
        AfterUpdate(AnyChange("price"), label="price"),
        AfterUpdate(AnyChange("weight") | AnyChange("sizes"), label="shape"),
        Snapshot,
        level=level,
    )
    @attach(
        Protect(Update, condition=AnyChange("weight"), level=level),
        ReadOnly("code", "price", level=level),
        Touch("touched", condition=AnyChange("price")),
        Versioned("version"),
    )
    class Product(base):  # type: ignore[misc, valid-type]
        __tablename__ = "product"
        id: Mapped[int] = mapped_column(primary_key=True)
        price: Mapped[Decimal]
        weight: Mapped[float]
        code: Mapped[str] = mapped_column(CHAR(3))
        sizes: Mapped[list[Decimal]] = mapped_column(ARRAY(Numeric))
        touched: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
        version: Mapped[int]

    base.metadata.create_all(pair.subscriber)
    done = pg("pg_restore", other.url, str(dump_of(pair.subscriber, tmp_path)))
    assert (done.returncode, done.stderr) == (0, "")
    assert check(other, base) == []


def test_data_is_restored_without_a_second_event_where_triggers_are_disabled(
    account: Any, lived: Engine, dumped: Path, other: Engine
) -> None:
    account.metadata.create_all(other)
    with other.begin() as connection:
        connection.execute(text(ALWAYS))

    data = ("--data-only", "--disable-triggers", str(dumped))
    done = pg("pg_restore", other.url, *data)

    assert (done.returncode, done.stderr) == (0, "")
    assert everything(other, account) == everything(lived, account)
    assert check(other, account) == []
    # PostgreSQL enables all of them as ordinary ones.
    with other.connect() as connection:
        assert connection.execute(text(STATES)).all() == []
    assert goes_on(other, account)


def test_data_is_not_restored_where_triggers_would_record_it_again(
    account: Any, dumped: Path, other: Engine
) -> None:
    account.metadata.create_all(other)
    data = ("--data-only", "--single-transaction", str(dumped))
    done = pg("pg_restore", other.url, *data)
    assert done.returncode == 1
    assert "account_event_pkey" in done.stderr
    assert everything(other, account) == []


@pytest.mark.parametrize("level", ["statement"])
def test_a_feed_goes_on_where_the_numbers_of_transactions_do(
    account: Any,
    lived: Engine,
    dumped: Path,
    other: Engine,
    pair: Any,
    tmp_path: Path,
) -> None:
    """They are the server's own; another server's are greater than the first's."""
    later = pair.publisher
    assert pg("pg_restore", later.url, str(dumped)).returncode == 0
    assert goes_on(later, account, id_=8)
    assert fed(later, account) == [1, 2, 3, 1, 2, 3, 1, 8]

    # Back on the first server, what the other has added is in its future.
    assert pg("pg_restore", other.url, str(dump_of(later, tmp_path))).returncode == 0
    assert goes_on(other, account, id_=9)
    with other.connect() as connection:
        assert len(connection.execute(account.events.select()).all()) == 9
    assert fed(other, account) == [1, 2, 3, 1, 2, 3, 1, 9]


def fed(engine: Engine, account: Any) -> list[int]:
    """Return the keys of the events that the feed gives."""
    with Session(engine) as session:
        rows = session.execute(history.feed(account)).all()
    return [row.pgh_data["id"] for row in rows]


@pytest.fixture
def sealed(base: type[DeclarativeBase], pair: Any) -> Iterator[Any]:
    """A sealed model with three objects, one of them erased, in a database."""

    @track(Snapshot, AfterDelete, sealed=True, erasable=["name"])
    class Person(base):  # type: ignore[misc, valid-type]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    base.metadata.create_all(pair.subscriber)
    with Session(pair.subscriber) as session:
        session.add_all([Person(id=n, name=f"Name{n}") for n in (1, 2, 3)])
        session.commit()
        history.seal(pair.subscriber, base)
        session.delete(session.get_one(Person, 2))
        history.erase(session, Person, 2)
        session.commit()
    yield Person
    base.registry.dispose()


def test_a_restored_database_is_verified_by_the_digest_of_before_and_goes_on(
    sealed: Any, pair: Any, other: Engine, tmp_path: Path
) -> None:
    digest = history.seal(pair.subscriber, sealed)
    dumped = dump_of(pair.subscriber, tmp_path)
    assert b"Name2" not in pg_restored_text(dumped)
    done = pg("pg_restore", other.url, str(dumped))
    assert (done.returncode, done.stderr) == (0, "")
    assert history.verify(other, sealed, digest=digest).discrepancies == ()

    with Session(other) as session:
        session.add(sealed(id=9, name="new"))
        session.commit()
    history.seal(other, sealed)
    found = history.verify(other, sealed, digest=digest)
    assert (found.discrepancies, found.events) == ((), 6)
    with other.begin() as connection:
        connection.execute(text("UPDATE person_event SET name = 'x' WHERE id = 1"))
    (changed,) = history.verify(other, sealed).discrepancies
    assert (changed.problem, changed.ids) == ("changed", (1,))


def pg_restored_text(dumped: Path) -> bytes:
    """What a dump has, as SQL."""
    command = [str(find_bindir() / "pg_restore"), "--file=-", str(dumped)]
    return subprocess.run(command, capture_output=True, check=True).stdout
