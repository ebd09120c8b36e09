"""An expression means in an archive what it means in PostgreSQL, or it is refused.

DuckDB takes most of PostgreSQL's SQL, and means something else by some of it.
"""

from __future__ import annotations

import datetime
import enum
import math
import operator
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    CHAR,
    VARCHAR,
    DateTime,
    Engine,
    Float,
    Integer,
    Numeric,
    String,
    any_,
    case,
    cast,
    distinct,
    extract,
    func,
    literal,
    select,
    text,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import sa_history as history
from sa_history import track
from sa_history.exc import ArchiveError

UTC = datetime.timezone.utc


class Color(enum.Enum):
    """An enum whose order is not that of its texts."""

    red = 1
    blue = 2


@pytest.fixture
def rows(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    archive: Any,
    pg_engine: Engine,
) -> Any:
    """The columns of a table with odd rows, of which one part is archived."""

    @track(partition_by=3)
    class Row(base):  # type: ignore[misc, valid-type]
        __tablename__ = "row"
        id: Mapped[int] = mapped_column(primary_key=True)
        i: Mapped[int | None]
        j: Mapped[int | None]
        n: Mapped[Decimal | None] = mapped_column(Numeric(12, 4))
        f: Mapped[float | None]
        s: Mapped[str | None]
        b: Mapped[bool | None]
        d: Mapped[datetime.date | None]
        at: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))
        t: Mapped[datetime.datetime | None]
        iv: Mapped[datetime.timedelta | None]
        e: Mapped[Color | None]
        js: Mapped[Any] = mapped_column(JSONB, nullable=True)
        a: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))
        w: Mapped[list[str] | None] = mapped_column(ARRAY(String))
        u: Mapped[uuid.UUID | None]
        by: Mapped[bytes | None]

    create_all()
    values: list[dict[str, Any]] = [
        {
            **{"i": 7, "j": 2, "n": Decimal("2.5"), "f": 2.5, "s": "abc", "b": True},
            "d": datetime.date(2020, 2, 29),
            "at": datetime.datetime(2020, 3, 29, 23, 30, 1, 500_000, tzinfo=UTC),
            "t": datetime.datetime(2021, 1, 1, 1, 2, 3, 456_789),
            "iv": datetime.timedelta(days=1, hours=7),
            **{"e": Color.red, "js": {"a": 1, "b": {"c": "x"}}, "a": [1, 2]},
            **{"w": ["x", "y z"], "u": uuid.UUID(int=5), "by": b"\x00a"},
        },
        {
            **{
                "i": -7,
                "j": 2,
                "n": Decimal("-2.5"),
                "f": -0.5,
                "s": "B a",
                "b": False,
            },
            "d": datetime.date(1999, 12, 31),
            "at": datetime.datetime(2022, 7, 1, tzinfo=UTC),
            "t": datetime.datetime(1970, 1, 1),
            "iv": datetime.timedelta(hours=-5),
            **{"e": Color.blue, "js": {"a": "1", "l": [1, 2], "n": 1.5}, "a": []},
            **{"w": [], "u": uuid.UUID(int=10**30), "by": b""},
        },
        {"i": 0, "j": -3, "n": Decimal("3.5"), "f": 0.1, "s": " a%b\\", "a": [3, None]},
        {"w": ["a,b", 'q"']},
        {"i": 5, "j": 5, "n": Decimal("0.0001"), "f": 1e20, "s": "", "b": True},
    ]
    with pg_engine.begin() as connection:
        for number, one in enumerate(values, 1):
            connection.execute(Row.__table__.insert().values(id=number, **one))
    history.partitions(pg_engine, base)
    with pg_engine.begin() as connection:
        connection.execute(Row.__table__.insert().values(id=6, i=2, s="b", a=[2]))
    history.partitions(pg_engine, base)
    assert archive()["row_event"].archived
    return Row.__table__.c


def expressions(c: Any) -> dict[str, Any]:
    """Return what is computed of each row."""
    return {
        "whole numbers": c.i // c.j,
        "divided by an operator": c.i.op("/")(c.j),
        "divided": c.i / c.j,
        "rest": c.i % c.j,
        "numerics divided": c.n / 3,
        "rounded half of a float": func.round(c.f),
        "rounded half of a numeric": func.round(c.n),
        "rounded to a digit": func.round(c.n, 1),
        "a float made whole": cast(func.least(c.f, 99.5), Integer),
        "a numeric made whole": cast(c.n, Integer),
        "a part from a negative place": func.substr(c.s, -1, 3),
        "a part from a place": func.substring(c.s, 2),
        "the last part": func.split_part(c.s, " ", -1),
        "cut off": func.left(c.s, -1),
        "texts and others": func.concat(c.s, c.i, c.b),
        "texts with between": func.concat_ws("-", c.s, c.b, c.i),
        "fixed text": cast(c.s, CHAR(2)),
        "short text": cast(c.s, VARCHAR(2)),
        "boolean text": cast(c.b, String),
        "float text": cast(c.f, String),
        "numeric text": cast(c.n, String),
        "bytes text": cast(c.by, String),
        "part of a time with digits": extract("second", c.t),
        "thousandths": extract("milliseconds", c.t),
        "part of a time": extract("dow", c.d),
        "part by name with digits": func.date_part("second", c.t),
        "thousandths by name": func.date_part("milliseconds", c.t),
        "part by name": func.date_part("month", c.at),
        "the month of a date": func.date_trunc("month", c.d),
        "the hour of a time": func.date_trunc("hour", c.at),
        "between times": c.at - datetime.datetime(2020, 1, 1, tzinfo=UTC),
        "age": func.age(c.at, datetime.datetime(2020, 1, 1, tzinfo=UTC)),
        "age to come": func.age(datetime.datetime(2001, 2, 3, tzinfo=UTC), c.at),
        "between dates": c.d - datetime.date(2020, 1, 1),
        "first item": c.a[1],
        "first word": c.w[1],
        "among words": literal("y z") == any_(c.w),
        "not among words": ~(literal("x") == any_(c.w)),
        "among numbers": literal(2) == any_(c.a),
        "greatest": func.greatest(c.i, c.j),
        "pattern": c.s.like("%\\%%"),
        "regular expression": c.s.regexp_match("b"),
        "anchored expression": c.s.regexp_match("^a.c$"),
        "path of JSON": c.js["b"]["c"].astext,
        "number of JSON": c.js["a"].as_integer(),
        "pair": tuple_(c.id, c.id) < tuple_(2, 3),
        **{f"rows: {n}": each for n, each in enumerate(comparisons_of_rows(c))},
        "by cases": case((c.i > 0, "p"), (c.i < 0, "m"), else_=None),
        "equal enums": c.e == Color.red,
        "less among keys": c.u < uuid.UUID(int=6),
        "numbered from the greatest": func.row_number().over(
            order_by=[c.i.desc(), c.id]
        ),
        "the one before": func.lag(c.i).over(order_by=c.i),
    }


def comparisons_of_rows(c: Any) -> list[Any]:
    """Return comparisons of rows, of which some members are NULL."""
    nothing = literal(None, Integer)
    pairs = [tuple_(c.i, c.j), tuple_(c.j, c.i), tuple_(c.id, c.i)]
    others = [
        tuple_(7, 2),
        tuple_(literal(2, Integer), nothing),
        tuple_(nothing, 2),
        tuple_(7, nothing),
    ]
    compared = [
        make(pair, other)
        for pair in pairs
        for other in others
        for make in (
            *(operator.lt, operator.le, operator.gt, operator.ge),
            *(operator.eq, operator.ne),
        )
    ]
    pair, low, high = pairs[0], tuple_(-7, 3), tuple_(5, nothing)
    event = c.i.table.alias()
    query = select(event.c.i, event.c.j).where(event.c.id > 1)
    return [
        *compared,
        tuple_(c.id, c.i, c.j) < tuple_(c.id, c.j, nothing),
        tuple_(c.id, c.i, c.j) >= tuple_(c.id, 7, 2),
        tuple_(c.i, c.s) > tuple_(c.i, "a"),
        func.row(c.i, c.j) < func.row(7, nothing),
        ~(pair == high),
        pair.between(low, high),
        ~pair.between(low, high),
        pair.between(high, low, symmetric=True),
        pair.in_([(7, 2), (5, 5)]),
        pair.not_in([(7, 2), (5, 5)]),
        pair.in_([(7, None), (5, 5)]),
        pair.not_in([(7, None), (-7, 3)]),
        ~pair.in_([(None, 2)]),
        tuple_(c.i, c.s).not_in([(7, None), (5, "x")]),
        tuple_(c.d, c.n).not_in([(datetime.date(2020, 2, 29), Decimal("2.50"))]),
        tuple_(c.u, c.i).in_([(uuid.UUID(int=5), 7), (uuid.UUID(int=6), None)]),
        pair.in_([]),
        pair.not_in([]),
        pair.in_([tuple_(c.i, 2), tuple_(c.j, c.i)]),
        pair.not_in([tuple_(c.i, nothing), tuple_(c.j, c.i)]),
        pair.in_(query),
        pair.not_in(query),
        pair.is_(None),
        pair.is_not(None),
        pair.is_distinct_from(tuple_(7, nothing)),
        func.row(c.i, c.j).is_distinct_from(func.row(7, nothing)),
        pair.is_not_distinct_from(tuple_(7, 2)),
    ]


def sums(c: Any) -> dict[str, Any]:
    """Return what is computed of all rows."""
    return {
        "sum": func.sum(c.i),
        "sum of numerics": func.sum(c.n),
        "average": func.avg(c.i),
        "average of numerics": func.avg(c.n),
        "different": func.count(distinct(c.s)),
        "greatest text": func.max(c.s),
        "earliest": func.min(c.at),
        "any": func.bool_or(c.b),
        "nothing": func.sum(c.i).filter(~true()),
        "some": func.sum(c.i).filter(c.b),
        "median": func.percentile_cont(0.5).within_group(c.i),
    }


def alike(value: Any) -> Any:
    """Return a value that others are equal to which differ in type or a last digit."""
    if isinstance(value, (float, Decimal)) and math.isfinite(value):
        return float(f"{float(value):.11g}")
    return value


def asked(session: Any, statement: Any) -> list[tuple[Any, ...]]:
    return [tuple(map(alike, row)) for row in session.execute(statement)]


def test_expressions_mean_what_they_mean_in_postgresql(
    rows: Any, base: Any, folder: Path, pg_engine: Engine
) -> None:
    now = datetime.datetime.now(UTC)
    statements = {
        name: select(rows.id, expression).order_by(rows.id)
        for name, expression in expressions(rows).items()
    }
    statements |= {name: select(value) for name, value in sums(rows).items()}
    for name in ("i", "n", "f", "s", "b", "d", "at", "t", "u", "by"):
        statements[f"by {name}"] = select(rows.id).order_by(rows[name], rows.id)
        down = rows[name].desc()
        statements[f"down by {name}"] = select(rows.id).order_by(down, rows.id)
    with (
        history.as_of(pg_engine, now) as live,
        history.archived(folder, base, live=pg_engine) as archived,
    ):
        past = archived.as_of(now)
        found = {name: asked(past, one) for name, one in statements.items()}
        assert found == {name: asked(live, one) for name, one in statements.items()}
        chunks = past.scalars(select(rows.id), execution_options={"yield_per": 2})
        assert len([*chunks]) == 6


def test_expressions_that_mean_something_else_are_refused(
    rows: Any, base: Any, folder: Path, pg_engine: Engine
) -> None:
    refused = [
        *(rows.e > Color.red, func.max(rows.e), func.least(rows.e, Color.red)),
        *(rows.iv > datetime.timedelta(1), rows.a < [1], rows.a[1:2]),
        *(func.format("%s", rows.s), func.sha256(rows.by)),
        *(func.row_to_json(text("1")), rows.s.op("similar to")("a%")),
        func.row_number().over(order_by=rows.e),
        tuple_(rows.i, rows.j) < literal(5, Integer),
        literal(5, Integer) == tuple_(rows.i, rows.j),
        tuple_(rows.i, rows.j) != tuple_(1, 2, 3),
        tuple_(rows.i, rows.e) > tuple_(1, Color.red),
    ]
    statements = [select(expression) for expression in refused]
    sorted_by = (rows.e, rows.e.desc(), rows.iv, rows.js, rows.a.desc().nulls_last())
    statements += [select(rows.id).order_by(column) for column in sorted_by]
    with history.archived(folder, base, live=pg_engine) as archived:
        past = archived.as_of(datetime.datetime.now(UTC))
        for statement in statements:
            with pytest.raises(ArchiveError, match="DuckDB"):
                past.execute(statement)
        # As its text, it is not what PostgreSQL would say, and nobody thinks so.
        by_text = select(rows.id).order_by(cast(rows.e, String), rows.id).limit(2)
        assert past.execute(by_text).all() == [(2,), (1,)]
        assert past.scalar(select(cast(rows.f, Float)).where(rows.id == 1)) == 2.5
