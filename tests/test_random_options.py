"""Options of ``track`` at random, together: all ways to read a history agree.

A history is written, sealed, erased, archived, dropped and restored. What is read of it
is the same at each step, it verifies, and nothing is missing in the database.
``INJECTION_SCALE=12`` tries twelve times as many options, others each time.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, String, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterDelete, AfterUpdate, AggregateEvent, AnyChange, Snapshot
from sa_history.install import check

SCALE = int(os.environ.get("INJECTION_SCALE", "1"))

TRACKERS: tuple[tuple[Any, ...], ...] = (
    (),
    (Snapshot, AfterDelete),
    (Snapshot, AfterDelete, AfterUpdate(AnyChange("value"), label="value")),
)
POSSIBLE: dict[str, tuple[Callable[[], Any], float]] = {
    "level": (lambda: "row", 0.4),
    "events": (lambda: "past", 0.3),
    "event_table": (lambda: "odd/name", 0.3),
    "schema": (lambda: "other.schema", 0.3),
    "context": (lambda: "inline", 0.4),
    "context_columns": (lambda: [Column("user", Integer), Column("ip", String)], 0.4),
    "append_only": (lambda: True, 0.4),
    "created_at": (func.clock_timestamp, 0.4),
    "ignorable": (lambda: False, 0.4),
    "index": (lambda: ["value"], 0.4),
    "notify": (lambda: "changes", 0.4),
    "exclude": (lambda: ["noise"], 0.3),
    "sealed": (lambda: True, 0.7),
    "erasable": (lambda: ["value"], 0.7),
    "erasable_context": (lambda: ["ip"], 0.5),
}
"""What each option may be, and how often it is given."""


def some_options(chance: random.Random) -> dict[str, Any]:
    """Return options at random; the events have partitions, to be archived."""
    options = {
        n: of() for n, (of, often) in POSSIBLE.items() if chance.random() < often
    }
    return {"partition_by": 2, **options}


def write(session: Session, model: Any, chance: random.Random) -> None:
    """Insert, change, move and delete rows, each in a context or in none."""
    for number in range(1, 21):
        keys = session.scalars(select(model.id)).all()
        by = {"user": number % 3, "ip": f"10.0.0.{number}", "why": str(number)}
        is_known = chance.random() < 0.7
        with history.context(session, **by) if is_known else nullcontext():
            what = chance.random() if keys else 0
            row = session.get(model, chance.choice(keys)) if keys else None
            if what < 0.45:
                value = chance.choice("xyz")
                session.add(model(id=number, value=value, noise=number))
            elif what < 0.7:
                row.value, row.noise = chance.choice("xyz"), number
            elif what < 0.8:
                session.delete(row)
            elif what < 0.9:
                row.id += 1000 * number
            else:
                session.execute(text("UPDATE thing SET value = value || '!'"))
            session.commit()


class Answers:
    """What is asked of a history, by the keys of rows."""

    def __init__(self, model: Any, options: dict[str, Any], keys: list[int]) -> None:
        self.model, self.keys = model, keys
        self.name = options.get("events", "events")

    def live(self, session: Session, when: Any) -> list[Any]:
        """Ask the database."""
        events = getattr(self.model, self.name)
        with history.as_of(session, when) as past:
            rows = self._rows(past.scalars(select(self.model)))
        return [
            rows,
            [*map(tuple, session.execute(AggregateEvent.select(self.model)))],
            *(
                self._told(session.scalars(events.of(key).select()))
                for key in self.keys
            ),
            *(
                [*map(tuple, session.execute(history.changes(target, "value")))]
                for target in self._targets()
            ),
        ]

    def archived(self, archive: history.Archived, when: Any) -> list[Any]:
        """Ask an archive the same."""
        return [
            self._rows(archive.as_of(when).select(self.model)),
            [*map(tuple, archive.aggregate(self.model))],
            *(
                self._told(archive.events(self.model, key, name=self.name))
                for key in self.keys
            ),
            *(
                [*map(tuple, archive.changes(target, "value"))]
                for target in self._targets()
            ),
        ]

    def _targets(self) -> list[tuple[Any, int]]:
        return [(self.model, key) for key in self.keys]

    def _rows(self, rows: Any) -> list[Any]:
        return sorted((row.id, str(row.value)) for row in rows)

    def _told(self, events: Any) -> list[Any]:
        return [(e.pgh_id, e.pgh_op, e.value, repr(e.diff)) for e in events]


@pytest.mark.parametrize("number", range(2 * SCALE))
@pytest.mark.usefixtures("read_committed")
def test_a_history_is_the_same_live_archived_and_restored(
    number: int, base: type[DeclarativeBase], pg_engine: Engine, tmp_path: Path
) -> None:
    class Thing(base):  # type: ignore[misc, valid-type]
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        value: Mapped[str | None]
        noise: Mapped[int | None]

    seed = number if SCALE == 1 else random.randrange(10**6)
    chance = random.Random(seed)
    options = some_options(chance)
    print(f"seed {seed}: {options}")  # which pytest shows with a failure
    history.track(*chance.choice(TRACKERS), **options)(Thing)
    with pg_engine.begin() as connection:
        connection.execute(text('CREATE SCHEMA "other.schema"'))
    base.metadata.create_all(pg_engine)
    can_be_erased = not options.keys().isdisjoint({"erasable", "erasable_context"})

    def problems() -> list[Any]:
        found: list[Any] = check(pg_engine, base)
        for archive in (None, tmp_path) if "sealed" in options else ():
            if archive is None or any(archive.iterdir()):
                verified = history.verify(pg_engine, base, archive=archive)
                found += verified.discrepancies
        return found

    def erase(key: int, archive: Path | None = None) -> None:
        if can_be_erased:
            with Session(pg_engine) as session:
                history.erase(session, Thing, key, archive=archive)
                session.commit()

    with Session(pg_engine) as session:
        write(session, Thing, chance)
        keys = sorted(session.scalars(select(Thing.id)))
        when = session.scalar(select(func.clock_timestamp()))
    answers = Answers(Thing, options, keys)
    if "sealed" in options:
        history.seal(pg_engine, base)
    erase(keys[0])
    history.partitions(pg_engine, base)
    assert problems() == []
    with Session(pg_engine) as session:
        before = answers.live(session, when)
    assert [key for key, _ in before[0]] == keys

    history.archive(pg_engine, base, to=tmp_path, drop=True)
    with history.archived(tmp_path, base, live=pg_engine) as archive:
        assert answers.archived(archive, when) == before
    erase(keys[-1], tmp_path)
    assert problems() == []
    with history.archived(tmp_path, base, live=pg_engine) as archive:
        erased = answers.archived(archive, when)

    history.restore(pg_engine, tmp_path, base)
    assert problems() == []
    with Session(pg_engine) as session:
        assert answers.live(session, when) == erased
