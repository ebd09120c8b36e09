"""What is archived and restored is what it was, to the last bit, whatever its type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, insert, text
from sqlalchemy.orm import DeclarativeBase, mapped_column
from sqlalchemy.types import UserDefinedType

import sa_history as history
from sa_history import Snapshot, track
from tests.archiving.conftest import LATER
from tests.db.test_types import VALUES

_INSTANTS = [
    "infinity",
    "-infinity",
    "0044-03-15 BC",
    "0001-01-01",
    "9999-12-31",
    "10000-01-01",
]
_FLOATS = ["NaN", "Infinity", "-Infinity", "-0.0", "0", "0.1", "-1.5e-7", "3e37"]

ODD: dict[str, tuple[str, list[str]]] = {
    "free": (
        "numeric",
        [
            *("NaN", "Infinity", "-Infinity", "1e-30", "1.0", "1.00"),
            "123456789012345678901234567890.1234567890123456789",
        ],
    ),
    "amount": ("numeric(12,2)", ["NaN", "-0.01", "9999999999.99", "0"]),
    "widest": (
        "numeric(38,10)",
        ["NaN", "9999999999999999999999999999.9999999999", "-0.0000000001"],
    ),
    "too_wide": ("numeric(39,1)", ["99999999999999999999999999999999999999.9"]),
    "real": ("real", [*_FLOATS, "1e-45"]),
    "double": ("double precision", [*_FLOATS, "5e-324", "0.30000000000000004"]),
    "smallest": ("bigint", ["-9223372036854775808", "9223372036854775807"]),
    "instant": (
        "timestamptz",
        [*_INSTANTS, "294276-12-31 23:59:59.999999+00", "2026-03-29 01:30:00.1+13"],
    ),
    "local": ("timestamp", [*_INSTANTS, "9999-12-31 23:59:59.999999"]),
    "day": ("date", [*_INSTANTS, "5874897-12-31"]),
    "hour": ("time", ["24:00", "00:00:00.000001"]),
    "zoned": ("timetz", ["24:00+05:30", "00:00-15:59"]),
    "span": (
        "interval",
        ["1 year 2 mons -3 days 04:05:06.789", "-1 mon +2 days -00:00:01", "0"],
    ),
    "ints": ("int[]", ["{{1,2},{3,4}}", "[0:1]={5,6}", "{NULL,1}", "{}"]),
    "texts": ("text[]", ['{"",NULL,"a,b","\\"q\\"","NULL"}']),
    "number": ("jsonb", ["12345678901234567890.123", '"\\u00e9"', "null"]),
    "document": ("json", ['{"a": 1.50, "a":2}', " [1 ,2]"]),
    "during": ("tstzrange", ["[-infinity,infinity]", "empty", "(,2026-01-01]"]),
    "many": ("nummultirange", ["{[1.0,2.00),[3,)}", "{}"]),
    "address": ("inet", ["10.0.0.1", "10.0.0.1/8", "::ffff:1.2.3.4"]),
    "mac": ("macaddr8", ["08:00:2b:01:02:03:04:05"]),
    "bits": ("varbit", ["", "1011"]),
    "words": ("tsvector", ["'a':1A 'b c':2"]),
    "spot": ("point", ["(0.1,1e-300)", "(NaN,Infinity)"]),
    "price": ("money", ["-1.23"]),
    "letter": ('"char"', ["", "x"]),
    "ident": ("name", ["a b"]),
    "padded": ("char(5)", ["ab", "  a", ""]),
    "short": ("varchar(5)", ["ab  ", ""]),
    "prose": (
        "text",
        ["", "NULL", "\\N", "\\.", "\"q\", 'a'", " \r\n\té\u2028🙂", ","],
    ),
    "raw": ("bytea", ["", "\\x00ff", "\\x5c78"]),
    "relation": ("regclass", ["pg_class", "account.row"]),
    "snapshot": ("pg_snapshot", ["10:20:10,14"]),
    "mood": ("account.mood", ["it's", "b c"]),
    "code": ("account.code", ["ab"]),
    "pair": ("account.pair", ['(1,"a,b")', "(,)"]),
}
"""A type, and values of it that this or that writer of files gets wrong."""


def typed(name: str) -> UserDefinedType[Any]:
    class Typed(UserDefinedType[Any]):
        cache_ok = True

        def get_col_spec(self, **_: Any) -> str:
            return name

    return Typed()


@pytest.fixture
def written(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_engine: Engine
) -> list[str]:
    """Events of all types and values in a closed partition, as texts."""
    columns = {
        **{name: Column(type_) for name, (type_, *_) in VALUES.items()},
        **{f"odd {name}": Column(typed(type_)) for name, (type_, _) in ODD.items()},
    }
    body = {
        "__tablename__": "row",
        "__table_args__": {"schema": "account"},
        "id": mapped_column(Integer, primary_key=True),
    }
    row = track(Snapshot, partition_by=10, context="inline")(
        type("Row", (base,), {**body, **columns})
    )
    with pg_engine.begin() as connection:
        for statement in (
            "CREATE SCHEMA account",
            "CREATE TYPE account.mood AS ENUM ('it''s', 'b c')",
            "CREATE DOMAIN account.code AS char(3)",
            "CREATE TYPE account.pair AS (a int, b text)",
            "CREATE EXTENSION citext",
            "CREATE EXTENSION hstore",
        ):
            connection.execute(text(statement))
    create_all()
    with pg_engine.begin() as connection:
        for number, position in enumerate((1, 2)):
            values = {name: value[position] for name, value in VALUES.items()}
            connection.execute(insert(row), {"id": number, **values})
        most = max(len(values) for _, values in ODD.values())
        for number in range(most):
            given = {
                f"odd {name}": (f"CAST(:v{i} AS {type_})", values[number])
                for i, (name, (type_, values)) in enumerate(ODD.items())
                if number < len(values)
            }
            names = ", ".join(f'"{name}"' for name in given)
            casts = ", ".join(cast for cast, _ in given.values())
            connection.execute(
                text(
                    f"INSERT INTO account.row (id, {names}) VALUES (9{number}, {casts})"
                ),
                {cast.split()[0][6:]: value for cast, value in given.values()},
            )
    history.partitions(pg_engine, base)
    with pg_engine.begin() as connection:
        connection.execute(insert(row), [{"id": 1000 + n} for n in range(20)])
    history.partitions(pg_engine, base)
    return _texts(pg_engine)


def _texts(engine: Engine) -> list[str]:
    query = "SELECT t::text FROM account.row_event AS t ORDER BY pgh_id"
    with engine.connect() as connection:
        return list(connection.scalars(text(query)))


@pytest.mark.contrib
def test_all_types_and_values_come_back_as_they_were(
    written: list[str], pg_engine: Engine, base: Any, folder: Any
) -> None:
    (report,) = history.archive(pg_engine, base, to=folder, drop=True, now=LATER)
    (part, *_) = report.archived
    assert part.rows > 10
    carriers = {c.name: c.carrier for c in part.columns}
    native = {n for n, carrier in carriers.items() if carrier != "string"}
    assert {name[4:] for name in native if name.startswith("odd ")} == {
        *("amount", "widest", "real", "double", "smallest", "instant", "local", "day"),
        "raw",
    }
    assert carriers["odd widest"] == "decimal128(38, 10)"
    assert len(_texts(pg_engine)) < len(written)
    history.restore(pg_engine, folder, base)
    assert _texts(pg_engine) == written
