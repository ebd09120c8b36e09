"""A refused change leaves no event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Integer, String, delete, func, insert, select, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterDelete, Delete, Protect, ReadOnly, Snapshot, attach, track
from sa_history.exc import ProtectedError, ReadOnlyError, RefusedError

Account = Callable[..., Any]
Attempt = Callable[..., "type[RefusedError] | None"]
CreateAll = Callable[[], None]
Recorded = Callable[..., list[tuple[Any, ...]]]


def test_refused_change_leaves_no_event_and_no_context(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    attempt: Attempt,
    pg_session: Session,
    recorded: Recorded,
    level: str,
) -> None:
    for order in ("attached first", "tracked first"):
        decorators = [
            attach(Protect(Delete, level=level), ReadOnly("owner", level=level)),
            track(Snapshot, AfterDelete, level=level),
        ]
        name = order.split()[0]
        model = type(
            name.title(),
            (base,),
            {
                "__tablename__": name,
                "id": mapped_column(Integer, primary_key=True),
                "owner": mapped_column(String),
            },
        )
        for decorator in decorators if order == "attached first" else decorators[::-1]:
            decorator(model)
        create_all()
        with history.context(pg_session, user=1):
            assert attempt(insert(model).values(id=1, owner="ann")) is None
        with history.context(pg_session, user=2):
            assert attempt(update(model).values(owner="x")) is ReadOnlyError
            assert attempt(delete(model)) is ProtectedError
            assert attempt(f"TRUNCATE {name}") is ProtectedError
        assert recorded(model, "id", "owner") == [
            ("snapshot", "I", 1, "ann", {"user": 1})
        ]
    count = text("SELECT count(*) FROM pghistory_context")
    assert pg_session.scalar(count) == 2


def test_change_that_is_refused_in_the_end_leaves_no_event(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    @attach(Protect(Delete, deferrable="deferred"))
    @track(Snapshot, AfterDelete)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    pg_session.add(Account(id=1))
    pg_session.commit()
    pg_session.execute(delete(Account))
    count = select(func.count()).select_from(Account.events.table)
    assert pg_session.scalar(count) == 2
    with pytest.raises(ProtectedError):
        pg_session.commit()
    assert recorded(Account, "id") == [("snapshot", "I", 1, None)]
