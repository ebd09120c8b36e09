"""Options of ``track``: several histories, classes of events, where the context is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterUpdate, Event, Manual, Snapshot, track
from sa_history.exc import DefinitionError
from tests.db.helpers import BY

Recorded = Callable[..., list[tuple[Any, ...]]]
CreateAll = Callable[[], None]


def test_stacked_tracks_keep_a_history_each(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    @track(
        AfterUpdate(label="renamed"),
        columns=["name"],
        level="row",
        events="renames",
        event_name="Rename",
        event_table="account_rename",
        context=None,
    )
    @track(exclude=["name"], level="statement")
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        balance: Mapped[int]

    create_all()
    account = Account(id=1, name="a", balance=1)
    with history.context(pg_session, **BY):
        pg_session.add(account)
        pg_session.flush()
        account.name = "b"
        pg_session.flush()
        account.balance = 2
        pg_session.commit()
    assert recorded(Account, "id", "balance") == [
        ("snapshot", "I", 1, 1, BY),
        ("snapshot", "U", 1, 2, BY),
    ]
    (rename,) = pg_session.scalars(account.renames.select())
    assert type(rename).__name__ == "Rename"
    assert (rename.pgh_label, rename.id, rename.name) == ("renamed", 1, "b")
    assert not hasattr(rename, "balance")
    assert {"pgh_context_id", "balance"}.isdisjoint(Account.renames.table.c.keys())
    assert not hasattr(Account.events.model, "name")


def test_event_class_inherits_the_base_that_it_is_given(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_session: Session,
) -> None:
    class Told:
        @property
        def sentence(self) -> str:
            return f"{self.pgh_label} of {self.id}"  # type: ignore[attr-defined]

    class Short(Event):
        def __repr__(self) -> str:
            return f"#{self.pgh_id}"

    @track(base=Told)
    @track(base=Short, events="short", event_table="s", event_name="S")
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    account = Account(id=1)
    pg_session.add(account)
    pg_session.commit()
    told = pg_session.scalars(account.events.select()).one()
    assert isinstance(told, Told)
    assert isinstance(told, Event)
    assert told.sentence == "snapshot of 1"
    short = pg_session.scalars(account.short.select()).one()
    assert repr(short) == f"#{short.pgh_id}"


@pytest.mark.parametrize("wrong", ["Base", 1])
def test_event_class_cannot_inherit_what_is_mapped_or_no_class(
    base: type[DeclarativeBase], wrong: Any
) -> None:
    class Mapped_(base):  # type: ignore[misc, valid-type]
        __tablename__ = "mapped"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(DefinitionError, match="plain class"):
        track(base=Mapped_ if wrong == "Base" else wrong)(Mapped_)


def test_inline_context_is_stored_in_the_event(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    level: str,
    pg_session: Session,
    recorded: Recorded,
    contexts: Callable[[], list[object]],
) -> None:
    @track(Snapshot, Manual("seen"), level=level, context="inline")
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    with history.context(pg_session, **BY):
        account = Account(id=1)
        pg_session.add(account)
        history.create_event(pg_session, account, label="seen")
        pg_session.commit()
    pg_session.add(Account(id=2))
    pg_session.commit()
    history.create_event(pg_session, account, label="seen")
    pg_session.commit()
    events = pg_session.scalars(Account.events.select()).all()
    assert [(e.pgh_label, e.id, e.pgh_context) for e in events] == [
        ("snapshot", 1, BY),
        ("seen", 1, BY),
        ("snapshot", 2, None),
        ("seen", 1, None),
    ]
    assert len({event.pgh_context_id for event in events}) <= 2
    assert contexts() == []


def test_history_can_be_kept_without_context(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    level: str,
    pg_session: Session,
    recorded: Recorded,
    contexts: Callable[[], list[object]],
) -> None:
    @track(Snapshot, Manual("seen"), level=level, context=None)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    with history.context(pg_session, **BY):
        account = Account(id=1)
        pg_session.add(account)
        history.create_event(pg_session, account, label="seen")
        pg_session.commit()
    assert recorded(Account, "id") == [
        ("snapshot", "I", 1, None),
        ("seen", "M", 1, None),
    ]
    assert contexts() == []
    assert not hasattr(Account.events.model, "pgh_context")
