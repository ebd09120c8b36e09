"""Types of the application that do not expect NULL, as their columns have none."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Column,
    Enum,
    Integer,
    Interval,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    delete,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.types import UserDefinedType

import sa_history as history
from sa_history import AfterDelete, AfterUpdate, Snapshot, new, track

from .transactions import commit


class Tags(TypeDecorator[list[str]]):
    """A list of words, as text."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> str:
        assert isinstance(value, list)
        return " ".join(value)

    def process_result_value(self, value: Any, dialect: Any) -> list[str]:
        assert isinstance(value, str)
        return value.split()


class Colour(TypeDecorator[str]):
    """A type with DDL inside: an ENUM."""

    impl = Enum("red", "blue", name="colour")
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Any) -> str:
        return str(value.upper())


class Point(UserDefinedType[tuple[float, float]]):
    """A type that is no decorator."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "point"

    def bind_processor(self, dialect: Any) -> Any:
        return str

    def result_processor(self, dialect: Any, coltype: object) -> Any:
        return lambda value: tuple(map(float, value.strip("()").split(",")))


class Code(Tags):
    """A type that is compiled by a function."""

    cache_ok = True


@compiles(Code, "postgresql")
def _compile_code(element: Code, compiler: Any, **_: Any) -> str:
    return 'text COLLATE "C"'


class Around(TypeDecorator[Any]):
    """A type whose values are read by another one."""

    impl = Point
    cache_ok = True


class Tsquery(UserDefinedType[str]):
    """A type that needs to do nothing with the values of a driver."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "tsquery"

    def result_processor(self, dialect: Any, coltype: object) -> None:
        return None


class Plain(TypeDecorator[str]):
    """A type that leaves values as they are read."""

    impl = String
    cache_ok = True


TYPES: list[tuple[Any, Any, Any]] = [
    (Tags, ["a"], ["a", "b"]),
    (JSON().with_variant(Tags(), "postgresql"), ["a"], ["a", "b"]),
    (Colour, "RED", "BLUE"),
    (Point, (1.0, 2.0), (3.0, 4.0)),
    (Code, ["a"], ["b"]),
    (Around, (1.0, 2.0), (3.0, 4.0)),
    (Tsquery, "'a'", "'b'"),
]
STORED = {"RED": "red", "BLUE": "blue"}


@pytest.mark.usefixtures("undo_way")
@pytest.mark.parametrize(("type_", "one", "two"), TYPES)
def test_history_of_a_type_that_reads_no_null(
    pg_session: Session, type_: Any, one: Any, two: Any
) -> None:
    metadata = MetaData()
    table = Table(
        "thing",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("value", type_, nullable=False),
    )
    track(Snapshot, AfterDelete)(table)
    metadata.create_all(pg_session.connection())
    write_one, write_two = (
        STORED.get(value, value) if isinstance(value, str) else value
        for value in (one, two)
    )
    commit(pg_session, insert(table).values(id=1, value=write_one))
    commit(pg_session, update(table).values(value=write_two))
    commit(pg_session, delete(table))
    found = pg_session.execute(history.changes((table, 1), "value"))
    assert [(row.before, row.after) for row in found] == [
        (None, one),
        (one, two),
        (two, None),
    ]
    for event in pg_session.scalars(history.events(table).select()).all()[::-1]:
        history.undo(pg_session, table, transaction=event)
    assert pg_session.execute(select(table)).all() == []


def test_event_without_the_value_of_a_column(pg_session: Session) -> None:
    class Base(DeclarativeBase):
        pass

    @track(
        Snapshot,
        AfterUpdate(new.note == "x", label="noted", columns=["note"]),
    )
    class Thing(Base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        note: Mapped[str] = mapped_column(Text)
        tags: Mapped[list[str]] = mapped_column(Tags)

    Base.metadata.create_all(pg_session.connection())
    commit(pg_session, insert(Thing).values(id=1, note="", tags=["a"]))
    commit(pg_session, update(Thing).values(note="x"))
    # As it is of a column that was added later.
    pg_session.execute(text("UPDATE thing_event SET tags = NULL WHERE pgh_id = 1"))
    events = pg_session.scalars(Thing.events.select()).all()
    assert {event.pgh_label: event.tags for event in events[1:]} == {
        "snapshot": ["a"],
        "noted": None,
    }
    assert events[0].tags is None
    found = pg_session.scalars(Thing.events.where(Thing.events.tags == ["a"]))
    assert [event.pgh_op for event in found] == ["U"]


def test_events_have_the_very_type_of_other_columns() -> None:
    metadata = MetaData()
    table = Table(
        "thing",
        metadata,
        Column("id", Tags, primary_key=True),
        Column("optional", Tags),
        Column("required", Tags, nullable=False),
        Column("number", Integer, nullable=False),
        Column("duration", Interval, nullable=False),
        Column("plain", Plain, nullable=False),
    )
    track()(table)
    events = metadata.tables["thing_event"]
    for name in ("id", "optional", "number", "duration", "plain"):
        assert events.c[name].type is table.c[name].type
    assert isinstance(events.c.required.type, Tags)
