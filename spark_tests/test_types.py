"""How Spark sees the types of columns, and values that its types cannot hold."""

from __future__ import annotations

import datetime
import json
import uuid
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import DeclarativeBase

import sa_history as history
import sa_history.spark as history_spark
from sa_history import track

UTC = datetime.timezone.utc

# The type of a column, what Spark calls it, a value as PostgreSQL reads it, and the
# value that Spark has.
TYPES: dict[str, tuple[Any, str, str, Any]] = {
    "small": (sa.SmallInteger, "smallint", "-32768", -32768),
    "whole": (sa.Integer, "int", "2147483647", 2147483647),
    "large": (sa.BigInteger, "bigint", "-9223372036854775808", -(2**63)),
    "truth": (sa.Boolean, "boolean", "true", True),
    "single": (sa.REAL, "float", "1.5", 1.5),
    "double_": (sa.Double, "double", "0.1", 0.1),
    "text_": (sa.Text, "string", "ä'\\ €", "ä'\\ €"),
    "short": (sa.String(5), "string", "abc", "abc"),
    "padded": (sa.CHAR(3), "string", "a", "a  "),
    "bytes_": (sa.LargeBinary, "binary", "\\x00ff", b"\x00\xff"),
    "day": (sa.Date, "date", "0001-01-01", datetime.date(1, 1, 1)),
    "local": (
        sa.DateTime,
        "timestamp_ntz",
        "1582-10-10 12:00:00.000001",
        datetime.datetime(1582, 10, 10, 12, 0, 0, 1),
    ),
    "instant": (
        sa.DateTime(timezone=True),
        "timestamp",
        "9999-12-31 23:59:59.999999+00",
        datetime.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ),
    "price": (sa.Numeric(10, 2), "decimal(10,2)", "-0.10", Decimal("-0.10")),
    "wide": (sa.Numeric(38, 0), "decimal(38,0)", "9" * 38, Decimal("9" * 38)),
    "any_number": (sa.Numeric, "string", "0.1000", "0.1000"),
    "json_": (postgresql.JSONB, "string", '{"a": 1.50}', '{"a": 1.50}'),
    "id_": (sa.Uuid, "string", str(uuid.UUID(int=1)), str(uuid.UUID(int=1))),
    "span": (sa.Interval, "string", "-1 mons +2 days", "-1 mons +2 days"),
    "clock": (sa.Time, "string", "24:00:00", "24:00:00"),
    "numbers": (sa.ARRAY(sa.Integer), "string", "{{1,2},{3,4}}", "{{1,2},{3,4}}"),
    "range_": (postgresql.INT4RANGE, "string", "[1,3)", "[1,3)"),
    "address": (postgresql.INET, "string", "192.0.2.1", "192.0.2.1"),
    "choice": (sa.Enum("a", "b", name="choice"), "string", "b", "b"),
}

ODD = {
    "day": "infinity",
    "local": "0044-03-15 00:00:00 BC",
    "instant": "294276-12-31 00:00:00+00",
    "price": "NaN",
}
"""Values that the types of Spark do not have."""


@pytest.fixture
def archived(base: type[DeclarativeBase], engine: Engine, folder: str) -> Any:
    """A table that is archived with a column of each type, and two rows."""

    class Thing(base):  # type: ignore[misc, valid-type]
        __tablename__ = "thing"
        id = sa.Column(sa.Integer, primary_key=True)

    for name, (type_, _, _, _) in TYPES.items():
        setattr(Thing, name, sa.Column(name, type_))
    track(partition_by=2)(Thing)
    base.metadata.create_all(engine)
    values = {name: value for name, (_, _, value, _) in TYPES.items()}
    with engine.begin() as connection:
        for number, row in enumerate((values, ODD), start=1):
            names = ", ".join(f'"{name}"' for name in row)
            # PostgreSQL reads a literal as what the column has.
            literals = ", ".join(f"$${value}$$" for value in row.values())
            connection.exec_driver_sql(
                f"INSERT INTO thing (id, {names}) VALUES ({number}, {literals})"
            )
    for _ in range(2):
        history.partitions(engine, base)
    history.archive(engine, base, to=folder, open=True)
    return Thing


def test_each_type_has_its_place_in_spark(
    spark: Any, archived: Any, folder: str
) -> None:
    frame = history_spark.events(spark, folder, archived).where("id = 1")
    known = dict(frame.dtypes)
    assert {name: known[name] for name in TYPES} == {
        name: type_ for name, (_, type_, _, _) in TYPES.items()
    }
    (row,) = frame.toArrow().to_pylist()
    assert {name: row[name] for name in TYPES} == {
        name: value for name, (_, _, _, value) in TYPES.items()
    }
    assert row["pgh_exact"] is None


def test_what_spark_has_no_value_for_stands_as_text_beside_it(
    spark: Any, archived: Any, folder: str
) -> None:
    frame = history_spark.events(spark, folder, archived).where("id = 2")
    (row,) = frame.toArrow().to_pylist()
    assert json.loads(row["pgh_exact"]) == ODD
    assert [row[name] for name in ODD] == [None] * len(ODD)
    (found,) = frame.selectExpr("get_json_object(pgh_exact, '$.price')").collect()
    assert found[0] == "NaN"


def test_an_instant_is_the_same_one_in_each_zone_of_the_session(
    spark: Any, archived: Any, folder: str
) -> None:
    zone = spark.conf.get("spark.sql.session.timeZone")
    frame = history_spark.events(spark, folder, archived).where("id = 1")
    try:
        for other in ("America/New_York", "Asia/Kolkata"):
            spark.conf.set("spark.sql.session.timeZone", other)
            (row,) = frame.selectExpr("unix_micros(pgh_created_at)").collect()
            (text,) = frame.selectExpr("CAST(local AS STRING)").collect()
            assert text[0] == "1582-10-10 12:00:00.000001"
            spark.conf.set("spark.sql.session.timeZone", "UTC")
            assert frame.selectExpr("unix_micros(pgh_created_at)").collect() == [row]
    finally:
        spark.conf.set("spark.sql.session.timeZone", zone)
