"""What the ORM makes of rows that are marked as deleted and stay."""

from __future__ import annotations

import asyncio
import datetime
import decimal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    DateTime,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    TypeDecorator,
    delete,
    event,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    column_property,
    mapped_column,
    relationship,
    scoped_session,
    sessionmaker,
)
from sqlalchemy.orm.exc import StaleDataError

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
    old,
    track,
)
from sa_history.exc import ProtectedError

InSession = Callable[[Callable[[Session], Any]], Any]
Stored = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture(params=["sync", "async"])
def in_session(
    request: pytest.FixtureRequest, pg_engine: Engine, pg_async_engine: AsyncEngine
) -> InSession:
    """Run a function with a session: of the sync driver, or of the async one."""

    def run_sync(function: Callable[[Session], Any]) -> Any:
        with Session(pg_engine) as session:
            return function(session)

    def run_async(function: Callable[[Session], Any]) -> Any:
        async def main() -> Any:
            async with AsyncSession(pg_async_engine) as session:
                return await session.run_sync(function)

        return asyncio.run(main())

    return run_sync if request.param == "sync" else run_async


@pytest.fixture
def stored(pg_engine: Engine) -> Stored:
    """Return committed rows of a table, by their key."""

    def read(target: Any, *columns: str) -> list[tuple[Any, ...]]:
        table = getattr(target, "__table__", target)
        wanted = [table.c[name] for name in columns] or list(table.c)
        with pg_engine.connect() as connection:
            rows = connection.execute(select(*wanted).order_by(*table.primary_key))
            return [tuple(row) for row in rows]

    return read


@contextmanager
def sent(session: Session) -> Iterator[list[str]]:
    """The first word of each statement that is sent inside of the block."""
    words: list[str] = []
    connection = session.connection()

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        words.append(statement.split()[0])

    event.listen(connection, "before_cursor_execute", note)
    try:
        yield words
    finally:
        event.remove(connection, "before_cursor_execute", note)


def states(obj: object) -> set[str]:
    """The states of an object that hold."""
    state: Any = inspect(obj)
    names = ("transient", "pending", "persistent", "deleted", "detached")
    return {name for name in names if getattr(state, name)}


@pytest.fixture
def account(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    """A model whose rows are marked."""

    @attach(SoftDelete("is_active"))
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(default="a")
        is_active: Mapped[bool] = mapped_column(default=True)

    create_all()
    return Account


# An object that is deleted


def test_an_object_that_is_deleted_stays_in_the_session_with_its_new_values(
    account: Any, in_session: InSession, stored: Stored
) -> None:
    def work(session: Session) -> None:
        one = account(id=1)
        session.add(one)
        session.commit()
        session.delete(one)
        session.flush()
        assert states(one) == {"persistent"}
        assert one in session
        assert not session.dirty
        assert not session.deleted
        with sent(session) as words:
            assert (one.id, one.name, one.is_active) == (1, "a", False)
            assert session.get(account, 1) is one
        assert words == []
        session.commit()
        assert states(one) == {"persistent"}
        assert one.is_active is False

    in_session(work)
    assert stored(account) == [(1, "a", False)]


def test_an_async_program_reads_the_values_after_the_flush(
    account: Any, pg_async_engine: AsyncEngine
) -> None:
    async def main() -> None:
        async with AsyncSession(pg_async_engine) as session:
            one = account(id=1)
            session.add(one)
            await session.commit()
            await session.refresh(one)
            await session.delete(one)
            await session.flush()
            # Here a SELECT would raise MissingGreenlet.
            assert (one.name, one.is_active) == ("a", False)

    asyncio.run(main())


def test_an_object_may_be_deleted_again_and_taken_back(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
) -> None:
    @attach(SoftDelete("deleted_at", value=func.clock_timestamp()))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        deleted_at: Mapped[datetime.datetime | None]

    create_all()
    one = Page(id=1)
    pg_session.add(one)
    pg_session.flush()
    times = []
    for _ in range(2):
        pg_session.delete(one)
        pg_session.flush()
        times.append(one.deleted_at)
    assert times[0] is not None
    assert times[0] == times[1]
    one.deleted_at = None
    pg_session.flush()
    pg_session.delete(one)
    pg_session.flush()
    assert one.deleted_at > times[0]


def test_an_object_that_was_never_flushed_is_just_taken_out(
    account: Any, pg_session: Session, stored: Stored
) -> None:
    one = account(id=1)
    pg_session.add(one)
    pg_session.expunge(one)
    pg_session.commit()
    assert stored(account) == []


def test_many_objects_of_one_flush_are_all_marked(
    account: Any, in_session: InSession, stored: Stored
) -> None:
    def work(session: Session) -> None:
        accounts = [account(id=n) for n in range(1, 6)]
        session.add_all(accounts)
        session.commit()
        for one in accounts[:4]:
            session.delete(one)
        session.commit()
        assert [one.is_active for one in accounts] == [False] * 4 + [True]

    in_session(work)


def test_one_flush_adds_changes_and_deletes(
    account: Any, pg_session: Session, stored: Stored
) -> None:
    one, two = account(id=1), account(id=2)
    pg_session.add_all([one, two])
    pg_session.commit()
    pg_session.delete(one)
    two.name = "b"
    pg_session.add(account(id=3))
    pg_session.commit()
    assert stored(account) == [(1, "a", False), (2, "b", True), (3, "a", True)]


def test_a_value_that_was_unique_among_active_rows_is_free_in_the_same_flush(
    account: Any, pg_session: Session, stored: Stored
) -> None:
    index = "CREATE UNIQUE INDEX ON account (name) WHERE is_active"
    pg_session.execute(text(index))
    one = account(id=1)
    pg_session.add(one)
    pg_session.commit()
    pg_session.delete(one)
    pg_session.add(account(id=2))
    pg_session.commit()
    assert stored(account) == [(1, "a", False), (2, "a", True)]


def test_changes_of_a_deleted_object_are_forgotten(
    account: Any, in_session: InSession, stored: Stored
) -> None:
    def work(session: Session) -> None:
        one = account(id=1)
        session.add(one)
        session.commit()
        assert one.id == 1
        one.name, one.is_active, one.id = "b", None, 7
        session.delete(one)
        session.flush()
        assert (one.id, one.name, one.is_active) == (1, "a", False)
        session.commit()

    in_session(work)
    assert stored(account) == [(1, "a", False)]


def test_what_was_changed_before_in_the_transaction_is_kept(
    account: Any, pg_session: Session, stored: Stored
) -> None:
    one = account(id=1)
    pg_session.add(one)
    pg_session.flush()
    one.name = "b"
    pg_session.flush()
    pg_session.delete(one)
    pg_session.commit()
    assert stored(account) == [(1, "b", False)]


def test_an_expired_object_is_deleted_too(
    account: Any, in_session: InSession, stored: Stored
) -> None:
    def work(session: Session) -> None:
        one = account(id=1)
        session.add(one)
        session.commit()
        session.expire(one)
        session.delete(one)
        session.commit()

    in_session(work)
    assert stored(account) == [(1, "a", False)]


def test_a_rollback_takes_the_mark_away(
    account: Any, in_session: InSession, stored: Stored
) -> None:
    def work(session: Session) -> None:
        one = account(id=1)
        session.add(one)
        session.commit()
        session.delete(one)
        session.flush()
        assert one.is_active is False
        session.rollback()
        assert states(one) == {"persistent"}
        assert one.is_active is True
        session.delete(one)
        session.rollback()
        assert one not in session.deleted
        session.commit()

    in_session(work)
    assert stored(account) == [(1, "a", True)]


def test_a_rollback_to_a_savepoint_takes_the_mark_away(
    account: Any, in_session: InSession, stored: Stored
) -> None:
    def work(session: Session) -> None:
        one, two = account(id=1), account(id=2)
        session.add_all([one, two])
        session.flush()
        session.delete(two)
        session.flush()
        with session.begin_nested() as savepoint:
            session.delete(one)
            session.flush()
            assert one.is_active is False
            savepoint.rollback()
        assert (one.is_active, two.is_active) == (True, False)
        with session.begin_nested():
            session.delete(one)
        assert one.is_active is False
        session.commit()

    in_session(work)
    assert stored(account, "is_active") == [(False,), (False,)]


def test_an_object_whose_row_is_gone_for_good_leaves_the_session(
    account: Any, pg_engine: Engine, in_session: InSession
) -> None:
    def work(session: Session) -> None:
        one = account(id=1)
        session.add(one)
        session.commit()
        assert one.name == "a"
        with pg_engine.begin() as connection, history.ignore(connection, account):
            connection.execute(text("DELETE FROM account"))
        session.delete(one)
        session.flush()
        assert one not in session
        assert states(one) == {"detached"}
        assert session.get(account, 1) is None
        session.commit()

    in_session(work)


def test_only_what_is_loaded_of_deferred_columns_is_read(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @attach(SoftDelete("is_active"))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        is_active: Mapped[bool] = mapped_column(default=True)
        large: Mapped[str] = mapped_column(default="x", deferred=True)
        twice: Mapped[int] = column_property(func.abs(id * 2))

    create_all()
    pg_session.add(Page(id=1))
    pg_session.commit()
    pg_session.expunge_all()
    one = pg_session.get_one(Page, 1)
    pg_session.delete(one)
    pg_session.flush()
    assert inspect(one).unloaded == {"large"}
    assert (one.is_active, one.twice) == (False, 2)
    one.large = "y"
    pg_session.delete(one)
    pg_session.flush()
    assert one.large == "x"


def test_events_of_the_mapper_know_of_no_deletion(
    account: Any, pg_session: Session
) -> None:
    called: list[str] = []
    for name in ("before_delete", "after_delete", "before_update", "after_update"):
        event.listen(account, name, lambda *_, name=name: called.append(name))
    one = account(id=1)
    pg_session.add(one)
    pg_session.flush()
    pg_session.delete(one)
    pg_session.flush()
    assert called == []
    with history.ignore(pg_session, account):
        pg_session.delete(one)
        pg_session.flush()
    assert called == ["before_delete", "after_delete"]


def test_what_a_listener_of_the_flush_deletes_is_marked_and_leaves_the_session(
    account: Any, pg_session: Session, stored: Stored
) -> None:
    one, two = account(id=1), account(id=2)
    pg_session.add_all([one, two])
    pg_session.commit()

    def delete_the_other(*_: Any) -> None:
        pg_session.delete(two)

    # Listeners of one session run after those of all sessions, where marking begins.
    event.listen(pg_session, "before_flush", delete_the_other, once=True)
    pg_session.delete(one)
    pg_session.commit()
    assert (states(one), states(two)) == ({"persistent"}, {"detached"})
    assert stored(account, "id", "is_active") == [(1, False), (2, False)]
    assert pg_session.get_one(account, 2).is_active is False


# Conditions, ignoring, refusing


def test_an_object_that_is_not_marked_is_deleted(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    @attach(SoftDelete("is_active", condition=old.kind == "100% it's :soft"))
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column("the % kind")
        is_active: Mapped[bool] = mapped_column(default=True)

    create_all()

    def work(session: Session) -> None:
        soft, hard = Account(id=1, kind="100% it's :soft"), Account(id=2, kind="b")
        session.add_all([soft, hard])
        session.commit()
        soft.kind, hard.kind = "b", "100% it's :soft"  # What is stored counts.
        session.delete(soft)
        session.delete(hard)
        session.flush()
        assert (states(soft), states(hard)) == ({"persistent"}, {"deleted"})
        session.commit()
        assert states(hard) == {"detached"}
        assert (soft.kind, soft.is_active) == ("100% it's :soft", False)

    in_session(work)
    assert stored(Account) == [(1, "100% it's :soft", False)]


@pytest.mark.parametrize("bound_to", ["session", "connection", "thread"])
def test_ignored_it_deletes_the_object(
    account: Any, pg_session: Session, stored: Stored, bound_to: str
) -> None:
    one, two = account(id=1), account(id=2)
    pg_session.add_all([one, two])
    pg_session.commit()
    block = {
        "session": lambda: history.ignore(pg_session, account, "soft_delete"),
        "connection": lambda: history.ignore(pg_session.connection(), "soft_delete"),
        "thread": lambda: history.ignore(account),
    }[bound_to]
    with block():
        pg_session.delete(one)
        pg_session.flush()
    assert states(one) == {"deleted"}
    pg_session.delete(two)
    pg_session.commit()
    assert (states(one), states(two)) == ({"detached"}, {"persistent"})
    assert stored(account) == [(2, "a", False)]


def test_a_block_that_is_left_before_the_flush_ignores_nothing(
    account: Any, pg_session: Session, stored: Stored
) -> None:
    one = account(id=1)
    pg_session.add(one)
    pg_session.commit()
    with history.ignore(pg_session, account):
        pg_session.delete(one)
    pg_session.commit()
    assert stored(account) == [(1, "a", False)]


@pytest.mark.parametrize("operation", [Delete, Update])
def test_a_refused_mark_leaves_all_as_it_was_after_the_rollback(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    operation: Any,
) -> None:
    @attach(SoftDelete("is_active"), Protect(operation))
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        is_active: Mapped[bool] = mapped_column(default=True)

    create_all()

    def work(session: Session) -> None:
        one = Account(id=1)
        session.add(one)
        session.commit()
        session.delete(one)
        with pytest.raises(ProtectedError):
            session.flush()
        session.rollback()
        assert states(one) == {"persistent"}
        assert one.is_active is True

    in_session(work)


def test_what_other_triggers_write_is_seen_too(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    recorded: Callable[..., list[Any]],
) -> None:
    @attach(SoftDelete("is_active"), Versioned("version"), Touch("at"))
    @track(Snapshot, AfterDelete)
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        is_active: Mapped[bool] = mapped_column(default=True)
        version: Mapped[int] = mapped_column(default=1)
        at: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))

    create_all()

    def work(session: Session) -> None:
        one = Page(id=1)
        session.add(one)
        session.flush()
        with history.context(session, user=7):
            session.delete(one)
            session.flush()
            with sent(session) as words:
                assert (one.is_active, one.version) == (False, 2)
                assert one.at is not None
            assert words == []
        session.commit()

    in_session(work)
    assert [(e[0], e[1], *e[2:]) for e in recorded(Page, "is_active", "version")] == [
        ("snapshot", "I", True, 1, None),
        ("snapshot", "U", False, 2, {"user": 7}),
    ]


# Versions that SQLAlchemy compares


@pytest.fixture
def seat(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    @attach(SoftDelete("is_active"), Versioned("version"))
    class Seat(base):  # type: ignore[misc, valid-type]
        __tablename__ = "seat"
        id: Mapped[int] = mapped_column(primary_key=True)
        guest: Mapped[str | None]
        is_active: Mapped[bool] = mapped_column(default=True)
        version: Mapped[int] = mapped_column(default=1)
        __mapper_args__ = {"version_id_col": version, "version_id_generator": False}

    create_all()
    return Seat


def test_a_row_that_somebody_else_has_changed_is_not_marked(
    seat: Any, in_session: InSession, pg_engine: Engine, stored: Stored
) -> None:
    def work(session: Session) -> None:
        one = seat(id=1)
        session.add(one)
        session.commit()
        assert one.version == 1
        with pg_engine.begin() as connection:
            connection.execute(text("UPDATE seat SET guest = 'Ann'"))
        session.delete(one)
        with pytest.raises(StaleDataError, match="0 were matched"):
            session.flush()
        session.rollback()
        assert (one.guest, one.version) == ("Ann", 2)
        session.delete(one)
        session.commit()
        assert (one.is_active, one.version) == (False, 3)
        one.guest = "Ben"
        session.commit()

    in_session(work)
    assert stored(seat) == [(1, "Ben", False, 4)]


def test_a_version_of_the_mapper_alone_is_compared_as_well(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    pg_engine: Engine,
) -> None:
    @attach(SoftDelete("is_active"))
    class Seat(base):  # type: ignore[misc, valid-type]
        __tablename__ = "seat"
        id: Mapped[int] = mapped_column(primary_key=True)
        is_active: Mapped[bool] = mapped_column(default=True)
        version: Mapped[int] = mapped_column()
        __mapper_args__ = {"version_id_col": version}

    create_all()
    one = Seat(id=1)
    pg_session.add(one)
    pg_session.commit()
    assert one.version == 1
    pg_session.delete(one)
    pg_session.commit()
    assert (one.is_active, one.version) == (False, 1)
    one.is_active = True
    pg_session.commit()
    assert one.version == 2
    with pg_engine.begin() as connection:
        connection.execute(text("UPDATE seat SET version = 9"))
    pg_session.delete(one)
    with pytest.raises(StaleDataError):
        pg_session.flush()


# Relationships


def make_family(
    base: type[DeclarativeBase],
    *soft: str,
    cascade: str = "save-update, merge",
    ondelete: str | None = None,
    back: bool = True,
) -> tuple[Any, Any]:
    """A parent and its children, where rows of the named tables are marked."""

    class Parent(base):  # type: ignore[misc, valid-type]
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(default="a")
        is_active: Mapped[bool] = mapped_column(default=True)
        children = relationship(
            "Child",
            cascade=cascade,
            order_by="Child.id",
            back_populates="parent" if back else None,
        )

    class Child(base):  # type: ignore[misc, valid-type]
        __tablename__ = "child"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(default="a")
        parent_id: Mapped[int | None] = mapped_column(
            ForeignKey("parent.id", ondelete=ondelete)
        )
        is_active: Mapped[bool] = mapped_column(default=True)
        if back:
            parent = relationship("Parent", back_populates="children")

    for model in (Parent, Child):
        if model.__tablename__ in soft:
            attach(SoftDelete("is_active"))(model)
    return Parent, Child


@pytest.mark.parametrize("loaded", [True, False])
def test_children_of_a_marked_parent_keep_it(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
    loaded: bool,
) -> None:
    parent, child = make_family(base, "parent")
    create_all()

    def work(session: Session) -> None:
        one = parent(id=1, children=[child(id=1), child(id=2)])
        session.add(one)
        session.commit()
        assert not loaded or len(one.children) == 2
        session.delete(one)
        session.flush()
        assert [c.parent_id for c in one.children] == [1, 1]
        assert all(c.parent is one for c in one.children)
        one.name = "b"
        one.children[0].name = "b"
        session.commit()

    in_session(work)
    assert stored(parent) == [(1, "b", False)]
    assert stored(child) == [(1, "b", 1, True), (2, "a", 1, True)]


def test_children_without_the_cascade_of_a_deleted_parent_lose_it_marked_or_not(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    parent, child = make_family(base, "child")
    create_all()

    def work(session: Session) -> None:
        one = parent(id=1, children=[child(id=1), child(id=2)])
        session.add(one)
        session.flush()
        session.delete(one.children[0])
        session.flush()
        session.delete(one)
        session.commit()

    in_session(work)
    assert stored(parent) == []
    assert stored(child) == [(1, "a", None, False), (2, "a", None, True)]


@pytest.mark.parametrize("cascade", ["all", "all, delete-orphan"])
@pytest.mark.parametrize("back", [True, False])
def test_a_cascade_of_the_orm_marks_children_that_are_marked(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
    cascade: str,
    back: bool,
) -> None:
    parent, child = make_family(base, "parent", "child", cascade=cascade, back=back)
    create_all()

    def work(session: Session) -> None:
        one = parent(id=1, children=[child(id=1), child(id=2)])
        session.add(one)
        session.commit()
        session.delete(one)
        session.flush()
        children = list(one.children)
        assert [states(c) for c in children] == [{"persistent"}] * 2
        assert [(c.is_active, c.parent_id) for c in children] == [(False, 1)] * 2
        one.name = children[0].name = "b"
        session.commit()
        assert len(one.children) == 2

    in_session(work)
    assert stored(parent) == [(1, "b", False)]
    assert stored(child) == [(1, "b", 1, False), (2, "a", 1, False)]


@pytest.mark.parametrize("cascade", ["all", "all, delete-orphan"])
@pytest.mark.parametrize("back", [True, False])
def test_a_cascade_of_the_orm_deletes_children_that_are_not(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
    cascade: str,
    back: bool,
) -> None:
    parent, child = make_family(base, "parent", cascade=cascade, back=back)
    create_all()

    def work(session: Session) -> None:
        one = parent(id=1, children=[child(id=1), child(id=2)])
        session.add(one)
        session.commit()
        children = list(one.children)
        session.delete(one)
        session.flush()
        assert [states(c) for c in children] == [{"deleted"}] * 2
        assert one.is_active is False
        one.name = "b"
        session.flush()
        session.commit()
        assert one.children == []

    in_session(work)
    assert stored(parent) == [(1, "b", False)]
    assert stored(child) == []


@pytest.mark.parametrize("ondelete", [None, "CASCADE", "RESTRICT"])
def test_a_parent_that_is_deleted_for_good_cannot_leave_marked_children(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
    ondelete: str | None,
) -> None:
    parent, child = make_family(base, "child", cascade="all", ondelete=ondelete)
    create_all()

    def work(session: Session) -> None:
        one = parent(id=1, children=[child(id=1)])
        session.add(one)
        session.commit()
        session.delete(one)
        with pytest.raises(IntegrityError):
            session.flush()
        session.rollback()
        assert states(one) == states(one.children[0]) == {"persistent"}
        assert one.children[0].is_active is True
        session.commit()

    in_session(work)
    assert stored(child) == [(1, "a", 1, True)]


@pytest.mark.parametrize("back", [True, False])
@pytest.mark.parametrize("remove", ["remove", "replace", "clear"])
def test_an_orphan_is_marked_and_keeps_its_parent(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
    back: bool,
    remove: str,
) -> None:
    parent, child = make_family(base, "child", cascade="all, delete-orphan", back=back)
    create_all()

    def work(session: Session) -> None:
        one = parent(id=1, children=[child(id=1)])
        session.add(one)
        session.commit()
        orphan = one.children[0]
        if remove == "remove":
            one.children.remove(orphan)
        elif remove == "clear":
            one.children.clear()
        else:
            one.children = [child(id=2)]
        session.flush()
        assert states(orphan) == {"persistent"}
        assert (orphan.is_active, orphan.parent_id) == (False, 1)
        # It is no orphan now, as its row is none: it may be changed.
        orphan.name = one.name = "b"
        session.flush()
        assert states(orphan) == {"persistent"}
        session.commit()
        assert orphan in one.children

    in_session(work)
    assert stored(child)[:1] == [(1, "b", 1, False)]
    assert len(stored(child)) == (2 if remove == "replace" else 1)


def test_an_orphan_that_finds_another_parent_is_not_deleted(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    parent, child = make_family(base, "child", cascade="all, delete-orphan")
    create_all()

    def work(session: Session) -> None:
        one, two = parent(id=1, children=[child(id=1)]), parent(id=2)
        session.add_all([one, two])
        session.commit()
        two.children.append(one.children[0])
        session.commit()

    in_session(work)
    assert stored(child) == [(1, "a", 2, True)]


def test_ignored_it_deletes_an_orphan(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    stored: Stored,
) -> None:
    parent, child = make_family(base, "child", cascade="all, delete-orphan")
    create_all()
    one = parent(id=1, children=[child(id=1)])
    pg_session.add(one)
    pg_session.commit()
    orphan = one.children.pop()
    with history.ignore(pg_session, child):
        pg_session.flush()
    assert states(orphan) == {"deleted"}
    pg_session.commit()
    assert stored(child) == []


def test_an_object_that_is_moved_and_deleted_stays_where_it_was(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    parent, child = make_family(base, "child")
    create_all()

    def work(session: Session) -> None:
        one, two = parent(id=1, children=[child(id=1), child(id=2)]), parent(id=2)
        session.add_all([one, two])
        session.commit()
        first, second = one.children
        assert two.children == []
        first.parent = two
        two.children.append(second)
        session.delete(first)
        session.delete(second)
        session.flush()
        assert (first.parent, second.parent) == (one, one)
        assert two.children == []
        session.commit()

    in_session(work)
    assert stored(child) == [(1, "a", 1, False), (2, "a", 1, False)]


def test_an_object_that_is_moved_from_a_parent_nobody_has_read_stays_there(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    parent, child = make_family(base, "child")
    create_all()

    def work(session: Session) -> None:
        session.add_all([parent(id=1, children=[child(id=1)]), parent(id=2)])
        session.commit()
        session.expunge_all()
        one, two = session.get_one(child, 1), session.get_one(parent, 2)
        assert two.children == []
        one.parent = two
        session.delete(one)
        session.flush()
        assert two.children == []
        assert one.parent.id == 1
        session.commit()

    in_session(work)
    assert stored(child) == [(1, "a", 1, False)]


def test_a_child_that_is_added_to_a_deleted_parent_is_added(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    parent, child = make_family(base, "parent")
    create_all()

    def work(session: Session) -> None:
        one = parent(id=1)
        session.add(one)
        session.commit()
        one.children.append(child(id=1))
        session.delete(one)
        session.commit()

    in_session(work)
    assert stored(parent) == [(1, "a", False)]
    assert stored(child) == [(1, "a", 1, True)]


def test_an_only_child_that_is_replaced_is_marked(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    class User(base):  # type: ignore[misc, valid-type]
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        address = relationship(
            "Address",
            uselist=False,
            cascade="all, delete-orphan",
            primaryjoin="and_(User.id == Address.user_id, Address.is_active)",
        )

    @attach(SoftDelete("is_active"))
    class Address(base):  # type: ignore[misc, valid-type]
        __tablename__ = "address"
        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
        is_active: Mapped[bool] = mapped_column(default=True)

    create_all()

    def work(session: Session) -> None:
        user = User(id=1, address=Address(id=1))
        session.add(user)
        session.commit()
        user.address = Address(id=2)
        session.commit()
        assert user.address.id == 2
        user.address = None
        session.commit()
        assert user.address is None

    in_session(work)
    assert stored(Address) == [(1, 1, False), (2, 1, False)]


@pytest.mark.parametrize("end", ["delete", "orphan"])
def test_what_hangs_on_a_marked_object_goes_by_its_own_cascade(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
    end: str,
) -> None:
    class Shelf(base):  # type: ignore[misc, valid-type]
        __tablename__ = "shelf"
        id: Mapped[int] = mapped_column(primary_key=True)
        books = relationship("Book", cascade="all, delete-orphan")

    @attach(SoftDelete("is_active"))
    class Book(base):  # type: ignore[misc, valid-type]
        __tablename__ = "book"
        id: Mapped[int] = mapped_column(primary_key=True)
        shelf_id: Mapped[int | None] = mapped_column(ForeignKey("shelf.id"))
        is_active: Mapped[bool] = mapped_column(default=True)
        pages = relationship("Page", cascade="all, delete-orphan")
        notes = relationship("Note")

    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        book_id: Mapped[int] = mapped_column(ForeignKey("book.id"))

    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        book_id: Mapped[int | None] = mapped_column(ForeignKey("book.id"))

    create_all()

    def work(session: Session) -> None:
        book = Book(id=1, pages=[Page(id=1)], notes=[Note(id=1)])
        shelf = Shelf(id=1, books=[book])
        session.add(shelf)
        session.commit()
        if end == "delete":
            session.delete(book)
        else:
            shelf.books.remove(book)
        session.commit()

    in_session(work)
    assert stored(Book) == [(1, 1, False)]
    assert stored(Page) == []
    assert stored(Note) == [(1, 1)]


def test_rows_of_an_association_stay(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    link = Table(
        "link",
        base.metadata,
        Column("post_id", ForeignKey("post.id"), primary_key=True),
        Column("tag_id", ForeignKey("tag.id"), primary_key=True),
    )

    @attach(SoftDelete("is_active"))
    class Post(base):  # type: ignore[misc, valid-type]
        __tablename__ = "post"
        id: Mapped[int] = mapped_column(primary_key=True)
        is_active: Mapped[bool] = mapped_column(default=True)
        tags = relationship("Tag", secondary=link, back_populates="posts")

    class Tag(base):  # type: ignore[misc, valid-type]
        __tablename__ = "tag"
        id: Mapped[int] = mapped_column(primary_key=True)
        posts = relationship("Post", secondary=link, back_populates="tags")

    create_all()

    def work(session: Session) -> None:
        post = Post(id=1, tags=[Tag(id=1), Tag(id=2)])
        session.add(post)
        session.commit()
        session.delete(post)
        session.flush()
        assert len(post.tags) == 2
        session.commit()
        # A tag is deleted as ever.
        session.delete(post.tags[0])
        session.commit()

    in_session(work)
    assert stored(Post) == [(1, False)]
    assert stored(link) == [(1, 2)]


def test_a_tree_is_marked_by_the_cascade(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    @attach(SoftDelete("is_active"))
    class Node(base):  # type: ignore[misc, valid-type]
        __tablename__ = "node"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int | None] = mapped_column(
            ForeignKey("node.id", ondelete="CASCADE")
        )
        is_active: Mapped[bool] = mapped_column(default=True)
        children = relationship("Node", cascade="all, delete-orphan")

    create_all()

    def work(session: Session) -> None:
        leaf = Node(id=3)
        root = Node(id=1, children=[Node(id=2, children=[leaf]), Node(id=4)])
        session.add(root)
        session.commit()
        session.delete(root.children[0])
        session.commit()
        assert (leaf.is_active, root.is_active) == (False, True)

    in_session(work)
    assert stored(Node) == [
        (1, None, True),
        (2, 1, False),
        (3, 2, False),
        (4, 1, True),
    ]


# Inheritance


def make_animals(base: type[DeclarativeBase], *soft: str) -> tuple[Any, Any]:
    """Dogs have their rows in two tables, of which one or both mark."""

    class Animal(base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        is_active: Mapped[bool] = mapped_column(default=True)

    class Dog(Animal):
        __tablename__ = "dog"
        __mapper_args__ = {"polymorphic_identity": "dog"}
        dog_id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        is_good: Mapped[bool] = mapped_column(default=True)

    if "animal" in soft:
        attach(SoftDelete("is_active"))(Animal)
    if "dog" in soft:
        attach(SoftDelete("is_good"))(Dog)
    return Animal, Dog


@pytest.mark.parametrize("soft", [("animal",), ("dog",), ("animal", "dog")])
def test_rows_in_joined_tables_stay_together(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
    soft: tuple[str, ...],
) -> None:
    animal, dog = make_animals(base, *soft)
    create_all()

    def work(session: Session) -> None:
        rex = dog(id=1)
        session.add(rex)
        session.commit()
        session.expunge_all()
        rex = session.get_one(animal, 1)
        session.delete(rex)
        session.flush()
        assert states(rex) == {"persistent"}
        with sent(session) as words:
            found = (rex.id, rex.dog_id, rex.is_active, rex.is_good)
        assert found == (1, 1, "animal" not in soft, "dog" not in soft)
        assert words == []
        session.commit()

    in_session(work)
    assert stored(animal, "id", "is_active") == [(1, "animal" not in soft)]
    assert stored(dog) == [(1, "dog" not in soft)]


def test_an_object_of_the_base_is_deleted_where_only_the_subclass_marks(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    animal, _ = make_animals(base, "dog")
    create_all()

    def work(session: Session) -> None:
        cat = animal(id=1)
        session.add(cat)
        session.commit()
        session.delete(cat)
        session.commit()
        assert states(cat) == {"detached"}

    in_session(work)
    assert stored(animal) == []


def test_classes_that_share_a_table_share_its_marks(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    @attach(SoftDelete("is_active", condition=old.kind == "dog"))
    class Animal(base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        is_active: Mapped[bool] = mapped_column(default=True)

    class Dog(Animal):
        __mapper_args__ = {"polymorphic_identity": "dog"}

    create_all()

    def work(session: Session) -> None:
        rex, cat = Dog(id=1), Animal(id=2)
        session.add_all([rex, cat])
        session.commit()
        session.delete(rex)
        session.delete(cat)
        session.commit()
        assert (states(rex), states(cat)) == ({"persistent"}, {"detached"})

    in_session(work)
    assert stored(Animal) == [(1, "dog", False)]


# Keys


class Cents(TypeDecorator[decimal.Decimal]):
    """Amounts that are stored in cents."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else int(value * 100)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else decimal.Decimal(value) / 100


def test_composite_keys_of_any_type_find_the_row(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    @attach(SoftDelete("active", condition=old.row != "c"))
    class Seat(base):  # type: ignore[misc, valid-type]
        __tablename__ = "Seat %"
        row: Mapped[str] = mapped_column('ro"w', primary_key=True)
        price: Mapped[decimal.Decimal] = mapped_column("p 1", Cents, primary_key=True)
        active: Mapped[bool] = mapped_column("is active", default=True)

    create_all()
    half = decimal.Decimal("0.5")

    def work(session: Session) -> None:
        seats = [Seat(price=half, row=row) for row in ("a'", "b", "c")]
        session.add_all(seats)
        session.commit()
        session.delete(seats[0])
        session.delete(seats[2])
        session.commit()
        assert seats[0].active is False

    in_session(work)
    assert stored(Seat) == [("a'", half, False), ("b", half, True)]


def test_a_key_that_only_the_mapper_knows_is_no_obstacle(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    @attach(SoftDelete("is_active"))
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        email: Mapped[str] = mapped_column()
        is_active: Mapped[bool] = mapped_column(default=True)
        __mapper_args__ = {"primary_key": [email]}

    create_all()

    def work(session: Session) -> None:
        ann = Account(id=1, email="a")
        session.add_all([ann, Account(id=2, email="b")])
        session.commit()
        session.delete(ann)
        session.commit()

    in_session(work)
    assert stored(Account) == [(1, "a", False), (2, "b", True)]


# Kinds of classes and sessions


def test_dataclasses_are_marked(pg_session: Session, pg_engine: Engine) -> None:
    class Base(MappedAsDataclass, DeclarativeBase):
        pass

    @attach(SoftDelete("deleted_at", value=func.now()))
    class Page(Base):
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        deleted_at: Mapped[datetime.datetime | None] = mapped_column(init=False)

    Base.metadata.create_all(pg_engine)
    one = Page(id=1)
    pg_session.add(one)
    pg_session.flush()
    assert one.deleted_at is None
    pg_session.delete(one)
    pg_session.flush()
    assert isinstance(one.deleted_at, datetime.datetime)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_class_that_is_mapped_to_a_table_has_its_marks(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    when: str,
) -> None:
    table = Table(
        "child",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("is_active", Integer, default=1),
        Column("parent_id", ForeignKey("parent.id")),
    )
    if when == "before":
        attach(SoftDelete("is_active", value=0))(table)

    class Child:
        id: int
        is_active: int

    base.registry.map_imperatively(Child, table)
    if when == "after":
        attach(SoftDelete("is_active", value=0))(table)

    class Parent(base):  # type: ignore[misc, valid-type]
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)
        children = relationship(Child, cascade="all, delete-orphan")

    create_all()

    def work(session: Session) -> None:
        one = Child()
        one.id = 1
        parent = Parent(id=1, children=[one])
        session.add(parent)
        session.commit()
        session.delete(one)
        session.flush()
        assert one.is_active == 0
        one.is_active = 1
        session.commit()
        parent.children.clear()
        session.commit()
        assert one.is_active == 0

    in_session(work)


def test_a_scoped_session_marks(account: Any, pg_engine: Engine) -> None:
    session = scoped_session(sessionmaker(pg_engine))
    one = account(id=1)
    session.add(one)
    session.commit()
    session.delete(one)
    session.commit()
    assert one.is_active is False
    with history.ignore(session, account):
        session.delete(one)
        session.commit()
    assert one not in session
    session.remove()


def test_a_session_without_autoflush_or_expiry_marks(
    account: Any, pg_engine: Engine
) -> None:
    with Session(pg_engine, autoflush=False, expire_on_commit=False) as session:
        one = account(id=1)
        session.add(one)
        session.commit()
        session.delete(one)
        assert session.scalars(select(account.is_active)).all() == [True]
        session.commit()
        with sent(session) as words:
            assert one.is_active is False
        assert words == []


def test_autoflush_marks_before_a_query(account: Any, pg_session: Session) -> None:
    one = account(id=1)
    pg_session.add(one)
    pg_session.flush()
    pg_session.delete(one)
    assert pg_session.scalars(select(account.is_active)).all() == [False]
    assert states(one) == {"persistent"}


def test_each_object_is_marked_on_its_own_engine(
    account: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    class Other(DeclarativeBase):
        metadata = MetaData(schema="other")

    @attach(SoftDelete("is_active", condition=old.id > 0))
    class Page(Other):
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        is_active: Mapped[bool] = mapped_column(default=True)

    engine = pg_engine.execution_options(schema_translate_map={"other": "elsewhere"})
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA elsewhere"))
    Other.metadata.create_all(engine)
    with Session(binds={base: pg_engine, Other: engine}) as session:
        one, two = account(id=1), Page(id=1)
        session.add_all([one, two])
        session.commit()
        session.delete(one)
        session.delete(two)
        session.commit()
        assert (one.is_active, two.is_active) == (False, False)
    with pg_engine.connect() as connection:
        found = connection.scalars(text("SELECT is_active FROM elsewhere.page"))
        assert found.all() == [False]


def test_a_session_that_is_bound_to_a_connection_marks(
    account: Any, pg_engine: Engine
) -> None:
    with pg_engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            one = account(id=1)
            session.add(one)
            session.commit()
            session.delete(one)
            session.commit()
            assert one.is_active is False
        outer.rollback()


def test_objects_of_other_models_are_deleted_as_ever(
    base: type[DeclarativeBase], account: Any, pg_session: Session, pg_engine: Engine
) -> None:
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    base.metadata.create_all(pg_engine)
    note, one = Note(id=1), account(id=1)
    pg_session.add_all([note, one])
    pg_session.flush()
    pg_session.delete(note)
    pg_session.delete(one)
    with sent(pg_session) as words:
        pg_session.flush()
    assert (states(note), states(one)) == ({"deleted"}, {"persistent"})
    assert words == ["DELETE", "SELECT", "DELETE"]


def test_a_merged_object_can_be_deleted(account: Any, pg_session: Session) -> None:
    pg_session.add(account(id=1))
    pg_session.commit()
    pg_session.expunge_all()
    one = pg_session.merge(account(id=1, name="b"))
    pg_session.delete(one)
    pg_session.flush()
    assert (one.name, one.is_active) == ("a", False)
    again = pg_session.merge(account(id=1, name="c", is_active=True))
    assert again is one
    pg_session.commit()
    assert (one.name, one.is_active) == ("c", True)


# Deletions in bulk


@pytest.mark.parametrize("synchronize", ["auto", "evaluate", "fetch", False])
def test_a_deletion_in_bulk_marks_the_rows(
    account: Any, in_session: InSession, stored: Stored, synchronize: Any
) -> None:
    def work(session: Session) -> None:
        one, two = account(id=1), account(id=2)
        session.add_all([one, two])
        session.flush()
        statement = delete(account).where(account.id == 1)
        session.execute(
            statement, execution_options={"synchronize_session": synchronize}
        )
        assert states(two) == {"persistent"}
        session.commit()
        # SQLAlchemy takes what it has evaluated for deleted; the row is there.
        found = session.get_one(account, 1)
        assert found.is_active is False
        evaluated = synchronize in ("auto", "evaluate")
        assert (found is one) is not evaluated

    in_session(work)
    assert stored(account) == [(1, "a", False), (2, "a", True)]
