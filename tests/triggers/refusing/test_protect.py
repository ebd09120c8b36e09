"""Protect: which operations it refuses, of which rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from sa_history import (
    AnyChange,
    Delete,
    Insert,
    Protect,
    ReadOnly,
    Truncate,
    Update,
    UpdateOf,
    new,
    old,
)
from sa_history.exc import ProtectedError, ReadOnlyError, RefusedError
from tests.triggers.refusing.helpers import ROWS, THREE

Account = Callable[..., Any]
Attempt = Callable[..., "type[RefusedError] | None"]
Fill = Callable[..., None]
Rows = Callable[[Any], list[tuple[Any, ...]]]

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
