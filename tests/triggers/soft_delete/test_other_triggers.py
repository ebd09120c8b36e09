"""Soft deletion together with tracking and protection."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import DateTime, literal, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

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
    track,
)
from sa_history.exc import ProtectedError
from tests.triggers.soft_delete.helpers import THEN

Recorded = Callable[..., list[tuple[Any, ...]]]
Stored = Callable[..., list[tuple[Any, ...]]]


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
