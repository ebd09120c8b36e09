"""Closed partitions become files of Parquet, and are dropped once these are sure."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as parquet
import pytest
from sqlalchemy import Engine, MetaData, text
from sqlalchemy.orm import Session

import sa_history as history
from sa_history import AggregateEvent
from sa_history.archiving import packages, part_files, table_archive
from sa_history.archiving.carriers import arrow_schema
from sa_history.archiving.manifest import ArchivedColumn
from sa_history.archiving.source import open_source
from sa_history.archiving.table_archive import TableArchive
from sa_history.exc import ArchiveError, CommandError, EventsRemovedError
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


@pytest.mark.full
def test_what_is_archived_is_not_written_again(write: Any, archive: Any) -> None:
    write(15)
    assert len(archive()["account_event"].archived) == 1
    assert archive()["account_event"].archived == ()
    write(10)
    assert [p.path for p in archive()["account_event"].archived] == PARTS[1:]


def test_only_events_that_are_old_enough_are_archived(write: Any, archive: Any) -> None:
    write(15)
    assert archive(older_than="1 day")["account_event"].archived == ()
    soon = LATER + datetime.timedelta(hours=1)
    report = archive(older_than="100 days", now=soon)["account_event"]
    assert [part.path for part in report.archived] == PARTS[:1]
    with pytest.raises(CommandError, match="number of days"):
        archive(older_than="long ago")


@pytest.mark.full
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
    with (
        Session(pg_engine) as session,
        pytest.raises(EventsRemovedError, match=f"is in {folder}"),
    ):
        session.execute(AggregateEvent.select(base, since=past))
    restored = {r.table: r for r in history.restore(pg_engine, folder, base)}
    assert restored["public.account_event"].rows == 20
    assert (rows(), rows("pghistory_context")) == (events, contexts)
    assert run(dropped) == [(0,)]
    assert history.restore(pg_engine, folder, base)[0].restored == ()
    # As before: everything is known again, and can be archived and dropped.
    assert check(pg_engine, base) == []
    assert archive(drop=True, now=LATER)["account_event"].archived == ()
    assert run(dropped) == [(2,)]


def test_a_table_that_has_an_archive_keeps_what_is_not_in_it(
    write: Any, archive: Any, pg_engine: Engine, base: Any, run: Any
) -> None:
    write(15)
    archive(now=LATER)
    write(10)
    reports = history.partitions(pg_engine, base, keep="1 day", now=LATER)
    (kept,) = reports[0].postponed
    assert kept.startswith(
        "remove public.account_event_p11: it is not in the archive /"
    )
    assert "without_archive=True (--without-archive)" in kept
    events = "SELECT count(*) FROM account_event WHERE pgh_id > 0"
    assert run(events) == [(15,)]
    # Events that come late make it another partition than the archived one.
    archive(now=LATER)
    run("ALTER TABLE account_event_p11 DISABLE TRIGGER ALL")
    run("DELETE FROM account_event_p11 WHERE pgh_id = 15")
    reports = history.partitions(pg_engine, base, keep="1 day", now=LATER)
    assert "changed since it was archived" in reports[0].postponed[0]
    reports = history.partitions(
        pg_engine, base, keep="1 day", now=LATER, without_archive=True
    )
    assert "drop public.account_event_p11" in reports[0].done
    assert run(events) == [(5,)]
    dropped = "SELECT count(*) FROM pghistory_archive WHERE dropped_at IS NOT NULL"
    assert run(f"{dropped} AND table_name = 'public.account_event'") == [(2,)]


def test_verify_finds_what_is_missing_or_changed_and_drop_keeps_its_partition(
    write: Any, archive: Any, folder: Path, run: Any
) -> None:
    write(25)
    archive()
    report = archive(verify=True)["account_event"]
    assert (report.problems, len(report.verified)) == ((), 2)
    first, second = (folder / "public.account_event" / path for path in PARTS)
    whole = first.read_bytes()
    first.write_bytes(whole[:-1] + b"x")
    second.unlink()
    report = archive(verify=True, drop=True)["account_event"]
    assert report.problems == (
        f"{first} has another digest than the manifest says",
        f"{second} is missing",
    )
    assert report.postponed == (
        "remove public.account_event_p1: it is not in the archive",
    )
    # The database is another than the file, which is as it was written.
    first.write_bytes(whole)
    run("ALTER TABLE account_event_p1 DISABLE TRIGGER ALL")
    run("UPDATE account_event_p1 SET balance = 7 WHERE pgh_id = 3")
    report = archive(verify=True)["account_event"]
    assert f"{first} differs from public.account_event_p1 in row 3" in report.problems
    assert report.verified == ()
    run("ALTER TABLE account_event ADD COLUMN note text, ALTER balance TYPE bigint")
    report = archive(verify=True)["account_event"]
    other = f"{first} has other columns than public.account_event_p1"
    assert report.problems == (f"{second} is missing", other)
    assert report.verified == ()


def test_open_writes_what_comes_after_the_archive(
    write: Any, archive: Any, manifest: Any, folder: Path, files: Any
) -> None:
    write(15)
    report = archive(open=True)["account_event"]
    assert (report.open.path, report.open.lower, report.open.upper) == (
        "pgh_part=open/events.parquet",
        "11",
        None,
    )
    read = parquet.read_table(folder / "public.account_event" / report.open.path)
    assert read.column("pgh_id").to_pylist() == list(range(11, 16))
    assert manifest().open == report.open
    assert manifest("pghistory_context").open.rows == 15
    # What it has too is archived: it goes.
    write(10)
    assert archive()["account_event"].open is None
    assert manifest().open is None
    assert not [path for path in files() if "account_event/pgh_part=open" in path]


def test_a_partition_whose_record_is_lost_is_compared_and_recorded(
    write: Any, archive: Any, folder: Path, run: Any
) -> None:
    """As after a kill between the manifest and the end of the transaction."""
    write(15)
    (part,) = archive()["account_event"].archived
    run("DELETE FROM pghistory_archive")
    assert archive()["account_event"].archived == (part,)
    # Of a database with other events it is refused.
    run("DELETE FROM pghistory_archive")
    run("ALTER TABLE account_event_p1 DISABLE TRIGGER ALL")
    run("UPDATE account_event_p1 SET balance = 7")
    with pytest.raises(ArchiveError, match="may be of another database"):
        archive()


def test_an_archive_may_be_moved_and_not_be_lost(
    write: Any, archive: Any, folder: Path, run: Any
) -> None:
    write(15)
    archive()
    moved = folder.with_name("moved")
    with pytest.raises(ArchiveError, match=f"archived to {folder}; give that folder"):
        archive(moved)
    shutil.move(folder, moved)
    archive(moved)
    assert run("SELECT DISTINCT folder FROM pghistory_archive") == [(str(moved),)]


@pytest.mark.parametrize("mode", ["ROW EXCLUSIVE", "ACCESS EXCLUSIVE"])
def test_who_writes_a_partition_makes_it_wait(
    write: Any,
    archive: Any,
    pg_engine: Engine,
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(15)
    lock = TableArchive._lock
    with pg_engine.connect() as connection, monkeypatch.context() as patch:

        def lock_after_another(self: TableArchive, *arguments: Any) -> None:
            connection.execute(text(f"LOCK TABLE account_event_p1 IN {mode} MODE"))
            lock(self, *arguments)

        patch.setattr(TableArchive, "_lock", lock_after_another)
        report = archive(lock_timeout=50)["account_event"]
        assert report.postponed == (
            "archive public.account_event_p1: others are writing it",
        )
    assert len(archive()["account_event"].archived) == 1


def test_what_others_write_is_not_dropped(
    write: Any, archive: Any, pg_engine: Engine
) -> None:
    write(15)
    with pg_engine.connect() as connection:
        connection.execute(text("LOCK TABLE account_event_p1 IN ROW EXCLUSIVE MODE"))
        report = archive(lock_timeout=50, drop=True)["account_event"]
        assert report.postponed == (
            "archive public.account_event_p1: others are writing it",
            "remove public.account_event_p1: it is not in the archive",
        )


def test_who_waits_to_alter_a_partition_waits_until_it_is_written(
    write: Any, archive: Any, pg_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(15)
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")

    def alter() -> None:
        with pg_engine.begin() as connection:
            connection.execute(text("SET LOCAL lock_timeout = '5s'"))
            lock = "LOCK TABLE account_event_p1 IN ACCESS EXCLUSIVE MODE"
            connection.execute(text(lock))

    altering: list[Future[None]] = []
    lock = TableArchive._lock

    def lock_before_another(self: TableArchive, *arguments: Any) -> None:
        lock(self, *arguments)
        altering.append(threads.submit(alter))
        with pg_engine.connect() as connection:
            while not connection.scalar(waiting):
                connection.rollback()

    monkeypatch.setattr(TableArchive, "_lock", lock_before_another)
    with ThreadPoolExecutor() as threads:
        assert len(archive()["account_event"].archived) == 1
    (altered,) = altering
    assert altered.result() is None


def test_no_dictionary_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_files, "ROW_GROUP", 20_000)
    columns = [ArchivedColumn("name", "text", "string")]
    # The first row group has one value, so the column has a dictionary.
    names = ["the same"] * 20_000
    names += [f"{n * 7919 % 20_000:05}" + "abcde" * 6 for n in range(20_000)]
    rows = pa.RecordBatch.from_arrays(
        [pa.array(names), pa.nulls(len(names), pa.string())],
        schema=arrow_schema(columns),
    )
    with (tmp_path / "events.parquet").open("wb") as file:
        part_files.write_rows(file, columns, [rows], lambda *_: None)
    found = parquet.ParquetFile(tmp_path / "events.parquet")
    chunk = found.metadata.row_group(1).column(0)
    # Where the dictionary begins, and the pages after it, of which there are several.
    dictionary = chunk.data_page_offset - chunk.dictionary_page_offset
    assert dictionary < chunk.total_compressed_size / 2
    assert found.read().column("name").to_pylist() == names


def test_progress_tells_of_rows_and_bytes(
    write: Any, archive: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_files, "ROW_GROUP", 6)
    write(25)
    told: list[history.ArchiveProgress] = []
    archive(progress=told.append, open=True, verify=True)
    events = [p for p in told if p.table == "public.account_event"]
    assert sorted({p.rows for p in events}) == [6, 10, 16, 20, 25]
    assert events[0].bytes > 100
    assert events[-1].bytes > 2 * events[0].bytes
    assert all(0 < p.done <= p.total for p in told)
    assert told[-1].done == told[-1].total == 2 * 25 + 2 * 25 + 20


def test_any_file_system_of_pyarrow_may_have_the_archive(
    write: Any, archive: Any, pg_engine: Engine, base: Any, rows: Any, tmp_path: Path
) -> None:
    write(15)
    events = rows()
    mock = pyarrow.fs._MockFileSystem()
    assert archive(mock, drop=True, now=LATER)["account_event"].folder == "mock:"
    with pytest.raises(ArchiveError, match="no-scheme"):
        archive("no-scheme://bucket")
    history.restore(pg_engine, mock, base)
    assert rows() == events
    # A URI of a folder on this machine.
    uri = f"file://{tmp_path}/other"
    with pytest.raises(ArchiveError, match="was archived to mock:"):
        archive(uri)


def test_a_file_that_is_not_what_the_table_has_is_not_kept(
    write: Any, archive: Any, files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(15)
    whole = table_archive.write_rows

    def lose_the_last(stream: Any, columns: Any, batches: Any, on_rows: Any) -> None:
        cut = (batch.slice(0, batch.num_rows - 1) for batch in batches)
        whole(stream, columns, cut, on_rows)

    monkeypatch.setattr(table_archive, "write_rows", lose_the_last)
    with pytest.raises(ArchiveError, match="row 10 of .* is not what public.account"):
        archive()
    assert files() == []
    monkeypatch.undo()
    assert len(archive()["account_event"].archived) == 1


def test_what_a_killed_run_has_left_is_removed(
    write: Any, archive: Any, folder: Path, files: Any
) -> None:
    write(15)
    left = ["pgh_part=1/.events.parquet.tmp", "pgh_part=open/events.parquet"]
    for path in left:
        file = folder / "public.account_event" / path
        file.parent.mkdir(parents=True)
        file.write_bytes(b"half")
    archive()
    assert files() == [
        "public.account_event/_manifest.json",
        f"public.account_event/{PARTS[0]}",
    ]


def test_contexts_that_come_late_are_archived_with_the_others_of_their_time(
    write: Any,
    archive: Any,
    run: Any,
    rows: Any,
    folder: Path,
    pg_engine: Engine,
    base: Any,
) -> None:
    write(5)
    run("INSERT INTO account SELECT i, 0 FROM generate_series(101, 125) AS i")
    history.partitions(pg_engine, base)
    archive(drop=True, now=LATER)
    assert len(rows("pghistory_context")) == 0
    # There is a partition for contexts of that time, in which some go on.
    (empty,) = archive(now=LATER)["pghistory_context"].archived
    assert (empty.rows, empty.first_id) == (0, None)
    late = "INSERT INTO pghistory_context (id, metadata) VALUES ('{}', '{{}}')"
    run(late.format("01900000-0000-7000-8000-000000000001"))
    again = archive(now=LATER)["pghistory_context"].archived
    assert [part.rows for part in again] == [1]
    assert empty.path == again[0].path
    assert again[0].replaced == (empty.sha256,)
    (path,) = {part.path for part in again}
    assert path.startswith("pgh_part=first")
    table = parquet.read_table(folder / "public.pghistory_context" / path)
    assert "01900000-0000-7000-8000-000000000001" in table.column("id").to_pylist()


@pytest.mark.usefixtures("english")
def test_without_its_table_nothing_is_archived_and_all_can_be_removed(
    write: Any, archive: Any, pg_engine: Engine, base: Any, run: Any, folder: Path
) -> None:
    """As of a version before there was an archive, and no migration since."""
    write(15)
    archive()
    run("DROP TABLE pghistory_archive")
    with pytest.raises(ArchiveError, match='"pghistory_archive" does not exist; run'):
        archive()
    reports = history.partitions(pg_engine, base, keep="1 day", now=LATER)
    assert "drop public.account_event_p1" in reports[0].done
    base.metadata.drop_all(pg_engine)
    base.metadata.create_all(pg_engine)
    run("DROP TABLE pghistory_archive")
    with pytest.raises(ArchiveError, match='"pghistory_archive" does not exist; run'):
        history.restore(pg_engine, folder, base)


@pytest.mark.usefixtures("english")
def test_what_cannot_be_archived_is_refused(
    pg_engine: Engine,
    account: Any,
    base: Any,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pg_engine.connect() as connection:
        with pytest.raises(ArchiveError, match="takes an engine"):
            history.archive(connection, base, to=folder)
        with pytest.raises(ArchiveError, match="takes an engine"):
            history.restore(connection, folder, base)
    with pytest.raises(ArchiveError, match="no event table has partitions"):
        history.archive(pg_engine, MetaData(), to=folder)
    for models in (MetaData(), base):
        with pytest.raises(ArchiveError, match="nothing of these models; it has no"):
            history.restore(pg_engine, folder, models)
    with (
        open_source(pg_engine) as source,
        pytest.raises(ArchiveError, match='cannot be read: .*"nowhere" does not exist'),
    ):
        source.execute("SELECT FROM nowhere")
    monkeypatch.setattr(packages.importlib, "import_module", missing)
    with pytest.raises(ArchiveError, match=r"pip install \"sa_history\[archive\]\""):
        history.archive(pg_engine, base, to=folder)


def missing(name: str) -> None:
    raise ImportError(f"No module named {name!r}")
