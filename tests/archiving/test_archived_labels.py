"""Several trackers, no key, keys of odd types, erased values, and columns that came."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    DateTime,
    Engine,
    Integer,
    Numeric,
    Table,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterDelete, AfterUpdate, AggregateEvent, Snapshot, new, track
from sa_history.archiving import aggregate_rows


@pytest.mark.usefixtures("read_committed")
def test_rows_of_all_kinds_of_events_are_those_of_the_database(
    base: Any,
    create_all: Callable[[], None],
    pg_engine: Engine,
    folder: Path,
    monkeypatch: Any,
) -> None:
    @track(
        Snapshot,
        AfterUpdate(new.balance < 0, label="overdrawn"),
        AfterUpdate(columns=["id", "note"], label="note"),
        AfterDelete,
        partition_by=10,
        erasable=["note"],
    )
    class Account(base):  # type: ignore[misc]
        __tablename__ = "account"
        id: Mapped[bool] = mapped_column(primary_key=True)
        balance: Mapped[int]
        note: Mapped[str | None]

    bare = Table("bare", base.metadata, Column("number", Integer))
    moments = Table(
        "moment",
        base.metadata,
        Column("at", DateTime(timezone=True), primary_key=True),
        Column("size", Numeric, nullable=True),
    )
    track(partition_by=10, context=None)(bare)
    track(partition_by=10)(moments)
    create_all()
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    early = at - datetime.timedelta(days=1)
    with Session(pg_engine) as session, history.context(session, user=1):
        for role in ("replica", "origin"):  # a row that was there before its history
            session.execute(text(f"SET LOCAL session_replication_role = {role}"))
            if role == "replica":
                session.execute(insert(moments), [{"at": early, "size": 1}])
        session.execute(update(moments).values(size=2))
        account = Account(id=True, balance=5, note="secret")
        session.add(account)
        session.commit()
        for balance in (-1, -2, 4):
            account.balance = balance
            session.commit()
        session.execute(update(Account).values(id=False, note="moved"))
        session.execute(insert(bare), [{"number": n} for n in range(3)])
        session.execute(insert(moments), [{"at": at, "size": 1.5}])
        later = at + datetime.timedelta(days=1)
        session.execute(update(moments).where(moments.c.at == at).values(at=later))
        session.commit()
    with Session(pg_engine) as session:
        history.erase(session, Account, False, reason="asked to")
        session.commit()
    history.partitions(pg_engine, base)
    with pg_engine.begin() as connection:
        connection.execute(text("ALTER TABLE account ADD COLUMN later text"))
        connection.execute(text("ALTER TABLE account_event ADD COLUMN later text"))
    with Session(pg_engine) as session:
        rows = [
            history.AggregateRow(*row)
            for row in session.execute(AggregateEvent.select(base))
        ]
        last = session.scalar(history.events(moments).last())
        with history.as_of(session, last) as past:
            then = past.execute(select(moments).order_by("at")).all()
            accounts = past.execute(select(Account.id, Account.balance)).all()
    history.archive(pg_engine, base, to=folder, drop=True)
    with Session(pg_engine) as session:
        session.execute(update(Account).values(balance=9))
        session.commit()
    for many in (1000, 0):
        monkeypatch.setattr(aggregate_rows, "MANY_KEYS", many)
        with history.archived(folder, base, live=pg_engine) as archive:
            found = archive.aggregate(base)
            assert found[: len(rows)] == rows
            assert found[-1].pgh_diff["balance"] == [4, 9]
            past = archive.as_of(last)
            assert past.execute(select(moments).order_by("at")).all() == then
            query = past.select(Account.id, Account.balance)
            assert query.all() == accounts
            assert archive.aggregate(base, labels=["overdrawn"], limit=1)
            diffs = [changed for _, changed in archive.diffs(Account, True)]
            assert [changed and set(changed) for changed in diffs[:2]] == [
                None,
                {"balance"},
            ]
