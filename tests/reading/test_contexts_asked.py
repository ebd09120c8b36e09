"""Contexts are found once, before their events, however many tables there are."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    Table,
    event,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Session

import sa_history as history
from sa_history import AggregateEvent, track
from sa_history.query.event_search import EventSearch

TABLES = 12


@pytest.fixture
def many(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_engine: Engine
) -> SimpleNamespace:
    """Tables of which each third one stores contexts inline, and their contexts.

    Each row is inserted in a context of its own, and changed in one that they share,
    within which the first table is changed once more.
    """
    tables = []
    for n in range(TABLES):
        name, key = f"t{n}", Column("id", Integer, primary_key=True)
        table = Table(name, base.metadata, key, Column("value", Integer))
        track(context="inline" if n % 3 == 2 else "reference")(table)
        tables.append(table)
    create_all()
    with Session(pg_engine) as session:
        for n, table in enumerate(tables):
            with history.context(session, user=n):
                session.execute(insert(table).values(id=1, value=0))
                session.commit()
        with history.context(session, user="ada", url="/all") as shared:
            for table in tables:
                session.execute(update(table).values(value=1))
            with history.context(session, user="ben"):
                session.execute(update(tables[0]).values(value=2))
            session.commit()
    return SimpleNamespace(tables=tables, shared=shared.id)


@pytest.fixture(params=["found first", "too many"])
def found(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether contexts are few enough to be found first."""
    is_found: bool = request.param == "found first"
    if not is_found:
        monkeypatch.setattr("sa_history.query.contexts_asked.MOST", 0)
    return is_found


@pytest.fixture
def sent(pg_engine: Engine) -> Callable[[], Any]:
    """Give the statements of a block, and whether each one was compiled for it."""

    @contextmanager
    def watch() -> Iterator[list[tuple[str, bool]]]:
        statements: list[tuple[str, bool]] = []

        def executed(*given: Any) -> None:
            is_compiled = given[4].cache_hit.name != "CACHE_HIT"
            statements.append((given[2], is_compiled))

        event.listen(pg_engine, "after_cursor_execute", executed)
        try:
            yield statements
        finally:
            event.remove(pg_engine, "after_cursor_execute", executed)

    return watch


def looks_for_contexts(statement: str) -> int:
    """Return how often a statement reads the table of the contexts."""
    return statement.count("FROM pghistory_context")


ASKED: dict[str, Callable[[Any], Any]] = {
    "id": lambda many: many.shared,
    "keys": lambda _: {"user": "ada"},
    "unknown id": lambda _: uuid.UUID(int=1),
    "unknown keys": lambda _: {"user": "nobody"},
}


@pytest.mark.parametrize("by", ASKED)
def test_a_page_finds_contexts_once_for_all_tables(
    many: SimpleNamespace,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    sent: Callable[[], Any],
    found: bool,
    by: str,
) -> None:
    context = ASKED[by](many)
    with Session(pg_engine) as session:
        with sent() as statements:
            rows = AggregateEvent.page(session, base, context=context)
        selected = AggregateEvent.select(base, context=context)
        assert rows == session.execute(selected).all()
    assert len(rows) == {"id": TABLES + 1, "keys": TABLES}.get(by, 0)
    if found or by == "unknown keys":
        assert sum(looks_for_contexts(s) for s, _ in statements) == 1, statements


@pytest.mark.parametrize("by", ["id", "keys"])
def test_a_page_of_another_context_has_the_same_statements(
    many: SimpleNamespace,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    sent: Callable[[], Any],
    by: str,
) -> None:
    with Session(pg_engine) as session:
        first = AggregateEvent.page(session, base, limit=50)
        ids = [row.pgh_context_id for row in first]
        for id_ in ids[:2]:
            context = id_ if by == "id" else {"user": ids.index(id_)}
            with sent() as statements:
                rows = AggregateEvent.page(session, base, context=context, limit=1)
            assert len(rows) == 1
    first_step = [s for s in statements if "pgh_page" not in s[0]]
    assert len(first_step) == 2
    assert not any(is_compiled for _, is_compiled in first_step), first_step


def test_events_of_no_context_are_not_looked_for(
    many: SimpleNamespace, pg_engine: Engine, sent: Callable[[], Any]
) -> None:
    by_reference = [table for n, table in enumerate(many.tables) if n % 3 != 2]
    nobody = {"user": "nobody"}
    with Session(pg_engine) as session, sent() as statements:
        assert AggregateEvent.page(session, *by_reference, context=nobody) == []
    assert len(statements) == 1
    with Session(pg_engine) as session, sent() as statements:
        assert AggregateEvent.page(session, *many.tables, context=nobody) == []
    assert len(statements) == 2
    assert "t2_event" in statements[1][0]
    assert "t1_event" not in statements[1][0]


def test_a_search_finds_contexts_once_for_all_tables(
    many: SimpleNamespace,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    sent: Callable[[], Any],
    found: bool,
) -> None:
    search = EventSearch([base], [("user", "ada"), ("url", "/all")])
    with Session(pg_engine) as session, sent() as statements:
        assert len([*search.rows(session, 100)]) == TABLES
    if found:
        assert sum(looks_for_contexts(s) for s, _ in statements) == 1, statements


def test_contexts_are_found_by_other_drivers(
    many: SimpleNamespace, base: type[DeclarativeBase], in_other_session: Any
) -> None:
    def read(session: Session) -> list[int]:
        asked: list[Any] = [{"user": "ada"}, many.shared]
        pages = [
            AggregateEvent.page(session, base, context=context, limit=limit)
            for context in asked
            for limit in (None, 5)
        ]
        undone = history.undo(session, base, context=many.shared, dry_run=True)
        return [*map(len, pages), len(undone.steps)]

    assert in_other_session(read) == [TABLES, 5, TABLES + 1, 5, TABLES]


def test_undo_finds_contexts_once_for_all_tables(
    many: SimpleNamespace,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    sent: Callable[[], Any],
    found: bool,
) -> None:
    with Session(pg_engine) as session:
        with sent() as statements:
            # Of the context within it, an inline event is not known to be in it.
            history.undo(session, base, context=many.shared)
        for table in many.tables:
            assert session.execute(select(table.c.value)).all() == [(0,)]
    if found:
        assert sum(looks_for_contexts(s) for s, _ in statements) == 1, statements


@pytest.mark.parametrize("is_analysed", [True, False])
def test_events_of_contexts_are_found_by_the_index(
    many: SimpleNamespace,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    is_analysed: bool,
) -> None:
    """PostgreSQL does not know that the contexts have no events in a table."""
    with pg_engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO t0_event (pgh_op, pgh_label, id, pgh_obj_id,"
                " pgh_context_id) SELECT 'I', 'insert', v, v, md5('' || v % 200)::uuid"
                " FROM generate_series(2, 5000) v;"
                " INSERT INTO pghistory_context (id, metadata)"
                """ SELECT md5('eve' || v)::uuid, '{"user": "eve"}'"""
                " FROM generate_series(1, 100) v"
            )
        )
        if is_analysed:
            connection.execute(text("ANALYZE"))
    plans: list[str] = []

    def explained(_: Any, cursor: Any, sql: str, given: Any, *__: Any) -> Any:
        if "LIMIT 50" in sql:
            cursor.execute(f"EXPLAIN {sql}", given)
            plans.append("\n".join(row[0] for row in cursor.fetchall()))
        return sql, given

    event.listen(pg_engine, "before_cursor_execute", explained, retval=True)
    with Session(pg_engine) as session:
        for context in (many.shared, {"user": "eve"}):
            AggregateEvent.page(session, base, context=context, limit=50)
    assert len(plans) == 2
    for plan in plans:
        assert "Seq Scan on t0_event" not in plan, plan
        assert "ix_t0_event_pgh_context_id" in plan, plan
