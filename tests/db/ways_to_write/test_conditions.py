"""Which rows a tracker records, and which side and columns of a change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import (
    AfterDelete,
    AfterInsert,
    AfterUpdate,
    AllChange,
    AllDontChange,
    AnyChange,
    AnyDontChange,
    Snapshot,
    new,
    old,
    track,
)

Recorded = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def narrowed(
    base: type[DeclarativeBase], create_all: Callable[[], None], level: str
) -> Any:
    """A model whose trackers narrow what they record, in every way."""

    @track(
        AfterInsert(new.balance > 15, label="rich", columns=["id"]),
        AfterUpdate(None, label="touched", exclude=["balance"]),
        AfterUpdate(label="was", row="old"),
        AfterDelete(old.balance > 15, label="left"),
        level=level,
    )
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int]

    create_all()
    return Account


@pytest.mark.parametrize("statement", ["DELETE FROM account", "TRUNCATE account"])
def test_tracker_records_the_rows_it_is_narrowed_to(
    narrowed: Any, pg_session: Session, recorded: Recorded, statement: str
) -> None:
    pg_session.execute(text("INSERT INTO account VALUES (1, 10), (2, 20)"))
    pg_session.execute(text(statement))
    pg_session.commit()
    op = "D" if statement.startswith("DELETE") else "T"
    assert recorded(narrowed, "id", "balance") == [
        ("rich", "I", 2, None, None),
        ("left", op, 2, 20, None),
    ]


def test_tracker_stores_the_side_and_the_columns_it_asks_for(
    narrowed: Any, pg_session: Session, recorded: Recorded
) -> None:
    pg_session.execute(text("INSERT INTO account VALUES (1, 10)"))
    pg_session.execute(text("UPDATE account SET balance = balance"))
    pg_session.execute(text("UPDATE account SET id = 2, balance = 11"))
    pg_session.commit()
    assert recorded(narrowed, "pgh_obj_id", "pgh_old_key", "id", "balance") == [
        ("touched", "U", 1, None, 1, None, None),
        ("touched", "U", 2, [1], 2, None, None),
        ("was", "U", 1, None, 1, 10, None),
    ]


def test_changed_columns_that_a_condition_leaves_out_are_no_news(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    level: str,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    """Such as time stamps that change alone; they are stored all the same."""

    @track(AfterUpdate(AnyChange(exclude=["seen", "pings"])), AfterDelete, level=level)
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        pings: Mapped[int]
        seen: Mapped[int]

    create_all()
    pg_session.execute(text("INSERT INTO page VALUES (1, 'a', 0, 0), (2, 'b', 0, 0)"))
    pg_session.execute(text("UPDATE page SET seen = 1, pings = id"))
    pg_session.execute(text("UPDATE page SET title = 'c', seen = 2 WHERE id = 1"))
    pg_session.execute(text("DELETE FROM page WHERE id = 2"))
    pg_session.commit()
    assert recorded(Page, "id", "title", "pings", "seen") == [
        ("update", "U", 1, "c", 1, 2, None),
        ("delete", "D", 2, "b", 2, 1, None),
    ]


def test_change_of_a_column_that_is_not_stored_is_no_news(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    level: str,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    """Of many columns a trigger for each row sees only that some have changed."""

    @track(Snapshot, exclude=["seen"], level=level)
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        body: Mapped[str]
        pings: Mapped[int]
        seen: Mapped[int]

    create_all()
    pg_session.execute(text("INSERT INTO page VALUES (1, 'a', 'b', 0, 0)"))
    pg_session.execute(text("UPDATE page SET seen = 1"))
    pg_session.execute(text("UPDATE page SET seen = 2, pings = 1"))
    pg_session.commit()
    assert recorded(Page, "title", "pings") == [
        ("snapshot", "I", "a", 0, None),
        ("snapshot", "U", "a", 1, None),
    ]


def test_condition_says_how_many_of_some_columns_change(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    level: str,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    @track(
        AfterUpdate(AnyChange("street", "city"), label="any"),
        AfterUpdate(AllChange("street", "city"), label="all"),
        AfterUpdate(AnyDontChange("street", "city"), label="any_not"),
        AfterUpdate(AllDontChange("street", "city"), label="all_not"),
        level=level,
    )
    class Address(base):  # type: ignore[misc, valid-type]
        __tablename__ = "address"
        id: Mapped[int] = mapped_column(primary_key=True)
        street: Mapped[str | None]
        city: Mapped[str | None]
        version: Mapped[int]

    create_all()
    pg_session.execute(text("INSERT INTO address VALUES (1, 'a', NULL, 0)"))
    for number, changes in enumerate(["", "street = NULL,", "street = 1, city = 2,"]):
        pg_session.execute(text(f"UPDATE address SET {changes} version = {number + 1}"))
    pg_session.execute(text("UPDATE address SET version = version"))
    pg_session.commit()
    told = [(event[0], event[2]) for event in recorded(Address, "version")]
    assert told == [
        ("any_not", 1),
        ("all_not", 1),
        ("any", 2),
        ("any_not", 2),
        ("any", 3),
        ("all", 3),
    ]


def test_condition_may_look_at_a_column_that_is_not_stored(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    level: str,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    """Then its change alone is one as well."""

    @track(
        AfterUpdate(AnyChange("secret"), label="secret"),
        AfterUpdate(new.secret > 5, label="large"),
        AfterDelete(old.secret == 7, label="gone"),
        exclude=["secret"],
        level=level,
    )
    class Login(base):  # type: ignore[misc, valid-type]
        __tablename__ = "login"
        id: Mapped[int] = mapped_column(primary_key=True)
        secret: Mapped[int]

    create_all()
    pg_session.execute(text("INSERT INTO login VALUES (1, 1)"))
    for secret in (1, 2, 7, 7):
        pg_session.execute(text(f"UPDATE login SET secret = {secret}"))
    pg_session.execute(text("DELETE FROM login"))
    pg_session.commit()
    assert "secret" not in Login.events.table.c
    assert recorded(Login, "id") == [
        ("secret", "U", 1, None),
        ("secret", "U", 1, None),
        ("large", "U", 1, None),
        ("gone", "D", 1, None),
    ]
