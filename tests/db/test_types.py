"""Every type of column is stored as it is, and its changes are seen."""

from __future__ import annotations

import datetime
import enum
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Interface
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    DDL,
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Date,
    DateTime,
    Double,
    Engine,
    Enum,
    Identity,
    Index,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Table,
    Text,
    Time,
    TypeDecorator,
    Uuid,
    bindparam,
    event,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.types import SchemaType, UserDefinedType

import sa_history as history
from sa_history import (
    AfterDelete,
    AfterUpdate,
    AnyChange,
    Snapshot,
    new,
    old,
    track,
)

Recorded = Callable[..., list[tuple[Any, ...]]]


class Colour(enum.Enum):
    RED = "red!"
    DARK_BLUE = "it's \\blue: 50%"


class Cents(TypeDecorator[Decimal]):
    """An amount of money, stored as a whole number of cents."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Any) -> int | None:
        return None if value is None else int(value * 100)

    def process_literal_param(self, value: Decimal | None, dialect: Any) -> str:
        return "NULL" if value is None else str(int(value * 100))

    def process_result_value(self, value: int | None, dialect: Any) -> Decimal | None:
        return None if value is None else Decimal(value) / 100


class Loud(TypeDecorator[str]):
    """Text that is stored in upper case."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return None if value is None else value.upper()

    def process_result_value(self, value: str | None, dialect: Any) -> str | None:
        return None if value is None else value.lower()


UTC = datetime.timezone.utc
NOON = datetime.datetime(2020, 2, 29, 12, 30, 15, 123456, UTC)


def day(number: int) -> datetime.date:
    return datetime.date(2020, 1, number)


VALUES: dict[str, tuple[Any, Any, Any]] = {
    "smallint": (SmallInteger(), -32768, 32767),
    "boolean": (Boolean(), True, False),
    "double": (Double(), 0.1, 0.30000000000000004),
    "numeric": (Numeric(12, 2), Decimal("1.10"), Decimal("-1.11")),
    "string": (String(20), "a'b\\c%d:e", "A'b"),
    "text": (Text(), "x" * 10_000, "x" * 9_999 + "y"),
    "collated": (Text(collation="C"), "a", "b"),
    "uuid": (Uuid(), uuid.UUID(int=1), uuid.UUID(int=2)),
    "date": (Date(), day(1), day(2)),
    "time": (Time(), datetime.time(12, 30), datetime.time(12, 31)),
    "timestamp": (
        DateTime(),
        datetime.datetime(2020, 1, 1),
        datetime.datetime(2020, 1, 1, 0, 0, 0, 1),
    ),
    "timestamptz": (DateTime(True), NOON, NOON.replace(microsecond=0)),
    "interval": (
        Interval(),
        datetime.timedelta(days=1, seconds=2),
        datetime.timedelta(days=2),
    ),
    "bytes": (LargeBinary(), b"\x00\xff'%\\", b""),
    "enum": (Enum(Colour, name="colour"), Colour.RED, Colour.DARK_BLUE),
    "enum_by_value": (
        Enum(Colour, name="hue", values_callable=lambda e: [m.value for m in e]),
        Colour.RED,
        Colour.DARK_BLUE,
    ),
    "enum_of_strings": (Enum("a", "b'c", name='odd "type" 50%'), "a", "b'c"),
    "enum_as_text": (Enum(Colour, native_enum=False), Colour.RED, Colour.DARK_BLUE),
    "array": (ARRAY(Integer), [1, 2, 3], [1, 2, 3, 4]),
    "nested_array": (ARRAY(Text, dimensions=2), [["a"], ["b"]], [["a"], ["c"]]),
    "array_of_enum": (
        ARRAY(Enum(Colour, name="shade")),
        [Colour.RED],
        [Colour.DARK_BLUE, Colour.RED],
    ),
    "json": (JSON(), {"a": [1, None]}, {"a": [1]}),
    "jsonb": (pg.JSONB(), {"a": [1, None]}, [1]),
    "json_null": (pg.JSONB(none_as_null=True), None, {"a": None}),
    "range": (pg.INT4RANGE(), Range(1, 5), Range(1, 6)),
    "date_range": (pg.DATERANGE(), Range(day(1), day(9)), Range(day(1), None)),
    "multirange": (
        pg.INT4MULTIRANGE(),
        [Range(1, 5), Range(7, 9)],
        [Range(1, 5), Range(7, 10)],
    ),
    "citext": (pg.CITEXT(), "abc", "abd"),
    "inet": (pg.INET(), IPv4Address("10.0.0.1"), IPv6Interface("::1/64")),
    "bit": (pg.BIT(3), "101", "100"),
    "hstore": (pg.HSTORE(), {"a": "1"}, {"a": None}),
    "decorated_integer": (Cents(), Decimal("9.99"), Decimal("10")),
    "decorated_string": (Loud(), "pssst", "hey"),
    "from_null": (Integer(), None, 1),
    "to_null": (Text(), "gone", None),
}
"""A type, a value, and one to change it to; each case stands for a way to go wrong."""


@pytest.fixture
def extensions(pg_engine: Engine) -> None:
    """The types that PostgreSQL brings in extensions."""
    with pg_engine.begin() as connection:
        for name in ("citext", "hstore"):
            connection.execute(text(f"CREATE EXTENSION {name}"))


@pytest.fixture
def row_of_all(
    base: type[DeclarativeBase],
    extensions: None,
    create_all: Callable[[], None],
    level: str,
) -> Any:
    """A model with a column of each type."""
    columns = {name: Column(type_) for name, (type_, *_) in VALUES.items()}
    body = {"__tablename__": "row", "id": mapped_column(Integer, primary_key=True)}
    model = track(
        Snapshot(label="stored"),
        AfterUpdate(AnyChange(), label="any"),
        level=level,
    )(type("Row", (base,), {**body, **columns}))
    create_all()
    return model


@pytest.mark.contrib
def test_values_arrive_in_the_event_as_they_are_in_the_row(
    row_of_all: Any, pg_session: Session
) -> None:
    before = {name: value for name, (_, value, _) in VALUES.items()}
    after = {name: value for name, (_, _, value) in VALUES.items()}
    row = row_of_all(id=1, **before)
    pg_session.add(row)
    pg_session.flush()
    for name, value in after.items():
        setattr(row, name, value)
    pg_session.commit()
    first, second, again = pg_session.scalars(row.events.select()).all()
    assert {name: getattr(first, name) for name in VALUES} == before
    assert {name: getattr(second, name) for name in VALUES} == after
    assert {name: getattr(again, name) for name in VALUES} == after


@pytest.mark.contrib
def test_change_of_any_column_is_seen_and_no_change_is_not(
    row_of_all: Any, pg_session: Session
) -> None:
    table = row_of_all.__table__
    before = {name: value for name, (_, value, _) in VALUES.items()}
    pg_session.execute(insert(row_of_all), [{"id": 1, **before}, {"id": 2}])
    counted = select(row_of_all.events.model.pgh_label).where(
        row_of_all.events.model.pgh_op == "U"
    )
    # To the same values, to the same NULLs, and with the values given anew.
    pg_session.execute(update(table).values({n: table.c[n] for n in VALUES}))
    pg_session.execute(update(table).where(table.c.id == 1).values(before))
    assert pg_session.scalars(counted).all() == []

    seen = {}
    for name, (type_, _, value) in VALUES.items():
        pg_session.execute(
            update(table)
            .where(table.c.id == 1)
            .values({name: bindparam("value", value, type_)})
        )
        seen[name] = sorted(pg_session.scalars(counted))
        pg_session.execute(text("TRUNCATE row_event"))
    assert seen == {name: ["any", "stored"] for name in VALUES}


@pytest.mark.contrib
@pytest.mark.parametrize(
    ("type_", "before", "after"),
    [
        (pg.CITEXT(), "'a'", "'A'"),
        (Numeric(), "1.0", "1.00"),
        (Interval(), "'1 day'", "'24 hours'"),
        (JSON(), "'[1, 2]'", "'[1,2]'"),
        (Double(), "0.0", "'-0.0'"),
        (ARRAY(Numeric), "'{1.0}'", "'{1.00}'"),
        (pg.NUMRANGE(), "'[1.0, 2]'", "'[1.00, 2]'"),
        (pg.JSONB(), "'1.0'", "'1.00'"),
    ],
    ids=lambda value: (
        type(value).__name__.lower() if not isinstance(value, str) else ""
    ),
)
def test_change_that_equality_overlooks_is_recorded(
    base: type[DeclarativeBase],
    extensions: None,
    create_all: Callable[[], None],
    level: str,
    pg_session: Session,
    type_: Any,
    before: str,
    after: str,
) -> None:
    @track(AfterUpdate, AfterUpdate(AnyChange("value"), label="any"), level=level)
    class Row(base):  # type: ignore[misc, valid-type]
        __tablename__ = "row"
        id: Mapped[int] = mapped_column(primary_key=True)
        value: Mapped[Any] = mapped_column(type_)

    create_all()
    pg_session.execute(text(f"INSERT INTO row VALUES (1, {before})"))
    pg_session.execute(text(f"UPDATE row SET value = {before}"))
    assert pg_session.scalars(Row.events.select()).all() == []
    pg_session.execute(text(f"UPDATE row SET value = {after}"))
    events = pg_session.scalars(Row.events.select()).all()
    assert sorted(event.pgh_label for event in events) == ["any", "update"]
    assert pg_session.scalar(text("SELECT value::text FROM row_event LIMIT 1")) == (
        pg_session.scalar(text("SELECT value::text FROM row"))
    )


# Keys


def test_composite_key_is_mirrored_column_by_column(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    level: str,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    @track(level=level)
    class Seat(base):  # type: ignore[misc, valid-type]
        __tablename__ = "seat"
        row: Mapped[str] = mapped_column("Row", primary_key=True)
        number: Mapped[int] = mapped_column(primary_key=True)
        taken: Mapped[bool] = mapped_column(default=False)

    create_all()
    seat, other = Seat(row="A", number=1), Seat(row="A", number=2)
    pg_session.add_all([seat, other])
    pg_session.flush()
    seat.taken = True
    pg_session.flush()
    pg_session.delete(other)
    pg_session.commit()
    assert "pgh_obj_id" not in Seat.events.table.c
    assert sorted(recorded(Seat, "row", "number", "taken")) == [
        ("delete", "D", "A", 2, False, None),
        ("snapshot", "I", "A", 1, False, None),
        ("snapshot", "I", "A", 2, False, None),
        ("snapshot", "U", "A", 1, True, None),
    ]
    events = pg_session.scalars(seat.events.select()).all()
    assert [event.taken for event in events] == [False, True]
    assert {event.pgh_obj for event in events} == {seat}


@pytest.mark.parametrize(
    ("type_", "key"),
    [
        (String(10), "it's 50%"),
        (Uuid(), uuid.UUID(int=7)),
        (Uuid(as_uuid=False), str(uuid.UUID(int=7))),
        (Enum(Colour, name="colour"), Colour.DARK_BLUE),
        (Loud(), "ssh"),
        (DateTime(True), NOON),
    ],
    ids=["string", "uuid", "uuid_text", "enum", "decorated", "timestamptz"],
)
def test_object_id_has_the_type_of_the_key(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    type_: Any,
    key: Any,
) -> None:
    @track()
    class Row(base):  # type: ignore[misc, valid-type]
        __tablename__ = "row"
        id: Mapped[Any] = mapped_column(type_, primary_key=True)

    create_all()
    row = Row(id=key)
    pg_session.add(row)
    pg_session.commit()
    (event,) = pg_session.scalars(row.events.select())
    assert (event.pgh_obj_id, event.id, event.pgh_obj) == (key, key, row)
    declared = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
    types = pg_session.scalars(
        text(
            f"{declared} WHERE attname IN ('id', 'pgh_obj_id') AND attnum > 0"
            " AND attrelid IN ('row'::regclass, 'row_event'::regclass)"
        )
    ).all()
    assert len(types) == 3
    assert len(set(types)) == 1


def test_columns_are_known_by_their_attribute_and_stored_by_their_name(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    level: str,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    @track(
        Snapshot(exclude=["note"]),
        AfterUpdate(new.balance < old.balance, label="less", columns=["balance"]),
        level=level,
    )
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        number: Mapped[int] = mapped_column("id", primary_key=True)
        balance: Mapped[int] = mapped_column("Balance in EUR")
        note: Mapped[str | None] = mapped_column("balance", key="remark")

    create_all()
    account = Account(number=1, balance=5, note="five")
    pg_session.add(account)
    pg_session.flush()
    account.note = "four"
    pg_session.flush()
    account.balance = 4
    pg_session.commit()
    assert recorded(Account, "number", "balance", "note") == [
        ("snapshot", "I", 1, 5, None, None),
        ("snapshot", "U", 1, 4, None, None),
        ("less", "U", 1, 4, None, None),
    ]
    assert {"id", "Balance in EUR", "balance"} <= set(
        pg_session.execute(text("SELECT * FROM account_event")).keys()
    )


def test_a_column_that_its_class_does_not_map_is_known_by_its_key(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    recorded: Recorded,
) -> None:
    """Who does not use the ORM may write it."""
    table = Table(
        "account",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("balance", Integer),
        Column("legacy code", Text, key="code"),
    )

    @track(Snapshot, AfterUpdate(new.code == "x", label="x"))
    class Account(base):  # type: ignore[misc, valid-type]
        __table__ = table
        __mapper_args__ = {"exclude_properties": ["code"]}

    create_all()
    pg_session.add(Account(id=1, balance=5))
    pg_session.flush()
    pg_session.execute(text("UPDATE account SET \"legacy code\" = 'x'"))
    pg_session.commit()
    assert not hasattr(Account, "code")
    assert recorded(Account, "id", "balance", "code") == [
        ("snapshot", "I", 1, 5, None, None),
        ("snapshot", "U", 1, 5, "x", None),
        ("x", "U", 1, 5, "x", None),
    ]


# Types that have something to them


def test_enum_in_a_schema_is_shared_by_the_event_table(
    base: type[DeclarativeBase],
    level: str,
    pg_engine: Engine,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    @track(
        Snapshot,
        AfterUpdate(new.colour == Colour.DARK_BLUE, label="blue"),
        AfterUpdate(new.colour.in_([Colour.RED]), label="red"),
        level=level,
    )
    class Car(base):  # type: ignore[misc, valid-type]
        __tablename__ = "car"
        id: Mapped[int] = mapped_column(primary_key=True)
        colour: Mapped[Colour] = mapped_column(
            Enum(Colour, name="colour", schema="types")
        )

    with pg_engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA types"))
        base.metadata.create_all(connection)
    car = Car(id=1, colour=Colour.RED)
    pg_session.add(car)
    pg_session.flush()
    car.colour = Colour.DARK_BLUE
    pg_session.commit()
    assert recorded(Car, "colour") == [
        ("snapshot", "I", Colour.RED, None),
        ("snapshot", "U", Colour.DARK_BLUE, None),
        ("blue", "U", Colour.DARK_BLUE, None),
    ]
    types = text("SELECT count(*) FROM pg_type WHERE typname = 'colour'")
    assert pg_session.scalar(types) == 1
    pg_session.close()
    base.metadata.drop_all(pg_engine)
    assert pg_session.scalar(types) == 0


@pytest.mark.parametrize(
    "condition",
    [
        new.amount >= Decimal("9.99"),
        new.amount > old.amount + Decimal("1"),
        new.amount.between(Decimal("9"), Decimal("10")),
        new.amount.in_([Decimal("9.99")]),
        (new.name == "hey") & AnyChange("name"),
        new.name.in_(["hey", "ho"]),
        lambda old, new: (old.name != new.name) & (new.name == "hey"),
    ],
    ids=["compare", "old", "between", "in", "text", "text_in", "function"],
)
def test_condition_converts_its_values_as_the_type_does(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    level: str,
    pg_session: Session,
    recorded: Recorded,
    condition: Any,
) -> None:
    @track(AfterUpdate(condition, label="met"), level=level)
    class Price(base):  # type: ignore[misc, valid-type]
        __tablename__ = "price"
        id: Mapped[int] = mapped_column(primary_key=True)
        amount: Mapped[Decimal] = mapped_column(Cents)
        name: Mapped[str] = mapped_column(Loud)

    create_all()
    price = Price(id=1, amount=Decimal("5"), name="pssst")
    pg_session.add(price)
    pg_session.flush()
    price.amount = Decimal("5.01")
    pg_session.flush()
    price.amount, price.name = Decimal("9.99"), "hey"
    pg_session.commit()
    assert recorded(Price, "amount", "name") == [
        ("met", "U", Decimal("9.99"), "hey", None)
    ]


@pytest.mark.parametrize(
    "condition",
    [
        new.flag.is_(True),
        new.flag,
        new.day > day(1),
        new.at == NOON,
        new.code == uuid.UUID(int=2),
        new.blob == b"\x00'\\",
        new.data["state"].astext == "it's \\ 100%",
        new.data["state"].astext.like("it's%100\\%"),
        new.tags.overlap(["b", "it's"]),
        new.tags[1] == "b",
        new.amount == Decimal("1.10"),
        new.span.contains(5),
        text("NEW.data ->> 'state' LIKE '%\\:%' OR NEW.data::text LIKE '%100\\%%'"),
        text("NEW.amount * 10 = 11 AND NEW.day > '2020-01-01'::date"),
    ],
    ids=str,
)
def test_condition_has_literals_of_every_type(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    level: str,
    pg_session: Session,
    recorded: Recorded,
    condition: Any,
) -> None:
    @track(AfterUpdate(condition, label="met"), level=level)
    class Row(base):  # type: ignore[misc, valid-type]
        __tablename__ = "row"
        id: Mapped[int] = mapped_column(primary_key=True)
        flag: Mapped[bool]
        day: Mapped[datetime.date]
        at: Mapped[datetime.datetime] = mapped_column(DateTime(True))
        code: Mapped[uuid.UUID]
        blob: Mapped[bytes]
        data: Mapped[Any] = mapped_column(pg.JSONB)
        tags: Mapped[list[str]] = mapped_column(pg.ARRAY(Text))
        amount: Mapped[Decimal] = mapped_column(Numeric(6, 2))
        span: Mapped[Range[int]] = mapped_column(pg.INT4RANGE)

    create_all()
    values = {
        "flag": (False, True),
        "day": (day(1), day(2)),
        "at": (NOON.replace(year=2000), NOON),
        "code": (uuid.UUID(int=1), uuid.UUID(int=2)),
        "blob": (b"", b"\x00'\\"),
        "data": ({}, {"state": "it's \\ 100%"}),
        "tags": (["a"], ["b"]),
        "amount": (Decimal("1"), Decimal("1.1")),
        "span": (Range(1, 2), Range(1, 9)),
    }
    row = Row(id=1, **{name: before for name, (before, _) in values.items()})
    pg_session.add_all([row, Row(id=2, **{n: a for n, (_, a) in values.items()})])
    pg_session.flush()
    pg_session.execute(update(Row).values(id=Row.id + 10))
    for name, (_, after) in values.items():
        pg_session.execute(update(Row).where(Row.id == 11).values({name: after}))
    pg_session.commit()
    keys = [event[2] for event in recorded(Row, "id")]
    assert keys[:2] == [12, 11]
    assert set(keys[1:]) == {11}


def test_generated_column_is_stored_where_it_is_stored_in_the_row(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    level: str,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    @track(
        Snapshot,
        AfterUpdate(AnyChange("area"), label="area"),
        AfterUpdate(new.area > 100, label="large"),
        level=level,
    )
    class Field(base):  # type: ignore[misc, valid-type]
        __tablename__ = "field"
        id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
        serial: Mapped[int] = mapped_column(Identity(start=100))
        width: Mapped[int]
        height: Mapped[int]
        area: Mapped[int] = mapped_column(Computed("width * height", persisted=True))

    create_all()
    pg_session.add_all([Field(width=2, height=3), Field(width=1, height=1)])
    pg_session.flush()
    pg_session.execute(update(Field).values(width=Field.height, height=Field.width))
    pg_session.execute(update(Field).where(Field.id == 1).values(width=60))
    pg_session.commit()
    assert recorded(Field, "id", "serial", "width", "height", "area") == [
        ("snapshot", "I", 1, 100, 2, 3, 6, None),
        ("snapshot", "I", 2, 101, 1, 1, 1, None),
        ("snapshot", "U", 1, 100, 3, 2, 6, None),
        ("snapshot", "U", 1, 100, 60, 2, 120, None),
        ("area", "U", 1, 100, 60, 2, 120, None),
        ("large", "U", 1, 100, 60, 2, 120, None),
    ]
    generated = text(
        "SELECT count(*) FROM pg_attribute WHERE attrelid = 'field_event'::regclass"
        " AND (attidentity <> '' OR attgenerated <> '')"
    )
    assert pg_session.scalar(generated) == 0


def test_generated_column_that_is_not_stored_is_left_out(
    base: type[DeclarativeBase],
) -> None:
    @track()
    class Field(base):  # type: ignore[misc, valid-type]
        __tablename__ = "field"
        id: Mapped[int] = mapped_column(primary_key=True)
        twice: Mapped[int] = mapped_column(Computed("id * 2", persisted=False))

    assert "twice" not in Field.events.table.c
    with pytest.raises(history.exc.DefinitionError, match="'twice'"):
        track(AfterUpdate(new.twice > 1), events="others", event_table="o")(Field)


def test_columns_of_the_event_table_have_no_constraint_and_no_default(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @track()
    class Row(base):  # type: ignore[misc, valid-type]
        __tablename__ = "row"
        id: Mapped[int] = mapped_column(primary_key=True)
        code: Mapped[str] = mapped_column(unique=True, index=True)
        number: Mapped[int] = mapped_column(server_default="5", nullable=False)
        flag: Mapped[bool] = mapped_column(Boolean(create_constraint=True, name="ok"))
        colour: Mapped[Colour] = mapped_column(
            Enum(Colour, native_enum=False, create_constraint=True, name="shade")
        )

    create_all()
    found = pg_session.execute(
        text(
            "SELECT attname, attnotnull, atthasdef FROM pg_attribute"
            " WHERE attrelid = 'row_event'::regclass AND attnum > 0"
            " AND attname NOT LIKE 'pgh%' ORDER BY attnum"
        )
    )
    assert found.all() == [
        ("id", True, False),
        ("code", False, False),
        ("number", False, False),
        ("flag", False, False),
        ("colour", False, False),
    ]
    checks = text(
        "SELECT count(*) FROM pg_constraint WHERE contype IN ('c', 'f', 'u')"
        " AND conrelid = 'row_event'::regclass"
    )
    assert pg_session.scalar(checks) == 0
    indexes = text("SELECT indexname FROM pg_indexes WHERE tablename = 'row_event'")
    assert sorted(pg_session.scalars(indexes)) == [
        "ix_row_event_pgh_context_id",
        "ix_row_event_pgh_obj_id",
        "ix_row_event_pgh_old_key",
        "ix_row_event_pgh_xact_id",
        "row_event_pkey",
    ]


class Shape(UserDefinedType[str]):
    """A type that makes rules for its column, as GeoAlchemy2's Geometry does."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "POLYGON"


class Marked(Shape, SchemaType):
    """The same, by the interface of types that have DDL of their own."""

    cache_ok = True

    def _set_table(self, column: Any, table: Table) -> None:
        super()._set_table(column, table)
        give_rules(column, table)


def give_rules(column: Column[Any], table: Table) -> None:
    """Give a column NOT NULL, an index, a check and a comment."""
    column.nullable = False
    Index(f"shape_{table.name}_{column.name}", column, postgresql_using="gist")
    table.append_constraint(CheckConstraint(f"npoints({column.name}) > 2"))
    comment = DDL(f"COMMENT ON COLUMN %(table)s.{column.name} IS 'a shape'")
    event.listen(table, "after_create", comment)


@pytest.fixture
def shapes_have_rules() -> Iterator[None]:
    """Give each column of the type its rules when it gets into a table."""

    def on_attach(column: Column[Any], table: Any) -> None:
        if type(column.type) is Shape and isinstance(table, Table):
            give_rules(column, table)

    event.listen(Column, "after_parent_attach", on_attach)
    yield
    event.remove(Column, "after_parent_attach", on_attach)


def rules_of(table: Table) -> tuple[list[str], list[str]]:
    """Return the checks of a table, and the indexes that its columns brought along."""
    checks = [c for c in table.constraints if isinstance(c, CheckConstraint)]
    indexes = [str(i.name) for i in table.indexes if str(i.name).startswith("shape")]
    return sorted(str(check.sqltext) for check in checks), sorted(indexes)


@pytest.mark.parametrize("type_", [Shape, Marked])
@pytest.mark.usefixtures("shapes_have_rules")
def test_what_a_type_gives_its_column_stays_with_the_tracked_table(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    type_: Any,
) -> None:
    @track(
        Snapshot,
        AfterDelete(columns=["id"]),
        context_columns=[Column("place", type_())],
    )
    class Field(base):  # type: ignore[misc, valid-type]
        __tablename__ = "field"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        shape: Mapped[str] = mapped_column(type_())
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "field"}

    class Meadow(Field):
        __mapper_args__ = {"polymorphic_identity": "meadow"}
        pond: Mapped[str] = mapped_column(type_())

    table, events = Field.__table__, Field.events.table
    assert rules_of(table) == (
        ["npoints(pond) > 2", "npoints(shape) > 2"],
        ["shape_field_pond", "shape_field_shape"],
    )
    assert rules_of(events) == ([], [])
    for name in ("shape", "pond"):
        assert table.c[name].nullable is False
        assert events.c[name].nullable is True
        assert events.c[name].type is table.c[name].type
    assert events.c.place.nullable is True
    create_all()
    square = "((0,0),(0,1),(1,1),(1,0))"
    pg_session.add(Meadow(id=1, shape=square, pond=square))
    pg_session.commit()
    pg_session.delete(pg_session.get_one(Field, 1))
    pg_session.commit()
    recorded = pg_session.scalars(Field.events.select())
    assert [(each.shape, each.pond) for each in recorded] == [
        (square, square),
        (None, None),
    ]


@pytest.mark.usefixtures("shapes_have_rules")
def test_listeners_of_a_column_are_not_listeners_of_its_event_column(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @track()
    class Field(base):  # type: ignore[misc, valid-type]
        __tablename__ = "field"
        id: Mapped[int] = mapped_column(primary_key=True)
        shape: Mapped[str] = mapped_column(Shape())

    create_all()
    comments = text(
        "SELECT c.relname FROM pg_description AS d JOIN pg_class AS c ON c.oid = objoid"
        " WHERE d.description = 'a shape'"
    )
    assert pg_session.scalars(comments).all() == ["field"]


def test_core_table_of_json_needs_no_equality(
    pg_engine: Engine, level: str, recorded: Recorded
) -> None:
    documents = Table("documents", MetaData(), Column("body", JSON))
    track(level=level)(documents)
    documents.metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(insert(documents).values(body={"a": 1}))
        connection.execute(update(documents).values(body={"a": 1}))
        connection.execute(update(documents).values(body={"a": 2}))
        connection.execute(documents.delete())
    assert recorded(documents, "body") == [
        ("snapshot", "I", {"a": 1}, None),
        ("snapshot", "U", {"a": 2}, None),
        ("delete", "D", {"a": 2}, None),
    ]
