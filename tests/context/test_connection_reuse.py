"""The next user of a connection has no context of the one before."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import URL, Connection, Engine, StaticPool, create_engine, insert, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

import sa_history as history

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, Any]]]
InSession = Callable[[Callable[[Session], Any]], Any]
USER = {"user": 7}


@pytest.fixture
def one_connection(pg_url: URL) -> Iterator[Engine]:
    """An engine whose users have the same connection, one after the other."""
    engine = create_engine(pg_url, pool_size=1, max_overflow=0, pool_timeout=5)
    yield engine
    engine.dispose()


def test_next_transaction_of_the_session_has_none(
    in_session: InSession, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with history.context(session, user=7):
            add(session, "a")
            session.commit()
        add(session, "b")
        session.commit()

    in_session(work)
    assert seen() == [("a", {"user": 7}), ("b", None)]


@pytest.mark.parametrize("ending", ["commit", "rollback", "close", "error", "nothing"])
def test_next_user_of_the_connection_has_none(
    ending: str, one_connection: Engine, add: Add, seen: Seen
) -> None:
    first = Session(one_connection)
    block = history.context(first, user=7)
    block.__enter__()
    add(first, "first")
    if ending == "error":
        with pytest.raises(DBAPIError):
            first.execute(text("SELECT 1 / 0"))
    if ending in ("commit", "rollback"):
        getattr(first, ending)()
    else:
        first.close()
    if ending != "nothing":
        block.__exit__(None, None, None)
    with Session(one_connection) as second:
        add(second, "second")
        second.commit()
    with one_connection.begin() as connection:
        connection.exec_driver_sql("INSERT INTO note (body) VALUES ('third')")
    raw = one_connection.raw_connection()
    raw.cursor().execute("INSERT INTO note (body) VALUES ('fourth')")
    raw.commit()
    raw.close()
    rest = [(body, None) for body in ("second", "third", "fourth")]
    assert [row for row in seen() if row[0] != "first"] == rest


def test_raw_connection_does_not_get_the_context_of_its_last_user(
    one_connection: Engine, pg_engine: Engine, add: Add, seen: Seen
) -> None:
    with Session() as session, history.context(session, user=7):
        session.execute(text("SELECT 1"), bind_arguments={"bind": one_connection})
        session.commit()
        # The session goes on elsewhere; the first connection is another's now.
        session.execute(text("SELECT 1"), bind_arguments={"bind": pg_engine})
        raw = one_connection.raw_connection()
        raw.cursor().execute("INSERT INTO note (body) VALUES ('raw')")
        raw.commit()
        raw.close()
    assert seen() == [("raw", None)]


def test_raw_connection_gets_the_ambient_context(
    pg_engine: Engine, note: Any, seen: Seen
) -> None:
    raw = pg_engine.raw_connection()
    with history.context(a=1):
        raw.cursor().execute("INSERT INTO note (body) VALUES ('inside')")
    raw.cursor().execute("INSERT INTO note (body) VALUES ('after')")
    raw.commit()
    raw.close()
    assert seen() == [("inside", {"a": 1}), ("after", None)]


def test_connection_that_its_user_has_closed_has_no_context_of_the_user(
    one_connection: Engine, note: Any, seen: Seen
) -> None:
    first = one_connection.connect()
    with history.context(first, user=7):
        first.execute(insert(note).values(body="first"))
        first.commit()
        first.close()
        with one_connection.begin() as second:
            second.execute(insert(note).values(body="second"))
    assert seen() == [("first", {"user": 7}), ("second", None)]


def test_connection_that_is_given_back_has_no_context_of_a_session_on_it(
    one_connection: Engine, add: Add, note: Any, seen: Seen
) -> None:
    first = one_connection.connect()
    with Session(first) as session, history.context(session, user=7):
        add(session, "lost")
        first.close()
        with one_connection.begin() as second:
            second.execute(insert(note).values(body="second"))
    assert seen() == [("second", None)]


def test_connection_that_is_invalidated_in_a_block_keeps_its_context(
    one_connection: Engine, note: Any, seen: Seen
) -> None:
    with one_connection.connect() as connection:
        with history.context(connection, user=7):
            connection.execute(insert(note).values(body="lost"))
            connection.invalidate()
            connection.rollback()
            connection.execute(insert(note).values(body="reconnected"))
            connection.commit()
        connection.execute(insert(note).values(body="after"))
        connection.commit()
    with one_connection.begin() as connection:
        connection.execute(insert(note).values(body="next"))
    assert seen() == [("reconnected", {"user": 7}), ("after", None), ("next", None)]


def test_connection_that_was_invalidated_before_a_block_has_its_context(
    one_connection: Engine, note: Any, seen: Seen
) -> None:
    with one_connection.connect() as connection:
        connection.execute(insert(note).values(body="lost"))
        connection.invalidate()
        with history.context(connection, user=7):
            connection.rollback()
            connection.execute(insert(note).values(body="reconnected"))
            connection.commit()
    assert seen() == [("reconnected", {"user": 7})]


def test_connection_that_is_invalidated_has_its_context_in_two_phases(
    one_connection: Engine, note: Any, seen: Seen
) -> None:
    with one_connection.connect() as connection, history.context(connection, user=7):
        connection.invalidate()
        transaction = connection.begin_twophase()
        connection.execute(insert(note).values(body="reconnected"))
        transaction.commit()
    assert seen() == [("reconnected", {"user": 7})]


def test_block_of_a_connection_that_was_closed_before(
    one_connection: Engine, note: Any, seen: Seen
) -> None:
    with one_connection.connect() as connection:
        connection.close()
        with history.context(connection, user=7), one_connection.begin() as other:
            other.execute(insert(note).values(body="other"))
    assert seen() == [("other", None)]


def test_connection_that_is_detached_and_invalidated_keeps_its_context(
    one_connection: Engine, note: Any, seen: Seen
) -> None:
    with one_connection.connect() as connection, history.context(connection, user=7):
        connection.detach()
        connection.execute(insert(note).values(body="detached"))
        connection.commit()
        driver: Any = connection.connection.dbapi_connection
        driver.close()  # what is detached no pool closes
        connection.invalidate()
        connection.execute(insert(note).values(body="reconnected"))
        connection.commit()
    assert seen() == [("detached", {"user": 7}), ("reconnected", {"user": 7})]


def test_connections_that_share_one_of_the_database(
    pg_url: URL, note: Any, seen: Seen
) -> None:
    engine = create_engine(pg_url, poolclass=StaticPool)
    with engine.connect() as one, history.context(one, user="one"):
        with engine.begin() as other:
            other.execute(insert(note).values(body="other"))
        one.execute(insert(note).values(body="one"))
        one.commit()
        with engine.begin() as other, history.context(other, user="other"):
            other.execute(insert(note).values(body="other again"))
        one.execute(insert(note).values(body="one again"))
        one.commit()
    engine.dispose()
    assert seen() == [
        ("other", None),
        ("one", {"user": "one"}),
        ("other again", {"user": "other"}),
        ("one again", {"user": "one"}),
    ]


def test_block_that_outlives_its_session_says_nothing_to_the_next(
    one_connection: Engine, add: Add, seen: Seen
) -> None:
    session = Session(one_connection)
    block = history.context(session, user=7)
    block.__enter__()
    add(session, "first")
    session.commit()
    session.close()
    del session
    with Session(one_connection) as session:
        add(session, "second")
        session.commit()
    block.__exit__(None, None, None)
    assert seen() == [("first", {"user": 7}), ("second", None)]


def test_sessions_that_share_a_connection_one_after_the_other(
    pg_engine: Engine, add: Add, seen: Seen
) -> None:
    with pg_engine.begin() as connection:
        first, second = Session(connection), Session(connection)
        with history.context(first, user=1), history.context(second, user=2):
            add(first, "first")
            first.commit()
            add(second, "second")
            second.commit()
        first.close()
        second.close()
    assert seen() == [("first", {"user": 1}), ("second", {"user": 2})]


def test_sessions_that_share_a_transaction_have_the_context_of_the_last(
    pg_engine: Engine, add: Add, seen: Seen
) -> None:
    with pg_engine.begin() as connection:
        first, second = Session(connection), Session(connection)
        with history.context(first, user=1), history.context(second, user=2):
            add(first, "first alone")
            add(second, "second")
            add(first, "first beside the second")
            with first.begin_nested():
                add(first, "first, which has joined again")
            add(second, "second beside the first")
            first.commit()
            add(second, "second alone")
            second.commit()
    one, two = {"user": 1}, {"user": 2}
    assert seen() == [
        ("first alone", one),
        ("second", two),
        ("first beside the second", two),
        ("first, which has joined again", one),
        ("second beside the first", one),
        ("second alone", two),
    ]


def test_session_that_goes_on_elsewhere_has_left_the_connection(
    pg_engine: Engine, note: Any, seen: Seen
) -> None:
    with (
        pg_engine.connect() as one,
        pg_engine.connect() as two,
        Session() as session,
        history.context(session, user=7),
    ):
        session.execute(insert(note).values(body="a"), bind_arguments={"bind": one})
        session.commit()
        session.execute(insert(note).values(body="b"), bind_arguments={"bind": two})
        one.execute(insert(note).values(body="c"))
        one.commit()
        session.commit()
    told = {"user": 7}
    assert sorted(seen()) == [("a", told), ("b", told), ("c", None)]


def test_session_that_is_gone_leaves_its_connection_to_others(
    pg_engine: Engine, note: Any, add: Add, seen: Seen
) -> None:
    with pg_engine.begin() as connection:
        session = Session(connection)
        with history.context(session, user=7):
            add(session, "a")
            session.commit()
        gone = weakref.ref(session)
        del session
        gc.collect()
        assert gone() is None
        connection.execute(insert(note).values(body="b"))
        with Session(connection) as another:
            add(another, "c")
            another.commit()
    assert seen() == [("a", {"user": 7}), ("b", None), ("c", None)]


def test_engines_that_share_a_connection_of_the_driver_have_their_own_contexts(
    pg_engine: Engine, note: Any, seen: Seen
) -> None:
    shared = pg_engine.raw_connection().driver_connection
    engines = [create_engine(pg_engine.url, creator=lambda: shared) for _ in range(2)]
    for number, engine in enumerate(engines):
        with engine.begin() as connection, history.context(connection, user=number):
            connection.execute(insert(note).values(body=str(number)))
    with engines[0].begin() as connection:
        connection.execute(insert(note).values(body="none"))
    assert seen() == [("0", {"user": 0}), ("1", {"user": 1}), ("none", None)]


def test_connection_whose_info_is_cleared_has_the_next_context(
    one_connection: Engine, note: Any, seen: Seen
) -> None:
    for user in (7, 8):
        with one_connection.connect() as connection:
            with history.context(connection, user=user):
                connection.execute(insert(note).values(body=str(user)))
            connection.commit()
            connection.info.clear()
    assert seen() == [("7", {"user": 7}), ("8", {"user": 8})]


def test_contexts_are_those_of_their_transaction_at_the_server(
    one_connection: Engine, add: Add
) -> None:
    """No setting is left on a connection, whoever asks the server for it."""

    def settings(connection: Connection) -> Counter[str]:
        rows = connection.exec_driver_sql(
            "SELECT current_setting('pghistory.context_' || name, true)"
            " FROM unnest(ARRAY['id', 'metadata', 'parent_id', 'stored', 'copies'])"
            " AS name"
        )
        return Counter(value or "" for value in rows.scalars())

    with Session(one_connection) as session:
        with history.context(session, user=7):
            add(session, "a")
            assert '{"user": 7}' in settings(session.connection())
            session.commit()
            history.annotate(session, step=2)
            add(session, "b")
            # All but the parent's id are set.
            assert settings(session.connection())[""] == 1
            session.commit()
        assert settings(session.connection()) == {"": 5}


def test_ping_of_the_pool_takes_no_context_from_its_user(
    engine_with: Callable[..., Engine], note: Any, seen: Seen
) -> None:
    engine = engine_with(pool_pre_ping=True, pool_size=1)
    with Session(engine) as session, history.context(session, user=7):
        for _ in range(3):
            session.execute(insert(note).values(body="a"))
            session.commit()
    with history.context(ambient=True), Session(engine) as session:
        session.execute(insert(note).values(body="b"))
        session.commit()
    assert seen() == [("a", USER)] * 3 + [("b", {"ambient": True})]
