"""Triggers of partitioned tables, views, schemas and odd names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import (
    URL,
    Column,
    Engine,
    Integer,
    MetaData,
    NullPool,
    Table,
    create_engine,
    delete,
    insert,
    select,
    text,
    true,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.schema import CreateSchema

import sa_history as history
from sa_history import Delete, Insert, Trigger, Truncate, Update, UpdateOf, attach, new
from tests.triggers.custom.helpers import say

CreateAll = Callable[[], None]
Said = Callable[[], list[str]]


def test_what_create_all_makes_drop_all_takes_away(
    note: Table,
    said: Said,
    create_all: CreateAll,
    pg_engine: Engine,
) -> None:
    attach(
        say("one", "before", Insert | Update, condition=new.id > 0),
        say("two", "after", Delete, deferrable="deferred"),
        say("three", "after", Truncate, level="statement"),
    )(note)

    def objects() -> list[str]:
        with pg_engine.connect() as connection:
            return list(
                connection.scalars(
                    text(
                        "SELECT tgname::text FROM pg_trigger UNION ALL"
                        " SELECT proname FROM pg_proc"
                        " WHERE pronamespace = 'public'::regnamespace UNION ALL"
                        " SELECT relname FROM pg_class"
                        " WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
                    )
                )
            )

    create_all()
    create_all()  # and nothing more
    assert [name for name in objects() if name.startswith("note")] == [
        *("note", "note_id_seq", "note_one", "note_one_insert", "note_one_update"),
        *("note_pkey", "note_three", "note_three", "note_two", "note_two"),
    ]
    note.metadata.drop_all(pg_engine)
    assert objects() == []
    create_all()
    note.drop(pg_engine)
    assert not any(name.startswith("note") for name in objects())


def test_partitions_have_the_trigger_also_those_that_come_later(
    base: type[DeclarativeBase],
    said: Said,
    create_all: CreateAll,
    pg_session: Session,
) -> None:
    reading = Table(
        "reading",
        base.metadata,
        Column("id", Integer),
        postgresql_partition_by="LIST (id)",
    )
    attach(
        say("row", "before", Insert, condition=new.id > 0),
        say("deferred", "after", Insert, deferrable="deferred"),
        say("statement", "after", Insert, level="statement"),
    )(reading)
    create_all()
    for n in (1, 2):
        pg_session.execute(
            text(f"CREATE TABLE p{n} PARTITION OF reading FOR VALUES IN ({n})")
        )
        pg_session.execute(insert(reading).values(id=n))
    pg_session.commit()
    assert sorted(said()) == [
        *["deferred INSERT"] * 2,
        *["row INSERT"] * 2,
        *["statement INSERT"] * 2,
    ]


@pytest.mark.parametrize("when", ["instead of", "INSTEAD OF"])
def test_views_are_written_by_a_trigger(
    when: Any,
    note: Table,
    said: Said,
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_session: Session,
) -> None:
    long = history.view("long", base.metadata, select(note.c.id, note.c.body))
    attach(
        Trigger(
            "write",
            when,
            Insert | Update,
            body="INSERT INTO note (id, body) VALUES (NEW.id, TG_OP); RETURN NEW;",
        ),
        say("statement", "after", Insert, level="statement"),
    )(long)
    create_all()
    pg_session.execute(insert(long).values(id=1))
    with history.ignore(pg_session, "write", "statement"):
        pg_session.execute(update(long).values(id=2))
        pg_session.execute(insert(long).values(id=3))
    rows = select(note.c.id, note.c.body).order_by(note.c.id)
    assert pg_session.execute(rows).all() == [
        (1, "INSERT"),
        (2, "UPDATE"),
        (3, "INSERT"),
    ]
    assert said() == ["statement INSERT"]


def test_table_and_trigger_are_in_the_schema_of_the_connection(
    note: Table, said: Said, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    attach(say("say", "after", Insert, search_path=["tenant"]))(note)
    with pg_engine.begin() as connection:
        connection.execute(CreateSchema("tenant"))
    tenant = pg_engine.execution_options(schema_translate_map={None: "tenant"})
    base.metadata.create_all(tenant)
    with tenant.begin() as connection:
        connection.execute(insert(note).values(id=1))
        words = text("SELECT word FROM tenant.said")
        assert connection.scalars(words).all() == ["say INSERT"]
        with history.ignore(connection, note):
            connection.execute(insert(note).values(id=2))
        assert connection.scalars(words).all() == ["say INSERT"]
    base.metadata.drop_all(tenant)
    with pg_engine.connect() as connection:
        left = text(
            "SELECT count(*) FROM pg_proc WHERE pronamespace = 'tenant'::regnamespace"
        )
        assert connection.scalar(left) == 0


ODD = {
    "mixed_case": "Mixed Case",
    "quotes": 'it\'s "so"',
    "percent": "100% %s %(x)s %%",
    "colon": "a:b ::c \\:d",
    "braces": "{a} {0}",
    "backslash": "a\\b\\",
    "dollar": "$$ $history$ $1",
    "comment": "--a /* b",
    "newline": "a\nb",
    "multi_byte": "Größe 寸",
    "long": "x" * 63,
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_odd_names_are_taken_as_they_are(
    odd: str, pg_engine: Engine, created: Callable[[MetaData], None]
) -> None:
    metadata = MetaData(schema=f"s{odd}"[:63])
    table = Table(
        odd,
        metadata,
        Column("id", Integer, primary_key=True),
        Column(odd, Integer, key="value"),
    )
    with pg_engine.begin() as connection:
        connection.execute(CreateSchema(f"s{odd}"[:63]))
    quoted = '"' + odd.replace('"', '""') + '"'
    raised = f"NEW.{quoted} := NEW.{quoted} + 1; RETURN NEW;"
    attach(
        Trigger(odd, "before", UpdateOf("value"), body=raised),
        Trigger(
            odd[:-1] or "x",
            "before",
            Insert,
            body=raised,
            condition=new.value > 0,
            ignorable=False,
        ),
    )(table)
    created(metadata)
    with pg_engine.begin() as connection:
        connection.execute(insert(table).values(id=1, value=1))
        connection.execute(update(table).values(value=5))
        assert connection.scalar(select(table.c.value)) == 6
        with history.ignore(connection, table, odd):
            connection.execute(update(table).values(value=5))
        assert connection.scalar(select(table.c.value)) == 5
    metadata.drop_all(pg_engine)
    with pg_engine.connect() as connection:
        functions = text(
            "SELECT count(*) FROM pg_proc WHERE pronamespace = CAST(:s AS regnamespace)"
        )
        schema = '"' + f"s{odd}"[:63].replace('"', '""') + '"'
        assert connection.scalar(functions, {"s": schema}) == 0


def test_names_follow_the_convention(pg_engine: Engine) -> None:
    metadata = MetaData(
        naming_convention={"history_attached": "tr_%(trigger_name)s_%(table_name)s"}
    )
    note = Table("note", metadata, Column("id", Integer, primary_key=True))
    attach(
        Trigger("pair", "before", Insert | Update, body="RETURN NEW;", condition=true())
    )(note)
    metadata.create_all(pg_engine)
    with pg_engine.connect() as connection:
        triggers = connection.execute(
            text("SELECT tgname, tgfoid::regproc::text FROM pg_trigger ORDER BY 1")
        ).all()
    assert triggers == [
        ("tr_pair_insert_note", "tr_pair_note"),
        ("tr_pair_update_note", "tr_pair_note"),
    ]


@pytest.fixture
def listening(pg_url: URL) -> Iterator[Any]:
    """A connection of the driver that listens to the channel "notes"."""
    engine = create_engine(pg_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("LISTEN notes"))
        yield connection.connection.driver_connection


def test_listeners_are_notified_of_each_committed_change(
    note: Table, create_all: CreateAll, pg_session: Session, listening: Any
) -> None:
    """The pattern of pgtrigger: tell who listens of each change that is committed."""
    attach(
        Trigger(
            "notify",
            "after",
            Insert | Update | Delete,
            declare="changed jsonb;",
            body="changed := to_jsonb(COALESCE(NEW, OLD));\n"
            "PERFORM pg_notify('notes', format('%s %s', TG_OP, changed ->> 'id'));\n"
            "RETURN NULL;",
        )
    )(note)
    create_all()
    pg_session.execute(insert(note).values(id=1))
    pg_session.rollback()
    pg_session.execute(insert(note).values(id=2))
    pg_session.execute(update(note).values(body="a"))
    pg_session.execute(delete(note))
    pg_session.commit()
    told = [n.payload for n in listening.notifies(timeout=10, stop_after=3)]
    assert told == ["INSERT 2", "UPDATE 2", "DELETE 2"]
