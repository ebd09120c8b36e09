"""Random foreign keys and statements: the events, replayed, give the tables."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    Table,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError

import sa_history as history
from sa_history import track

TABLES = range(3)
KEYS = range(1, 5)


class Key(NamedTuple):
    """A foreign key: the numbers of both tables, and what it does."""

    child: int
    parent: int
    on_delete: str
    on_update: str


tables = st.sampled_from(TABLES)
some_ids = st.sets(st.sampled_from(KEYS), min_size=1)
foreign_keys = st.lists(
    st.builds(
        Key,
        tables,
        tables,
        st.sampled_from(["CASCADE", "CASCADE", "SET NULL", "SET DEFAULT"]),
        st.sampled_from(["CASCADE", "CASCADE", "SET NULL", "NO ACTION"]),
    ),
    min_size=2,
    max_size=6,
)
references = st.lists(st.sampled_from([None, *KEYS]), min_size=9, max_size=9)
statements = st.one_of(
    st.tuples(st.just("DELETE FROM t{} WHERE id IN {}"), tables, some_ids),
    st.tuples(st.just("DELETE FROM t{} WHERE id IN {}"), tables, some_ids),
    st.tuples(st.just("UPDATE t{} SET id = id + 100 WHERE id IN {}"), tables, some_ids),
    st.tuples(
        st.just(
            "MERGE INTO t{0} AS t USING generate_series(1, 4) AS n ON t.id = n"
            " WHEN MATCHED AND n IN {1} THEN DELETE"
            " WHEN MATCHED AND n IN {3} THEN UPDATE SET id = id + 100"
            " WHEN MATCHED THEN UPDATE SET note = note + 1"
            " WHEN NOT MATCHED THEN INSERT (id, note) VALUES (n + 200, 0)"
        ),
        tables,
        some_ids,
        tables,
        some_ids,
    ),
    st.tuples(
        st.just(
            "WITH gone AS (DELETE FROM t{} WHERE id IN {})"
            " UPDATE t{} SET note = note + 1, id = id + 100 WHERE id IN {}"
        ),
        tables,
        some_ids,
        tables,
        some_ids,
    ),
    st.tuples(
        st.just(
            "WITH changed AS (UPDATE t{} SET note = note + 1 WHERE id IN {})"
            " DELETE FROM t{} WHERE id IN {}"
        ),
        tables,
        some_ids,
        tables,
        some_ids,
    ),
)


def make_tables(keys: list[Key], level: str) -> list[Table]:
    """Make tracked tables in which the column ``k<n>`` has the nth foreign key."""
    metadata = MetaData()
    made = [
        Table(
            f"t{number}",
            metadata,
            Column("id", Integer, primary_key=True, autoincrement=False),
            Column("note", Integer),
            *(
                Column(f"k{n}", Integer, server_default="1")
                for n, key in enumerate(keys)
                if key.child == number
            ),
        )
        for number in TABLES
    ]
    for table in made[:2]:
        track(level=level)(table)
    for n, key in enumerate(keys):  # also after track()
        made[key.child].append_constraint(
            ForeignKeyConstraint(
                [f"k{n}"],
                [made[key.parent].c.id],
                f"key_{n}",
                ondelete=key.on_delete,
                onupdate=key.on_update,
                use_alter=True,
            )
        )
    track(level=level)(made[2])
    return made


def fill(
    connection: Connection, tables: list[Table], references: list[list[int | None]]
) -> None:
    """Insert four rows into each table, then have them refer to others."""
    columns = [[c.name for c in table.c if c.name[0] == "k"] for table in tables]
    for table, names in zip(tables, columns, strict=True):
        rows = [{"id": id_, "note": 0, **dict.fromkeys(names)} for id_ in KEYS]
        connection.execute(insert(table), rows)
    for table, names, numbers in zip(tables, columns, references, strict=True):
        for id_ in KEYS if names else ():
            values = {name: numbers[int(name[1:]) + id_ - 1] for name in names}
            connection.execute(update(table).where(table.c.id == id_).values(values))


def replayed(connection: Connection, table: Table) -> list[tuple[Any, ...]]:
    """Return the rows that a table has by its events, in the order of ``pgh_id``."""
    rows: dict[int, tuple[Any, ...]] = {}
    events = history.events(table).table
    for event in connection.execute(select(events).order_by(events.c.pgh_id)):
        row = tuple(getattr(event, column.name) for column in table.c)
        if event.pgh_op == "I":
            assert event.id not in rows
        elif event.pgh_op == "U":
            (before,) = event.pgh_old_key or [event.id]
            del rows[before]
        else:
            assert rows.pop(event.id) == row
            continue
        rows[event.id] = row
    return sorted(rows.values())


@settings(
    deadline=None,
    derandomize=True,
    max_examples=40,
    # A step of shrinking creates the tables again, which takes longer than to read it.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    keys=foreign_keys,
    references=st.lists(references, min_size=3, max_size=3),
    program=st.lists(statements, min_size=1, max_size=3),
)
@pytest.mark.parametrize("level", ["statement", "row"])
def test_the_events_of_each_row_come_in_the_order_in_which_it_changed(
    keys: list[Key],
    references: list[list[int | None]],
    program: list[tuple[Any, ...]],
    level: str,
    pg_engine: Engine,
) -> None:
    tables = make_tables(keys, level)
    with pg_engine.connect() as connection, connection.begin():
        tables[0].metadata.create_all(connection)
        fill(connection, tables, references)
        for statement, *arguments in program:
            written = statement.format(
                *(
                    f"({', '.join(map(str, a))})" if isinstance(a, set) else a
                    for a in arguments
                )
            )
            try:
                with connection.begin_nested():
                    connection.execute(text(written))
            except IntegrityError:
                continue
            for table in tables:
                there = connection.execute(select(table).order_by(table.c.id)).all()
                assert replayed(connection, table) == list(map(tuple, there)), written
        connection.rollback()
