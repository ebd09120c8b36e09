"""What the errors of refusals say, with each driver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import URL, NullPool, create_engine, func, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from sa_history import FSM, Delete, Insert, Protect, ReadOnly, old
from sa_history.exc import HistoryError, ProtectedError, ReadOnlyError, RefusedError
from tests.triggers.refusing.helpers import THREE

Account = Callable[..., Any]
Fill = Callable[..., None]

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
    assert error.hint == HINT
    assert str(error).count(HINT) == 1


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
