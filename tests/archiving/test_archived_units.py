"""The parts of reading an archive that need no database: values, views and bounds."""

from __future__ import annotations

import datetime
import functools
import io
import math
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet
import pytest
from psycopg.types.multirange import Multirange
from psycopg.types.range import Range
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Engine,
    Enum,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    String,
    Table,
    cast,
    func,
    literal,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import DOMAIN, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import CreateTable
from sqlalchemy.types import UserDefinedType

from sa_history import AfterUpdate, track
from sa_history.archiving import aggregate_rows
from sa_history.archiving.carriers import arrow_schema
from sa_history.archiving.duckdb_connection import Cursor, OutOfRange
from sa_history.archiving.duckdb_dialect import DuckDBDialect, duckdb_engine
from sa_history.archiving.known_times import require_known
from sa_history.archiving.live_part import LivePart, gaps
from sa_history.archiving.manifest import (
    EXACT,
    ArchivedColumn,
    ArchivedPart,
    Manifest,
)
from sa_history.archiving.part_files import read_rows, write_rows
from sa_history.archiving.views import ArchivedTable, EventViews, Writer, script
from sa_history.exc import ArchiveError, EventsRemovedError, PastError
from sa_history.query.as_of_rows import PointInTime
from sa_history.sql.readable_json import READABLE_JSON
from sa_history.tracking.registry import trackings_of_table

UTC = datetime.timezone.utc
NUMBERS = ArchivedColumn("number", "numeric(10,2)", "decimal128(10, 2)")
ID = ArchivedColumn("pgh_id", "bigint", "int64")
NOTE = ArchivedColumn("note", "text", "string")


def part(lower: str | None, upper: str | None, **fields: Any) -> ArchivedPart:
    known = {
        "path": f"pgh_part={lower}/events.parquet",
        "columns": (ID,),
        "rows": 1,
        "since": None,
        "until": None,
    }
    return ArchivedPart(
        lower=lower,
        upper=upper,
        first_id=None,
        last_id=None,
        sha256="",
        bytes=1,
        archived_at="",
        **(known | fields),
    )


@pytest.mark.parametrize(
    ("type_", "value", "is_decimal", "expected"),
    [
        (Integer(), 3, False, 3),
        (Integer(), 3, True, Decimal(3)),
        (Boolean(), True, True, True),
        (Float(), 2.0, False, 2),
        (Float(), math.inf, False, "Infinity"),
        (Float(), math.nan, False, "NaN"),
        (Float(), -math.inf, False, "-Infinity"),
        (Numeric(5, 2), Decimal("1.50"), True, Decimal("1.50")),
        (Numeric(5, 2), Decimal("1.50"), False, 1.5),
        (Numeric(), "NaN", True, "NaN"),
        (Numeric(), "-Infinity", True, "-Infinity"),
        (Numeric(), "Infinity", True, "Infinity"),
        (LargeBinary(), b"\x01", False, r"\x01"),
        (Date(), datetime.date(2026, 1, 2), False, "2026-01-02"),
        (Date(), OutOfRange("infinity"), False, "infinity"),
        (
            DateTime(timezone=True),
            datetime.datetime(2026, 1, 2, 3, 4, 5, 100_000, tzinfo=UTC),
            False,
            "2026-01-02T03:04:05.1+00:00",
        ),
        (DateTime(), datetime.datetime(2026, 1, 2), False, "2026-01-02T00:00:00"),
        (JSONB(), '{"a": 1.5}', False, {"a": 1.5}),
        (ARRAY(Integer), "{{1,NULL},{2,3}}", False, [[1, None], [2, 3]]),
        (ARRAY(JSONB), '{"{\\"a\\": 1}"}', False, [{"a": 1}]),
        (ARRAY(Enum("a", "b", name="kind")), "{a,b}", False, ["a", "b"]),
        (DOMAIN("whole", Integer), 4, False, 4),
    ],
)
def test_a_stored_value_is_the_json_that_postgresql_makes_of_it(
    type_: Any, value: Any, is_decimal: bool, expected: Any
) -> None:
    found = aggregate_rows.as_json(type_, value, is_decimal)
    assert repr(found) == repr(expected)


@pytest.mark.parametrize(
    ("stored", "like", "expected"),
    [
        (
            "2026-01-02T00:00:00+00:00",
            *(datetime.datetime(2026, 1, 2, tzinfo=UTC),) * 2,
        ),
        ("2026-01-02", *(datetime.date(2026, 1, 2),) * 2),
        (Decimal("1.50"), Decimal(2), Decimal("1.50")),
        (1, 1.0, 1.0),
        (r"\x01", b"", b"\x01"),
        (Decimal("1.50"), "2", "1.50"),
        ([1, "é"], "[]", '[1, "é"]'),
        ("a", "b", "a"),
        (1, 2, 1),
    ],
)
def test_a_part_of_an_old_key_is_made_what_its_column_stores(
    stored: Any, like: Any, expected: Any
) -> None:
    assert repr(aggregate_rows.as_stored(stored, like)) == repr(expected)


def test_parts_of_keys_are_written_as_literals() -> None:
    values = [1, Decimal("1.5"), True, "it's", b"\x01", datetime.date(2026, 1, 2)]
    assert [aggregate_rows.key_literal(value) for value in values] == [
        "1",
        "1.5",
        "'True'",
        "'it''s'",
        r" E'\\x01'",
        "'2026-01-02'",
    ]


def test_gaps_are_the_events_that_no_part_has() -> None:
    assert list(gaps([])) == [(1, None)]
    assert list(gaps([part(None, "10"), part("20", "30"), part("30", None)])) == [
        (10, 20),
        (30, None),
    ]


class Point(UserDefinedType[Any]):
    """A type without literals."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "point"


class Shape(UserDefinedType[Any]):
    """A type that PostgreSQL is not asked for."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        raise RuntimeError


@pytest.fixture
def engine() -> Engine:
    """DuckDB, with no table."""
    return duckdb_engine(duckdb.connect(), DuckDBDialect(lambda *_: None, None))


def test_a_cursor_gives_rows_one_by_one_or_some_of_them() -> None:
    cursor = Cursor(duckdb.connect())
    cursor.execute("SELECT * FROM range(5)")
    assert cursor.fetchmany() == [(0,)]
    assert cursor.fetchmany(2) == [(1,), (2,)]
    assert cursor.fetchone() == (3,)
    assert cursor.fetchall() == [(4,)]
    assert cursor.fetchone() is None
    cursor.execute("SELECT len(?), ?", [[1, 2], memoryview(b"x")])
    assert cursor.fetchall() == [(2, b"x")]
    cursor.close()


def test_ranges_are_parameters_if_postgresql_has_no_other_text_of_them() -> None:
    cursor = Cursor(duckdb.connect())
    day, noon = datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 1, 12)
    cursor.execute("SELECT ?, ?, ?", [Range(day), Range(empty=True), Range(1, 5)])
    assert cursor.fetchone() == ("[2024-01-01,)", "empty", "[1,5)")
    for other in (Range(noon), Range(1, 5, "[]"), Multirange([Range(1, 5)])):
        with pytest.raises(ArchiveError, match="compare cast"):
            cursor.execute("SELECT ?", [other])


def test_values_are_read_by_the_types_of_statements(engine: Engine) -> None:
    with engine.connect() as connection:
        row = connection.execute(
            select(
                literal('{"a": 1}', String).cast(READABLE_JSON),
                func.coalesce(literal("x", String), type_=Shape()),
                cast(literal("b", String), Enum("b", name="kind")),
                cast(literal("x", String), LargeBinary),
                func.to_jsonb(literal(1, BigInteger)) == literal("1", String),
                cast(literal("y", String), DOMAIN("named", String())),
                func.max(literal(1, BigInteger)).over(),
                cast(literal("1.5", String), Numeric(10, 2)),
                literal("a", String).op("||")(literal("b", String)),
            )
        ).one()
    expected = ({"a": 1}, "x", "b", b"x", True, "y", 1, Decimal("1.50"), "ab")
    assert tuple(row) == expected


def test_patterns_have_the_escapes_of_postgresql(engine: Engine) -> None:
    percent = literal("50%", String)
    with engine.connect() as connection:
        found = connection.execute(
            select(
                percent.like(r"50\%"),
                percent.ilike(r"\_0%"),
                percent.like("50!%", escape="!"),
                percent.ilike("!50%", escape="!"),
                literal("Ab", String).ilike("a%"),
            )
        ).one()
    assert tuple(found) == (True, False, True, True, True)


def test_nothing_is_created_and_no_text_is_executed(engine: Engine) -> None:
    class Base(DeclarativeBase):
        pass

    Table("plain", Base.metadata, Column("id", Integer))
    with engine.connect() as connection:
        with pytest.raises(PastError, match="not written"):
            connection.execute(CreateTable(Base.metadata.tables["plain"]))
        with pytest.raises(PastError, match="text sees no past"):
            connection.exec_driver_sql("SELECT 1")


def test_files_are_named_as_each_reader_finds_them() -> None:
    some = [part("1", "5"), part("5", "9", columns=(ID, NOTE)), part("9", "12")]
    some.append(part("12", "13", columns=(ID, NUMBERS), rows=0))
    manifest = Manifest("public", "x_event", "pgh_id", tuple(some), open=some[0])
    table = ArchivedTable("/a[1]", manifest)
    spark = table.rows(Writer("spark"), table.columns)
    assert "FROM parquet.`/a\\[1\\]/public.x_event/pgh_part=1/events.parquet`" in spark
    assert "CAST(NULL AS STRING) AS `note`" in spark
    assert "CAST(NULL AS DECIMAL(10, 2)) AS `number`" in spark
    both = ArchivedTable("/a", Manifest("public", "x", "pgh_id", (some[0], some[2])))
    assert "/{pgh_part=1,pgh_part=9}/" in both.rows(Writer("spark"), [ID])
    assert "pgh_part=9/" in both.rows(Writer("duckdb"), [ID])
    assert "WHERE FALSE" in ArchivedTable("/a", Manifest("public", "x", "id")).rows(
        Writer("duckdb"), [ID]
    )
    assert len(ArchivedTable("/a", manifest, open=True).parts) == 5
    other = ArchivedColumn("pgh_id", "integer", "int32")
    assert "CAST(`pgh_id` AS INT)" in both.rows(Writer("spark"), [other])


def test_parts_that_begin_after_a_time_are_left_out() -> None:
    first = part("1", "5", since="2026-01-01T00:00:00+00:00")
    later = part("5", "9", since="2026-02-01T00:00:00+00:00")
    manifest = Manifest("public", "x_event", "pgh_id", (first, later, part("9", "10")))
    table = ArchivedTable("/a", manifest)
    until = table.until(datetime.datetime(2026, 1, 15, tzinfo=UTC))
    assert [part.lower for part in until.parts] == ["1", "9"]


def test_the_dialects_write_texts_and_old_keys_their_own_way() -> None:
    spark, duck = Writer("spark"), Writer("duckdb")
    assert spark.text("it's \\") == "'it\\'s \\\\'"
    assert duck.quote('a"b') == '"a""b"'
    raw = ArchivedColumn("raw", "bytea", "binary")
    assert spark.old_key(0, NUMBERS) == (
        "CAST(variant_get(parse_json(`pgh_old_key`), '$[0]', 'string') "
        "AS DECIMAL(10, 2))"
    )
    assert spark.old_key(1, raw).startswith("unhex(substr(get_json_object(")
    assert duck.old_key(1, NOTE) == "json_extract_string(\"pgh_old_key\", '$[1]')"
    assert duck.type("timestamp[us]") == "TIMESTAMP"


def test_views_that_the_events_cannot_answer_are_refused() -> None:
    class Base(DeclarativeBase):
        pass

    @track(AfterUpdate)
    class Loose(Base):
        __tablename__ = "loose"
        id: Mapped[int] = mapped_column(primary_key=True)

    bare = Table("bare", Base.metadata, Column("number", Integer))
    track()(bare)

    def views(table: Any) -> EventViews:
        (tracking,) = trackings_of_table(table)
        columns = [
            ArchivedColumn(c.name, "", "int64") for c in tracking.event_table.columns
        ]
        return EventViews(tracking, tuple(columns), '"events"', Writer("duckdb"))

    with pytest.raises(ArchiveError, match="do not record every INSERT"):
        views(Loose.__table__).rows_as_of("TRUE")
    with pytest.raises(ArchiveError, match="has no primary key"):
        views(bare).with_previous()

    class Swapped(Base):
        __tablename__ = "swapped"
        id: Mapped[int] = mapped_column()
        secret: Mapped[int]
        __table_args__ = (PrimaryKeyConstraint("id", deferrable=True),)

    track(exclude=["secret"])(Swapped)
    with pytest.raises(ArchiveError, match="'swapped' is deferrable"):
        views(Swapped.__table__).rows_as_of("TRUE")
    with pytest.raises(ArchiveError, match=r"history.archived\(...\).diffs"):
        views(Swapped.__table__).with_previous()


def test_a_view_has_null_for_what_is_not_tracked_and_needs_no_contexts() -> None:
    class Base(DeclarativeBase):
        pass

    @track(exclude=["secret"])
    class Account(Base):
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        secret: Mapped[int]

    (tracking,) = trackings_of_table(Account.__table__)
    columns = tuple(
        ArchivedColumn(c.name, "", "int64") for c in tracking.event_table.columns
    )
    manifest = Manifest(
        "public", "account_event", "pgh_id", (part("1", "5", columns=columns),)
    )
    made = script("duckdb", {tracking: ArchivedTable("/a", manifest)}, None)
    assert 'CAST(NULL AS VARCHAR) AS "secret"' in made
    assert "with_context" not in made


def test_criteria_that_cannot_be_written_as_text_are_not_pushed_down() -> None:
    table = Table(
        "t",
        MetaData(),
        Column("id", Integer),
        Column("raw", LargeBinary),
        Column("shape", Point()),
    )
    live: Any = SimpleNamespace(
        connection=SimpleNamespace(get_execution_options=lambda: {})
    )
    as_sql = functools.partial(LivePart.as_sql, live)
    assert as_sql(table.c.id.in_([1, 2])) == "t.id IN (1, 2)"
    assert as_sql(tuple_(table.c.id, table.c.id).in_([(1, 2)])) is not None
    assert as_sql(func.pow(table.c.id, 2) < 9) == "power(t.id, 2) < 9"
    assert as_sql(table.c.raw == b"x") is None
    assert as_sql(table.c.shape == "x") is None
    assert as_sql(func.to_jsonb(table.c.id) == literal(1, JSONB)) is None
    assert as_sql(table.c.id.in_(select(table.c.id))) is None
    live.connection.get_execution_options = lambda: {"schema_translate_map": {}}
    assert as_sql(table.c.id == 1) is None


def test_columns_are_encoded_by_how_many_values_they_have(tmp_path: Path) -> None:
    columns = [
        ArchivedColumn("number", "bigint", "int64"),
        ArchivedColumn("few", "text", "string"),
        ArchivedColumn("many", "text", "string"),
        ArchivedColumn("raw", "bytea", "binary"),
    ]
    rows = 30_000
    values = {
        "number": range(rows),
        "few": [f"value {n % 100}" for n in range(rows)],
        "many": [f"value {n * 7919 % rows}" if n % 9 else None for n in range(rows)],
        "raw": [f"value {n * 7919 % rows}".encode() for n in range(rows)],
        EXACT: [None] * rows,
    }
    schema = arrow_schema(columns)
    arrays = [pa.array(values[field.name], type=field.type) for field in schema]
    table = pa.Table.from_arrays(arrays, schema=schema)
    file = io.BytesIO()
    write_rows(file, columns, table.to_batches(), lambda *_: None)
    group = pyarrow.parquet.ParquetFile(file).metadata.row_group(0)
    number, few, many, raw, _ = (set(group.column(n).encodings) for n in range(5))
    assert "RLE_DICTIONARY" in few
    assert number == {"RLE", "DELTA_BINARY_PACKED"}
    assert many == raw == {"RLE", "DELTA_BYTE_ARRAY"}
    assert pa.Table.from_batches(read_rows(file)).equals(table)
    path = tmp_path / "events.parquet"
    path.write_bytes(file.getvalue())
    read = duckdb.sql(f"SELECT number, few, many, raw FROM '{path}'").fetchall()
    assert read == list(zip(*list(values.values())[:-1], strict=True))


def test_points_in_time_are_known_by_the_parts_and_by_what_was_removed() -> None:
    class Base(DeclarativeBase):
        pass

    @track()
    class Account(Base):
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    (tracking,) = trackings_of_table(Account.__table__)
    start, end = "2026-01-01T00:00:00+00:00", "2026-02-01T00:00:00+00:00"
    parts = (part("1", "10", since=start, until=start), part("10", "20", rows=0))
    other = (
        part("1", "5", until=end),
        part("5", "30", until="2026-03-01T00:00:00+00:00"),
    )

    def known(point: PointInTime, value: str, parts: Any, other: Any = None) -> bool:
        tables: Any = {
            tracking.event_table: as_table(parts),
            "other": as_table(other),
        }
        try:
            require_known(tracking, tables, None, point, value)
        except (ArchiveError, EventsRemovedError):
            return False
        return True

    def as_table(parts: Any) -> Any:
        archived = None if parts is None else SimpleNamespace(parts=parts)
        return SimpleNamespace(parts=parts or (), archived=archived)

    assert known(PointInTime.TIME, start, parts)
    assert not known(PointInTime.TIME, end, parts)
    assert known(PointInTime.TIME, end, parts, other)
    assert not known(PointInTime.TIME, "2026-03-01T00:00:00+00:00", parts, other)
    assert known(PointInTime.EVENT, "19", parts)
    assert not known(PointInTime.EVENT, "20", parts)
    assert known(PointInTime.TRANSACTION, "7", parts)
    assert not known(PointInTime.TRANSACTION, "7", parts[1:])
    assert not known(PointInTime.TIME, start, ())
