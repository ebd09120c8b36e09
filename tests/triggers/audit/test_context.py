"""The context in the log, and Audit that is ignored."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from sqlalchemy import Table, delete, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import Audit, attach, track

Logged = Callable[..., list[Any]]
CreateAll = Callable[[], None]


def test_context_is_logged_with_its_id(
    accounts: Any, pg_session: Session, logged: Logged
) -> None:
    with history.context(pg_session, user="O'Reilly %s") as context:
        pg_session.execute(update(accounts).where(accounts.id == 1).values(balance=3))
        pg_session.flush()
    pg_session.execute(delete(accounts).where(accounts.id == 1))
    pg_session.commit()
    with history.context(pg_session):
        pg_session.execute(delete(accounts))
        pg_session.commit()
    assert logged("operation", "context") == [
        ("UPDATE", {"user": "O'Reilly %s"}),
        ("DELETE", None),
        ("DELETE", {}),
    ]
    assert logged("context_id")[:2] == [context.id, None]


def test_context_id_is_that_of_the_events_of_the_same_change(
    base: type[DeclarativeBase],
    log: Table,
    level: str,
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    @attach(Audit(into=log, level=level))
    @track(level=level)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    with history.context(pg_session, user=7):
        pg_session.add(Account(id=1))
        pg_session.commit()
    pg_session.execute(delete(Account))
    pg_session.commit()
    events = select(Account.events.pgh_context_id).order_by(Account.events.pgh_id)
    inserted, deleted = pg_session.scalars(events)
    assert isinstance(inserted, uuid.UUID)
    assert logged("operation", "context_id") == [
        ("INSERT", inserted),
        ("DELETE", None),
    ]
    assert deleted is None


def test_audit_can_be_ignored_by_its_name_and_tracking_goes_on(
    base: type[DeclarativeBase],
    log: Table,
    level: str,
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
    recorded: Callable[..., list[Any]],
) -> None:
    @attach(Audit(into=log, level=level))
    @track(level=level, context=None)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    pg_session.add(Account(id=1))
    pg_session.flush()
    with history.ignore(pg_session, Account, "audit"):
        pg_session.add(Account(id=2))
        pg_session.flush()
    with history.ignore(pg_session, Account, "events"):
        pg_session.add(Account(id=3))
        pg_session.flush()
    pg_session.commit()
    assert [key["id"] for key in logged("key")] == [1, 3]
    assert [event[2] for event in recorded(Account, "id")] == [1, 2]
