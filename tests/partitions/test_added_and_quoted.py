"""Partitions of tables to which others have added something, or whose names are odd."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateSchema

import sa_history as history
from sa_history import AfterDelete, Snapshot, track
from sa_history.ddl.partitions import PartitionedTable
from sa_history.ddl.repartition import Repartition
from sa_history.exc import AppendOnlyError, EventsRemovedError
from sa_history.install import check
from sa_history.sql.compose import Qualified

LATER = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=40)
SCHEMA = 'Audit.A% "of" :all'


def remove(engine: Engine, base: Any) -> Any:
    """Remove the partitions that are full, and return the report of the events."""
    history.partitions(engine, base)
    return history.partitions(engine, base, keep="1 month", now=LATER)[0]


def to_one_table(engine: Engine) -> None:
    """Make the event table one table."""
    engine = engine.execution_options(isolation_level="READ COMMITTED")
    with engine.connect() as connection:
        Repartition(
            connection,
            PartitionedTable(Qualified("public", "account_event"), "pgh_id", "bigint"),
            Qualified("public", "account_event_p1"),
            1,
            print,
        ).unpartition()


def test_what_is_removed_is_known_of_tables_whose_names_have_to_be_quoted(
    pg_engine: Engine, run: Callable[..., None], level: str
) -> None:
    class Base(DeclarativeBase):
        metadata = MetaData(schema=SCHEMA)

    @track(Snapshot, AfterDelete, level=level, append_only=True, partition_by=5)
    class Odd(Base):
        __tablename__ = 'Acc.ount %s "Tab" :x'
        number: Mapped[int] = mapped_column("Key A.%", primary_key=True)
        name: Mapped[str] = mapped_column('k"e:y', primary_key=True)
        value: Mapped[int] = mapped_column("V %(x)s", default=0)

    with pg_engine.begin() as connection:
        connection.execute(CreateSchema(SCHEMA))
    Base.metadata.create_all(pg_engine)
    for first in (0, 10):
        with Session(pg_engine) as session:
            session.add_all(Odd(number=first + n, name="é %") for n in range(10))
            session.commit()
        report = remove(pg_engine, Base)
        assert report.postponed == ()
        assert report.done[-1].startswith(f"drop {SCHEMA}.Acc.ount")
    assert check(pg_engine, Base) == []
    with history.as_of(pg_engine, LATER) as past:
        assert past.scalar(select(func.count()).select_from(Odd)) == 20
    before = LATER - datetime.timedelta(days=90)
    with history.as_of(pg_engine, before) as past, pytest.raises(EventsRemovedError):
        past.scalar(select(func.count()).select_from(Odd))


def test_columns_that_others_have_added_are_kept_with_the_last_events(
    write: Any,
    account: Any,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    run: Callable[..., None],
) -> None:
    run(
        "CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.note = 'of ' || NEW.pgh_id; RETURN NEW; END $$",
        "ALTER TABLE account_event ADD note text NOT NULL, ADD twice bigint"
        " GENERATED ALWAYS AS (id * 2) STORED",
        "CREATE TRIGGER fill BEFORE INSERT ON account_event"
        " FOR EACH ROW EXECUTE FUNCTION fill()",
    )
    found = []
    for _ in range(2):
        write(10)
        assert remove(pg_engine, base).done[-1].startswith("drop public.account_event")
        with pg_engine.connect() as connection:
            kept = text("SELECT id, note, twice FROM account_event WHERE pgh_id < 0")
            found = sorted(map(tuple, connection.execute(kept)))
    assert found == [(n, f"of {n}", 2 * n) for n in range(1, 21)]
    to_one_table(pg_engine)
    with pg_engine.connect() as connection:
        kept = text("SELECT id, note, twice FROM account_event ORDER BY id")
        assert [tuple(row) for row in connection.execute(kept)] == found


def test_what_an_event_sets_off_is_not_set_off_by_its_copy(
    write: Any,
    account: Any,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    run: Callable[..., None],
) -> None:
    run(
        "CREATE TABLE outbox (op text, event bigint)",
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO public.outbox VALUES (TG_OP, coalesce(NEW.pgh_id, OLD.pgh_id));"
        " RETURN NULL; END $$",
        "CREATE TRIGGER tell AFTER INSERT OR DELETE ON account_event"
        " FOR EACH ROW EXECUTE FUNCTION tell()",
        "ALTER TABLE account_event ENABLE ALWAYS TRIGGER tell",
        # Checks that wait are in the way of the triggers.
        "CREATE TABLE review (event bigint REFERENCES account_event"
        " DEFERRABLE INITIALLY DEFERRED)",
    )
    for _ in range(2):
        write(10)
        assert remove(pg_engine, base).postponed == ()
        run("UPDATE account SET balance = balance + 1")
    with pg_engine.connect() as connection:
        told = text("SELECT DISTINCT op, event > 0 FROM outbox")
        assert connection.execute(told).all() == [("INSERT", True)]
        states = text(
            "SELECT tgenabled FROM pg_trigger WHERE tgname = 'tell'"
            " AND tgrelid = 'account_event_p0'::regclass"
        )
        assert connection.scalars(states).all() == ["A"]
    with pytest.raises(AppendOnlyError):
        run("DELETE FROM account_event_p0")


def test_rows_are_copied_by_the_names_of_their_columns(
    write: Any,
    base: type[DeclarativeBase],
    pg_engine: Engine,
    run: Callable[..., None],
) -> None:
    write(5)
    history.partitions(pg_engine, base)
    run(
        "ALTER TABLE account_event DETACH PARTITION account_event_p1",
        "ALTER TABLE account_event_p1 ADD a text DEFAULT 'a', ADD b text DEFAULT 'b'",
        "ALTER TABLE account_event ADD b text, ADD a text",
        "ALTER TABLE account_event ATTACH PARTITION account_event_p1"
        " FOR VALUES FROM (1) TO (11)",
    )
    to_one_table(pg_engine)
    with pg_engine.connect() as connection:
        rows = connection.execute(text("SELECT id, a, b FROM account_event ORDER BY 1"))
        assert [tuple(row) for row in rows] == [(n, "a", "b") for n in range(1, 6)]
