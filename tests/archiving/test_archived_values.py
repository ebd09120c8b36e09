"""What an archive gives back is what the database gives: values, rows, errors."""

from __future__ import annotations

import datetime
import enum
import uuid
from collections.abc import Callable
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlalchemy import (
    ARRAY,
    JSON,
    Boolean,
    Date,
    DateTime,
    Engine,
    Enum,
    Float,
    ForeignKey,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    PrimaryKeyConstraint,
    Text,
    Time,
    Uuid,
    cast,
    column,
    func,
    insert,
    select,
    table,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import INET, INT4RANGE, JSONB, TSTZRANGE, Range
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AggregateEvent, track
from sa_history.exc import ArchiveError, EventsError, EventsRemovedError, PastError

UTC = datetime.timezone.utc


class Mood(enum.Enum):
    """An enum, which PostgreSQL has as a type of its own."""

    sad = 1
    happy = 2


def document(base: Any) -> Any:
    """A tracked class with a column of each kind."""

    @track(partition_by=10)
    class Document(base):  # type: ignore[misc]
        __tablename__ = "document"
        id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
        amount: Mapped[Decimal | None] = mapped_column(Numeric(12, 2))
        free: Mapped[Decimal | None] = mapped_column(Numeric())
        ratio: Mapped[float | None]
        rough: Mapped[float | None] = mapped_column(Numeric(8, 3, asdecimal=False))
        is_open: Mapped[bool | None]
        big: Mapped[int | None]
        note: Mapped[str | None]
        raw: Mapped[bytes | None] = mapped_column(LargeBinary)
        body: Mapped[Any] = mapped_column(JSONB, nullable=True)
        plain: Mapped[Any] = mapped_column(JSON, nullable=True)
        day: Mapped[datetime.date | None] = mapped_column(Date)
        at: Mapped[datetime.time | None] = mapped_column(Time)
        due: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))
        clock: Mapped[datetime.datetime | None] = mapped_column(DateTime())
        span: Mapped[datetime.timedelta | None] = mapped_column(Interval)
        mood: Mapped[Mood | None] = mapped_column(Enum(Mood, name="mood"))
        numbers: Mapped[Any] = mapped_column(ARRAY(Integer), nullable=True)
        prices: Mapped[Any] = mapped_column(ARRAY(Numeric), nullable=True)
        days: Mapped[Any] = mapped_column(ARRAY(Date), nullable=True)
        address: Mapped[Any] = mapped_column(INET, nullable=True)
        during: Mapped[Any] = mapped_column(TSTZRANGE, nullable=True)

    return Document


MOMENT = datetime.datetime(2026, 3, 4, 5, 6, 7, 80_900, tzinfo=UTC)
USUAL = {
    "amount": Decimal("10.50"),
    "free": Decimal("1.5000"),
    "ratio": 1 / 3,
    "rough": 2.5,
    "is_open": True,
    "big": 2**31 - 1,
    "note": 'caf\u00e9 "x" \\ \n',
    "raw": b"\x00\xff",
    "body": {"a": [1, 1.5, None, "x"]},
    "plain": [1, {"b": "\u00e9"}],
    "day": datetime.date(2026, 3, 4),
    "at": datetime.time(1, 2, 3, 4),
    "due": MOMENT,
    "clock": MOMENT.replace(tzinfo=None),
    "span": datetime.timedelta(days=3, seconds=4, microseconds=5),
    "mood": Mood.happy,
    "numbers": [1, None, 3],
    "prices": [Decimal("1.50"), None],
    "days": [datetime.date(2026, 1, 2)],
    "address": "10.0.0.1",
    "during": Range(MOMENT, None),
}


def written(engine: Engine, base: Any, model: Any, rows: list[dict[str, Any]]) -> None:
    """Insert rows, and end the partition that has their events."""
    with Session(engine) as session:
        for row in rows:
            session.add(model(**row))
            session.commit()
    history.partitions(engine, base)


def values_of(obj: Any) -> dict[str, Any]:
    return {c.key: getattr(obj, c.key) for c in type(obj).__mapper__.column_attrs}


def test_values_are_those_that_the_database_gives(
    base: Any, create_all: Callable[[], None], pg_engine: Engine, folder: Path
) -> None:
    Document = document(base)
    create_all()
    empty, odd, usual = (uuid.UUID(int=number) for number in (1, 2, 3))
    strange = {
        "amount": Decimal("NaN"),
        "free": Decimal("NaN"),
        "ratio": float("-inf"),
        "numbers": [],
        "address": "10.0.0.0/8",
    }
    rows = [{"id": empty}, {"id": odd, **strange}, {"id": usual, **USUAL}]
    rows += [{"id": uuid.UUID(int=n), "rough": 3.0} for n in range(4, 16)]
    written(pg_engine, base, Document, rows)
    with Session(pg_engine) as session:
        events = [values_of(e) for e in session.scalars(Document.events.select())]
        aggregated = session.execute(AggregateEvent.select(Document)).all()
        when = session.scalar(select(func.clock_timestamp()))
        with history.as_of(session, when) as past:
            then = [values_of(d) for d in past.scalars(select(Document).order_by("id"))]
    history.archive(pg_engine, base, to=folder, drop=True)
    with history.archived(folder, base, live=pg_engine) as archive:
        found = [values_of(e) for e in archive.events(Document)]
        assert repr(found) == repr(events)
        assert repr(archive.aggregate(Document)) == repr(
            [history.AggregateRow(*row) for row in aggregated]
        )
        past = archive.as_of(when)
        query = past.select(Document).order_by(Document.id)
        assert repr([values_of(d) for d in query]) == repr(then)
        is_free = cast(Document.free, Float) == 1.5
        exact = select(cast(Document.free, Numeric), Document.id).where(is_free)
        assert past.execute(exact).all() == [(Decimal("1.5"), usual)]
        for wrong in (Document.free > 1, func.max(Document.free)):
            with pytest.raises(ArchiveError, match="free is a numeric without a"):
                past.execute(select(wrong))
        total = past.scalar(select(func.sum(Document.big)))
        assert repr(total) == repr(2**31 - 1)
        assert (
            past.scalar(select(Document.id).where(Document.body["a"][0].astext == "1"))
            == usual
        )


def test_times_that_python_cannot_hold_are_refused_when_they_are_read(
    base: Any, create_all: Callable[[], None], pg_engine: Engine, folder: Path
) -> None:
    @track(partition_by=10)
    class Task(base):  # type: ignore[misc]
        __tablename__ = "task"
        id: Mapped[int] = mapped_column(primary_key=True)
        due: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))
        day: Mapped[datetime.date | None]

    create_all()
    with pg_engine.begin() as connection:
        for number, due, day in (
            (1, "infinity", "infinity"),
            (2, "-infinity", "0044-03-15 BC"),
            (3, "20000-01-01 00:00:00+00", None),
            (4, "2026-01-01 00:00:00+00", "2026-01-01"),
        ):
            connection.execute(
                text("INSERT INTO task VALUES (:id, :due, :day)"),
                {"id": number, "due": due, "day": day},
            )
        for _ in range(8):
            connection.execute(text("UPDATE task SET day = day WHERE id = 4"))
            connection.execute(text("UPDATE task SET due = now() WHERE id = 4"))
    history.partitions(pg_engine, base)
    with Session(pg_engine) as session:
        aggregated = session.execute(AggregateEvent.select(Task, limit=3)).all()
    history.archive(pg_engine, base, to=folder, drop=True)
    with history.archived(folder, base, live=pg_engine) as archive:
        with pytest.raises(ArchiveError, match="infinity, which Python cannot hold"):
            archive.events(Task, 1)
        with pytest.raises(ArchiveError, match="a year below 1"):
            archive.session.scalars(
                select(Task.events.day).where(Task.events.id == 2)
            ).all()
        with pytest.raises(ArchiveError, match="a year over 9999"):
            archive.events(Task, 3)
        late = select(Task.events.id).where(Task.events.due > MOMENT.replace(year=9000))
        assert set(archive.session.scalars(late)) == {1, 3}
        first = archive.aggregate(Task, limit=1)[0]
        assert first.pgh_data == aggregated[0].pgh_data


def test_inheritance_schemas_and_columns_of_their_own_names(
    base: Any, create_all: Callable[[], None], pg_engine: Engine, folder: Path
) -> None:
    @track(partition_by=10, schema="past")
    class Person(base):  # type: ignore[misc]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        full_name: Mapped[str] = mapped_column("name")
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    @track(partition_by=10, context="inline")
    class Clerk(Person):
        __tablename__ = "clerk"
        id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
        desk: Mapped[int | None]
        __mapper_args__ = {"polymorphic_identity": "clerk"}

    with pg_engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA past"))
    create_all()
    with Session(pg_engine) as session, history.context(session, user=1):
        session.add_all([Clerk(id=n, full_name=f"c{n}", desk=n) for n in range(1, 6)])
        session.add_all([Person(id=n, full_name=f"p{n}") for n in range(6, 13)])
        session.commit()
        session.get_one(Clerk, 2).desk = 20
        session.get_one(Clerk, 3).full_name = "new"
        session.commit()
    history.partitions(pg_engine, base)
    with Session(pg_engine) as session:
        when = session.scalar(select(func.clock_timestamp()))
        of_clerk = [
            history.AggregateRow(*row)
            for row in session.execute(AggregateEvent.select((Clerk, 2)))
        ]
        all_clerks = len(session.execute(AggregateEvent.select(Clerk)).all())
    history.archive(pg_engine, base, to=folder)
    with history.archived(folder, base, live=pg_engine) as archive:
        past = archive.as_of(when)
        clerk = past.get(Person, 2)
        assert (type(clerk), clerk.desk, clerk.full_name) == (Clerk, 20, "c2")
        assert past.select(Clerk).count() == 5
        assert past.scalar(select(func.count()).select_from(Person)) == 12
        assert archive.aggregate((Clerk, 2)) == of_clerk
        assert len(archive.aggregate(Clerk)) == all_clerks
        (event, *_) = archive.events(Clerk, 2)
        assert event.pgh_context == {"user": 1}
        assert past.get(Clerk, 99) is None
    with history.archived(folder, base) as archive:
        assert len(archive.events(Person, 3)) in (1, 2)


KEYS: list[tuple[list[Any], list[Any]]] = [
    ([Text], ["a\\b/?\n'\"", ""]),
    ([Text, Integer], [("a,1", 2), ('"', 3)]),
    ([LargeBinary], [b"\x00\xff/\\x", b""]),
    (
        [INET],
        [IPv4Address("10.0.0.1"), IPv4Interface("10.0.0.0/8"), IPv6Interface("::1")],
    ),
    ([Uuid], [uuid.UUID(int=1)]),
    ([Date], [datetime.date(1, 1, 1), datetime.date(9999, 12, 31)]),
    ([DateTime(timezone=True)], [datetime.datetime(2024, 1, 1, 0, 0, 0, 1, UTC)]),
    ([Boolean], [True, False]),
    ([Enum(Mood)], [Mood.sad]),
    ([Numeric(6, 2)], [Decimal("1.50"), Decimal("-0.01")]),
]


@pytest.mark.usefixtures("read_committed")
def test_rows_are_found_by_keys_of_all_types(
    base: Any, create_all: Callable[[], None], pg_engine: Engine, folder: Path
) -> None:
    rows = []
    for number, (types, keys) in enumerate(KEYS):
        names = [f"k{place}" for place in range(len(types))]
        columns = {
            name: mapped_column(type_, primary_key=True, autoincrement=False)
            for name, type_ in zip(names, types, strict=True)
        }
        attributes = {"__tablename__": f"t{number}", "value": mapped_column(Integer)}
        class_ = type(f"T{number}", (base,), {**attributes, **columns})
        track(partition_by=2, erasable=["value"])(class_)
        rows += [(class_, names, key) for key in keys]
    create_all()
    live = {}
    with Session(pg_engine) as session, history.context(session, user=1):
        for class_, names, key in rows:
            values = key if isinstance(key, tuple) else (key,)
            row = class_(**dict(zip(names, values, strict=True)), value=1)
            session.add(row)
            session.flush()
            row.value = 2
            session.commit()
            history.erase(session, class_, key)
            row.value = 3
            session.commit()
        for class_, _, key in rows:
            live[class_, key] = (
                [e.pgh_id for e in session.scalars(class_.events.of(key).select())],
                [*map(tuple, session.execute(AggregateEvent.select((class_, key))))],
                [*map(tuple, session.execute(history.changes((class_, key), "value")))],
            )
        when = session.scalar(select(func.clock_timestamp()))
    history.partitions(pg_engine, base)
    history.archive(pg_engine, base, to=folder, drop=True)
    with history.archived(folder, base, live=pg_engine) as archive:
        past = archive.as_of(when)
        for (class_, key), (ids, aggregated, changed) in live.items():
            assert [event.pgh_id for event in archive.events(class_, key)] == ids
            assert [*map(tuple, archive.aggregate((class_, key)))] == aggregated
            assert [*map(tuple, archive.changes((class_, key), "value"))] == changed
            assert past.get(class_, key).value == 3
            if not isinstance(key, tuple):  # as the timeline finds them
                is_row = cast(class_.events.pgh_obj_id, Text) == aggregated[0][3]
                found = select(class_.events.pgh_id).where(is_row)
                assert archive.session.scalars(found).all() == ids


def test_ranges_are_not_compared_as_text_without_a_word(
    base: Any, create_all: Callable[[], None], pg_engine: Engine, folder: Path
) -> None:
    @track(partition_by=2)
    class Stay(base):  # type: ignore[misc]
        __tablename__ = "stay"
        nights: Mapped[Range[int]] = mapped_column(INT4RANGE, primary_key=True)
        guest: Mapped[str]

    create_all()
    with Session(pg_engine) as session:
        # It is stored as [1,5).
        stay = Stay(nights=Range(1, 4, bounds="[]"), guest="ann")
        session.add_all([stay, Stay(nights=Range(None, 1, bounds="()"), guest="cy")])
        session.commit()
        stay.guest = "bob"
        session.commit()
    history.archive(pg_engine, base, to=folder, open=True)
    with history.archived(folder, base) as archive:
        with pytest.raises(ArchiveError, match="cannot be compared with the ranges"):
            archive.events(Stay, Range(1, 4, bounds="[]"))
        as_written = cast(Stay.events.pgh_obj_id, Text) == "[1,5)"
        found = archive.session.scalars(Stay.events.select().where(as_written))
        assert [event.guest for event in found] == ["ann", "bob"]
        # As PostgreSQL writes them, they are one text.
        _, event = archive.events(Stay, Range(1, 5))
        assert event.diff == {"guest": ("ann", "bob")}
        (event,) = archive.events(Stay, Range(None, 1))
        assert event.guest == "cy"


def test_tables_and_schemas_of_all_names_have_folders_of_their_own(
    base: Any, create_all: Callable[[], None], pg_engine: Engine, folder: Path
) -> None:
    # The second is a pattern of the first.
    names = [(None, "in out"), (None, "in?out"), (None, "in/out"), (None, "in%2Fout")]
    names += [("v1.0", "note.txt")]
    with pg_engine.begin() as connection:
        connection.execute(text('CREATE SCHEMA "v1.0"'))
    made = []
    for number, (schema, name) in enumerate(names):
        attributes = {
            "__tablename__": name,
            "__table_args__": {"schema": schema},
            "id": mapped_column(Integer, primary_key=True),
        }
        made.append(track(partition_by=2)(type(f"Note{number}", (base,), attributes)))
    create_all()
    with Session(pg_engine) as session:
        for number, note in enumerate(made):
            session.add_all(note(id=10 * number + n) for n in range(3))
        session.commit()
    history.partitions(pg_engine, base)
    reports = history.archive(pg_engine, base, to=folder, drop=True)
    shown = [f"{schema or 'public'}.{name}_event" for schema, name in names]
    assert [report.table for report in reports[: len(names)]] == shown
    assert all(report.dropped for report in reports[: len(names)])
    for live in (pg_engine, None):
        with history.archived(folder, base, live=live) as archive:
            for number, note in enumerate(made):
                ids = [event.id for event in archive.events(note)]
                assert ids == [10 * number + n for n in range(3)]
    restored = history.restore(pg_engine, folder, base)
    assert [report.rows for report in restored] == [3] * len(names)


def test_an_archive_of_several_schemas_is_asked_for_one_of_them(
    base: Any, pg_engine: Engine, folder: Path
) -> None:
    class Note(base):  # type: ignore[misc]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    track(partition_by=2)(Note)
    tenants = []
    for number, name in enumerate(("one", "two")):
        with pg_engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {name}"))
        tenant = pg_engine.execution_options(schema_translate_map={None: name})
        base.metadata.create_all(tenant)
        with Session(tenant) as session:
            session.add_all(Note(id=10 * number + n) for n in range(3))
            session.commit()
        history.partitions(tenant, base)
        history.archive(tenant, base, to=folder)
        tenants.append(tenant)
    for number, tenant in enumerate(tenants):
        with history.archived(folder, base, live=tenant) as archive:
            assert [e.id // 10 for e in archive.events(Note)] == [number] * 3
    with pytest.raises(ArchiveError, match="several schemas: one.note_event, two.note"):
        history.archived(folder, base).events(Note)


def test_rows_that_exchange_their_keys_are_seen_as_they_were(
    base: Any, create_all: Callable[[], None], pg_engine: Engine, folder: Path
) -> None:
    @track(partition_by=10)
    class Place(base):  # type: ignore[misc]
        __tablename__ = "place"
        number: Mapped[int] = mapped_column()
        name: Mapped[str]
        __table_args__ = (
            PrimaryKeyConstraint("number", deferrable=True, initially="DEFERRED"),
        )

    create_all()
    times = []
    with Session(pg_engine) as session:
        session.execute(
            insert(Place), [{"number": n, "name": f"n{n}"} for n in (1, 2, 3)]
        )
        session.commit()
        for one, other in ((1, 2), (2, 3), (1, 3), (2, 1)):
            exchanged = {one: other, other: one}
            session.execute(
                update(Place)
                .where(Place.number.in_(exchanged))
                .values(number=one + other - Place.number)
                .execution_options(synchronize_session=False)
            )
            session.commit()
            times.append(session.scalar(select(func.clock_timestamp())))
    history.partitions(pg_engine, base)
    statement = select(Place.number, Place.name).order_by(Place.number)
    with Session(pg_engine) as session:
        before = []
        for when in times:
            with history.as_of(session, when) as past:
                before.append(past.execute(statement).all())
        aggregated = session.execute(AggregateEvent.select(Place)).all()
    history.archive(pg_engine, base, to=folder, drop=True)
    with history.archived(folder, base, live=pg_engine) as archive:
        assert [archive.as_of(when).execute(statement).all() for when in times] == (
            before
        )
        assert [tuple(row) for row in archive.aggregate(Place)] == [
            tuple(row) for row in aggregated
        ]


@pytest.fixture
def account(base: type[DeclarativeBase]) -> Any:
    """A tracked class that gets a partition every ten events."""

    @track(partition_by=10)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int] = mapped_column(default=0)

    return Account


def test_the_archive_alone_answers_until_its_end(
    account: Any,
    base: Any,
    create_all: Callable[[], None],
    pg_engine: Engine,
    folder: Path,
) -> None:
    create_all()
    written(pg_engine, base, account, [{"id": n} for n in range(1, 21)])
    written(pg_engine, base, account, [{"id": n} for n in range(21, 26)])
    with Session(pg_engine) as session:
        events = session.scalars(account.events.select()).all()
        last = events[11]
        session.expunge_all()
    history.archive(pg_engine, base, to=folder)
    with history.archived(folder, base) as archive:
        past = archive.as_of(last)
        assert past.select(account).count() == 12
        assert archive.as_of(transaction=last.pgh_xact_id).get(account, 12).id == 12
        assert archive.as_of(last.pgh_created_at).get(account, 13) is None
        assert len(archive.events(account)) == 20
        assert archive.context(uuid.UUID(int=1)) is None
        for after in (events[24], events[24].pgh_created_at):
            with pytest.raises(ArchiveError, match="no events of 'account' from"):
                archive.as_of(after).get(account, 1)
    history.archive(pg_engine, base, to=folder, open=True)
    with history.archived(folder, base) as archive:
        assert len(archive.events(account)) == 25
        assert archive.as_of(events[24].pgh_created_at).select(account).count() == 25


def test_views_answer_other_tools(
    account: Any,
    base: Any,
    create_all: Callable[[], None],
    pg_engine: Engine,
    folder: Path,
) -> None:
    create_all()
    written(pg_engine, base, account, [{"id": n} for n in range(1, 12)])
    with Session(pg_engine) as session:
        session.get_one(account, 1).balance = 5
        session.commit()
        session.execute(update(account).where(account.id == 2).values(id=50))
        session.commit()
    history.archive(pg_engine, base, to=folder, open=True)
    archive = history.archived(folder, base)
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(archive.sql())
    then = "SELECT id, balance FROM account_as_of(TIMESTAMPTZ '2999-01-01 00:00:00+00')"
    found = connection.execute(f"{then} WHERE id IN (1, 2, 50) ORDER BY id")
    assert found.fetchall() == [(1, 5), (50, 0)]
    changed = (
        "SELECT id, previous_id, previous_balance FROM account_event_with_previous "
        "WHERE pgh_op = 'U' ORDER BY pgh_id"
    )
    assert connection.execute(changed).fetchall() == [(1, 1, 0), (50, 2, 0)]
    spark = archive.sql("spark")
    assert "CREATE OR REPLACE TEMPORARY VIEW `account_event` AS SELECT" in spark
    archive.close()


def test_what_an_archive_is_not_asked_for_is_refused(
    account: Any,
    base: Any,
    create_all: Callable[[], None],
    pg_engine: Engine,
    pg_async_engine: AsyncEngine,
    folder: Path,
) -> None:
    create_all()
    written(pg_engine, base, account, [{"id": n} for n in range(1, 12)])
    history.archive(pg_engine, base, to=folder)
    with pytest.raises(ArchiveError, match="give a sync one"):
        history.archived(folder, base, live=pg_async_engine)
    with pytest.raises(EventsError, match="tracks nothing"):
        history.archived(folder, type("Nothing", (DeclarativeBase,), {}))
    with history.archived(folder, base) as archive:
        now = datetime.datetime.now(UTC)
        for given in ({}, {"when": now, "transaction": 1}, {"when": 7}):
            with pytest.raises(PastError, match="as_of takes"):
                archive.as_of(**given)
        with pytest.raises(PastError, match="as of a time: archive.as_of"):
            archive.session.scalars(select(account)).all()
        with pytest.raises(PastError, match="not written"):
            archive.session.execute(update(account).values(balance=1))
        with pytest.raises(PastError, match="text sees no past"):
            archive.session.execute(text("SELECT 1"))
        with pytest.raises(PastError, match="is not a Table"):
            archive.session.execute(select(column("x")).select_from(table("plain")))
        with pytest.raises(ArchiveError, match="DuckDB, which reads the archive"):
            archive.session.scalars(
                select(func.pg_backend_pid(account.events.pgh_id))
            ).all()
        with pytest.raises(EventsError, match="the key of Account"):
            archive.events(account, (1, 2))
    with history.archived(folder / "nothing", base) as archive:
        with pytest.raises(ArchiveError, match="neither in the archive"):
            archive.events(account, 1)
        with pytest.raises(ArchiveError, match="nothing has no events of these"):
            archive.sql()


LATER = datetime.datetime.now(UTC) + datetime.timedelta(days=3)


@pytest.mark.parametrize("keeps_last", [True, False])
def test_events_that_were_removed_before_the_archive_are_known_to_be_missing(
    keeps_last: bool,
    account: Any,
    base: Any,
    create_all: Callable[[], None],
    pg_engine: Engine,
    folder: Path,
) -> None:
    create_all()
    written(pg_engine, base, account, [{"id": n} for n in range(1, 12)])
    with Session(pg_engine) as session:
        early = session.scalars(account.events.select().limit(5)).all()[-1]
    options = {"keep": "1 day", "keep_last_events": keeps_last, "now": LATER}
    history.partitions(pg_engine, base, **options)
    written(pg_engine, base, account, [{"id": n} for n in range(12, 25)])
    history.archive(pg_engine, base, to=folder)
    with Session(pg_engine) as session:
        last = session.scalar(account.events.last())
    with history.archived(folder, base, live=pg_engine) as archive:
        for when in (early, early.pgh_created_at):
            with pytest.raises(EventsRemovedError, match="are not in the archive"):
                archive.as_of(when).get(account, 1)
        for past in (
            archive.as_of(last),
            archive.as_of(last.pgh_created_at),
            archive.as_of(transaction=last.pgh_xact_id),
        ):
            if keeps_last:
                assert past.select(account).count() == 24
                assert past.get(account, 1).id == 1
            else:
                with pytest.raises(EventsRemovedError):
                    past.get(account, 1)
    with (
        history.archived(folder, base) as archive,
        pytest.raises(EventsRemovedError, match="before number 12"),
    ):
        archive.as_of(archive.events(account)[0]).get(account, 1)
