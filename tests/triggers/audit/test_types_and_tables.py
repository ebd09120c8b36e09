"""Types of columns, partitioned tables and inheritance."""

from __future__ import annotations

import datetime
import enum
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    JSON,
    Column,
    Engine,
    Enum,
    ForeignKey,
    Integer,
    Table,
    Text,
    insert,
    text,
    update,
)
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import Audit, attach
from sa_history.install import install

Logged = Callable[..., list[Any]]
CreateAll = Callable[[], None]


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


MOMENT = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone.utc)

TYPES: dict[str, tuple[Any, Any, Any, Any]] = {
    "json": (JSON, {"b": 1, "a": [None]}, {"a": 1}, {"a": 1}),
    "jsonb": (pg.JSONB, [1], {"a": "ü%s"}, {"a": "ü%s"}),
    "bytea": (pg.BYTEA, b"\x00'\\", b"\xff", "\\xff"),
    "array": (ARRAY(Text), ["a"], ["it's", None], ["it's", None]),
    "enum": (Enum(Mood), Mood.GOOD, Mood.BAD, "BAD"),
    "citext": (pg.CITEXT, "ann", "Ann", "Ann"),
    "numeric": (pg.NUMERIC, Decimal("1.0"), Decimal("1.00"), 1.0),
    "double": (pg.DOUBLE_PRECISION, 1.5, float("inf"), "Infinity"),
    "boolean": (pg.BOOLEAN, True, None, None),
    "uuid": (pg.UUID, None, uuid.UUID(int=1), str(uuid.UUID(int=1))),
    "date": (pg.DATE, None, MOMENT.date(), "2024-02-29"),
    "timestamp": (pg.TIMESTAMP, None, MOMENT.replace(tzinfo=None), MOMENT.isoformat()),
    "interval": (pg.INTERVAL, None, datetime.timedelta(days=1), "1 day"),
    "range": (pg.INT4RANGE, None, pg.Range(1, 3), "[1,3)"),
    "hstore": (pg.HSTORE, {"a": None}, {"a": "1"}, {"a": "1"}),
}


@pytest.mark.contrib
@pytest.mark.parametrize("name", TYPES)
def test_values_of_every_type_are_logged_as_json(
    name: str,
    base: type[DeclarativeBase],
    log: Table,
    level: str,
    create_all: CreateAll,
    pg_engine: Engine,
    pg_session: Session,
    logged: Logged,
) -> None:
    type_, before, after, expected = TYPES[name]
    if name == "timestamp":
        expected = expected.removesuffix("+00:00")
    thing = Table(
        "thing",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("value", type_),
    )
    attach(Audit(into=log, level=level))(thing)
    attach(Audit(into=log, level=level, name="chosen", columns=["value"]))(thing)
    if name in ("citext", "hstore"):
        with pg_engine.begin() as connection:
            connection.execute(text(f"CREATE EXTENSION {name}"))
    create_all()
    pg_engine.dispose()  # what SQLAlchemy knows of hstore, it asks when it connects
    with pg_engine.begin() as connection:
        connection.execute(insert(thing).values(id=1, value=before))
        connection.execute(update(thing).values(value=after))
        connection.execute(update(thing).values(value=after))
    found = logged("operation", "new_row")
    assert [operation for operation, _ in found] == ["INSERT"] * 2 + ["UPDATE"] * 2
    assert [row for _, row in found[2:]] == [{"id": 1, "value": expected}] * 2


@pytest.mark.parametrize("chosen", [None, ["place", "value"]], ids=["all", "columns"])
def test_partitioned_table_has_its_own_name_in_the_log(
    chosen: list[str] | None,
    base: type[DeclarativeBase],
    log: Table,
    level: str,
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    @attach(Audit(into=log, level=level, columns=chosen))
    class Reading(base):  # type: ignore[misc, valid-type]
        __tablename__ = "reading"
        __table_args__ = {"postgresql_partition_by": "LIST (place)"}
        id: Mapped[int] = mapped_column(primary_key=True)
        place: Mapped[str] = mapped_column(primary_key=True)
        value: Mapped[int]

    create_all()
    for place in ("here", "there"):
        pg_session.execute(
            text(f"CREATE TABLE {place} PARTITION OF reading FOR VALUES IN ('{place}')")
        )
    pg_session.add_all(
        Reading(id=n, place=place, value=n) for n, place in ((1, "here"), (2, "there"))
    )
    pg_session.flush()
    pg_session.execute(update(Reading).values(value=Reading.value + 10))
    pg_session.execute(text("UPDATE reading SET place = 'there' WHERE id = 1"))
    pg_session.commit()
    assert {*logged("table_name")} == {"reading"}
    here, there = (
        {"id": n, "place": place, "value": 10 + n}
        for n, place in ((1, "here"), (2, "there"))
    )
    moved = {**here, "place": "there"}
    found = logged("operation", "old_row", "new_row")
    assert found[:4] == [
        ("INSERT", None, {**here, "value": 1}),
        ("INSERT", None, {**there, "value": 2}),
        ("UPDATE", {**here, "value": 1}, here),
        ("UPDATE", {**there, "value": 2}, there),
    ]
    # For triggers for each row a move is what PostgreSQL makes of it.
    assert found[4:] == [("DELETE", here, None), ("INSERT", None, moved)]


def test_rows_that_cannot_be_paired_fail_the_statement(
    base: type[DeclarativeBase],
    log: Table,
    create_all: CreateAll,
    pg_session: Session,
) -> None:
    reading = Table(
        "reading",
        base.metadata,
        Column("id", Integer),
        Column("place", Text),
    )
    attach(Audit(into=log))(reading)
    # The model does not know it, or rows are not paired.
    partitioned = "CREATE TABLE reading (id int, place text) PARTITION BY LIST (place)"
    pg_session.execute(text(partitioned))
    pg_session.commit()
    create_all()
    install(pg_session.get_bind(), base.metadata)
    for statement in (
        "CREATE TABLE here PARTITION OF reading FOR VALUES IN ('here')",
        "CREATE TABLE there PARTITION OF reading FOR VALUES IN ('there')",
        "CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN NULL; END $$",
        "CREATE TRIGGER leave_out BEFORE INSERT ON there FOR EACH ROW"
        " EXECUTE FUNCTION leave_out()",
        "INSERT INTO reading VALUES (1, 'here'), (2, 'here'), (3, 'here')",
    ):
        pg_session.execute(text(statement))
    move = (
        "UPDATE reading SET id = -id,"
        " place = CASE id WHEN 2 THEN 'there' ELSE place END"
    )
    with pytest.raises(IntegrityError, match=r"NotNullViolation.*\Wkey\W"):
        pg_session.execute(text(move))


def test_each_table_of_an_inheritance_logs_its_own_columns(
    base: type[DeclarativeBase],
    log: Table,
    level: str,
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    @attach(Audit(into=log, level=level))
    class Pet(base):  # type: ignore[misc, valid-type]
        __tablename__ = "pet"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "pet"}
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]

    @attach(Audit(into=log, level=level))
    class Cat(Pet):
        __tablename__ = "cat"
        __mapper_args__ = {"polymorphic_identity": "cat"}
        id: Mapped[int] = mapped_column(ForeignKey("pet.id"), primary_key=True)
        lives: Mapped[int]

    class Dog(Pet):
        __mapper_args__ = {"polymorphic_identity": "dog"}
        tricks: Mapped[int] = mapped_column(nullable=True)

    create_all()
    pg_session.add_all([Cat(id=1, lives=9), Dog(id=2, tricks=3)])
    pg_session.commit()
    found = logged("table_name", "new_row")
    assert sorted(found, key=str) == [
        ("cat", {"id": 1, "lives": 9}),
        ("pet", {"id": 1, "kind": "cat", "tricks": None}),
        ("pet", {"id": 2, "kind": "dog", "tricks": 3}),
    ]
