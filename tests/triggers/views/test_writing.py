"""Views that may only be read, and triggers that write through them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, Identity, Table, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import Delete, Insert, Trigger, Update, attach, view
from sa_history.exc import ReadOnlyError
from tests.triggers.views.helpers import objects


def insert_one(table: Table) -> Any:
    return insert(table).values(id=9, email="x")


def update_one(table: Table) -> Any:
    return update(table).where(table.c.id == 1).values(email="x")


def delete_one(table: Table) -> Any:
    return delete(table).where(table.c.id == 1)


WRITES = {"INSERT": insert_one, "UPDATE": update_one, "DELETE": delete_one}


@pytest.mark.parametrize("operation", WRITES)
def test_it_may_only_be_read(
    users: Any, active: Any, pg_engine: Engine, operation: str
) -> None:
    with pytest.raises(ReadOnlyError) as caught, pg_engine.begin() as connection:
        connection.execute(WRITES[operation](active.__table__))
    error: Any = caught.value.orig
    assert error.sqlstate == "SH004"
    assert error.diag.message_primary == (
        f"{operation} of public.active_user is refused: the view may only be read"
    )
    assert error.diag.message_hint == "Write the tables that it reads."
    assert error.diag.table_name == "active_user"
    assert error.diag.constraint_name == "active_user_read_only"


def test_a_write_that_meets_no_row_is_none(
    users: Any, active: Any, pg_engine: Engine
) -> None:
    with pg_engine.begin() as connection:
        found = connection.execute(delete(active.__table__).where(active.id == 9))
        assert found.rowcount == 0


def test_nothing_ignores_that_it_may_only_be_read(
    users: Any, active: Any, pg_session: Session
) -> None:
    with (
        history.ignore("read_only"),
        pytest.raises(ReadOnlyError),
    ):
        pg_session.execute(delete(active))


@pytest.mark.parametrize("operation", WRITES)
def test_a_flush_is_refused(
    users: Any, active: Any, pg_session: Session, operation: str
) -> None:
    one = pg_session.get_one(active, 1)
    if operation == "INSERT":
        pg_session.add(active(id=9, email="x"))
    elif operation == "UPDATE":
        one.email = "x"
    else:
        pg_session.delete(one)
    with pytest.raises(ReadOnlyError, match=f"{operation} of public.active_user"):
        pg_session.flush()


BODIES = {
    "INSERT": 'INSERT INTO "user" VALUES (NEW.id, upper(NEW.email), true);'
    " NEW.email = upper(NEW.email); RETURN NEW;",
    "UPDATE": 'UPDATE "user" SET email = NEW.email WHERE id = OLD.id; RETURN NEW;',
    "DELETE": 'UPDATE "user" SET is_active = false WHERE id = OLD.id; RETURN OLD;',
}

OPERATIONS = {"INSERT": Insert, "UPDATE": Update, "DELETE": Delete}


@pytest.mark.parametrize("operation", WRITES)
def test_a_trigger_takes_one_operation_while_others_are_refused(
    user: Any,
    active: Any,
    create_all: Callable[[], None],
    pg_session: Session,
    operation: str,
) -> None:
    attach(
        Trigger("take", "instead of", OPERATIONS[operation], body=BODIES[operation])
    )(active)
    create_all()
    pg_session.add(user(id=1, email="ann"))
    pg_session.commit()
    table = active.__table__
    for other, make in WRITES.items():
        if other != operation:
            with pytest.raises(ReadOnlyError), pg_session.begin_nested():
                pg_session.execute(make(table))
    pg_session.execute(WRITES[operation](table))
    rows = pg_session.execute(select(user.id, user.email, user.is_active))
    assert (
        sorted(rows.all())
        == {
            "INSERT": [(1, "ann", True), (9, "X", True)],
            "UPDATE": [(1, "x", True)],
            "DELETE": [(1, "ann", False)],
        }[operation]
    )


def test_the_orm_writes_through_it(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_engine: Engine,
    pg_async_engine: AsyncEngine,
) -> None:
    class User(base):  # type: ignore[misc, valid-type]
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
        email: Mapped[str]
        made: Mapped[str] = mapped_column(server_default="by default")
        is_active: Mapped[bool] = mapped_column(default=True)

    @attach(
        Trigger(
            "write",
            "instead of",
            Insert | Update | Delete,
            body="IF TG_OP = 'INSERT' THEN"
            ' INSERT INTO "user" (email, is_active) VALUES (NEW.email, true)'
            " RETURNING id, made INTO NEW.id, NEW.made; RETURN NEW;"
            " ELSIF TG_OP = 'UPDATE' THEN"
            ' UPDATE "user" SET email = NEW.email WHERE id = OLD.id; RETURN NEW;'
            " ELSE"
            ' UPDATE "user" SET is_active = false WHERE id = OLD.id; RETURN OLD;'
            " END IF;",
        )
    )
    class ActiveUser(base):  # type: ignore[misc, valid-type]
        __table__ = view(
            "active_user",
            base.metadata,
            select(User.id, User.email, User.made).where(User.is_active),
        )

    create_all()

    def work(session: Session) -> list[Any]:
        users = [ActiveUser(email=email) for email in ("ann", "ben", "cid")]
        session.add_all(users)
        session.flush()
        first = users[0].id
        assert [u.id for u in users] == [first, first + 1, first + 2]
        assert {u.made for u in users} == {"by default"}
        users[0].email = "eve"
        session.delete(users[1])
        session.commit()
        assert users[0].email == "eve"
        found = session.scalars(select(ActiveUser.email).order_by(ActiveUser.id)).all()
        session.execute(delete(ActiveUser))
        session.commit()
        return list(found)

    with Session(pg_engine) as session:
        assert work(session) == ["eve", "cid"]

    async def main() -> None:
        async with AsyncSession(pg_async_engine) as session:
            assert await session.run_sync(work) == ["eve", "cid"]

    asyncio.run(main())


def test_an_instead_of_trigger_is_dropped_with_the_view(
    user: Any,
    active: Any,
    base: type[DeclarativeBase],
    pg_engine: Engine,
) -> None:
    attach(Trigger("all", "instead of", Insert | Update | Delete, body="RETURN NULL;"))(
        active
    )
    with pg_engine.begin() as connection:
        base.metadata.create_all(connection)
        assert objects(connection) == [
            "active_user",
            "active_user: active_user_all",
            "active_user_all()",
        ]
        base.metadata.drop_all(connection)
        assert objects(connection) == []


def test_a_trigger_of_statement_level_runs_on_a_view(
    user: Any, active: Any, create_all: Callable[[], None], pg_session: Session
) -> None:
    attach(
        Trigger(
            "count",
            "after",
            Update,
            level="statement",
            body="UPDATE \"user\" SET email = email || '!'; RETURN NULL;",
        ),
        Trigger("take", "instead of", Update, body=BODIES["UPDATE"]),
    )(active)
    create_all()
    pg_session.add_all([user(id=1, email="a"), user(id=2, email="b")])
    pg_session.commit()
    pg_session.execute(update(active).values(email="x"))
    with history.ignore(pg_session, active, "count"):
        pg_session.execute(update(active).values(email=active.email + "?"))
    found = pg_session.scalars(select(user.email))
    assert found.all() == ["x!?", "x!?"]
