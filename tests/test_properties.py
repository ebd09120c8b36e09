"""Random programs: each event is the one that a plain Python model foretells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, insert, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    joinedload,
    mapped_column,
)

import sa_history as history
from sa_history import (
    AfterDelete,
    AfterInsert,
    AfterUpdate,
    AnyChange,
    Snapshot,
    new,
    old,
    track,
)

pytestmark = pytest.mark.long


class Row(NamedTuple):
    """A row of the tracked table."""

    id: int
    number: int | None
    body: str | None
    noise: int


class Event(NamedTuple):
    """What is compared of an event."""

    label: str
    op: str
    id: int
    number: int | None
    body: str | None
    noise: int | None


# The model of the trackers: each gives the row it stores, or None.


def _less(a: int | None, b: int | None) -> bool:
    return a is not None and b is not None and a < b


def _quiet(row: Row) -> tuple[Any, ...]:
    return (row.id, row.number, row.body, None)


def on_insert(after: Row) -> list[Event]:
    events = [Event("snapshot", "I", *_quiet(after))]
    if _less(after.number, 0):
        events.append(Event("negative", "I", *after))
    return events


def on_update(before: Row, after: Row) -> list[Event]:
    events = []
    if _quiet(before) != _quiet(after):
        events.append(Event("snapshot", "U", *_quiet(after)))
    if _less(after.number, before.number):
        events.append(Event("fell", "U", *after))
    if before.body != after.body:
        events.append(Event("renamed", "U", before.id, None, before.body, None))
    events.append(Event("touched", "U", *after))
    return events


def on_delete(before: Row, op: str) -> list[Event]:
    events = [Event("gone", op, *before)]
    if _less(5, before.number):
        events.append(Event("big gone", op, *before))
    return events


LABELS = ["snapshot", "negative", "fell", "renamed", "touched", "gone", "big gone"]


@pytest.fixture
def thing(
    base: type[DeclarativeBase], create_all: Callable[[], None], level: str
) -> Any:
    @track(
        Snapshot(exclude=["noise"]),
        AfterInsert(new.number < 0, label="negative"),
        AfterUpdate(new.number < old.number, label="fell"),
        AfterUpdate(AnyChange("body"), label="renamed", row="old", columns=["body"]),
        AfterUpdate(None, label="touched"),
        AfterDelete(label="gone"),
        AfterDelete(old.number > 5, label="big gone"),
        level=level,
    )
    class Thing(base):  # type: ignore[misc, valid-type]
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int | None]
        body: Mapped[str | None]
        noise: Mapped[int]

    create_all()
    return Thing


@dataclass(eq=False)
class Block:
    """A block of the model: its own keys, and the context manager that it stands for.

    :param target: what it is bound to, nothing for the thread.
    """

    keys: dict[str, Any]
    target: tuple[Session, ...]
    manager: Any


@dataclass
class Statement:
    """The events of one statement, row by row, and the context they are linked to."""

    op: str
    rows: list[list[Event]]
    context: StoredContext | None


@dataclass(eq=False)
class StoredContext:
    """A row that a block has in the context table.

    :param parent: the block around it.
    :param copy_of: the block's first row, if an earlier transaction has stored that.
    """

    parent: Block | None
    copy_of: StoredContext | None


@dataclass
class State:
    """What a transaction can take back.

    ``first`` has the first row of each block, ``own`` the rows of this transaction.
    """

    rows: dict[int, Row] = field(default_factory=dict)
    statements: list[Statement] = field(default_factory=list)
    first: dict[Block, StoredContext] = field(default_factory=dict)
    own: dict[Block, StoredContext] = field(default_factory=dict)
    metadata: dict[StoredContext, dict[str, Any]] = field(default_factory=dict)

    def copy(self) -> State:
        return replace(
            self,
            rows=dict(self.rows),
            statements=list(self.statements),
            first=dict(self.first),
            own=dict(self.own),
            metadata=dict(self.metadata),
        )


# A program is a list of steps; what does not apply where it stands is passed over.

ids = st.integers(0, 5)
some_ids = st.sets(ids, min_size=1, max_size=4)
numbers = st.one_of(st.none(), st.integers(-3, 9))
bodies = st.one_of(st.none(), st.sampled_from(["", "a", "A", "O'Reilly % :x"]))
values = st.fixed_dictionaries(
    {}, optional={"number": numbers, "body": bodies, "noise": st.integers(0, 1)}
)
rows = st.builds(Row, ids, numbers, bodies, st.integers(0, 1))
keys = st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), max_size=2)
blocks = st.lists(st.tuples(st.booleans(), keys), min_size=1, max_size=3)
steps = st.one_of(
    st.tuples(st.just("insert"), st.lists(rows, min_size=1, max_size=3)),
    st.tuples(st.just("update"), some_ids, values.filter(bool)),
    st.tuples(st.just("update"), some_ids, values.filter(bool)),
    st.tuples(st.just("update_nothing"), some_ids),
    st.tuples(st.just("add"), some_ids, st.integers(-2, 2)),
    st.tuples(st.just("move"), some_ids, st.sampled_from([-6, 6, 12])),
    st.tuples(st.just("delete"), some_ids),
    st.tuples(st.just("truncate")),
    st.tuples(st.just("savepoint")),
    st.tuples(st.just("release")),
    st.tuples(st.just("roll_back_to_savepoint")),
    st.tuples(st.just("fail")),
    st.tuples(st.just("commit")),
    st.tuples(st.just("rollback")),
    st.tuples(st.just("enter"), blocks),
    st.tuples(st.just("enter"), blocks),
    st.tuples(st.just("leave")),
    st.tuples(st.just("annotate"), keys),
)


class Program:
    """Runs steps against the database and against the model."""

    def __init__(self, session: Session, thing: Any) -> None:
        self.session = session
        self.thing = thing
        self.state = State()
        self.committed = State()
        self.savepoints: list[tuple[Any, State]] = []
        self.blocks: list[Block] = []

    def run(self, program: list[tuple[Any, ...]]) -> None:
        try:
            for name, *arguments in program:
                getattr(self, name)(*arguments)
        finally:
            while self.blocks:
                self.leave()
        self.commit()

    # Statements.

    def _execute(self, statement: Any, op: str, rows: list[list[Event]]) -> None:
        self.session.execute(
            statement, execution_options={"synchronize_session": False}
        )
        if any(rows):
            self.state.statements.append(Statement(op, rows, self._context()))

    def _context(self) -> StoredContext | None:
        """Store the context in the model, if it is not stored yet, and return it."""
        if not self.blocks:
            return None
        block, state = self.blocks[-1], self.state
        metadata: dict[str, Any] = {}
        for each in self.blocks:
            metadata.update(each.keys)
        first = state.first.get(block)
        if block not in state.own:
            if first is not None and state.metadata[first] == metadata:
                return first
            parent = self.blocks[-2] if len(self.blocks) > 1 else None
            state.own[block] = StoredContext(parent, first)
            state.first.setdefault(block, state.own[block])
        state.metadata[state.own[block]] = metadata
        return state.own[block]

    def insert(self, rows: list[Row]) -> None:
        fresh = {row.id: row for row in rows if row.id not in self.state.rows}
        if fresh:
            self.state.rows.update(fresh)
            self._execute(
                insert(self.thing).values([row._asdict() for row in fresh.values()]),
                "I",
                [on_insert(row) for row in fresh.values()],
            )

    def _update(
        self, ids: set[int], change: Callable[[Row], Row], values: dict[str, Any]
    ) -> None:
        pairs = []
        for id_ in ids & self.state.rows.keys():
            before = self.state.rows.pop(id_)
            pairs.append((before, change(before)))
        self.state.rows.update({after.id: after for _, after in pairs})
        self._execute(
            update(self.thing).where(self.thing.id.in_(ids)).values(values),
            "U",
            [on_update(before, after) for before, after in pairs],
        )

    def update(self, ids: set[int], values: dict[str, Any]) -> None:
        self._update(ids, lambda row: row._replace(**values), values)

    def update_nothing(self, ids: set[int]) -> None:
        self._update(ids, lambda row: row, {"body": self.thing.body})

    def add(self, ids: set[int], amount: int) -> None:
        def change(row: Row) -> Row:
            if row.number is None:
                return row
            return row._replace(number=row.number + amount)

        self._update(ids, change, {"number": self.thing.number + amount})

    def move(self, ids: set[int], by: int) -> None:
        """Change keys, of several rows at once, where no other row is in the way."""
        moved = {id_ + by for id_ in ids & self.state.rows.keys()}
        if not moved & self.state.rows.keys():
            change = {"id": self.thing.id + by}
            self._update(ids, lambda row: row._replace(id=row.id + by), change)

    def delete(self, ids: set[int]) -> None:
        gone = [self.state.rows.pop(i) for i in ids & self.state.rows.keys()]
        self._execute(
            delete(self.thing).where(self.thing.id.in_(ids)),
            "D",
            [on_delete(row, "D") for row in gone],
        )

    def truncate(self) -> None:
        gone, self.state.rows = self.state.rows.values(), {}
        self._execute(
            text("TRUNCATE thing"), "T", [on_delete(row, "T") for row in gone]
        )

    # Transactions.

    def savepoint(self) -> None:
        point = self.session.begin_nested()
        self.session.connection()  # it is made with the first use
        self.savepoints.append((point, self.state.copy()))

    def release(self) -> None:
        if self.savepoints:
            self.savepoints.pop()[0].commit()

    def roll_back_to_savepoint(self) -> None:
        if self.savepoints:
            point, self.state = self.savepoints.pop()
            point.rollback()

    def fail(self) -> None:
        """Fail in a savepoint, after a change that is lost then."""
        self.savepoint()
        self.insert([Row(99, -1, "lost", 0)])
        with pytest.raises(IntegrityError):
            self.session.execute(insert(self.thing).values(id=99, noise=0))
        self.roll_back_to_savepoint()

    def commit(self) -> None:
        self.session.commit()
        self.state.own.clear()
        self.committed = self.state.copy()
        self.savepoints.clear()

    def rollback(self) -> None:
        self.session.rollback()
        self.state = self.committed.copy()
        self.savepoints.clear()

    # Contexts.

    def enter(self, blocks: list[tuple[bool, dict[str, Any]]]) -> None:
        for bound, keys in blocks:
            target = (self.session,) if bound else ()
            manager = history.context(*target, **keys)
            manager.__enter__()
            self.blocks.append(Block(dict(keys), target, manager))

    def leave(self) -> None:
        if self.blocks:
            self.blocks.pop().manager.__exit__(None, None, None)

    def annotate(self, keys: dict[str, Any]) -> None:
        if self.blocks:
            history.annotate(*self.blocks[-1].target, **keys)
            self.blocks[-1].keys.update(keys)


def check(program: Program, found: list[Any], by_row: bool) -> None:
    """Compare the events of the table with those that the model foretells."""
    found_rows = iter(found)
    ids: dict[StoredContext | None, Any] = {None: None}
    first = program.committed.first
    for statement in program.committed.statements:
        length = sum(map(len, statement.rows))
        chunk = list(islice(found_rows, length))
        assert len(chunk) == length, f"{statement} has too few events: {chunk}"
        in_order = [
            Event(e.pgh_label, e.pgh_op, e.id, e.number, e.body, e.noise) for e in chunk
        ]
        if by_row and statement.op != "T":
            check_row_by_row(statement.rows, in_order)
        else:
            check_tracker_by_tracker(statement.rows, in_order)
        assert all(event.pgh_obj_id == event.id for event in chunk)
        assert len({event.pgh_xact_id for event in chunk}) == 1
        # One row for each block, and a copy for a later transaction with other keys.
        (context_id,) = {event.pgh_context_id for event in chunk}
        stored = statement.context
        assert ids.setdefault(stored, context_id) == context_id
        if stored is not None:
            context = chunk[0].pgh_context
            assert context.metadata == program.committed.metadata[stored]
            if stored.copy_of is not None:
                assert context.parent_id == ids[stored.copy_of]
            elif stored.parent is None:
                assert context.parent_id is None
            else:
                assert context.parent_id is not None
                around = first.get(stored.parent)
                if around is not None:
                    assert ids.get(around, context.parent_id) == context.parent_id
    assert list(found_rows) == []
    assert len(set(ids.values())) == len(ids)


def check_tracker_by_tracker(rows: list[list[Event]], found: list[Event]) -> None:
    """At statement level: all rows of a tracker, in whatever order, then the next."""
    order = {label: number for number, label in enumerate(LABELS)}
    assert [e.label for e in found] == sorted((e.label for e in found), key=order.get)
    assert sorted(found, key=repr) == sorted(chain(*rows), key=repr)


def check_row_by_row(rows: list[list[Event]], found: list[Event]) -> None:
    """At row level: all trackers of a row, then the next row, in whatever order."""
    left = [row for row in rows if row]
    while found:
        row = next((r for r in left if r == found[: len(r)]), None)
        assert row is not None, f"{found} begins with none of {left}"
        left.remove(row)
        found = found[len(row) :]
    assert left == []


@settings(
    deadline=None,
    derandomize=True,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(program=st.lists(steps, min_size=10, max_size=40))
def test_events_are_those_that_the_model_foretells(
    program: list[tuple[Any, ...]], level: str, thing: Any, pg_engine: Engine
) -> None:
    with Session(pg_engine) as session:
        session.execute(text("TRUNCATE thing"))
        session.execute(text("TRUNCATE thing_event, pghistory_context"))
        session.commit()
        run = Program(session, thing)
        run.run(program)
        events = thing.events
        found = session.scalars(
            events.select().options(joinedload(events.model.pgh_context))
        ).all()
        check(run, list(found), by_row=level == "row")
        stored = session.execute(
            text("SELECT id, number, body, noise FROM thing ORDER BY id")
        ).all()
        assert [Row(*row) for row in stored] == sorted(run.committed.rows.values())
        used = {event.pgh_context_id for event in found} - {None}
        contexts = session.execute(text("SELECT id FROM pghistory_context")).scalars()
        assert set(contexts) == used
