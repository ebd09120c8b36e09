"""What leaves no event, or not the one that was meant: the limits, as they are.

They are told in docs/guarantees.md. Where one of these tests fails, there is more that
can be promised.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import (
    AfterDelete,
    AfterUpdate,
    Snapshot,
    new,
    track,
)
from sa_history.install import check

Recorded = Callable[..., list[tuple[Any, ...]]]

NOT_THERE = uuid.UUID(int=1)


@pytest.fixture
def reading(
    base: type[DeclarativeBase], create_all: Callable[[], None], level: str
) -> Any:
    """A table in parts, which has none yet."""

    @track(Snapshot, AfterDelete, level=level)
    class Reading(base):  # type: ignore[misc, valid-type]
        __tablename__ = "reading"
        __table_args__ = {"postgresql_partition_by": "LIST (day)"}
        day: Mapped[int] = mapped_column(primary_key=True)
        value: Mapped[int]

    create_all()
    return Reading


def run(session: Session, *statements: str) -> None:
    for statement in statements:
        session.execute(text(statement))
    session.commit()


def test_rows_that_come_and_go_with_a_partition_leave_no_event(
    reading: Any, pg_session: Session, recorded: Recorded
) -> None:
    run(
        pg_session,
        "CREATE TABLE one (LIKE reading)",
        "INSERT INTO one VALUES (1, 5)",
        "ALTER TABLE reading ATTACH PARTITION one FOR VALUES IN (1)",
        "TRUNCATE one",
        "INSERT INTO reading VALUES (1, 6)",
        "ALTER TABLE reading DETACH PARTITION one",
    )
    assert recorded(reading, "day", "value") == [("snapshot", "I", 1, 6, None)]


@pytest.mark.parametrize("level", ["statement"])
def test_values_that_a_change_of_the_table_makes_leave_no_event(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    recorded: Recorded,
    level: str,
) -> None:
    @track(Snapshot, AfterDelete, level=level)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int]

    create_all()
    run(
        pg_session,
        "INSERT INTO account VALUES (1, 5)",
        "ALTER TABLE account ALTER balance TYPE integer USING balance + 1",
    )
    before = [("snapshot", "I", 1, 5, None)]
    assert recorded(Account, "id", "balance") == before
    run(pg_session, "UPDATE account SET balance = 7")
    assert recorded(Account, "id", "balance") == [
        *before,
        ("snapshot", "U", 1, 7, None),
    ]
    run(pg_session, "DROP TABLE account")
    assert len(recorded(Account)) == 2


def test_what_is_written_while_a_trigger_is_disabled_leaves_no_event(
    reading: Any, pg_session: Session, pg_engine: Engine, recorded: Recorded
) -> None:
    run(
        pg_session,
        "CREATE TABLE rest PARTITION OF reading DEFAULT",
        "ALTER TABLE reading DISABLE TRIGGER USER",
        "INSERT INTO reading VALUES (1, 6)",
    )
    problems = {finding.problem.value for finding in check(pg_engine, reading)}
    assert "disabled" in problems
    run(
        pg_session,
        "ALTER TABLE reading ENABLE TRIGGER USER",
        "INSERT INTO reading VALUES (2, 7)",
    )
    assert recorded(reading, "day") == [("snapshot", "I", 2, None)]
    problems = {finding.problem.value for finding in check(pg_engine, reading)}
    assert "disabled" not in problems


@pytest.mark.parametrize("level", ["row"])
def test_a_condition_that_is_replaced_by_hand_and_keeps_its_comment_is_not_seen(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_engine: Engine,
    pg_session: Session,
    recorded: Recorded,
    level: str,
) -> None:
    @track(AfterUpdate(new.balance > 5), level=level)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int]

    create_all()
    definition = pg_session.scalar(
        text("SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal")
    )
    assert definition.count("> 5") == 1
    other = definition.replace("> 5", "> 50")
    run(pg_session, other.replace("CREATE", "CREATE OR REPLACE").replace(":", "\\:"))
    run(pg_session, "INSERT INTO account VALUES (1, 0)", "UPDATE account SET balance=9")
    assert recorded(Account) == []
    assert check(pg_engine, Account) == []


def test_a_trigger_on_the_event_table_can_leave_events_out(
    reading: Any, pg_session: Session, recorded: Recorded
) -> None:
    run(
        pg_session,
        "CREATE TABLE rest PARTITION OF reading DEFAULT",
        "CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER leave_out BEFORE INSERT ON reading_event"
        " FOR EACH ROW EXECUTE FUNCTION leave_out()",
        "INSERT INTO reading VALUES (1, 5)",
    )
    assert recorded(reading) == []


def test_sessions_that_share_a_connection_at_once_have_the_context_of_the_last(
    reading: Any, pg_engine: Engine, recorded: Recorded
) -> None:
    with pg_engine.begin() as connection:
        connection.execute(text("CREATE TABLE rest PARTITION OF reading DEFAULT"))
        with Session(connection) as one, Session(connection) as other:
            with history.context(one, user=1), history.context(other, user=2):
                for day, session in enumerate((one, other, one)):
                    session.add(reading(day=day, value=0))
                    session.flush()
            one.commit()
            other.commit()
    assert recorded(reading, "day") == [
        ("snapshot", "I", 0, {"user": 1}),
        ("snapshot", "I", 1, {"user": 2}),
        ("snapshot", "I", 2, {"user": 2}),
    ]


def test_who_sets_what_a_transaction_remembers_can_cite_a_context_that_is_not_there(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    level: str,
) -> None:
    @track(Snapshot, level=level)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    remembered = f'{NOT_THERE}{NOT_THERE}{{}}"public"."pghistory_context"'
    settings = {"id": str(NOT_THERE), "metadata": "{}", "stored": remembered}
    for name, value in settings.items():
        setting = func.set_config(f"pghistory.context_{name}", value, True)
        pg_session.execute(select(setting))
    pg_session.add(Account(id=1))
    pg_session.commit()
    event = pg_session.scalars(history.events(Account).first()).one()
    assert event.pgh_context_id == NOT_THERE
    assert event.pgh_context is None


def test_who_sets_what_a_transaction_remembers_can_cite_a_context_and_not_change_it(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_engine: Engine,
    recorded: Recorded,
    level: str,
) -> None:
    @track(Snapshot, level=level)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    with Session(pg_engine) as session, history.context(session, user=7) as context:
        session.add(Account(id=1))
        session.commit()
    key = f'{NOT_THERE}"public"."pghistory_context"'
    for id_, metadata in ((2, {"user": 7}), (3, {"user": 8})):
        settings = {
            "id": str(NOT_THERE),
            "metadata": json.dumps(metadata),
            "stored": "anything",
            "copies": json.dumps({key: str(context.id)}),
        }
        with Session(pg_engine) as session:
            for name, value in settings.items():
                setting = func.set_config(f"pghistory.context_{name}", value, True)
                session.execute(select(setting))
            session.add(Account(id=id_))
            session.commit()
    assert recorded(Account, "id") == [
        ("snapshot", "I", 1, {"user": 7}),
        ("snapshot", "I", 2, {"user": 7}),
        ("snapshot", "I", 3, {"user": 8}),
    ]
    with Session(pg_engine) as session:
        cited = session.scalars(history.events(Account).select()).all()
    assert [event.pgh_context_id == context.id for event in cited] == [
        True,
        True,
        False,
    ]


def test_what_is_written_to_a_table_that_inherits_leaves_no_event(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    recorded: Recorded,
    level: str,
) -> None:
    """PostgreSQL's INHERITS; a statement for the parent counts at statement level."""

    @track(Snapshot, AfterDelete, level=level)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    run(
        pg_session,
        "CREATE TABLE saving () INHERITS (account)",
        "INSERT INTO saving VALUES (1)",
        "UPDATE saving SET id = 2",
    )
    assert recorded(Account) == []
    run(pg_session, "UPDATE account SET id = 3")
    updated = [("snapshot", "U", 3, None)]
    assert recorded(Account, "id") == (updated if level == "statement" else [])
    run(pg_session, "DROP TABLE saving")


@pytest.mark.parametrize("level", ["statement"])
def test_truncate_records_the_rows_that_its_transaction_sees(
    reading: Any, pg_engine: Engine, pg_session: Session, recorded: Recorded
) -> None:
    run(pg_session, "CREATE TABLE one PARTITION OF reading DEFAULT")
    for value, isolation in enumerate(("READ COMMITTED", "REPEATABLE READ")):
        engine = pg_engine.execution_options(isolation_level=isolation)
        with engine.begin() as connection:
            connection.execute(text("SELECT FROM reading"))
            run(pg_session, f"INSERT INTO reading VALUES (1, {value})")
            connection.execute(text("TRUNCATE reading"))
        assert pg_session.scalar(text("SELECT count(*) FROM reading")) == 0
        pg_session.commit()
    assert recorded(reading, "day", "value") == [
        ("snapshot", "I", 1, 0, None),
        ("delete", "T", 1, 0, None),
        ("snapshot", "I", 1, 1, None),
    ]


def test_truncate_only_records_rows_of_a_child_that_the_transaction_has_locked(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    recorded: Recorded,
    level: str,
) -> None:
    """A trigger is not told of ONLY; it sees which tables are locked."""

    @track(AfterDelete, level=level)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    run(
        pg_session,
        "CREATE TABLE saving () INHERITS (account)",
        "INSERT INTO saving VALUES (2)",
    )
    run(pg_session, "LOCK TABLE saving", "TRUNCATE ONLY account")
    assert recorded(Account, "id") == [("delete", "T", 2, None)]
    run(pg_session, "DROP TABLE saving")


@pytest.mark.parametrize(
    ("statement", "operations"),
    [
        (
            "WITH moved AS (UPDATE stock SET id = id + 10 RETURNING *)"
            " INSERT INTO stock SELECT id - 10, amount FROM moved LIMIT 1",
            "IU",
        ),
        (
            "WITH gone AS (DELETE FROM stock WHERE id < 3 RETURNING *)"
            " UPDATE stock SET id = 1 FROM (SELECT FROM gone LIMIT 1) AS g"
            " WHERE id = 3",
            "UD",
        ),
    ],
    ids=["move", "move-to"],
)
def test_a_with_that_is_not_read_to_its_end_comes_after_its_statement(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    recorded: Recorded,
    level: str,
    statement: str,
    operations: str,
) -> None:
    """PostgreSQL fires its triggers for each statement in the order they end."""

    @track(level=level)
    class Stock(base):  # type: ignore[misc, valid-type]
        __tablename__ = "stock"
        id: Mapped[int] = mapped_column(primary_key=True)
        amount: Mapped[int]

    create_all()
    run(pg_session, "INSERT INTO stock VALUES (1, 1), (2, 2), (3, 3)", statement)
    left = recorded(Stock, "id", "pgh_old_key")[3:]
    found = "".join(op for _, op, key, old, _ in left if 1 in (key, *(old or ())))
    assert found == (operations if level == "statement" else operations[::-1])


def test_what_a_function_in_returning_writes_comes_before_its_statement(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    recorded: Recorded,
    level: str,
) -> None:
    """No trigger calls it, so its statement is at the depth of the one around it."""

    @track(level=level)
    class Stock(base):  # type: ignore[misc, valid-type]
        __tablename__ = "stock"
        id: Mapped[int] = mapped_column(primary_key=True)
        amount: Mapped[int]

    create_all()
    run(
        pg_session,
        "CREATE FUNCTION more(r int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN"
        " UPDATE stock SET amount = 1000 WHERE id = r; RETURN r; END $$",
        "INSERT INTO stock VALUES (1, 1) RETURNING more(id)",
        "DROP FUNCTION more",
    )
    assert [(op, amount) for _, op, amount, _ in recorded(Stock, "amount")] == [
        ("U", 1000),
        ("I", 1),
    ]


def test_truncate_is_recorded_of_partitions_that_the_model_does_not_know(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    recorded: Recorded,
    level: str,
) -> None:
    @track(AfterDelete, level=level)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    run(
        pg_session,
        "CREATE TABLE account (id integer PRIMARY KEY) PARTITION BY LIST (id)",
        "CREATE TABLE one PARTITION OF account FOR VALUES IN (1)"
        " PARTITION BY LIST (id)",
        "CREATE TABLE leaf PARTITION OF one DEFAULT",
    )
    create_all()
    run(pg_session, "INSERT INTO account VALUES (1)", "TRUNCATE account")
    assert recorded(Account, "id") == [("delete", "T", 1, None)]
