"""Whether rows and events tell the same story, and a server that can be killed."""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, NullPool, create_engine, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterDelete, Snapshot, track
from sa_history.testing import EmbeddedPostgres
from sa_history.testing.account import choose_account

Event = tuple[str, int, int, Any]


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], None]:
    """Wait until something holds, for 20 seconds at most."""

    def wait(holds: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.005)

    return wait


@pytest.fixture
def account(
    base: type[DeclarativeBase], level: str, create_all: Callable[[], None]
) -> Any:
    """A model that is tracked at either level."""

    @track(Snapshot, AfterDelete, level=level)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int]

    create_all()
    return Account


@pytest.fixture
def replay() -> Callable[[Iterable[tuple[str, int, int, Any]]], dict[int, int]]:
    """Return the rows that there have to be, by what the events say."""

    def play(events: Iterable[tuple[str, int, int, Any]]) -> dict[int, int]:
        rows: dict[int, int] = {}
        for op, key, value, old_key in events:
            if op != "I":
                del rows[old_key[0] if old_key else key]
            if op != "D":
                assert key not in rows
                rows[key] = value
        return rows

    return play


@pytest.fixture
def story(
    pg_engine: Engine, account: Any, replay: Callable[..., dict[int, int]]
) -> Callable[[], list[Event]]:
    """Return the committed events, which have to give the rows that there are."""

    def read() -> list[Event]:
        event = history.events(account).table.c
        context = account.metadata.tables["pghistory_context"]
        with Session(pg_engine) as session:
            rows = session.execute(select(account.id, account.balance)).all()
            events = session.execute(
                select(
                    event.pgh_op,
                    event.id,
                    event.balance,
                    event.pgh_old_key,
                    context.c.metadata,
                )
                .outerjoin_from(
                    event.pgh_id.table,
                    context,
                    context.c.id == event.pgh_context_id,
                )
                .order_by(event.pgh_id)
            ).all()
        assert replay(tuple(found)[:4] for found in events) == dict(map(tuple, rows))
        return [(op, key, value, told) for op, key, value, _, told in events]

    return read


@pytest.fixture
def blocked(pg_engine: Engine, eventually: Callable[..., None]) -> Callable[[], int]:
    """Wait until somebody waits for a lock, and return who it is."""
    waits = text(
        "SELECT pid FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )

    def wait() -> int:
        found: list[int] = []

        def look() -> list[int]:
            with pg_engine.connect() as connection:
                found[:] = connection.execute(waits).scalars()
            return found

        eventually(look)
        (pid,) = found
        return pid

    return wait


class Survivor:
    """A server of our own that comes back after ``kill -9``."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._pid = server.pid
        self._data = server.directory / "data"
        self._again: subprocess.Popen[bytes] | None = None
        self.engine = create_engine(server.url(), poolclass=NullPool)

    def kill_all(self) -> None:
        """Kill all processes of the server, and start it anew."""
        with self.engine.connect() as connection:
            activity = text(
                "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            )
            children = connection.execute(activity).scalars().all()
        for pid in (self._pid, *children):
            kill(pid)
        # Its number stands in its data directory, and is taken until we ask for it.
        if self._again:
            self._again.wait()
        else:
            os.waitpid(self._pid, 0)
        self.wait(self._restarted)

    def kill_one(self, luck: random.Random) -> None:
        """Kill one process that serves a writer; the server ends the others."""
        with self.engine.connect() as connection:
            activity = text(
                "SELECT pid FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            pids = connection.execute(activity).scalars().all()
            kill(luck.choice(pids))
            with contextlib.suppress(OperationalError):
                self.wait(lambda: connection.execute(text("SELECT")) is None)
        self.wait(self._answers)

    def end(self) -> None:
        if self._again:
            self._again.send_signal(signal.SIGQUIT)
            self._again.wait()

    def _restarted(self) -> bool:
        # The memory may be in use, by a process that does not know yet.
        if self._again is None or self._again.poll() is not None:
            account = choose_account()
            command = shlex.split((self._data / "postmaster.opts").read_text())
            self._again = subprocess.Popen(
                account.command(*command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={"LC_ALL": "C", "TZ": "UTC"},
                user=account.uid,
                group=account.gid,
                extra_groups=account.extra_groups,
                start_new_session=True,
            )
            self._pid = self._again.pid
        return self._answers()

    def _answers(self) -> bool:
        try:
            with self.engine.connect():
                return True
        except OperationalError:
            return False

    def wait(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.01)


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it may have been faster
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def survivor() -> Iterator[Survivor]:
    """A server that keeps what it has committed, however it ends."""
    # What is in the memory of the system outlives all that is killed here.
    with EmbeddedPostgres(
        synchronous_commit=True, full_page_writes=True, max_wal_size="32MB"
    ) as server:
        survivor = Survivor(server)
        yield survivor
        survivor.end()
