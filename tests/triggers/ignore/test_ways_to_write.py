"""Each way to write, with each driver; each writes the notes "a" and "b"."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, insert, select, text
from sqlalchemy.orm import Session

import sa_history as history

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, str]]]
InSession = Callable[[Callable[[Session], Any]], Any]
InConnection = Callable[[Callable[[Connection], Any]], Any]
Way = Callable[[Connection, Any], None]


def by_values(connection: Connection, note: Any) -> None:
    connection.execute(insert(note).values([{"body": "a"}, {"body": "b"}]))


def by_executemany(connection: Connection, note: Any) -> None:
    connection.execute(insert(note), [{"body": "a"}, {"body": "b"}])


def by_driver_sql_for_many(connection: Connection, note: Any) -> None:
    sql = "INSERT INTO note (body) VALUES (%s)"
    connection.exec_driver_sql(sql, [("a",), ("b",)])


def by_script(connection: Connection, note: Any) -> None:
    connection.exec_driver_sql(
        "INSERT INTO note (body) VALUES ('a'); INSERT INTO note (body) VALUES ('b')"
    )


def by_block_of_plpgsql(connection: Connection, note: Any) -> None:
    connection.exec_driver_sql(
        "DO $$ BEGIN FOR n IN 97..98 LOOP"
        " INSERT INTO note (body) VALUES (chr(n)); END LOOP; END $$"
    )


def by_common_table_expression(connection: Connection, note: Any) -> None:
    cte = insert(note).values([{"body": "a"}, {"body": "b"}]).returning(note.id).cte()
    connection.execute(select(cte))


def by_server_side_cursor(connection: Connection, note: Any) -> None:
    rows = connection.execute(
        text("SELECT write_note(chr(n)) FROM generate_series(97, 98) AS n"),
        execution_options={"stream_results": True, "max_row_buffer": 1},
    )
    assert len(rows.all()) == 2


def by_stream_then_write(connection: Connection, note: Any) -> None:
    rows = connection.execute(
        text("SELECT chr(n) FROM generate_series(97, 98) AS n"),
        execution_options={"stream_results": True, "max_row_buffer": 1},
    )
    for body in rows.scalars():
        connection.execute(insert(note).values(body=body))


def by_copy(connection: Connection, note: Any) -> None:
    driver: Any = connection.connection.driver_connection
    if isinstance(driver, psycopg.Connection):
        with driver.cursor().copy("COPY note (body) FROM STDIN") as copy:
            copy.write("a\nb\n")
        return

    async def write() -> None:
        async with driver.cursor().copy("COPY note (body) FROM STDIN") as copy:
            await copy.write("a\nb\n")

    dbapi: Any = connection.connection.dbapi_connection
    dbapi.run_async(lambda _: write())


IN_AUTOCOMMIT = [
    by_values,
    by_executemany,
    by_driver_sql_for_many,
    by_script,
    by_block_of_plpgsql,
    by_common_table_expression,
    by_copy,
]

WAYS = [*IN_AUTOCOMMIT, by_server_side_cursor, by_stream_then_write]


@pytest.fixture
def writing_function(note: Any, pg_engine: Engine) -> None:
    """A function of the application that writes notes."""
    with pg_engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION write_note(text) RETURNS bigint LANGUAGE sql AS"
            " 'INSERT INTO note (body) VALUES ($1) RETURNING id'"
        )


def write_in_blocks(connection: Connection, note: Any, way: Way) -> None:
    way(connection, note)
    with history.ignore(connection, note, "x"):
        way(connection, note)
        with history.ignore(connection, note, "y"):
            way(connection, note)
        way(connection, note)
        way(connection, note)
    way(connection, note)


WRITTEN = [
    (body, marks) for marks in ("xy", "y", "", "y", "y", "xy") for body in ("a", "b")
]


@pytest.mark.usefixtures("writing_function")
@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_write_ignores_in_the_block(
    way: Way, in_session: InSession, note: Any, seen: Seen
) -> None:
    def work(session: Session) -> None:
        write_in_blocks(session.connection(), note, way)
        session.commit()

    in_session(work)
    assert seen() == WRITTEN


@pytest.mark.parametrize("way", IN_AUTOCOMMIT)
def test_each_way_to_write_in_autocommit_ignores_in_the_block(
    way: Way, in_autocommit: InConnection, note: Any, seen: Seen
) -> None:
    in_autocommit(lambda connection: write_in_blocks(connection, note, way))
    assert seen() == WRITTEN


def test_procedure_that_commits_warns_in_autocommit(
    in_autocommit: InConnection, note: Any, seen: Seen
) -> None:
    """A DO block does as a CALL does with PostgreSQL 18 or newer."""

    def work(connection: Connection) -> None:
        with (
            history.ignore(connection, note),
            pytest.warns(UserWarning, match="nothing is ignored, for a procedure"),
        ):
            connection.exec_driver_sql(
                "DO $$ BEGIN INSERT INTO note (body) VALUES ('a'); COMMIT; END $$"
            )

    in_autocommit(work)
    assert seen() == [("a", "xy")]


def test_blocks_hold_with_other_drivers(
    in_other_session: InSession, note: Any, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        add(session, "a")
        with history.ignore(session, note, "x"):
            add(session, "b")
            with history.ignore(session, note, "y"):
                add(session, "c")
            rows = [{"body": "d"}, {"body": "e"}]
            session.execute(insert(note), rows)
        add(session, "f")
        session.commit()
        add(session, "g")
        session.commit()

    in_other_session(work)
    with history.ignore(note, "x"):
        in_other_session(work)
    outer = [("a", "y"), ("b", "y"), ("c", ""), ("d", "y"), ("e", "y")]
    assert seen() == [
        *[("a", "xy"), *outer[1:], ("f", "xy"), ("g", "xy")],
        *[*outer, ("f", "y"), ("g", "y")],
    ]


def test_other_drivers_warn_in_autocommit(
    in_other_session: InSession, note: Any, seen: Seen
) -> None:
    def work(session: Session) -> None:
        connection = session.connection(
            execution_options={"isolation_level": "AUTOCOMMIT"}
        )
        with (
            history.ignore(session, note),
            pytest.warns(UserWarning, match="ignored run all the same: in AUTOCOMMIT"),
        ):
            connection.execute(insert(note).values(body="inside"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            connection.execute(insert(note).values(body="after"))

    in_other_session(work)
    assert seen() == [("inside", "xy"), ("after", "xy")]
