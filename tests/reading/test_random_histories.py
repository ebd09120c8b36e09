"""Histories that hypothesis makes up: the past as it was, and undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Integer,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Session

import sa_history as history
from sa_history import track
from sa_history.exc import ConflictError

pytestmark = pytest.mark.long

KEYS = st.integers(1, 3)
NEW_KEYS = st.integers(1, 6)
WORDS = st.sampled_from(["a", "b", "c"])
CHANGE = st.one_of(
    st.tuples(st.just("insert parent"), KEYS, WORDS),
    st.tuples(st.just("rename parent"), KEYS, WORDS),
    st.tuples(st.just("rekey parent"), KEYS, NEW_KEYS),
    st.tuples(st.just("delete parent"), KEYS),
    st.tuples(st.just("insert child"), KEYS, KEYS),
    st.tuples(st.just("move child"), KEYS, KEYS),
    st.tuples(st.just("rekey child"), KEYS, NEW_KEYS),
    st.tuples(st.just("delete child"), KEYS),
    st.tuples(st.just("link"), KEYS, KEYS),
    st.tuples(st.just("unlink"), KEYS, KEYS),
)
BEGINNING = [
    ("insert parent", 1, "a"),
    ("insert parent", 2, "b"),
    ("insert child", 1, 1),
    ("insert child", 2, 1),
    ("insert child", 3, 2),
    ("link", 1, 2),
]
HISTORY = st.lists(
    st.lists(CHANGE, min_size=1, max_size=6), min_size=1, max_size=5
).map(lambda transactions: [BEGINNING, *transactions])


@pytest.fixture
def tables(
    base: type[DeclarativeBase], create_all: Callable[[], None], level: str
) -> dict[str, Table]:
    """Parents with children, and links between children."""
    parent = Table(
        "parent",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("name", Text, nullable=False),
    )
    child = Table(
        "child",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column(
            "parent_id",
            ForeignKey(parent.c.id, onupdate="CASCADE", ondelete="CASCADE"),
        ),
    )
    link = Table(
        "link",
        base.metadata,
        *(
            Column(
                name,
                ForeignKey(child.c.id, onupdate="CASCADE", ondelete="CASCADE"),
                primary_key=True,
            )
            for name in ("one", "other")
        ),
    )
    for table in (parent, child, link):
        track(level=level)(table)
    create_all()
    return {"parent": parent, "child": child, "link": link}


def statement(tables: dict[str, Table], change: tuple[Any, ...]) -> Any:
    what, *values = change
    parent, child, link = tables.values()
    if what == "insert parent":
        return insert(parent).values(id=values[0], name=values[1])
    if what == "rename parent":
        return update(parent).where(parent.c.id == values[0]).values(name=values[1])
    if what == "rekey parent":
        return update(parent).where(parent.c.id == values[0]).values(id=values[1])
    if what == "delete parent":
        return delete(parent).where(parent.c.id == values[0])
    if what == "insert child":
        return insert(child).values(id=values[0], parent_id=values[1])
    if what == "move child":
        moved = update(child).where(child.c.id == values[0])
        return moved.values(parent_id=values[1])
    if what == "rekey child":
        return update(child).where(child.c.id == values[0]).values(id=values[1])
    if what == "delete child":
        return delete(child).where(child.c.id == values[0])
    if what == "link":
        return insert(link).values(one=values[0], other=values[1])
    return delete(link).where(link.c.one == values[0], link.c.other == values[1])


def rows(session: Any, tables: dict[str, Table]) -> dict[str, list[tuple[Any, ...]]]:
    return {
        name: [tuple(row) for row in session.execute(select(table).order_by(*table.c))]
        for name, table in tables.items()
    }


def live(
    engine: Engine, tables: dict[str, Table], transactions: list[list[Any]]
) -> list[tuple[int, dict[str, Any]]]:
    """Run the transactions; return the number of each, and the rows after it."""
    with engine.begin() as connection:
        names = "link, child, parent, link_event, child_event, parent_event"
        connection.execute(text(f"TRUNCATE {names}"))
        connection.execute(text("DELETE FROM link_event"))
        connection.execute(text("DELETE FROM child_event"))
        connection.execute(text("DELETE FROM parent_event"))
    lived = []
    for changes in transactions:
        with Session(engine) as session:
            number = session.scalar(select(func.pg_current_xact_id().cast(Text)))
            for change in changes:
                try:
                    with session.begin_nested():
                        session.execute(statement(tables, change))
                except IntegrityError:
                    continue
            found = rows(session, tables)
            session.commit()
        lived.append((int(number), found))
    return lived


IN_THE_DATABASE = settings(
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@IN_THE_DATABASE
@given(transactions=HISTORY)
def test_the_past_is_as_the_tables_were(
    pg_engine: Engine, tables: dict[str, Table], transactions: list[list[Any]]
) -> None:
    lived = live(pg_engine, tables, transactions)
    for number, then in lived:
        with history.as_of(pg_engine, transaction=number) as past:
            assert rows(past, tables) == then
            child = tables["child"]
            by_key = [
                tuple(row)
                for key in range(1, 7)
                for row in past.execute(select(child).where(child.c.id == key))
            ]
            assert by_key == then["child"]


@pytest.mark.usefixtures("undo_way")
@IN_THE_DATABASE
@given(transactions=HISTORY, data=st.data())
def test_an_undo_can_be_undone(
    pg_engine: Engine,
    tables: dict[str, Table],
    transactions: list[list[Any]],
    data: st.DataObject,
) -> None:
    lived = live(pg_engine, tables, transactions)
    index = data.draw(st.integers(1, len(lived) - 1))
    number = lived[index][0]
    metadata = tables["parent"].metadata
    with Session(pg_engine) as session:
        try:
            undone = history.undo(session, metadata, transaction=number)
        except ConflictError:
            assert index < len(lived) - 1
            assert rows(session, tables) == lived[-1][1]
            return
        found = rows(session, tables)
        session.commit()
        if index == len(lived) - 1:
            assert found == lived[index - 1][1]
        history.undo(session, metadata, transaction=undone.transaction)
        session.commit()
        assert rows(session, tables) == lived[-1][1]


@IN_THE_DATABASE
@given(transactions=HISTORY, data=st.data())
def test_rows_are_undone_alike_one_by_one_and_all_at_once(
    pg_engine: Engine,
    tables: dict[str, Table],
    monkeypatch: pytest.MonkeyPatch,
    transactions: list[list[Any]],
    data: st.DataObject,
) -> None:
    lived = live(pg_engine, tables, transactions)
    number = lived[data.draw(st.integers(1, len(lived) - 1))][0]
    metadata = tables["parent"].metadata
    found = []
    for limit in (1_000_000, 0):
        monkeypatch.setattr("sa_history.writing.undo.ROW_BY_ROW", limit)
        with Session(pg_engine) as session:
            plan = history.undo(session, metadata, transaction=number, dry_run=True)
            steps = sorted(map(str, plan.steps))
            conflicts = sorted(map(str, plan.conflicts))
            if not conflicts:
                history.undo(session, metadata, transaction=number)
            found.append((steps, plan.counts, conflicts, rows(session, tables)))
    assert found[0] == found[1]
