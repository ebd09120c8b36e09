"""The ways to write, each of which writes the notes "a" and "b"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, insert, select, text


def by_values(connection: Connection, note: Any) -> None:
    connection.execute(insert(note).values([{"body": "a"}, {"body": "b"}]))


def by_executemany(connection: Connection, note: Any) -> None:
    connection.execute(insert(note), [{"body": "a"}, {"body": "b"}])


def by_insertmanyvalues(connection: Connection, note: Any) -> None:
    statement = insert(note).returning(note.id, sort_by_parameter_order=True)
    connection.execution_options(insertmanyvalues_page_size=1)
    assert len(connection.execute(statement, [{"body": "a"}, {"body": "b"}]).all()) == 2


def by_text_without_parameters(connection: Connection, note: Any) -> None:
    connection.execute(text("INSERT INTO note (body) VALUES ('a'), ('b')"))


def by_driver_sql(connection: Connection, note: Any) -> None:
    connection.exec_driver_sql("INSERT INTO note (body) VALUES (%s)", ("a",))
    connection.exec_driver_sql("INSERT INTO note (body) VALUES ('b') ;\n")


def by_driver_sql_for_many(connection: Connection, note: Any) -> None:
    sql = "INSERT INTO note (body) VALUES (%s)"
    connection.exec_driver_sql(sql, [("a",), ("b",)])


def by_driver_sql_as_it_is(connection: Connection, note: Any) -> None:
    connection.exec_driver_sql(
        "INSERT INTO note (body) SELECT chr(n % 100) FROM generate_series(97, 98) AS n",
        execution_options={"no_parameters": True},
    )


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
    cte = insert(note).values(body="a").returning(note.id).cte()
    connection.execute(select(cte))
    connection.execute(insert(note).values(body="b"))


def by_function(connection: Connection, note: Any) -> None:
    for body in "ab":
        connection.execute(text("SELECT write_note(:body)"), {"body": body})


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


WAYS = [
    by_values,
    by_executemany,
    by_insertmanyvalues,
    by_text_without_parameters,
    by_driver_sql,
    by_driver_sql_for_many,
    by_driver_sql_as_it_is,
    by_script,
    by_block_of_plpgsql,
    by_common_table_expression,
    by_function,
    by_server_side_cursor,
    by_stream_then_write,
]


Way = Callable[[Connection, Any], None]
