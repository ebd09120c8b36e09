"""The tables of the benchmarks: the same columns for everything that is measured."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, DateTime, Float, Integer, Numeric, String, Text

INTEGERS = [f"i{n}" for n in range(1, 14)]
STRINGS = [f"s{n}" for n in range(1, 14)]
FLOATS = [f"f{n}" for n in range(1, 8)]
TIMES = [f"t{n}" for n in range(1, 7)]


def item() -> dict[str, Column[Any]]:
    """Return five columns."""
    return {
        "id": Column(Integer, primary_key=True),
        "int_field": Column(Integer),
        "char_field": Column(String(64)),
        "note": Column(Text),
        "at": Column(DateTime(timezone=True)),
    }


def usual() -> dict[str, Column[Any]]:
    """Return fifteen columns."""
    types = [Integer, String, Text, DateTime, Numeric]
    columns: dict[str, Column[Any]] = {"id": Column(Integer, primary_key=True)}
    columns |= {f"c{n}": Column(types[n % len(types)]) for n in range(14)}
    return columns


def wide() -> dict[str, Column[Any]]:
    """Return forty columns."""
    columns: dict[str, Column[Any]] = {"id": Column(Integer, primary_key=True)}
    columns |= {name: Column(Integer) for name in INTEGERS}
    columns |= {name: Column(String(64)) for name in STRINGS}
    columns |= {name: Column(Float) for name in FLOATS}
    columns |= {name: Column(DateTime(timezone=True)) for name in TIMES}
    return columns


def insert_items(table: str, rows: int) -> str:
    """Return the statement that fills a table of five columns."""
    return (
        f"INSERT INTO {table} (int_field, char_field, note, at)"
        " SELECT mod(n, 100), 'hello ' || n, 'some text of a note', now()"
        f" FROM generate_series(1, {rows}) AS n"
    )


def insert_wide(rows: int) -> str:
    """Return the statement that fills the table of forty columns."""
    values = dict.fromkeys(INTEGERS, "n")
    values |= dict.fromkeys(STRINGS, "'some text, number ' || n")
    values |= dict.fromkeys(FLOATS, "n / 7.0")
    values |= dict.fromkeys(TIMES, "now()")
    return (
        f"INSERT INTO wide ({', '.join(values)}) SELECT {', '.join(values.values())}"
        f" FROM generate_series(1, {rows}) AS n"
    )
