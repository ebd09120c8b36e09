"""Logical replication: what a subscriber has of a history, and what it records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterDelete, Snapshot, track
from sa_history.install import check
from tests.replication.helpers import everything

ALWAYS = """
DO $$
DECLARE statement text;
BEGIN
  FOR statement IN
    SELECT format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', tgrelid::regclass, tgname)
    FROM pg_trigger
    WHERE tgfoid = 'account_event_record'::regproc AND tgparentid = 0
  LOOP
    EXECUTE statement;
  END LOOP;
END $$
"""


@pytest.fixture
def account(
    base: type[DeclarativeBase], create_both: Callable[[], None], level: str
) -> Any:
    """A tracked model, whose tables are in both databases."""

    @track(Snapshot, AfterDelete, level=level)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int]

    create_both()
    return Account


def briefly(engine: Engine, account: Any) -> list[tuple[Any, ...]]:
    """Return the events of a model."""
    with Session(engine) as session:
        return [
            (event.pgh_label, event.pgh_op, event.id, event.balance)
            for event in session.scalars(account.events.select())
        ]


def live(session: Session, account: Any) -> None:
    """Change accounts 1 and 2, and put account 3 in their place."""
    with history.context(session, user=8):
        session.execute(update(account).values(balance=account.balance + 10))
        session.commit()
        with history.context(session, reason="closed"):
            session.execute(delete(account).where(account.id == 1))
            session.commit()
    session.execute(text("TRUNCATE account"))
    session.execute(insert(account).values(id=3, balance=3))
    session.commit()


def test_events_arrive_with_the_rows_and_are_not_made_again(
    account: Any, pair: Any
) -> None:
    with Session(pair.publisher) as session:
        with history.context(session, user=7):
            session.add_all([account(id=1, balance=1), account(id=2, balance=2)])
            session.commit()
        pair.publish("account, account_event, pghistory_context")
        then = session.scalar(select(func.clock_timestamp()))
        session.commit()
        live(session, account)
    pair.catch_up()

    assert briefly(pair.subscriber, account) == [
        ("snapshot", "I", 1, 1),
        ("snapshot", "I", 2, 2),
        ("snapshot", "U", 1, 11),
        ("snapshot", "U", 2, 12),
        ("delete", "D", 1, 11),
        ("delete", "T", 2, 12),
        ("snapshot", "I", 3, 3),
    ]
    assert everything(pair.subscriber, account) == everything(pair.publisher, account)
    balances = select(account.balance).order_by(account.id)
    with history.as_of(pair.subscriber, then) as past:
        assert past.scalars(balances).all() == [1, 2]
    with Session(pair.subscriber) as session:
        updated = account.events.where(account.events.pgh_op == "U")
        (event, _) = session.scalars(updated)
        with history.as_of(session, event) as past:
            assert past.scalars(balances).all() == [11, 2]
        # It waits for transactions of numbers that this server has not come to.
        assert session.execute(history.feed(account)).all() == []


def test_a_subscriber_that_takes_over_has_to_be_told_where_numbers_go_on(
    account: Any, pair: Any, run: Any
) -> None:
    """Logical replication leaves sequences out."""
    pair.publish("account, account_event, pghistory_context")
    run(pair.publisher, "INSERT INTO account VALUES (1, 1), (2, 2)")
    pair.catch_up()
    with pytest.raises(IntegrityError, match="account_event_pkey"):
        run(pair.subscriber, "INSERT INTO account VALUES (3, 3)")
    run(
        pair.subscriber,
        "SELECT setval('pghistory_id_seq', (SELECT max(pgh_id) FROM account_event))",
        "INSERT INTO account VALUES (3, 3)",
    )
    with Session(pair.subscriber) as session:
        events = account.events.model
        numbers = select(events.pgh_id, events.id).order_by(events.pgh_id)
        assert session.execute(numbers).all() == [(1, 1), (2, 2), (3, 3)]


def test_a_subscriber_records_itself_where_its_triggers_fire_always(
    account: Any, level: str, pair: Any, run: Any
) -> None:
    run(pair.subscriber, ALWAYS)
    assert check(pair.subscriber, account) == []
    with Session(pair.publisher) as session:
        session.execute(insert(account), [{"id": n, "balance": n} for n in (1, 2)])
        session.commit()
        pair.publish("account")
        session.execute(update(account).values(balance=account.balance))  # no change
        live(session, account)
    pair.catch_up()

    copied = [("snapshot", "I", 1, 1), ("snapshot", "I", 2, 2)]
    applied = [
        ("snapshot", "U", 1, 11),
        ("snapshot", "U", 2, 12),
        ("delete", "D", 1, 11),
    ]
    truncated = [("delete", "T", 2, 12)]
    inserted = [("snapshot", "I", 3, 3)]
    # PostgreSQL fires no statement trigger for what it applies row by row.
    assert briefly(pair.subscriber, account) == (
        [*copied, *applied, *truncated, *inserted]
        if level == "row"
        else [*copied, *truncated]
    )
    with Session(pair.subscriber) as session:
        events = session.scalars(account.events.select()).all()
        assert {event.pgh_context for event in events} == {None}
        # What was one transaction there is one here.
        assert events[-2].pgh_xact_id == events[-1].pgh_xact_id or level != "row"


@pytest.mark.parametrize("level", ["row"])
def test_a_subscriber_that_is_sent_events_and_makes_them_too_has_them_twice(
    account: Any, pair: Any, run: Any
) -> None:
    """Numbers clash first; each new attempt of PostgreSQL takes the next one."""
    run(pair.subscriber, ALWAYS)
    pair.publish("account, account_event, pghistory_context")
    run(pair.publisher, "INSERT INTO account VALUES (1, 1)")
    pair.catch_up()
    assert briefly(pair.subscriber, account) == [("snapshot", "I", 1, 1)] * 2


@pytest.mark.parametrize("root", [False, True], ids=["leaves", "root"])
def test_what_is_applied_to_partitions_is_recorded_once(
    base: type[DeclarativeBase], create_both: Any, pair: Any, run: Any, root: bool
) -> None:
    """By row triggers, which every partition has; those of later partitions, too."""

    @track(Snapshot, AfterDelete, level="row")
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        __table_args__ = {"postgresql_partition_by": "LIST (id)"}
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int]

    create_both()
    part = "CREATE TABLE account_{0} PARTITION OF account FOR VALUES IN ({0})"
    for engine in pair.both:
        run(engine, part.format(1), ALWAYS, part.format(2))
    assert check(pair.subscriber, base) == []
    run(pair.publisher, "INSERT INTO account VALUES (1, 1)")
    pair.publish("account", f"WITH (publish_via_partition_root = {root})")
    run(
        pair.publisher,
        "INSERT INTO account_2 VALUES (2, 2)",
        "UPDATE account SET balance = balance + 10",
        "UPDATE account_1 SET balance = 21",
        "DELETE FROM account_1",
        "UPDATE account SET id = 1",  # moves it
    )
    pair.catch_up()

    assert briefly(pair.subscriber, Account) == [
        ("snapshot", "I", 1, 1),
        ("snapshot", "I", 2, 2),
        ("snapshot", "U", 1, 11),
        ("snapshot", "U", 2, 12),
        ("snapshot", "U", 1, 21),
        ("delete", "D", 1, 21),
        ("delete", "D", 2, 12),
        ("snapshot", "I", 1, 12),
    ]
    assert briefly(pair.publisher, Account) == briefly(pair.subscriber, Account)


@pytest.mark.parametrize("level", ["row"])
def test_a_row_that_leaves_a_filter_is_recorded_as_deleted_and_comes_back_as_new(
    account: Any, pair: Any, run: Any
) -> None:
    run(pair.subscriber, ALWAYS)
    run(pair.publisher, "ALTER TABLE account REPLICA IDENTITY FULL")
    pair.publish("account WHERE (balance < 10)")
    run(
        pair.publisher,
        "INSERT INTO account VALUES (1, 1), (2, 12)",
        "UPDATE account SET balance = balance + 1",
        "UPDATE account SET balance = balance + 10",
        "UPDATE account SET balance = 3",
    )
    pair.catch_up()
    assert briefly(pair.subscriber, account) == [
        ("snapshot", "I", 1, 1),
        ("snapshot", "U", 1, 2),
        ("delete", "D", 1, 2),
        ("snapshot", "I", 1, 3),
        ("snapshot", "I", 2, 3),
    ]


@pytest.mark.parametrize("level", ["row"])
def test_events_are_filtered_by_what_they_keep_if_only_inserts_are_published(
    account: Any, pair: Any, run: Any
) -> None:
    """A filter of changes has to be on the key, which is the event's number."""
    filtered = "account WHERE (id > 1), account_event WHERE (id > 1)"
    pair.publish(filtered, "WITH (publish = 'insert')")
    run(
        pair.publisher,
        "INSERT INTO account VALUES (1, 1), (2, 2)",
        "UPDATE account SET balance = balance + 10",
        "DELETE FROM account",
        "UPDATE account_event SET balance = 0",
    )
    pair.catch_up()
    assert briefly(pair.subscriber, account) == [
        ("snapshot", "I", 2, 2),
        ("snapshot", "U", 2, 12),
        ("delete", "D", 2, 12),
    ]


def test_a_column_that_is_not_sent_is_recorded_as_the_subscriber_has_it(
    base: type[DeclarativeBase], create_both: Any, pair: Any, run: Any
) -> None:
    @track(Snapshot, level="row")
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int] = mapped_column(server_default="0")
        note: Mapped[str | None]

    create_both()
    run(pair.subscriber, ALWAYS)
    pair.publish("account (id, note)")
    run(
        pair.publisher,
        "INSERT INTO account VALUES (1, 5, 'new')",
        "UPDATE account SET balance = 6",
        "UPDATE account SET note = 'old'",
    )
    pair.catch_up()
    with Session(pair.subscriber) as session:
        events = session.scalars(Account.events.select()).all()
    assert [(event.pgh_op, event.balance, event.note) for event in events] == [
        ("I", 0, "new"),
        ("U", 0, "old"),
    ]
