"""Definitions of views that cannot work are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    Table,
    Text,
    bindparam,
    create_mock_engine,
    literal,
    select,
    text,
    union_all,
)

from sa_history import (
    Audit,
    Delete,
    Insert,
    Operations,
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
    track,
    view,
)
from sa_history.exc import DefinitionError, DialectError


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: select(t.c.id, t.c.id + 1), r"has no name.*\.label"),
        (lambda t: select(t.c.id, text("name")), "has no name"),
        (lambda t: select(t.c.id, t.alias().c.id), "has the name of another"),
        (lambda t: select(t.c.id, t.c.name.label("id")), "has the name of another"),
        (lambda t: t, r"is a select\(...\)"),
        (lambda t: "SELECT 1", r"is a select\(...\)"),
        (lambda t: union_all(select(t.c.id), select(t.c.id)), r"is a select\(...\)"),
        (
            lambda t: select(t.c.id).where(t.c.name == bindparam("x")),
            "parameter.*x",
        ),
        (lambda t: select(t.c.id, literal(object()).label("o")), "cannot be written"),
    ],
)
def test_definitions_that_cannot_work_are_refused_at_once(
    make: Callable[[Table], Any], message: str
) -> None:
    metadata = MetaData()
    thing = Table("thing", metadata, Column("id", Integer), Column("name", Text))
    with pytest.raises(DefinitionError, match=message):
        view("made", metadata, make(thing), primary_key=["id"])
    assert view("made", metadata, select(thing.c.id), primary_key=["id"]).name == "made"


def test_the_primary_key_names_columns_of_the_view() -> None:
    metadata = MetaData()
    thing = Table("thing", metadata, Column("id", Integer), Column("name", Text))
    with pytest.raises(DefinitionError, match="names 'idd'.*did you mean 'id'"):
        view("made", metadata, select(thing.c.id), primary_key=["idd"])
    with pytest.raises(DefinitionError, match="list of names"):
        view("made", metadata, select(thing.c.id), primary_key="id")
    made = view("made", metadata, select(thing), primary_key=["name", "id"])
    assert {column.name for column in made.primary_key} == {"id", "name"}


@pytest.mark.parametrize("schema", [None, "app"])
def test_a_view_needs_a_name_of_its_own(schema: str | None) -> None:
    metadata = MetaData(schema=schema)
    thing = Table("thing", metadata, Column("id", Integer, primary_key=True))
    view("made", metadata, select(thing))
    with pytest.raises(DefinitionError, match="made'"):
        view("made", metadata, select(thing))
    with pytest.raises(DefinitionError, match="thing'"):
        view("thing", metadata, select(thing))
    view("made", metadata, select(thing), schema="elsewhere")
    view("made", MetaData(), select(thing))
    Table("made", metadata, Column("id", Integer, primary_key=True))
    engine = create_mock_engine("postgresql+psycopg://", lambda *_, **__: None)
    with pytest.raises(DefinitionError, match="has a table of this name as well"):
        metadata.create_all(engine, checkfirst=False)


def test_another_dialect_is_refused() -> None:
    metadata = MetaData()
    view("one", metadata, select(literal(1).label("n")))
    engine = create_mock_engine("sqlite://", lambda *_: None)
    for make in (metadata.create_all, metadata.drop_all):
        with pytest.raises(DialectError, match="got an engine for sqlite"):
            make(engine, checkfirst=False)


@pytest.mark.parametrize(
    ("trigger", "message"),
    [
        (Protect(Delete), "Protect needs a table"),
        (ReadOnly("email"), "ReadOnly needs a table"),
        (SoftDelete("id", value=1), "SoftDelete needs a table"),
        (Touch("email", value=literal("x")), "Touch needs a table"),
        (Versioned("id"), "Versioned needs a table"),
        (Audit(into=audit_table("log", MetaData())), "Audit needs a table"),
        (
            Trigger("x", "before", Insert, body="RETURN NEW;"),
            'give when="instead of"',
        ),
        (
            Trigger("x", "after", Insert, body="RETURN NEW;"),
            'give when="instead of"',
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_triggers_for_tables_are_refused_on_a_view(
    active: Any, trigger: Any, message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):
        attach(trigger)(active)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"operation": UpdateOf("email")}, "instead of an operation is for whole rows"),
        ({"level": "statement"}, "instead of an operation is for whole rows"),
        ({"condition": new.id > 1}, "a trigger on a view has no condition"),
        ({"operation": Truncate}, "TRUNCATE"),
    ],
)
def test_bad_triggers_for_views_are_refused_at_once(
    arguments: dict[str, Any], message: str
) -> None:
    operation: Operations = arguments.pop("operation", Update)
    with pytest.raises(DefinitionError, match=message):
        Trigger("x", "instead of", operation, body="RETURN NEW;", **arguments)


def test_an_instead_of_trigger_is_refused_on_a_table(user: Any) -> None:
    with pytest.raises(DefinitionError, match="runs on a view only"):
        attach(Trigger("x", "instead of", Insert, body="RETURN NEW;"))(user)


def test_a_view_cannot_be_tracked(active: Any) -> None:
    with pytest.raises(DefinitionError, match="view"):
        track()(active)


def test_two_triggers_on_a_view_need_two_names(active: Any) -> None:
    with pytest.raises(DefinitionError, match="'x'"):
        attach(
            Trigger("x", "instead of", Insert, body="RETURN NEW;"),
            Trigger("x", "instead of", Update, body="RETURN NEW;"),
        )(active)
    with pytest.raises(DefinitionError, match="read_only"):
        attach(Trigger("read_only", "instead of", Insert, body="RETURN NEW;"))(active)
