"""Names that others have are errors, which name them."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sa_history import (
    Delete,
    HistoryMixin,
    Insert,
    Protect,
    ReadOnly,
    Update,
    attach,
    new,
    track,
)
from sa_history.exc import DefinitionError


@pytest.mark.parametrize(
    ("triggers", "message"),
    [
        ([Protect(Delete), Protect(Delete)], "'protect_delete' is used by Protect and"),
        ([ReadOnly("id"), ReadOnly("size")], "'read_only' is used by ReadOnly and"),
        (
            [Protect(Delete, name="read_only"), ReadOnly("id")],
            "'read_only' is used by Protect and ReadOnly; give one of them another",
        ),
    ],
    ids=["protect", "read-only", "both"],
)
def test_two_triggers_with_one_name_are_refused(
    make: Any, triggers: Any, message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):
        make(*triggers)
    model = make(triggers[0])
    with pytest.raises(DefinitionError, match=message):
        attach(triggers[1])(model)


def test_one_trigger_attached_twice_is_refused(make: Any) -> None:
    trigger = Protect(Delete)
    with pytest.raises(
        DefinitionError, match="'protect_delete' is used by Protect and"
    ):
        make(trigger, trigger)


def test_one_definition_serves_many_tables(make: Any) -> None:
    trigger = Protect(Delete)
    make(trigger)
    make(trigger)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("event_insert", "trigger on 'account'"),
        ("event_update", "trigger on 'account'"),
        ("event_truncate", "trigger on 'account'"),
        ("event_record", "function"),
    ],
)
@pytest.mark.parametrize("order", ["attached first", "tracked first"])
def test_a_name_that_tracking_has(
    base: type[DeclarativeBase], name: str, kind: str, order: str
) -> None:
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    decorators: list[Any] = [attach(Protect(Insert, name=name)), track()]
    first, second = decorators if order == "attached first" else decorators[::-1]
    first(Account)
    with pytest.raises(DefinitionError) as caught:
        second(Account)
    owners = [f"Account.{name}", "tracking of Account"]
    if order == "attached first":
        owners.reverse()
    assert str(caught.value) == (
        f"{owners[0]} and {owners[1]} would both have a {kind} named "
        f"'account_{name}'; rename one of them"
    )


def test_a_name_that_tracking_has_in_the_mixin(base: type[DeclarativeBase]) -> None:
    with pytest.raises(DefinitionError, match="would both have a trigger on 'account'"):

        class Account(HistoryMixin, base):  # type: ignore[misc, valid-type]
            __tablename__ = "account"
            __triggers__ = (Protect(Insert, name="event_insert"),)
            id: Mapped[int] = mapped_column(primary_key=True)


def test_two_tables_whose_triggers_have_one_function(
    base: type[DeclarativeBase],
) -> None:
    one, two, three = (
        Table(name, base.metadata, Column("id", Integer), schema=schema)
        for name, schema in (("a_b", None), ("a", None), ("a", "other"))
    )
    attach(Protect(Delete, name="c"))(one)
    message = "a.b_c and a_b.c would both have a function named 'a_b_c'; rename one"
    with pytest.raises(DefinitionError, match=message):
        attach(Protect(Delete, name="b_c"))(two)
    attach(Protect(Delete, name="b_c"))(three)  # in another schema
    base.metadata.remove(one)
    attach(Protect(Delete, name="b_c"))(two)


def test_two_triggers_of_which_one_has_parts(make: Any) -> None:
    parts = Protect(Insert | Update, condition=new.size > 1, name="guard")
    with pytest.raises(
        DefinitionError, match="trigger on 'thing' named 'thing_guard_i"
    ):
        make(parts, Protect(Delete, name="guard_insert"))


def test_two_trackings_whose_events_are_in_two_schemas(
    base: type[DeclarativeBase],
) -> None:
    """The triggers stand on one table, where one would replace the other."""
    table = Table("account", base.metadata, Column("id", Integer, primary_key=True))
    track(schema="one")(table)
    with pytest.raises(DefinitionError, match="would both have a trigger on 'account'"):
        track(schema="two", events="others")(table)


def test_two_tables_of_one_class_name_and_one_function() -> None:
    metadata = MetaData(naming_convention={"history_attached": "%(trigger_name)s"})

    def thing(name: str) -> Any:
        body = {
            "__tablename__": name,
            "id": mapped_column(Integer, primary_key=True),
        }
        base = type("Base", (DeclarativeBase,), {"metadata": metadata})
        return type("Thing", (base,), body)

    attach(Protect(Delete))(thing("one"))
    with pytest.raises(DefinitionError, match="would both have a function named"):
        attach(Protect(Delete))(thing("two"))


def test_a_definition_that_failed_can_be_made_again(
    base: type[DeclarativeBase],
) -> None:
    table = Table("t", base.metadata, Column("id", Integer), Column("x", Text))
    with pytest.raises(DefinitionError):
        attach(Protect(Delete, name="a"), ReadOnly("nope"))(table)
    attach(Protect(Delete, name="a"), ReadOnly("x"))(table)
