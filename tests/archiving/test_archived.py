"""Questions to an archive with the live events, and the same ones to PostgreSQL alone.

The history of a test is random, with keys that change, deletions and rows that come
again. Each question is asked before the events are archived, when all are live, and
then of the archive: the answers are equal row by row.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    Engine,
    Numeric,
    bindparam,
    delete,
    func,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, aliased, mapped_column

import sa_history as history
from sa_history import AggregateEvent, track
from sa_history.exc import EventsError
from tests.archiving.conftest import LATER

ROWS = range(1, 9)


@pytest.fixture
def shop(base: type[DeclarativeBase]) -> Any:
    """Two tracked tables, one of them with the key of two columns."""

    @track(partition_by=40)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        owner: Mapped[str | None]
        balance: Mapped[Decimal] = mapped_column(Numeric(10, 2), default=0)

    @track(partition_by=40)
    class Line(base):  # type: ignore[misc, valid-type]
        __tablename__ = "line"
        order: Mapped[int] = mapped_column(primary_key=True)
        code: Mapped[str] = mapped_column(primary_key=True)
        amount: Mapped[int]

    return SimpleNamespace(Account=Account, Line=Line, base=base)


@pytest.fixture
def told(
    shop: Any, create_all: Callable[[], None], pg_engine: Engine
) -> list[datetime.datetime]:
    """A random history in both tables, and times at which to look at it."""
    create_all()
    choose = random.Random(7)
    times = []
    for number in range(30):
        with Session(pg_engine) as session, history.context(session, user=number % 5):
            for model, key, value in (
                (shop.Account, shop.Account.id, shop.Account.balance),
                (shop.Line, shop.Line.order, shop.Line.amount),
            ):
                _change(session, choose, model, key, value)
            session.commit()
        if number % 10 == 9:
            times.append(_now(pg_engine))
            history.partitions(pg_engine, shop.base)
    return times


def _now(engine: Engine) -> Any:
    with engine.connect() as connection:
        return connection.scalar(select(func.clock_timestamp()))


def _change(session: Session, choose: random.Random, model: Any, key: Any, value: Any):
    one = choose.choice(ROWS)
    found = session.execute(select(model).where(key == one)).first()
    if found is None:
        known = {"owner": f"o{one}"} if hasattr(model, "owner") else {"code": "a"}
        session.add(model(**{key.key: one, value.key: one}, **known))
        return
    kind = choose.random()
    other = choose.choice(ROWS)
    is_free = session.scalar(select(func.count()).where(key == other)) == 0
    if kind < 0.15:
        session.execute(delete(model).where(key == one))
    elif kind < 0.35 and is_free:
        session.execute(update(model).where(key == one).values({key: other}))
    else:
        session.execute(
            update(model)
            .where(key <= one)
            .values({value: value + choose.randint(1, 9)})
        )


def columns_of(obj: Any) -> dict[str, Any]:
    return {c.key: getattr(obj, c.key) for c in type(obj).__mapper__.column_attrs}


def of_event(event: Any) -> dict[str, Any]:
    context = event.pgh_context and event.pgh_context.metadata
    return columns_of(event) | {"context": context}


def as_rows(rows: Any) -> list[Any]:
    return [tuple(row) for row in rows]


def live_answers(shop: Any, engine: Engine, times: Any, transaction: int, context: Any):
    """The questions, asked to the database."""
    answers: dict[str, Any] = {}
    with Session(engine) as session:
        for model, key in ((shop.Account, 3), (shop.Line, (3, "a"))):
            name = model.__name__
            events = session.scalars(model.events.of(key).select()).all()
            answers[f"{name} events"] = [of_event(e) for e in events]
            answers[f"{name} diffs"] = [
                dict(d) if d is not None else None for _, d in history.steps(events)
            ]
            answers[f"{name} diff"] = [e.diff and dict(e.diff) for e in events[:6]]
            value = "balance" if name == "Account" else "amount"
            answers[f"{name} changes"] = as_rows(
                session.execute(history.changes((model, key), value))
            )
        for name, options in questions(shop, transaction, context):
            targets = options.pop("targets")
            statement = AggregateEvent.select(*targets, **options)
            answers[name] = as_rows(session.execute(statement))
        for when in times:
            with history.as_of(session, when) as past:
                answers[f"as of {when}"] = rows_then(past, shop)
    return answers


def archive_answers(
    archive: Any, shop: Any, times: Any, transaction: int, context: Any
):
    """The same questions, asked to an archive."""
    answers: dict[str, Any] = {}
    for model, key in ((shop.Account, 3), (shop.Line, (3, "a"))):
        name = model.__name__
        events = archive.events(model, key)
        answers[f"{name} events"] = [of_event(e) for e in events]
        answers[f"{name} diffs"] = [
            dict(d) if d is not None else None for _, d in archive.diffs(model, key)
        ]
        answers[f"{name} diff"] = [e.diff and dict(e.diff) for e in events[:6]]
        value = "balance" if name == "Account" else "amount"
        answers[f"{name} changes"] = as_rows(archive.changes((model, key), value))
    for name, options in questions(shop, transaction, context):
        targets = options.pop("targets")
        answers[name] = as_rows(archive.aggregate(*targets, **options))
    for when in times:
        answers[f"as of {when}"] = rows_then(archive.as_of(when), shop)
    return answers


def questions(shop: Any, transaction: int, context: Any) -> list[Any]:
    every = [shop.base]
    return [
        ("one object", {"targets": [(shop.Account, 3)]}),
        ("all", {"targets": every}),
        ("newest", {"targets": every, "newest_first": True, "limit": 7}),
        ("transaction", {"targets": every, "transaction": transaction}),
        ("context", {"targets": every, "context": context}),
        ("user", {"targets": every, "context": {"user": 3}}),
    ]


def rows_then(past: Session, shop: Any) -> Any:
    one = past.get(shop.Account, 3)
    return (
        one and columns_of(one),
        [columns_of(r) for r in past.scalars(select(shop.Account).order_by("id"))],
        [columns_of(r) for r in past.scalars(select(shop.Line).order_by("order"))],
        past.scalar(select(func.sum(shop.Account.balance))),
    )


def test_answers_with_an_archive_are_those_from_before_it(
    shop: Any, told: Any, pg_engine: Engine, folder: Path
) -> None:
    with Session(pg_engine) as session:
        some = session.scalars(shop.Account.events.select().limit(9)).all()[-1]
        asked = some.pgh_xact_id, some.pgh_context_id
    before = live_answers(shop, pg_engine, told, *asked)
    history.partitions(pg_engine, shop.base, now=LATER)
    history.archive(pg_engine, shop.base, to=folder, drop=True, now=LATER)
    with history.archived(folder, shop.base, live=pg_engine) as archive:
        after = archive_answers(archive, shop, told, *asked)
    for question, answer in before.items():
        assert after[question] == answer, question
    with pg_engine.connect() as connection:
        left = connection.scalar(text("SELECT count(*) FROM account_event"))
    assert left < len(before["all"]) / 2
    assert (folder / "public.pghistory_context" / "pgh_part=first").exists()


def test_an_object_is_asked_for_without_all_live_events(
    shop: Any, told: Any, pg_engine: Engine, folder: Path
) -> None:
    history.archive(pg_engine, shop.base, to=folder)
    statements: list[str] = []
    with Session(pg_engine) as session:
        last = session.scalar(shop.Account.events.last())
        key, transaction = last.id, last.pgh_xact_id
    with history.archived(folder, shop.base, live=pg_engine) as archive:
        archive._reader.live.all_rows = statements.append
        newest = archive.events(shop.Account, key)[-1]
        assert newest.pgh_id == last.pgh_id
        assert newest.pgh_context.metadata["user"] in range(5)
        assert archive.as_of(last).get(shop.Account, key).id == key
        assert archive.aggregate((shop.Account, key))[-1].pgh_id == last.pgh_id
        assert archive.aggregate(shop.Line, transaction=transaction)
        for name in ("since", "until"):
            asked: Any = {name: func.now() - datetime.timedelta(days=1)}
            with pytest.raises(EventsError, match=f"^{name} is a datetime for an ar"):
                archive.aggregate(shop.Line, **asked)
    assert statements == []


def test_a_statement_about_one_table_reads_the_live_events_that_it_chooses(
    shop: Any, told: Any, pg_engine: Engine, folder: Path
) -> None:
    history.archive(pg_engine, shop.base, to=folder)
    events = shop.Account.events
    with Session(pg_engine) as session:
        last = session.scalar(events.last())
        known = {n: getattr(last, n) for n in columns_of(last)}
    number, other = known["pgh_id"], aliased(events.model)
    chosen = [
        events.where(events.pgh_xact_id == known["pgh_xact_id"]),
        events.where(events.pgh_context_id.in_([known["pgh_context_id"]])),
        events.where(events.owner == known["owner"], events.pgh_id > number - 3),
        select(func.count()).where(
            or_(events.pgh_created_at >= told[1], events.id == known["id"]),
            events.pgh_id > 0,
        ),
    ]
    all_read = [
        select(func.count(events.pgh_id)),
        events.where(events.owner > ""),
        events.where(literal(True)),
        events.where(events.owner != known["owner"]),
        events.where(events.owner.in_([known["owner"], None])),
        select(other).where(other.pgh_id == number),
        select(events.model).where(events.pgh_id == bindparam("number", 1)),
    ]
    expected = []
    with Session(pg_engine) as session:
        for statement in [*chosen, *all_read]:
            expected.append(answer_to(session, statement, number))
    with history.archived(folder, shop.base, live=pg_engine) as archive:
        live = archive._reader.live
        read, live.all_rows = live.all_rows, None
        found = [answer_to(archive.session, s, number) for s in chosen]
        live.all_rows = read
        found += [answer_to(archive.session, s, number) for s in all_read]
        assert archive.session.get(events.model, number).pgh_id == number
    assert found == expected
    assert all(answer for answer in found)


def answer_to(session: Session, statement: Any, number: int) -> Any:
    """Return the rows of a statement, in the order of the events."""
    found = session.execute(statement, {"number": number}).scalars().all()
    rows = [row if isinstance(row, int) else columns_of(row) for row in found]
    return sorted(rows, key=repr)
