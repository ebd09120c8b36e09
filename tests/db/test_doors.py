"""Whatever writes to a tracked table leaves its events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    ForeignKey,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
)

import sa_history as history
from sa_history import (
    AfterDelete,
    AfterInsert,
    AfterUpdate,
    AllChange,
    AllDontChange,
    AnyChange,
    AnyDontChange,
    Op,
    Snapshot,
    new,
    old,
    track,
)

Recorded = Callable[..., list[tuple[Any, ...]]]
Contexts = Callable[[], list[object]]
Door = Callable[[Session, Any], object]

BY = {"user": 7}
"""The context that the doors are used in."""


@pytest.fixture
def account(
    base: type[DeclarativeBase], create_all: Callable[[], None], level: str
) -> Any:
    @track(
        Snapshot,
        AfterInsert(label="create"),
        AfterUpdate(new.balance < 0, label="low"),
        AfterDelete,
        level=level,
    )
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int]

    create_all()
    return Account


@pytest.fixture
def accounts(account: Any, pg_session: Session) -> Any:
    """The class, with three committed rows that have no history."""
    pg_session.add_all(account(id=n, balance=n * 10) for n in (1, 2, 3))
    pg_session.commit()
    pg_session.execute(text("TRUNCATE account_event"))
    pg_session.commit()
    return account


@pytest.fixture
def events_by_row(account: Any, recorded: Recorded) -> Callable[[], list[Any]]:
    """The events of each row in their order, the rows by their key.

    A trigger of statement level writes one tracker's events of all rows before the
    next tracker's; that is not what these tests are about.
    """
    return lambda: sorted(recorded(account, "id", "balance"), key=lambda e: e[2])


def driver_cursor(session: Session) -> Any:
    """A cursor of the driver's own connection, past all of SQLAlchemy."""
    connection = session.connection().connection.driver_connection
    assert connection is not None
    return connection.cursor()


# Each door below inserts (1, 10) and (2, -20).


def insert_by_flush(session: Session, account: Any) -> None:
    session.add_all([account(id=1, balance=10), account(id=2, balance=-20)])
    session.flush()


def insert_by_core(session: Session, account: Any) -> None:
    rows = [{"id": 1, "balance": 10}, {"id": 2, "balance": -20}]
    session.execute(insert(account.__table__).values(rows))


def insert_in_bulk(session: Session, account: Any) -> None:
    rows = [{"id": 1, "balance": 10}, {"id": 2, "balance": -20}]
    session.execute(insert(account), rows)


def insert_from_select(session: Session, account: Any) -> None:
    number = func.generate_series(1, 2).column_valued("number")
    rows = select(number, 10 + (1 - number) * 30)
    session.execute(insert(account).from_select(["id", "balance"], rows))


def insert_by_text(session: Session, account: Any) -> None:
    session.execute(text("INSERT INTO account VALUES (1, 10), (2, :b)"), {"b": -20})


def insert_by_driver_sql(session: Session, account: Any) -> None:
    connection = session.connection()
    connection.exec_driver_sql("INSERT INTO account VALUES (1, 10), (2, -20)")


def insert_by_executemany(session: Session, account: Any) -> None:
    session.connection().exec_driver_sql(
        "INSERT INTO account VALUES (%s, %s)", [(1, 10), (2, -20)]
    )


def insert_by_driver_cursor(session: Session, account: Any) -> None:
    driver_cursor(session).execute("INSERT INTO account VALUES (1, 10), (2, -20)")


def insert_by_copy(session: Session, account: Any) -> None:
    with driver_cursor(session).copy("COPY account FROM STDIN") as copy:
        copy.write_row((1, 10))
        copy.write_row((2, -20))


def insert_on_conflict(session: Session, account: Any) -> None:
    statement = postgresql.insert(account).values(
        [{"id": 1, "balance": 10}, {"id": 2, "balance": -20}]
    )
    session.execute(statement.on_conflict_do_nothing())


def insert_in_function(session: Session, account: Any) -> None:
    body = "INSERT INTO account VALUES (1, 10), (2, -20) RETURNING id"
    session.execute(
        text(f"CREATE FUNCTION fill() RETURNS SETOF int LANGUAGE sql AS '{body}'")
    )
    session.execute(select(func.fill()))


@pytest.mark.parametrize(
    "door",
    [
        insert_by_flush,
        insert_by_core,
        insert_in_bulk,
        insert_from_select,
        insert_by_text,
        insert_by_driver_sql,
        insert_by_executemany,
        insert_by_driver_cursor,
        insert_by_copy,
        insert_on_conflict,
        insert_in_function,
    ],
)
def test_insert_is_recorded_by_each_of_its_trackers(
    door: Door,
    account: Any,
    pg_session: Session,
    events_by_row: Callable[[], list[Any]],
    contexts: Contexts,
) -> None:
    with history.context(pg_session, **BY):
        door(pg_session, account)
        pg_session.commit()
    assert events_by_row() == [
        ("snapshot", "I", 1, 10, BY),
        ("create", "I", 1, 10, BY),
        ("snapshot", "I", 2, -20, BY),
        ("create", "I", 2, -20, BY),
    ]
    assert contexts() == [BY]


# Each door below changes the balances 10, 20, 30 to 11, -1, 30.


def update_by_flush(session: Session, account: Any) -> None:
    session.get(account, 1).balance = 11
    session.get(account, 2).balance = -1
    session.get(account, 3).balance = 30
    session.flush()


def update_by_core(session: Session, account: Any) -> None:
    for key, balance in ((1, 11), (2, -1), (3, 30)):
        table = account.__table__
        session.execute(update(table).where(table.c.id == key).values(balance=balance))


def update_by_orm(session: Session, account: Any) -> None:
    becomes = text("CASE id WHEN 1 THEN 11 WHEN 2 THEN -1 ELSE balance END")
    session.execute(update(account).values(balance=becomes))


def update_in_bulk(session: Session, account: Any) -> None:
    rows = [(1, 11), (2, -1), (3, 30)]
    session.execute(update(account), [{"id": i, "balance": b} for i, b in rows])


def update_by_text(session: Session, account: Any) -> None:
    rows = "(VALUES (1, 11), (2, :low), (3, 30)) AS v(id, b)"
    statement = f"UPDATE account a SET balance = v.b FROM {rows} WHERE a.id = v.id"
    session.execute(text(statement), {"low": -1})


def update_by_executemany(session: Session, account: Any) -> None:
    session.connection().exec_driver_sql(
        "UPDATE account SET balance = %s WHERE id = %s", [(11, 1), (-1, 2), (30, 3)]
    )


def update_by_driver_cursor(session: Session, account: Any) -> None:
    driver_cursor(session).execute(
        "WITH first AS (UPDATE account SET balance = 11 WHERE id = 1)"
        " UPDATE account SET balance = -1 WHERE id = 2"
    )


def update_on_conflict(session: Session, account: Any) -> None:
    statement = postgresql.insert(account).values(
        [{"id": i, "balance": b} for i, b in ((1, 11), (2, -1), (3, 30))]
    )
    becomes = {"balance": statement.excluded.balance}
    session.execute(
        statement.on_conflict_do_update(index_elements=["id"], set_=becomes)
    )


def update_by_merge(session: Session, account: Any) -> None:
    session.execute(
        text(
            "MERGE INTO account a USING (VALUES (1, 11), (2, -1), (3, 30)) AS v(id, b)"
            " ON a.id = v.id WHEN MATCHED THEN UPDATE SET balance = v.b"
        )
    )


@pytest.mark.parametrize(
    "door",
    [
        update_by_flush,
        update_by_core,
        update_by_orm,
        update_in_bulk,
        update_by_text,
        update_by_executemany,
        update_by_driver_cursor,
        update_on_conflict,
        update_by_merge,
    ],
)
def test_update_is_recorded_where_it_changes_the_row_and_meets_the_condition(
    door: Door,
    accounts: Any,
    pg_session: Session,
    events_by_row: Callable[[], list[Any]],
    contexts: Contexts,
) -> None:
    with history.context(pg_session, **BY):
        door(pg_session, accounts)
        pg_session.commit()
    assert events_by_row() == [
        ("snapshot", "U", 1, 11, BY),
        ("snapshot", "U", 2, -1, BY),
        ("low", "U", 2, -1, BY),
    ]
    assert contexts() == [BY]


# Each door below deletes the rows 1 and 2 of three.


def delete_by_flush(session: Session, account: Any) -> None:
    for key in (1, 2):
        session.delete(session.get(account, key))
    session.flush()


def delete_by_core(session: Session, account: Any) -> None:
    session.execute(delete(account.__table__).where(account.__table__.c.id < 3))


def delete_by_orm(session: Session, account: Any) -> None:
    session.execute(delete(account).where(account.balance < 30))


def delete_by_text(session: Session, account: Any) -> None:
    session.execute(text("DELETE FROM account WHERE id < :id"), {"id": 3})


def delete_by_driver_sql(session: Session, account: Any) -> None:
    session.connection().exec_driver_sql("DELETE FROM account WHERE id < 3")


def delete_by_executemany(session: Session, account: Any) -> None:
    connection = session.connection()
    connection.exec_driver_sql("DELETE FROM account WHERE id = %s", [(1,), (2,)])


def delete_by_merge(session: Session, account: Any) -> None:
    session.execute(
        text(
            "MERGE INTO account USING (VALUES (1), (2)) AS v(key) ON id = key"
            " WHEN MATCHED THEN DELETE"
        )
    )


@pytest.mark.parametrize(
    "door",
    [
        delete_by_flush,
        delete_by_core,
        delete_by_orm,
        delete_by_text,
        delete_by_driver_sql,
        delete_by_executemany,
        delete_by_merge,
    ],
)
def test_delete_is_recorded_with_the_row_that_was(
    door: Door,
    accounts: Any,
    pg_session: Session,
    events_by_row: Callable[[], list[Any]],
    contexts: Contexts,
) -> None:
    with history.context(pg_session, **BY):
        door(pg_session, accounts)
        pg_session.commit()
    assert events_by_row() == [
        ("delete", "D", 1, 10, BY),
        ("delete", "D", 2, 20, BY),
    ]
    assert contexts() == [BY]


def test_truncate_is_recorded_for_each_row(
    accounts: Any, pg_session: Session, events_by_row: Callable[[], list[Any]]
) -> None:
    with history.context(pg_session, **BY):
        pg_session.execute(text("TRUNCATE account"))
        pg_session.commit()
    assert events_by_row() == [
        ("delete", Op.TRUNCATE, 1, 10, BY),
        ("delete", Op.TRUNCATE, 2, 20, BY),
        ("delete", Op.TRUNCATE, 3, 30, BY),
    ]


def test_upsert_is_recorded_as_what_it_did_to_each_row(
    accounts: Any, pg_session: Session, events_by_row: Callable[[], list[Any]]
) -> None:
    statement = postgresql.insert(accounts).values(
        [{"id": 3, "balance": -3}, {"id": 4, "balance": -4}]
    )
    becomes = {"balance": statement.excluded.balance}
    with history.context(pg_session, **BY):
        pg_session.execute(
            statement.on_conflict_do_update(index_elements=["id"], set_=becomes)
        )
        pg_session.commit()
    assert events_by_row() == [
        ("snapshot", "U", 3, -3, BY),
        ("low", "U", 3, -3, BY),
        ("snapshot", "I", 4, -4, BY),
        ("create", "I", 4, -4, BY),
    ]


def test_merge_is_recorded_as_what_it_did_to_each_row(
    accounts: Any, pg_session: Session, events_by_row: Callable[[], list[Any]]
) -> None:
    with history.context(pg_session, **BY):
        pg_session.execute(
            text(
                "MERGE INTO account a USING (VALUES (1, 0), (2, -2), (4, 4)) v(id, b)"
                " ON a.id = v.id"
                " WHEN MATCHED AND v.b = 0 THEN DELETE"
                " WHEN MATCHED THEN UPDATE SET balance = v.b"
                " WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.b)"
            )
        )
        pg_session.commit()
    assert events_by_row() == [
        ("delete", "D", 1, 10, BY),
        ("snapshot", "U", 2, -2, BY),
        ("low", "U", 2, -2, BY),
        ("snapshot", "I", 4, 4, BY),
        ("create", "I", 4, 4, BY),
    ]


def test_changed_key_is_recorded_with_the_row_it_belongs_to(
    accounts: Any, pg_session: Session, events_by_row: Callable[[], list[Any]]
) -> None:
    with history.context(pg_session, **BY):
        # Down, so that the new keys are among the old ones.
        pg_session.execute(text("UPDATE account SET id = id - 1"))
        pg_session.commit()
    assert events_by_row() == [
        ("snapshot", "U", 0, 10, BY),
        ("snapshot", "U", 1, 20, BY),
        ("snapshot", "U", 2, 30, BY),
    ]


def test_changed_key_is_compared_with_the_row_it_was(
    accounts: Any, pg_session: Session, events_by_row: Callable[[], list[Any]]
) -> None:
    with history.context(pg_session, **BY):
        pg_session.execute(
            text("UPDATE account SET id = 7, balance = -balance WHERE id = 2")
        )
        pg_session.commit()
    assert events_by_row() == [("snapshot", "U", 7, -20, BY), ("low", "U", 7, -20, BY)]


def test_cascade_is_recorded_where_it_arrives(
    account: Any,
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    level: str,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    @track(AfterDelete, AfterUpdate, level=level)
    class Card(base):  # type: ignore[misc, valid-type]
        __tablename__ = "card"
        id: Mapped[int] = mapped_column(primary_key=True)
        account_id: Mapped[int] = mapped_column(
            ForeignKey(account.id, ondelete="CASCADE", onupdate="CASCADE")
        )

    create_all()
    pg_session.execute(insert(account), [{"id": n, "balance": n} for n in (1, 2, 3)])
    pg_session.execute(
        insert(Card), [{"id": n, "account_id": n % 3 + 1} for n in range(6)]
    )
    with history.context(pg_session, **BY):
        pg_session.execute(text("UPDATE account SET id = 10 WHERE id = 3"))
        pg_session.execute(text("DELETE FROM account WHERE id < 3"))
        pg_session.commit()
    found = recorded(Card, "id", "account_id")
    assert found[:2] == [("update", "U", 2, 10, BY), ("update", "U", 5, 10, BY)]
    assert sorted(found[2:]) == [
        ("delete", "D", 0, 1, BY),
        ("delete", "D", 1, 2, BY),
        ("delete", "D", 3, 1, BY),
        ("delete", "D", 4, 2, BY),
    ]


@pytest.mark.parametrize("by", ["the database", "the session"])
def test_reference_that_is_set_null_is_recorded_and_the_old_one_is_kept(
    by: str,
    account: Any,
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    level: str,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    @track(Snapshot, level=level)
    class Card(base):  # type: ignore[misc, valid-type]
        __tablename__ = "card"
        id: Mapped[int] = mapped_column(primary_key=True)
        account_id: Mapped[int | None] = mapped_column(
            ForeignKey(account.id, ondelete="SET NULL")
        )
        owner: Mapped[Any] = relationship(account, backref="cards")

    create_all()
    ann = account(id=1, balance=1)
    pg_session.add_all([ann, Card(id=5, owner=ann), Card(id=6, owner=ann)])
    pg_session.commit()
    with history.context(pg_session, **BY):
        if by == "the session":
            pg_session.delete(ann)
        else:
            pg_session.execute(text("DELETE FROM account"))
        pg_session.commit()
    assert sorted(recorded(Card, "id", "account_id"), key=lambda e: (e[1], e[2])) == [
        ("snapshot", "I", 5, 1, None),
        ("snapshot", "I", 6, 1, None),
        ("snapshot", "U", 5, None, BY),
        ("snapshot", "U", 6, None, BY),
    ]


def test_bulk_insert_of_10_000_rows_is_recorded_row_by_row(
    account: Any, pg_session: Session, contexts: Contexts
) -> None:
    with history.context(pg_session, **BY):
        pg_session.execute(
            insert(account), [{"id": n, "balance": 2 * n} for n in range(10_000)]
        )
        pg_session.commit()
    event = account.events.model
    stored = select(
        event.pgh_label,
        func.count(),
        func.count(event.id.distinct()),
        func.count().filter(event.balance == 2 * event.id),
        func.count().filter(event.pgh_obj_id == event.id),
        func.count(event.pgh_context_id.distinct()),
    )
    assert pg_session.execute(
        stored.group_by(event.pgh_label).order_by(event.pgh_label)
    ).all() == [
        ("create", 10_000, 10_000, 10_000, 10_000, 1),
        ("snapshot", 10_000, 10_000, 10_000, 10_000, 1),
    ]
    last = pg_session.get(account, 9_999)
    events = pg_session.scalars(last.events.select()).all()
    assert [e.pgh_label for e in events] == ["snapshot", "create"]
    assert contexts() == [BY]


def test_psql_is_recorded_without_a_context(
    account: Any, psql: Callable[[str], str], events_by_row: Callable[[], list[Any]]
) -> None:
    psql(
        "INSERT INTO account VALUES (1, 10);"
        "UPDATE account SET balance = -10;"
        "DELETE FROM account;"
    )
    assert events_by_row() == [
        ("snapshot", "I", 1, 10, None),
        ("create", "I", 1, 10, None),
        ("snapshot", "U", 1, -10, None),
        ("low", "U", 1, -10, None),
        ("delete", "D", 1, -10, None),
    ]


def test_psql_is_recorded_in_the_context_that_it_sets(
    account: Any,
    psql: Callable[[str], str],
    events_by_row: Callable[[], list[Any]],
    contexts: Contexts,
) -> None:
    psql(
        "BEGIN;\n"
        "SELECT set_config('pghistory.context_id', gen_random_uuid()::text, true),"
        """ set_config('pghistory.context_metadata', '{"user": 7}', true);\n"""
        "\\copy account FROM STDIN\n"
        "1\t10\n"
        "2\t-20\n"
        "\\.\n"
        "UPDATE account SET balance = balance + 1 WHERE id = 2;\n"
        "COMMIT;\n"
        "DELETE FROM account WHERE id = 1;\n"
    )
    assert events_by_row() == [
        ("snapshot", "I", 1, 10, BY),
        ("create", "I", 1, 10, BY),
        ("delete", "D", 1, 10, None),  # the settings ended with the transaction
        ("snapshot", "I", 2, -20, BY),
        ("create", "I", 2, -20, BY),
        ("snapshot", "U", 2, -19, BY),
        ("low", "U", 2, -19, BY),
    ]
    assert contexts() == [BY]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE account SET balance = balance",
        "UPDATE account SET id = id, balance = balance + 0",
        "UPDATE account SET balance = -1 WHERE id = 99",
        "DELETE FROM account WHERE id = 99",
        "INSERT INTO account SELECT * FROM account WHERE false",
        "INSERT INTO account VALUES (1, 5) ON CONFLICT DO NOTHING",
        "INSERT INTO account VALUES (1, 5) ON CONFLICT (id) DO UPDATE"
        " SET balance = account.balance",
        "MERGE INTO account USING (VALUES (99)) AS v(key) ON id = key"
        " WHEN MATCHED THEN DELETE",
        "SELECT * FROM account FOR UPDATE",
    ],
)
def test_statement_that_changes_nothing_leaves_no_event_and_no_context(
    statement: str,
    accounts: Any,
    pg_session: Session,
    events_by_row: Callable[[], list[Any]],
    contexts: Contexts,
) -> None:
    with history.context(pg_session, **BY):
        pg_session.execute(text(statement))
        pg_session.commit()
    assert events_by_row() == []
    assert contexts() == []


def test_truncate_of_an_empty_table_leaves_no_event_and_no_context(
    account: Any,
    pg_session: Session,
    events_by_row: Callable[[], list[Any]],
    contexts: Contexts,
) -> None:
    with history.context(pg_session, **BY):
        pg_session.execute(text("TRUNCATE account"))
        pg_session.commit()
    assert events_by_row() == []
    assert contexts() == []


def test_rolled_back_transaction_leaves_no_event_and_no_context(
    account: Any,
    pg_session: Session,
    events_by_row: Callable[[], list[Any]],
    contexts: Contexts,
) -> None:
    with history.context(pg_session, **BY):
        insert_by_flush(pg_session, account)
        pg_session.rollback()
        pg_session.commit()
    assert events_by_row() == []
    assert contexts() == []


def test_rolled_back_savepoint_leaves_no_event_and_no_context(
    account: Any,
    pg_session: Session,
    events_by_row: Callable[[], list[Any]],
    contexts: Contexts,
) -> None:
    with history.context(pg_session, **BY):
        savepoint = pg_session.begin_nested()
        insert_by_flush(pg_session, account)
        savepoint.rollback()
        pg_session.commit()
    assert events_by_row() == []
    assert contexts() == []


def test_context_is_kept_after_a_rolled_back_savepoint(
    account: Any,
    pg_session: Session,
    events_by_row: Callable[[], list[Any]],
    contexts: Contexts,
) -> None:
    with history.context(pg_session, **BY):
        savepoint = pg_session.begin_nested()
        insert_by_flush(pg_session, account)
        savepoint.rollback()
        pg_session.add(account(id=3, balance=30))
        pg_session.commit()
    assert events_by_row() == [
        ("snapshot", "I", 3, 30, BY),
        ("create", "I", 3, 30, BY),
    ]
    assert contexts() == [BY]


def test_failed_statement_leaves_no_event_and_no_context(
    accounts: Any,
    pg_session: Session,
    events_by_row: Callable[[], list[Any]],
    contexts: Contexts,
) -> None:
    with history.context(pg_session, **BY):
        with pytest.raises(Exception, match="division by zero"):
            pg_session.execute(text("UPDATE account SET balance = 1 / (id - 3)"))
        pg_session.commit()
    assert events_by_row() == []
    assert contexts() == []


# What a tracker says about which rows, and which side of a change


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


def test_statements_of_one_transaction_share_its_number(
    account: Any, psql: Callable[[str], str], pg_session: Session
) -> None:
    insert_by_flush(pg_session, account)
    pg_session.execute(text("DELETE FROM account WHERE id = 1"))
    pg_session.commit()
    psql("DELETE FROM account")
    event = account.events.model
    numbers = select(event.pgh_label, event.pgh_xact_id).order_by(event.pgh_id)
    found = pg_session.execute(numbers).all()
    assert [number == found[0][1] for _, number in found] == [True] * 5 + [False]
