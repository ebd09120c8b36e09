"""What Apache Spark is asked; what it answers is tested by ``spark_tests``."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import sa_history.spark as history_spark
from sa_history import AfterUpdate, new, track
from sa_history.archiving.manifest import ArchivedColumn, ArchivedPart, Manifest
from sa_history.exc import (
    ArchiveError,
    EventsError,
    EventsRemovedError,
    PastError,
)

UTC = datetime.timezone.utc
COLUMNS = (
    ArchivedColumn("pgh_id", "bigint", "int64"),
    ArchivedColumn(
        "pgh_created_at", "timestamp with time zone", "timestamp[us, tz=UTC]"
    ),
    ArchivedColumn("pgh_context_id", "uuid", "string"),
    ArchivedColumn("pgh_obj_id", "integer", "int32"),
    ArchivedColumn("pgh_op", "character(1)", "string"),
    ArchivedColumn("pgh_old_key", "jsonb", "string"),
    ArchivedColumn("id", "integer", "int32"),
    ArchivedColumn("balance", "integer", "int32"),
)


@dataclass
class Spark:
    """Keeps the statements that a session of Spark would run, and returns them."""

    statements: list[str] = field(default_factory=list)

    def sql(self, statement: str) -> Any:
        self.statements.append(statement)
        return statement


@pytest.fixture
def spark() -> Any:
    return Spark()


@pytest.fixture
def account(base: type[DeclarativeBase]) -> Any:
    @track(partition_by="month")
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int]

    return Account


def month(number: int, first: int = 1) -> ArchivedPart:
    """The part of ten events of a month."""
    lower = first + 10 * (number - 1)
    return ArchivedPart(
        path=f"pgh_part={lower}/events.parquet",
        lower=str(lower),
        upper=str(lower + 10),
        columns=COLUMNS,
        rows=10,
        first_id=str(lower),
        last_id=str(lower + 9),
        since=f"2026-0{number}-01T00:00:00+00:00",
        until=f"2026-0{number}-28T00:00:00+00:00",
        sha256="",
        bytes=1,
        archived_at="2026-09-01T00:00:00+00:00",
    )


def store(folder: Path, *parts: ArchivedPart, table: str = "account_event") -> None:
    manifest = Manifest("public", table, "pgh_id", parts)
    (folder / manifest.folder).mkdir(parents=True, exist_ok=True)
    (folder / manifest.folder / "_manifest.json").write_text(manifest.to_json())


def test_all_files_of_the_manifest_are_read(
    spark: Any, account: Any, folder: Path
) -> None:
    store(folder, month(1), month(2))
    statement = history_spark.events(spark, folder, account)
    files = f"file://{folder}/public.account_event/{{pgh_part=1,pgh_part=11}}"
    assert f"FROM parquet.`{files}/events.parquet`" in statement


def test_a_folder_may_have_a_name_that_would_be_a_pattern(
    spark: Any, account: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "a{b}*[c]"
    store(folder, month(1))
    statement = history_spark.events(spark, folder, account)
    assert r"/a\{b\}\*\[c\]/public.account_event/pgh_part=1/" in statement


def test_a_uri_is_left_as_it_is(spark: Any, account: Any, folder: Path) -> None:
    store(folder, month(1))
    statement = history_spark.events(spark, folder.as_uri(), account)
    assert f"parquet.`{folder.as_uri()}/public.account_event/" in statement


def test_contexts_are_joined_if_they_are_wanted(
    spark: Any, account: Any, folder: Path
) -> None:
    store(folder, month(1))
    with pytest.raises(ArchiveError, match="has no pghistory_context; archive it"):
        history_spark.events(spark, folder, account, with_context=True)
    store(folder, month(1), table="pghistory_context")
    statement = history_spark.events(spark, folder, account, with_context=True)
    assert "/public.pghistory_context/pgh_part=1/" in statement
    assert "AS pgh_context" in statement
    contexts = history_spark.contexts(spark, folder, account)
    assert contexts in statement


def test_diffs_have_the_columns_of_the_event_before(
    spark: Any, account: Any, folder: Path
) -> None:
    store(folder, month(1))
    statement = history_spark.diffs(spark, folder, account)
    assert "AS `previous_balance`" in statement


def test_rows_as_of_a_time_do_not_read_files_of_later_events(
    spark: Any, account: Any, folder: Path
) -> None:
    store(folder, month(1), month(2), month(3))
    when = datetime.datetime(2026, 2, 10, tzinfo=UTC)
    statement = history_spark.as_of(spark, folder, account, when)
    assert "pgh_part=11" in statement
    assert "pgh_part=21" not in statement
    assert "pgh_created_at <= TIMESTAMP '2026-02-10T00:00:00+00:00'" in statement


@pytest.mark.parametrize(
    ("when", "error", "message"),
    [
        (datetime.datetime(2026, 2, 10), PastError, "another moment in each time zone"),
        (datetime.datetime(2026, 3, 1, tzinfo=UTC), ArchiveError, "has no events of"),
    ],
)
def test_a_time_that_is_not_known_is_refused(
    spark: Any, account: Any, folder: Path, when: Any, error: Any, message: str
) -> None:
    store(folder, month(1), month(2))
    with pytest.raises(error, match=message):
        history_spark.as_of(spark, folder, account, when)


def test_rows_are_not_known_if_the_events_before_were_removed(
    spark: Any, account: Any, folder: Path
) -> None:
    store(folder, month(1, first=100))
    when = datetime.datetime(2026, 1, 10, tzinfo=UTC)
    with pytest.raises(EventsRemovedError, match="are not in the archive"):
        history_spark.as_of(spark, folder, account, when)


def test_rows_are_of_the_tracking_that_records_every_change(
    spark: Any, base: type[DeclarativeBase], folder: Path
) -> None:
    @track(events="snapshots", event_table="snapshot", partition_by="month")
    @track(AfterUpdate(new.balance < 0, label="overdrawn"), partition_by="month")
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int]

    store(folder, month(1))
    store(folder, month(1), table="snapshot")
    when = datetime.datetime(2026, 1, 10, tzinfo=UTC)
    with_some = history_spark.events(spark, folder, Account)
    assert "public.account_event" in with_some
    with_all = history_spark.events(spark, folder, Account, name="snapshots")
    assert "public.snapshot" in with_all
    with pytest.raises(EventsError, match="no events named 'others'"):
        history_spark.events(spark, folder, Account, name="others")
    assert "public.snapshot" in history_spark.as_of(spark, folder, Account, when)


def test_views_are_registered_for_what_is_archived(
    spark: Any, account: Any, base: Any, folder: Path
) -> None:
    with pytest.raises(ArchiveError, match="give the folder that they were archived"):
        history_spark.register(spark, folder, base)
    store(folder, month(1))
    assert history_spark.register(spark, folder, base) == ["account_event"]
    store(folder, month(1), table="pghistory_context")
    spark.statements.clear()
    names = history_spark.register(spark, folder, base)
    assert names == ["account_event", "pghistory_context"]
    made = [statement.split(" AS ")[0] for statement in spark.statements]
    assert made == [
        "CREATE OR REPLACE TEMPORARY VIEW `pghistory_context`",
        "CREATE OR REPLACE TEMPORARY VIEW `account_event`",
        "CREATE OR REPLACE TEMPORARY VIEW `account_event_with_context`",
        "CREATE OR REPLACE TEMPORARY VIEW `account_event_with_previous`",
        made[-1],
    ]
    assert made[-1].startswith("CREATE OR REPLACE TEMPORARY FUNCTION `account_as_of`")


def test_models_without_history_are_refused(spark: Any, folder: Path) -> None:
    for models in (MetaData(), "Base"):
        with pytest.raises(ArchiveError, match="has no tracked models"):
            history_spark.register(spark, folder, models)
