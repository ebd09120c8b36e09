"""Conditions with values of JSON, which triggers decide as Python would."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Column, Engine, Integer, MetaData, Table, literal, text
from sqlalchemy.dialects.postgresql import JSONB, array

from sa_history import AfterUpdate, events, new, old, track
from sa_history.exc import ConditionError

NOTHING = object()
"""NULL of SQL, beside the null of JSON."""

ODD = 'it\'s \\ % %s :x "q" $$ ü\n\t'

VALUES: list[Any] = [
    NOTHING,
    None,
    {},
    [],
    {"a": 1},
    {"a": 1, "b": [1, 2, None]},
    {"b": {"a": None}},
    {"a": None},
    [1, 2],
    [2, 1, "a"],
    "a",
    "",
    ODD,
    {ODD: ODD},
    {"a": r"\u0000"},
    1,
    2,
    1.5,
    True,
    False,
]


def rank(value: Any) -> tuple[Any, ...]:
    """Return what sorts as jsonb does, of values without objects in one another."""
    match value:
        case None:
            return (0,)
        case str():
            return (1, value)
        case bool():
            return (3, value)
        case int() | float():
            return (2, value)
        case list():
            # An empty array is less than all others, for historical reasons.
            return (4 if value else -1, len(value), [*map(rank, value)])
    return (5, len(value), sorted(value), [rank(value[key]) for key in sorted(value)])


def same(left: Any, right: Any) -> bool:
    return rank(left) == rank(right)


def contains(left: Any, right: Any) -> bool:
    """Return what ``@>`` says."""
    if isinstance(left, dict) and isinstance(right, dict):
        return all(k in left and contains(left[k], v) for k, v in right.items())
    if isinstance(left, list):
        wanted = right if isinstance(right, list) else [right]
        if isinstance(right, dict):
            return False
        return all(
            any(
                contains(has, one) if isinstance(one, (dict, list)) else same(has, one)
                for has in left
            )
            for one in wanted
        )
    return not isinstance(right, (dict, list)) and same(left, right)


def has_key(value: Any, key: str) -> bool:
    return key == value if isinstance(value, str) else key in keys(value)


def keys(value: Any) -> list[Any]:
    return [*value] if isinstance(value, (dict, list)) else []


class Told(sa.types.TypeDecorator[Any]):
    """Objects that are stored under a key."""

    impl = JSONB
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return {"told": value}


NULL = sa.JSON.NULL

# Each condition of one value of a row, with what Python says of a value that is no
# NULL, and what the condition says of NULL.
ONE: list[tuple[Callable[[Any], Any], Callable[[Any], bool], bool]] = [
    (lambda x: x == {"a": 1}, lambda v: same(v, {"a": 1}), False),
    (lambda x: x == {}, lambda v: same(v, {}), False),
    (lambda x: x == [1, 2], lambda v: same(v, [1, 2]), False),
    (lambda x: x == {"a": r"\u0000"}, lambda v: same(v, {"a": r"\u0000"}), False),
    (lambda x: x == {ODD: ODD}, lambda v: same(v, {ODD: ODD}), False),
    (lambda x: x == literal(ODD, JSONB), lambda v: same(v, ODD), False),
    (lambda x: x == literal(1, JSONB), lambda v: same(v, 1), False),
    (lambda x: x == literal(True, JSONB), lambda v: same(v, True), False),
    (lambda x: x == literal(None, JSONB), lambda v: v is None, False),
    (lambda x: x == literal(NULL, JSONB), lambda v: v is None, False),
    (lambda x: x == sa.cast(NULL, JSONB), lambda v: v is None, False),
    (
        lambda x: x == literal(NULL, JSONB(none_as_null=True)),
        lambda v: v is None,
        False,
    ),
    (
        lambda x: x.is_not_distinct_from(literal(None, JSONB(none_as_null=True))),
        lambda v: False,
        True,
    ),
    (lambda x: x == None, lambda v: False, True),  # noqa: E711
    (lambda x: x.is_not(None), lambda v: True, False),
    (lambda x: x.is_distinct_from(None), lambda v: True, False),
    (lambda x: x != {"a": 1}, lambda v: not same(v, {"a": 1}), False),
    (lambda x: x != [], lambda v: not same(v, []), False),
    (lambda x: x < [1, 2], lambda v: rank(v) < rank([1, 2]), False),
    (lambda x: x <= [1, 2], lambda v: rank(v) <= rank([1, 2]), False),
    (lambda x: x > literal("A", JSONB), lambda v: rank(v) > rank("A"), False),
    (lambda x: x >= {"a": 1}, lambda v: rank(v) >= rank({"a": 1}), False),
    (
        lambda x: x.between([], {"a": 1}),
        lambda v: rank([]) <= rank(v) <= rank({"a": 1}),
        False,
    ),
    (
        lambda x: x.in_([{"a": 1}, [1, 2], {}]),
        lambda v: any(same(v, one) for one in ({"a": 1}, [1, 2], {})),
        False,
    ),
    (lambda x: x.not_in([{"a": 1}]), lambda v: not same(v, {"a": 1}), False),
    (lambda x: x.is_distinct_from({"a": 1}), lambda v: not same(v, {"a": 1}), True),
    (lambda x: x.is_not_distinct_from([1, 2]), lambda v: same(v, [1, 2]), False),
    (lambda x: x.contains({"a": 1}), lambda v: contains(v, {"a": 1}), False),
    (lambda x: x.contains([1]), lambda v: contains(v, [1]), False),
    (lambda x: x.contains({}), lambda v: contains(v, {}), False),
    (lambda x: x.contains({ODD: ODD}), lambda v: contains(v, {ODD: ODD}), False),
    (lambda x: ~x.contains({"a": 1}), lambda v: not contains(v, {"a": 1}), False),
    (
        lambda x: x.contained_by({"a": 1, "b": [1, 2, None], "c": 3}),
        lambda v: contains({"a": 1, "b": [1, 2, None], "c": 3}, v),
        False,
    ),
    (lambda x: x.has_key("a"), lambda v: has_key(v, "a"), False),
    (lambda x: x.has_key(ODD), lambda v: has_key(v, ODD), False),
    (
        lambda x: x.has_all(array(["a", "b"])),
        lambda v: has_key(v, "a") and has_key(v, "b"),
        False,
    ),
    (
        lambda x: x.has_any(array(["b", ODD])),
        lambda v: has_key(v, "b") or has_key(v, ODD),
        False,
    ),
    (
        lambda x: x["b"] == [1, 2, None],
        lambda v: isinstance(v, dict) and same(v.get("b"), [1, 2, None]),
        False,
    ),
    (
        lambda x: x["a"] == literal(None, JSONB),
        lambda v: isinstance(v, dict) and "a" in v and v["a"] is None,
        False,
    ),
    (
        lambda x: x[("b", "a")] == literal(NULL, JSONB),
        lambda v: same(v, {"b": {"a": None}}),
        False,
    ),
    (lambda x: sa.func.coalesce(x, literal({}, JSONB)) == {}, lambda v: v == {}, True),
    (lambda x: literal({"a": 1}, JSONB) == x, lambda v: same(v, {"a": 1}), False),
    (
        lambda x: sa.case((x == {}, literal({"t": 1}, JSONB)), else_=x) == {"t": 1},
        lambda v: v == {},
        False,
    ),
]

TWO: list[tuple[Callable[[Any, Any], Any], Callable[[Any, Any], bool | None]]] = [
    (lambda o, n: o == n, same),
    (lambda o, n: o != n, lambda o, n: not same(o, n)),
    (lambda o, n: n.contains(o), lambda o, n: contains(n, o)),
    (
        lambda o, n: o.contains({"a": 1}) & (n != {"a": 1}),
        lambda o, n: contains(o, {"a": 1}) and not same(n, {"a": 1}),
    ),
]


def one_decided(
    decide: Callable[[Any], bool], of_null: bool
) -> Callable[[Any, Any], bool]:
    return lambda _, value: of_null if value is NOTHING else bool(decide(value))


def two_decided(decide: Callable[[Any, Any], Any]) -> Callable[[Any, Any], bool]:
    return lambda before, after: (
        NOTHING not in (before, after) and bool(decide(before, after))
    )


CASES: list[tuple[Callable[[Any, Any], Any], Callable[[Any, Any], bool]]] = [
    *(
        (lambda _, n, make=make: make(n), one_decided(decide, of_null))
        for make, decide, of_null in ONE
    ),
    *((make, two_decided(decide)) for make, decide in TWO),
]


def shown(value: Any) -> str | None:
    return None if value is NOTHING else json.dumps(value)


@pytest.mark.parametrize(
    "type_", [JSONB(), sa.JSON().with_variant(JSONB(), "postgresql")]
)
def test_triggers_decide_as_python_and_as_a_select(
    type_: Any, pg_engine: Engine
) -> None:
    metadata = MetaData()
    tables = {
        level: Table(
            f"thing_{level}",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("before", JSONB),
            Column("data", type_),
        )
        for level in ("row", "statement")
    }
    # The operators that JSONB alone has are those of its type.
    at = (
        (lambda x: x)
        if isinstance(type_, JSONB)
        else (lambda x: sa.type_coerce(x, JSONB))
    )
    for level, table in tables.items():
        conditions = [make(at(old.data), at(new.data)) for make, _ in CASES]
        track(
            *(
                AfterUpdate(condition, label=str(number))
                for number, condition in enumerate(conditions)
            ),
            level=level,
        )(table)
    metadata.create_all(pg_engine)
    pairs = [(b, a) for b in VALUES[:8] for a in VALUES if b is not a]
    expected = {
        (str(number), position)
        for number, (_, decide) in enumerate(CASES)
        for position, pair in enumerate(pairs)
        if decide(*pair)
    }
    for table in tables.values():
        with pg_engine.begin() as connection:
            insert = f"INSERT INTO {table.name} VALUES (:id, :b, :b)"
            values = [
                {"id": n, "b": shown(b), "a": shown(a)}
                for n, (b, a) in enumerate(pairs)
            ]
            given = "CAST(:b AS jsonb), CAST(:b AS jsonb)"
            connection.execute(text(insert.replace(":b, :b", given)), values)
            update = f"UPDATE {table.name} SET data = CAST(:a AS jsonb) WHERE id = :id"
            connection.execute(text(update), values)
            event = events(table).table
            found = connection.execute(sa.select(event.c.pgh_label, event.c.id)).all()
            assert {tuple(row) for row in found} == expected
            # By parameters, as an application asks.
            before, data = (at(table.c[name]) for name in ("before", "data"))
            for number, (make, _) in enumerate(CASES):
                query = sa.select(table.c.id).where(make(before, data))
                ids = {n for label, n in expected if label == str(number)}
                assert set(connection.scalars(query)) == ids


@pytest.mark.parametrize("level", ["row", "statement"])
def test_a_decorated_type_makes_the_value(level: Any, pg_engine: Engine) -> None:
    metadata = MetaData()
    table = Table(
        "thing", metadata, Column("id", Integer, primary_key=True), Column("data", Told)
    )
    track(
        AfterUpdate(new.data == [1], label="list"),
        AfterUpdate(new.data == literal(None, Told), label="none"),
        level=level,
    )(table)
    metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(table.insert(), [{"id": n, "data": 0} for n in (1, 2, 3)])
        for number, value in ((1, [1]), (2, None), (3, [2])):
            row = table.update().where(table.c.id == number)
            connection.execute(row.values(data=literal(value, Told)))
        event = events(table).table
        query = sa.select(event.c.id, event.c.pgh_label).order_by(event.c.id)
        assert connection.execute(query).all() == [(1, "list"), (2, "none")]


def attempt(condition: Any, type_: Any = sa.JSON) -> str:
    table = Table(
        "thing",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("data", type_),
    )
    with pytest.raises(ConditionError) as refused:
        track(AfterUpdate(condition, label="it"))(table)
    return str(refused.value)


@pytest.mark.parametrize(
    "condition",
    [
        new.data == {"a": 1},
        new.data != old.data,
        new.data < [1],
        new.data.in_([{"a": 1}]),
        new.data.is_distinct_from({"a": 1}),
        new.data.between([], {}),
        new.data["a"] == literal(1, sa.JSON),
        literal({"a": 1}, sa.JSON) == new.data,
        (new.id == 1) & ~(new.data == {}),
    ],
)
def test_json_has_no_comparisons(condition: Any) -> None:
    message = attempt(condition)
    assert "PostgreSQL cannot compare json, as " in message
    assert (
        "make the column JSONB, or compare cast(..., JSONB); write that part" in message
    )


def test_what_postgresql_does_with_json_is_taken(pg_engine: Engine) -> None:
    metadata = MetaData()
    table = Table(
        "thing",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("data", sa.JSON),
    )
    conditions = [
        new.data.is_not(None),
        new.data.is_distinct_from(None),
        new.data["a"].as_string() == "x",
        sa.cast(new.data, JSONB) == {"a": "x"},
        sa.func.coalesce(new.data, literal({}, sa.JSON))["a"].as_string() == "x",
        sa.cast(new.data, sa.Text) == '{"a": "x"}',
    ]
    track(
        *(AfterUpdate(each, label=str(n)) for n, each in enumerate(conditions)),
    )(table)
    metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(table.insert().values(id=1, data={}))
        connection.execute(table.update().values(data={"a": "x"}))
        count = sa.select(sa.func.count()).select_from(events(table).table)
        assert connection.scalar(count) == len(conditions)


@pytest.mark.parametrize(
    "value",
    [
        {"a": datetime.date(2024, 1, 1)},
        {"a": float("nan")},
        {"a": "\0"},
        ["\\\0"],
        {"a": "\ud800"},
    ],
    ids=["date", "nan", "nul", "nul after a backslash", "surrogate"],
)
def test_what_jsonb_cannot_hold_is_refused(value: Any) -> None:
    message = attempt(new.data == value, JSONB)
    assert "Could not render literal value" in message
    assert "write that part with text('...')" in message
