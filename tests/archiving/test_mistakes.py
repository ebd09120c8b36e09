"""Folders, manifests and files that are not what they were, and who may not read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, func, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column
from sqlalchemy.pool import NullPool

import sa_history as history
from sa_history.exc import ArchiveError, CommandError
from tests.archiving.conftest import LATER


@pytest.mark.parametrize("place", [None, 5, b"archive", ""])
def test_what_is_no_folder_is_refused(base: Any, pg_engine: Engine, place: Any) -> None:
    with pytest.raises(ArchiveError, match="is a path, a URI or a file system"):
        history.archive(pg_engine, base, to=place)


@pytest.mark.parametrize("age", [12, "12", "-1 month", "monthly", ""])
def test_what_is_no_age_is_refused(
    base: Any, pg_engine: Engine, folder: Path, age: Any
) -> None:
    told = f"older_than is a number of days, .* got {age!r}"
    with pytest.raises(CommandError, match=told):
        history.archive(pg_engine, base, to=folder, older_than=age)
    assert not folder.exists()


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
    ("change", "told"),
    [
        (lambda f: f["parts"].append(f["parts"][0]), "a part is named twice"),
        (lambda f: f.update(parts={}), "is no list of parts"),
        (
            lambda f: f["parts"][0]["columns"][0].update(carrier="decimal128(x, y)"),
            "is no type of files",
        ),
        (lambda f: f.update(table="other"), "is that of public.other; give folders"),
    ],
)
def test_a_manifest_of_another_form_is_refused(
    write: Any, archive: Any, edit: Any, base: Any, folder: Path, change: Any, told: str
) -> None:
    write(15)
    archive()
    edit(change)
    with (
        history.archived(folder, base) as asked,
        pytest.raises(ArchiveError, match=told),
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


def test_a_folder_of_another_database_is_refused(
    write: Any,
    archive: Any,
    account: Any,
    base: Any,
    folder: Path,
    pg_engine: Engine,
    other_url: URL,
) -> None:
    write(15)
    archive()
    other = create_engine(other_url, poolclass=NullPool)
    base.metadata.create_all(other)

    def add(numbers: range) -> None:
        for number in numbers:
            with Session(other) as session:
                session.add(account(id=number))
                session.commit()

    def ask() -> None:
        with (
            history.archived(folder, base, live=other) as asked,
            pytest.raises(ArchiveError, match="no record of it; .* another database"),
        ):
            asked.events(account)

    add(range(3))
    ask()
    told = "neither a record of it nor such a partition; .* into another folder"
    with pytest.raises(ArchiveError, match=told):
        history.archive(other, base, to=folder)
    # With partitions of the same numbers, in an archive of its own.
    add(range(3, 15))
    history.partitions(other, base)
    add(range(15, 18))
    history.partitions(other, base)
    own = folder.with_name("own")
    assert any(r.archived for r in history.archive(other, base, to=own))
    ask()
    with pytest.raises(ArchiveError, match=f"archived to {own}; give that folder"):
        history.archive(other, base, to=folder)


@pytest.fixture
def role(pg_engine: Engine) -> str:
    """The name of a role, of which no other test of the server has one."""
    return f"reader_of_{pg_engine.url.database}"


@pytest.fixture
def reader(pg_engine: Engine, role: str) -> Iterator[Engine]:
    """An engine of who may read events and contexts, and not what was archived."""
    tables = "account_event, pghistory_context"
    with pg_engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {role}"))
    options = {"options": f"-c role={role}"}
    engine = create_engine(pg_engine.url, connect_args=options)
    yield engine
    engine.dispose()
    with pg_engine.begin() as connection:
        connection.execute(text(f"REVOKE ALL ON {tables} FROM {role}"))
        connection.execute(text(f"DROP ROLE {role}"))


def test_who_may_not_read_what_was_archived_reads_the_folder(
    write: Any,
    archive: Any,
    account: Any,
    base: Any,
    folder: Path,
    pg_engine: Engine,
    reader: Engine,
    role: str,
) -> None:
    write(25)
    archive(drop=True, now=LATER)
    with pg_engine.begin() as connection:
        tables = "account_event, pghistory_context"
        connection.execute(text(f"GRANT SELECT ON {tables} TO {role}"))
    with history.archived(folder, base, live=reader) as asked:
        assert len(asked.events(account)) == 25


@pytest.mark.usefixtures("english")
def test_who_may_not_read_events_is_told(
    write: Any, archive: Any, account: Any, base: Any, folder: Path, reader: Engine
) -> None:
    write(15)
    archive()
    with (
        history.archived(folder, base, live=reader) as asked,
        pytest.raises(ArchiveError, match="cannot be read: permission denied"),
    ):
        asked.events(account, 1)


def test_what_a_changed_table_does_not_take_is_told(
    write: Any,
    archive: Any,
    account: Any,
    base: Any,
    folder: Path,
    pg_engine: Engine,
) -> None:
    with Session(pg_engine) as session:
        session.add(account(id=99, balance=100_000))
        session.commit()
    write(15)
    archive(drop=True, now=LATER)
    change = "ALTER TABLE account_event ALTER balance TYPE smallint USING 0"
    with pg_engine.begin() as connection:
        connection.execute(text(change))
    told = "value that its column does not take: .*100000.* earlier values, too"
    with (
        history.archived(folder, base, live=pg_engine) as asked,
        pytest.raises(ArchiveError, match=told),
    ):
        asked.events(account)
    for change in ("SELECT", "ALTER TABLE account_event DROP balance"):
        with pg_engine.begin() as connection:
            connection.execute(text(change))
        with pytest.raises(ArchiveError, match=r"(?s)brought back: .* those of then"):
            history.restore(pg_engine, folder, base)


def test_a_folder_is_not_missed_where_no_table_has_partitions(
    base: Any, create_all: Callable[[], None], pg_engine: Engine, folder: Path
) -> None:
    @history.track()
    class Note(base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    with Session(pg_engine) as session:
        session.add(Note(id=1))
        session.commit()
    with history.archived(folder, base, live=pg_engine) as asked:
        assert [event.id for event in asked.events(Note, 1)] == [1]
