"""An event table is defined as partitioned, and created with its first partition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    MetaData,
    Table,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import Snapshot, track
from sa_history.ddl.partitions import RangePartition
from sa_history.exc import AppendOnlyError, DefinitionError
from sa_history.install import check
from sa_history.sql.compose import Qualified

Partitions = Callable[..., list[RangePartition]]


@pytest.mark.parametrize("given", ["months", 0, -1, True, 1.5, ["day"]])
def test_what_is_no_period_and_no_number_of_events_is_refused(
    given: Any, base: type[DeclarativeBase]
) -> None:
    with pytest.raises(DefinitionError) as refused:
        track(partition_by=given)(
            type(
                "Note",
                (base,),
                {"__tablename__": "note", "id": mapped_column(primary_key=True)},
            )
        )
    assert str(refused.value) == (
        'track: partition_by is one of "day", "week", "month", "year", a number of '
        f"events from 1 on, or None, got {given!r}"
    )


@pytest.mark.parametrize("period", ["day", "week", "month", "year", 1])
def test_each_period_makes_the_same_table(
    period: Any, base: type[DeclarativeBase], pg_engine: Engine, partitions: Partitions
) -> None:
    @track(Snapshot, partition_by=period)
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    base.metadata.create_all(pg_engine)
    (first,) = partitions("note_event")
    assert (first.name, first.lower, first.upper) == (
        Qualified("public", "note_event_p1"),
        1,
        None,
    )
    assert first.is_tail
    assert first.comment == "Events of note"


def test_events_are_recorded_and_read_as_from_a_table_without_partitions(
    account: Any, create_all: Callable[[], None], pg_session: Session, level: str
) -> None:
    create_all()
    pg_session.add(account(id=1, balance=5))
    pg_session.commit()
    pg_session.get(account, 1).balance = 6
    pg_session.commit()
    events = pg_session.scalars(account.events.select()).all()
    assert [(e.pgh_op, e.balance) for e in events] == [("I", 5), ("U", 6)]


@pytest.mark.parametrize(
    "statement", ["UPDATE {} SET balance = 1", "DELETE FROM {}", "TRUNCATE {}"]
)
def test_a_partition_is_append_only_by_its_own_name(
    statement: str,
    account: Any,
    create_all: Callable[[], None],
    pg_session: Session,
) -> None:
    create_all()
    pg_session.add(account(id=1))
    pg_session.commit()
    for table in ("account_event", "account_event_p1"):
        with pytest.raises(AppendOnlyError):
            pg_session.execute(text(statement.format(table)))
        pg_session.rollback()


def test_partitions_come_and_go_with_the_table(
    account: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    metadata = base.metadata
    metadata.create_all(pg_engine)
    metadata.create_all(pg_engine)
    assert check(pg_engine, metadata) == []
    metadata.drop_all(pg_engine)
    assert inspect(pg_engine).get_table_names() == []
    account.__table__.create(pg_engine)
    assert "account_event_p1" in inspect(pg_engine).get_table_names()


def test_a_schema_is_that_of_the_event_table(pg_engine: Engine) -> None:
    class Base(DeclarativeBase):
        metadata = MetaData(
            naming_convention={
                "history_partition": "x%(first_id)s_%(event_table_name)s"
            }
        )

    @track(Snapshot, partition_by="day", schema="audit")
    class Note(Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pg_engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA audit"))
    Base.metadata.create_all(pg_engine)
    with pg_engine.connect() as connection:
        assert connection.scalar(select(text("to_regclass('audit.x1_note_event')")))
        # No number is below the first one of the sequence.
        with pytest.raises(DBAPIError, match="CheckViolation"):
            connection.execute(
                text(
                    "INSERT INTO audit.note_event (pgh_id, pgh_op, pgh_label, id)"
                    " VALUES (0, 'I', 'x', 1)"
                )
            )


def test_the_table_of_archived_partitions_needs_its_name(
    base: type[DeclarativeBase],
) -> None:
    Table("pghistory_archive", base.metadata, Column("id", Integer))
    with pytest.raises(DefinitionError, match="has a table 'pghistory_archive'"):

        @track(partition_by="month")
        class Page(base):  # type: ignore[misc, valid-type]
            __tablename__ = "page"
            id: Mapped[int] = mapped_column(primary_key=True)
