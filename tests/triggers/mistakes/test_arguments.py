"""Arguments and names that no table could fit are errors at once."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, MetaData, Table, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase

from sa_history import (
    FSM,
    Audit,
    Delete,
    Protect,
    ReadOnly,
    Referencing,
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
)
from sa_history.exc import DefinitionError
from tests.triggers.mistakes.helpers import WAY


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        (lambda: Protect("delete"), "Protect takes operations such as Update"),
        (lambda: Protect(Protect), "Protect takes operations .* got <class"),
        (lambda: Protect(None), "Protect takes operations"),
        (lambda: UpdateOf(), r"UpdateOf takes attribute names, got \(\)"),
        (lambda: UpdateOf(5), "UpdateOf takes attribute names"),
        (lambda: UpdateOf(["size"]), "UpdateOf takes attribute names"),
        (
            lambda: Protect(UpdateOf("size"), level="statement"),
            "UpdateOf needs the level row; use Update with a condition",
        ),
        (lambda: Protect(Delete, level="rows"), "Protect: level is .* got 'rows'"),
        (lambda: Protect(Delete, level=None), "level is .* got None"),
        (
            lambda: SoftDelete("x", level="statement"),
            'SoftDelete runs once for each row, so its level is "row", got \'statement',
        ),
        (lambda: Versioned("x", level="statement"), 'Versioned .* level is "row"'),
        (lambda: Touch("x", level="statement"), 'Touch .* level is "row"'),
        (
            lambda: Trigger("t", "before", Truncate, body="RETURN NULL;"),
            'TRUNCATE has no rows; give level="statement"',
        ),
        (
            lambda: Protect(Delete, deferrable="deferred", level="statement"),
            "only a trigger of level row is deferrable",
        ),
        (lambda: ReadOnly(deferrable=True), "deferrable is .* got True"),
        (lambda: Protect(Delete, deferrable="DEFERRED"), "got 'DEFERRED'"),
        (lambda: Protect(Delete, hint=5), "Protect: hint is a text, got 5"),
        (lambda: Protect(Delete, hint="a\0"), "cannot contain NUL, got the hint"),
        (lambda: Protect(Delete, search_path="a"), r"got 'a'; write \['a'\]"),
        (lambda: FSM("x", transitions=WAY, search_path=[5]), "FSM: search_path"),
        (lambda: ReadOnly(["id"]), "ReadOnly: columns is a list of names"),
        (lambda: ReadOnly(exclude="id"), r"ReadOnly: exclude .* write \['id'\]"),
        (lambda: ReadOnly("id", exclude=["x"]), "got both columns and exclude"),
        (lambda: FSM(5, transitions=WAY), "FSM takes the name of an attribute, got 5"),
        (lambda: FSM("x", transitions=[]), r"pairs of states, such as .*, got \(\)"),
        (lambda: FSM("x", transitions=None), "transitions holds lists .* got None"),
        (lambda: FSM("x", transitions="ab"), "transitions holds lists .* got 'ab'"),
        (lambda: FSM("x", transitions=["ab"]), "transitions holds lists .* got 'ab'"),
        (lambda: FSM("x", transitions={"a": ["b"]}), "transitions holds lists of"),
        (lambda: FSM("x", transitions=[("a",)]), "transitions are pairs of states"),
        (lambda: FSM("x", transitions=[(1, 2, 3)]), "transitions are pairs of states"),
        (lambda: FSM("x", transitions=[5]), "transitions holds lists .* got 5"),
        (lambda: FSM("x", transitions=WAY, initial=[]), "no row could be inserted"),
        (lambda: FSM("x", transitions=WAY, initial="draft"), "initial holds lists"),
        (lambda: Versioned("x", condition=new.x > 1), "Versioned takes no condition"),
        (lambda: Touch("x", value="now()"), "Touch: value is an SQL expression"),
        (lambda: Touch("x", value=func.now), "Touch: value is an SQL expression"),
        (lambda: Touch("x", operation=Delete), "operation is Update, Insert or"),
        (lambda: Touch("x", operation=UpdateOf("y")), "operation is Update, Insert or"),
        (
            lambda: Trigger("t", "during", Update, body="RETURN NULL;"),
            'when is "before", "after" or "instead of", got \'during\'',
        ),
        (lambda: Trigger("t", "after", "update", body="x"), "takes operations such as"),
        (lambda: Trigger("t", "after", Update, body=" "), "body is PL/pgSQL, got ' '"),
        (
            lambda: Trigger(
                "t", "before", Update, body="x", referencing=Referencing(new="n")
            ),
            'transition tables need when="after"',
        ),
        (
            lambda: Trigger("t", "before", Update, body="x", deferrable="deferred"),
            'only a trigger with when="after" and level="row" is deferrable',
        ),
        (
            lambda: Trigger("t", "after", Update, body="x", writes=["y"]),
            'writes is for when="before" and level="row"',
        ),
        (
            lambda: Trigger(
                "t", "after", Update, body="x", level="statement", condition=new.x > 1
            ),
            "at statement level there is no old or new row",
        ),
        (lambda: Audit(into="audit_log"), "into is a table or a mapped class"),
        (
            lambda: Audit(into=Table("log", MetaData(), Column("key", JSONB))),
            "'log' has no column operation, table_name, old_row, new_row",
        ),
        (
            lambda: Audit(into=audit_table("a", MetaData()), operation=UpdateOf("x")),
            "Audit takes no UpdateOf",
        ),
    ],
)
def test_arguments_that_a_trigger_does_not_take_are_refused(
    definition: Any, message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):
        definition()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "needs a name, got ''"),
        (None, "needs a name, got None"),
        (5, "needs a name, got 5"),
        ("n" * 64, "has 64 bytes, and PostgreSQL's limit is 63; give a shorter"),
        ("ü" * 32, "has 64 bytes, and PostgreSQL's limit is 63; give a shorter"),
        ("a\0", "names cannot contain NUL"),
    ],
)
@pytest.mark.parametrize(
    "kind",
    [
        lambda **options: Protect(Delete, **options),
        lambda **options: ReadOnly("id", **options),
        lambda **options: FSM("title", transitions=WAY, **options),
        lambda **options: SoftDelete("is_active", **options),
        lambda **options: Versioned("size", **options),
        lambda **options: Touch("deleted_at", **options),
        lambda **options: Audit(into=audit_table("log", MetaData()), **options),
        lambda name: Trigger(name, "after", Update, body="RETURN NULL;"),
    ],
    ids=[
        "protect",
        "read-only",
        "fsm",
        "soft delete",
        "versioned",
        "touch",
        "audit",
        "trigger",
    ],
)
def test_a_name_that_cannot_be(kind: Any, name: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        kind(name=name)


def test_a_name_of_63_bytes_can_be(make: Any) -> None:
    make(Protect(Delete, name="n" * 63), Protect(Delete, name="寸" * 21))


def test_a_default_name_over_the_limit(base: type[DeclarativeBase]) -> None:
    table = Table("t", base.metadata, Column("s" * 60, Text))
    with pytest.raises(DefinitionError, match="has 64 bytes.*give a shorter name=..."):
        FSM("s" * 60, transitions=WAY)
    attach(FSM("s" * 60, transitions=WAY, name="machine"))(table)


def test_operations_are_combined_with_operations_only() -> None:
    with pytest.raises(TypeError):
        Update | "delete"  # type: ignore[operator]
