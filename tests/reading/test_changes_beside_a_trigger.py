"""Changes and diffs, live and in an archive, beside what a plain trigger wrote down."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Row, text
from sqlalchemy.orm import DeclarativeBase, Session

import sa_history as history
from sa_history import AfterDelete, AfterUpdate, AggregateEvent, Snapshot, new

from .transactions import commit

LOG = (
    "CREATE TABLE log (number serial, op text, was jsonb, now jsonb)",
    """
    CREATE FUNCTION write_down() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      INSERT INTO log (op, was, now)
      VALUES (left(TG_OP, 1), to_jsonb(OLD), to_jsonb(NEW));
      RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER plain AFTER INSERT OR UPDATE OR DELETE ON thing
    FOR EACH ROW EXECUTE FUNCTION write_down()
    """,
)

TRACKERS: dict[str, Sequence[Any]] = {
    "one": [Snapshot, AfterDelete],
    "two": [Snapshot, Snapshot(label="again"), AfterDelete],
    "three, some of which see less": [
        Snapshot(label="whole"),
        AfterUpdate(new.a > 0, columns=["b"], label="part"),
        Snapshot(label="again", columns=["a"]),
        AfterDelete(columns=["id"], label="gone"),
        AfterDelete,
    ],
    "one of the row before": [
        Snapshot,
        AfterUpdate(row="old", label="was"),
        AfterDelete,
    ],
    "none of deletions": [Snapshot, Snapshot(label="again")],
    "only of deletions": [AfterDelete, AfterDelete(columns=["id"], label="gone")],
}

KEYS = (1, 2, 3)

BACK_AND_FORTH = [
    ["INSERT INTO thing VALUES (1, 1, 1), (2, 2, 2)"],
    [f"UPDATE thing SET id = {n} WHERE id = {4 - n}" for n in (3, 1, 3, 1)],
    [  # two rows exchange their keys, twice
        f"UPDATE thing SET id = {n} WHERE id = {m}"
        for m, n in ((1, 3), (2, 1), (3, 2)) * 2
    ],
    [
        f"{statement} thing {rest}"
        for statement, rest in [
            ("DELETE FROM", "WHERE id = 1"),
            ("INSERT INTO", "VALUES (1, 1, 1)"),
        ]
        * 2
    ],
    ["UPDATE thing SET b = 7 - b", "UPDATE thing SET a = a + 1"] * 2,
]


def _random_transactions(seed: int) -> Iterator[list[str]]:
    """Yield transactions that write few rows often."""
    choose = random.Random(seed)
    there: set[int] = set()
    for _ in range(6):
        statements = []
        for _ in range(choose.randint(1, 6)):
            key, value = choose.choice(KEYS), choose.randint(1, 2)
            free = sorted({*KEYS} - there)
            if key not in there:
                statements.append(f"INSERT INTO thing VALUES ({key}, {value}, 1)")
                there.add(key)
            elif choose.random() < 0.2:
                statements.append(f"DELETE FROM thing WHERE id = {key}")
                there.remove(key)
            elif free and choose.random() < 0.6:
                statements.append(f"UPDATE thing SET id = {free[0]} WHERE id = {key}")
                there = {*there, free[0]} - {key}
            else:
                column = choose.choice("ab")
                statements.append(
                    f"UPDATE thing SET {column} = {value} WHERE id = {key}"
                )
        yield statements


def _expected(log: Sequence[Row[Any]], key: int, *, kept: str) -> list[Any]:
    """Return the changes of ``a`` of the rows with a key, by the log."""
    found = []
    for _, op, was, now in log:
        before, after = (None if row is None else row["a"] for row in (was, now))
        is_move = op == "U" and was["id"] != now["id"]
        if op not in kept or (op == "U" and not is_move and before == after):
            continue
        if key == (was if op == "D" else now)["id"]:
            found.append((op, before, after))
    return found


@pytest.fixture
def written(pg_session: Session) -> Callable[[], Sequence[Row[Any]]]:
    """Write rows of the model, and return what a trigger for each row has seen."""

    def write() -> Sequence[Row[Any]]:
        commit(pg_session, *map(text, LOG))
        emptied = ["DELETE FROM thing"]
        for statements in (*BACK_AND_FORTH, emptied, *_random_transactions(1)):
            commit(pg_session, *map(text, statements))
        return pg_session.execute(text("SELECT * FROM log ORDER BY number")).all()

    return write


@pytest.mark.parametrize("trackers", TRACKERS)
def test_changes_are_those_that_a_trigger_sees(
    thing: Any,
    written: Callable[[], Sequence[Row[Any]]],
    base: type[DeclarativeBase],
    pg_session: Session,
    pg_engine: Engine,
    tmp_path: Path,
    level: str,
    trackers: str,
) -> None:
    options: Any = {"level": level, "partition_by": 1000}
    Thing = thing(*TRACKERS[trackers], **options)
    log = written()
    kept = {"none of deletions": "IU", "only of deletions": "D"}.get(trackers, "IUD")
    found = {
        key: pg_session.execute(history.changes((Thing, key), "a")).all()
        for key in KEYS
    }
    for key, rows in found.items():
        shown = [(row.pgh_op, row.before, row.after) for row in rows]
        assert shown == _expected(log, key, kept=kept)
    aggregated = pg_session.execute(AggregateEvent.select(Thing)).all()
    pg_session.commit()
    history.archive(pg_engine, base, to=tmp_path / "archive", open=True)
    with history.archived(tmp_path / "archive", base) as archive:
        for key, rows in found.items():
            assert archive.changes((Thing, key), "a") == rows
        assert [*map(tuple, archive.aggregate(Thing))] == [*map(tuple, aggregated)]


@pytest.mark.parametrize("trackers", ["two", "three, some of which see less"])
def test_diffs_are_those_that_a_trigger_sees(
    thing: Any,
    written: Callable[[], Sequence[Row[Any]]],
    pg_session: Session,
    level: str,
    trackers: str,
) -> None:
    Thing = thing(*TRACKERS[trackers], level=level)
    updates = [(was, now) for _, op, was, now in written() if op == "U" and was != now]
    events = pg_session.scalars(Thing.events.select()).all()
    expected: dict[str, list[Any]] = {
        "snapshot": [_diff(was, now) for was, now in updates],
        "part": [_diff(was, now, "id", "b") for was, now in updates if now["a"] > 0],
    }
    expected |= {"whole": expected["snapshot"]}
    for label in {event.pgh_label for event in events}.intersection(expected):
        diffs = [e.diff for e in events if (e.pgh_label, e.pgh_op) == (label, "U")]
        assert diffs == expected[label]
    rows = pg_session.execute(AggregateEvent.select(Thing)).all()
    for row, event in zip(rows, events, strict=True):
        assert (row.pgh_diff and {n: (*v,) for n, v in row.pgh_diff.items()}) == (
            event.diff
        )
    for key in KEYS:
        of_key = pg_session.scalars(Thing.events.of(key).select()).all()
        for event, changed in history.steps(of_key):
            if event.pgh_old_key is None:  # else the one before has another key
                assert changed == event.diff


def _diff(was: Any, now: Any, *names: str) -> dict[str, Any]:
    kept = names or (*now,)
    return {name: (was[name], now[name]) for name in kept if was[name] != now[name]}
