"""Drivers other than psycopg: psycopg2 and asyncpg."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    NullPool,
    event,
    insert,
    select,
    text,
)
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    create_async_engine,
)
from sqlalchemy.orm import Session

import sa_history as history
from sa_history.contexts.drivers import sqlalchemy_events

from .ways import by_driver_sql_as_it_is

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, Any]]]
InSession = Callable[[Callable[[Session], Any]], Any]
USER = {"user": 7}

DIVISION_BY_ZERO = "22012"


@pytest.fixture
def psycopg2_engine(engine_with: Callable[..., Engine], pg_url: URL) -> Engine:
    return engine_with(url=pg_url.set(drivername="postgresql+psycopg2"))


@pytest.fixture
def asyncpg_engine(pg_url: URL) -> AsyncEngine:
    url = pg_url.set(drivername="postgresql+asyncpg")
    return create_async_engine(url, poolclass=NullPool)


@pytest.fixture(params=["psycopg2", "asyncpg"])
def in_other_session(
    request: pytest.FixtureRequest, psycopg2_engine: Engine, asyncpg_engine: AsyncEngine
) -> InSession:
    """Run a function with a session of another driver than psycopg."""

    def run_sync(function: Callable[[Session], Any]) -> Any:
        with Session(psycopg2_engine) as session:
            return function(session)

    def run_async(function: Callable[[Session], Any]) -> Any:
        async def main() -> Any:
            async with AsyncSession(asyncpg_engine) as session:
                return await session.run_sync(function)

        return asyncio.run(main())

    return run_sync if request.param == "psycopg2" else run_async


def test_statements_of_psycopg_are_not_listened_to(
    engine_with: Callable[..., Engine], psycopg2_engine: Engine
) -> None:
    for name, listener in sqlalchemy_events._DIALECT_LISTENERS.items():
        assert listener not in getattr(engine_with().dialect.dispatch, name)
        assert listener in getattr(psycopg2_engine.dialect.dispatch, name)


def test_dialect_that_is_imported_late_is_listened_to(
    psycopg2_engine: Engine, add: Add, seen: Seen
) -> None:
    for name, listener in sqlalchemy_events._DIALECT_LISTENERS.items():
        event.remove(PGDialect_psycopg2, name, listener)
    with Session(psycopg2_engine) as session, history.context(session, user=7):
        add(session, "late")
        session.commit()
    assert seen() == [("late", {"user": 7})]


IMPORTED_LATE = """
import sys

from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine(sys.argv[1])
engine.connect().close()

import sa_history as history

class Base(DeclarativeBase):
    pass

@history.track(history.Snapshot)
class Late(Base):
    __tablename__ = "late"
    id: Mapped[int] = mapped_column(primary_key=True)

Base.metadata.create_all(engine)
with Session(engine) as session, history.context(session, user=7):
    session.add(Late())
    session.commit()
    print(session.scalars(Late.events.select()).one().pgh_context.metadata)
"""


def test_connection_that_is_older_than_the_import_sends_the_context(
    pg_url: URL,
) -> None:
    url = pg_url.set(drivername="postgresql+psycopg2")
    process = subprocess.run(
        [
            *(sys.executable, "-c", IMPORTED_LATE),
            url.render_as_string(hide_password=False),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        encoding="utf-8",
    )
    assert (process.stdout, process.stderr) == ("{'user': 7}\n", "")


def test_other_drivers_nest_restore_and_annotate_contexts(
    in_other_session: InSession, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        for _ in range(2):
            add(session, "before")
            with history.context(session, a="O'Reilly %s :x"):
                add(session, "outer")
                with history.context(session, b=2):
                    add(session, "inner")
                add(session, "outer")
                history.annotate(session, c=3)
                add(session, "outer")
            add(session, "after")
            session.commit()

    in_other_session(work)
    outer = {"a": "O'Reilly %s :x", "c": 3}
    assert (
        seen()
        == [
            ("before", None),
            ("outer", outer),
            ("inner", {"a": "O'Reilly %s :x", "b": 2}),
            ("outer", outer),
            ("outer", outer),
            ("after", None),
        ]
        * 2
    )


def test_other_drivers_send_the_context_in_each_transaction_of_a_connection(
    psycopg2_engine: Engine, note: Any, seen: Seen
) -> None:
    with psycopg2_engine.connect() as connection, history.context(connection, user=7):
        for body, end in (("a", "commit"), ("lost", "rollback"), ("b", "commit")):
            connection.execute(insert(note).values(body=body))
            getattr(connection, end)()
    assert seen() == [("a", USER), ("b", USER)]


@pytest.mark.parametrize("prepares", [True, False], ids=["prepared", "at once"])
def test_other_drivers_send_the_context_in_each_transaction_of_two_phases(
    prepares: bool, psycopg2_engine: Engine, note: Any, seen: Seen
) -> None:
    with psycopg2_engine.connect() as connection:
        with history.context(connection, user=7):
            for body in "ab":
                transaction = connection.begin_twophase()
                connection.execute(insert(note).values(body=body))
                if prepares:
                    transaction.prepare()
                transaction.commit()
        with connection.begin_twophase() as transaction:
            connection.execute(insert(note).values(body="after"))
            transaction.commit()
    assert seen() == [("a", USER), ("b", USER), ("after", None)]


def test_other_drivers_send_the_context_before_sql_as_it_is(
    in_other_session: InSession, note: Any, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with history.context(session, user=7):
            by_driver_sql_as_it_is(session.connection(), note)
        session.commit()

    in_other_session(work)
    assert seen() == [("a", USER), ("b", USER)]


def test_other_drivers_have_the_ambient_context(
    in_other_session: InSession, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        add(session, "a")
        with history.context(session, user=7):
            add(session, "b")
        session.commit()

    with history.context(job="nightly"):
        in_other_session(work)
    assert seen() == [("a", {"job": "nightly"}), ("b", {"job": "nightly", **USER})]


@pytest.mark.parametrize("kind", ["sqlalchemy", "text"])
def test_other_drivers_send_the_context_again_after_a_savepoint_is_rolled_back(
    kind: str, in_other_session: InSession, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        points: list[Any] = []

        def begin() -> None:
            if kind == "sqlalchemy":
                points.append(session.begin_nested())
            else:
                session.execute(text("SAVEPOINT point"))

        def go_back() -> None:
            if kind == "sqlalchemy":
                points.pop().rollback()
            else:
                session.execute(text("ROLLBACK TO SAVEPOINT point"))

        add(session, "before")
        begin()
        with history.context(session, user=7):
            add(session, "lost")
            go_back()
            add(session, "inside")
        begin()
        add(session, "lost")
        go_back()
        add(session, "after")
        begin()
        with history.context(session, user=8), pytest.raises(IntegrityError):
            session.execute(text("INSERT INTO note (body) VALUES (NULL)"))
        go_back()  # with another context in force than when it failed
        add(session, "after the error")
        session.commit()

    in_other_session(work)
    assert seen() == [
        ("before", None),
        ("inside", USER),
        ("after", None),
        ("after the error", None),
    ]


@pytest.mark.parametrize("block", ["context", "ignore"])
@pytest.mark.parametrize("fails", [False, True], ids=["rolled back", "failed"])
def test_other_drivers_take_nothing_along_from_a_savepoint_that_is_left(
    block: str,
    fails: bool,
    in_other_session: InSession,
    note: Any,
    add: Add,
    seen: Seen,
) -> None:
    def work(session: Session) -> None:
        add(session, "before")
        for _ in range(2):
            point = session.begin_nested()
            with (
                history.context(session, user=7)
                if block == "context"
                else history.ignore(session, note)
            ):
                add(session, "lost")
                if fails:
                    with pytest.raises(IntegrityError):
                        session.execute(text("INSERT INTO note (body) VALUES (NULL)"))
            point.rollback()
            add(session, "after")
        session.commit()

    in_other_session(work)
    assert seen() == [("before", None), ("after", None), ("after", None)]


@pytest.mark.parametrize(
    "script", ["ROLLBACK TO SAVEPOINT a; SELECT 1", "ROLLBACK TO a; DELETE FROM note"]
)
def test_other_drivers_send_the_context_again_after_a_script_that_rolls_back(
    script: str, psycopg2_engine: Engine, add: Add, seen: Seen
) -> None:
    with Session(psycopg2_engine) as session, history.context(session, user=7):
        session.execute(text("SAVEPOINT a"))
        add(session, "lost")
        session.connection().exec_driver_sql(script)
        add(session, "kept")
        session.commit()
    assert seen() == [("kept", USER)]


def test_other_drivers_send_the_context_again_after_an_error_of_the_driver(
    in_other_session: InSession, note: Any, add: Add, seen: Seen
) -> None:
    def refused(session: Session) -> None:
        # The server never sees it, and the transaction goes on.
        with pytest.raises(DBAPIError):
            session.execute(insert(note).values(id=object(), body="lost"))

    def work(session: Session) -> None:
        with history.context(session, user=7):
            add(session, "a")
            refused(session)
            add(session, "b")
        with history.context(session, user=8):
            refused(session)
            add(session, "c")
        with history.ignore(session, note):
            add(session, "ignored")
            refused(session)
        add(session, "after")
        refused(session)
        session.commit()

    in_other_session(work)
    assert seen() == [("a", USER), ("b", USER), ("c", {"user": 8}), ("after", None)]


def test_other_drivers_go_on_after_an_error_that_sqlalchemy_has_not_seen(
    in_other_session: InSession, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        point = session.begin_nested()
        with history.context(session, user=7):
            add(session, "lost")
            connection = session.connection()
            cursor = connection.connection.cursor()
            with pytest.raises(connection.dialect.loaded_dbapi.Error) as failed:
                cursor.execute("SELECT 1 / 0")
            assert failed.value.pgcode == DIVISION_BY_ZERO
        with pytest.raises(DBAPIError) as raised:
            session.execute(text("SELECT 2"))
        assert raised.value.statement == "SELECT 2"
        point.rollback()
        add(session, "after")
        session.commit()

    in_other_session(work)
    assert seen() == [("after", None)]


def test_other_drivers_let_a_failed_transaction_say_so_itself(
    in_other_session: InSession, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        add(session, "lost")
        with history.context(session, user=7):
            with pytest.raises(DBAPIError):
                session.execute(text("SELECT 1 / 0"))
            with pytest.raises(DBAPIError) as raised:
                session.execute(text("SELECT 2"))
            assert raised.value.statement == "SELECT 2"
            session.commit()  # which is a rollback
            add(session, "after")
            session.commit()

    in_other_session(work)
    assert seen() == [("after", USER)]


def test_other_drivers_raise_what_prevents_that_the_context_is_sent(
    in_other_session: InSession, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        add(session, "lost")
        with history.context(session, user=7):
            with pytest.raises(DBAPIError):
                session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
            session.rollback()
            add(session, "after")
            session.connection().connection.dbapi_connection.close()  # type: ignore[union-attr]
            with history.context(session, user=8), pytest.raises(DBAPIError):
                add(session, "lost")

    in_other_session(work)
    assert seen() == []


def test_other_drivers_send_a_context_again_only_if_it_may_be_gone(
    in_other_session: InSession, note: Any, add: Add
) -> None:
    sent: list[str] = []

    def work(session: Session) -> None:
        event.listen(
            session.connection(),
            "before_cursor_execute",
            lambda _, __, statement, *___: sent.append(statement[:17]),
        )

        def times() -> int:
            return sent.count("SELECT set_config")

        with history.context(session, user=7):
            add(session, "a")
            for _ in range(3):
                with session.begin_nested():
                    add(session, "b")
                    session.execute(insert(note), [{"body": "c"}, {"body": "d"}])
                    session.scalars(select(note)).all()
                session.execute(text("SAVEPOINT mine"))
                session.execute(text("/* mine */ RELEASE SAVEPOINT mine"))
            assert times() == 1
            point = session.begin_nested()
            session.connection()
            point.rollback()
            assert times() == 1
            add(session, "e")
            add(session, "f")
            assert times() == 2

    in_other_session(work)


def test_other_drivers_send_the_context_again_after_an_error_and_a_rollback_unseen(
    in_other_session: InSession, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        cursor = session.connection().connection.cursor()
        with history.context(session, user=7):
            add(session, "outer")
            cursor.execute("SAVEPOINT a")
            with history.context(session, user=8):
                add(session, "lost")
                with pytest.raises(IntegrityError):
                    session.execute(text("INSERT INTO note (body) VALUES (NULL)"))
                cursor.execute("ROLLBACK TO SAVEPOINT a")
                add(session, "inner")
        session.commit()

    in_other_session(work)
    assert seen() == [("outer", USER), ("inner", {"user": 8})]


def test_other_drivers_do_not_see_what_is_done_by_the_drivers_own_connection(
    in_other_session: InSession, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        cursor = session.connection().connection.cursor()
        with history.context(session, user=7):
            add(session, "outer")
            cursor.execute("SAVEPOINT a")
            with history.context(session, user=8):
                add(session, "lost")
                cursor.execute("ROLLBACK TO SAVEPOINT a")
                add(session, "inner")
        cursor.execute("INSERT INTO note (body) VALUES ('by the driver')")
        session.commit()

    in_other_session(work)
    assert seen() == [("outer", USER), ("inner", USER), ("by the driver", USER)]


def test_other_drivers_send_the_context_before_a_server_side_cursor(
    in_other_session: InSession, writing_function: None, seen: Seen
) -> None:
    def work(session: Session) -> None:
        connection = session.connection(execution_options={"stream_results": True})
        with history.context(session, user=7):
            assert connection.execute(text("SELECT write_note('a')")).all()
        assert connection.execute(text("SELECT write_note('b')")).all()
        session.commit()

    in_other_session(work)
    assert seen() == [("a", USER), ("b", None)]


def test_other_drivers_leave_nothing_to_the_next_user(
    engine_with: Callable[..., Engine], pg_url: URL, add: Add, seen: Seen
) -> None:
    url = pg_url.set(drivername="postgresql+psycopg2")
    engine = engine_with(url=url, pool_size=1, max_overflow=0)
    with Session(engine) as first:
        block = history.context(first, user=7)
        block.__enter__()
        add(first, "lost")
    with Session(engine) as second:
        add(second, "next")
        second.commit()
    block.__exit__(None, None, None)
    assert seen() == [("next", None)]


def test_other_drivers_have_no_context_of_a_session_that_goes_on_elsewhere(
    psycopg2_engine: Engine, note: Any, seen: Seen
) -> None:
    with (
        psycopg2_engine.connect() as one,
        psycopg2_engine.connect() as other,
        Session() as session,
        history.context(session, user=7),
    ):
        for connection in (one, other):
            session.commit()
            bind = {"bind": connection}
            session.execute(insert(note).values(body="a"), bind_arguments=bind)
        one.execute(insert(note).values(body="b"))
        one.commit()
        session.commit()
    assert sorted(seen(), key=str) == [("a", USER), ("a", USER), ("b", None)]


def test_other_drivers_warn_in_autocommit(
    psycopg2_engine: Engine, asyncpg_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    def work(connection: Connection) -> None:
        connection.execute(insert(note).values(body="before"))
        with (
            history.context(connection, user=7),
            pytest.warns(UserWarning, match="in AUTOCOMMIT only the psycopg driver"),
        ):
            connection.execute(insert(note).values(body="inside"))
        with history.ignore(connection, note):
            connection.commit()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            connection.execute(insert(note).values(body="after"))

    with psycopg2_engine.connect() as connection:
        work(connection.execution_options(isolation_level="AUTOCOMMIT"))

    async def main() -> None:
        connection: AsyncConnection
        async with asyncpg_engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.run_sync(work)

    asyncio.run(main())
    assert seen() == [("before", None), ("inside", None), ("after", None)] * 2
