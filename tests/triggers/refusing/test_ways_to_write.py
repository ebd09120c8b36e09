"""Protect and ReadOnly refuse a change by whatever statement it comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    ForeignKey,
    NullPool,
    create_engine,
    insert,
    update,
)
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import (
    FSM,
    Delete,
    Insert,
    Protect,
    ReadOnly,
    Truncate,
    Update,
    attach,
    new,
    old,
)
from sa_history.exc import ProtectedError, ReadOnlyError, RefusedError
from tests.bulk_updates import best_seconds
from tests.triggers.refusing.helpers import ROWS, THREE

Account = Callable[..., Any]
Attempt = Callable[..., "type[RefusedError] | None"]
CreateAll = Callable[[], None]
Fill = Callable[..., None]
Rows = Callable[[Any], list[tuple[Any, ...]]]


def test_executemany_is_refused(
    account: Account, attempt: Attempt, fill: Fill, rows: Rows, level: str
) -> None:
    model = account(
        Protect(Insert, condition=new.balance < 0, level=level),
        ReadOnly("owner", level=level),
    )
    many = [{"id": n, "owner": "x", "balance": 5 - n} for n in range(1, 11)]
    assert attempt(insert(model), many) is ProtectedError
    assert rows(model) == []
    fill(THREE)
    changes = [{"id": 3, "owner": "cy"}, {"id": 2, "owner": "x"}]
    assert attempt(update(model), changes) is ReadOnlyError
    assert rows(model) == ROWS


def test_bulk_statement_is_refused_for_one_row_of_many(
    account: Account, attempt: Attempt, rows: Rows, level: str
) -> None:
    model = account(
        Protect(Insert, condition=new.id == 20_001, level=level),
        Protect(Update, condition=new.balance > 20_000, level=level),
        Protect(Delete, condition=old.balance == 20_000, level=level),
        ReadOnly("owner", level=level),
    )
    many = "INSERT INTO account SELECT n, n, n FROM generate_series(1, {}) AS n"
    assert attempt(many.format(20_001)) is ProtectedError
    assert attempt(many.format(20_000)) is None
    assert attempt("UPDATE account SET balance = balance + 1") is ProtectedError
    change = "UPDATE account SET owner = CASE id WHEN 19999 THEN '' ELSE owner END"
    assert attempt(change) is ReadOnlyError
    assert attempt("DELETE FROM account") is ProtectedError
    assert attempt("TRUNCATE account") is ProtectedError
    assert len(rows(model)) == 20_000


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO account SELECT 4, 'dan', 1 WHERE false",
        "UPDATE account SET owner = 'x' WHERE id = 9",
        "DELETE FROM account WHERE id = 9",
        "MERGE INTO account USING (SELECT 9 AS id) AS s ON account.id = s.id"
        " WHEN MATCHED THEN DELETE",
    ],
)
def test_statement_without_a_row_is_not_refused(
    account: Account, fill: Fill, attempt: Attempt, level: str, statement: str
) -> None:
    account(Protect(Insert | Update | Delete, level=level), ReadOnly(level=level))
    fill(THREE)
    assert attempt(statement) is None


@pytest.mark.parametrize("operation", [Delete, Truncate], ids=repr)
def test_truncate_is_refused_of_an_empty_table_too(
    account: Account, attempt: Attempt, level: str, operation: Any
) -> None:
    account(Protect(operation, level=level))
    assert attempt("TRUNCATE account") is ProtectedError


def upsert(model: Any, id: int, update_it: bool) -> Any:
    statement = pg_insert(model).values(id=id, owner="new", balance=1)
    if not update_it:
        return statement.on_conflict_do_nothing()
    changes = {"owner": statement.excluded.owner}
    return statement.on_conflict_do_update(index_elements=["id"], set_=changes)


def test_upsert_is_refused_by_what_it_does_to_the_row(
    account: Account, fill: Fill, attempt: Attempt, rows: Rows, level: str
) -> None:
    model = account(
        Protect(Update, condition=old.id == 1, level=level),
        ReadOnly("owner", condition=old.id == 2, level=level),
    )
    fill(THREE)
    assert attempt(upsert(model, 1, update_it=True)) is ProtectedError
    assert attempt(upsert(model, 2, update_it=True)) is ReadOnlyError
    assert attempt(upsert(model, 3, update_it=True)) is None
    assert attempt(upsert(model, 4, update_it=True)) is None
    assert attempt(upsert(model, 1, update_it=False)) is None
    assert rows(model) == [*ROWS[:2], (3, "new", None), (4, "new", 1)]


@pytest.mark.parametrize("update_it", [True, False], ids=["update", "nothing"])
def test_upsert_of_a_row_that_is_there_is_an_insert_at_row_level_only(
    account: Account, fill: Fill, attempt: Attempt, level: str, update_it: bool
) -> None:
    """PostgreSQL asks the triggers of the insert before it looks for the row."""
    model = account(Protect(Insert, level=level))
    fill(THREE)
    found = ProtectedError if level == "row" else None
    assert attempt(upsert(model, 1, update_it)) is found
    assert attempt(upsert(model, 4, update_it)) is ProtectedError


def test_merge_is_refused_by_what_it_does_to_each_row(
    account: Account, fill: Fill, attempt: Attempt, rows: Rows, level: str
) -> None:
    model = account(
        Protect(Insert, condition=new.owner == "no", level=level),
        Protect(Delete, condition=old.balance > 0, level=level),
        ReadOnly("owner", level=level),
    )
    fill(THREE)
    merge = (
        "MERGE INTO account AS a USING (VALUES {}) AS s (id, owner) ON a.id = s.id"
        " WHEN MATCHED AND s.owner = '' THEN DELETE"
        " WHEN MATCHED THEN UPDATE SET owner = s.owner, balance = 1"
        " WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.owner, 0)"
    )
    assert attempt(merge.format("(1, 'ann'), (4, 'no')")) is ProtectedError
    assert attempt(merge.format("(1, ''), (2, '')")) is ProtectedError
    assert attempt(merge.format("(1, 'ann'), (2, 'x')")) is ReadOnlyError
    assert rows(model) == ROWS
    assert attempt(merge.format("(1, ''), (2, 'bob'), (4, 'dan')")) is None
    assert rows(model) == [(2, "bob", 1), (3, "cy", None), (4, "dan", 0)]


def test_changes_by_common_table_expressions_are_refused(
    account: Account, fill: Fill, attempt: Attempt, rows: Rows, level: str
) -> None:
    model = account(Protect(Delete, level=level), ReadOnly("owner", level=level))
    fill(THREE)
    with_ = "WITH changed AS ({} WHERE id = 1 RETURNING id) {} WHERE id = 2"
    add, rename = "UPDATE account SET balance = 1", "UPDATE account SET owner = 'x'"
    assert attempt(with_.format("DELETE FROM account", add)) is ProtectedError
    assert attempt(with_.format(rename, add)) is ReadOnlyError
    assert attempt(with_.format(add, rename)) is ReadOnlyError
    assert rows(model) == ROWS
    assert attempt(with_.format(add, add)) is None


@pytest.mark.parametrize("balance", [-1, 1])
def test_copy_is_refused_like_an_insert(
    account: Account, pg_engine: Engine, rows: Rows, level: str, balance: int
) -> None:
    model = account(Protect(Insert, condition=new.balance < 0, level=level))
    with pg_engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        # It does not pass through SQLAlchemy, and so is the driver's error.
        try:
            with driver.cursor().copy("COPY account FROM STDIN") as copy:
                copy.write_row((1, "ann", 0))
                copy.write_row((2, "bob", balance))
            refusal = None
        except psycopg.DatabaseError as error:
            refusal = error.sqlstate
        driver.commit()
    if balance < 0:
        assert (refusal, rows(model)) == ("SH003", [])
    else:
        assert (refusal, len(rows(model))) == (None, 2)


def test_rows_are_compared_with_what_they_were_where_keys_change(
    account: Account, fill: Fill, attempt: Attempt, rows: Rows, level: str
) -> None:
    model = account(
        ReadOnly("owner", level=level),
        Protect(Update, condition=new.balance < old.balance, level=level),
    )
    fill(THREE)
    assert attempt("UPDATE account SET id = id - 2, balance = balance") is None
    assert [row[0] for row in rows(model)] == [-1, 0, 1]
    assert attempt("UPDATE account SET id = -id * 10, balance = balance + 1") is None
    # Each of these owners is one that some other row had before.
    swap = "UPDATE account SET id = id + 1, owner = CASE owner WHEN 'ann' THEN 'bob'"
    assert attempt(f"{swap} WHEN 'bob' THEN 'ann' ELSE owner END") is ReadOnlyError
    balances = "UPDATE account SET id = id + 1, balance = 12 - balance"
    assert attempt(balances) is ProtectedError


@pytest.fixture
def family(
    base: type[DeclarativeBase], create_all: CreateAll, pg_session: Session
) -> Callable[..., Any]:
    """Make a child with these triggers, and a parent that everything cascades from."""

    def make(*triggers: Any) -> Any:
        class Parent(base):  # type: ignore[misc, valid-type]
            __tablename__ = "parent"
            id: Mapped[int] = mapped_column(primary_key=True)

        @attach(*triggers)
        class Child(base):  # type: ignore[misc, valid-type]
            __tablename__ = "child"
            id: Mapped[int] = mapped_column(primary_key=True)
            parent_id: Mapped[int] = mapped_column(
                ForeignKey(Parent.id, ondelete="CASCADE", onupdate="CASCADE")
            )

        create_all()
        pg_session.execute(insert(Parent), [{"id": 1}, {"id": 2}])
        pg_session.execute(insert(Child), [{"id": 10, "parent_id": 1}])
        pg_session.commit()
        return Child

    return make


def test_cascade_from_a_parent_is_refused(
    family: Any, attempt: Attempt, rows: Rows, level: str
) -> None:
    child = family(Protect(Delete, level=level), ReadOnly("parent_id", level=level))
    assert attempt("DELETE FROM parent WHERE id = 1") is ProtectedError
    assert attempt("UPDATE parent SET id = 3 WHERE id = 1") is ReadOnlyError
    assert attempt("TRUNCATE parent CASCADE") is ProtectedError
    assert attempt("DELETE FROM parent WHERE id = 2") is None
    assert rows(child) == [(10, 1)]


def test_cascade_is_refused_for_the_rows_of_the_condition(
    family: Any, attempt: Attempt, level: str
) -> None:
    family(Protect(Delete, condition=old.id > 10, level=level))
    assert attempt("INSERT INTO child VALUES (11, 2)") is None
    assert attempt("TRUNCATE parent CASCADE") is ProtectedError
    assert attempt("DELETE FROM parent WHERE id = 2") is ProtectedError
    assert attempt("DELETE FROM parent WHERE id = 1") is None


@pytest.fixture
def connect(account: Account, fill: Fill, pg_url: URL) -> Callable[[], Connection]:
    """Open new connections to a table of many rows, each of which is looked at."""
    account(
        ReadOnly("owner", level="statement"),
        Protect(Update, condition=new.balance < old.balance - 9, level="statement"),
        FSM("balance", transitions=[(0, 1), (1, 0)], level="statement"),
    )
    fill("INSERT INTO account SELECT n, 'x', 0 FROM generate_series(1, 20000) AS n")
    engine = create_engine(pg_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    return engine.connect


def test_bulk_update_is_as_fast_after_single_rows_as_on_a_fresh_connection(
    connect: Callable[[], Connection],
) -> None:
    fresh, warmed = best_seconds(
        connect,
        "UPDATE account SET balance = 1 - balance WHERE id = %s",
        "UPDATE account SET balance = 1 - balance",
        clean=["VACUUM ANALYZE account"],
        singles=20,
        rounds=2,
    )
    assert warmed <= 3 * fresh
