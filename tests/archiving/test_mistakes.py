"""Folders, manifests and files that are not what they were, and who may not read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, func, select, text

import sa_history as history
from sa_history.exc import ArchiveError
from tests.archiving.conftest import LATER


@pytest.mark.parametrize("place", [None, 5, b"archive", ""])
def test_what_is_no_folder_is_refused(base: Any, pg_engine: Engine, place: Any) -> None:
    with pytest.raises(ArchiveError, match="is a path, a URI or a file system"):
        history.archive(pg_engine, base, to=place)


@pytest.fixture
def edit(folder: Path) -> Callable[[Callable[[Any], Any]], None]:
    """Change what the manifest of the events says."""

    def run(change: Callable[[Any], Any]) -> None:
        file = folder / "public.account_event" / "_manifest.json"
        fields = json.loads(file.read_text())
        change(fields)
        file.write_text(json.dumps(fields))

    return run


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("path", "../../secret.parquet"),
        ("path", "/secret.parquet"),
        ("rows", "many"),
        ("lower", "abc"),
        ("upper", "a-b"),
        ("since", "yesterday"),
    ],
)
def test_a_manifest_with_other_values_is_refused(
    write: Any, archive: Any, edit: Any, base: Any, folder: Path, name: str, value: str
) -> None:
    write(15)
    archive()
    edit(lambda fields: fields["parts"][0].update({name: value}))
    with pytest.raises(ArchiveError, match=r"is no manifest of an archive: ValueError"):
        archive()
    with (
        history.archived(folder, base) as asked,
        pytest.raises(ArchiveError, match="is no manifest"),
    ):
        asked.sql()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda part: part.update(rows=0), "has 10 rows, and the manifest says 0"),
        (lambda part: part["columns"].pop(), "has other columns than the manifest"),
    ],
)
def test_what_a_manifest_does_not_say_rightly_is_not_dropped(
    write: Any, archive: Any, edit: Any, rows: Any, change: Any, problem: str
) -> None:
    write(15)
    archive()
    before = rows()
    edit(lambda fields: change(fields["parts"][0]))
    for options in ({"verify": True}, {"drop": True, "now": LATER}):
        (found,) = archive(**options)["account_event"].problems
        assert problem in found
    assert rows() == before


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(Path.unlink, id="gone"),
        pytest.param(lambda file: file.write_bytes(b""), id="empty"),
        pytest.param(lambda file: file.write_bytes(file.read_bytes()[:-9]), id="cut"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    write: Any, archive: Any, account: Any, base: Any, folder: Path, damage: Any
) -> None:
    write(15)
    archive()
    damage(folder / "public.account_event" / "pgh_part=1" / "events.parquet")
    with history.archived(folder, base) as asked:
        told = r"'account_event' cannot be read: .*pgh_part=1.*; restore the files"
        with pytest.raises(ArchiveError, match=told):
            asked.events(account)


def test_a_folder_without_what_was_dropped_is_refused(
    write: Any,
    archive: Any,
    account: Any,
    base: Any,
    folder: Path,
    edit: Any,
    pg_engine: Engine,
) -> None:
    write(25)
    archive(drop=True, now=LATER)
    other = folder.with_name("other")
    told = f"has not pgh_part=1/.* archived to {folder} and dropped; give that folder"
    with history.archived(other, base, live=pg_engine) as asked:
        with pytest.raises(ArchiveError, match=told):
            asked.events(account)
        with pytest.raises(ArchiveError, match=told):
            asked.session.scalar(select(func.count(account.events.pgh_id)))
    shutil.copytree(folder, other)
    with history.archived(other, base, live=pg_engine) as asked:
        assert len(asked.events(account)) == 25
    edit(lambda fields: fields["parts"].pop(0))
    with (
        history.archived(folder, base, live=pg_engine) as asked,
        pytest.raises(ArchiveError, match="pgh_part=1/"),
    ):
        asked.events(account, 25)
    with (
        history.archived(folder.with_name("none"), base) as asked,
        pytest.raises(ArchiveError, match=r"neither in the archive \(.*none\)"),
    ):
        asked.events(account)


@pytest.fixture
def reader(pg_engine: Engine) -> Iterator[Engine]:
    """An engine of who may read events and contexts, and not what was archived."""
    tables = "account_event, pghistory_context"
    with pg_engine.begin() as connection:
        connection.execute(text("CREATE ROLE sa_history_reader"))
    yield create_engine(
        pg_engine.url, connect_args={"options": "-c role=sa_history_reader"}
    )
    with pg_engine.begin() as connection:
        connection.execute(text(f"REVOKE ALL ON {tables} FROM sa_history_reader"))
        connection.execute(text("DROP ROLE sa_history_reader"))


def test_who_may_not_read_what_was_archived_reads_the_folder(
    write: Any,
    archive: Any,
    account: Any,
    base: Any,
    folder: Path,
    pg_engine: Engine,
    reader: Engine,
) -> None:
    write(25)
    archive(drop=True, now=LATER)
    with pg_engine.begin() as connection:
        tables = "account_event, pghistory_context"
        connection.execute(text(f"GRANT SELECT ON {tables} TO sa_history_reader"))
    with history.archived(folder, base, live=reader) as asked:
        assert len(asked.events(account)) == 25
    reader.dispose()
