"""Questions about events of many models at random, with answers made by hand.

Events are read by SQL that is written here, and what a question asks for is sorted out
in Python. ``INJECTION_SCALE=12`` asks twelve times as many, of others each time.
"""

from __future__ import annotations

import json
import os
import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    Engine,
    Enum,
    ForeignKeyConstraint,
    Integer,
    Numeric,
    Table,
    Text,
    Uuid,
    func,
    select,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Session

import sa_history as history
from sa_history import AggregateEvent, track

from .transactions import settle

pytestmark = pytest.mark.long

SCALE = int(os.environ.get("INJECTION_SCALE", "1"))
QUESTIONS = 15
TRANSACTIONS = 25
KEYS = range(5)

CREATE = "CREATE SCHEMA one; CREATE SCHEMA two"


@dataclass(frozen=True, eq=False)
class Kind:
    """A table, and what its SQL is made of.

    :param key: the columns of its key.
    :param of: the SQL of the values of the key with a number.
    :param references: the columns of each foreign key, with the table it refers to.
    """

    table: Table
    key: Sequence[str]
    of: Callable[[int], Sequence[str]]
    references: Sequence[tuple[Sequence[str], str]]


def kinds_of(base: Any, chance: random.Random, level: str) -> dict[str, Kind]:
    """Make tables whose keys are of many types, each with references to others."""
    color = Enum(*(f"c{n}" for n in KEYS), name="color", metadata=base.metadata)
    types: dict[str, tuple[Any, Callable[[int], Sequence[str]]]] = {
        "big": (BigInteger, lambda n: [str(n + 2**40)]),
        "word": (Text, lambda n: [f"'w%{n}'"]),
        "id": (Uuid, lambda n: [f"'{uuid.UUID(int=n)}'"]),
        "day": (Date, lambda n: [f"'2026-01-0{n + 1}'"]),
        "number": (Numeric, lambda n: [f"{n}.50"]),
        "color": (color, lambda n: [f"'c{n}'"]),
    }
    kinds: dict[str, Kind] = {}
    pair = Table(
        "pair",
        base.metadata,
        Column("a", Integer, primary_key=True),
        Column("b b", Text, primary_key=True, key="b"),
        Column("up_a", Integer),
        Column("up_b", Text),
        Column("v", Integer),
        ForeignKeyConstraint(["up_b", "up_a"], ["pair.b", "pair.a"]),
    )
    up = (("up_a", "up_b"), "pair")
    kinds["pair"] = Kind(pair, ("a", "b b"), lambda n: [str(n), f"'{n}'"], [up])
    for name, (type_, of) in types.items():
        other = chance.choice([*kinds])
        parts = list(kinds[other].table.primary_key)
        names = [f"to_{n}" for n in range(len(parts))]
        table = Table(
            f"with_{name}",
            base.metadata,
            Column("key", type_, primary_key=True, autoincrement=False),
            Column("v", Integer, key=chance.choice(["v", "value"])),
            *(Column(n, c.type) for n, c in zip(names, parts, strict=True)),
            ForeignKeyConstraint(names, parts),
            schema=chance.choice([None, "one", "two"]),
        )
        kinds[name] = Kind(table, ("key",), of, [(names, other)])
    for kind in kinds.values():
        options: dict[str, Any] = {
            "context": chance.choice(["reference", "inline", None]),
            "partition_by": chance.choice([None, None, "month"]),
            "event_table": chance.choice([None, f"page_{kind.table.name}"]),
        }
        track(level=level, **options)(kind.table)
    return kinds


def write(connection: Any, kinds: dict[str, Kind], chance: random.Random) -> None:
    """Insert, update or delete some rows; what the database refuses is left out."""
    for _ in range(chance.randint(1, 6)):
        kind = chance.choice([*kinds.values()])
        name = connection.dialect.identifier_preparer.format_table(kind.table)
        values = dict(zip(kind.key, kind.of(chance.choice(KEYS)), strict=True))
        is_row = " AND ".join(f'"{c}" = {v}' for c, v in values.items())
        others = {"v": str(chance.randrange(3))}
        for columns, to in kind.references:
            referred = kinds[to].of(chance.choice(KEYS))
            nothing = ["NULL"] * len(columns)
            found = chance.choice([nothing, referred, referred])
            others |= dict(zip(columns, found, strict=True))
        whole = values | others
        sql = (
            f"INSERT INTO {name} ({', '.join(f'{chr(34)}{c}{chr(34)}' for c in whole)})"
            f" VALUES ({', '.join(whole.values())})",
            f"UPDATE {name} SET {', '.join(f'{c} = {v}' for c, v in others.items())}"
            f" WHERE {is_row}",
            f"DELETE FROM {name} WHERE {is_row}",
        )
        statement = chance.choices(sql, (5, 4, 1))[0].replace("%", "%%")
        connection.exec_driver_sql(
            f"DO $$ BEGIN {statement}; EXCEPTION"
            " WHEN integrity_constraint_violation THEN NULL; END $$"
        )


@dataclass(frozen=True, eq=False)
class Found:
    """An event as PostgreSQL has it.

    :param row: all its columns, as JSON has them.
    :param context: the metadata of its context.
    :param before: the event of the row before it; None if its diff is None.
    """

    kind: Kind
    row: dict[str, Any]
    context: dict[str, Any] | None
    before: dict[str, Any] | None

    def key(self) -> list[Any]:
        """Return the key of its row."""
        return [self.row[name] for name in self.kind.key]

    def shown(self) -> list[Any]:
        """Return what an answer has of it, as text."""
        table = self.kind.table
        names = {column.key: column.name for column in table.columns}
        data = {key: self.row[name] for key, name in names.items()}
        diff = None
        if self.before is not None:
            pairs = {key: [self.before[n], self.row[n]] for key, n in names.items()}
            diff = {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
        known = [self.row["pgh_id"], table.name, self.row["pgh_op"]]
        return [*known, *(as_text(value) for value in (self.context, data, diff))]


def as_text(value: Any) -> str:
    """Return JSON in which numbers of one value are alike, be they exact or not."""

    def plain(exact: Decimal) -> float:
        return int(exact) if exact == int(exact) else float(exact)

    return json.dumps(value, default=plain, sort_keys=True)


def events_by_hand(connection: Any, kinds: dict[str, Kind]) -> list[Found]:
    """Read all events, in their order."""
    found: list[Found] = []
    for kind in kinds.values():
        events = history.events(kind.table).table
        name = connection.dialect.identifier_preparer.format_table(events)
        last: dict[str, dict[str, Any]] = {}
        inline = "e.pgh_context" if "pgh_context" in events.c else "NULL::jsonb"
        by_id = "e.pgh_context_id" if "pgh_context_id" in events.c else "NULL"
        rows = connection.exec_driver_sql(
            f"SELECT to_jsonb(e), coalesce({inline}, c.metadata) FROM {name} AS e"
            f" LEFT JOIN pghistory_context AS c ON c.id = {by_id} ORDER BY e.pgh_id"
        )
        for row, context in rows:
            key = as_text([row[part] for part in kind.key])
            before = None if row["pgh_op"] == "I" else last[key]
            found.append(Found(kind, row, context, before))
            last[key] = row
    return sorted(found, key=lambda event: int(event.row["pgh_id"]))


def referring(
    events: list[Found], kinds: dict[str, Kind], of: Kind, keys: set[str], hops: int
) -> Iterator[Found]:
    """Yield the events of rows that referred to some rows of a table."""
    if hops < 1:
        return
    for kind in kinds.values():
        for columns, to in kind.references:
            if kinds[to] is not of:
                continue
            direct = [
                event
                for event in events
                if event.kind is kind
                and as_text([event.row[name] for name in columns]) in keys
            ]
            yield from direct
            own = {as_text(event.key()) for event in direct}
            yield from referring(events, kinds, kind, own, hops - 1)


@pytest.mark.parametrize("seed", range(SCALE))
def test_answers_are_those_found_by_hand(
    base: type[DeclarativeBase], pg_engine: Engine, level: str, seed: int
) -> None:
    chance = random.Random(f"{level} {seed}")
    kinds = kinds_of(base, chance, level)
    with pg_engine.begin() as connection:
        connection.execute(text(CREATE))
        base.metadata.create_all(connection)
    for number in range(TRANSACTIONS):
        with (
            Session(pg_engine) as session,
            history.context(session, user=number % 2, turn={"number": number}),
        ):
            write(session.connection(), kinds, chance)
            session.commit()
    with Session(pg_engine) as session:
        events = events_by_hand(session.connection(), kinds)
        session.rollback()
        settle(session)
        for _ in range(QUESTIONS):
            ask(session, base, kinds, events, chance)
        feed: list[Any] = []
        while page := history.feed_page(
            session,
            base,
            after=history.cursor_of(feed[-1]) if feed else None,
            limit=chance.randint(1, 30),
        ):
            feed += page
    assert answer(feed) == [event.shown() for event in events]


def answer(rows: Sequence[Any]) -> list[list[Any]]:
    return [
        [
            *(row.pgh_id, row.pgh_obj_model, row.pgh_op),
            *(as_text(v) for v in (row.pgh_context, row.pgh_data, row.pgh_diff)),
        ]
        for row in rows
    ]


def ask(
    session: Session,
    base: Any,
    kinds: dict[str, Kind],
    events: list[Found],
    chance: random.Random,
) -> None:
    """Ask one question in several ways, and compare the answers."""
    targets: list[Any] = []
    wanted: list[Found] = []
    asked: dict[str, Any] = {"references": chance.choice([0, 0, 1, 2, 3])}
    for _ in range(chance.choice([1, 1, 2])):
        one = chance.choice(events)
        table = one.kind.table
        of_table = [event for event in events if event.kind is one.kind]
        of_row = [event for event in of_table if event.key() == one.key()]
        key = select(*(history.events(table).table.c[name] for name in one.kind.key))
        key = key.where(history.events(table).table.c.pgh_id == one.row["pgh_id"])
        target, found = chance.choice(
            [
                (base, events),
                (table, of_table),
                ((table, key), of_row),
                ((table, tuple(session.execute(key).one())), of_row),
            ]
        )
        targets.append(target)
        wanted += found
        if target is not base:
            keys = {as_text(event.key()) for event in found}
            hops = asked["references"]
            wanted += referring(events, kinds, one.kind, keys, hops)
    numbers = {event.row["pgh_id"] for event in wanted}
    left = [event for event in events if event.row["pgh_id"] in numbers]
    some = chance.choice(events)
    if chance.random() < 0.3:
        asked["before"] = some.row["pgh_id"]
        left = [event for event in left if event.row["pgh_id"] < asked["before"]]
    if chance.random() < 0.2:
        asked["transaction"] = some.row["pgh_xact_id"]
        left = [e for e in left if e.row["pgh_xact_id"] == asked["transaction"]]
    if chance.random() < 0.3:
        asked["context"] = {"user": 1}
        left = [e for e in left if e.context is not None and e.context["user"] == 1]
    if chance.random() < 0.2:
        asked["labels"] = ["delete"]
        left = [event for event in left if event.row["pgh_label"] == "delete"]
    if chance.random() < 0.2:
        across = chance.sample([*kinds.values()], 3)
        asked["across"] = [kind.table for kind in across]
        left = [event for event in left if event.kind in across]
        if not {e.kind for e in events if e.row["pgh_id"] in numbers} & {*across}:
            return  # it may be refused, if no such table is asked for
    if chance.random() < 0.5:
        asked["newest_first"] = True
        left = left[::-1]
    if chance.random() < 0.5:
        asked["limit"] = chance.choice([0, 1, 5, 50])
        left = left[: asked["limit"]]
    expected = [event.shown() for event in left]
    statement = AggregateEvent.select(*targets, **asked)
    assert answer(session.execute(statement).all()) == expected, asked
    assert answer(AggregateEvent.page(session, *targets, **asked)) == expected, asked
    in_other = select(func.count()).select_from(statement.subquery())
    assert session.scalar(in_other) == len(left)
