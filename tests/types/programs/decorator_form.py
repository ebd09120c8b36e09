"""A program with ``@track`` on a class that declares ``events``."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from typing import Any, ClassVar

from sqlalchemy import Column, Engine, Integer, Table, func, select, text
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    joinedload,
    mapped_column,
    scoped_session,
)
from typing_extensions import assert_type

import sa_history as history
from sa_history import (
    FSM,
    AfterDelete,
    AfterUpdate,
    AggregateEvent,
    AnyChange,
    Context,
    Delete,
    Diff,
    Event,
    Events,
    Manual,
    Op,
    Protect,
    Snapshot,
    Undo,
    attach,
    new,
    old,
    track,
)


class Base(DeclarativeBase):
    pass


@attach(Protect(Delete), FSM("status", transitions=[("new", "old")]))
@track(
    Snapshot,
    AfterUpdate((new.id > 1) & ~AnyChange("id") | (old.id == 1), label="combined"),
    AfterUpdate(lambda old, new: new.balance > old.balance, label="callable"),
    AfterUpdate(text("NEW.id > 1"), label="text"),
    AfterDelete,
    Manual("reviewed"),
)
class Account(Base):
    __tablename__ = "account"

    events: ClassVar[Events]
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]
    status: Mapped[str]


@track()
class Visit(Base):
    """Its events are not declared, so that they are read by a function."""

    __tablename__ = "visit"

    id: Mapped[int] = mapped_column(primary_key=True)


members = Table("members", Base.metadata, Column("id", Integer, primary_key=True))
track()(members)


def the_decorator_keeps_the_class() -> None:
    assert_type(Account(), Account)
    Account().balanse  # error


def events_of_a_class(session: Session, monday: datetime.datetime) -> None:
    assert_type(Account.events, Events[Event])
    assert_type(Account.events.model, type[Event])
    every = session.scalars(Account.events.select()).all()
    assert_type(every, Sequence[Event])
    low = Account.events.where(Account.events.balance < 0).limit(10)
    assert_type(session.scalars(low).one(), Event)
    deletions = Account.events.where(Account.events.pgh_op == Op.DELETE)
    assert_type(session.scalar(deletions), Event | None)
    assert_type(session.scalar(Account.events.of(7).last()), Event | None)
    assert_type(session.scalar(Account.events.at(7, monday)), Event | None)
    count = select(func.count()).select_from(Account.events.model)
    assert_type(session.scalar(count), int | None)
    session.scalars(Account.events.between("monday", monday))  # error
    day_ago = func.now() - datetime.timedelta(days=1)
    assert_type(
        session.scalars(Account.events.between(day_ago, func.now())).all(),
        Sequence[Event],
    )
    AggregateEvent.select(Base, since=day_ago, until=monday)
    AggregateEvent.page(session, Base, since=select(func.now()).scalar_subquery())
    Account.events.where("balance < 0")  # error
    accounts: Sequence[Account] = session.scalars(low).all()  # error
    print(accounts)


def events_of_an_object(session: Session, account: Account) -> None:
    assert_type(account.events, Events[Event])
    with_context = joinedload(account.events.model.pgh_context)
    for event in session.scalars(account.events.select().options(with_context)):
        assert_type(event, Event)
        assert_type(event.pgh_id, int)
        assert_type(event.pgh_label, str)
        assert_type(event.pgh_created_at, datetime.datetime)
        assert_type(event.pgh_context_id, uuid.UUID | None)
        assert_type(event.pgh_context, Context | None)
        assert_type(event.diff, Diff | None)
        print(event.balance, event.pgh_obj)
        print(event.pgh_context.metadata)  # error
        print(event.diff.text())  # error
        print(event.pgh_label + 1)  # error
        if event.pgh_context is not None:
            assert_type(event.pgh_context.metadata, dict[str, Any])
    for each in account.events:  # error: mypy, pyright, basedpyright
        print(each)  # error: pyright, basedpyright


def events_by_the_function(session: Session, visit: Visit) -> None:
    assert_type(history.events(visit), Events[Event])
    assert_type(session.scalars(history.events(visit).select()).first(), Event | None)
    assert_type(session.scalars(history.events(Visit).first()).one(), Event)
    visit.events  # error
    history.events("Visit")  # error
    history.events(7)  # error


def versions(session: Session, account: Account, engine: Engine) -> None:
    first, *_, last = session.scalars(account.events.select())
    assert_type(history.diff(first, last), Diff)
    for event, changed in history.steps(session.scalars(account.events.select())):
        assert_type(event, Event)
        assert_type(changed, Diff | None)
    last.revert(session, columns=["balance"])
    last.revert(engine)  # error
    history.diff(account, account)  # error
    history.steps([account])  # error


def contexts(session: Session, scoped: scoped_session[Session], engine: Engine) -> None:
    with history.context(session, user=7) as frame, history.context(scoped):
        assert_type(frame.id, uuid.UUID)
        history.annotate(session, reason="typing")
    with session.connection() as connection, history.context(connection):
        pass

    @history.context(job="interest")
    def job(amount: int) -> str:
        return str(amount)

    assert_type(job(1), str)
    job("1")  # error
    history.context(engine, user=7)  # error
    history.context("session", user=7)  # error
    history.annotate(engine, reason="typing")  # error
    history.annotate("session", reason="typing")  # error


def ignoring(session: Session, engine: Engine) -> None:
    with history.ignore(session, Account, "protect_delete"), history.ignore(Account):
        pass
    with history.ignore("protect_delete"), history.ignore(members):
        pass
    history.ignore(engine, "protect_delete")  # error
    history.ignore(session, 7)  # error


def events_of_many(session: Session, account: Account, last: Event) -> None:
    session.execute(AggregateEvent.select(account, Visit, members, Base))
    session.execute(AggregateEvent.select((Account, 7), (Visit, select(Visit.id))))
    session.execute(AggregateEvent.select(Base.metadata, context=last.pgh_context))
    session.execute(AggregateEvent.select(account, across=[Account, Visit]))
    session.execute(AggregateEvent.select(Base, context={"user": 7}, across=Visit))
    for row in session.execute(AggregateEvent.select(account)):
        print(row.pgh_label, row.pgh_diff)
    AggregateEvent.select("Account")  # error
    AggregateEvent.select(7)  # error
    AggregateEvent.select(("Account", 7))  # error
    AggregateEvent.select(Base, across="Account")  # error
    AggregateEvent.select(Base, context=7)  # error
    AggregateEvent.select(Base, since="monday")  # error


def rows_of_many(session: Session, account: Account) -> None:
    result = AggregateEvent.rows(session.execute(AggregateEvent.select(account)))
    for row in result:
        assert_type(row.pgh_id, int)
        assert_type(row.pgh_label, str)
        assert_type(row.pgh_created_at, datetime.datetime)
        assert_type(row.pgh_context, dict[str, Any] | None)
        assert_type(row.pgh_diff, dict[str, list[Any]] | None)
        print(row.pgh_diff["balance"])  # error
        print(row.pgh_lable)  # error
        print(row.pgh_id + row.pgh_label)  # error
    page = AggregateEvent.rows(session.execute(history.feed(Base, limit=10))).all()
    assert_type(page, Sequence[history.AggregateRow])
    assert_type(history.cursor_of(page[-1]), history.FeedPosition)
    history.feed(Base, after=history.cursor_of(page[-1]))
    history.feed(Base, after=(1, 2))
    history.feed(Base, after=1)  # error
    history.feed("Base")  # error
    AggregateEvent.rows(AggregateEvent.select(account))  # error


def one_attribute(session: Session, account: Account) -> None:
    rows = session.execute(history.changes(account, "balance")).all()
    print(rows[-1].before, rows[-1].after)
    session.execute(history.changes((Account, 7), Account.balance))
    history.changes("account", "balance")  # error
    history.changes(Account, "balance")  # is wrong, but not found
    history.changes(account, 7)  # error
    history.changes(("Account", 7), "balance")  # error


def the_past(session: Session, engine: Engine, last: Event) -> None:
    now = datetime.datetime.now(datetime.timezone.utc)
    with history.as_of(session, now) as past:
        assert_type(past, Session)
        assert_type(past.get(Account, 7), Account | None)
    with history.as_of(engine, last, allow=[Visit, members]) as past:
        balance = select(Account.balance)
        assert_type(past.scalar(balance), int | None)
    with history.as_of(session, transaction=last.pgh_xact_id) as past:
        assert_type(past, Session)
    history.as_of("session", now)  # error
    history.as_of(session, "yesterday")  # error
    history.as_of(session, now, allow=["Account"])  # error
    history.as_of(Account, now)  # error


def returns_within_the_past(session: Session, last: Event) -> int:
    with history.as_of(session, last) as past:
        return len(past.scalars(select(Account)).all())


def undoing(session: Session, engine: Engine, account: Account, last: Event) -> None:
    plan = history.undo(session, Base, transaction=last, dry_run=True)
    assert_type(plan, Undo)
    assert_type(plan.counts, dict[tuple[str, str], int])
    print(len(plan.steps), [step.key for step in plan.steps], plan.steps[0].kind)
    history.undo(session, Account, members, transaction=7, progress=print)
    history.undo(session, Base.metadata, context=last.pgh_context_id)
    with history.context(session) as frame:
        history.undo(session, Base, context=frame)
    history.undo(session, "Account", transaction=1)  # error
    history.undo(session, account, transaction=1)  # error
    history.undo("session", Base, transaction=1)  # error
    history.undo(engine, Base, transaction=1)  # error
    history.undo(session, Base, transaction="1")  # error


def writing_events(session: Session, engine: Engine, account: Account) -> None:
    event = history.create_event(session, account, label="reviewed")
    assert_type(event.pgh_id, int)
    assert_type(history.baseline(engine, Account), int)
    history.create_event(session, "account", label="reviewed")  # error
    history.create_event(engine, account, label="reviewed")  # error
    history.baseline(session, Account)  # error
    history.baseline(engine, account)  # error


def definitions() -> None:
    track("Snapshot")  # error
    track(Snapshot, context="none")  # error
    track(Snapshot)(7)  # error
    attach(Snapshot)  # error
