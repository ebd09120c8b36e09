"""Corners where history could be lost without a word."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    URL,
    Column,
    Engine,
    Enum,
    Integer,
    String,
    TypeDecorator,
    create_engine,
    func,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterUpdate, Snapshot, new, track


class Role(enum.Enum):
    ADMIN = "admin"


class IgnoringCase(TypeDecorator[str]):
    """Strings that compare in lower case."""

    impl = String
    cache_ok = True

    class comparator_factory(TypeDecorator.Comparator[str]):
        def operate(self, op: Any, *other: Any, **kwargs: Any) -> Any:
            lowered = [func.lower(value) for value in other]
            return op(func.lower(self.expr), *lowered, **kwargs)


def test_tables_are_tracked_where_the_connection_creates_them(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_engine: Engine,
    level: str,
) -> None:
    @track(level=level)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    with pg_engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA tenant"))
        connection.execute(text("SET LOCAL search_path = tenant"))
        base.metadata.create_all(connection)
        connection.execute(Account.__table__.insert().values(id=7))
    count = "SELECT count(*) FROM {}.account_event"
    with pg_engine.begin() as connection:
        connection.execute(Account.__table__.insert().values(id=8))
        assert connection.scalar(text(count.format("tenant"))) == 1
        assert connection.scalar(text(count.format("public"))) == 1
        connection.execute(text("SET LOCAL search_path = tenant"))
        base.metadata.drop_all(connection)
        left = (
            "SELECT count(*) FROM pg_proc WHERE pronamespace = 'tenant'::regnamespace"
        )
        assert connection.scalar(text(left)) == 0


def test_a_type_that_compares_in_its_own_way_hides_no_change(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    recorded: Callable[..., list[Any]],
    level: str,
) -> None:
    @track(level=level)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        owner: Mapped[str] = mapped_column(IgnoringCase)

    create_all()
    pg_session.add(Account(id=1, owner="ann"))
    pg_session.flush()
    pg_session.execute(update(Account).values(owner="Ann"))
    pg_session.commit()
    assert [e[2] for e in recorded(Account, "owner")] == ["ann", "Ann"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_subclasses_may_use_one_name_for_different_columns(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    recorded: Callable[..., list[Any]],
    when: str,
) -> None:
    class Pet(base):  # type: ignore[misc, valid-type]
        __tablename__ = "pet"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "pet"}
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]

    if when == "before":
        track()(Pet)

    class Cat(Pet):
        __mapper_args__ = {"polymorphic_identity": "cat"}
        name: Mapped[str] = mapped_column("cat_name", nullable=True)

    class Dog(Pet):
        __mapper_args__ = {"polymorphic_identity": "dog"}
        name: Mapped[str] = mapped_column("dog_name", nullable=True)

    if when == "after":
        track()(Pet)
    create_all()
    pg_session.add_all([Cat(id=1, name="Tom"), Dog(id=2, name="Rex")])
    pg_session.commit()
    found = recorded(Pet, "id", "name", "dog_name")
    assert [event[2:5] for event in found] == [(1, "Tom", None), (2, None, "Rex")]


def test_a_column_that_is_added_after_track_is_recorded(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    recorded: Callable[..., list[Any]],
) -> None:
    @track()
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    Account.note = mapped_column(String)
    create_all()
    pg_session.add(Account(id=1, note="late"))
    pg_session.commit()
    assert [event[2] for event in recorded(Account, "note")] == ["late"]


@pytest.fixture
def signed(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    """A model whose events have columns for keys of the context."""
    values = Enum(Role, values_callable=lambda e: [member.value for member in e])

    @track(
        context_columns=[
            Column("who", String(5)),
            Column("role", values),
            Column("extra", JSONB),
            Column("number", Integer),
        ]
    )
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    return Account


@pytest.mark.parametrize("extra", ["a string", ["a", 1], {"a": None}, None])
def test_context_columns_hold_what_the_context_has(
    signed: Any,
    pg_session: Session,
    recorded: Callable[..., list[Any]],
    extra: Any,
) -> None:
    with history.context(pg_session, who="ann", role=Role.ADMIN, extra=extra, number=5):
        pg_session.add(signed(id=1))
        pg_session.commit()
    ((_, _, *found, _),) = recorded(signed, "who", "role", "extra", "number")
    assert found == ["ann", Role.ADMIN, extra, 5]


def test_a_value_that_is_too_long_for_its_context_column_is_refused(
    signed: Any, pg_session: Session
) -> None:
    pg_session.add(signed(id=1))
    with (
        history.context(pg_session, who="administrator"),
        pytest.raises(DataError, match="StringDataRightTruncation"),
    ):
        pg_session.flush()


def test_what_must_come_first_in_a_transaction_does(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_engine: Engine,
    recorded: Callable[..., list[Any]],
) -> None:
    @track(Snapshot)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    with history.context(user=7), Session(pg_engine) as session:
        session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        session.execute(text("LOCK TABLE account IN EXCLUSIVE MODE"))
        assert session.scalar(text("SHOW transaction_isolation")) == "repeatable read"
        session.add(Account(id=1))
        session.commit()
    assert recorded(Account, "id") == [("snapshot", "I", 1, {"user": 7})]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize(
    ("before", "after"),
    [("", ""), ("/* it's; /* the */ shop */ ", ";"), ("-- it's; the shop\n", " -- ;")],
    ids=["bare", "block comment", "line comments"],
)
def test_set_transaction_comes_first_whatever_comments_it_has(
    before: str, after: str, driver: str, pg_url: URL
) -> None:
    engine = create_engine(pg_url.set(drivername=f"postgresql+{driver}"))
    statement = f"{before}SET  TRANSACTION ISOLATION LEVEL SERIALIZABLE{after}"
    with engine.connect() as connection, history.context(connection, user=7):
        connection.execute(text("SHOW work_mem"))
        with history.context(connection, step=2):
            connection.execute(text("SAVEPOINT a"))
            connection.execute(text("RELEASE a"))
            connection.execute(text(statement))
        isolation = connection.scalar(text("SHOW transaction_isolation"))
    assert isolation == "serializable"
    engine.dispose()


def test_rows_that_cannot_be_paired_fail_the_statement(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    recorded: Callable[..., list[Any]],
    level: str,
) -> None:
    """A trigger of a partition leaves out a row that an UPDATE moves there.

    The model does not know that the table is partitioned, or its rows are not paired.
    """

    @track(Snapshot, AfterUpdate(new.value > 100, label="high"), level=level)
    class Reading(base):  # type: ignore[misc, valid-type]
        __tablename__ = "reading"
        id: Mapped[int] = mapped_column(primary_key=True)
        place: Mapped[str] = mapped_column(primary_key=True)
        value: Mapped[int]

    for statement in (
        "CREATE TABLE reading (id integer, place text, value integer,"
        " PRIMARY KEY (id, place)) PARTITION BY LIST (place)",
        "CREATE TABLE here PARTITION OF reading FOR VALUES IN ('here')",
        "CREATE TABLE there PARTITION OF reading FOR VALUES IN ('there')",
        "CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN NULL; END $$",
        "CREATE TRIGGER leave_out BEFORE INSERT ON there FOR EACH ROW"
        " EXECUTE FUNCTION leave_out()",
    ):
        pg_session.execute(text(statement))
    pg_session.commit()
    create_all()
    pg_session.add_all([Reading(id=n, place="here", value=n) for n in (1, 2, 3)])
    pg_session.commit()
    move = text(
        "UPDATE reading SET value = value + 100,"
        " place = CASE id WHEN 2 THEN 'there' ELSE place END"
    )
    if level == "statement":
        with pytest.raises(IntegrityError, match="NotNullViolation"):
            pg_session.execute(move)
        return
    pg_session.execute(move)
    pg_session.commit()
    found = recorded(Reading, "id", "value")
    high = [event[2:4] for event in found if event[0] == "high"]
    assert high == [(1, 101), (3, 103)]
