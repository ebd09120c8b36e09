"""Rows restored from events that are older than a column."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    Table,
    Text,
    delete,
    insert,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

import sa_history as history
from sa_history import track
from sa_history.exc import EventsError
from sa_history.install import install

from .transactions import commit, rows

pytestmark = pytest.mark.usefixtures("undo_way")

ADDED = {
    "with a default": ("text DEFAULT 'standard'", {"server_default": "standard"}),
    "not null": (
        "text NOT NULL DEFAULT 'standard'",
        {"server_default": "standard", "nullable": False},
    ),
}


@pytest.fixture(params=ADDED)
def ware(request: pytest.FixtureRequest, pg_session: Session) -> Table:
    """A table with two rows, which got a column after these were changed."""
    declared, arguments = ADDED[request.param]

    def define(*more: Column[Any]) -> Table:
        columns = Column("id", Integer, primary_key=True), Column("price", Integer)
        return track()(Table("ware", MetaData(), *columns, *more))

    before = define()
    before.metadata.create_all(pg_session.get_bind())
    commit(pg_session, insert(before).values([(1, 10), (2, 10)]))
    commit(pg_session, update(before).values(price=20))
    commit(pg_session, delete(before).where(before.c.id == 2))
    commit(
        pg_session,
        text(f"ALTER TABLE ware ADD COLUMN tax {declared}"),
        text("ALTER TABLE ware_event ADD COLUMN tax text"),
    )
    after = define(Column("tax", Text, **arguments))
    install(pg_session.get_bind(), after.metadata)
    return after


def test_revert_leaves_a_column_alone_that_is_younger_than_the_event(
    ware: Table, pg_session: Session
) -> None:
    commit(pg_session, update(ware).values(tax="reduced"))
    events = history.events(ware).of(1)
    first, _, last = pg_session.scalars(events.select()).all()
    first.revert(pg_session)
    assert rows(pg_session, ware) == [(1, 10, "reduced")]
    first.revert(pg_session, columns=["price"])
    with pytest.raises(EventsError, match="does not store tax, which the table did"):
        first.revert(pg_session, columns=["price", "tax"])
    commit(pg_session, update(ware).values(tax="none"))
    last.revert(pg_session)
    assert rows(pg_session, ware) == [(1, 20, "reduced")]


def test_a_row_from_before_a_column_comes_back_with_its_default(
    ware: Table, pg_session: Session
) -> None:
    gone = pg_session.scalars(history.events(ware).of(2).last()).one()
    back = [(1, 20, "standard"), (2, 20, "standard")]
    gone.revert(pg_session)
    assert rows(pg_session, ware) == back
    pg_session.rollback()
    history.undo(pg_session, ware, transaction=gone)
    assert rows(pg_session, ware) == back


def test_undo_leaves_a_column_alone_that_is_younger_than_the_event_before(
    ware: Table, pg_session: Session
) -> None:
    changed = commit(pg_session, update(ware).values(price=30))
    commit(pg_session, update(ware).values(tax="reduced"))
    history.undo(pg_session, ware, transaction=changed)
    assert rows(pg_session, ware) == [(1, 20, "reduced")]


def test_undo_of_an_insert_from_before_a_column_deletes_the_row(
    ware: Table, pg_session: Session
) -> None:
    first = pg_session.scalars(history.events(ware).of(1).first()).one()
    commit(pg_session, update(ware).values(price=10))
    history.undo(pg_session, ware, transaction=first, force=True)
    assert rows(pg_session, ware) == []


def test_null_from_after_a_column_was_added_is_restored(pg_session: Session) -> None:
    """Also in rows and events that are older than the first other value in it."""
    columns = Column("id", Integer, primary_key=True), Column("a", Integer)
    old = track()(Table("thing", MetaData(), *columns))
    old.metadata.create_all(pg_session.get_bind())
    commit(
        pg_session,
        text("ALTER TABLE thing ADD COLUMN data jsonb"),
        text("ALTER TABLE thing_event ADD COLUMN data jsonb"),
    )
    columns = Column("id", Integer, primary_key=True), Column("a", Integer)
    thing = track()(Table("thing", MetaData(), *columns, Column("data", JSONB)))
    install(pg_session.get_bind(), thing.metadata)
    commit(pg_session, text("INSERT INTO thing VALUES (1, 1, NULL)"))
    changed = commit(pg_session, update(thing).values(data={"a": 1}))
    now = text("SELECT data::text FROM thing")
    pg_session.scalars(history.events(thing).first()).one().revert(pg_session)
    assert list(pg_session.scalars(now)) == [None]
    pg_session.rollback()
    history.undo(pg_session, thing, transaction=changed)
    assert list(pg_session.scalars(now)) == [None]


def test_null_of_a_column_that_was_renamed_since_is_restored(
    pg_session: Session,
) -> None:
    def define(name: str) -> Table:
        columns = Column("id", Integer, primary_key=True), Column(name, Text)
        return track()(Table("thing", MetaData(), *columns))

    old = define("note")
    old.metadata.create_all(pg_session.get_bind())
    commit(pg_session, insert(old).values([(1, "x"), (2, None)]))
    commit(
        pg_session,
        text("ALTER TABLE thing RENAME note TO remark"),
        text("ALTER TABLE thing_event RENAME note TO remark"),
    )
    thing = define("remark")
    install(pg_session.get_bind(), thing.metadata)
    commit(pg_session, update(thing).values(remark="y"))
    pg_session.scalars(history.events(thing).of(2).first()).one().revert(pg_session)
    assert rows(pg_session, thing) == [(1, "y"), (2, None)]
