"""What is erased is erased from the files of an archive, and seals stay true."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from sqlalchemy import URL, Column, Engine, Integer, String, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Mapped, Session, mapped_column

import sa_history as history
from sa_history import track
from sa_history.archiving.erasure import _ErasedFile
from sa_history.archiving.folder import ArchiveFolder
from sa_history.archiving.manifest import EXACT
from sa_history.cli import main
from sa_history.exc import ArchiveError, ErasureError
from tests.archiving.conftest import LATER

EVENTS = "public.person_event"
SECRETS = ("name 3", "name 14", "name 25", "10.0.0.3", "10.0.0.14", "10.0.0.25")
"""What history has of the person with the key 4."""


def in_files(folder: Path) -> str:
    """Return all values that the files have."""
    files = folder.rglob("*.parquet")
    return " ".join(str(parquet.read_table(file).to_pylist()) for file in files)


def in_database(engine: Engine) -> str:
    tables = "person_event pghistory_context pghistory_erased pghistory_erasure"
    with engine.connect() as connection:
        return " ".join(
            str(connection.execute(text(f"SELECT t::text FROM {table} t")).all())
            for table in tables.split()
        )


def secrets_in(found: str) -> list[str]:
    """Return the secrets that a text has, which are no part of longer ones."""
    return [s for s in SECRETS if re.search(rf"{re.escape(s)}(?!\d)", found)]


pytestmark = pytest.mark.usefixtures("read_committed")


def erase(engine: Engine, person: Any, *keys: Any, **options: Any) -> Any:
    with Session(engine) as session:
        done = history.erase(session, person, *keys, **options)
        session.commit()
        return done


def problems(engine: Engine, base: Any, folder: Path, digest: Any = None) -> list[str]:
    history.seal(engine, base)
    verification = history.verify(engine, base, digest=digest, archive=folder)
    return [*map(str, verification.discrepancies)]


@pytest.mark.parametrize("is_dropped", [True, False])
def test_an_erasure_reaches_the_files_and_they_verify(
    sealed: Any,
    person: Any,
    base: Any,
    pg_engine: Engine,
    archive: Any,
    folder: Path,
    is_dropped: bool,
) -> None:
    archive(drop=is_dropped, open=True, now=LATER)
    before = ArchiveFolder(folder).read_manifest(EVENTS)
    assert secrets_in(in_files(folder)) == [*SECRETS]
    dry = erase(pg_engine, person, 4, archive=folder, dry_run=True)
    assert (dry.number, dry.events, dry.contexts) == (None, 3, 3)
    assert secrets_in(in_files(folder)) == [*SECRETS]
    done = erase(pg_engine, person, 4, archive=folder, reason="asked for")
    # The removals of the partitions are in the log, too.
    assert done == history.Erasure(3 if is_dropped else 1, 3, 3)
    assert secrets_in(in_files(folder)) == []
    assert secrets_in(in_database(pg_engine)) == []
    assert "name 4" in in_files(folder)
    assert problems(pg_engine, base, folder, sealed) == []
    with history.archived(folder, base, live=pg_engine) as files:
        with pg_engine.connect() as connection:
            moment = connection.scalar(text("SELECT clock_timestamp()"))
        past = files.as_of(moment)
        assert past.get(person, 4).name is history.ERASED
        names = past.scalars(select(person.name).order_by(person.id)).all()
        assert names[2:5] == ["name 24", history.ERASED, "name 26"]
    after = ArchiveFolder(folder).read_manifest(EVENTS)
    assert before is not None
    assert after is not None
    for old, new in zip(before.parts, after.parts, strict=True):
        assert new.replaced == (old.sha256,)
    with pg_engine.connect() as connection:
        known = text(
            "SELECT sha256 FROM pghistory_archive"
            " WHERE table_name LIKE '%person_event' ORDER BY lower_bound::int"
        )
        assert list(connection.scalars(known)) == [p.sha256 for p in after.parts]
    reports = archive(verify=True, now=LATER)
    assert [problem for r in reports.values() for problem in r.problems] == []
    history.restore(pg_engine, folder, base)
    assert secrets_in(in_database(pg_engine)) == []
    assert problems(pg_engine, base, folder, sealed) == []


def test_a_value_that_is_put_back_into_a_file_is_found(
    sealed: Any, person: Any, base: Any, pg_engine: Engine, archive: Any, folder: Path
) -> None:
    archive(drop=True, now=LATER)
    file = folder / EVENTS / "pgh_part=1/events.parquet"
    old = file.read_bytes()
    erase(pg_engine, person, 4, archive=folder)
    file.write_bytes(old)
    found = problems(pg_engine, base, folder, sealed)
    assert found[0] == "changed person_event 1 to 20 in the archive: 4"
    assert "has values that were to be erased; erase them again" in found[1]
    erase(pg_engine, person, 4, archive=folder)
    assert problems(pg_engine, base, folder, sealed) == []


def test_an_erasure_that_was_interrupted_is_done_by_the_next_call(
    sealed: Any,
    person: Any,
    base: Any,
    pg_engine: Engine,
    archive: Any,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    pytestconfig: pytest.Config,
) -> None:
    """At each step: before a file or a manifest is written, and after."""
    steps = range(9) if pytestconfig.getoption("--both-levels") else (1, 2)
    archive(drop=True, now=LATER)
    write = ArchiveFolder.write
    # Persons of which two files have events, and one has contexts.
    for step in steps:
        calls = 0

        def interrupted(self: Any, *args: Any, stop: int = step) -> None:
            nonlocal calls
            number = calls
            calls += 1
            if stop == 2 * number:
                raise KeyboardInterrupt
            write(self, *args)
            if stop == 2 * number + 1:
                raise KeyboardInterrupt

        key = step + 1
        with monkeypatch.context() as patch:
            patch.setattr(ArchiveFolder, "write", interrupted)
            with pytest.raises(KeyboardInterrupt):
                erase(pg_engine, person, key, archive=folder)
        erase(pg_engine, person, key, archive=folder)
        assert f"'name {step}'" not in in_files(folder)
    assert problems(pg_engine, base, folder, sealed) == []


def test_what_is_rolled_back_is_erased_nowhere(
    sealed: Any, person: Any, pg_engine: Engine, archive: Any, folder: Path
) -> None:
    archive(drop=True, open=True, now=LATER)
    with Session(pg_engine) as session:
        history.erase(session, person, 4, archive=folder)
        session.rollback()
        session.commit()
        with session.begin_nested():
            history.erase(session, person, 4, archive=folder)
        assert secrets_in(in_files(folder)) == [*SECRETS]
        session.commit()
    assert secrets_in(in_files(folder)) == []


def test_events_that_are_archived_are_not_erased_without_the_archive(
    sealed: Any, person: Any, pg_engine: Engine, archive: Any, folder: Path
) -> None:
    archive(drop=True, now=LATER)
    with pytest.raises(ErasureError, match=r"are archived in .*, where the values"):
        erase(pg_engine, person, 4)
    with pytest.raises(ArchiveError, match="has nothing of these models"):
        erase(pg_engine, person, 4, archive=folder / "other")
    for forget in (
        # As a database has it that is another one, or was restored from before.
        "UPDATE pghistory_archive SET sha256 = md5(sha256)",
        "DROP TABLE pghistory_archive",
    ):
        with pg_engine.connect() as connection:
            connection.execute(text(forget))
            with (
                Session(connection) as session,
                pytest.raises(ArchiveError, match="no file that this database has ar"),
            ):
                history.erase(session, person, 4, archive=folder)
            connection.rollback()
    with pg_engine.connect() as connection:
        connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            history.erase(session, person, 4, archive=folder)
            with pytest.raises(ErasureError, match="has not committed the erasure"):
                session.commit()


def test_contexts_of_events_that_are_not_archived_are_erased_in_files(
    sealed: Any, base: Any, pg_engine: Engine, archive: Any, folder: Path
) -> None:
    @track(sealed=True, erasable=["name"], erasable_context=["ip"])
    class Card(base):  # type: ignore[misc, valid-type]
        __tablename__ = "card"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str | None]

    base.metadata.create_all(pg_engine)
    with Session(pg_engine) as session, history.context(session, ip="10.0.0.99"):
        session.add(Card(id=1, name="Ann"))
        session.commit()
    history.seal(pg_engine, base)
    archive(open=True, now=LATER)
    assert "10.0.0.99" in in_files(folder)
    with pytest.raises(ErasureError, match="Card are archived in"):
        erase(pg_engine, Card, 1)
    assert erase(pg_engine, Card, 1, archive=folder).contexts == 1
    assert "10.0.0.99" not in in_files(folder)
    assert problems(pg_engine, base, folder) == []


def test_contexts_of_archived_events_may_all_be_in_the_database_yet(
    sealed: Any, person: Any, base: Any, pg_engine: Engine, archive: Any, folder: Path
) -> None:
    archive(drop=True)
    assert not [*folder.glob("*pghistory_context")]
    assert erase(pg_engine, person, 4, archive=folder).events == 3
    assert secrets_in(in_files(folder) + in_database(pg_engine)) == []
    assert problems(pg_engine, base, folder, sealed) == []


def test_files_from_before_there_was_something_to_erase_have_null() -> None:
    batch = pa.RecordBatch.from_pydict(
        {"pgh_id": [1, 2], "name": ["a", "b"], EXACT: pa.array([None, None], "string")}
    )
    manifest = SimpleNamespace(has_contexts=False)
    table: Any = SimpleNamespace(key="pgh_id", manifest=manifest)
    nobody: Any = None
    erased = _ErasedFile(nobody, table, {"1": ["name", "mail"], "9": ["name"]}, ())
    assert erased.change(batch).column("name").to_pylist() == [None, "b"]


def test_what_is_async_is_refused(
    sealed: Any, person: Any, base: Any, pg_url: URL, archive: Any, folder: Path
) -> None:
    archive(drop=True, now=LATER)

    async def run() -> None:
        engine = create_async_engine(pg_url)
        async with AsyncSession(engine) as session:
            with pytest.raises(ErasureError, match="with a sync session"):
                await history.erase(session, person, 4, archive=folder)
            with pytest.raises(ErasureError, match="are archived in"):
                await history.erase(session, person, 4)
        async with engine.connect() as connection:
            with pytest.raises(ArchiveError, match="give a sync one of psycopg"):
                await connection.run_sync(history.verify, base, archive=folder)
        await engine.dispose()

    asyncio.run(run())


def test_events_under_other_keys_and_inline_contexts_are_erased_in_files(
    base: Any, pg_engine: Engine, archive: Any, folder: Path
) -> None:
    @track(
        sealed=True,
        erasable=["note"],
        erasable_context=["ip", "mail"],
        context="inline",
        context_columns=[Column("mail", String)],
        partition_by=10,
    )
    class Visit(base):  # type: ignore[misc, valid-type]
        __tablename__ = "visit"
        number: Mapped[int] = mapped_column(primary_key=True)
        place: Mapped[str] = mapped_column(primary_key=True)
        note: Mapped[str | None]

    base.metadata.create_all(pg_engine)
    move = text("UPDATE visit SET place = 'new' WHERE number = 3")
    for number in range(16):
        with (
            Session(pg_engine) as session,
            history.context(session, ip=f"10.0.0.{number}", mail=f"name {number}"),
        ):
            session.add(Visit(number=number, place="a 'b'", note=f"name {number}"))
            session.flush()
            if number == 3:
                session.execute(move)
            session.commit()
    history.partitions(pg_engine, base)
    with Session(pg_engine) as session:
        session.add(Visit(number=99, place="x"))
        session.commit()
    history.seal(pg_engine, base)
    archive(drop=True, now=LATER)
    assert secrets_in(in_files(folder)) == [
        "name 3",
        "name 14",
        "10.0.0.3",
        "10.0.0.14",
    ]
    assert erase(pg_engine, Visit, (3, "new"), archive=folder).events == 2
    assert secrets_in(in_files(folder)) == ["name 14", "10.0.0.14"]
    assert problems(pg_engine, base, folder) == []


MODELS = """
from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sa_history import AfterDelete, Snapshot, track


class Base(DeclarativeBase):
    metadata = MetaData()


@track(
    Snapshot, AfterDelete, sealed=True, append_only=True, erasable=["name"],
    erasable_context=["ip"], partition_by=10,
)
class Person(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    rate: Mapped[float] = mapped_column(default=0.1)
"""


def test_the_commands_take_an_archive(
    sealed: Any,
    pg_url: URL,
    archive: Any,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    archive(drop=True, now=LATER)
    (tmp_path / "archived_people.py").write_text(MODELS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("DATABASE_URL", pg_url.render_as_string(hide_password=False))
    given = ["archived_people:Person", "--id", "4", "--archive", str(folder)]
    assert main(["erase", *given]) == 0
    assert capsys.readouterr().out == "erased values of 3 events and 3 contexts\n"
    assert secrets_in(in_files(folder)) == []
    verify = ["verify", "archived_people:Base", "--archive", str(folder)]
    assert main(verify) == 0
    out = capsys.readouterr().out
    assert out == "33 events in 2 seals are as they were sealed\n"


def test_files_that_are_not_what_was_archived_are_not_erased(
    sealed: Any, person: Any, base: Any, pg_engine: Engine, archive: Any, folder: Path
) -> None:
    archive(drop=True, now=LATER)
    file = folder / EVENTS / "pgh_part=1/events.parquet"
    rows = parquet.read_table(file)
    parquet.write_table(rows, file)
    with pytest.raises(ArchiveError, match="is not what its manifest says; restore"):
        erase(pg_engine, person, 4, archive=folder)
    file.unlink()
    with pytest.raises(ArchiveError, match="is missing; restore it"):
        erase(pg_engine, person, 4, archive=folder)
    assert "name 25" in in_database(pg_engine)


ODD_NAMES = ["e-mail", "Full name", "a,b", 'in "quotes"', "back\\slash", "null", "{x}"]


def test_what_was_erased_is_told_whatever_its_column_is_called(
    base: Any, pg_engine: Engine, folder: Path
) -> None:
    columns = {f"a{n}": mapped_column(name, String) for n, name in enumerate(ODD_NAMES)}
    named = type(
        "Named",
        (base,),
        {
            "__tablename__": "in/out",
            "id": mapped_column(Integer, primary_key=True),
            # Its name is a part of another's.
            "kept": mapped_column("b", String),
            **columns,
        },
    )
    track(erasable=[*columns], partition_by=2)(named)
    base.metadata.create_all(pg_engine)
    with Session(pg_engine) as session:
        session.add_all(
            named(id=n, kept="kept", **dict.fromkeys(columns, "x")) for n in (1, 2)
        )
        session.commit()
        history.erase(session, named, 2)
        session.commit()
        moment = session.scalar(text("SELECT clock_timestamp()"))
    history.partitions(pg_engine, base)
    history.archive(pg_engine, base, to=folder, drop=True)
    assert erase(pg_engine, named, 1, archive=folder, dry_run=True).events == 1
    with history.archived(folder, base, live=pg_engine) as files:
        past = files.as_of(moment)
        objects = [past.get(named, key) for key in (1, 2)]
    assert [item.kept for item in objects] == ["kept", "kept"]
    found = [[getattr(item, name) for name in columns] for item in objects]
    assert found == [["x"] * len(columns), [history.ERASED] * len(columns)]
