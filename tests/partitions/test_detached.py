"""A check and an erasure find the same partitions that somebody has detached."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, Table, Text, event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterDelete, Snapshot, track
from sa_history.exc import ErasureError
from sa_history.install import check

LATER = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=60)

pytestmark = pytest.mark.usefixtures("read_committed")

DETACH = "ALTER TABLE note_event DETACH PARTITION note_event_p1"


@pytest.fixture
def note(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    @track(Snapshot, AfterDelete, erasable=["words"], partition_by=10)
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        words: Mapped[str | None]

    create_all()
    return Note


@pytest.fixture
def write(note: Any, base: type[DeclarativeBase], pg_engine: Engine) -> Any:
    """Write notes, of which the first eleven or so are in the first partition."""

    def add(*numbers: int) -> None:
        for number in numbers:
            with Session(pg_engine) as session:
                session.add(note(id=number, words=f"secret {number}"))
                session.commit()
        history.partitions(pg_engine, base)

    return add


def told(engine: Engine, base: Any) -> list[str]:
    """Return the names of the partitions that a check says are detached."""
    lines = [str(finding) for finding in check(engine, base)]
    return [
        line.split(":")[0].removeprefix("orphaned partition ")
        for line in lines
        if "it is detached from public.note_event" in line
    ]


def refused(engine: Engine, note: Any, key: Any = 1) -> str | None:
    """Return the name of the table because of which an erasure is refused, or None."""
    with Session(engine) as session:
        try:
            history.erase(session, note, key, dry_run=True)
        except ErasureError as error:
            return str(error).split(",")[0]
    return None


@pytest.mark.parametrize(
    ("name", "statements"),
    [
        ("public.note_event_p1", []),
        ("public.old_notes", ["ALTER TABLE note_event_p1 RENAME TO old_notes"]),
        (
            "attic.note_event_p1",
            ["CREATE SCHEMA attic", "ALTER TABLE note_event_p1 SET SCHEMA attic"],
        ),
        (
            "attic.old",
            [
                "CREATE SCHEMA attic",
                "ALTER TABLE note_event_p1 RENAME TO old",
                "ALTER TABLE old SET SCHEMA attic",
            ],
        ),
        ("public.note_event_p1", ["COMMENT ON TABLE note_event_p1 IS NULL"]),
        (
            "attic.old",
            [
                # No run of the command looks for it there.
                "CREATE SCHEMA attic",
                "ALTER TABLE note_event_p1 RENAME TO old",
                "ALTER TABLE old SET SCHEMA attic",
                "COMMENT ON TABLE attic.old IS"
                " 'To be dropped by sa_history: Events of note'",
            ],
        ),
    ],
    ids=["as it was", "renamed", "moved", "both", "without comment", "lost by a run"],
)
def test_both_find_it_by_its_comment_or_its_name(
    name: str,
    statements: list[str],
    note: Any,
    write: Any,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    run: Any,
) -> None:
    write(*range(1, 13))
    assert (told(pg_engine, base), refused(pg_engine, note)) == ([], None)
    run(DETACH, *statements)
    assert (told(pg_engine, base), refused(pg_engine, note)) == ([name], name)
    # Nothing of this one is there.
    assert refused(pg_engine, note, 40) is None


def test_a_check_looks_once_for_those_of_all_tables(
    note: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    for number in range(3):
        table = Table(
            f"other_{number}", base.metadata, Column("id", Integer, primary_key=True)
        )
        track(partition_by=10)(table)
    base.metadata.create_all(pg_engine)
    sent: list[str] = []

    @event.listens_for(pg_engine, "before_cursor_execute")
    def keep(_: Any, __: Any, statement: str, *___: Any) -> None:
        sent.append(statement)

    assert check(pg_engine, base) == []
    assert len([one for one in sent if "AS w (comment" in one]) == 1


def test_what_has_another_comment_is_told_no_more_and_still_not_erased(
    note: Any, write: Any, base: type[DeclarativeBase], pg_engine: Engine, run: Any
) -> None:
    write(*range(1, 13))
    run(DETACH, "COMMENT ON TABLE note_event_p1 IS 'for the auditors'")
    assert told(pg_engine, base) == []
    assert refused(pg_engine, note) == "public.note_event_p1"


def test_what_cannot_be_asked_for_the_object_is_told_and_refused(
    note: Any, write: Any, base: type[DeclarativeBase], pg_engine: Engine, run: Any
) -> None:
    write(*range(1, 13))
    run(DETACH, "ALTER TABLE note_event_p1 RENAME COLUMN pgh_obj_id TO number")
    assert told(pg_engine, base) == ["public.note_event_p1"]
    with (
        Session(pg_engine) as session,
        pytest.raises(
            ErasureError, match="as it has no column 'pgh_obj_id'; attach it"
        ),
    ):
        history.erase(session, note, 40)


def test_what_the_role_may_not_read_is_refused(
    note: Any, write: Any, pg_engine: Engine, run: Any
) -> None:
    write(*range(1, 13))
    run(DETACH)
    role = f"eraser_of_{pg_engine.url.database}"
    with Session(pg_engine) as session:
        for statement in (
            f"CREATE ROLE {role}",
            f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
            f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}",
            f"REVOKE ALL ON note_event_p1 FROM {role}",
            f"SET LOCAL ROLE {role}",
        ):
            session.execute(text(statement))
        with pytest.raises(ErasureError, match="as the role may not read it; attach"):
            history.erase(session, note, 40, dry_run=True)


def test_tables_that_look_alike_are_none(
    note: Any, write: Any, base: type[DeclarativeBase], pg_engine: Engine, run: Any
) -> None:
    write(*range(1, 13))
    run(
        # It has the comment, and none of the columns.
        "CREATE TABLE note_event_people (id int, words text)",
        "INSERT INTO note_event_people VALUES (1, 'other')",
        "COMMENT ON TABLE note_event_people IS 'Events of note'",
        # Another tenant has the same tables, and has detached a partition.
        "CREATE SCHEMA tenant",
        "CREATE TABLE tenant.note_event (LIKE note_event)",
        "CREATE TABLE tenant.note_event_p1 (LIKE note_event)",
        "INSERT INTO tenant.note_event_p1 SELECT * FROM note_event",
        "COMMENT ON TABLE tenant.note_event IS 'Events of note'",
        "COMMENT ON TABLE tenant.note_event_p1 IS 'Events of note'",
    )
    assert (told(pg_engine, base), refused(pg_engine, note)) == ([], None)
    # It is the other one's, and found there.
    tenant = pg_engine.execution_options(schema_translate_map={None: "tenant"})
    with tenant.connect() as connection:
        lines = [str(finding) for finding in check(connection, base)]
    assert [line for line in lines if "detached from tenant.note_event" in line]


def test_the_partition_of_last_events_is_known_by_what_its_comment_says(
    note: Any, write: Any, base: type[DeclarativeBase], pg_engine: Engine, run: Any
) -> None:
    write(*range(1, 13))
    write(*range(13, 33))
    history.partitions(pg_engine, base, keep="1 month", now=LATER)
    run("ALTER TABLE note_event DETACH PARTITION note_event_p0")
    assert told(pg_engine, base) == ["public.note_event_p0"]
    assert refused(pg_engine, note) == "public.note_event_p0"


@pytest.mark.parametrize(
    ("convention", "stray"),
    [
        ("p%(first_id)s_of_%(event_table_name)s", "p1_of_something_else"),
        ("%(event_table_name)s_" + "x" * 45 + "p%(first_id)s", "note_event_xxxxxx"),
    ],
    ids=["in the middle", "too long"],
)
def test_the_name_is_that_of_a_naming_convention(
    convention: str,
    stray: str,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    run: Any,
) -> None:
    base.metadata.naming_convention = {"history_partition": convention}
    table = Table(
        "note",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("words", Text),
    )
    tracked = track(erasable=["words"], partition_by=10)(table)
    base.metadata.create_all(pg_engine)
    run("INSERT INTO note VALUES (1, 'secret')")
    with pg_engine.connect() as connection:
        find = "SELECT inhrelid::regclass::text FROM pg_inherits"
        of_table = f"{find} WHERE inhparent = 'note_event'::regclass"
        name = connection.exec_driver_sql(of_table).scalar_one()
    run(
        f'ALTER TABLE note_event DETACH PARTITION "{name}"',
        f'COMMENT ON TABLE "{name}" IS NULL',
        f"CREATE TABLE {stray} (LIKE note_event)",
    )
    assert told(pg_engine, base) == [f"public.{name}"]
    assert refused(pg_engine, tracked) == f"public.{name}"
