"""Files of an archive are verified by the same seals as the events were."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

import sa_history as history
from sa_history.archiving.archived_rows import _type_of
from sa_history.archiving.folder import ArchiveFolder
from sa_history.archiving.manifest import ArchivedColumn, Manifest
from sa_history.exc import ArchiveError
from tests.archiving.conftest import LATER

EVENTS = "public.person_event"
CONTEXTS = "public.pghistory_context"


def execute(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def found(engine: Engine, base: Any, folder: Path, digest: Any = None) -> list[str]:
    verification = history.verify(engine, base, digest=digest, archive=folder)
    return [*map(str, verification.discrepancies)]


def tamper(folder: Path, table: str, path: str, **values: Any) -> None:
    """Change values of the first row of a file."""
    file = folder / table / path
    rows = parquet.read_table(file)
    for name, value in values.items():
        place = rows.schema.get_field_index(name)
        column = rows.column(name).to_pylist()
        column[0] = value
        field = rows.schema.field(name)
        rows = rows.set_column(place, field, pa.array(column, field.type))
    parquet.write_table(rows, file)


@pytest.mark.parametrize("is_dropped", [True, False])
def test_an_archive_is_verified_with_the_database(
    sealed: Any,
    base: Any,
    pg_engine: Engine,
    archive: Any,
    folder: Path,
    is_dropped: bool,
) -> None:
    archive(drop=is_dropped, now=LATER)
    verification = history.verify(pg_engine, base, digest=sealed, archive=folder)
    assert (verification.discrepancies, verification.removed) == ((), ())
    assert verification.events == 33
    alone = history.verify(pg_engine, base)
    assert alone.discrepancies == ()
    assert bool(alone.removed) is is_dropped


def test_a_restored_archive_verifies(
    sealed: Any, base: Any, pg_engine: Engine, archive: Any, folder: Path
) -> None:
    archive(drop=True, now=LATER)
    history.restore(pg_engine, folder, base)
    for given in (None, folder):
        verification = history.verify(pg_engine, base, digest=sealed, archive=given)
        assert (verification.discrepancies, verification.removed) == ((), ())


def test_what_is_done_to_files_is_found(
    sealed: Any,
    base: Any,
    pg_engine: Engine,
    archive: Any,
    folder: Path,
    tmp_path: Path,
) -> None:
    archive(drop=True, now=LATER)
    shutil.copytree(folder, tmp_path / "good")
    first = "pgh_part=1/events.parquet"
    contexts = "pgh_part=first/contexts.parquet"
    number = parquet.read_table(folder / EVENTS / first).column("pgh_id")[0].as_py()
    another = "is another file than the manifest says"

    def after(change: Callable[[], object]) -> list[str]:
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "good", folder)
        change()
        return found(pg_engine, base, folder, sealed)

    for values in ({"name": "forged"}, {"rate": 0.2}, {"pgh_label": "x"}):
        assert after(lambda v=values: tamper(folder, EVENTS, first, **v)) == [
            f"changed person_event 1 to 20 in the archive: {number}",
            f"changed person_event 1 to 10 in the archive ({EVENTS}/{first} {another})",
        ]
    gone = after(lambda: tamper(folder, EVENTS, first, pgh_id=99))
    assert f"missing person_event 1 to 20 in the archive: {number}" in gone
    of_context = after(lambda: tamper(folder, CONTEXTS, contexts, metadata='{"a": 1}'))
    assert "their context" in of_context[0]
    assert another in of_context[1]
    broken = after(lambda: (folder / EVENTS / first).write_bytes(b"PAR1"))
    assert "cannot be read" in " ".join(broken)
    missing = after((folder / EVENTS / first).unlink)
    assert missing == [
        f"unreadable person_event 1 to 10 in the archive ({EVENTS}/{first} is gone)"
    ]
    assert after(lambda: None) == []

    def shorten() -> None:
        file = folder / EVENTS / "_manifest.json"
        manifest = Manifest.from_json(file.read_text(), "it")
        ArchiveFolder(folder).write_manifest(
            Manifest(manifest.schema, manifest.table, "pgh_id", manifest.parts[1:])
        )

    assert f"(the archive has no {EVENTS}/{first})" in " ".join(after(shorten))

    def rewrite() -> None:
        """Change a file and the manifest, as somebody would who can write both."""
        opened = ArchiveFolder(folder)
        manifest = opened.read_manifest(EVENTS)
        assert manifest is not None
        tamper(folder, EVENTS, first, name="forged")
        text = manifest.to_json().replace(
            manifest.parts[0].sha256, opened.digest(f"{EVENTS}/{first}")
        )
        (folder / EVENTS / "_manifest.json").write_text(text)

    rewritten = after(rewrite)
    assert f"changed person_event 1 to 20 in the archive: {number}" in rewritten
    assert "is not what the database has archived" in rewritten[-1]


def test_a_column_that_was_dropped_later_is_verified_in_the_archive(
    sealed: Any, base: Any, pg_engine: Engine, archive: Any, folder: Path
) -> None:
    archive(drop=True, now=LATER)
    execute(pg_engine, "ALTER TABLE person_event DROP rate, ADD more integer")
    assert found(pg_engine, base, folder) == [
        "unreadable person_event 21 to 33 (the column rate is gone)"
    ]


@pytest.mark.usefixtures("read_committed")
def test_an_archive_of_which_the_database_knows_nothing_is_verified(
    sealed: Any, person: Any, base: Any, pg_engine: Engine, archive: Any, folder: Path
) -> None:
    archive(now=LATER)
    execute(pg_engine, "DROP TABLE pghistory_archive")
    assert found(pg_engine, base, folder) == []
    with Session(pg_engine) as session:
        # As if there were no archive.
        assert history.erase(session, person, 4).events == 3


def test_columns_of_files_alone_have_types_of_their_own() -> None:
    carried = {"decimal128(9, 2)": "numeric", "int32": "integer", "string": "text"}
    for carrier, type_ in carried.items():
        assert _type_of(ArchivedColumn("x", "bad; DROP TABLE y", carrier)) == type_


def test_what_is_no_archive_is_refused(
    sealed: Any, base: Any, pg_engine: Engine, folder: Path
) -> None:
    with pytest.raises(ArchiveError, match="is no archive; give the folder"):
        history.verify(pg_engine, base, archive=folder)
