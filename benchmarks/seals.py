"""What seals and erasures cost: sealing, verifying, erasing, and writing with seals.

Run it with ``python -m benchmarks.seals``; the times are seconds for a million events.
Those of sealing and erasing are the processor's, of all processes of the server
together, since others may use the machine as well.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import track
from sa_history.testing import EmbeddedPostgres

VERSIONS = 10
"""How many events an object has."""


def model(*, sealed: bool, name: str) -> Any:
    """Return a tracked model with eleven columns, of which three can be erased."""

    class Base(DeclarativeBase):
        metadata = MetaData()

    options: dict[str, Any] = {}
    if sealed:
        options = {
            "sealed": True,
            "erasable": ["owner", "email", "note"],
            "erasable_context": ["ip"],
        }

    @track(**options)
    class Account(Base):
        __tablename__ = name
        id: Mapped[int] = mapped_column(primary_key=True)
        owner: Mapped[str | None]
        email: Mapped[str | None]
        note: Mapped[str | None]
        balance: Mapped[int]
        rate: Mapped[float]
        kind: Mapped[str]
        is_open: Mapped[bool]

    return Account


def write(engine: Engine, account: Any, rows: int) -> float:
    """Insert rows and update all of them, in contexts; return the seconds."""
    table = account.__tablename__
    fill = text(
        f"INSERT INTO {table} SELECT i, 'owner ' || i, 'o' || i || '@example.org',"
        " 'a note of some length about ' || i, i, i / 7.0, 'kind', true"
        " FROM generate_series(1, :rows) AS i"
    )
    started = time.perf_counter()
    with Session(engine) as session:
        for version in range(VERSIONS):
            with history.context(session, user=version, ip=f"10.0.0.{version}"):
                if version == 0:
                    session.execute(fill, {"rows": rows})
                else:
                    session.execute(text(f"UPDATE {table} SET balance = balance + 1"))
                session.commit()
    return time.perf_counter() - started


def server_seconds(connection: Connection) -> float:
    """Return the seconds of processors that the server has taken so far."""
    ticks = os.sysconf("SC_CLK_TCK")
    backend = connection.scalar(text("SELECT pg_backend_pid()"))
    postmaster = int(_stat(Path(f"/proc/{backend}/stat"))[1])
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = _stat(path)
        except OSError:
            continue  # it has ended
        if int(fields[1]) == postmaster:
            total += int(fields[11]) + int(fields[12])
        elif path.parent.name == str(postmaster):
            total += int(fields[13]) + int(fields[14])  # of those that have ended
    return total / ticks


def _stat(path: Path) -> list[str]:
    """Return what Linux says of a process, from its state on."""
    return path.read_text().rpartition(")")[2].split()


def main() -> None:
    """Print what seals cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--objects", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-writes", action="store_true", help="only seal and erase")
    options = parser.parse_args()
    with EmbeddedPostgres(
        shared_buffers="512MB",
        work_mem="32MB",
        max_wal_size="4GB",
        autovacuum="off",
        max_parallel_workers_per_gather="0",
    ) as server:
        engine = create_engine(server.url())
        if not options.no_writes:
            compare_writes(engine, options.events, options.rounds)
        measure(engine, options.events, options.objects, options.rounds)
        engine.dispose()


def compare_writes(engine: Engine, events: int, rounds: int) -> None:
    """Print what a number of events cost with seals and without."""
    plain = model(sealed=False, name="account")
    sealed = model(sealed=True, name="account")
    writes: dict[str, list[float]] = {"plain": [], "sealed": []}
    for _ in range(rounds):
        for name, account in (("plain", plain), ("sealed", sealed)):
            account.metadata.create_all(engine)
            writes[name].append(write(engine, account, events // VERSIONS))
            account.metadata.drop_all(engine)
    ratio = min(writes["sealed"]) / min(writes["plain"])
    print(f"writes with seals and without: {ratio:.3f}")


def measure(engine: Engine, events: int, objects: int, rounds: int) -> None:
    """Print what seals cost for a number of events."""
    sealed = model(sealed=True, name="account")
    sealed.metadata.create_all(engine)
    write(engine, sealed, events // VERSIONS)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
        _measure(engine, connection, sealed, events, objects, rounds)


def _measure(
    engine: Engine,
    connection: Connection,
    account: Any,
    events: int,
    objects: int,
    rounds: int,
) -> None:
    million = 1_000_000 / events
    read = text("SELECT sum(length(e::text)) FROM account_event AS e")
    base = account.metadata
    seconds: dict[str, list[float]] = defaultdict(list)

    def measure_once(name: str, work: Callable[[], object]) -> None:
        before = server_seconds(connection)
        work()
        seconds[name].append(server_seconds(connection) - before)

    for _ in range(rounds):
        for table in ("pghistory_seal", "pghistory_salt"):
            connection.execute(text(f"TRUNCATE {table} CASCADE"))
        measure_once("read as text", lambda: connection.execute(read).all())
        measure_once("seal", lambda: history.seal(engine, base))
        connection.execute(text("VACUUM ANALYZE pghistory_salt, pghistory_seal_range"))
        measure_once("verify", lambda: history.verify(engine, base))
    assert not history.verify(engine, base).discrepancies
    for name, found in seconds.items():
        print(
            f"{name:14} {min(found) * million:6.1f} s per million events,"
            f" {min(found) / min(seconds['read as text']):.2f} of reading as text",
            flush=True,
        )
    sizes = connection.execute(
        text(
            "SELECT relname, pg_total_relation_size(oid) / 1e6 FROM pg_class"
            " WHERE relname IN ('account_event', 'pghistory_seal_range',"
            " 'pghistory_salt')"
        )
    )
    for name, size in sizes:
        print(f"{name:22} {float(size) * million:8.2f} MB per million events")
    by_hand = text(
        "UPDATE account_event SET owner = NULL, email = NULL, note = NULL"
        " WHERE pgh_obj_id BETWEEN :first AND :last"
    )

    def erase(first: int, last: int) -> None:
        with Session(engine) as session:
            history.erase(session, account, *range(first, last + 1))
            session.commit()

    for round_ in range(rounds):
        first = 2 * round_ * objects + 1
        bounds = {"first": first, "last": first + objects - 1}
        measure_once("UPDATE", partial(connection.execute, by_hand, bounds))
        first += objects
        measure_once("erase", partial(erase, first, first + objects - 1))
    update, erasing = min(seconds["UPDATE"]), min(seconds["erase"])
    print(f"UPDATE of {objects} objects by hand: {update:.2f} s")
    print(f"erase of {objects} objects: {erasing:.2f} s, {erasing / update:.2f} of it")


if __name__ == "__main__":
    main()
