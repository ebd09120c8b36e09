"""Which operations and which rows are logged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, text, update
from sqlalchemy.orm import Session

from sa_history import AnyChange, Delete, Insert, Truncate, Update, new, old
from tests.triggers.audit.helpers import row

Logged = Callable[..., list[Any]]
CreateAll = Callable[[], None]


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (Insert, ["INSERT"]),
        (Update, ["UPDATE"]),
        (Delete, ["DELETE", "TRUNCATE"]),
        (Truncate, ["TRUNCATE"]),
        (Insert | Update, ["INSERT", "UPDATE"]),
        (Update | Delete, ["UPDATE", "DELETE", "TRUNCATE"]),
    ],
    ids=repr,
)
def test_only_the_chosen_operations_are_logged(
    operation: Any,
    expected: list[str],
    make: Callable[..., Any],
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    account = make(operation=operation)
    create_all()
    pg_session.add_all(account(id=n, owner="ann", balance=1) for n in (1, 2))
    pg_session.flush()
    pg_session.execute(update(account).where(account.id == 1).values(balance=2))
    pg_session.execute(delete(account).where(account.id == 1))
    pg_session.execute(text("TRUNCATE account"))
    pg_session.commit()
    assert list(dict.fromkeys(logged("operation"))) == expected


@pytest.mark.parametrize(
    "condition",
    [
        new.balance < 0,
        lambda old, new: new.balance < 0,
        text("NEW.balance < 0"),
        text("NEW.balance < 0 -- overdrawn"),
    ],
    ids=["expression", "function", "text", "text with a comment"],
)
def test_condition_says_which_rows(
    condition: Any,
    make: Callable[..., Any],
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    account = make(operation=Insert | Update, condition=condition)
    create_all()
    pg_session.add_all(account(id=n, owner="ann", balance=n) for n in (-1, 1))
    pg_session.flush()
    pg_session.execute(update(account).values(balance=account.balance - 1))
    pg_session.execute(update(account).values(owner="ann"))  # changes nothing
    pg_session.execute(delete(account))
    pg_session.commit()
    assert logged() == [
        ("INSERT", {"id": -1}, None, row(-1, -1)),
        ("UPDATE", {"id": -1}, row(-1, -1), row(-1, -2)),
    ]


def test_condition_may_look_at_a_column_that_is_left_out(
    make: Callable[..., Any],
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    account = make(
        operation=Update,
        columns=["owner"],
        condition=(old.balance > 0) & AnyChange("owner"),
    )
    create_all()
    pg_session.add_all(account(id=n, owner="ann", balance=n) for n in (0, 1))
    pg_session.flush()
    pg_session.execute(update(account).values(owner="bob"))
    pg_session.commit()
    ann, bob = {"id": 1, "owner": "ann"}, {"id": 1, "owner": "bob"}
    assert logged() == [("UPDATE", {"id": 1}, ann, bob)]
