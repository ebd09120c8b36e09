"""The value that marks a row as deleted."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Computed,
    DateTime,
    Engine,
    Enum,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    literal,
    null,
    select,
    text,
    types,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import SoftDelete, attach
from sa_history.exc import DefinitionError
from tests.triggers.soft_delete.helpers import THEN, Cents

Stored = Callable[..., list[tuple[Any, ...]]]


class State(enum.Enum):
    ACTIVE = "active now"
    GONE = "it's gone: 100%"


class Address(types.UserDefinedType[str]):
    """A type that does not say what its values are in Python."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "macaddr"

    def literal_processor(self, dialect: Any) -> Any:
        return lambda value: f"'{value}'::macaddr"

    @property
    def python_type(self) -> Any:
        raise NotImplementedError  # as those of SQLAlchemy 2.0 do


@pytest.mark.parametrize(
    ("type_", "before", "value"),
    [
        (types.Boolean(), True, False),
        (types.Boolean(), None, True),
        (types.Boolean(), False, None),
        (types.String(20), "live", "it's gone: 100% \\ %s"),
        (types.Text(), None, ""),
        (types.Enum(State), State.ACTIVE, State.GONE),
        (types.Enum("a", "b", name="letter"), "a", "b"),
        (types.Enum(State, native_enum=False, length=30), State.ACTIVE, State.GONE),
        (types.Integer(), 5, 0),
        (types.SmallInteger(), 0, -1),
        (types.BigInteger(), 0, 2**40),
        (types.Numeric(10, 2), decimal.Decimal("1.50"), decimal.Decimal("0.00")),
        (types.Float(), 1.5, -0.25),
        (types.Date(), None, datetime.date(2001, 2, 3)),
        (JSONB(), {"gone": False}, {"gone": True}),
        (types.DateTime(timezone=True), None, THEN),
        (types.Interval(), None, datetime.timedelta(days=1)),
        (types.Uuid(), None, uuid.UUID(int=7)),
        (types.LargeBinary(), b"x", b"\x00'\\%"),
        (Cents(), decimal.Decimal(5), decimal.Decimal("0.5")),
        (types.String(collation="C"), "live", "gone"),
        (Address(), None, "08:00:2b:01:02:03"),
    ],
    ids=lambda value: repr(value)[:30] if not isinstance(value, bytes) else "bytes",
)
def test_a_column_of_any_type_takes_the_value(
    pg_engine: Engine, type_: Any, before: Any, value: Any, stored: Stored
) -> None:
    thing = Table(
        "thing",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("mark", type_),
    )
    attach(SoftDelete("mark", value=value))(thing)
    thing.metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(insert(thing).values(id=1, mark=before))
        connection.execute(delete(thing))
    assert stored(thing) == [(1, value)]
    with pg_engine.begin() as connection:
        connection.execute(delete(thing))
    assert stored(thing) == [(1, value)]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (Column("mark", Integer), False, "its values are of type int"),
        (Column("mark", Integer), "1", "its values are of type int"),
        (Column("mark", String(3)), "long", "it has 3 characters at most"),
        (Column("mark", Enum(State)), "elsewhere", "State.ACTIVE"),
        (Column("mark", DateTime), False, "its values are of type datetime"),
        (Column("mark", DateTime), text("now()"), "its values are of type datetime"),
        (Column("mark", Integer, nullable=False), None, "is not nullable"),
        (Column("mark", JSONB), {"gone": {1}}, "type set is not JSON serializable"),
        (Column("mark", Integer, primary_key=True), 1, "of the primary key"),
        (Column("mark", Integer, Computed("1", persisted=True)), 1, "generated"),
        (Column("other", Integer), 1, "'mark', which is not a column attribute"),
    ],
)
def test_a_value_that_the_column_cannot_have_is_refused_at_once(
    column: Column[Any], value: Any, message: str
) -> None:
    thing = Table("thing", MetaData(), Column("id", Integer, primary_key=True), column)
    with pytest.raises(DefinitionError, match=message):
        attach(SoftDelete("mark", value=value))(thing)


def test_a_table_without_a_primary_key_is_refused() -> None:
    thing = Table("thing", MetaData(), Column("mark", types.Boolean))
    with pytest.raises(DefinitionError, match="SoftDelete needs a primary key"):
        attach(SoftDelete("mark"))(thing)


def test_deleting_twice_leaves_the_first_time(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    stored: Stored,
) -> None:
    @attach(SoftDelete("deleted_at", value=func.clock_timestamp()))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        deleted_at: Mapped[datetime.datetime | None] = mapped_column(
            DateTime(timezone=True)
        )

    create_all()
    pg_session.add_all([Page(id=1), Page(id=2, deleted_at=THEN)])
    pg_session.flush()
    pg_session.execute(text("DELETE FROM page"))
    pg_session.commit()
    first = stored(Page)
    assert first[0][1] > THEN
    assert first[1] == (2, THEN)
    pg_session.execute(text("DELETE FROM page"))
    pg_session.commit()
    assert stored(Page) == first


def test_now_is_when_the_transaction_began(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @attach(SoftDelete("deleted_at", value=func.now()))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        deleted_at: Mapped[datetime.datetime | None]

    create_all()
    pg_session.add(Page(id=1))
    pg_session.flush()
    pg_session.execute(text("DELETE FROM page"))
    same = "SELECT deleted_at = now()::timestamp FROM page"
    assert pg_session.scalar(text(same)) is True


def test_an_expression_marks_a_column_that_is_not_nullable_each_time(
    pg_engine: Engine, stored: Stored
) -> None:
    thing = Table(
        "thing",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("mark", Integer, nullable=False),
    )
    attach(SoftDelete("mark", value=func.least(7, 8)))(thing)
    thing.metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(insert(thing).values(id=1, mark=0))
        connection.execute(delete(thing))
    assert stored(thing) == [(1, 7)]


@pytest.mark.parametrize("value", [literal("gone"), func.upper("gone"), null()])
def test_any_expression_may_be_the_value(
    pg_engine: Engine, stored: Stored, value: Any
) -> None:
    thing = Table(
        "thing",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("mark", Text),
    )
    attach(SoftDelete("mark", value=value))(thing)
    thing.metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(insert(thing).values(id=1))
        connection.execute(delete(thing))
        expected = connection.scalar(select(value))
    assert stored(thing) == [(1, expected)]
