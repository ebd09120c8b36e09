"""Each way to store a context has its columns, writes them, and reads them again."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import ARRAY, ColumnElement, MetaData, Table, Uuid, any_, bindparam
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import registry

from sa_history.capture.context_storage import (
    CONTEXT_STORAGES,
    ContextReference,
    ContextStorage,
    InlineContext,
    NoContext,
)
from sa_history.capture.context_table import create_shared_objects

SHARED = create_shared_objects(MetaData())
ID = uuid.UUID(int=7)


@pytest.fixture(params=[ContextReference, InlineContext, NoContext])
def storage(request: pytest.FixtureRequest) -> ContextStorage:
    """Every way to store a context."""
    stored: ContextStorage = request.param(SHARED)
    return stored


@pytest.fixture
def events(storage: ContextStorage) -> Table:
    """The columns that an event table has of the context."""
    columns = [*storage.id_columns(), *storage.metadata_columns()]
    return Table("event", MetaData(), *columns)


def sql(expression: ColumnElement[Any]) -> str:
    compiled = expression.compile(dialect=postgresql.dialect())
    return " ".join(str(compiled).split())


def test_the_option_of_track_names_a_class() -> None:
    assert {
        "reference": ContextReference,
        "inline": InlineContext,
        None: NoContext,
    } == CONTEXT_STORAGES


def test_a_trigger_and_an_insert_fill_the_same_columns(
    storage: ContextStorage, events: Table
) -> None:
    written = [name for name, _ in storage.trigger_values()]
    assert written == list(storage.insert_values()) == events.columns.keys()


IN_CONTEXTS = (
    "event.pgh_context_id IN (SELECT pghistory_context.id FROM pghistory_context"
    " WHERE {})"
)


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        pytest.param(
            lambda storage, events: storage.id_of(events),
            ["event.pgh_context_id", "event.pgh_context_id", "CAST(NULL AS UUID)"],
            id="id",
        ),
        pytest.param(
            lambda storage, events: storage.inline_metadata_of(events),
            ["CAST(NULL AS JSONB)", "event.pgh_context", "CAST(NULL AS JSONB)"],
            id="inline_metadata",
        ),
        pytest.param(
            lambda storage, events: storage.metadata_of(events),
            [
                "(SELECT pghistory_context.metadata FROM pghistory_context, event"
                " WHERE pghistory_context.id = event.pgh_context_id)",
                "event.pgh_context",
                "CAST(NULL AS JSONB)",
            ],
            id="metadata",
        ),
        pytest.param(
            lambda storage, events: storage.is_within(events, ID),
            [
                "event.pgh_context_id IN (WITH RECURSIVE anon_1(id) AS (SELECT"
                " CAST(%(param_1)s::UUID AS UUID) AS id UNION SELECT"
                " pghistory_context.id AS id FROM pghistory_context JOIN anon_1"
                " ON pghistory_context.parent_id = anon_1.id)"
                " SELECT anon_1.id FROM anon_1)",
                "event.pgh_context_id = %(pgh_context_id_1)s::UUID",
                "false",
            ],
            id="has_id",
        ),
        pytest.param(
            lambda storage, events: storage.metadata_meets(
                events, lambda metadata: metadata.contains({"user": 7})
            ),
            [
                IN_CONTEXTS.format(
                    "(pghistory_context.metadata @> %(metadata_1)s::JSONB)"
                ),
                "event.pgh_context @> %(pgh_context_1)s::JSONB",
                "false",
            ],
            id="has_keys",
        ),
        pytest.param(
            lambda storage, events: storage.has_one_of(
                events, any_(bindparam("ids", type_=ARRAY(Uuid)))
            ),
            [*["event.pgh_context_id = ANY (%(ids)s::UUID[])"] * 2, "false"],
            id="has_one_of",
        ),
    ],
)
def test_a_context_is_read_from_where_it_is_stored(
    storage: ContextStorage,
    events: Table,
    read: Callable[[ContextStorage, Table], ColumnElement[Any]],
    expected: list[str],
) -> None:
    position = list(CONTEXT_STORAGES.values()).index(type(storage))
    assert sql(read(storage, events)) == expected[position]


def test_nested_contexts_are_known_if_the_context_table_has_them(
    storage: ContextStorage, events: Table
) -> None:
    within = sql(storage.is_within(events, ID))
    if isinstance(storage, ContextReference):
        assert "WITH RECURSIVE" in within
    else:
        assert "RECURSIVE" not in within


def test_only_a_reference_is_a_relationship(
    storage: ContextStorage, events: Table
) -> None:
    class Context:
        """A class for the context table."""

    registry().map_imperatively(Context, SHARED.context_table)
    has_one = isinstance(storage, ContextReference)
    assert list(storage.relationships(events, Context)) == ["pgh_context"] * has_one
