"""Reading history: events of a model, of a row, and of several models in one list."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, Integer, String, Table, delete, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    selectinload,
)

import sa_history as history
from sa_history import (
    AfterDelete,
    AfterInsert,
    AfterUpdate,
    AggregateEvent,
    Snapshot,
    new,
    track,
)


@pytest.fixture
def account(base: type[DeclarativeBase]) -> Any:
    @track(
        Snapshot,
        AfterInsert(label="create"),
        AfterUpdate(new.balance < 0, label="low"),
        AfterDelete,
    )
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int]
        owner: Mapped[str] = mapped_column("Owner's Name")

    return Account


@pytest.fixture
def order(base: type[DeclarativeBase]) -> Any:
    @track(context="inline")
    class Order(base):  # type: ignore[misc, valid-type]
        __tablename__ = "order"
        shop: Mapped[str] = mapped_column(primary_key=True)
        number: Mapped[int] = mapped_column(primary_key=True)
        total: Mapped[int | None]

    return Order


@pytest.fixture
def session(
    account: Any, order: Any, create_all: Callable[[], None], pg_session: Session
) -> Session:
    create_all()
    return pg_session


def read(session: Session, statement: Any, *names: str) -> list[tuple[Any, ...]]:
    rows = session.execute(statement).all()
    return [tuple(getattr(row, name) for name in names) for row in rows]


def test_the_events_of_a_row_and_of_a_class(session: Session, account: Any) -> None:
    one, two = account(balance=1, owner="a"), account(balance=2, owner="b")
    session.add_all([one, two])
    session.flush()
    one.balance = 3
    session.commit()
    snapshots = account.events.pgh_label == "snapshot"
    assert [e.balance for e in session.scalars(one.events.where(snapshots))] == [1, 3]
    assert [e.balance for e in session.scalars(two.events.where(snapshots))] == [2]
    rich = session.scalars(account.events.where(account.events.balance > 2)).all()
    assert [event.balance for event in rich] == [3]
    assert isinstance(rich[0], account.events.model)
    assert rich[0].pgh_obj is one
    assert rich[0].owner == "a"


def test_the_events_of_a_deleted_row_are_kept(session: Session, account: Any) -> None:
    row = account(balance=1, owner="a")
    session.add(row)
    session.commit()
    session.delete(row)
    session.commit()
    last = session.scalars(row.events.select()).all()[-1]
    assert (last.pgh_op, last.balance, last.pgh_obj) == ("D", 1, None)


def test_an_event_knows_its_context(session: Session, account: Any) -> None:
    with history.context(session, user=7), history.context(session, step="b") as inner:
        row = account(balance=1, owner="a")
        session.add(row)
        session.commit()
    event = session.scalars(row.events.select()).first()
    assert event is not None
    assert event.pgh_context.id == event.pgh_context_id == inner.id
    assert event.pgh_context.metadata == {"user": 7, "step": "b"}
    assert inner.parent is not None
    assert event.pgh_context.parent_id == inner.parent.id
    assert event.pgh_context.parent is None, "the outer context made no change"


def test_the_same_statements_serve_an_async_session(
    session: Session, account: Any, pg_async_engine: AsyncEngine
) -> None:
    async def change_and_read() -> Any:
        async with AsyncSession(pg_async_engine) as async_session:
            row = account(balance=1, owner="a")
            with history.context(async_session, user=7):
                async_session.add(row)
                await async_session.commit()
            events = await async_session.scalars(
                row.events.select().options(
                    selectinload(account.events.model.pgh_context)
                )
            )
            found = [(e.pgh_label, e.pgh_context.metadata) for e in events]
            rows = await async_session.execute(AggregateEvent.select(row))
            return found, [row.pgh_diff for row in rows]

    found, diffs = asyncio.run(change_and_read())
    assert found == [("snapshot", {"user": 7}), ("create", {"user": 7})]
    assert diffs == [None, None]


def test_an_aggregate_row_says_everything(session: Session, account: Any) -> None:
    row = account(balance=1, owner="a")
    session.add(row)
    session.commit()
    with history.context(session, user=7) as context:
        row.owner = "b"
        session.commit()
    (found,) = session.execute(AggregateEvent.select(row, context=context.id)).all()
    assert found.pgh_created_at.tzinfo is not None
    assert found._asdict() | {"pgh_created_at": None, "pgh_xact_id": None} == {
        "pgh_id": found.pgh_id,
        "pgh_model": "AccountEvent",
        "pgh_obj_model": "Account",
        "pgh_obj_id": str(row.id),
        "pgh_label": "snapshot",
        "pgh_op": "U",
        "pgh_created_at": None,
        "pgh_xact_id": None,
        "pgh_context_id": context.id,
        "pgh_context": {"user": 7},
        "pgh_data": {"id": row.id, "balance": 1, "owner": "b"},
        "pgh_diff": {"owner": ["a", "b"]},
    }


def test_labels_of_one_change_have_one_diff(session: Session, account: Any) -> None:
    row = account(id=1, balance=1, owner="a")
    session.add(row)
    session.flush()
    row.balance = -1  # all in one transaction
    session.flush()
    row.balance = -2
    session.commit()
    assert read(session, AggregateEvent.select(row), "pgh_label", "pgh_diff") == [
        ("snapshot", None),
        ("create", None),
        ("snapshot", {"balance": [1, -1]}),
        ("low", {"balance": [1, -1]}),
        ("snapshot", {"balance": [-1, -2]}),
        ("low", {"balance": [-1, -2]}),
    ]


def test_a_row_that_was_created_again_begins_again(
    session: Session, order: Any
) -> None:
    for total in (1, 2):
        session.add(order(shop="a", number=1, total=total))
        session.commit()
        session.execute(delete(order))
        session.commit()
    diffs = read(session, AggregateEvent.select(order), "pgh_op", "pgh_diff")
    assert diffs == [("I", None), ("D", {}), ("I", None), ("D", {})]


def test_a_composite_key_is_a_list_and_null_is_a_value(
    session: Session, order: Any
) -> None:
    session.add_all([order(shop="a", number=1), order(shop="a", number=2, total=0)])
    session.flush()
    session.execute(update(order).values(total=9))
    session.commit()
    first = session.get(order, ("a", 1))
    names = ("pgh_obj_id", "pgh_diff")
    assert read(session, AggregateEvent.select(first), *names) == [
        ('["a", 1]', None),
        ('["a", 1]', {"total": [None, 9]}),
    ]


def test_context_is_read_wherever_it_is_stored(
    session: Session, account: Any, order: Any
) -> None:
    with history.context(session, user=7):
        session.add(account(balance=1, owner="a"))
        session.add(order(shop="a", number=1))
        session.commit()
    statement = AggregateEvent.select(account, order)
    assert read(session, statement, "pgh_context") == [({"user": 7},)] * 3
    by_user = AggregateEvent.pgh_context["user"].as_integer()
    assert len(session.execute(statement.where(by_user == 7)).all()) == 3
    assert session.execute(statement.where(by_user == 8)).all() == []


def test_events_are_joined_to_the_user_of_their_context(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
) -> None:
    """By a key of the metadata in its type, or by a column of its own."""

    class User(base):  # type: ignore[misc, valid-type]
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    @track(context_columns=[Column("user", Integer)])
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    pg_session.add(User(id=7, name="Ann"))
    for id_, keys in ((1, {"user": 7}), (2, {"user": 99}), (3, {"job": "x"})):
        with history.context(pg_session, **keys):
            pg_session.add(Note(id=id_))
            pg_session.flush()
    pg_session.add(Note(id=4))
    pg_session.commit()
    expected = [(1, "Ann"), (2, None), (3, None), (4, None)]

    event = Note.events.model
    by_column = (
        select(event.id, User.name)
        .outerjoin(User, User.id == event.user)
        .order_by(event.pgh_id)
    )
    assert pg_session.execute(by_column).all() == expected

    listed = AggregateEvent.select(Note).subquery()
    user = listed.c.pgh_context["user"].as_integer()
    by_key = (
        select(listed.c.pgh_data["id"].as_integer(), User.name)
        .outerjoin(User, User.id == user)
        .order_by(listed.c.pgh_id)
    )
    assert pg_session.execute(by_key).all() == expected
    users = select(user).order_by(listed.c.pgh_id)
    assert pg_session.scalars(users).all() == [7, 99, None, None]


def test_the_events_of_a_context_are_found_wherever_it_is_stored(
    session: Session, account: Any, order: Any
) -> None:
    with history.context(session, user=7) as context:
        session.add(account(balance=1, owner="a"))
        session.add(order(shop="a", number=1))
        session.commit()
    statement = AggregateEvent.select(account, order, context=context.id)
    models = {model for (model,) in read(session, statement, "pgh_obj_model")}
    assert models == {"Account", "Order"}


def test_all_models_of_a_base_have_one_order(
    session: Session, account: Any, order: Any, base: type[DeclarativeBase]
) -> None:
    for number in range(3):
        session.add(account(balance=number, owner="a"))
        session.flush()
        session.add(order(shop="a", number=number))
        session.flush()
    session.commit()
    labels = ["snapshot"]
    names = ("pgh_obj_model",)
    expected = [("Account",), ("Order",)] * 3
    statement = AggregateEvent.select(base, labels=labels)
    assert read(session, statement, *names) == expected
    newest = AggregateEvent.select(base, labels=labels, limit=2, newest_first=True)
    assert read(session, newest, *names) == [("Order",), ("Account",)]
    only = AggregateEvent.select(base, labels=labels, across=[order], limit=2)
    assert read(session, only, *names) == [("Order",)] * 2


def test_pages_are_turned_by_the_number_of_the_last_event(
    session: Session, account: Any, base: type[DeclarativeBase]
) -> None:
    session.add_all([account(balance=n, owner="a") for n in range(10)])
    session.commit()
    seen: list[int] = []
    before = None
    while True:
        page = session.execute(
            AggregateEvent.select(base, limit=6, before=before, newest_first=True)
        ).all()
        if not page:
            break
        seen += [row.pgh_id for row in page]
        before = page[-1].pgh_id
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == 20


def test_events_are_narrowed_by_time(session: Session, account: Any) -> None:
    session.add(account(balance=1, owner="a"))
    session.commit()
    (at,) = session.execute(AggregateEvent.select(account, limit=1)).scalars().all()
    at = session.scalars(account.events.select()).first().pgh_created_at
    later = at + datetime.timedelta(microseconds=1)

    def count(**arguments: Any) -> int:
        return len(session.execute(AggregateEvent.select(account, **arguments)).all())

    assert (count(since=at), count(until=at)) == (2, 0)
    assert (count(since=later), count(until=later)) == (0, 2)


def test_a_diff_can_be_asked_for_an_attribute(session: Session, account: Any) -> None:
    row = account(balance=1, owner="a")
    session.add(row)
    session.commit()
    row.owner = "b"
    session.commit()
    statement = AggregateEvent.select(account)
    changed = statement.where(AggregateEvent.pgh_diff.has_key("owner"))
    assert read(session, changed, "pgh_diff") == [({"owner": ["a", "b"]},)]


def test_a_tracker_that_stores_some_columns_shows_these(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @track(Snapshot, AfterUpdate(columns=["a"], label="a"))
    class Thing(base):  # type: ignore[misc, valid-type]
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        a: Mapped[int]
        b: Mapped[int]

    create_all()
    pg_session.add(Thing(id=1, a=1, b=1))
    pg_session.flush()
    pg_session.execute(update(Thing).values(a=2, b=2))
    pg_session.execute(update(Thing).values(b=3))
    pg_session.commit()
    statement = AggregateEvent.select(Thing)
    assert read(pg_session, statement, "pgh_label", "pgh_data", "pgh_diff") == [
        ("snapshot", {"id": 1, "a": 1, "b": 1}, None),
        ("snapshot", {"id": 1, "a": 2, "b": 2}, {"a": [1, 2], "b": [1, 2]}),
        ("a", {"id": 1, "a": 2}, {"a": [1, 2]}),
        ("snapshot", {"id": 1, "a": 2, "b": 3}, {"b": [2, 3]}),
    ]


def test_a_table_may_have_more_columns_than_a_function_has_arguments(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    columns = [Column(f"c{n}", Integer) for n in range(120)]
    wide = Table(
        "wide", base.metadata, Column("id", Integer, primary_key=True), *columns
    )
    track(Snapshot)(wide)
    create_all()
    pg_session.execute(wide.insert().values(id=1, c0=1, c119=1))
    pg_session.execute(wide.update().values(c119=2))
    pg_session.commit()
    rows = pg_session.execute(AggregateEvent.select(wide)).all()
    assert len(rows[0].pgh_data) == 121
    assert rows[1].pgh_diff == {"c119": [1, 2]}


def test_a_table_without_a_key_has_events_and_no_diffs(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    log = Table("log", base.metadata, Column("line", String))
    track(Snapshot, AfterDelete)(log)
    create_all()
    pg_session.execute(log.insert().values(line="x"))
    pg_session.commit()
    statement = AggregateEvent.select(log)
    names = ("pgh_obj_model", "pgh_obj_id", "pgh_data", "pgh_diff")
    assert read(pg_session, statement, *names) == [("log", None, {"line": "x"}, None)]
    assert [e.line for e in pg_session.scalars(history.events(log).select())] == ["x"]


def test_the_limit_is_in_every_branch(
    session: Session, base: type[DeclarativeBase]
) -> None:
    statement = AggregateEvent.select(base, limit=5, newest_first=True)
    compiled = statement.compile(
        session.get_bind(), compile_kwargs={"literal_binds": True}
    )
    page = str(compiled).partition(" AS page")[0]
    assert page.count("LIMIT 5") == 3, "in two tables and in their union"
    plan = "\n".join(session.scalars(text(f"EXPLAIN {compiled}")))
    assert "Index Scan Backward using account_event_pkey" in plan
    assert "Index Scan Backward using order_event_pkey" in plan


def test_a_name_that_no_events_have(account: Any) -> None:
    with pytest.raises(history.exc.EventsError, match="has no events named 'audit'"):
        history.events(account, "audit")
