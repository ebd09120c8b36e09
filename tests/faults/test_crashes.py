"""``kill -9``, of the server under load and of a client in a transaction."""

from __future__ import annotations

import contextlib
import json
import os
import random
import runpy
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, insert, select, text
from sqlalchemy.orm import Session

import sa_history as history

KILLS = int(os.environ.get("SA_HISTORY_KILLS", "2"))

WRITER = Path(__file__).with_name("writer.py")
SHARED = 3  # as the writers have it
FIRST = (0, 0)

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def writer() -> dict[str, Any]:
    """What the program of the writers defines: the models that they write to."""
    return runpy.run_path(str(WRITER))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a writer, which notes what it does in a file of its number."""
    processes = []
    (tmp_path / "notes").mkdir()

    def run(url: URL, number: int, kind: str) -> subprocess.Popen[str]:
        named = url.update_query_dict({"application_name": "writer"})
        shown = named.render_as_string(hide_password=False)
        notes = tmp_path / "notes" / str(number)
        with open(tmp_path / f"{number}.log", "w") as log:
            process = subprocess.Popen(
                [sys.executable, WRITER, shown, str(number), kind, notes],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


class Noted:
    """What the writers have noted until now."""

    def __init__(self, directory: Path) -> None:
        self.writes: dict[tuple[int, int], list[tuple[Any, ...]]] = {}
        self.committed: set[tuple[int, int]] = set()
        for path in directory.iterdir():
            complete, _, _ = path.read_text().rpartition("\n")
            for said in map(json.loads, complete.splitlines()):
                transaction = int(path.name), said["transaction"]
                if "writes" in said:
                    self.writes[transaction] = list(map(tuple, said["writes"]))
                else:
                    self.committed.add(transaction)


class Found:
    """What is in the tables and events, at one moment."""

    def __init__(self, engine: Engine, models: Any, replay: Any) -> None:
        self.rows: dict[str, dict[int, int]] = {}
        self.transactions: dict[tuple[int, int], Counter[Any]] = defaultdict(Counter)
        snapshot = engine.execution_options(isolation_level="REPEATABLE READ")
        with snapshot.connect() as connection:
            for model in models:
                self._read(connection, model, replay)

    def _read(self, connection: Any, model: Any, replay: Any) -> None:
        name = model.__tablename__
        rows = connection.execute(select(model.id, model.value)).all()
        self.rows[name] = dict(map(tuple, rows))
        event = history.events(model).table
        context = model.metadata.tables["pghistory_context"]
        columns = ("pgh_op", "id", "value", "pgh_old_key")
        events = connection.execute(
            select(*(event.c[column] for column in columns), context.c.metadata)
            .outerjoin_from(event, context, context.c.id == event.c.pgh_context_id)
            .order_by(event.c.pgh_id)
        ).all()
        assert replay(tuple(found)[:4] for found in events) == self.rows[name]
        for op, id_, value, old_key, told in events:
            transaction = told["user"], told["transaction"]
            # What others have made of a shared row is not known beforehand.
            if id_ < SHARED:
                value = None
            old = old_key[0] if old_key else None
            write = name, op, id_, value, old, told.get("step")
            self.transactions[transaction][write] += 1


def check(noted: Callable[[], Noted], look: Callable[[], Found]) -> Found:
    """See that what has been promised is found, and what is found has been meant."""
    promised = noted().committed
    found = look()
    meant = noted().writes
    assert found.transactions.pop(FIRST)
    for transaction, writes in found.transactions.items():
        assert writes == Counter(meant[transaction]), transaction
    lost = promised - found.transactions.keys()
    assert [transaction for transaction in lost if meant[transaction]] == []
    return found


def test_a_server_that_is_killed_has_all_it_has_promised_in_rows_and_in_events(
    survivor: Any,
    writer: dict[str, Any],
    start: Start,
    tmp_path: Path,
    replay: Callable[..., dict[int, int]],
) -> None:
    luck = random.Random()
    models = writer["MODELS"]
    writer["Base"].metadata.create_all(survivor.engine)
    user, transaction = FIRST
    with (
        survivor.engine.begin() as connection,
        history.context(connection, user=user, transaction=transaction),
    ):
        for model in models:
            shared = [{"id": id_, "value": 0} for id_ in range(SHARED)]
            connection.execute(insert(model.__table__), shared)

    def noted() -> Noted:
        return Noted(tmp_path / "notes")

    def look() -> Found:
        return Found(survivor.engine, models, replay)

    writers = {
        number: start(survivor.engine.url, number, kind)
        for number, kind in enumerate(("sync", "async"), 1)
    }
    preparer = writer["Writer"](9, tmp_path / "notes" / "9")

    def commits(number: int) -> int:
        notes = tmp_path / "notes" / str(number)
        return notes.read_text().count("committed") if notes.exists() else 0

    def all_have_made(least: dict[int, int]) -> bool:
        for number, process in writers.items():
            assert process.poll() is None, (tmp_path / f"{number}.log").read_text()
        return all(commits(number) >= least[number] for number in writers)

    for turn in range(KILLS):
        least = {number: commits(number) + 10 for number in writers}
        survivor.wait(lambda least=least: all_have_made(least))
        with (
            Session(survivor.engine) as session,
            history.context(session, **preparer.begin()),
        ):
            for model in models:
                preparer.write(session, model, None)
            preparer.committing()
            session.execute(text("PREPARE TRANSACTION 'prepared'"))
        time.sleep(luck.uniform(0, 0.02))  # so that it happens at any moment
        if turn % 2:
            survivor.kill_one(luck)
        else:
            survivor.kill_all()
        found = check(noted, look)
        assert (preparer.number, preparer.transactions) not in found.transactions
        alone = survivor.engine.execution_options(isolation_level="AUTOCOMMIT")
        with alone.connect() as connection:
            connection.execute(text("COMMIT PREPARED 'prepared'"))
        preparer.committed()
    for number, process in writers.items():
        process.communicate()
        assert process.returncode == 0, (tmp_path / f"{number}.log").read_text()
    found = check(noted, look)
    meant = noted().writes
    # By the notes alone, as each writer has its keys to itself.
    for name, rows in found.rows.items():
        expected = {}
        for transaction in sorted(found.transactions):
            for table, op, id_, value, old, _ in meant[transaction]:
                if table == name and id_ >= SHARED:
                    expected.pop(old or id_, None)
                    if op != "D":
                        expected[id_] = value
        assert {k: v for k, v in rows.items() if k >= SHARED} == expected


class Relay:
    """Stands between one client and the server, and knows what it has passed on.

    :param server: the server, which the relay connects to when the client comes.
    """

    def __init__(self, server: URL) -> None:
        self.passed_on = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._host = str(server.host or server.query.get("host") or "localhost")
        self._port = int(str(server.port or server.query.get("port") or 5432))
        # The messages are looked at, so they are not encrypted.
        self.url = server.set(
            host="127.0.0.1",
            port=self._listener.getsockname()[1],
            query={"sslmode": "disable", "gssencmode": "disable"},
        )
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def has_passed_on(self, statement: bytes) -> bool:
        """Whether the server has a statement, and the Sync that commits it."""
        _, found, rest = self.passed_on.rpartition(statement)
        return bool(found) and rest.endswith(b"S\0\0\0\4")

    def close(self) -> None:
        with contextlib.suppress(OSError):  # where no client came
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:  # it is closed
            return
        if self._host.startswith("/"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{self._host}/.s.PGSQL.{self._port}")
        else:
            server = socket.create_connection((self._host, self._port))
        with client, server:
            back = threading.Thread(target=self._pass_on, args=(server, client, False))
            back.start()
            self._pass_on(client, server, True)
            back.join()

    def _pass_on(
        self, source: socket.socket, target: socket.socket, noted: bool
    ) -> None:
        with contextlib.suppress(OSError):  # the client is killed
            while data := source.recv(65536):
                target.sendall(data)
                if noted:
                    self.passed_on += data
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def relay(pg_url: URL) -> Iterator[Relay]:
    """A relay in front of the test's database, for one client."""
    relay = Relay(pg_url)
    yield relay
    relay.close()


@pytest.mark.parametrize("kind", ["transaction", "copy", "lone statement"])
def test_a_client_that_is_killed_has_written_all_or_nothing(
    kind: str,
    relay: Relay,
    pg_engine: Engine,
    writer: dict[str, Any],
    start: Start,
    replay: Callable[..., dict[int, int]],
    blocked: Callable[[], int],
    eventually: Callable[..., None],
) -> None:
    """A statement that is a transaction is ended and committed without its client.

    It is one for the server when the client has sent the Sync after it as well. Until
    then nothing is committed.
    """
    models = writer["MODELS"]
    writer["Base"].metadata.create_all(pg_engine)
    clients = text(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'writer'"
        " AND datname = current_database()"
    )
    with pg_engine.connect() as connection:
        if kind == "lone statement":
            connection.execute(text("LOCK TABLE at_row_event IN SHARE MODE"))
        process = start(relay.url, 7, kind)
        if kind == "lone statement":
            blocked()
            eventually(lambda: relay.has_passed_on(b"INSERT INTO at_statement"))
        else:
            assert process.stdout.readline() == "written\n"
        process.kill()
        process.communicate()
        connection.rollback()
        alone = connection.execution_options(isolation_level="AUTOCOMMIT")
        eventually(lambda: alone.execute(clients).scalar() == 0)
        contexts = alone.execute(text("SELECT count(*) FROM pghistory_context"))
        assert contexts.scalar() == (1 if kind == "lone statement" else 0)
    found = Found(pg_engine, models, replay)
    names = [model.__tablename__ for model in models]
    if kind == "lone statement":
        assert found.rows == {name: {7: 7, 8: 8} for name in names}
        writes = [(name, "I", key, key, None, None) for name in names for key in (7, 8)]
        assert found.transactions == {(7, 1): Counter(writes)}
    else:
        assert found.rows == {name: {} for name in names}
        assert found.transactions == {}
