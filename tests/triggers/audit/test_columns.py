"""Which columns are logged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, Computed, Integer, Table, insert, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import Audit, Update, attach
from sa_history.exc import DefinitionError

Logged = Callable[..., list[Any]]
CreateAll = Callable[[], None]

SECRET = "hunter2"


@pytest.mark.parametrize(
    "options",
    [
        {"exclude": ["password"]},
        {"columns": ["name"]},
        {"columns": ["id", "name"]},
    ],
    ids=str,
)
def test_what_is_left_out_is_never_in_the_log(
    options: dict[str, Any],
    base: type[DeclarativeBase],
    log: Table,
    level: str,
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    @attach(Audit(into=log, level=level, **options))
    class User(base):  # type: ignore[misc, valid-type]
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        password: Mapped[str] = mapped_column("pass phrase")

    create_all()
    user = User(id=1, name="ann", password=SECRET)
    pg_session.add(user)
    pg_session.flush()
    user.password = f"{SECRET}!"
    pg_session.flush()
    user.name = "eve"
    pg_session.flush()
    pg_session.delete(user)
    pg_session.flush()
    pg_session.add(User(id=2, name="bob", password=SECRET))
    pg_session.flush()
    pg_session.execute(text('TRUNCATE "user"'))
    pg_session.commit()
    ann, eve, bob = (
        {"id": id_, "name": name} for id_, name in ((1, "ann"), (1, "eve"), (2, "bob"))
    )
    assert logged() == [
        ("INSERT", {"id": 1}, None, ann),
        ("UPDATE", {"id": 1}, ann, eve),  # and none where only the password changed
        ("DELETE", {"id": 1}, eve, None),
        ("INSERT", {"id": 2}, None, bob),
        ("TRUNCATE", {"id": 2}, bob, None),
    ]
    everything = pg_session.scalars(text("SELECT l::text FROM audit_log l")).all()
    assert not any(SECRET in line for line in everything)


def test_columns_that_the_model_does_not_know_are_not_in_a_list_of_columns(
    make: Callable[..., Any],
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    account = make(columns=["owner"])
    create_all()
    pg_session.execute(text(f"ALTER TABLE account ADD pin text DEFAULT '{SECRET}'"))
    pg_session.add(account(id=1, owner="ann", balance=1))
    pg_session.flush()
    pg_session.execute(update(account).values(owner="bob", balance=2))
    pg_session.commit()
    ann, bob = {"id": 1, "owner": "ann"}, {"id": 1, "owner": "bob"}
    assert logged("old_row", "new_row") == [(None, ann), (ann, bob)]


def test_key_is_logged_with_any_columns_and_so_are_its_changes(
    make: Callable[..., Any],
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    account = make(columns=["owner"], operation=Update)
    create_all()
    pg_session.add(account(id=1, owner="ann", balance=1))
    pg_session.flush()
    pg_session.execute(text("UPDATE account SET id = 5"))
    pg_session.commit()
    before, after = {"id": 1, "owner": "ann"}, {"id": 5, "owner": "ann"}
    assert logged() == [("UPDATE", {"id": 5}, before, after)]


def test_key_cannot_be_left_out(make: Callable[..., Any]) -> None:
    with pytest.raises(DefinitionError, match="leaves out 'id', which is of the pri"):
        make(exclude=["id"])


@pytest.mark.parametrize("count", [48, 49, 50, 99, 160])
def test_any_number_of_columns_can_be_chosen(
    count: int,
    base: type[DeclarativeBase],
    log: Table,
    level: str,
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    names = [f"c{number}" for number in range(count)]
    wide = Table(
        "wide",
        base.metadata,
        Column("id", Integer, primary_key=True),
        *(Column(name, Integer) for name in names),
        Column("left_out", Integer),
    )
    attach(Audit(into=log, level=level, columns=names))(wide)
    create_all()
    values = {"id": 0, **{name: n for n, name in enumerate(names)}}
    pg_session.execute(insert(wide).values(values))
    pg_session.execute(update(wide).values({names[-1]: -1, "left_out": 1}))
    pg_session.commit()
    after = {**values, names[-1]: -1}
    assert logged("old_row", "new_row") == [(None, values), (values, after)]


def test_generated_columns_are_logged_with_their_values(
    base: type[DeclarativeBase],
    log: Table,
    level: str,
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    @attach(Audit(into=log, level=level))
    class Order(base):  # type: ignore[misc, valid-type]
        __tablename__ = "order"
        id: Mapped[int] = mapped_column(primary_key=True)
        price: Mapped[int]
        double: Mapped[int] = mapped_column(Computed("price * 2", persisted=True))

    create_all()
    pg_session.execute(insert(Order).values(id=1, price=2))
    pg_session.execute(update(Order).values(price=3))
    pg_session.commit()
    before, after = (
        {"id": 1, "price": 2, "double": 4},
        {"id": 1, "price": 3, "double": 6},
    )
    assert logged("old_row", "new_row") == [(None, before), (before, after)]
