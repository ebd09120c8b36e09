"""What a check finds of partitions, and what mends it."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterDelete, Snapshot, track
from sa_history.exc import InstallError
from sa_history.install import check, install, uninstall

Bounds = Callable[..., list[tuple[int | None, int | None]]]
NOW = datetime.datetime.now(datetime.timezone.utc)


def found(engine: Engine, base: Any) -> list[str]:
    return [str(finding) for finding in check(engine, base)]


@pytest.fixture
def three(
    write: Any, base: type[DeclarativeBase], pg_engine: Engine, bounds: Bounds
) -> None:
    """Three partitions of ten numbers each, and the tail; the first one is closed."""
    write(5)
    history.partitions(pg_engine, base)
    write(10)
    history.partitions(pg_engine, base)
    assert bounds() == [(1, 11), (11, 21), (21, 31), (31, None)]
    assert check(pg_engine, base) == []


pytestmark = pytest.mark.usefixtures("three")


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (
            ["DROP TRIGGER account_event_append_only ON account_event_p11"],
            "missing trigger account_event_append_only on public.account_event_p11: "
            "run sa-history install",
        ),
        (
            ["ALTER TABLE account_event_p1 DISABLE TRIGGER ALL"],
            "disabled trigger account_event_append_only on public.account_event_p1: "
            "run sa-history install",
        ),
        (
            ["DROP TABLE account_event_p31"],
            "missing partition public.account_event without an end: "
            "run sa-history partitions",
        ),
        (
            [
                "ALTER TABLE account_event_p1 DROP CONSTRAINT pgh_time_check",
                "ALTER TABLE account_event_p1 ADD CONSTRAINT pgh_time_check"
                " CHECK (pgh_created_at > '2020-01-01') NOT VALID",
            ],
            "outdated partition public.account_event_p1: run sa-history partitions",
        ),
        (
            [
                "ALTER TABLE account_event_p21 ADD CONSTRAINT pgh_time_check"
                " CHECK (pgh_created_at > '2020-01-01')",
            ],
            "outdated partition public.account_event_p21: run sa-history partitions",
        ),
    ],
)
def test_what_is_wrong_is_found_and_mended(
    statements: list[str],
    message: str,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    run: Any,
) -> None:
    run(*statements)
    assert found(pg_engine, base) == [message]
    history.partitions(pg_engine, base)
    assert found(pg_engine, base) == []


def test_install_gives_partitions_their_triggers_and_uninstall_takes_them(
    base: type[DeclarativeBase], pg_engine: Engine, run: Any
) -> None:
    run("DROP TRIGGER account_event_append_only ON account_event_p11")
    assert install(pg_engine, base) == [
        "create trigger account_event_append_only on public.account_event_p11"
    ]
    assert "drop function public.pghistory_context_append_only" in uninstall(
        pg_engine, base
    )
    install(pg_engine, base)
    assert found(pg_engine, base) == []


def test_a_gap_and_partitions_of_others_are_for_somebody_to_look_at(
    base: type[DeclarativeBase], pg_engine: Engine, run: Any
) -> None:
    run(
        "ALTER TABLE account_event DETACH PARTITION account_event_p11",
        "CREATE TABLE odd PARTITION OF account_event DEFAULT",
    )
    gap = "those that there were are not found; attach the partition"
    assert found(pg_engine, base) == [
        "missing trigger account_event_append_only on public.odd: "
        "run sa-history install",
        "orphaned partition public.odd: sa_history has not made it; detach it",
        "missing partition public.account_event from 11 to 21: events with such "
        f"numbers are refused, and {gap}",
        "orphaned partition public.account_event_p11: it is detached from "
        "public.account_event, so its rows are neither found nor erased; attach it, "
        "drop it, or give it another comment",
    ]


def test_a_partition_that_is_detached_and_still_there_is_told(
    base: type[DeclarativeBase], pg_engine: Engine, run: Any
) -> None:
    """Somebody has detached the first, and a run was ended before it dropped others."""
    run(
        "ALTER TABLE account_event DETACH PARTITION account_event_p11",
        "COMMENT ON TABLE account_event_p11 IS"
        " 'To be dropped by sa_history: Events of account'",
        "ALTER TABLE pghistory_context DETACH PARTITION pghistory_context_p1",
    )
    overdue, orphaned = (
        line for line in found(pg_engine, base) if not line.startswith("missing")
    )
    assert overdue == (
        "overdue partition public.account_event_p11: run sa-history partitions"
    )
    assert orphaned.startswith("orphaned partition public.pghistory_context_p1: it is")
    run("COMMENT ON TABLE pghistory_context_p1 IS 'kept for the auditors'")
    history.partitions(pg_engine, base)
    assert not [
        line for line in found(pg_engine, base) if "p1:" in line or "11:" in line
    ]


def test_a_tail_with_more_than_a_partition_is_overdue(
    base: type[DeclarativeBase], pg_engine: Engine, write: Any
) -> None:
    write(40)
    assert found(pg_engine, base) == [
        "overdue partition public.account_event_p31: run sa-history partitions"
    ]
    history.partitions(pg_engine, base)
    assert found(pg_engine, base) == []


def test_rights_on_partitions_are_taken_away(
    base: type[DeclarativeBase], pg_engine: Engine, run: Any, partitions: Any
) -> None:
    run(
        "GRANT ALL ON account_event_p1 TO PUBLIC",
        "GRANT SELECT ON account_event TO PUBLIC",
    )
    (report, _) = history.partitions(pg_engine, base)
    assert report.done == ("revoke all on public.account_event_p1 from PUBLIC",)
    assert [p.grantees for p in partitions()] == [()] * 4


def test_an_application_role_may_check_what_it_may_not_read(
    base: type[DeclarativeBase], pg_engine: Engine, run: Any
) -> None:
    run("DROP ROLE IF EXISTS sa_history_reader", "CREATE ROLE sa_history_reader")
    with pg_engine.connect() as connection:
        connection.execute(text("SET ROLE sa_history_reader"))
        assert check(connection, base) == []
        connection.rollback()
    run("DROP ROLE sa_history_reader")


def test_a_table_has_partitions_in_the_model_or_in_the_database_only(
    pg_engine: Engine, base: type[DeclarativeBase]
) -> None:
    def models(**options: Any) -> type[DeclarativeBase]:
        class Base(DeclarativeBase):
            metadata = MetaData()

        @track(Snapshot, **options)
        class Page(Base):
            __tablename__ = "page"
            id: Mapped[int] = mapped_column(primary_key=True)

        return Base

    base.metadata.drop_all(pg_engine)
    plain, partitioned = models(), models(partition_by="month")
    plain.metadata.create_all(pg_engine)
    assert found(pg_engine, partitioned) == [
        "missing table public.pghistory_archive: run the migrations, or create_all()",
        "outdated table public.page_event: it is not partitioned, and the model says "
        "partition_by='month'; run the command partitions with --convert, or a "
        "migration",
    ]
    with pytest.raises(InstallError, match="public.page_event has no partitions"):
        history.partitions(pg_engine, partitioned)
    plain.metadata.drop_all(pg_engine)
    partitioned.metadata.create_all(pg_engine)
    assert found(pg_engine, plain) == [
        "outdated table public.page_event: it is partitioned, and the model does not "
        "say so; give track(..., partition_by=...), or make it one table by a migration"
    ]
    with Session(pg_engine) as session:
        assert history.partitions(pg_engine, plain) == []
        session.rollback()


def test_partitions_are_append_only_as_long_as_their_table_is(
    base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    class Base(DeclarativeBase):
        metadata = MetaData()

    @track(Snapshot, AfterDelete, partition_by=10)
    class Account(Base):
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int]

    assert history.partitions(pg_engine, Base)[0].done == tuple(
        f"drop trigger account_event_append_only on public.account_event_p{number}"
        for number in (1, 11, 21, 31)
    )


def test_only_an_engine_is_taken(
    base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    with (
        pg_engine.connect() as connection,
        pytest.raises(InstallError, match="an engine, got.*give one of create_engine"),
    ):
        history.partitions(connection, base)  # type: ignore[arg-type]
