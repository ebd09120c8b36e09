"""A trigger that does not fit its table is an error when the class is made."""

from __future__ import annotations

import datetime
import enum
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, literal, select, text
from sqlalchemy.orm import DeclarativeBase

from sa_history import (
    FSM,
    AnyChange,
    Audit,
    Delete,
    Insert,
    Protect,
    ReadOnly,
    SoftDelete,
    Touch,
    Trigger,
    Truncate,
    Update,
    UpdateOf,
    Versioned,
    attach,
    audit_table,
    new,
    old,
)
from sa_history.exc import ConditionError, DefinitionError
from tests.triggers.mistakes.helpers import WAY, Status, kind_of


class Other(enum.Enum):
    DRAFT = "draft"


ATTRIBUTES = "it has id, title, status, kind, size, is_active, deleted_at, data, loud"


@pytest.mark.parametrize(
    ("trigger", "owner", "wrong"),
    [
        (Protect(UpdateOf("titel")), "UpdateOf", "titel"),
        (Protect(UpdateOf("titel") | Delete), "UpdateOf", "titel"),
        (ReadOnly("id", "titel"), "ReadOnly", "titel"),
        (ReadOnly(exclude=["titel"]), "ReadOnly", "titel"),
        (FSM("titel", transitions=WAY), "FSM", "titel"),
        (SoftDelete("titel", value="x"), "SoftDelete", "titel"),
        (Versioned("titel"), "Versioned", "titel"),
        (Touch("titel"), "Touch", "titel"),
        (
            Trigger("t", "before", Update, body="RETURN NEW;", writes=["titel"]),
            "Trigger('t')",
            "titel",
        ),
    ],
    ids=kind_of,
)
def test_a_column_that_is_not_there(
    make: Any, trigger: Any, owner: str, wrong: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        make(trigger)
    assert str(caught.value).startswith(
        f"Thing: {owner} names {wrong!r}, which is not a column attribute; did you "
        f"mean 'title'? {ATTRIBUTES}"
    )


@pytest.mark.parametrize(
    "kind",
    [
        lambda **options: Protect(Update, **options),
        lambda **options: ReadOnly("id", **options),
        lambda **options: FSM("title", transitions=WAY, **options),
        lambda **options: SoftDelete("is_active", **options),
        lambda **options: Touch("deleted_at", **options),
        lambda **options: Trigger("t", "after", Update, body="RETURN NULL;", **options),
    ],
    ids=["protect", "read-only", "fsm", "soft delete", "touch", "trigger"],
)
def test_a_condition_over_a_column_that_is_not_there(make: Any, kind: Any) -> None:
    message = "no column attribute 'titel' for old.titel; did you mean 'title'?"
    with pytest.raises(ConditionError, match=message) as caught:
        make(kind(condition=old.titel == "x"))
    assert str(caught.value).startswith("Thing: trigger '")
    with pytest.raises(DefinitionError, match="got the string 'x' as its condition"):
        kind(condition="x")


@pytest.mark.parametrize("level", ["statement", "row"])
@pytest.mark.parametrize(
    ("operation", "condition", "message"),
    [
        (Insert, old.size > 1, "INSERT uses old.size, but there is no old row"),
        (Insert, AnyChange(), "INSERT uses old.id, but there is no old row"),
        (Insert | Update, old.size > 1, "INSERT uses old.size"),
        (Insert, lambda old, new: old.size > 1, "INSERT uses old.size"),
        (Delete, new.size > 1, "DELETE uses new.size, but there is no new row"),
        (Update | Delete, new.size > 1, "DELETE uses new.size"),
        (Truncate, new.size > 1, "TRUNCATE uses new.size"),
    ],
)
def test_a_condition_over_a_row_that_is_not_there(
    make: Any, level: str, operation: Any, condition: Any, message: str
) -> None:
    with pytest.raises(ConditionError, match=message):
        make(Protect(operation, condition=condition, level=level))


def test_a_condition_over_old_for_a_first_state(make: Any) -> None:
    machine = FSM("title", transitions=WAY, initial=["draft"], condition=old.size > 1)
    with pytest.raises(ConditionError, match="INSERT uses old.size"):
        make(machine)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (5, "a condition is an expression over old and new"),
        (lambda old, new: None, "a function of old and new that returns one"),
        (text("NEW.size = :x"), "the parameter :x has no value"),
        (new.size == select(literal(1)).scalar_subquery(), "it has a subquery"),
        (new.size == object(), "cannot be written as SQL"),
        (new.half > 1, "the generated column 'half' is not stored"),
    ],
)
def test_a_condition_that_does_not_fit(make: Any, condition: Any, message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        make(Protect(Update, condition=condition))


@pytest.mark.parametrize(
    "trigger",
    [
        Protect(Update, condition=new.area > 1),
        ReadOnly("area"),
        ReadOnly("id", condition=new.area > 1),
        FSM("area", transitions=[(1, 2)]),
    ],
    ids=kind_of,
)
def test_a_generated_column_before_it_has_a_value(make: Any, trigger: Any) -> None:
    with pytest.raises(ConditionError, match="new.area is generated, and has no value"):
        make(trigger)


def test_to_exclude_all_columns_is_refused(base: type[DeclarativeBase]) -> None:
    table = Table("pair", base.metadata, Column("a", Text), Column("b", Text))
    with pytest.raises(DefinitionError, match="pair: .*ReadOnly excludes every column"):
        attach(ReadOnly(exclude=["a", "b"]))(table)


@pytest.mark.parametrize(
    ("column", "state", "reason"),
    [
        ("title", 5, "its values are of type str"),
        ("title", b"x", "its values are of type str"),
        ("title", Status.DRAFT, "its values are of type str"),
        ("title", "archived", "it has 5 characters at most"),
        ("title", "a\0", "PostgreSQL text cannot contain NUL"),
        ("title", "\udc80", "half of a surrogate pair"),
        ("title", None, "is not nullable, so it cannot be None"),
        ("status", "draft", r"it has <Status.DRAFT: 'draft'>, <Status.DONE: 'done'>"),
        ("status", Other.DRAFT, "it has <Status.DRAFT: 'draft'>"),
        ("status", 1, "it has <Status.DRAFT: 'draft'>"),
        ("kind", "c", "it has 'a', 'b'"),
        ("kind", Status.DRAFT, "it has 'a', 'b'"),
        ("size", "1", "its values are of type int"),
        ("size", True, "its values are of type int"),
        ("size", 1.0, "its values are of type int"),
        ("is_active", 1, "its values are of type bool"),
        ("is_active", "true", "its values are of type bool"),
        ("deleted_at", "2020-01-01", "its values are of type datetime"),
        ("deleted_at", datetime.date(2020, 1, 1), "its values are of type datetime"),
        ("data", {"a": {1}}, "Object of type set is not JSON serializable"),
        ("data", {"a": "\0"}, "PostgreSQL's JSON cannot contain NUL"),
        ("loud", 5, "'int' object has no attribute 'upper'"),
        ("place", 5, "its values are of type str"),
        ("place", "nowhere", "it has 4 characters at most"),
    ],
)
def test_a_value_that_the_column_cannot_hold(
    make: Any, column: str, state: Any, reason: str
) -> None:
    for trigger in (
        FSM(column, transitions=[(state, state)]),
        FSM(column, transitions=[(state, state)], initial=[state], level="statement"),
        SoftDelete(column, value=state),
    ):
        with pytest.raises(DefinitionError) as caught:
            make(trigger)
        message = str(caught.value)
        assert message.startswith(
            f"Thing: trigger '{trigger.given_name}': the column {column!r} "
        )
        assert reason in message


def test_a_first_state_that_the_column_cannot_hold(make: Any) -> None:
    machine = FSM("kind", transitions=[("a", "b")], initial=["a", "c"])
    with pytest.raises(DefinitionError, match="'kind' cannot be 'c': it has 'a', 'b'"):
        make(machine)


@pytest.mark.parametrize(
    ("trigger", "message"),
    [
        (Versioned("title"), "'versioned': Versioned counts in an integer column"),
        (Versioned("is_active"), "Versioned counts in an integer column"),
        (Versioned("area"), "'area' is generated"),
        (Touch("title"), "'touch_title': Touch sets a time, and 'title' is String"),
        (SoftDelete("id", value=1), "'id' is of the primary key"),
        (Audit(into=audit_table("log", MetaData()), exclude=["nope"]), "names 'nope'"),
    ],
    ids=kind_of,
)
def test_a_column_that_the_trigger_cannot_have(
    make: Any, trigger: Any, message: str
) -> None:
    with pytest.raises(DefinitionError, match=message) as caught:
        make(trigger)
    assert str(caught.value).startswith("Thing: trigger '")


def test_a_column_that_statements_are_paired_by(base: type[DeclarativeBase]) -> None:
    table = Table("t", base.metadata, Column("other", Integer), Column("pgh_row", Text))
    for trigger in (
        ReadOnly("other", level="statement"),
        Protect(Update, level="statement"),
        FSM("other", transitions=[(1, 2)], level="statement"),
    ):
        with pytest.raises(DefinitionError, match="has a column 'pgh_row'.*rename it"):
            attach(trigger)(table)
    attach(ReadOnly("pgh_row"), Protect(Insert | Delete, level="statement"))(table)


@pytest.mark.parametrize("deferrable", ["deferred", "immediate"])
def test_an_update_of_a_partitioned_table_is_not_refused_later(
    base: type[DeclarativeBase], deferrable: Any
) -> None:
    """A move to another partition would fire none of these."""
    by = {"postgresql_partition_by": "LIST (place)"}
    table = Table("t", base.metadata, Column("place", Text), Column("x", Text), **by)
    for trigger in (
        ReadOnly("x", deferrable=deferrable),
        Protect(Update | Insert, deferrable=deferrable),
        FSM("x", transitions=WAY, deferrable=deferrable),
    ):
        with pytest.raises(DefinitionError, match="'t' is partitioned.*deferrable out"):
            attach(trigger)(table)
    attach(Protect(Insert | Delete, deferrable=deferrable))(table)
