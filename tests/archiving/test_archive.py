"""Closed partitions become files of Parquet, and are dropped once these are sure."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

import sa_history as history
from sa_history.exc import CommandError, EventsRemovedError
from sa_history.install import check
from tests.archiving.conftest import LATER

PARTS = ["pgh_part=1/events.parquet", "pgh_part=11/events.parquet"]


def test_closed_partitions_are_archived_and_open_ones_are_not(
    write: Any, archive: Any, manifest: Any, folder: Path, files: Any, run: Any
) -> None:
    write(25)
    reports = archive()
    found = reports["account_event"]
    assert [part.path for part in found.archived] == PARTS
    assert manifest().parts == found.archived
    assert (found.folder, found.open, found.problems) == (str(folder), None, ())
    assert reports["pghistory_context"].archived == ()
    table = parquet.read_table(folder / "public.account_event" / PARTS[1])
    assert table.column("pgh_id").to_pylist() == list(range(11, 21))
    first = found.archived[0]
    assert (first.rows, first.first_id, first.last_id) == (10, "1", "10")
    assert first.since < first.until < found.archived[1].since
    assert files() == ["public.account_event/_manifest.json"] + [
        f"public.account_event/{path}" for path in PARTS
    ]
    assert run(
        "SELECT path, rows, dropped_at FROM pghistory_archive ORDER BY path"
    ) == [
        (PARTS[0], 10, None),
        (PARTS[1], 10, None),
    ]


@pytest.fixture
def run(pg_engine: Engine) -> Callable[[str], list[tuple[Any, ...]]]:
    """Run a statement, and return what it returns."""

    def execute(statement: str) -> list[tuple[Any, ...]]:
        with pg_engine.begin() as connection:
            result = connection.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []

    return execute


def test_what_is_archived_is_not_written_again(write: Any, archive: Any) -> None:
    write(15)
    assert len(archive()["account_event"].archived) == 1
    assert archive()["account_event"].archived == ()
    write(10)
    assert [p.path for p in archive()["account_event"].archived] == PARTS[1:]


def test_only_events_that_are_old_enough_are_archived(write: Any, archive: Any) -> None:
    write(15)
    assert archive(older_than="1 day")["account_event"].archived == ()
    report = archive(older_than="1 day", now=LATER)["account_event"]
    assert [part.path for part in report.archived] == PARTS[:1]
    with pytest.raises(CommandError, match="number of days"):
        archive(older_than="long ago")


def test_contexts_are_archived_a_period_after_they_were_made(
    write: Any, archive: Any, manifest: Any, folder: Path, rows: Any
) -> None:
    write(15)
    part = archive(now=LATER)["pghistory_context"].archived[0]
    assert part.path == "pgh_part=first/contexts.parquet"
    assert (part.lower, part.since, part.rows) == (None, None, 15)
    table = parquet.read_table(folder / "public.pghistory_context" / part.path)
    ids = rows("(SELECT id FROM pghistory_context)")
    assert [f"({i})" for i in table.column("id").to_pylist()] == ids


def test_an_archived_partition_is_dropped_and_restored(
    write: Any,
    archive: Any,
    rows: Any,
    account: Any,
    pg_engine: Engine,
    base: Any,
    folder: Path,
    run: Any,
) -> None:
    write(25)
    events, contexts = rows(), rows("pghistory_context")
    report = archive(drop=True, now=LATER)["account_event"]
    assert "drop public.account_event_p1" in report.dropped
    assert set(rows(where="pgh_id > 0")) < set(events)
    assert len(rows(where="pgh_id > 0")) == 5
    assert len(rows(where="pgh_id < 0")) == 20  # the last event of each row
    dropped = "SELECT count(*) FROM pghistory_archive WHERE dropped_at IS NOT NULL"
    assert run(dropped) == [(2,)]
    # What is in the archive is said where it is asked for.
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    with (
        Session(pg_engine) as session,
        history.as_of(session, past) as at,
        pytest.raises(EventsRemovedError, match=f"is in {folder}"),
    ):
        at.get(account, 1)
    restored = {r.table: r for r in history.restore(pg_engine, folder, base)}
    assert restored["public.account_event"].rows == 20
    assert (rows(), rows("pghistory_context")) == (events, contexts)
    assert run(dropped) == [(0,)]
    assert history.restore(pg_engine, folder, base)[0].restored == ()
    # As before: everything is known again, and can be archived and dropped.
    assert check(pg_engine, base) == []
    assert archive(drop=True, now=LATER)["account_event"].archived == ()
    assert run(dropped) == [(2,)]
