"""Rows that are not marked: those that a condition leaves out, and ignored triggers."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import DateTime, delete, literal, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import Protect, SoftDelete, Update, attach, new, old
from sa_history.exc import DefinitionError
from tests.triggers.soft_delete.helpers import THEN

Stored = Callable[..., list[tuple[Any, ...]]]


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
