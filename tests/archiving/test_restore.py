"""What was dropped comes back: into the same database, and into an empty one."""

from __future__ import annotations

import asyncio
import datetime
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute
import pytest
from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

import sa_history as history
from sa_history.archiving.folder import ArchiveFolder
from sa_history.archiving.loading import _Reader, load_part
from sa_history.archiving.manifest import EXACT
from sa_history.archiving.rewriting import rewrite_part, with_nulls
from sa_history.exc import ArchiveError, EventsRemovedError
from sa_history.install import check
from sa_history.sql.compose import Qualified
from sa_history.testing.binaries import find_bindir
from tests.archiving.conftest import LATER


def test_an_empty_database_gets_all_of_it(
    write: Any, archive: Any, pg_engine: Engine, base: Any, folder: Path, rows: Any
) -> None:
    write(25)
    archive(now=LATER)
    events = rows(where="pgh_id <= 20")
    contexts = rows("pghistory_context")
    base.metadata.drop_all(pg_engine)
    base.metadata.create_all(pg_engine)
    told: list[Any] = []
    reports = history.restore(pg_engine, folder, base, progress=told.append)
    assert [report.rows for report in reports] == [len(events), len(contexts)]
    assert rows() == events
    assert rows("pghistory_context") == contexts
    assert len(told) > 2
    # New events have later numbers, and the archive goes on.
    write(4)
    assert len(rows(where="pgh_id > 20")) == 4
    archive(drop=True, now=LATER)
    assert len(rows(where="pgh_id > 0")) == 4
    history.restore(pg_engine, folder, base)
    assert len(rows()) == 24
    # Events of these numbers are there, which no record says are archived.
    with pg_engine.begin() as connection:
        connection.execute(text("DELETE FROM pghistory_archive"))
    with pytest.raises(ArchiveError, match="restore into an empty database"):
        history.restore(pg_engine, folder, base)


def test_what_a_folder_has_lost_is_told(
    write: Any, archive: Any, pg_engine: Engine, base: Any, folder: Path, rows: Any
) -> None:
    write(25)
    archive(drop=True, now=LATER)
    before = rows()
    events = folder / "public.account_event"
    events.rename(folder / "other")
    told = r"has not public\.account_event/pgh_part=1/.* and dropped; give that folder"
    with pytest.raises(ArchiveError, match=told):
        history.restore(pg_engine, folder, base)
    (folder / "other").rename(events)
    (events / "_manifest.json").unlink()
    told = r"public\.account_event has no _manifest\.json, .* from a backup"
    with pytest.raises(ArchiveError, match=told):
        history.restore(pg_engine, folder, base)
    assert rows() == before


def test_a_dump_has_what_was_archived_and_dropped(
    write: Any,
    archive: Any,
    pg_engine: Engine,
    other_url: URL,
    base: Any,
    folder: Path,
    rows: Any,
) -> None:
    write(25)
    events = rows()
    archive(drop=True, now=LATER)
    recorded = rows("pghistory_archive")
    uris = [
        url.set(drivername="postgresql").render_as_string(hide_password=False)
        for url in (pg_engine.url, other_url)
    ]
    dump = [find_bindir() / "pg_dump", "--no-owner", uris[0]]
    dumped = subprocess.run(dump, capture_output=True, text=True, check=True).stdout
    load = [find_bindir() / "psql", "-q", "-v", "ON_ERROR_STOP=1", uris[1]]
    sql = dumped.replace("CREATE SCHEMA public;", "")
    subprocess.run(load, input=sql, capture_output=True, text=True, check=True)
    copy = create_engine(other_url, poolclass=NullPool)

    def read(table: str) -> list[str]:
        with copy.connect() as connection:
            query = f"SELECT t::text FROM {table} AS t ORDER BY 1"
            return list(connection.scalars(text(query)))

    assert read("pghistory_archive") == recorded != []
    assert check(copy, base) == []
    # It is the same archive to it: nothing is written again, and all comes back.
    reports = history.archive(copy, base, to=folder, verify=True, now=LATER)
    assert [(r.archived, r.problems) for r in reports] == [((), ())] * len(reports)
    history.restore(copy, folder, base)
    assert read("account_event") == events


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def test_the_newest_events_may_come_back_alone(
    write: Any,
    archive: Any,
    pg_engine: Engine,
    base: Any,
    account: Any,
    folder: Path,
    rows: Any,
    manifest: Any,
) -> None:
    write(25)
    events = rows()
    archive(drop=True, now=LATER)
    since = datetime.datetime.fromisoformat(manifest().parts[1].since)
    history.restore(pg_engine, folder, base, since=since)
    assert len(rows(where="pgh_id > 0")) == 15
    # What the rows before were like is not kept any more.
    with (
        Session(pg_engine) as session,
        history.as_of(session, _now()) as at,
        pytest.raises(EventsRemovedError, match="the last ones of its rows with them"),
    ):
        at.get(account, 1)
    history.restore(pg_engine, folder, base)
    assert rows() == events
    with (
        Session(pg_engine) as session,
        history.as_of(session, _now()) as at,
    ):
        assert at.get(account, 1) is not None


def test_a_file_that_is_not_what_was_archived_is_not_restored(
    write: Any, archive: Any, pg_engine: Engine, base: Any, folder: Path, rows: Any
) -> None:
    write(15)
    archive(drop=True, now=LATER)
    file = folder / "public.account_event/pgh_part=1/events.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole + b"x")
    with pytest.raises(ArchiveError, match="another digest than the manifest says"):
        history.restore(pg_engine, folder, base)
    file.unlink()
    with pytest.raises(ArchiveError, match="is missing; restore it from a backup"):
        history.restore(pg_engine, folder, base)
    manifest = folder / "public.account_event/_manifest.json"
    fields = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**fields, "format": 2}))
    with pytest.raises(ArchiveError, match="later version of sa_history"):
        history.restore(pg_engine, folder, base)
    manifest.write_text("[]")
    with pytest.raises(ArchiveError, match="is no manifest of an archive"):
        history.restore(pg_engine, folder, base)
    assert len(rows(where="pgh_id > 0")) == 5


def test_an_engine_of_psycopg2_archives_and_restores(
    write: Any, archive: Any, pg_engine: Engine, base: Any, folder: Path, rows: Any
) -> None:
    write(15)
    events = rows()
    engine = create_engine(pg_engine.url.set(drivername="postgresql+psycopg2"))
    history.archive(engine, base, to=folder, drop=True, now=LATER)
    history.restore(engine, folder, base)
    assert rows() == events
    engine.dispose()


def test_an_engine_of_asyncpg_archives_and_does_not_restore(
    write: Any, pg_engine: Engine, base: Any, folder: Path
) -> None:
    write(15)
    engine = create_async_engine(
        pg_engine.url.set(drivername="postgresql+asyncpg"), poolclass=NullPool
    )

    async def run(work: Callable[[Engine], Any]) -> Any:
        async with engine.connect() as connection:
            return await connection.run_sync(lambda sync: work(sync.engine))

    def archive(sync: Engine) -> Any:
        return history.archive(sync, base, to=folder, drop=True, now=LATER)

    assert len(asyncio.run(run(archive))[0].archived) == 1
    with pytest.raises(ArchiveError, match="cannot be copied by asyncpg"):
        asyncio.run(run(lambda sync: history.restore(sync, folder, base)))


def test_a_file_is_rewritten_without_some_values(
    write: Any, archive: Any, manifest: Any, pg_engine: Engine, folder: Path, rows: Any
) -> None:
    """As an erasure does; it goes on where it was interrupted."""
    write(15)
    archive(open=True)
    opened = ArchiveFolder(folder)
    before = manifest()
    (part,) = before.parts

    def erase(batch: Any) -> Any:
        is_one = pyarrow.compute.equal(batch.column("id"), 3)
        return with_nulls(batch, is_one, "balance")

    file = folder / "public.account_event" / part.path
    old = file.read_bytes()
    after = rewrite_part(opened, before, part, erase)
    assert after == manifest()
    assert after.parts[0].replaced == (part.sha256,)
    file.write_bytes(old)  # as of a kill between the manifest and the file
    again = rewrite_part(opened, after, after.parts[0], erase)
    assert again == after
    report = archive(verify=True)["account_event"]
    assert report.problems == (f"{file} differs from public.account_event_p1 in row 3",)
    file.write_bytes(old)
    assert (
        "still has values that were to be erased"
        in (archive(verify=True)["account_event"].problems[0])
    )
    file.write_bytes(old + b"x")
    with pytest.raises(ArchiveError, match="restore it from a backup before values"):
        rewrite_part(opened, after, after.parts[0], erase)
    # The open part is rewritten in the same way.
    renewed = rewrite_part(opened, after, after.open, lambda batch: batch).open
    assert (renewed.sha256, renewed.replaced) == (after.open.sha256, ())
    # A part comes back into any table, by whom it is compared.
    rewrite_part(opened, after, after.open, erase)
    with pg_engine.begin() as connection:
        connection.execute(text("CREATE TABLE back (LIKE account_event)"))
        load_part(connection, opened, after, after.open, Qualified("public", "back"))
    assert rows("back") == rows(where="pgh_id > 10")


def test_a_change_that_is_another_one_each_time_is_not_written(
    write: Any, archive: Any, folder: Path
) -> None:
    write(15)
    archive()
    opened = ArchiveFolder(folder)
    before = opened.read_manifest("public.account_event")
    assert before is not None
    times = iter(range(1, 9))

    def change(batch: Any) -> Any:
        is_one = pyarrow.compute.equal(batch.column("id"), next(times))
        return with_nulls(batch, is_one, "balance")

    with pytest.raises(ArchiveError, match="is not what was written"):
        rewrite_part(opened, before, before.parts[0], change)
    assert opened.read_manifest("public.account_event") == before


def test_rows_are_read_in_pieces_of_any_size() -> None:
    reader = _Reader(iter([b"abcde", b"f"]))
    pieces = [reader.read(3), reader.read(3), reader.read(3), reader.read(3)]
    assert pieces == [b"abc", b"de", b"f", b""]


def test_nulls_also_take_the_place_of_what_only_the_text_has() -> None:
    pa = pyarrow
    batch = pa.RecordBatch.from_pydict(
        {
            "day": pa.array([None, None, None], pa.date32()),
            "time": pa.array([None, None, None], pa.timestamp("us")),
            EXACT: [
                '{"day": "infinity", "time": "-infinity"}',
                '{"day": "infinity"}',
                '{"day": "infinity"}',
            ],
        }
    )
    changed = with_nulls(batch, pa.array([True, True, False]), "day")
    assert changed.column(EXACT).to_pylist() == [
        '{"time": "-infinity"}',
        None,
        '{"day": "infinity"}',
    ]
