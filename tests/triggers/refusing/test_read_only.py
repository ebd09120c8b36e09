"""ReadOnly: which changes of which columns it refuses."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Column,
    Computed,
    Integer,
    Numeric,
    Table,
    Text,
    TypeDecorator,
    delete,
    func,
    insert,
    text,
    types,
    update,
)
from sqlalchemy.dialects.postgresql import CITEXT, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import (
    Delete,
    Protect,
    ReadOnly,
    Touch,
    Update,
    UpdateOf,
    attach,
    new,
    old,
)
from sa_history.exc import ProtectedError, ReadOnlyError, RefusedError
from tests.triggers.refusing.helpers import ROWS, THREE

Account = Callable[..., Any]
Attempt = Callable[..., "type[RefusedError] | None"]
CreateAll = Callable[[], None]
Fill = Callable[..., None]
Rows = Callable[[Any], list[tuple[Any, ...]]]


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
