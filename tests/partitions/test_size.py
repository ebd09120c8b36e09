"""How large event tables are, how fast they grow, and what could be removed."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sa_history import Snapshot, track
from sa_history.cli.command import Database
from sa_history.cli.size import size as size_command
from sa_history.exc import CommandError, InstallError
from sa_history.install import EventTableSize, RelationSize, size
from sa_history.install.sizes import human

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def note(base: type[DeclarativeBase]) -> Any:
    """A tracked class with an event table without partitions."""

    @track(Snapshot)
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    return Note


def fill(engine: Engine, table: str, *events: tuple[int, float]) -> None:
    """Add events, each with its number and its day."""
    with engine.begin() as connection:
        for pgh_id, day in events:
            connection.execute(
                text(
                    f"INSERT INTO {table}_event (pgh_id, pgh_created_at, pgh_label,"
                    " pgh_op, pgh_obj_id, id) VALUES (:id, :at, 'snapshot', 'I', 1, 1)"
                ),
                {"id": pgh_id, "at": START + timedelta(days=day)},
            )
        connection.execute(text("SELECT setval('pghistory_id_seq', 1000)"))


def test_a_table_without_partitions_grows_by_what_it_has(
    note: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    base.metadata.create_all(pg_engine)
    fill(pg_engine, "note", (1, 0), (2, 5), (3, 60))
    (sized,) = size(pg_engine, base)
    assert (sized.name, sized.is_partitioned) == ("public.note_event", False)
    assert (sized.rows, sized.rows_a_month) == (3, 2)  # in 60 days
    assert sized.oldest == START
    assert sized.newest == START + timedelta(days=60)
    (relation,) = sized.relations
    assert relation.name == "public.note_event"
    assert sized.bytes == relation.bytes > 0
    assert sized.bytes_a_month == pytest.approx(sized.bytes / 2)
    assert (sized.removed_rows, sized.removed_bytes) == (0, 0)


def test_rows_are_those_of_the_statistics_where_there_are_any(
    note: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    base.metadata.create_all(pg_engine)
    fill(pg_engine, "note", (1, 0), (2, 5))
    with pg_engine.begin() as connection:
        connection.execute(text("ANALYZE note_event"))
    fill(pg_engine, "note", (3, 6))
    assert size(pg_engine, base)[0].rows == 2


def test_an_empty_table_has_no_times_and_no_growth(
    note: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    base.metadata.create_all(pg_engine)
    (sized,) = size(pg_engine, base, keep="1 month")
    assert (sized.rows, sized.oldest, sized.newest) == (0, None, None)
    assert (sized.rows_a_month, sized.bytes_a_month) == (None, None)
    assert sized.removed_rows == 0


def test_events_of_less_than_a_day_say_nothing_of_a_month() -> None:
    table = sized((3, 0, 0.9))
    assert (table.rows_a_month, table.bytes_a_month) == (None, None)
    table = sized((3, 0, 1))
    assert (table.rows_a_month, table.bytes_a_month) == (90, 90_000)


def test_a_table_that_is_missing_is_named(
    note: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    with pytest.raises(InstallError, match=r"there is no table public\.note_event"):
        size(pg_engine, base)


def test_keep_has_to_be_a_time(
    note: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    base.metadata.create_all(pg_engine)
    with pytest.raises(CommandError, match="got 'long'"):
        size(pg_engine, base, keep="long")


@pytest.fixture
def closed(account: Any, base: type[DeclarativeBase], pg_engine: Engine) -> None:
    """Two closed partitions, one of old events, and the tail."""
    base.metadata.create_all(pg_engine)
    fill(pg_engine, "account", (1, 0), (2, 20), (11, 40), (12, 70), (13, 100))
    now = datetime.now(timezone.utc)
    with pg_engine.begin() as connection:
        for statement in (
            "ALTER TABLE account_event DETACH PARTITION account_event_p1",
            "CREATE TABLE account_event_p11 (LIKE account_event INCLUDING ALL)",
            "INSERT INTO account_event_p11 SELECT * FROM account_event_p1"
            " WHERE pgh_id > 10",
            "ALTER TABLE account_event_p1 DISABLE TRIGGER USER",
            "DELETE FROM account_event_p1 WHERE pgh_id > 10",
            "ALTER TABLE account_event_p1 ENABLE TRIGGER USER",
            "ALTER TABLE account_event_p1 ADD CONSTRAINT pgh_time_check CHECK"
            " (pgh_created_at >= '2026-01-01 00:00:00+00'"
            " AND pgh_created_at <= '2026-01-21 00:00:00+00')",
            "ALTER TABLE account_event_p11 ADD CONSTRAINT pgh_time_check CHECK"
            " (pgh_created_at >= '2026-02-10 00:00:00+00'"
            f" AND pgh_created_at <= '{now.isoformat()}')",
            "ALTER TABLE account_event ATTACH PARTITION account_event_p1"
            " FOR VALUES FROM (1) TO (11)",
            "ALTER TABLE account_event ATTACH PARTITION account_event_p11"
            " FOR VALUES FROM (11) TO (20)",
            "CREATE TABLE account_event_p20 PARTITION OF account_event"
            " FOR VALUES FROM (20) TO (MAXVALUE)",
        ):
            connection.execute(text(statement))


@pytest.mark.usefixtures("closed")
def test_what_keep_would_remove_is_told_by_partition(
    base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    (sized,) = size(pg_engine, base, keep="30 days")
    assert [(r.name, r.rows, r.is_removed) for r in sized.relations] == [
        ("public.account_event_p1", 2, True),
        ("public.account_event_p11", 3, False),
        ("public.account_event_p20", 0, False),
    ]
    assert sized.oldest == START
    assert (sized.removed_rows, sized.removed_bytes) == (2, sized.relations[0].bytes)
    assert not any(r.is_removed for r in size(pg_engine, base)[0].relations)
    # Of another MetaData, which says that the table has no partitions.
    plain = type("Plain", (DeclarativeBase,), {})

    @track(Snapshot)
    class Account(plain):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert size(pg_engine, plain, keep="30 days")[0].removed_rows == 0


def sized(*parts: tuple[int, float, float]) -> EventTableSize:
    """Return the size of a table, of the rows and the days of its partitions."""
    return EventTableSize(
        "events",
        tuple(
            RelationSize(
                "part",
                rows,
                rows * 1000,
                START + timedelta(days=since),
                START + timedelta(days=until),
            )
            for rows, since, until in parts
        ),
        True,
    )


def test_growth_is_that_of_the_last_month() -> None:
    table = sized((1_000_000, 0, 300), (60, 300, 330), (30, 330, 345))
    assert (table.rows_a_month, table.bytes_a_month) == (60, 60_000)


@pytest.mark.parametrize(("days", "a_month"), [(0.99, None), (1, 300)])
def test_growth_is_not_told_from_less_than_a_day(
    days: float, a_month: int | None
) -> None:
    table = sized((10, 0, days))
    assert table.rows_a_month == a_month
    assert table.bytes_a_month == (a_month and a_month * 1000)


@pytest.mark.usefixtures("closed")
def test_the_command_prints_a_table(
    base: type[DeclarativeBase],
    pg_engine: Engine,
    capsys: pytest.CaptureFixture[str],
) -> None:
    database = Database([base.metadata], "sa-history {}", pg_engine, ["app:Base"])
    assert size_command(database, "30 days", json=False) == 0
    lines = [line.split("|") for line in capsys.readouterr().out.splitlines()]
    assert [cell.strip() for cell in lines[0]] == [
        *("table", "events", "size", "oldest", "newest", "a month"),
        "beyond 30 days",
    ]
    cells = [[cell.strip() for cell in line] for line in lines[2:]]
    assert [(c[0], c[1], c[3]) for c in cells] == [
        ("public.account_event", "5", "2026-01-01"),
        ("public.account_event_p1", "2", "2026-01-01"),
        ("public.account_event_p11", "3", "2026-02-10"),
        ("public.account_event_p20", "0", ""),
    ]
    assert cells[0][5].startswith("+")
    assert cells[0][6] == cells[1][6] == cells[1][2]
    assert [c[6] for c in cells[2:]] == ["", ""]
    assert size_command(database, None, json=False) == 0
    assert "beyond" not in capsys.readouterr().out


@pytest.mark.usefixtures("closed")
def test_the_command_prints_json(
    base: type[DeclarativeBase],
    pg_engine: Engine,
    capsys: pytest.CaptureFixture[str],
) -> None:
    database = Database([base.metadata], "sa-history {}", pg_engine, ["app:Base"])
    assert size_command(database, "30 days", json=True) == 0
    (line,) = capsys.readouterr().out.splitlines()
    printed = json.loads(line)
    assert printed["name"] == "public.account_event"
    assert (printed["rows"], printed["removed_rows"]) == (5, 2)
    assert [p["removed"] for p in printed["partitions"]] == [True, False, False]
    assert printed["partitions"][2]["oldest"] is None


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (150 * 1024**2, "150 MiB"),
        (3 * 1024**5, "3072 TiB"),
    ],
)
def test_bytes_are_written_as_people_do(size: int, shown: str) -> None:
    assert human(size) == shown
