"""Refusing triggers are created, dropped and renamed with their table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase

from sa_history import FSM, Delete, Insert, Protect, ReadOnly, Update, new
from sa_history.exc import ProtectedError, ReadOnlyError, RefusedError
from tests.triggers.refusing.helpers import THREE

Account = Callable[..., Any]
Attempt = Callable[..., "type[RefusedError] | None"]
Fill = Callable[..., None]


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
