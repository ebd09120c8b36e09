"""FSM beside other triggers, tracking and flushes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, Computed, Integer, Table, Text, delete, insert, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import (
    FSM,
    AfterDelete,
    AfterUpdate,
    Delete,
    Protect,
    Snapshot,
    SoftDelete,
    attach,
    new,
    old,
    track,
)
from sa_history.exc import ProtectedError, RefusedError, TransitionError
from tests.triggers.fsm.helpers import WAY

Attempt = Callable[..., "type[RefusedError] | None"]
CreateAll = Callable[[], None]
Rows = Callable[[Any], list[tuple[Any, ...]]]


def test_flush_is_refused_and_the_object_stays_as_it_was(
    article: Any, pg_session: Session, level: str
) -> None:
    model = article(FSM("status", transitions=WAY, initial=["draft"], level=level))
    first = model(id=1)
    pg_session.add(first)
    pg_session.commit()
    first.status = "archived"
    with pytest.raises(TransitionError):
        pg_session.commit()
    pg_session.rollback()
    assert first.status == "draft"
    first.status = "published"
    pg_session.commit()
    assert first.status == "published"


def test_deferred_machine_refuses_at_the_end(
    article: Any, pg_session: Session, rows: Rows
) -> None:
    model = article(FSM("status", transitions=WAY, deferrable="deferred"))
    pg_session.add(model(id=1))
    pg_session.commit()
    pg_session.execute(update(model).values(status="archived"))
    with pytest.raises(TransitionError):
        pg_session.commit()
    pg_session.rollback()
    for state in ("published", "archived"):
        pg_session.execute(update(model).values(status=state))
    pg_session.commit()
    assert rows(model) == [(1, "archived", 0)]


def test_deletion_is_no_transition(article: Any, attempt: Attempt, level: str) -> None:
    model = article(FSM("status", transitions=WAY, level=level))
    assert attempt(insert(model).values(id=1, status="archived")) is None
    assert attempt(delete(model)) is None
    assert attempt("TRUNCATE article") is None


def test_soft_deletion_is_a_transition(
    article: Any, attempt: Attempt, rows: Rows, level: str
) -> None:
    model = article(
        SoftDelete("status", value="gone"),
        FSM("status", transitions=[("done", "gone"), ("draft", "done")], level=level),
    )
    assert attempt(insert(model).values(id=1)) is None
    assert attempt(delete(model)) is TransitionError
    assert attempt(update(model).values(status="done")) is None
    assert attempt(delete(model)) is None
    assert rows(model) == [(1, "gone", 0)]


def test_a_row_is_protected_while_it_is_in_a_state(
    article: Any, attempt: Attempt, level: str
) -> None:
    model = article(
        FSM("status", transitions=WAY, level=level),
        Protect(Delete, condition=old.status == "published", level=level),
    )
    assert attempt(insert(model).values(id=1)) is None
    assert attempt(update(model).values(status="published")) is None
    assert attempt(delete(model)) is ProtectedError
    assert attempt(update(model).values(status="archived")) is None
    assert attempt(delete(model)) is None


def test_refused_transition_leaves_no_event(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    attempt: Attempt,
    pg_session: Session,
    recorded: Any,
    level: str,
) -> None:
    @track(
        Snapshot, AfterUpdate(new.status == "b", label="b"), AfterDelete, level=level
    )
    @attach(FSM("status", transitions=[("a", "b")], initial=["a"], level=level))
    class Article(base):  # type: ignore[misc, valid-type]
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        status: Mapped[str]

    create_all()
    with history.context(pg_session, user=7):
        assert attempt(insert(Article).values(id=1, status="b")) is TransitionError
        assert attempt(insert(Article).values(id=1, status="a")) is None
        assert attempt(update(Article).values(status="c")) is TransitionError
        assert attempt(update(Article).values(status="b")) is None
        assert attempt(update(Article).values(status="a")) is TransitionError
    assert recorded(Article, "status") == [
        ("snapshot", "I", "a", {"user": 7}),
        ("snapshot", "U", "b", {"user": 7}),
        ("b", "U", "b", {"user": 7}),
    ]


def test_generated_state_is_looked_at_after_the_change(
    base: type[DeclarativeBase], create_all: CreateAll, attempt: Attempt
) -> None:
    open_until = Computed("CASE WHEN done < 9 THEN 'open' END", persisted=True)
    table = Table(
        "task",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("done", Integer),
        Column("state", Text, open_until),
    )
    machine = FSM(
        "state", transitions=[("open", None)], initial=["open"], level="statement"
    )
    attach(machine)(table)
    create_all()
    assert attempt(insert(table).values(id=1, done=9)) is TransitionError
    assert attempt(insert(table).values(id=1, done=0)) is None
    assert attempt(update(table).values(done=8)) is None
    assert attempt(update(table).values(done=9)) is None
    assert attempt(update(table).values(done=8)) is TransitionError
