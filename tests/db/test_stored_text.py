"""What triggers store as JSON: it depends on the value, and on no client's settings.

The settings are those by which PostgreSQL writes a value as text. Each test writes with
the usual ones and with others, and has to find the same.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    Column,
    Connection,
    Date,
    DateTime,
    Double,
    Engine,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    Select,
    Table,
    Text,
    cast,
    func,
    insert,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.orm import DeclarativeBase, Session

import sa_history as history
from sa_history import Audit, attach, audit_table, track
from sa_history.install.api import check

CreateAll = Callable[[], None]

ODD = {
    "DateStyle": "German",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "bytea_output": "escape",
    "extra_float_digits": "-14",
    "lc_monetary": "C",
}

# Two values of each type, which the odd settings write otherwise than the usual ones.
TYPES: dict[str, tuple[Any, str, str]] = {
    "timestamptz": (
        DateTime(timezone=True),
        "'2020-01-01 08:00Z'::timestamptz",
        "'infinity'::timestamptz",
    ),
    "float": (Double(), "987654.321::float8", "0.1::float8 + 0.2::float8"),
    "real": (pg.REAL(), "0.1::real", "16777216.0::real"),
    "interval": (
        Interval(),
        "'1 day -02:03:04.5'::interval",
        "'-1 year -2 months +3 days'::interval",
    ),
    "bytea": (LargeBinary(), r"'\x00ff'::bytea", r"'\x5c27'::bytea"),
    "array": (
        ARRAY(Double()),
        "ARRAY[987654.321]::float8[]",
        "ARRAY[0.1, 0.25]::float8[]",
    ),
    "domain": (
        pg.DOMAIN("price", Double()),
        "987654.321::float8",
        "0.1::float8 + 0.2::float8",
    ),
    "range of dates": (
        pg.DATERANGE(),
        "'[2020-01-02,2020-03-04)'::daterange",
        "'[2020-02-01,)'::daterange",
    ),
    "range of times": (
        pg.TSTZRANGE(),
        "'[2020-01-02 08:00Z,2020-03-04 09:00Z)'::tstzrange",
        "'[2020-01-02 08:30Z,)'::tstzrange",
    ),
}


def set_all(connection: Connection, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        connection.execute(select(func.set_config(name, value, True)))


def as_is(connection: Connection, rows: Select[Any]) -> list[Any]:
    """Return rows with what PostgreSQL has of each value, whatever Python can hold."""
    stored = rows.subquery()
    texts = select(*(cast(column, Text) for column in stored.c))
    return sorted(connection.execute(texts).all())


@pytest.fixture
def slot(
    request: pytest.FixtureRequest,
    base: type[DeclarativeBase],
    create_all: CreateAll,
    level: str,
) -> tuple[Any, Any, Any]:
    """A tracked table with a key of a type, and two values of the key."""
    type_, one, other = TYPES[request.param]

    @track(level=level)
    class Slot(base):  # type: ignore[misc, valid-type]
        __table__ = Table(
            "slot",
            base.metadata,
            Column("key", type_, primary_key=True),
            Column("guest", Text),
        )

    create_all()
    return Slot, literal_column(one), literal_column(other)


@pytest.mark.parametrize(
    ("slot", "reader"),
    [
        *(pytest.param(name, {}, id=name) for name in TYPES),
        # JSON of an array cannot be cast to it, so it is compared as JSON.
        *(
            pytest.param(name, ODD, id=f"{name}-odd")
            for name in TYPES
            if name != "array"
        ),
    ],
    indirect=["slot"],
)
@pytest.mark.parametrize("writer", [{}, ODD], ids=["usual", "odd"])
@pytest.mark.parametrize("level", ["statement", "row"])
# SQLAlchemy 2.1 warns of each comparison of a column whose type is a DOMAIN.
@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
def test_a_row_is_followed_to_its_new_key_whatever_the_writer_has_set(
    slot: tuple[Any, Any, Any],
    pg_engine: Engine,
    writer: dict[str, str],
    reader: dict[str, str],
) -> None:
    model, one, other = slot
    table = model.__table__
    with pg_engine.begin() as connection:
        connection.execute(insert(table).values(key=one, guest="ann"))
    with pg_engine.begin() as connection:
        set_all(connection, writer)
        connection.execute(update(table).values(key=other, guest="bob"))
    now = datetime.datetime.now(datetime.timezone.utc)
    with history.as_of(pg_engine, now) as past:
        if reader:
            set_all(past, reader)
        assert list(past.scalars(select(table.c.guest))) == ["bob"]


@pytest.mark.parametrize("slot", ["float", "interval", "bytea"], indirect=True)
@pytest.mark.parametrize("writer", [{}, ODD], ids=["usual", "odd"])
def test_a_change_of_the_key_has_a_difference_whatever_the_writer_has_set(
    slot: tuple[Any, Any, Any], pg_session: Session, writer: dict[str, str]
) -> None:
    model, one, _ = slot
    other = {
        "float": "0.3::float8",
        "interval": "'36:00:00'::interval",
        "bytea": r"'\x00'::bytea",
    }
    value = next(v for name, v in other.items() if TYPES[name][1] == str(one))
    table = model.__table__
    pg_session.execute(insert(table).values(key=one, guest="ann"))
    pg_session.commit()
    set_all(pg_session.connection(), writer)
    moved = {"key": literal_column(value), "guest": "bob"}
    pg_session.execute(update(table).values(moved))
    pg_session.commit()
    event = pg_session.scalars(model.events.select()).all()[-1]
    assert event.diff["guest"] == ("ann", "bob")
    assert set(event.diff) == {"key", "guest"}


@pytest.fixture
def log(base: type[DeclarativeBase]) -> Table:
    return audit_table("audit_log", base.metadata)


def audited(base: type[DeclarativeBase], log: Table, **options: Any) -> Table:
    """Return a table with a column of each type, whose changes are logged."""
    columns = [Column(name.replace(" ", "_"), TYPES[name][0]) for name in TYPES]
    table = Table(
        "offer",
        base.metadata,
        Column("id", Integer, primary_key=True),
        *columns,
    )
    attach(Audit(into=log, **options))(table)
    return table


@pytest.mark.parametrize("level", ["statement", "row"])
@pytest.mark.parametrize("chosen", [False, True], ids=["whole", "chosen"])
def test_the_log_has_the_same_of_a_value_whatever_the_writer_has_set(
    base: type[DeclarativeBase],
    log: Table,
    create_all: CreateAll,
    pg_engine: Engine,
    level: str,
    chosen: bool,
) -> None:
    names = [name.replace(" ", "_") for name in TYPES] if chosen else None
    table = audited(base, log, level=level, columns=names)
    create_all()
    found = []
    for settings in ({}, ODD):
        with pg_engine.begin() as connection:
            connection.execute(table.delete())
            connection.execute(log.delete())
        with pg_engine.begin() as connection:
            set_all(connection, settings)
            for number, place in ((1, 1), (2, 2)):
                values = {
                    name.replace(" ", "_"): literal_column(TYPES[name][place])
                    for name in TYPES
                }
                connection.execute(insert(table).values(id=number, **values))
            connection.execute(update(table).values(id=table.c.id + 10))
        with pg_engine.connect() as connection:
            rows = select(log.c.operation, log.c.key, log.c.old_row, log.c.new_row)
            found.append(as_is(connection, rows))
    assert len(found[0]) == 4
    assert found[0] == found[1]
    (row,) = (
        r for r in found[0] if '"timestamptz": "2020' in str(r[3]) and r[2] is None
    )
    assert '"2020-01-01T08:00:00+00:00"' in row[3]
    assert "987654.321" in row[3]


def test_only_what_the_stored_types_depend_on_is_set(
    base: type[DeclarativeBase], log: Table, create_all: CreateAll, pg_engine: Engine
) -> None:
    plain = Table(
        "plain",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("day", Date),
        Column("price", Numeric),
        Column("at", DateTime(timezone=True)),
    )
    attach(
        Audit(into=log, exclude=["at"]),
        Audit(into=log, name="times", columns=["at"]),
    )(plain)
    track()(plain)
    create_all()
    settings = text(
        "SELECT proname, array_to_string(proconfig[2:], ' ') FROM pg_proc"
        " WHERE proname LIKE 'plain\\_%' ORDER BY proname"
    )
    with pg_engine.connect() as connection:
        assert [tuple(row) for row in connection.execute(settings)] == [
            ("plain_audit", ""),
            ("plain_event_record", ""),
            ("plain_times", "TimeZone=UTC"),
        ]


def test_a_function_that_has_lost_its_settings_is_outdated(
    base: type[DeclarativeBase], log: Table, create_all: CreateAll, pg_engine: Engine
) -> None:
    audited(base, log)
    create_all()
    assert list(check(pg_engine, base)) == []
    with pg_engine.begin() as connection:
        connection.execute(text("ALTER FUNCTION offer_audit() RESET IntervalStyle"))
    (difference,) = check(pg_engine, base)
    assert "offer_audit" in str(difference)
