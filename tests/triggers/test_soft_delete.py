"""Rows that are marked as deleted and stay: what each way to delete them does."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from sqlalchemy import (
    URL,
    Column,
    Computed,
    Connection,
    DateTime,
    Engine,
    Enum,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    delete,
    func,
    insert,
    literal,
    null,
    select,
    text,
    types,
    update,
)
from sqlalchemy.dialects.postgresql import CITEXT, JSONB
from sqlalchemy.exc import IntegrityError, NotSupportedError, ProgrammingError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateSchema

import sa_history as history
from sa_history import (
    AfterDelete,
    Delete,
    Protect,
    Snapshot,
    SoftDelete,
    Touch,
    Update,
    Versioned,
    attach,
    new,
    old,
    track,
)
from sa_history.exc import DefinitionError, ProtectedError

Recorded = Callable[..., list[tuple[Any, ...]]]

THEN = datetime.datetime(2001, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc)
"""When a row was marked, long ago."""


class State(enum.Enum):
    ACTIVE = "active now"
    GONE = "it's gone: 100%"


class Cents(TypeDecorator[decimal.Decimal]):
    """Amounts that are stored in cents."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else int(value * 100)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else decimal.Decimal(value) / 100

    @property
    def python_type(self) -> type[Any]:
        return decimal.Decimal


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


@pytest.fixture
def account(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    """A model whose rows are marked, with three committed rows."""

    @attach(SoftDelete("is_active"))
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(default="a")
        is_active: Mapped[bool] = mapped_column(default=True)

    create_all()
    return Account


@pytest.fixture
def accounts(account: Any, pg_session: Session) -> Any:
    """The class, with three committed rows."""
    pg_session.add_all(account(id=n) for n in (1, 2, 3))
    pg_session.commit()
    return account


@pytest.fixture
def stored(pg_engine: Engine) -> Callable[..., list[tuple[Any, ...]]]:
    """Return committed rows of a table, by their key."""

    def read(target: Any, *columns: str) -> list[tuple[Any, ...]]:
        table = getattr(target, "__table__", target)
        wanted = [table.c[name] for name in columns] or list(table.c)
        with pg_engine.connect() as connection:
            rows = connection.execute(select(*wanted).order_by(*table.primary_key))
            return [tuple(row) for row in rows]

    return read


Stored = Callable[..., list[tuple[Any, ...]]]


# Values


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
        (Column("mark", JSONB), {"gone": True}, "literal"),
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


# Conditions


def test_only_rows_that_meet_the_condition_are_marked(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    stored: Stored,
) -> None:
    @attach(
        SoftDelete("is_active", condition=(old.kind == "100% it's") & old.is_active)
    )
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        is_active: Mapped[bool] = mapped_column(default=True)

    create_all()
    pg_session.add_all([Account(id=1, kind="100% it's"), Account(id=2, kind="b")])
    pg_session.flush()
    assert pg_session.connection().execute(delete(Account.__table__)).rowcount == 1
    pg_session.commit()
    assert stored(Account) == [(1, "100% it's", False)]
    pg_session.execute(text("DELETE FROM account"))
    pg_session.commit()
    assert stored(Account) == []


def test_a_condition_has_no_new_row(base: type[DeclarativeBase]) -> None:
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        is_active: Mapped[bool]

    with pytest.raises(DefinitionError, match="uses new.is_active"):
        attach(SoftDelete("is_active", condition=new.is_active))(Account)


def test_two_conditions_mark_two_columns(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    stored: Stored,
) -> None:
    @attach(
        SoftDelete("is_active", condition=old.kind == "a"),
        SoftDelete(
            "gone_at", value=literal(THEN), name="gone", condition=old.kind == "b"
        ),
    )
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        is_active: Mapped[bool] = mapped_column(default=True)
        gone_at: Mapped[datetime.datetime | None] = mapped_column(
            DateTime(timezone=True)
        )

    create_all()
    pg_session.add_all(Account(id=n, kind=kind) for n, kind in enumerate("abc"))
    pg_session.flush()
    pg_session.execute(text("DELETE FROM account"))
    pg_session.commit()
    assert stored(Account) == [(0, "a", False, None), (1, "b", True, THEN)]


# Ways to delete


def delete_in_bulk(connection: Connection, account: Any) -> Any:
    return connection.execute(delete(account.__table__).where(account.id < 3)).rowcount


def delete_by_text(connection: Connection, account: Any) -> Any:
    return connection.execute(text("DELETE FROM account WHERE id IN (1, 2)")).rowcount


def delete_returning(connection: Connection, account: Any) -> Any:
    statement = delete(account.__table__).where(account.id < 3).returning(account.id)
    return len(connection.execute(statement).all())


def delete_using(connection: Connection, account: Any) -> Any:
    statement = "DELETE FROM account USING generate_series(1, 2) AS n WHERE id = n"
    return connection.execute(text(statement)).rowcount


def delete_by_merge(connection: Connection, account: Any) -> Any:
    statement = (
        "MERGE INTO account USING generate_series(1, 2) AS n ON id = n"
        " WHEN MATCHED THEN DELETE"
    )
    return connection.execute(text(statement)).rowcount


def delete_in_a_common_table_expression(connection: Connection, account: Any) -> Any:
    statement = (
        "WITH gone AS (DELETE FROM account WHERE id < 3 RETURNING id)"
        " SELECT count(*) FROM gone"
    )
    return connection.scalar(text(statement))


def delete_many(connection: Connection, account: Any) -> Any:
    statement = text("DELETE FROM account WHERE id = :id")
    return connection.execute(statement, [{"id": 1}, {"id": 2}]).rowcount


def delete_by_a_cursor(connection: Connection, account: Any) -> Any:
    connection.execute(text("DECLARE c CURSOR FOR SELECT FROM account FOR UPDATE"))
    deleted = 0
    for _ in range(2):
        connection.execute(text("FETCH c"))
        statement = text("DELETE FROM account WHERE CURRENT OF c")
        deleted += connection.execute(statement).rowcount
    return deleted


@pytest.mark.parametrize(
    "door",
    [
        delete_in_bulk,
        delete_by_text,
        delete_returning,
        delete_using,
        delete_by_merge,
        delete_in_a_common_table_expression,
        delete_many,
        delete_by_a_cursor,
    ],
)
def test_whatever_deletes_rows_marks_them_and_finds_none(
    accounts: Any, pg_engine: Engine, stored: Stored, door: Callable[..., Any]
) -> None:
    with pg_engine.begin() as connection:
        assert door(connection, accounts) == 0
    assert stored(accounts, "id", "is_active") == [(1, False), (2, False), (3, True)]


def test_merge_that_deletes_updates_and_inserts_does_all_three(
    accounts: Any, pg_engine: Engine, stored: Stored
) -> None:
    with pg_engine.begin() as connection:
        connection.execute(
            text(
                "MERGE INTO account USING generate_series(1, 4) AS n ON id = n"
                " WHEN MATCHED AND n = 1 THEN DELETE"
                " WHEN MATCHED THEN UPDATE SET name = 'm'"
                " WHEN NOT MATCHED THEN INSERT VALUES (n, 'i', true)"
            )
        )
    assert stored(accounts) == [
        (1, "a", False),
        (2, "m", True),
        (3, "m", True),
        (4, "i", True),
    ]


def test_an_update_in_the_same_statement_does_not_get_in_the_way(
    accounts: Any, pg_engine: Engine, stored: Stored
) -> None:
    with pg_engine.begin() as connection:
        connection.execute(
            text(
                "WITH renamed AS (UPDATE account SET name = 'b' WHERE id = 1)"
                " DELETE FROM account WHERE id = 2"
            )
        )
    assert stored(accounts) == [(1, "b", True), (2, "a", False), (3, "a", True)]


def test_truncate_deletes_for_good(
    accounts: Any, pg_engine: Engine, stored: Stored
) -> None:
    with pg_engine.begin() as connection:
        connection.execute(text("TRUNCATE account"))
    assert stored(accounts) == []


def test_a_rollback_takes_the_mark_away(
    accounts: Any, pg_engine: Engine, stored: Stored
) -> None:
    with pg_engine.connect() as connection:
        connection.execute(text("DELETE FROM account WHERE id = 1"))
        with connection.begin_nested() as savepoint:
            connection.execute(text("DELETE FROM account WHERE id = 2"))
            savepoint.rollback()
        connection.commit()
        connection.execute(text("DELETE FROM account WHERE id = 3"))
        connection.rollback()
    assert stored(accounts, "id", "is_active") == [(1, False), (2, True), (3, True)]


def test_the_driver_alone_marks_as_well(
    accounts: Any, pg_url: URL, stored: Stored
) -> None:
    url = pg_url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM account")
    assert stored(accounts, "is_active") == [(False,), (False,), (False,)]


def test_who_waits_for_another_deletion_leaves_its_mark(
    pg_engine: Engine, stored: Stored
) -> None:
    thing = Table(
        "thing",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("deleted_by", Text),
    )
    attach(SoftDelete("deleted_by", value=func.current_setting("app.who")))(thing)
    thing.metadata.create_all(pg_engine)
    waits = text("SELECT cardinality(pg_blocking_pids(:pid)) > 0")
    with (
        pg_engine.connect() as one,
        pg_engine.connect() as two,
        pg_engine.connect() as observer,
        ThreadPoolExecutor(1) as other,
    ):
        one.execute(insert(thing).values(id=1))
        one.commit()
        for who, connection in (("one", one), ("two", two)):
            connection.execute(text(f"SET app.who = '{who}'"))
        pid = two.scalar(text("SELECT pg_backend_pid()"))
        one.execute(delete(thing))
        waiting = other.submit(two.execute, delete(thing))
        while not observer.scalar(waits, {"pid": pid}):
            pass
        one.commit()
        assert waiting.result().rowcount == 0
        two.commit()
    assert stored(thing) == [(1, "one")]


# Ignoring it


@pytest.mark.parametrize("names", [("soft_delete",), ()])
def test_ignored_it_deletes_for_good(
    accounts: Any, pg_session: Session, stored: Stored, names: tuple[str, ...]
) -> None:
    with history.ignore(pg_session, accounts, *names):
        pg_session.execute(delete(accounts).where(accounts.id == 1))
    pg_session.execute(delete(accounts).where(accounts.id == 2))
    pg_session.commit()
    assert stored(accounts, "id", "is_active") == [(2, False), (3, True)]


def test_that_cannot_be_ignored_marks_always(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    stored: Stored,
) -> None:
    @attach(SoftDelete("is_active", ignorable=False), Protect(Update))
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        is_active: Mapped[bool] = mapped_column(default=True)

    create_all()
    pg_session.add(Account(id=1))
    pg_session.flush()
    with history.ignore(pg_session, Account):
        pg_session.execute(text("DELETE FROM account"))
    pg_session.commit()
    assert stored(Account) == [(1, False)]


# Foreign keys


def family(
    base: type[DeclarativeBase],
    soft: str,
    ondelete: str | None,
    condition: Any = None,
) -> tuple[Any, Any]:
    """A parent and its children; one of them is ``soft``."""

    class Parent(base):  # type: ignore[misc, valid-type]
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)
        is_active: Mapped[bool] = mapped_column(default=True)

    class Child(base):  # type: ignore[misc, valid-type]
        __tablename__ = "child"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int | None] = mapped_column(
            ForeignKey("parent.id", ondelete=ondelete)
        )
        is_active: Mapped[bool] = mapped_column(default=True)

    model = Parent if soft == "parent" else Child
    attach(SoftDelete("is_active", condition=condition))(model)
    return Parent, Child


def add_family(session: Session, parent: Any, child: Any) -> None:
    session.add_all([parent(id=1), parent(id=2)])
    session.flush()
    session.add_all([child(id=1, parent_id=1), child(id=2, parent_id=2)])
    session.add(child(id=3))
    session.commit()


@pytest.mark.parametrize("ondelete", ["CASCADE", "cascade", None, "RESTRICT"])
def test_a_row_that_marked_rows_refer_to_cannot_be_deleted(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    stored: Stored,
    ondelete: str | None,
) -> None:
    parent, child = family(base, "child", ondelete)
    create_all()
    add_family(pg_session, parent, child)
    with pytest.raises(IntegrityError):
        pg_session.execute(text("DELETE FROM parent WHERE id = 1"))
    pg_session.rollback()
    assert stored(parent, "id") == [(1,), (2,)]
    assert stored(child) == [(1, 1, True), (2, 2, True), (3, None, True)]

    pg_session.execute(text("DELETE FROM child"))
    with pytest.raises(IntegrityError):
        pg_session.execute(text("DELETE FROM parent WHERE id = 1"))


def test_the_error_of_a_cascade_names_what_is_in_the_way(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    parent, child = family(base, "child", "CASCADE")
    create_all()
    add_family(pg_session, parent, child)
    with pytest.raises(IntegrityError) as caught:
        pg_session.execute(text("DELETE FROM parent WHERE id = 1"))
    error: Any = caught.value.orig
    assert error.sqlstate == "23503"
    assert error.diag.message_primary == (
        "DELETE of public.child is refused: its row in parent is deleted"
    )
    assert error.diag.message_hint == (
        "The row stays, marked; mark what it refers to as well."
    )
    assert (error.diag.schema_name, error.diag.table_name) == ("public", "child")


def test_ignored_a_cascade_goes_through(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    stored: Stored,
) -> None:
    parent, child = family(base, "child", "CASCADE")
    create_all()
    add_family(pg_session, parent, child)
    with history.ignore(pg_session, child, "soft_delete"):
        pg_session.execute(text("DELETE FROM parent WHERE id = 1"))
    pg_session.commit()
    assert stored(child, "id") == [(2,), (3,)]


def test_a_cascade_deletes_rows_that_the_condition_leaves_out(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    stored: Stored,
) -> None:
    parent, child = family(base, "child", "CASCADE", condition=old.id > 1)
    create_all()
    add_family(pg_session, parent, child)
    pg_session.execute(text("DELETE FROM parent WHERE id = 1"))
    pg_session.commit()
    assert stored(child, "id") == [(2,), (3,)]
    with pytest.raises(IntegrityError, match="its row in parent is deleted"):
        pg_session.execute(text("DELETE FROM parent WHERE id = 2"))


def test_set_null_leaves_rows_without_the_row_they_referred_to(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    stored: Stored,
) -> None:
    parent, child = family(base, "child", "SET NULL")
    create_all()
    add_family(pg_session, parent, child)
    pg_session.execute(text("DELETE FROM child WHERE id = 1"))
    pg_session.execute(text("DELETE FROM parent"))
    pg_session.commit()
    assert stored(child) == [(1, None, False), (2, None, True), (3, None, True)]


@pytest.mark.parametrize("ondelete", ["CASCADE", "SET NULL", "RESTRICT", None])
def test_nothing_happens_to_what_refers_to_a_row_that_is_marked(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    stored: Stored,
    ondelete: str | None,
) -> None:
    parent, child = family(base, "parent", ondelete)
    create_all()
    add_family(pg_session, parent, child)
    pg_session.execute(text("DELETE FROM parent WHERE id = 1"))
    pg_session.commit()
    assert stored(parent) == [(1, False), (2, True)]
    assert stored(child) == [(1, 1, True), (2, 2, True), (3, None, True)]


@pytest.fixture
def node(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    """A tree whose leaves are deleted and whose other rows are marked."""

    @attach(SoftDelete("is_active", condition=old.kind == "soft"))
    class Node(base):  # type: ignore[misc, valid-type]
        __tablename__ = "node"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int | None] = mapped_column(
            ForeignKey("node.id", ondelete="CASCADE")
        )
        kind: Mapped[str] = mapped_column(default="soft")
        is_active: Mapped[bool] = mapped_column(default=True)

    create_all()
    return Node


def test_a_tree_is_marked_row_by_row(
    node: Any, pg_session: Session, stored: Stored
) -> None:
    pg_session.add(node(id=1))
    pg_session.flush()
    pg_session.add_all([node(id=2, parent_id=1), node(id=3, parent_id=1)])
    pg_session.commit()
    pg_session.execute(text("DELETE FROM node WHERE id < 3"))
    pg_session.commit()
    assert stored(node, "id", "parent_id", "is_active") == [
        (1, None, False),
        (2, 1, False),
        (3, 1, True),
    ]


@pytest.mark.parametrize("which", ["id = 1", "true"])
def test_a_tree_whose_root_is_deleted_for_good_stays_whole(
    node: Any, pg_session: Session, stored: Stored, which: str
) -> None:
    pg_session.add(node(id=1, kind="hard"))
    pg_session.flush()
    pg_session.add(node(id=2, parent_id=1))
    pg_session.commit()
    with pytest.raises(IntegrityError, match="its row in node is deleted"):
        pg_session.execute(text(f"DELETE FROM node WHERE {which}"))
    pg_session.rollback()
    assert stored(node, "id", "is_active") == [(1, True), (2, True)]


def test_a_cascade_over_a_composite_key_in_another_schema_is_refused(
    pg_engine: Engine, stored: Stored
) -> None:
    metadata = MetaData()
    parent = Table(
        'par"ent',
        metadata,
        Column("a 1", Integer, primary_key=True),
        Column('b"%', Text, primary_key=True),
        schema="else where",
    )
    child = Table(
        "child",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("a", Integer),
        Column("B", Text),
        Column("is_active", types.Boolean),
        ForeignKeyConstraint(
            ["a", "B"], [parent.c["a 1"], parent.c['b"%']], ondelete="CASCADE"
        ),
    )
    attach(SoftDelete("is_active"))(child)
    engine = pg_engine.execution_options(
        schema_translate_map={"else where": 'ten"ant %', None: "other"}
    )
    with pg_engine.begin() as connection:
        connection.execute(CreateSchema('ten"ant %'))
        connection.execute(CreateSchema("other"))
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(parent).values([(1, "x"), (2, "x")]))
        connection.execute(
            insert(child).values([(1, 1, "x", True), (2, None, "x", True)])
        )
        connection.execute(delete(child).where(child.c.id == 2))
        connection.execute(delete(parent).where(parent.c["a 1"] == 2))
    with (
        pytest.raises(IntegrityError, match="is refused"),
        engine.begin() as connection,
    ):
        connection.execute(delete(parent))
    with engine.connect() as connection:
        assert connection.execute(select(child).order_by("id")).all() == [
            (1, 1, "x", True),
            (2, None, "x", False),
        ]


def test_a_cascade_from_a_table_that_is_defined_later_is_looked_at(
    pg_engine: Engine,
) -> None:
    metadata = MetaData()
    child = Table(
        "child",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("parent_id", ForeignKey("parent.id", ondelete="CASCADE")),
        Column("is_active", types.Boolean),
    )
    attach(SoftDelete("is_active"))(child)
    parent = Table("parent", metadata, Column("id", Integer, primary_key=True))
    metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(insert(parent).values(id=1))
        connection.execute(insert(child).values(id=1, parent_id=1, is_active=True))
    with (
        pytest.raises(IntegrityError, match="its row in parent is deleted"),
        pg_engine.begin() as connection,
    ):
        connection.execute(delete(parent))


def test_two_cascades_are_both_looked_at(pg_engine: Engine) -> None:
    metadata = MetaData()
    one = Table("one", metadata, Column("id", Integer, primary_key=True))
    two = Table("two", metadata, Column("id", Integer, primary_key=True))
    both = Table(
        "both",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("two_id", ForeignKey(two.c.id, ondelete="CASCADE")),
        Column("one_id", ForeignKey(one.c.id, ondelete="CASCADE")),
        Column("is_active", types.Boolean),
    )
    attach(SoftDelete("is_active"))(both)
    metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(insert(one).values(id=1))
        connection.execute(insert(two).values(id=1))
        connection.execute(insert(both).values(id=1, one_id=1, two_id=1))
    for table in (one, two):
        with (
            pytest.raises(IntegrityError, match=f"its row in {table.name} is deleted"),
            pg_engine.begin() as connection,
        ):
            connection.execute(delete(table))


# Where it stands


def test_composite_and_renamed_keys_find_the_row(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    stored: Stored,
) -> None:
    @attach(SoftDelete("active"))
    class Seat(base):  # type: ignore[misc, valid-type]
        __tablename__ = "Seat %"
        price: Mapped[decimal.Decimal] = mapped_column("p 1", Cents, primary_key=True)
        row: Mapped[str] = mapped_column('ro"w', primary_key=True)
        active: Mapped[bool] = mapped_column("is active", default=True)

    create_all()
    half = decimal.Decimal("0.5")
    pg_session.add_all(Seat(price=half, row=row) for row in ("a'", "b"))
    pg_session.flush()
    pg_session.execute(delete(Seat).where(Seat.row == "a'"))
    pg_session.commit()
    assert stored(Seat) == [(half, "a'", False), (half, "b", True)]


@pytest.mark.contrib
def test_a_key_that_ignores_case_finds_the_row(
    pg_engine: Engine, stored: Stored
) -> None:
    thing = Table(
        "thing",
        MetaData(),
        Column("name", CITEXT, primary_key=True),
        Column("is_active", types.Boolean),
    )
    attach(SoftDelete("is_active"))(thing)
    with pg_engine.begin() as connection:
        connection.execute(text("CREATE EXTENSION citext"))
        thing.metadata.create_all(connection)
        connection.execute(insert(thing).values(name="Ann", is_active=True))
        connection.execute(delete(thing).where(thing.c.name == "ann"))
    assert stored(thing) == [("Ann", False)]


@pytest.mark.parametrize(
    "odd", ["Mixed Case", 'dou"ble', "it's", "100% %s %(x)s", "a:b ::c", "$$ $history$"]
)
def test_odd_names_are_taken_as_they_are(pg_engine: Engine, odd: str) -> None:
    thing = Table(
        f"t{odd}",
        MetaData(schema=f"s{odd}"),
        Column(f"id{odd}", Integer, primary_key=True),
        Column(odd, Text),
    )
    attach(SoftDelete(odd, value=odd, name=f"n{odd}"))(thing)
    with pg_engine.begin() as connection:
        connection.execute(CreateSchema(f"s{odd}"))
        thing.metadata.create_all(connection)
        connection.execute(insert(thing).values([(1, "a"), (2, "a")]))
        connection.execute(delete(thing).where(thing.c[f"id{odd}"] == 1))
        with history.ignore(connection, thing, f"n{odd}"):
            connection.execute(delete(thing).where(thing.c[f"id{odd}"] == 2))
        assert connection.execute(select(thing)).all() == [(1, odd)]


def test_each_translated_schema_marks_its_own_rows(
    account: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    with pg_engine.begin() as connection:
        connection.execute(CreateSchema("tenant"))
    tenant = pg_engine.execution_options(schema_translate_map={None: "tenant"})
    base.metadata.create_all(tenant)
    found = {}
    for engine in (pg_engine, tenant):
        with Session(engine) as session:
            session.add(account(id=1))
            session.commit()
    with Session(tenant) as session:
        session.delete(session.get_one(account, 1))
        session.commit()
    for name, engine in (("public", pg_engine), ("tenant", tenant)):
        with Session(engine) as session:
            found[name] = session.scalars(select(account.is_active)).all()
    assert found == {"public": [True], "tenant": [False]}


@pytest.mark.parametrize("path", ["''", "elsewhere", "elsewhere, pg_catalog"])
def test_another_search_path_changes_nothing(
    accounts: Any, pg_engine: Engine, stored: Stored, path: str
) -> None:
    with pg_engine.begin() as connection:
        connection.execute(CreateSchema("elsewhere"))
        connection.execute(text("CREATE TABLE elsewhere.account ()"))
        for type_ in ("boolean", "integer"):
            connection.execute(
                text(
                    f"CREATE FUNCTION elsewhere.lie({type_}, {type_}) RETURNS boolean"
                    " LANGUAGE plpgsql AS 'BEGIN RETURN NOT $1 OPERATOR(pg_catalog.=)"
                    " $2; END'"
                )
            )
            connection.execute(
                text(
                    "CREATE OPERATOR elsewhere.= (FUNCTION = elsewhere.lie,"
                    f" LEFTARG = {type_}, RIGHTARG = {type_})"
                )
            )
        connection.execute(text(f"SET LOCAL search_path = {path}"))
        connection.execute(
            text("DELETE FROM public.account WHERE id OPERATOR(pg_catalog.=) 1")
        )
    assert stored(accounts, "id", "is_active") == [(1, False), (2, True), (3, True)]


def test_an_operator_of_who_deletes_is_not_run_by_the_owner_of_the_table(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    pg_engine: Engine,
) -> None:
    parent, child = family(base, "child", "CASCADE")
    create_all()
    add_family(pg_session, parent, child)
    statements = (
        "CREATE ROLE guest",
        "GRANT SELECT, DELETE ON parent TO guest",
        "CREATE SCHEMA guest AUTHORIZATION guest",
        "SET LOCAL ROLE guest",
        "CREATE FUNCTION guest.spy(integer, integer) RETURNS boolean LANGUAGE plpgsql"
        " AS 'BEGIN RAISE EXCEPTION ''ran as %'', current_user; END'",
        "CREATE OPERATOR guest.= (FUNCTION = guest.spy, LEFTARG = integer,"
        " RIGHTARG = integer)",
        "SET LOCAL search_path = guest, pg_catalog",
    )
    with pg_engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
        with pytest.raises(IntegrityError, match="its row in parent is deleted"):
            connection.execute(
                text("DELETE FROM public.parent WHERE id OPERATOR(pg_catalog.=) 1")
            )


def test_rows_of_a_partitioned_table_are_marked(pg_engine: Engine) -> None:
    thing = Table(
        "thing",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("is_active", types.Boolean),
        postgresql_partition_by="RANGE (id)",
    )
    attach(SoftDelete("is_active"))(thing)
    with pg_engine.begin() as connection:
        thing.metadata.create_all(connection)
        for low, high in ((0, 10), (10, 20)):
            connection.execute(
                text(
                    f"CREATE TABLE thing_{low} PARTITION OF thing"
                    f" FOR VALUES FROM ({low}) TO ({high})"
                )
            )
        connection.execute(insert(thing).values([(n, True) for n in (1, 2, 11, 12)]))
        connection.execute(delete(thing).where(thing.c.id.in_([1, 11])))
        connection.execute(text("DELETE FROM thing_10 WHERE id = 12"))
        assert connection.execute(select(thing).order_by("id")).all() == [
            (1, False),
            (2, True),
            (11, False),
            (12, False),
        ]


@pytest.fixture
def partitioned(pg_engine: Engine) -> Table:
    """A table with a partition for each region, which has committed rows."""
    thing = Table(
        "thing",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column('Re"gion', Text, primary_key=True, key="region"),
        Column("name", Text),
        Column("is_active", types.Boolean, server_default="true"),
        postgresql_partition_by='LIST ("Re""gion")',
    )
    attach(SoftDelete("is_active"))(thing)
    with pg_engine.begin() as connection:
        thing.metadata.create_all(connection)
        for region in ("north", "south"):
            connection.execute(
                text(
                    f"CREATE TABLE thing_{region} PARTITION OF thing"
                    f" FOR VALUES IN ('{region}')"
                )
            )
        rows = [{"id": n, "region": "north", "name": "a"} for n in (1, 2)]
        connection.execute(insert(thing), rows)
    return thing


def test_an_update_that_may_move_a_row_to_another_partition_is_refused(
    partitioned: Table, pg_engine: Engine, stored: Stored
) -> None:
    # PostgreSQL moves it by a DELETE, which would only mark it where it is.
    move = update(partitioned).where(partitioned.c.id == 1).values(region="south")
    with pytest.raises(NotSupportedError) as caught, pg_engine.begin() as connection:
        connection.execute(move)
    error: Any = caught.value.orig
    assert error.diag.message_primary == (
        "UPDATE of public.thing_north is refused: it may move the row"
    )
    assert error.diag.message_hint == (
        "To move a row to another partition is to delete it, and that marks it;"
        " insert another row."
    )
    with pg_engine.begin() as connection:
        connection.execute(update(partitioned).values(name="b", region="north"))
    assert stored(partitioned) == [
        (1, "north", "b", True),
        (2, "north", "b", True),
    ]


def test_ignored_it_lets_a_row_move_to_another_partition(
    partitioned: Table, pg_engine: Engine, stored: Stored
) -> None:
    move = update(partitioned).where(partitioned.c.id == 1).values(region="south")
    with pg_engine.begin() as connection:
        with history.ignore(connection, partitioned, "soft_delete"):
            connection.execute(move)
        connection.execute(delete(partitioned))
    assert stored(partitioned) == [
        (1, "south", "a", False),
        (2, "north", "a", False),
    ]


@pytest.mark.parametrize("key", ["LIST (is_active)", 'RANGE (id, "is_active")'])
def test_a_column_of_the_partition_key_marks_nothing(key: str) -> None:
    thing = Table(
        "thing",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("is_active", types.Boolean),
        postgresql_partition_by=key,
    )
    with pytest.raises(DefinitionError, match="is of the partition key"):
        attach(SoftDelete("is_active"))(thing)


# With others on the same model


@pytest.fixture
def page(
    base: type[DeclarativeBase], create_all: Callable[[], None], level: str
) -> Any:
    """A model that is tracked, versioned and touched beside."""

    @attach(
        SoftDelete("is_active"),
        Versioned("version"),
        Touch("updated_at", value=literal(THEN)),
    )
    @track(Snapshot, AfterDelete, level=level)
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        is_active: Mapped[bool] = mapped_column(default=True)
        version: Mapped[int] = mapped_column(default=1)
        updated_at: Mapped[datetime.datetime | None] = mapped_column(
            DateTime(timezone=True)
        )

    create_all()
    return Page


def test_tracking_records_an_update_and_no_deletion(
    page: Any, pg_session: Session, recorded: Recorded
) -> None:
    with history.context(pg_session, user=7):
        pg_session.add(page(id=1))
        pg_session.flush()
        pg_session.execute(text("DELETE FROM page"))
        pg_session.execute(text("DELETE FROM page"))
        pg_session.commit()
    assert recorded(page, "is_active", "version", "updated_at") == [
        ("snapshot", "I", True, 1, None, {"user": 7}),
        ("snapshot", "U", False, 2, THEN, {"user": 7}),
    ]


def test_ignored_tracking_records_a_deletion(
    page: Any, pg_session: Session, recorded: Recorded
) -> None:
    pg_session.add(page(id=1))
    pg_session.flush()
    with history.ignore(pg_session, page, "soft_delete"):
        pg_session.execute(text("DELETE FROM page"))
    pg_session.commit()
    assert [event[:2] for event in recorded(page)] == [
        ("snapshot", "I"),
        ("delete", "D"),
    ]


@pytest.mark.parametrize("operation", [Delete, Update])
def test_protection_comes_before_it(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    stored: Stored,
    operation: Any,
    level: str,
) -> None:
    @attach(SoftDelete("is_active"), Protect(operation, name="a", level=level))
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        is_active: Mapped[bool] = mapped_column(default=True)

    create_all()
    pg_session.add(Account(id=1))
    pg_session.commit()
    if operation is Delete and level == "statement":
        # At the end of the statement no row is deleted.
        pg_session.execute(text("DELETE FROM account"))
        pg_session.commit()
        assert stored(Account) == [(1, False)]
    else:
        with pytest.raises(ProtectedError):
            pg_session.execute(text("DELETE FROM account"))


def test_protection_that_runs_after_it_sees_no_deletion(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    stored: Stored,
) -> None:
    @attach(SoftDelete("is_active", name="a"), Protect(Delete, name="b"))
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        is_active: Mapped[bool] = mapped_column(default=True)

    create_all()
    pg_session.add(Account(id=1))
    pg_session.flush()
    pg_session.execute(text("DELETE FROM account"))
    pg_session.commit()
    assert stored(Account) == [(1, False)]


# Rights


def test_who_deletes_needs_the_right_to_update(
    accounts: Any, pg_engine: Engine, stored: Stored
) -> None:
    with pg_engine.connect() as connection:
        connection.execute(text("CREATE ROLE guest"))
        connection.execute(text("GRANT SELECT, DELETE ON account TO guest"))
        with connection.begin_nested() as savepoint:
            connection.execute(text("SET LOCAL ROLE guest"))
            with pytest.raises(ProgrammingError, match="permission denied"):
                connection.execute(text("DELETE FROM account WHERE id = 1"))
            savepoint.rollback()
        connection.execute(text("GRANT UPDATE (is_active) ON account TO guest"))
        connection.execute(text("SET LOCAL ROLE guest"))
        connection.execute(text("DELETE FROM account WHERE id = 1"))
        connection.execute(text("RESET ROLE"))
        active = connection.scalars(select(accounts.is_active).order_by(accounts.id))
        assert active.all() == [False, True, True]
        connection.rollback()


def test_rows_that_a_policy_hides_are_not_marked(
    accounts: Any, pg_engine: Engine
) -> None:
    statements = (
        "CREATE ROLE guest",
        "GRANT SELECT, UPDATE, DELETE ON account TO guest",
        "ALTER TABLE account ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON account USING (id = 1)",
        "SET LOCAL ROLE guest",
        "DELETE FROM account",
        "RESET ROLE",
    )
    with pg_engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
        active = connection.scalars(select(accounts.is_active).order_by(accounts.id))
        assert active.all() == [False, True, True]
        connection.rollback()
