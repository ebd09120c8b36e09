"""Which triggers ``ignore`` means: models, names and tables of each kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    Text,
    delete,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateSchema

import sa_history as history
from sa_history import Insert, Protect, Trigger, Truncate, Update, attach, new
from sa_history.exc import IgnoreError, ProtectedError
from tests.triggers.ignore.helpers import mark


@pytest.fixture
def models(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    """A parent with a subclass that has a table of its own, and two other models."""

    @attach(mark("x"))
    class Pet(base):  # type: ignore[misc, valid-type]
        __tablename__ = "pet"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "pet"}
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        marks: Mapped[str] = mapped_column(server_default="")

    @attach(mark("x"), mark("z"))
    class Cat(Pet):
        __tablename__ = "cat"
        __mapper_args__ = {"polymorphic_identity": "cat"}
        id: Mapped[int] = mapped_column(ForeignKey("pet.id"), primary_key=True)
        cat_marks: Mapped[str] = mapped_column("marks", server_default="")

    class Dog(Pet):
        __mapper_args__ = {"polymorphic_identity": "dog"}

    class Car(base):  # type: ignore[misc, valid-type]
        __table__ = Table(
            "car",
            base.metadata,
            Column("id", Integer, primary_key=True),
            Column("marks", Text, server_default=""),
        )

    attach(mark("x"), mark("y"))(Car.__table__)

    class Plain(base):  # type: ignore[misc, valid-type]
        __tablename__ = "plain"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    return {"Pet": Pet, "Cat": Cat, "Dog": Dog, "Car": Car, "Plain": Plain}


@pytest.mark.parametrize(
    ("what", "ran"),
    [
        (["Pet"], {"pet": "", "cat": "", "car": "xy"}),
        (["Cat"], {"pet": "", "cat": "", "car": "xy"}),
        (["Dog"], {"pet": "", "cat": "xz", "car": "xy"}),
        (["Car"], {"pet": "x", "cat": "xz", "car": ""}),
        (["Pet", "x"], {"pet": "", "cat": "z", "car": "xy"}),
        (["Pet", "z"], {"pet": "x", "cat": "x", "car": "xy"}),
        (["Cat", "x", "z"], {"pet": "", "cat": "", "car": "xy"}),
        (["car", "y"], {"pet": "x", "cat": "xz", "car": "x"}),
        (["car"], {"pet": "x", "cat": "xz", "car": ""}),
        (["Dog", "Car"], {"pet": "", "cat": "xz", "car": ""}),
        (["Pet", "Car", "y"], {"pet": "x", "cat": "xz", "car": "x"}),
        (["Cat", "x", "Car"], {"pet": "", "cat": "z", "car": "y"}),
        (["x"], {"pet": "", "cat": "z", "car": "y"}),
        (["y", "z"], {"pet": "x", "cat": "x", "car": "x"}),
        (["unheard of"], {"pet": "x", "cat": "xz", "car": "xy"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("bound", [True, False], ids=["session", "thread"])
def test_models_tables_and_names_say_which_triggers_are_ignored(
    bound: bool,
    what: list[str],
    ran: dict[str, str],
    models: Any,
    pg_session: Session,
) -> None:
    tables = {"car": models["Car"].__table__}
    target = [pg_session] if bound else []
    items = [models.get(item, tables.get(item, item)) for item in what]
    with history.ignore(*target, *items):
        pg_session.add_all([models["Cat"](id=1), models["Car"](id=1)])
        pg_session.flush()
    found = {
        table: pg_session.scalar(text(f"SELECT marks FROM {table}")) for table in ran
    }
    assert found == ran


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ([], "ignore needs to be told what: write history.ignore"),
        (["Car", "z"], "Car has no trigger 'z' that can be ignored; it has x, y"),
        (["car", "z"], "car has no trigger 'z'"),
        (["Pet", "y"], "Pet has no trigger 'y'.*it has x, z"),
        (["Car", "Dog", "z"], "Car or Dog has no trigger 'z'"),
        (["Car", "x", "why"], "Car has no trigger 'why'.*it has x, y"),
        (
            ["Plain"],
            "Plain has no trigger that can be ignored; give it one with attach",
        ),
        (["Car", "Plain"], "Plain has no trigger that can be ignored"),
        (["Plain", "x"], "Plain has no trigger that can be ignored"),
        (["Car", "car_x"], "Car has no trigger 'car_x'"),
        ([5], "ignore takes models, tables and names of triggers, got 5"),
        (["Car", None], "got None"),
        ([int], "got <class 'int'>"),
        ([Insert], "got Insert"),
    ],
    ids=str,
)
def test_what_cannot_be_ignored_is_refused_at_the_call(
    what: list[Any], message: str, models: Any, pg_session: Session
) -> None:
    tables = {"car": models["Car"].__table__}
    items = [
        models.get(item, tables.get(item, item)) if isinstance(item, str) else item
        for item in what
    ]
    with pytest.raises(IgnoreError, match=message):
        history.ignore(pg_session, *items)


def test_close_name_is_suggested(note: Any, base: Any, pg_session: Session) -> None:
    attach(mark("official"))(note)
    with pytest.raises(IgnoreError, match="did you mean 'official'"):
        history.ignore(pg_session, note, "oficial")


LOOKALIKES = [
    ("*", "mark"),
    ("other", "*"),
    ("a", "b:c"),
    ("a:b", "c"),
    ("a\\", ":c"),
    ("a\\:", "c"),
    ("a\\", "b:c"),
    ("a:b\\", "c"),
    ("a", "*"),
    ("*", "*"),
    ("a", "c"),
    ("a", '","a:c'),
    ("a", '"],["other:mark"]'),
    ("a", "a\\u003ac"),
    ("a,b", "it's, {x} %s %% :y"),
    ("Größe 寸😀", "Größe 寸😀"),
    ("other", "mark"),
    ("s.t", "mark"),
]


def test_names_that_look_like_others_ignore_only_themselves(pg_engine: Engine) -> None:
    metadata = MetaData()
    tables: dict[str, Table] = {}
    for table, _ in LOOKALIKES:
        if table not in tables:
            tables[table] = Table(
                table,
                metadata,
                Column("id", Integer, primary_key=True),
                Column("marks", Text),
            )
    for number, (table, name) in enumerate(LOOKALIKES):
        body = f"NEW.marks := concat(NEW.marks, '<{number}>'); RETURN NEW;"
        attach(Trigger(name, "before", Insert, body=body))(tables[table])
    metadata.create_all(pg_engine)

    def ran() -> set[int]:
        point = connection.begin_nested()
        numbers: set[int] = set()
        for table in tables.values():
            marks = connection.scalar(insert(table).returning(table.c.marks)) or ""
            numbers |= {int(n) for n in marks.strip("<>").split("><") if n}
        point.rollback()
        return numbers

    everything = set(range(len(LOOKALIKES)))
    with pg_engine.begin() as connection:
        assert ran() == everything
        for number, (table, name) in enumerate(LOOKALIKES):
            with history.ignore(connection, tables[table], name):
                assert ran() == everything - {number}, (table, name)
            with history.ignore(connection, tables[table]):
                of_table = {n for n in everything if LOOKALIKES[n][0] == table}
                assert ran() == everything - of_table, table
            with history.ignore(connection, name):
                of_name = {n for n in everything if LOOKALIKES[n][1] == name}
                assert ran() == everything - of_name, name


def test_trigger_of_a_partitioned_table_is_ignored_in_its_partitions(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    reading = Table(
        "reading",
        base.metadata,
        Column("id", Integer),
        Column("marks", Text),
        postgresql_partition_by="LIST (id)",
    )
    attach(mark("x"), mark("y", condition=new.id > 0))(reading)
    create_all()
    pg_session.execute(text("CREATE TABLE p1 PARTITION OF reading FOR VALUES IN (1)"))
    marks = select(reading.c.marks)
    pg_session.execute(insert(reading).values(id=1))
    assert pg_session.scalars(marks).all() == ["xy"]
    for what, expected in ((("x",), "y"), ((reading,), None), ((reading, "y"), "x")):
        pg_session.execute(delete(reading))
        with history.ignore(pg_session, *what):
            pg_session.execute(text("INSERT INTO p1 VALUES (1)"))
            assert pg_session.scalars(marks).all() == [expected]


def test_schema_translate_map_changes_nothing(
    note: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    with pg_engine.begin() as connection:
        connection.execute(CreateSchema("tenant"))
    tenant = pg_engine.execution_options(schema_translate_map={None: "tenant"})
    base.metadata.create_all(tenant)
    marks = select(note.marks).order_by(note.id)
    with Session(tenant) as session, history.ignore(session, note, "x"):
        session.add(note("a"))
        session.flush()
        with history.ignore(session, "y"):
            session.add(note("b"))
            session.flush()
        assert session.scalars(marks).all() == ["y", ""]


def test_triggers_of_truncate_and_of_statements_are_ignored(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    note = Table("note", base.metadata, Column("id", Integer, primary_key=True))
    attach(
        Protect(Truncate, name="kept"),
        Trigger(
            "quiet",
            "before",
            Insert | Update,
            level="statement",
            condition=text("true"),
            body="RAISE EXCEPTION 'quiet, please';",
        ),
    )(note)
    create_all()
    with history.ignore(pg_session, note, "quiet"):
        pg_session.execute(insert(note).values(id=1))
        with pytest.raises(ProtectedError), pg_session.begin_nested():
            pg_session.execute(text("TRUNCATE note"))
    with history.ignore(pg_session, note, "kept"):
        with pytest.raises(DBAPIError, match="quiet, pl"), pg_session.begin_nested():
            pg_session.execute(update(note).values(id=2))
        pg_session.execute(text("TRUNCATE note"))
