"""Kinds of sessions, and deletions in bulk through one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, delete, select, text
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

import sa_history as history
from sa_history import SoftDelete, attach, old
from tests.triggers.soft_delete.helpers import states
from tests.triggers.statements import sent

Stored = Callable[..., list[tuple[Any, ...]]]
InSession = Callable[[Callable[[Session], Any]], Any]


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
