"""Mappings at random, and units of work at random: history is what SELECTs have seen.

After each flush, plain SELECTs read all rows. The events, ``Model.events``, ``as_of``,
``diff``, ``changes``, ``AggregateEvent``, ``revert`` and the undo of each transaction,
back to the beginning, are compared with them. ``INJECTION_SCALE=12`` tries twelve times
as many mappings, others each time.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Engine, Table, func, inspect, select, text
from sqlalchemy.exc import IntegrityError, SAWarning
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, configure_mappers, joinedload, selectinload

import sa_history as history
from sa_history import AggregateEvent
from sa_history.tracking.registry import Tracking, trackings_of_table

from .mappings import SCHEMAS, Mappings
from .work import REFUSED, Work, raise_unless_refused

SCALE = int(os.environ.get("INJECTION_SCALE", "1"))
TRANSACTIONS = 6
LABELS = ("snapshot", "insert", "update", "delete")

pytestmark = pytest.mark.filterwarnings(f"ignore::{SAWarning.__module__}.SAWarning")

Row = dict[str, Any]
Rows = dict[Table, dict[str, Row]]


@dataclass
class Flush:
    """What SELECTs saw after a flush.

    :param number: that of the last event until then.
    """

    number: int
    rows: Rows
    context: dict[str, int]


@dataclass
class Commit:
    """What they saw before a commit.

    :param objects: what the ORM loaded in another session afterwards, if it did.
    """

    transaction: int
    time: datetime.datetime
    rows: Rows
    objects: Any


@dataclass
class Change:
    """A change of a row, as its event tells it.

    :param key: that of the row, as JSON.
    :param before: the row before it, None of a new one.
    """

    number: int
    op: str
    key: str
    moved: bool
    before: Row | None
    after: Row


class Reader:
    """Reads all rows and all events of a seed's mappings, as JSON.

    Numbers are texts, so that 1.0 is not 1.
    """

    def __init__(self, mappings: Mappings, engine: Engine) -> None:
        self.mappings = mappings
        self.preparer = engine.dialect.identifier_preparer
        self.trackings = {t: trackings_of_table(t)[0] for t in mappings.tables}
        # A list, as what a class has depends on the class that inherits from it.
        rows = [self._select(table, "NULL") for table in mappings.tables]
        last = [
            f"SELECT max(pgh_id) FROM {self._name(tracking.event_table)}"
            for tracking in self.trackings.values()
        ]
        last_of_all = " UNION ALL ".join(last)
        self.query = " UNION ALL ".join(
            [*rows, f"SELECT NULL, NULL, max(max) FROM ({last_of_all}) AS numbers"]
        )

    def _name(self, table: Table) -> str:
        # The preparer doubles percent signs, for statements that have parameters.
        return self.preparer.format_table(table).replace("%%", "%")

    def _select(self, table: Table, number: str) -> str:
        position = self.mappings.tables.index(table)
        return (
            f"SELECT {position}, to_jsonb(t)::text, {number}::bigint"
            f" FROM {self._name(table)} AS t"
        )

    def key(self, table: Table, row: Row) -> str:
        return json.dumps([row[column.name] for column in table.primary_key])

    def rows(self, session: Session) -> tuple[int, Rows]:
        """Return the number of the last event, and the rows of all tables by key."""
        number, found = 0, {table: {} for table in self.mappings.tables}
        connection: Any = session.connection().connection
        with connection.cursor() as cursor:
            cursor.execute(self.query)
            for position, row, last in cursor.fetchall():
                if position is None:
                    number = last or 0
                    continue
                table = self.mappings.tables[position]
                values = json.loads(row, parse_float=str)
                found[table][self.key(table, values)] = values
        return number, found

    def events(self, session: Session) -> dict[Table, list[Row]]:
        """Return the events of all tables, with all of their columns."""
        connection: Any = session.connection().connection
        found = {}
        for table, tracking in self.trackings.items():
            name = self._name(tracking.event_table)
            query = f"SELECT to_jsonb(e)::text FROM {name} AS e ORDER BY pgh_id"
            with connection.cursor() as cursor:
                cursor.execute(query)
                rows = cursor.fetchall()
            found[table] = [json.loads(row, parse_float=str) for (row,) in rows]
        return found

    def objects(self, session: Session) -> Any:
        """Return what the ORM loads: values and relationships of all objects."""
        hidden = [
            table.c[name]
            for table, names in self.mappings.hidden.items()
            for name in names
        ]
        found = {}
        for number, entity in enumerate(self.mappings.entities):
            chance = random.Random(number)
            mapper = inspect(entity.model)
            options = [
                chance.choice((selectinload, joinedload))(getattr(entity.model, name))
                for name, _ in mapper.relationships.items()
                if chance.random() < 0.5
            ]
            query = select(entity.model).options(*options)
            loaded = []
            for obj in session.scalars(query).unique():
                state: Any = inspect(obj)
                values = {
                    name: repr(getattr(obj, name))
                    for name, attribute in state.mapper.column_attrs.items()
                    if not any(c is h for c in attribute.columns for h in hidden)
                    and hasattr(type(obj), name)
                }
                for name, _ in state.mapper.composites.items():
                    values[name] = repr(getattr(obj, name))
                for name, _ in state.mapper.relationships.items():
                    related = getattr(obj, name)
                    related = related if isinstance(related, list) else [related]
                    values[name] = repr(
                        sorted(repr(r and inspect(r).identity_key) for r in related)
                    )
                loaded.append((repr(state.identity_key), values))
            found[entity.model.__name__] = sorted(loaded, key=repr)
        return found


def live(
    session: Session, reader: Reader, work: Work
) -> tuple[list[Flush], list[Commit]]:
    """Work in some transactions; return what SELECTs saw."""
    flushes, commits = [], []
    for number in range(TRANSACTIONS):
        pending = []
        try:
            for context in work.transaction(session):
                pending.append(Flush(*reader.rows(session), context))
            session.flush()
            _, rows = reader.rows(session)
            transaction = session.scalar(select(func.txid_current_if_assigned()))
            session.commit()
        except REFUSED as error:
            raise_unless_refused(error)
            session.rollback()
            session.expunge_all()
            continue
        if transaction is None:
            continue
        flushes += pending
        time = session.scalar(select(func.clock_timestamp()))
        session.rollback()
        objects = None
        if number in (2, TRANSACTIONS - 1):
            with Session(session.get_bind()) as other:
                objects = reader.objects(other)
        commits.append(Commit(transaction, time, rows, objects))
        if work.chance.random() < 0.3:
            session.expunge_all()
    return flushes, commits


def visible(rows: Rows, hidden: dict[Table, set[str]]) -> Rows:
    """Return the rows without some columns."""
    return {
        table: {
            key: {n: v for n, v in row.items() if n not in hidden.get(table, ())}
            for key, row in of_table.items()
        }
        for table, of_table in rows.items()
    }


class Oracle:
    """Compares history with what was seen."""

    def __init__(
        self, mappings: Mappings, reader: Reader, flushes: Any, commits: Any
    ) -> None:
        self.mappings = mappings
        self.reader = reader
        self.flushes: list[Flush] = flushes
        self.commits: list[Commit] = commits
        self.changes: dict[Table, list[Change]] = {}

    def events_are_what_was_seen(self, session: Session) -> None:
        """Compare the rows that events make with those of each flush."""
        self.events = self.reader.events(session)
        for table, events in self.events.items():
            seen = [
                (flush.number, visible(flush.rows, self.mappings.hidden)[table])
                for flush in self.flushes
            ]
            self.changes[table] = self._replayed(table, events, seen)
            label, condition = self.mappings.conditions.get(table, (None, None))
            if condition is not None:
                assert sorted(
                    self.reader.key(table, event)
                    for event in events
                    if event["pgh_label"] == label
                ) == sorted(
                    change.key
                    for change in self.changes[table]
                    if condition(change.op, change.before, change.after)
                )

    def _replayed(
        self, table: Table, events: list[Row], seen: list[tuple[int, dict[str, Row]]]
    ) -> list[Change]:
        names = [c.name for c in table.c]
        hidden = self.mappings.hidden.get(table, set())
        state: dict[str, Row] = {}
        found, position = [], 0
        for event in events:
            while position < len(seen) and seen[position][0] < event["pgh_id"]:
                assert state == seen[position][1]
                position += 1
            if event["pgh_label"] not in LABELS:
                continue
            key, op = self.reader.key(table, event), event["pgh_op"]
            old_key = event["pgh_old_key"]
            old_key = key if old_key is None else json.dumps(old_key)
            after = {n: event[n] for n in names if n not in hidden}
            before = state.pop(old_key, None)
            assert (before is None) == (op == "I")
            if op == "D":
                assert after == before
            else:
                state[key] = after
            moved = old_key != key
            found.append(Change(event["pgh_id"], op, key, moved, before, after))
        for _, rows in seen[position:]:
            assert state == rows
        return found

    def contexts_are_those_of_the_blocks(self, session: Session) -> None:
        """Compare the context of each event with the blocks of its flush."""
        for row in session.execute(AggregateEvent.select(self.mappings.base)):
            context = next(f for f in self.flushes if f.number >= row.pgh_id).context
            tracking = next(
                t
                for t in self.reader.trackings.values()
                if t.event_class.__name__ == row.pgh_model
            )
            if tracking.options.context is None:
                context = {}
            assert (row.pgh_context or {}) == context

    def events_are_listed(self, session: Session) -> None:
        """Compare ``AggregateEvent`` with the events and their changes."""
        expected = sorted(
            (event["pgh_id"], event["pgh_op"], event["pgh_label"])
            for events in self.events.values()
            for event in events
        )
        rows = session.execute(AggregateEvent.select(self.mappings.base)).all()
        assert [(r.pgh_id, r.pgh_op, r.pgh_label) for r in rows] == expected
        by_number = {row.pgh_id: row for row in rows}
        for table, changes in self.changes.items():
            for change in changes:
                diff = by_number[change.number].pgh_diff
                assert (diff is None) == (change.op == "I")
                if change.op != "I":
                    assert {*diff} == self._changed(table, change)

    def _changed(self, table: Table, change: Change) -> set[str]:
        """Return the attributes that a change gave other values."""
        columns = self.reader.trackings[table].tracked_columns.by_attribute
        before = change.before or {}
        return {
            name
            for name, column in columns.items()
            if column.name in before
            and before[column.name] != change.after[column.name]
        }

    def versions_are_changes(self, session: Session, chance: random.Random) -> None:
        """Compare the versions of rows, and what lies between, with their changes."""
        for table, changes in self.changes.items():
            tracking = self.reader.trackings[table]
            events = self._events_of(tracking)
            for change in chance.sample(changes, min(2, len(changes))):
                event = session.scalars(
                    events.where(events.model.pgh_id == change.number)
                ).one()
                if change.op != "I":
                    assert {*event.diff} == self._changed(table, change)
            by_key = {change.key: change for change in changes}
            for change in chance.sample([*by_key.values()], min(1, len(by_key))):
                self._row(session, table, change, chance)

    def _events_of(self, tracking: Tracking) -> Any:
        target = tracking.model or tracking.table
        return history.events(target, tracking.options.events)

    def _row(
        self, session: Session, table: Table, last: Change, chance: random.Random
    ) -> None:
        """Compare what there is of one row."""
        tracking = self.reader.trackings[table]
        recorded = [
            event
            for event in self.events[table]
            if self.reader.key(table, event) == last.key
        ]
        model = tracking.model or table
        numbers = [event["pgh_id"] for event in recorded]
        key = self._key(session, tracking, numbers[0])
        events = session.scalars(self._events_of(tracking).of(key).select()).all()
        assert [event.pgh_id for event in events] == numbers
        name = chance.choice(tracking.tracked_columns.stored)
        column = tracking.tracked_columns.column_name(name)
        changes = [change for change in self.changes[table] if change.key == last.key]
        expected = [
            change.number
            for change in changes
            if change.op in "ID"
            or change.moved
            or (change.before or {})[column] != change.after[column]
        ]
        found = session.execute(history.changes((model, key), name))
        numbers = {change.number for change in changes}
        assert [r.pgh_id for r in found if r.pgh_id in numbers] == expected
        is_there = last.key in self.commits[-1].rows[table]
        if not is_there or tracking.model is None:
            return
        obj = events[-1].pgh_obj
        assert obj is not None
        complete = [event for event in events if event.pgh_label in LABELS]
        assert not history.diff(complete[-1], obj)
        self._references(session, table, obj, last.key)

    @staticmethod
    def _key(session: Session, tracking: Tracking, number: int) -> Any:
        events = tracking.event_table
        columns = [
            events.c[tracking.tracked_columns.column_name(name)]
            for name in tracking.tracked_columns.key
        ]
        key = tuple(
            session.execute(select(*columns).where(events.c.pgh_id == number)).one()
        )
        return key if len(key) > 1 else key[0]

    def _references(self, session: Session, table: Table, obj: Any, key: str) -> None:
        """Compare the events of a row, and of those that refer to it."""
        mappers = [inspect(type(obj))]
        while mappers[-1].inherits is not None and not mappers[-1].concrete:
            mappers.append(mappers[-1].inherits)
        own = {mapper.local_table for mapper in mappers}
        expected = {
            event["pgh_id"]
            for other, events in self.events.items()
            for event in events
            if (other in own and self.reader.key(other, event) == key)
            or any(
                each.column.table in own
                and json.dumps([event[each.parent.name]]) == key
                for each in other.foreign_keys
            )
        }
        rows = session.execute(AggregateEvent.select(obj, references=True))
        assert [row.pgh_id for row in rows] == sorted(expected)

    def reverted_rows_are_what_they_were(
        self, session: Session, chance: random.Random
    ) -> None:
        """Revert to some events, and compare the row."""
        for table, changes in self.changes.items():
            tracking = self.reader.trackings[table]
            events = self._events_of(tracking)
            for change in chance.sample(changes, min(1, len(changes))):
                query = events.where(events.model.pgh_id == change.number)
                try:
                    session.scalars(query).one().revert(session)
                except IntegrityError:  # its parent is gone, or its key is taken
                    session.rollback()
                    continue
                _, rows = self.reader.rows(session)
                row, moving = (
                    rows[table][change.key],
                    self.mappings.moving.get(table, ()),
                )
                for name, value in change.after.items():
                    assert name in moving or row[name] == value
                session.rollback()

    def undone(self, rows: Rows, position: int) -> None:
        """Compare rows with those before a transaction that was undone."""
        hidden = {
            table: self.mappings.hidden.get(table, set())
            | self.mappings.moving.get(table, set())
            for table in self.mappings.tables
        }
        empty: Rows = {table: {} for table in self.mappings.tables}
        before = self.commits[position - 1].rows if position else empty
        assert visible(rows, hidden) == visible(before, hidden)


def _run(
    seed: int, engine: Engine, async_engine: AsyncEngine, is_async: bool
) -> tuple[int, int]:
    mappings = Mappings(random.Random(f"mappings {seed}"))
    chance = random.Random(f"work {seed}")
    configure_mappers()
    for told in mappings.told:
        print(*told)
    with engine.begin() as connection:
        for schema in SCHEMAS:
            connection.execute(text(f'CREATE SCHEMA "{schema}"'))
    mappings.base.metadata.create_all(engine)
    reader, work = Reader(mappings, engine), Work(mappings, chance)

    async def in_async_session(of: Callable[[Session], Any]) -> Any:
        async with AsyncSession(async_engine) as session:
            return await session.run_sync(of)

    def in_session(of: Callable[[Session], Any]) -> Any:
        if is_async:
            return asyncio.run(in_async_session(of))
        with Session(engine) as session:
            return of(session)

    flushes, commits = in_session(lambda session: live(session, reader, work))
    oracle = Oracle(mappings, reader, flushes, commits)
    with Session(engine) as session:
        oracle.events_are_what_was_seen(session)
        oracle.contexts_are_those_of_the_blocks(session)
        oracle.events_are_listed(session)
        oracle.versions_are_changes(session, chance)
        session.rollback()
        oracle.reverted_rows_are_what_they_were(session, chance)

    async def async_past(commit: Commit) -> Any:
        by_number = history.as_of(async_engine, transaction=commit.transaction)
        async with by_number as past:
            return await past.run_sync(reader.objects)

    for commit in commits:
        if commit.objects is None:
            continue
        if is_async:
            assert asyncio.run(async_past(commit)) == commit.objects
        with history.as_of(engine, commit.time) as past:
            assert reader.objects(past) == commit.objects

    async def async_undo(commit: Commit) -> None:
        async with AsyncSession(async_engine) as session:
            await history.undo(session, mappings.base, transaction=commit.transaction)
            await session.commit()

    for position in reversed(range(len(commits))):
        commit = commits[position]
        if is_async:
            asyncio.run(async_undo(commit))
        with Session(engine) as session:
            if not is_async:
                history.undo(session, mappings.base, transaction=commit.transaction)
                session.commit()
            oracle.undone(reader.rows(session)[1], position)
    mappings.base.registry.dispose()
    return len(commits), sum(map(len, oracle.events.values()))


@pytest.mark.parametrize("number", range(2 * SCALE))
def test_history_is_what_selects_have_seen(
    number: int, pg_engine: Engine, pg_async_engine: AsyncEngine
) -> None:
    seed = number if SCALE == 1 else random.randrange(10**6)
    print(f"seed {seed}")  # which pytest shows with a failure
    _run(seed, pg_engine, pg_async_engine, is_async=number % 2 == 1)
