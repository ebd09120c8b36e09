"""Rows that have one key for a while, as a deferrable primary key allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Session

import sa_history as history
from sa_history import AfterDelete, AfterUpdate, AggregateEvent, Snapshot, new, track
from sa_history.exc import EventsError, UndoError

from .transactions import commit, rows


@pytest.fixture
def item(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    level: str,
) -> Table:
    """A table with a deferrable primary key, and two rows."""
    table = Table(
        "item",
        base.metadata,
        Column("id", Integer),
        Column("name", Text),
        PrimaryKeyConstraint("id", deferrable=True, initially="DEFERRED"),
    )
    # Of a row with that name, each change has two events.
    of_b = AfterUpdate(new.name == "b", label="b")
    track(Snapshot, of_b, AfterDelete, level=level)(table)
    create_all()
    commit(pg_session, insert(table).values([(1, "a"), (2, "b")]))
    return table


SHARED = {
    "an exchange by one statement": ["UPDATE item SET id = 3 - id"],
    "an exchange by two statements": [
        "UPDATE item SET id = 2 WHERE id = 1",
        "UPDATE item SET id = 1 WHERE name = 'b'",
    ],
    "another value meanwhile": [
        "UPDATE item SET id = 2 WHERE id = 1",
        "UPDATE item SET name = 'z' WHERE name = 'b'",
        "UPDATE item SET id = 1 WHERE name = 'z'",
    ],
    "a row moves to the key of a row that goes": [
        "UPDATE item SET id = 2 WHERE id = 1",
        "DELETE FROM item WHERE name = 'b'",
    ],
    "a row is replaced before it goes": [
        "INSERT INTO item VALUES (2, 'c')",
        "DELETE FROM item WHERE name = 'b'",
    ],
}
"""Transactions in which two rows have the key 2 for a while."""


@pytest.mark.usefixtures("undo_way")
@pytest.mark.parametrize("case", SHARED)
def test_what_cannot_be_told_of_rows_that_shared_a_key_is_refused(
    item: Table, pg_session: Session, case: str
) -> None:
    changed = commit(pg_session, *map(text, SHARED[case]))
    after = rows(pg_session, item)
    with pytest.raises(UndoError, match="a deferrable primary key lets several have"):
        history.undo(pg_session, item, transaction=changed)
    assert rows(pg_session, item) == after
    events = history.events(item)
    of_2 = pg_session.scalars(events.where(events.pgh_xact_id == changed)).all()
    with pytest.raises(EventsError, match="two rows had the key of <Item.* at once"):
        of_2[-1].diff
    newest = AggregateEvent.select(item, newest_first=True, limit=1)
    assert pg_session.execute(newest).one().pgh_diff is None
    assert history.diff(of_2[0], of_2[-1]) is not None, "any two can be compared"


@pytest.mark.parametrize(
    ("case", "of_1", "of_2"),
    [
        ("an exchange by one statement", [("U", None, "b")], [("U", "a", "a")]),
        (
            "another value meanwhile",
            [("U", None, "z")],
            [("U", "a", "a"), ("U", None, "z")],
        ),
        (
            "a row moves to the key of a row that goes",
            [],
            [("U", "a", "a"), ("D", "b", None)],
        ),
        ("a row is replaced before it goes", [], [("I", None, "c"), ("D", "b", None)]),
    ],
)
def test_changes_name_no_value_of_another_row_with_the_key(
    item: Table, pg_session: Session, case: str, of_1: list[Any], of_2: list[Any]
) -> None:
    commit(pg_session, *map(text, SHARED[case]))
    for key, expected in (1, of_1), (2, of_2):
        found = pg_session.execute(history.changes((item, key), "name")).all()
        assert [(row.pgh_op, row.before, row.after) for row in found[1:]] == expected


@pytest.mark.parametrize("case", list(SHARED)[:2])
def test_rows_that_exchanged_their_keys_are_seen_as_they_were(
    item: Table, pg_session: Session, pg_engine: Engine, case: str
) -> None:
    exchanged = commit(pg_session, *map(text, SHARED[case]))
    with history.as_of(pg_engine, transaction=exchanged) as then:
        seen = then.execute(select(item).order_by(item.c.id)).all()
    assert seen == rows(pg_session, item) == [(1, "b"), (2, "a")]


MOVED = {
    "a row passes through a key, and others exchange theirs": (
        [(1, "a"), (10, "x"), (11, "y")],
        [["UPDATE item SET id = 21 - id WHERE id > 9"]],
        [
            [
                "UPDATE item SET id = 2 WHERE id = 1",
                "UPDATE item SET id = 3 WHERE id = 2",
            ]
        ],
    ),
    "two exchanges in a transaction": (
        [(1, "a"), (2, "b")],
        [],
        [["UPDATE item SET id = 3 - id", "UPDATE item SET id = 3 - id"]],
    ),
    "a rotation of three, twice": (
        [(1, "a"), (2, "b"), (3, "c")],
        [["UPDATE item SET id = id % 3 + 1"]],
        [["UPDATE item SET id = id % 3 + 1"]],
    ),
    "an exchange, and a row that leaves its key later": (
        [(1, "a"), (2, "b")],
        [["UPDATE item SET id = 3 - id"]],
        [["UPDATE item SET id = 9 WHERE id = 2"]],
    ),
    "a row comes again to a key that another one left": (
        [(1, "a"), (2, "b")],
        [["UPDATE item SET id = 5 WHERE id = 2"]],
        [
            [
                "UPDATE item SET id = 2 WHERE id = 1",
                "UPDATE item SET id = 1 WHERE id = 5",
            ]
        ],
    ),
}
"""Rows, and transactions that give some of them other keys."""


@pytest.mark.parametrize("case", MOVED)
def test_rows_that_move_and_exchange_keys_are_seen_once(
    item: Table, pg_session: Session, pg_engine: Engine, case: str
) -> None:
    first, *transactions = MOVED[case]
    commit(pg_session, text("DELETE FROM item"))
    commit(pg_session, insert(item).values(first))
    for statements in (each for some in transactions for each in some):
        number = commit(pg_session, *map(text, statements))
        with history.as_of(pg_engine, transaction=number) as then:
            seen = then.execute(select(item).order_by(item.c.id)).all()
            by_key = [
                row
                for key in range(22)
                for row in then.execute(select(item).where(item.c.id == key))
            ]
        assert seen == by_key == rows(pg_session, item)


ALONE = {
    "a row goes on": [
        "UPDATE item SET id = 3 WHERE id = 1",
        "UPDATE item SET name = 'c' WHERE id = 3",
    ],
    "a row is made and moved": [
        "INSERT INTO item VALUES (-1, 'c')",
        "UPDATE item SET name = 'd' WHERE id = -1",
        "UPDATE item SET id = 3 WHERE id = -1",
    ],
    "a key is handed on": [
        "UPDATE item SET id = 3 WHERE id = 1",
        "UPDATE item SET id = 1 WHERE id = 2",
        "UPDATE item SET name = 'c' WHERE id = 1",
    ],
    "a row is replaced": [
        "DELETE FROM item WHERE id = 2",
        "INSERT INTO item VALUES (2, 'c')",
        "UPDATE item SET name = 'd' WHERE id = 2",
        "DELETE FROM item WHERE id = 2",
    ],
    "a row whose changes have two events goes on": [
        "UPDATE item SET id = 3 WHERE id = 2",
        "UPDATE item SET name = 'c' WHERE id = 3",
    ],
    "all rows move": ["UPDATE item SET id = id + 10"],
}
"""Transactions in which no two rows have one key."""


@pytest.mark.usefixtures("undo_way")
@pytest.mark.parametrize("case", ALONE)
def test_rows_that_shared_no_key_are_compared_and_undone(
    item: Table, pg_session: Session, case: str
) -> None:
    before = rows(pg_session, item)
    changed = commit(pg_session, *map(text, ALONE[case]))
    events = history.events(item)
    for event in pg_session.scalars(events.where(events.pgh_xact_id == changed)):
        assert (event.diff is None) == (event.pgh_op == "I")
    for row in pg_session.execute(AggregateEvent.select(item, transaction=changed)):
        assert (row.pgh_diff is None) == (row.pgh_op == "I")
    history.undo(pg_session, item, transaction=changed)
    assert rows(pg_session, item) == before


@pytest.mark.usefixtures("undo_way")
def test_what_comes_after_an_exchange_is_compared_and_undone(
    item: Table, pg_session: Session
) -> None:
    commit(pg_session, text("UPDATE item SET id = 3 - id"))
    before = rows(pg_session, item)
    changed = commit(pg_session, update(item).where(item.c.id == 2).values(name="x"))
    event = pg_session.scalars(history.events(item).last()).one()
    assert event.diff == {"name": ("a", "x")}
    newest = AggregateEvent.select(item, newest_first=True, limit=1)
    assert pg_session.execute(newest).one().pgh_diff == {"name": ["a", "x"]}
    history.undo(pg_session, item, transaction=changed)
    assert rows(pg_session, item) == before


@pytest.mark.usefixtures("undo_way")
def test_rows_without_events_that_shared_a_key_are_not_undone(
    item: Table, pg_session: Session
) -> None:
    with history.ignore(pg_session, item):
        commit(pg_session, text("INSERT INTO item VALUES (5, 'e'), (6, 'f')"))
    commit(pg_session, update(item).where(item.c.id == 5).values(name="ee"))
    exchanged = commit(
        pg_session, text("UPDATE item SET id = 11 - id WHERE id IN (5, 6)")
    )
    with pytest.raises(UndoError):
        history.undo(pg_session, item, transaction=exchanged)
