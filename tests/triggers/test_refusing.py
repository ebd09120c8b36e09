"""What Protect and ReadOnly refuse, by whatever door the change comes."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from sqlalchemy import (
    JSON,
    URL,
    Column,
    Computed,
    Connection,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    NullPool,
    Numeric,
    String,
    Table,
    Text,
    TypeDecorator,
    create_engine,
    delete,
    func,
    insert,
    select,
    text,
    types,
    update,
)
from sqlalchemy.dialects.postgresql import CITEXT, JSONB
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    declared_attr,
    mapped_column,
)
from sqlalchemy.schema import CreateSchema

import sa_history as history
from sa_history import (
    FSM,
    AfterDelete,
    AnyChange,
    Delete,
    HistoryMixin,
    Insert,
    Protect,
    ReadOnly,
    Snapshot,
    Touch,
    Truncate,
    Update,
    UpdateOf,
    Versioned,
    attach,
    new,
    old,
    track,
)
from sa_history.exc import (
    HistoryError,
    ProtectedError,
    ReadOnlyError,
    RefusedError,
    TransitionError,
)

Account = Callable[..., Any]
Attempt = Callable[..., "type[RefusedError] | None"]
CreateAll = Callable[[], None]
Fill = Callable[..., None]
Recorded = Callable[..., list[tuple[Any, ...]]]
Rows = Callable[[Any], list[tuple[Any, ...]]]

THREE = "INSERT INTO account VALUES (1, 'ann', 0), (2, 'bob', 10), (3, 'cy', NULL)"
ROWS = [(1, "ann", 0), (2, "bob", 10), (3, "cy", None)]


# Protect: which operations


STATEMENTS = {
    "insert": "INSERT INTO account VALUES (4, 'dan', 5)",
    "update": "UPDATE account SET balance = 7 WHERE id = 1",
    "delete": "DELETE FROM account WHERE id = 1",
    "truncate": "TRUNCATE account",
}


@pytest.mark.parametrize(
    ("operation", "refused"),
    [
        (Insert, ["insert"]),
        (Update, ["update"]),
        (Delete, ["delete", "truncate"]),
        (Truncate, ["truncate"]),
        (Insert | Update, ["insert", "update"]),
        (Update | Delete, ["update", "delete", "truncate"]),
        (Update | Truncate, ["update", "truncate"]),
        (
            Insert | Update | Delete | Truncate,
            ["insert", "update", "delete", "truncate"],
        ),
    ],
    ids=repr,
)
def test_protected_operations_are_refused_and_others_are_not(
    account: Account,
    fill: Fill,
    attempt: Attempt,
    rows: Rows,
    level: str,
    operation: Any,
    refused: list[str],
) -> None:
    model = account(Protect(operation, level=level))
    for name, statement in STATEMENTS.items():
        fill("TRUNCATE account", THREE)
        if name in refused:
            assert attempt(statement) is ProtectedError
            assert rows(model) == ROWS
        else:
            assert attempt(statement) is None
            assert rows(model) != ROWS


@pytest.mark.parametrize(
    "operation", [UpdateOf("balance"), UpdateOf("balance") | Delete], ids=repr
)
def test_update_of_columns_is_refused_where_it_sets_one(
    account: Account, fill: Fill, attempt: Attempt, operation: Any
) -> None:
    account(Protect(operation))
    fill(THREE)
    assert attempt("UPDATE account SET owner = 'x'") is None
    assert attempt("UPDATE account SET balance = balance") is ProtectedError
    assert attempt("UPDATE account SET owner = 'y', balance = 1") is ProtectedError
    deleted = ProtectedError if Delete.members[0] in operation.members else None
    assert attempt("DELETE FROM account") is deleted


def test_update_protects_more_than_update_of(
    account: Account, fill: Fill, attempt: Attempt
) -> None:
    account(Protect(UpdateOf("balance") | Update))
    fill(THREE)
    assert attempt("UPDATE account SET owner = 'x'") is ProtectedError


def test_the_whole_statement_is_undone(
    account: Account, fill: Fill, pg_session: Session, rows: Rows, level: str
) -> None:
    model = account(Protect(Delete, condition=old.id == 3, level=level))
    fill(THREE)
    with pytest.raises(ProtectedError), pg_session.begin_nested():
        pg_session.execute(delete(model))
    assert len(pg_session.scalars(select(model)).all()) == 3
    pg_session.execute(delete(model).where(model.id < 3))
    pg_session.commit()
    assert rows(model) == ROWS[2:]


def test_a_flush_is_refused_like_a_statement(
    account: Account, fill: Fill, pg_session: Session, rows: Rows, level: str
) -> None:
    model = account(
        Protect(Insert | Delete, level=level), ReadOnly("owner", level=level)
    )
    fill(THREE)
    pg_session.add(model(id=4, owner="dan"))
    with pytest.raises(ProtectedError):
        pg_session.commit()
    pg_session.rollback()
    ann = pg_session.get_one(model, 1)
    pg_session.delete(ann)
    with pytest.raises(ProtectedError):
        pg_session.commit()
    pg_session.rollback()
    ann.owner = "anna"
    with pytest.raises(ReadOnlyError):
        pg_session.commit()
    pg_session.rollback()
    assert ann.owner == "ann"
    ann.balance = 1
    pg_session.commit()
    assert rows(model) == [(1, "ann", 1), *ROWS[1:]]


# Protect: which rows


@pytest.mark.parametrize(
    "condition",
    [
        old.balance != 0,
        lambda old, new: old.balance != 0,
        text("OLD.balance <> 0 -- 100% of {them}; it's all"),
        (old.balance != 0) & old.owner.not_like("100%"),
        old["balance"].not_in([0]),
    ],
    ids=["expression", "function", "text", "percent", "list"],
)
def test_condition_over_old_protects_rows_as_they_were(
    account: Account,
    fill: Fill,
    attempt: Attempt,
    rows: Rows,
    level: str,
    condition: Any,
) -> None:
    model = account(Protect(Update | Delete, condition=condition, level=level))
    fill(THREE)
    assert attempt("UPDATE account SET balance = 0 WHERE id = 2") is ProtectedError
    assert attempt("UPDATE account SET balance = 0") is ProtectedError
    assert attempt("DELETE FROM account") is ProtectedError
    assert attempt("TRUNCATE account") is ProtectedError
    assert rows(model) == ROWS
    # For a balance of NULL the condition is unknown, which is not true.
    assert attempt("UPDATE account SET balance = 9 WHERE id IN (1, 3)") is None
    assert rows(model) == [(1, "ann", 9), (2, "bob", 10), (3, "cy", 9)]
    fill("UPDATE account SET balance = 0")
    assert attempt("TRUNCATE account") is None


def test_condition_over_new_protects_from_rows_as_they_would_be(
    account: Account, fill: Fill, attempt: Attempt, rows: Rows, level: str
) -> None:
    model = account(Protect(Insert | Update, condition=new.balance < 0, level=level))
    fill(THREE)
    assert attempt("INSERT INTO account VALUES (4, 'dan', -1)") is ProtectedError
    assert attempt("UPDATE account SET balance = balance - 10") is ProtectedError
    assert rows(model) == ROWS
    assert attempt("INSERT INTO account VALUES (4, 'dan', 0)") is None
    assert attempt("UPDATE account SET balance = 0") is None
    assert attempt("DELETE FROM account") is None


@pytest.mark.parametrize(
    "condition",
    [
        new.balance < old.balance,
        lambda old, new: new.balance < old.balance,
        text("NEW.balance < OLD.balance"),
    ],
    ids=["expression", "function", "text"],
)
def test_condition_over_both_rows_protects_from_a_change(
    account: Account, fill: Fill, attempt: Attempt, level: str, condition: Any
) -> None:
    account(Protect(Update, condition=condition, level=level))
    fill(THREE)
    assert attempt("UPDATE account SET balance = balance + 1") is None
    assert attempt("UPDATE account SET balance = 5") is ProtectedError
    assert attempt("UPDATE account SET balance = 12 - balance") is ProtectedError


def test_condition_on_truncate_alone_looks_at_the_rows(
    account: Account, fill: Fill, attempt: Attempt, level: str
) -> None:
    account(Protect(Truncate, condition=old.balance > 5, level=level))
    fill(THREE)
    assert attempt("TRUNCATE account") is ProtectedError
    assert attempt("DELETE FROM account WHERE balance > 5") is None
    assert attempt("TRUNCATE account") is None


def test_triggers_of_one_table_each_protect_something(
    account: Account, fill: Fill, attempt: Attempt, level: str
) -> None:
    account(
        Protect(Delete, condition=old.balance > 0, name="rich", level=level),
        Protect(Delete, condition=old.owner == "ann", name="ann", level=level),
        Protect(Update, condition=AnyChange("owner"), name="owner", level=level),
    )
    fill(THREE)
    assert attempt("DELETE FROM account WHERE id = 1") is ProtectedError
    assert attempt("DELETE FROM account WHERE id = 2") is ProtectedError
    assert attempt("UPDATE account SET owner = 'x'") is ProtectedError
    assert attempt("DELETE FROM account WHERE id = 3") is None


# ReadOnly


@pytest.mark.parametrize(
    ("read_only", "refused"),
    [
        (["owner"], ["owner"]),
        (["owner", "id"], ["owner", "id"]),
        ({"exclude": ["balance"]}, ["owner", "id"]),
        ({"exclude": ["balance", "id"]}, ["owner"]),
        ([], ["owner", "balance", "id"]),
    ],
    ids=["name", "names", "exclude", "exclude two", "all"],
)
def test_read_only_columns_cannot_change_and_others_can(
    account: Account,
    fill: Fill,
    attempt: Attempt,
    rows: Rows,
    level: str,
    read_only: Any,
    refused: list[str],
) -> None:
    trigger = (
        ReadOnly(**read_only, level=level)
        if isinstance(read_only, dict)
        else ReadOnly(*read_only, level=level)
    )
    model = account(trigger)
    for column, value in (("owner", "'zoe'"), ("balance", "77"), ("id", "id + 10")):
        fill("TRUNCATE account", THREE)
        statement = f"UPDATE account SET {column} = {value}"
        expected = ReadOnlyError if column in refused else None
        assert attempt(statement) is expected
        assert (rows(model) == ROWS) is (column in refused)
    assert attempt("INSERT INTO account VALUES (4, 'dan', 5)") is None
    assert attempt("DELETE FROM account") is None


def test_setting_a_read_only_column_to_what_it_is_passes(
    account: Account, fill: Fill, attempt: Attempt, level: str
) -> None:
    account(ReadOnly("owner", "balance", level=level))
    fill(THREE)
    assert attempt("UPDATE account SET owner = owner, balance = balance") is None
    assert attempt("UPDATE account SET balance = NULL WHERE id = 3") is None
    assert attempt("UPDATE account SET balance = 0 WHERE id = 3") is ReadOnlyError
    assert attempt("UPDATE account SET balance = NULL WHERE id = 1") is ReadOnlyError


def test_read_only_may_depend_on_the_row(
    account: Account, fill: Fill, attempt: Attempt, level: str
) -> None:
    account(ReadOnly("owner", condition=old.balance > 0, level=level))
    fill(THREE)
    assert attempt("UPDATE account SET owner = 'x' WHERE id IN (1, 3)") is None
    assert attempt("UPDATE account SET owner = 'x'") is ReadOnlyError
    assert attempt("UPDATE account SET balance = 0") is None
    assert attempt("UPDATE account SET owner = 'x'") is None


def test_a_column_may_be_set_once(
    account: Account, fill: Fill, attempt: Attempt, level: str
) -> None:
    account(ReadOnly("balance", condition=old.balance.is_not(None), level=level))
    fill(THREE)
    assert attempt("UPDATE account SET balance = 5 WHERE id = 3") is None
    assert attempt("UPDATE account SET balance = 6 WHERE id = 3") is ReadOnlyError


def test_column_that_a_trigger_sets_later_is_read_only_for_all_others(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    attempt: Attempt,
    rows: Rows,
    level: str,
) -> None:
    """At statement level it is what is stored that may not change, by whomever."""

    @attach(ReadOnly("size", level=level), Touch("size", value=func.length("four")))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        size: Mapped[int]
        body: Mapped[str]

    create_all()
    assert attempt(insert(Page).values(id=1, size=0, body="a")) is None
    assert attempt(update(Page).values(size=3)) is ReadOnlyError
    changed = attempt(update(Page).values(body="b"))
    assert changed is (None if level == "row" else ReadOnlyError)
    assert rows(Page) == [(1, 4, "b") if level == "row" else (1, 0, "a")]


# Doors


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


ROUNDS = 2


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


def seconds_for_all_rows(connection: Connection) -> float:
    connection.execute(text("SET statement_timeout = '10s'"))  # fail, do not hang
    start = time.perf_counter()
    connection.execute(text("UPDATE account SET balance = 1 - balance"))
    return time.perf_counter() - start


def test_bulk_update_is_as_fast_after_single_rows_as_on_a_fresh_connection(
    connect: Callable[[], Connection],
) -> None:
    """PL/pgSQL keeps the plan that it made for one row."""
    fresh, warmed = [], []
    for _ in range(ROUNDS):
        for seconds in (fresh, warmed):
            with connect() as connection:
                connection.execute(text("VACUUM ANALYZE account"))
            with connect() as connection:
                if seconds is warmed:
                    driver: Any = connection.connection.driver_connection
                    one = "UPDATE account SET balance = 1 - balance WHERE id = %s"
                    for number in range(20):
                        driver.execute(one, (number + 1,), prepare=True)
                seconds.append(seconds_for_all_rows(connection))
    assert min(warmed) <= 3 * min(fresh)


# Errors


HINT = (
    "Leave the column as it is. Where it is meant, make the change inside a "
    'history.ignore(...) of "read_only".'
)
DRIVERS = ["psycopg", "psycopg2", "async psycopg", "asyncpg"]


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    """The driver that the error comes from."""
    return str(request.param)


@pytest.fixture
def in_session(driver: str, pg_url: URL) -> Callable[[Callable[[Session], Any]], Any]:
    """Run a function with a session of the driver."""
    url = pg_url.set(drivername=f"postgresql+{driver.removeprefix('async ')}")

    def run(function: Callable[[Session], Any]) -> Any:
        if driver in ("psycopg", "psycopg2"):
            with Session(create_engine(url, poolclass=NullPool)) as session:
                return function(session)

        async def main() -> Any:
            engine = create_async_engine(url, poolclass=NullPool)
            async with AsyncSession(engine) as session:
                return await session.run_sync(function)

        return asyncio.run(main())

    return run


def diagnostics(error: RefusedError, driver: str) -> dict[str, str]:
    """What the driver says, by PostgreSQL's names."""
    names = ["table_name", "schema_name", "constraint_name", "column_name"]
    if driver == "asyncpg":
        cause: Any = error.orig.__cause__
        names += ["hint", "message", "sqlstate"]
        return {name: getattr(cause, name) for name in names}
    names += ["message_hint", "message_primary", "sqlstate"]
    diag: Any = error.orig.diag  # type: ignore[union-attr]
    found = {name: getattr(diag, name) for name in names}
    found["hint"] = found.pop("message_hint")
    found["message"] = found.pop("message_primary")
    return found


@pytest.mark.parametrize("deferrable", [None, "deferred"])
def test_error_says_what_was_refused_whatever_the_driver(
    account: Account,
    fill: Fill,
    in_session: Any,
    driver: str,
    deferrable: Any,
) -> None:
    model = account(ReadOnly("owner", deferrable=deferrable))
    fill(THREE)

    def work(session: Session) -> RefusedError:
        change = update(model).values(owner="x").where(model.id == 1)
        if deferrable:
            session.execute(change)
        with pytest.raises(DBAPIError) as caught:
            session.commit() if deferrable else session.execute(change)
        session.rollback()
        assert session.scalar(select(func.count()).select_from(model)) == 3
        assert isinstance(caught.value, RefusedError)
        return caught.value

    error = in_session(work)
    assert type(error) is ReadOnlyError
    assert isinstance(error, HistoryError)
    assert error.orig is error.__cause__
    assert not isinstance(error.orig, DBAPIError)
    assert not error.connection_invalidated
    assert (error.statement is None) is (deferrable is not None)
    found = diagnostics(error, driver)
    assert found == {
        "table_name": "account",
        "schema_name": "public",
        "constraint_name": "account_read_only",
        "column_name": "owner",
        "hint": HINT,
        "message": "UPDATE of public.account is refused: owner may only be read",
        "sqlstate": "SH004",
    }
    assert found["message"] in str(error)


@pytest.mark.parametrize(
    ("statement", "sqlstate", "message", "constraint", "column"),
    [
        (
            "INSERT INTO account VALUES (4, 'dan', 5)",
            "SH003",
            "INSERT of public.account is refused: the table is protected",
            "account_protect_insert",
            None,
        ),
        (
            "DELETE FROM account",
            "SH003",
            "DELETE of public.account is refused: such a row is protected",
            "account_rich",
            None,
        ),
        (
            "TRUNCATE account",
            "SH003",
            "TRUNCATE of public.account is refused: such a row is protected",
            "account_rich_truncate",
            None,
        ),
        (
            "UPDATE account SET owner = 'x', id = id + 9",
            "SH004",
            "UPDATE of public.account is refused: id, owner may only be read",
            "account_read_only",
            None,
        ),
        (
            "UPDATE account SET balance = 2",
            "SH005",
            "UPDATE of public.account is refused: balance may not go from 0 to 2",
            "account_fsm_balance",
            "balance",
        ),
    ],
    ids=["insert", "delete", "truncate", "read-only", "transition"],
)
def test_each_refusal_has_its_message_and_names_its_trigger(
    account: Account,
    fill: Fill,
    pg_session: Session,
    level: str,
    statement: str,
    sqlstate: str,
    message: str,
    constraint: str,
    column: str | None,
) -> None:
    account(
        Protect(Insert, level=level),
        Protect(Delete, condition=old.balance > 5, level=level, name="rich"),
        ReadOnly("id", "owner", level=level),
        FSM("balance", transitions=[(0, 1)], level=level),
    )
    fill(THREE)
    with pytest.raises(RefusedError) as caught:
        pg_session.execute(text(statement))
    diag = caught.value.orig.diag  # type: ignore[union-attr]
    assert type(caught.value).sqlstate == diag.sqlstate == sqlstate
    assert diag.message_primary == message
    # The name in the database: at row level, with operations apart, by operation.
    assert diag.constraint_name in (constraint, f"{constraint}_delete")
    assert (diag.schema_name, diag.table_name) == ("public", "account")
    assert diag.column_name == column


@pytest.mark.parametrize(
    ("trigger", "hint"),
    [
        (
            Protect(Delete),
            "Leave it as it is. Where it is meant, make the change inside a "
            'history.ignore(...) of "protect_delete".',
        ),
        (Protect(Delete, ignorable=False), "Leave it as it is."),
        (Protect(Delete, hint="Ask 100% of {us}, it's\n\\free"), None),
        (Protect(Delete, hint=""), ""),
    ],
    ids=["default", "not ignorable", "odd", "empty"],
)
def test_error_has_a_hint(
    account: Account, fill: Fill, pg_session: Session, trigger: Any, hint: str | None
) -> None:
    account(trigger)
    fill(THREE)
    with pytest.raises(ProtectedError) as caught:
        pg_session.execute(text("DELETE FROM account"))
    diag = caught.value.orig.diag  # type: ignore[union-attr]
    assert (diag.message_hint or "") == (trigger.hint if hint is None else hint)


# At the end of the transaction


def test_deferred_refusal_comes_with_the_commit(
    account: Account,
    fill: Fill,
    pg_engine: Engine,
    pg_async_engine: AsyncEngine,
    rows: Rows,
) -> None:
    model = account(
        Protect(Delete, deferrable="deferred", condition=old.balance > 0),
        ReadOnly("owner", deferrable="deferred"),
    )
    fill(THREE)
    with Session(pg_engine) as session:
        session.execute(delete(model).where(model.id == 2))
        assert session.scalar(select(func.count()).select_from(model)) == 2
        with pytest.raises(ProtectedError):
            session.commit()

    async def main() -> None:
        async with AsyncSession(pg_async_engine) as session:
            ann = await session.get_one(model, 1)
            ann.owner = "x"
            await session.flush()
            with pytest.raises(ReadOnlyError):
                await session.commit()

    asyncio.run(main())
    with (
        pytest.raises(ProtectedError),
        Session(pg_engine) as session,
        session.begin(),
    ):
        session.execute(delete(model))
    assert rows(model) == ROWS


def test_deferred_refusal_remembers_what_was_changed_back(
    account: Account, fill: Fill, pg_session: Session
) -> None:
    """Each change of the transaction is looked at, not what comes of all of them."""
    model = account(ReadOnly("owner", deferrable="deferred"))
    fill(THREE)
    pg_session.execute(update(model).values(owner="x").where(model.id == 1))
    pg_session.execute(update(model).values(owner="ann").where(model.id == 1))
    with pytest.raises(ReadOnlyError):
        pg_session.commit()


def test_deferred_refusal_is_forgotten_with_a_savepoint(
    account: Account, fill: Fill, pg_session: Session, rows: Rows
) -> None:
    model = account(Protect(Delete, deferrable="deferred"))
    fill(THREE)
    nested = pg_session.begin_nested()
    pg_session.execute(delete(model))
    nested.rollback()
    pg_session.commit()
    assert rows(model) == ROWS


def test_immediate_refusal_can_be_deferred(
    account: Account, fill: Fill, pg_session: Session, attempt: Attempt, rows: Rows
) -> None:
    model = account(Protect(Delete, deferrable="immediate"))
    fill(THREE)
    assert attempt(delete(model)) is ProtectedError
    pg_session.execute(text("SET CONSTRAINTS account_protect_delete DEFERRED"))
    pg_session.execute(delete(model))
    with pytest.raises(ProtectedError):
        pg_session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    pg_session.rollback()
    # TRUNCATE has no rows to come back to later.
    pg_session.execute(text("SET CONSTRAINTS ALL DEFERRED"))
    with pytest.raises(ProtectedError):
        pg_session.execute(text("TRUNCATE account"))
    pg_session.rollback()
    assert rows(model) == ROWS


def test_deferrable_triggers_are_made_anew(
    account: Account, fill: Fill, attempt: Attempt, base: Any, pg_engine: Engine
) -> None:
    model = account(Protect(Delete, deferrable="deferred"))
    base.metadata.create_all(pg_engine)
    base.metadata.drop_all(pg_engine)
    base.metadata.create_all(pg_engine)
    fill(THREE)
    assert attempt(delete(model)) is ProtectedError


# Names and schemas


ODD = {
    "mixed case": "Mixed Case",
    "keyword": "select",
    "double quote": 'dou"ble',
    "single quote": "it's",
    "percent": "100% %s %(x)s %%",
    "colon": "a:b ::c \\:d",
    "braces": "{a} {0}",
    "backslash": "a\\b\\",
    "dollar": "$$ $history$ $1",
    "comment": "--a /* b",
    "newline": "a\nb",
    "point": "a.b",
    "multi-byte": "Größe 寸",
    "old": "OLD",
    "new": "NEW",
    "old rows": "old_rows",
    "new rows": "new_rows",
    "found": "pgh_found",
    "operation": "tg_op",
    "63 bytes": "n" * 63,
    "63 bytes of many": "寸" * 21,
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_odd_names_and_values_are_taken_as_they_are(
    odd: str, level: str, pg_engine: Engine, attempt: Attempt, pg_session: Session
) -> None:
    class Base(DeclarativeBase):
        metadata = MetaData(schema=odd)

    @attach(
        Protect(Insert | Update, condition=new.state == odd, level=level, name=odd),
        Protect(Delete, condition=old.state == "kept", level=level, name="keep"),
        ReadOnly("fixed", level=level, hint=odd),
        FSM(
            "state",
            transitions=[("a", f"{odd}!"), (f"{odd}!", "kept"), ("a", odd)],
            initial=["a", odd],
            level=level,
            name="machine",
        ),
    )
    class Thing(Base):
        __tablename__ = odd
        id: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[str] = mapped_column(odd)
        fixed: Mapped[str] = mapped_column(f"{odd[:20]}2", default="")

    with pg_engine.begin() as connection:
        connection.execute(CreateSchema(odd))
    Base.metadata.create_all(pg_engine)
    assert attempt(insert(Thing).values(id=1, state=odd)) is ProtectedError
    assert attempt(insert(Thing).values(id=1, state=f"{odd}!")) is TransitionError
    assert attempt(insert(Thing).values(id=1, state="a")) is None
    assert attempt(update(Thing).values(state=odd)) is ProtectedError
    assert attempt(update(Thing).values(state="kept")) is TransitionError
    assert attempt(update(Thing).values(state=f"{odd}!")) is None
    assert attempt(update(Thing).values(state="kept")) is None
    with pytest.raises(ReadOnlyError) as caught:
        pg_session.execute(update(Thing).values(fixed="x"))
    pg_session.rollback()
    diag = caught.value.orig.diag  # type: ignore[union-attr]
    assert (diag.schema_name, diag.table_name) == (odd, odd)
    assert (diag.column_name, diag.message_hint) == (f"{odd[:20]}2", odd)
    assert attempt(delete(Thing)) is ProtectedError
    name = '"' + odd.replace('"', '""') + '"'
    truncate = f"TRUNCATE {name}.{name}".replace(":", "\\:")
    assert attempt(truncate) is ProtectedError
    Base.metadata.drop_all(pg_engine)
    with pg_engine.connect() as connection:
        left = "SELECT count(*) FROM pg_proc WHERE pronamespace::regnamespace <> ALL"
        left += " ('{pg_catalog,information_schema}'::regnamespace[])"
        assert connection.scalar(text(left.replace("::", "\\:\\:"))) == 0


def test_long_names_are_shortened_and_stay_apart(
    base: type[DeclarativeBase], create_all: CreateAll, attempt: Attempt, level: str
) -> None:
    tables = [
        Table(f"{'t' * 62}{n}", base.metadata, Column("id", Integer, primary_key=True))
        for n in (1, 2)
    ]
    for table in tables:
        attach(
            Protect(Insert, condition=new.id == 1, name="g" * 63, level=level),
            Protect(Insert, condition=new.id == 2, name=f"{'g' * 62}2", level=level),
            Protect(Insert | Update, condition=new.id == 3, name="a", level=level),
        )(table)
    create_all()
    for table in tables:
        for id in (1, 2, 3):
            assert attempt(insert(table).values(id=id)) is ProtectedError
        assert attempt(insert(table).values(id=4)) is None
        assert attempt(update(table).values(id=3)) is ProtectedError
        assert attempt(update(table).values(id=1)) is None


def test_translated_schemas_are_protected_each(
    account: Account, base: type[DeclarativeBase], pg_engine: Engine, level: str
) -> None:
    model = account(
        Protect(Delete, condition=old.balance > 0, level=level),
        ReadOnly("owner", level=level),
    )
    names = ["tenant_1", 'Tenant "2%_']
    with pg_engine.begin() as connection:
        for name in names:
            connection.execute(CreateSchema(name))
    base.metadata.drop_all(pg_engine)
    for name in names:
        engine = pg_engine.execution_options(schema_translate_map={None: name})
        base.metadata.create_all(engine)
        base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add(model(id=1, owner="ann", balance=1))
            session.commit()
            for statement, error in (
                (update(model).values(owner="x"), ReadOnlyError),
                (delete(model), ProtectedError),
            ):
                with pytest.raises(error) as caught:
                    session.execute(statement)
                session.rollback()
                diag = caught.value.orig.diag  # type: ignore[union-attr]
                assert diag.schema_name == name
            quoted = name.replace('"', '""')
            with pytest.raises(ProtectedError):
                session.execute(text(f'TRUNCATE "{quoted}".account'))
        base.metadata.drop_all(engine)
    with pg_engine.connect() as connection:
        left = "SELECT count(*) FROM pg_proc WHERE proname LIKE 'account%'"
        assert connection.scalar(text(left)) == 0


# Types and columns


class Lower(TypeDecorator[str]):
    """A text that is compared in lower case."""

    impl = Text
    cache_ok = True

    class comparator_factory(TypeDecorator.Comparator[str]):
        def operate(self, op: Any, *other: Any, **kwargs: Any) -> Any:
            return op(func.lower(self.expr), *map(func.lower, other), **kwargs)


@pytest.mark.contrib
@pytest.mark.parametrize(
    ("type_", "before", "after"),
    [
        (CITEXT(), "a", "A"),
        (JSON(), {"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (JSONB(), {"a": 1}, {"a": 2}),
        (Numeric(), Decimal("1.0"), Decimal("1.00")),
        (Text(collation="C"), "a", "A"),
        (Lower(), "a", "A"),
        (types.Float(), 0.0, -0.0),
        (types.ARRAY(Integer), [1], [1, None]),
        (types.LargeBinary(), b"\\", b"\\\\"),
        (types.Interval(), datetime.timedelta(1), text("interval '24h'")),
    ],
    ids=lambda value: (
        type(value).__name__ if isinstance(value, types.TypeEngine) else ""
    ),
)
def test_read_only_sees_a_change_that_equality_overlooks(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_session: Session,
    attempt: Attempt,
    level: str,
    type_: Any,
    before: Any,
    after: Any,
) -> None:
    pg_session.execute(text("CREATE EXTENSION citext"))
    pg_session.commit()
    thing = Table(
        "thing",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("value", type_),
    )
    attach(ReadOnly("value", level=level))(thing)
    create_all()
    assert attempt(insert(thing).values(id=1, value=before)) is None
    assert attempt(update(thing).values(value=before)) is None
    assert attempt(update(thing).values(value=after)) is ReadOnlyError
    assert attempt(update(thing).values(id=2)) is None


def test_generated_column_is_looked_at_where_it_has_a_value(
    base: type[DeclarativeBase], create_all: CreateAll, attempt: Attempt
) -> None:
    @attach(
        ReadOnly(exclude=["id", "price"]),
        ReadOnly("gross", level="statement", name="gross"),
        Protect(Update, condition=new.gross > 300, level="statement"),
        Protect(Delete, condition=old.gross > 150),
    )
    class Item(base):  # type: ignore[misc, valid-type]
        __tablename__ = "item"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        price: Mapped[int]
        gross: Mapped[int] = mapped_column(Computed("price * 2", persisted=True))

    create_all()
    assert attempt(insert(Item).values(id=1, name="a", price=100)) is None
    assert attempt(update(Item).values(id=2)) is None
    assert attempt(update(Item).values(name="b")) is ReadOnlyError
    assert attempt(update(Item).values(price=101)) is ReadOnlyError
    assert attempt(update(Item).values(price=151)) is not None
    assert attempt(delete(Item)) is ProtectedError


def test_columns_are_known_by_their_attribute_and_shown_by_their_name(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_session: Session,
    attempt: Attempt,
    level: str,
) -> None:
    @attach(
        ReadOnly("owner", level=level),
        Protect(Delete, condition=old.owner == "ann", level=level),
        Protect(UpdateOf("note")),
    )
    class Thing(base):  # type: ignore[misc, valid-type]
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        owner: Mapped[str] = mapped_column("The Owner")
        note: Mapped[str] = mapped_column("owner", default="")

    create_all()
    assert attempt(insert(Thing).values(id=1, owner="ann")) is None
    with pytest.raises(ReadOnlyError) as caught:
        pg_session.execute(update(Thing).values(owner="bob"))
    pg_session.rollback()
    diag = caught.value.orig.diag  # type: ignore[union-attr]
    assert diag.column_name == "The Owner"
    assert attempt(update(Thing).values(note="x")) is ProtectedError
    assert attempt(delete(Thing)) is ProtectedError


# Kinds of tables


@pytest.fixture
def reading(
    base: type[DeclarativeBase], create_all: CreateAll, pg_engine: Engine
) -> Callable[..., Any]:
    """Make a table in two parts, for days below 10 and above, with these triggers."""

    def make(*triggers: Any) -> Any:
        @attach(*triggers)
        class Reading(base):  # type: ignore[misc, valid-type]
            __tablename__ = "reading"
            __table_args__ = {"postgresql_partition_by": "RANGE (day)"}
            day: Mapped[int] = mapped_column(primary_key=True)
            value: Mapped[int]
            place: Mapped[str] = mapped_column(default="here")

        create_all()
        with pg_engine.begin() as connection:
            part = "CREATE TABLE {} PARTITION OF reading FOR VALUES FROM ({}) TO ({})"
            connection.execute(text(part.format("early", 0, 10)))
            connection.execute(text(part.format("late", 10, 20)))
            rows = "(1, 1, 'here'), (5, 2, 'here'), (12, 3, 'here')"
            connection.execute(text(f"INSERT INTO reading VALUES {rows}"))
        return Reading

    return make


def test_partitioned_table_is_protected_through_the_parent(
    reading: Any, attempt: Attempt, level: str
) -> None:
    reading(
        Protect(Insert, condition=new.value < 0, level=level),
        Protect(Delete, condition=old.value == 3, level=level),
        ReadOnly("place", level=level),
    )
    assert attempt("INSERT INTO reading VALUES (3, 1, ''), (13, -1, '')") is (
        ProtectedError
    )
    assert attempt("UPDATE reading SET place = 'x' WHERE day = 12") is ReadOnlyError
    assert attempt("DELETE FROM reading") is ProtectedError
    assert attempt("TRUNCATE reading") is ProtectedError
    assert attempt("DELETE FROM reading WHERE value = 1") is None
    assert attempt("UPDATE reading SET value = 4") is None
    assert attempt("TRUNCATE reading") is None


def test_row_that_moves_to_another_partition_is_looked_at(
    reading: Any, attempt: Attempt, level: str
) -> None:
    reading(
        ReadOnly("place", level=level),
        Protect(Update, condition=new.value < old.value, level=level),
    )
    move = "UPDATE reading SET day = day + 5"  # the second of three moves
    assert attempt(f"{move}, place = CASE day WHEN 5 THEN 'x' ELSE place END") is (
        ReadOnlyError
    )
    assert attempt(f"{move}, value = 2") is ProtectedError
    assert attempt(f"{move}, value = value + 1") is None


def test_move_to_another_partition_is_a_deletion_at_row_level_only(
    reading: Any, attempt: Attempt, level: str
) -> None:
    """For PostgreSQL's row triggers a move is a DELETE and an INSERT."""
    reading(Protect(Delete, level=level))
    assert attempt("UPDATE reading SET day = day + 1") is None
    moved = attempt("UPDATE reading SET day = day + 5")
    assert moved is (ProtectedError if level == "row" else None)


def test_write_to_a_partition_itself_is_refused_at_row_level_only(
    reading: Any, attempt: Attempt, level: str
) -> None:
    """The trigger of a statement is the named table's, which has none."""
    reading(Protect(Delete, level=level), ReadOnly("place", level=level))
    by_row = level == "row"
    assert attempt("UPDATE early SET place = 'x'") is (
        ReadOnlyError if by_row else None
    )
    assert attempt("DELETE FROM early") is (ProtectedError if by_row else None)


@pytest.mark.parametrize(
    ("trigger", "error"),
    [
        (ReadOnly("place", level="statement"), ReadOnlyError),
        (Protect(Update, condition=new.value < 0, level="statement"), ProtectedError),
        (Protect(Update, condition=old.value < 0, level="statement"), ProtectedError),
    ],
    ids=["both rows", "new", "old"],
)
def test_rows_that_cannot_be_paired_are_refused(
    reading: Any,
    attempt: Attempt,
    pg_session: Session,
    trigger: Any,
    error: type[RefusedError],
) -> None:
    """A trigger of a partition leaves out a row that an UPDATE moves there."""
    reading(trigger)
    for statement in (
        "CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN NULL; END $$",
        "CREATE TRIGGER leave_out BEFORE INSERT ON late FOR EACH ROW"
        " EXECUTE FUNCTION leave_out()",
    ):
        pg_session.execute(text(statement))
    pg_session.commit()
    assert attempt("UPDATE reading SET value = 0") is None
    assert attempt("UPDATE reading SET day = day + 5") is error


def test_joined_tables_are_protected_each_by_its_own(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_session: Session,
    attempt: Attempt,
    level: str,
) -> None:
    @attach(ReadOnly("name", level=level))
    class Person(base):  # type: ignore[misc, valid-type]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        name: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    @attach(
        ReadOnly("badge", level=level),
        Protect(Delete, condition=old.badge == "gold", level=level),
    )
    class Guard(Person):
        __tablename__ = "guard"
        id: Mapped[int] = mapped_column(ForeignKey(Person.id), primary_key=True)
        badge: Mapped[str]
        note: Mapped[str] = mapped_column(default="")
        __mapper_args__ = {"polymorphic_identity": "guard"}

    create_all()
    guard = Guard(id=1, name="a", badge="gold")
    pg_session.add(guard)
    pg_session.commit()
    for attribute in ("name", "badge"):
        setattr(guard, attribute, "x")
        with pytest.raises(ReadOnlyError):
            pg_session.commit()
        pg_session.rollback()
    pg_session.delete(guard)
    with pytest.raises(ProtectedError):
        pg_session.commit()
    pg_session.rollback()
    guard.note = "x"
    pg_session.commit()


def test_single_table_is_protected_with_the_columns_of_its_subclasses(
    base: type[DeclarativeBase], create_all: CreateAll, attempt: Attempt, level: str
) -> None:
    class Animal(base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class Dog(Animal):
        tag: Mapped[str | None]
        __mapper_args__ = {"polymorphic_identity": "dog"}

    class Cat(Animal):
        lives: Mapped[int | None]
        __mapper_args__ = {"polymorphic_identity": "cat"}

    attach(
        ReadOnly("tag", level=level),
        Protect(Delete, condition=(old.kind == "cat") & (old.lives > 0), level=level),
    )(Animal)
    create_all()
    assert attempt(insert(Dog).values(id=1, kind="dog", tag="rex")) is None
    assert attempt(insert(Cat).values(id=2, kind="cat", lives=9)) is None
    assert attempt(update(Dog).values(tag="max")) is ReadOnlyError
    assert attempt(delete(Animal)) is ProtectedError
    assert attempt(update(Cat).values(lives=0)) is None
    assert attempt(delete(Animal)) is None


def test_everything_is_read_only_also_what_a_subclass_adds_later(
    base: type[DeclarativeBase], create_all: CreateAll, attempt: Attempt, level: str
) -> None:
    @attach(ReadOnly(level=level))
    class Animal(base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class Dog(Animal):
        tag: Mapped[str | None]
        __mapper_args__ = {"polymorphic_identity": "dog"}

    create_all()
    assert attempt(insert(Dog).values(id=1, kind="dog", tag="rex")) is None
    assert attempt(update(Dog).values(tag="max")) is ReadOnlyError


def test_core_table_is_protected(
    base: type[DeclarativeBase], create_all: CreateAll, attempt: Attempt, level: str
) -> None:
    """It needs no key, and columns go by the key they have in the table."""
    ledger = Table(
        "ledger",
        base.metadata,
        Column("amount", Integer, key="cents"),
        Column("note", String),
    )
    decorated = attach(
        Protect(Delete, condition=old.cents > 0, level=level),
        ReadOnly("cents", level=level),
    )(ledger)
    assert decorated is ledger
    create_all()
    assert attempt(insert(ledger), [{"cents": 1}, {"cents": 0}]) is None
    assert attempt(update(ledger).values(cents=2)) is ReadOnlyError
    assert attempt(update(ledger).values(note="x")) is None
    assert attempt(delete(ledger)) is ProtectedError
    assert attempt(delete(ledger).where(ledger.c.cents == 0)) is None


# HistoryMixin.__triggers__


def test_mixin_protects_subclasses_unless_they_say_otherwise(
    base: type[DeclarativeBase], create_all: CreateAll, attempt: Attempt, level: str
) -> None:
    class Kept(HistoryMixin):
        __history__ = None
        __triggers__ = (Protect(Delete, level=level),)

        @declared_attr
        def id(cls) -> Mapped[int]:
            return mapped_column(primary_key=True)

    class Plain(Kept, base):  # type: ignore[misc, valid-type]
        __tablename__ = "plain"

    class Other(Kept, base):  # type: ignore[misc, valid-type]
        __tablename__ = "other"
        __triggers__ = (Protect(Update, level=level),)

    class More(Kept, base):  # type: ignore[misc, valid-type]
        __tablename__ = "more"
        __triggers__ = [*Kept.__triggers__, Protect(Update, level=level)]

    class Free(Kept, base):  # type: ignore[misc, valid-type]
        __tablename__ = "free"
        __triggers__ = ()

    create_all()
    found = {}
    for model in (Plain, Other, More, Free):
        assert attempt(insert(model).values(id=1)) is None
        refused = [
            name
            for name, statement in (
                ("update", update(model).values(id=2)),
                ("delete", delete(model)),
            )
            if attempt(statement) is ProtectedError
        ]
        found[model.__name__] = refused
    assert found == {
        "Plain": ["delete"],
        "Other": ["update"],
        "More": ["update", "delete"],
        "Free": [],
    }


def test_mixin_gives_a_joined_table_the_triggers_that_it_has_columns_for(
    base: type[DeclarativeBase], create_all: CreateAll, attempt: Attempt
) -> None:
    class Person(HistoryMixin, base):  # type: ignore[misc, valid-type]
        __tablename__ = "person"
        __history__ = None
        __triggers__ = (Protect(Delete), ReadOnly("kind"), Versioned("version"))
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        version: Mapped[int] = mapped_column(server_default="1")
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    class Guard(Person):
        __tablename__ = "guard"
        id: Mapped[int] = mapped_column(ForeignKey(Person.id), primary_key=True)
        badge: Mapped[int]
        __mapper_args__ = {"polymorphic_identity": "guard"}

    create_all()
    assert attempt("INSERT INTO person (id, kind) VALUES (1, 'guard')") is None
    assert attempt("INSERT INTO guard (id, badge) VALUES (1, 7)") is None
    assert attempt("UPDATE guard SET badge = 8") is None
    assert attempt("DELETE FROM guard") is ProtectedError
    assert attempt("UPDATE person SET kind = 'person'") is ReadOnlyError


def test_mixin_protects_joined_tables_and_shared_ones_once(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_engine: Engine,
    attempt: Attempt,
    level: str,
) -> None:
    class Person(HistoryMixin, base):  # type: ignore[misc, valid-type]
        __tablename__ = "person"
        __triggers__ = (Protect(Delete, level=level),)
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    class Guard(Person):
        __tablename__ = "guard"
        id: Mapped[int] = mapped_column(ForeignKey(Person.id), primary_key=True)
        __mapper_args__ = {"polymorphic_identity": "guard"}

    class Guest(Person):
        __mapper_args__ = {"polymorphic_identity": "guest"}

    create_all()
    with Session(pg_engine) as session:
        session.add_all([Guard(id=1), Guest(id=2)])
        session.commit()
    assert attempt("DELETE FROM guard") is ProtectedError
    assert attempt("DELETE FROM person WHERE id = 2") is ProtectedError
    assert Guest.events is not None


# With tracking


def test_refused_change_leaves_no_event_and_no_context(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    attempt: Attempt,
    pg_session: Session,
    recorded: Recorded,
    level: str,
) -> None:
    for order in ("attached first", "tracked first"):
        decorators = [
            attach(Protect(Delete, level=level), ReadOnly("owner", level=level)),
            track(Snapshot, AfterDelete, level=level),
        ]
        name = order.split()[0]
        model = type(
            name.title(),
            (base,),
            {
                "__tablename__": name,
                "id": mapped_column(Integer, primary_key=True),
                "owner": mapped_column(String),
            },
        )
        for decorator in decorators if order == "attached first" else decorators[::-1]:
            decorator(model)
        create_all()
        with history.context(pg_session, user=1):
            assert attempt(insert(model).values(id=1, owner="ann")) is None
        with history.context(pg_session, user=2):
            assert attempt(update(model).values(owner="x")) is ReadOnlyError
            assert attempt(delete(model)) is ProtectedError
            assert attempt(f"TRUNCATE {name}") is ProtectedError
        assert recorded(model, "id", "owner") == [
            ("snapshot", "I", 1, "ann", {"user": 1})
        ]
    count = text("SELECT count(*) FROM pghistory_context")
    assert pg_session.scalar(count) == 2


def test_change_that_is_refused_in_the_end_leaves_no_event(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    @attach(Protect(Delete, deferrable="deferred"))
    @track(Snapshot, AfterDelete)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    pg_session.add(Account(id=1))
    pg_session.commit()
    pg_session.execute(delete(Account))
    count = select(func.count()).select_from(Account.events.table)
    assert pg_session.scalar(count) == 2
    with pytest.raises(ProtectedError):
        pg_session.commit()
    assert recorded(Account, "id") == [("snapshot", "I", 1, None)]


# Coming and going with the table


def test_drop_all_leaves_no_function_and_create_all_can_be_repeated(
    account: Account,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    fill: Fill,
    attempt: Attempt,
    level: str,
) -> None:
    account(
        Protect(Insert | Update, condition=new.balance < 0, level=level),
        Protect(Delete, level=level),
        ReadOnly("owner", level=level),
        FSM("balance", transitions=[(0, 1)], initial=[0], level=level),
    )

    def names() -> list[str]:
        with pg_engine.connect() as connection:
            sql = (
                "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal UNION ALL"
                " SELECT 'function ' || proname FROM pg_proc"
                " WHERE pronamespace = 'public'::regnamespace ORDER BY 1"
            )
            return list(connection.scalars(text(sql)))

    made = [
        "account_fsm_balance_insert",
        "account_fsm_balance_update",
        "account_protect_delete",
        "account_protect_delete_truncate",
        "account_protect_insert_update_insert",
        "account_protect_insert_update_update",
        "account_read_only",
        "function account_fsm_balance",
        "function account_protect_delete",
        "function account_protect_insert_update",
        "function account_read_only",
    ]
    assert names() == made
    base.metadata.create_all(pg_engine)
    assert names() == made
    base.metadata.create_all(pg_engine, checkfirst=True)
    fill(THREE)
    assert attempt("DELETE FROM account") is ProtectedError
    base.metadata.drop_all(pg_engine)
    assert names() == []
    base.metadata.drop_all(pg_engine)
    base.metadata.create_all(pg_engine)
    assert names() == made


def test_refusal_works_after_the_table_is_renamed_in_the_database(
    account: Account, fill: Fill, attempt: Attempt, level: str
) -> None:
    account(Protect(Delete, level=level), ReadOnly("owner", level=level))
    fill(THREE)
    assert attempt("ALTER TABLE account RENAME TO renamed") is None
    assert attempt("DELETE FROM renamed") is ProtectedError
    assert attempt("UPDATE renamed SET owner = 'x'") is ReadOnlyError


# Whose names are meant


@pytest.fixture
def clerk(account: Account, fill: Fill, pg_session: Session, level: str) -> Session:
    """A session of a role that may change accounts, and nothing else.

    It has a schema with objects that are to be taken for those of PostgreSQL, in a
    transaction that is rolled back at the end: roles are of the cluster.
    """
    account(
        Protect(Insert, condition=new.balance < 0, level=level),
        Protect(Delete, condition=old.owner == "bob", level=level),
        ReadOnly("owner", level=level),
        FSM(
            "balance",
            transitions=[(0, 10), (None, 10)],
            initial=[-1, 0, 1],
            level=level,
        ),
    )
    fill(THREE)
    statements = [
        "CREATE ROLE the_clerk",
        "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON account TO the_clerk",
        "CREATE SCHEMA hers AUTHORIZATION the_clerk",
        "SET LOCAL ROLE the_clerk",
        "CREATE FUNCTION hers.now() RETURNS timestamptz LANGUAGE sql"
        " AS $$ SELECT 'epoch'::timestamptz $$",
        "CREATE FUNCTION hers.current_setting(text, boolean) RETURNS text"
        """ LANGUAGE sql AS $$ SELECT '["*:read_only"]' $$""",
        "CREATE FUNCTION hers.has(jsonb, text[]) RETURNS boolean LANGUAGE sql"
        " AS $$ SELECT true $$",
        "CREATE OPERATOR hers.?| (LEFTARG = jsonb, RIGHTARG = text[],"
        " FUNCTION = hers.has)",
        "CREATE DOMAIN hers.text AS integer",
    ]
    for type_ in ("integer", "pg_catalog.text", "name", "bigint", "record", "boolean"):
        for name, operator, result in (
            ("same", "=", True),
            ("other", "<>", False),
            ("less", "<", False),
            ("greater", ">", False),
            ("image", "*<>", False),
        ):
            statements += [
                f"CREATE FUNCTION hers.{name}({type_}, {type_}) RETURNS boolean"
                f" LANGUAGE plpgsql AS $$ BEGIN RETURN {result}; END $$",
                f"CREATE OPERATOR hers.{operator} (LEFTARG = {type_},"
                f" RIGHTARG = {type_}, FUNCTION = hers.{name})",
            ]
    for statement in statements:
        pg_session.execute(text(statement.replace(":", "\\:")))
    return pg_session


CHANGES = [
    ("INSERT INTO public.account VALUES (4, 'dan', -1)", ProtectedError, "such a row"),
    ("DELETE FROM public.account", ProtectedError, "such a row is protected"),
    ("TRUNCATE public.account", ProtectedError, "such a row is protected"),
    ("UPDATE public.account SET owner = 'x'", ReadOnlyError, "owner may only be read"),
    (
        "UPDATE public.account SET balance = 5",
        TransitionError,
        "may not go from 0 to 5",
    ),
    ("INSERT INTO public.account VALUES (4, '', 5)", TransitionError, "not begin as 5"),
]


@pytest.mark.parametrize("path", ["hers, pg_catalog, public", "hers, public", "''"])
def test_objects_of_the_caller_are_not_taken_for_those_of_postgresql(
    clerk: Session, path: str
) -> None:
    clerk.execute(text(f"SET LOCAL search_path = {path}"))
    if path.startswith("hers, pg_catalog"):
        assert clerk.scalar(text("SELECT 1 = 2 AND NOT 1 <> 2 AND now() = 'epoch'"))
    for table in ("old_rows", "new_rows", "account"):
        clerk.execute(text(f"CREATE TEMPORARY TABLE {table} ()"))
    for statement, error, message in CHANGES:
        with pytest.raises(error, match=message), clerk.begin_nested():
            clerk.execute(text(statement))
    clerk.execute(text("INSERT INTO public.account VALUES (4, 'dan', 1)"))
    clerk.execute(text("UPDATE public.account SET balance = 10 WHERE balance IS NULL"))


def test_a_role_needs_no_right_but_to_write_the_table(clerk: Session) -> None:
    for statement in (
        "RESET ROLE",
        "REVOKE SELECT ON account FROM the_clerk",
        "SET LOCAL ROLE the_clerk",
    ):
        clerk.execute(text(statement))
    for statement, error, message in CHANGES:
        with pytest.raises(error, match=message), clerk.begin_nested():
            clerk.execute(text(statement))
    clerk.execute(text("INSERT INTO account VALUES (4, 'dan', 1)"))


def test_rows_that_a_role_does_not_see_are_protected_from_its_truncate(
    clerk: Session,
) -> None:
    for statement in (
        "RESET ROLE",
        "ALTER TABLE account ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY of_ann ON account USING (owner = 'ann')",
        "SET LOCAL ROLE the_clerk",
    ):
        clerk.execute(text(statement))
    assert clerk.scalar(text("SELECT count(*) FROM account")) == 1
    with pytest.raises(ProtectedError), clerk.begin_nested():
        clerk.execute(text("TRUNCATE account"))
    clerk.execute(text("UPDATE account SET balance = 10"))
