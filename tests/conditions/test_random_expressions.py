"""Random conditions, which triggers have to decide as a SELECT of them does.

The same recipe of an expression is followed twice: with ``old`` and ``new``, for the
condition of a trigger, and with the columns of real tables, for a SELECT.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import operator
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Connection, Engine, MetaData, Table, func
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, array
from sqlalchemy.exc import DBAPIError

from sa_history import (
    FSM,
    AfterUpdate,
    AllChange,
    AllDontChange,
    AnyChange,
    AnyDontChange,
    Audit,
    Delete,
    Protect,
    ReadOnly,
    SoftDelete,
    Touch,
    Trigger,
    Update,
    attach,
    audit_table,
    events,
    new,
    old,
    track,
)
from sa_history.exc import ProtectedError, ReadOnlyError, TransitionError

pytestmark = pytest.mark.long

SCALE = int(os.environ.get("INJECTION_SCALE", "1"))
"""How many times as many examples; with more than one they are others each time."""

# Of ready triggers, and of RAISE EXCEPTION.
REFUSALS = {
    *(error.sqlstate for error in (ProtectedError, ReadOnlyError, TransitionError)),
    "P0001",
}

UTC = datetime.timezone.utc
ROWS = 8


class Rows:
    """The rows that a recipe is followed with.

    :param old: gives the columns of the old row as attributes.
    :param new: gives those of the new row.
    """

    def __init__(self, old: Any, new: Any) -> None:
        self.old, self.new = old, new

    def change(self, kind: type[Any], names: tuple[str, ...]) -> Any:
        """Return one of the AnyChange family, in the terms of SQLAlchemy."""
        if self.old is old:
            return kind(*names)
        changes = [
            getattr(self.old, name).is_distinct_from(getattr(self.new, name))
            for name in names
        ]
        if kind is AnyChange:
            return sa.or_(*changes)
        if kind is AllChange:
            return sa.and_(*changes)
        if kind is AnyDontChange:
            return sa.not_(sa.and_(*changes))
        return sa.not_(sa.or_(*changes))


@dataclasses.dataclass(frozen=True)
class Recipe:
    """An expression that can be built over any rows.

    :param shown: the expression as Python, for messages.
    :param build: builds it.
    """

    shown: str
    build: Callable[[Rows], Any]

    def __repr__(self) -> str:
        return self.shown


def column(row: str, name: str) -> Recipe:
    return Recipe(f"{row}.{name}", lambda rows: getattr(getattr(rows, row), name))


def value(of: Any) -> Recipe:
    return Recipe(repr(of), lambda _: of)


def made(shown: str, make: Callable[..., Any], *parts: Recipe) -> Recipe:
    """Return what ``make`` makes of the parts; braces in ``shown`` stand for them."""
    return Recipe(
        shown.format(*parts), lambda rows: make(*(part.build(rows) for part in parts))
    )


def case(condition: Any, then: Any, otherwise: Any) -> Any:
    return sa.case((condition, then), else_=otherwise)


INTEGERS = ["a", "b"]
TEXTS = ["city", "town"]
FLAGS = ["open", "paid"]

# What takes parts of these kinds and gives one of the kind. A part in capitals may be
# a plain value as well; the first operand of an operator is never one.
OPERATORS: dict[str, list[tuple[str, Callable[..., Any], str]]] = {
    "int": [
        ("({} + {})", operator.add, "int INT"),
        ("({} - {})", operator.sub, "int INT"),
        ("(3 - {})", lambda x: 3 - x, "int"),
        ("({} * {})", operator.mul, "int INT"),
        # Of a function or case() the type is not known when the class is made, and //
        # of what may be no integer is a FLOOR, whose result has no bits to combine.
        ("({} // 2)", lambda x: sa.type_coerce(x, sa.Integer) // 2, "int"),
        ("({} % 3)", lambda x: x % 3, "int"),
        ("(-{})", operator.neg, "int"),
        ("{}.bitwise_and({})", lambda x, y: x.bitwise_and(y), "int INT"),
        ("{}.bitwise_xor({})", lambda x, y: x.bitwise_xor(y), "int INT"),
        ("{}.op('|')({})", lambda x, y: x.op("|")(y), "int INT"),
        ("func.abs({})", func.abs, "int"),
        ("func.coalesce({}, {})", func.coalesce, "int INT"),
        ("func.greatest({}, {})", func.greatest, "int INT"),
        ("func.nullif({}, {})", func.nullif, "int INT"),
        ("case(({}, {}), else_={})", case, "bool int INT"),
        ("cast({}, Integer)", lambda x: sa.cast(x, sa.Integer), "bool"),
        ("type_coerce({}, Integer)", lambda x: sa.type_coerce(x, sa.Integer), "int"),
        ("func.length({})", func.length, "text"),
        ("cast(extract('hour', {}), Integer)", lambda x: hour(x), "time"),
        ("literal(2) + {}", lambda x: sa.literal(2) + x, "int"),
        ("{}[1]", lambda x: x[1], "array"),
        ("{}['n'].as_integer()", lambda x: x["n"].as_integer(), "json"),
    ],
    "text": [
        # Of two results of case() and func the types are not known, so no || is.
        ("({} + {})", operator.add, "text string"),
        ("('x' + {})", lambda x: "x" + x, "text"),
        ("{}.concat({})", lambda x, y: x.concat(y), "text TEXT"),
        ("func.lower({})", func.lower, "text"),
        ("func.replace({}, {}, {})", func.replace, "text TEXT TEXT"),
        ("func.coalesce({}, {})", func.coalesce, "text TEXT"),
        ("case(({}, {}), else_={})", case, "bool text TEXT"),
        ("cast({}, Text)", lambda x: sa.cast(x, sa.Text), "int"),
        ("collate({}, 'C')", lambda x: sa.collate(x, "C"), "text"),
        ("{}['t'].astext", lambda x: x["t"].astext, "json"),
    ],
    "time": [
        ("({} + timedelta(hours=5))", lambda x: x + HOURS, "time"),
        ("({} - timedelta(hours=5))", lambda x: x - HOURS, "time"),
        ("{}.op('AT TIME ZONE')('Asia/Tokyo')", lambda x: at_zone(x), "zoned"),
        ("func.timezone('Asia/Tokyo', {})", lambda x: at_function(x), "zoned"),
        ("func.coalesce({}, {})", func.coalesce, "time time"),
    ],
    "array": [
        ("func.array_append({}, {})", lambda x, y: append(x, y), "array INT"),
        (
            "array([{}, {}])",
            lambda x, y: array([x, y]),
            "int int",
        ),
        ("({} + {})", operator.add, "column_array column_array"),
    ],
    # What can be compared: SQLAlchemy gives a negated Boolean no parentheses, so that
    # not_(a).is_(True) is NOT (a IS true).
    "truth": [
        ("({} < {})", operator.lt, "int INT"),
        ("({} & {})", operator.and_, "bool bool"),
        ("({} | {})", operator.or_, "bool bool"),
        ("func.coalesce({}, {})", func.coalesce, "bool bool"),
    ],
    "bool": [
        ("({} < {})", operator.lt, "int INT"),
        ("({} >= {})", operator.ge, "int INT"),
        ("({} == {})", operator.eq, "int INT"),
        ("({} != {})", operator.ne, "text TEXT"),
        ("({} > {})", operator.gt, "text TEXT"),
        ("({} < {})", operator.lt, "time time"),
        ("({} == {})", operator.eq, "truth truth"),
        ("({} != {})", operator.ne, "truth truth"),
        ("{}.is_distinct_from({})", lambda x, y: x.is_distinct_from(y), "int INT"),
        ("{}.is_distinct_from({})", lambda x, y: x.is_distinct_from(y), "truth truth"),
        (
            "{}.is_not_distinct_from({})",
            lambda x, y: x.is_not_distinct_from(y),
            "text TEXT",
        ),
        ("{}.is_(None)", lambda x: x.is_(None), "int"),
        ("{}.is_(True)", lambda x: x.is_(True), "truth"),
        ("{}.is_not(None)", lambda x: x.is_not(None), "truth"),
        ("{}.between({}, {})", lambda x, y, z: x.between(y, z), "int INT INT"),
        (
            "between({}, {}, {}, symmetric=True)",
            lambda x, y, z: sa.between(x, y, z, symmetric=True),
            "int INT INT",
        ),
        ("{}.in_([{}, {}])", lambda x, y, z: x.in_([y, z]), "int INT INT"),
        ("{}.not_in([{}, {}])", lambda x, y, z: x.not_in([y, z]), "text TEXT TEXT"),
        ("{}.like({})", lambda x, y: x.like(y), "text TEXT"),
        ("{}.not_ilike({})", lambda x, y: x.not_ilike(y), "text TEXT"),
        ("{}.startswith({})", lambda x, y: x.startswith(y), "text text"),
        (
            "{}.contains('%', autoescape=True)",
            lambda x: x.contains("%", autoescape=True),
            "text",
        ),
        ("{}.regexp_match('^a')", lambda x: x.regexp_match("^a"), "text"),
        ("and_({}, {})", sa.and_, "bool bool"),
        ("and_({}, {}, {})", sa.and_, "bool bool bool"),
        ("or_({}, {})", sa.or_, "bool bool"),
        ("not_({})", sa.not_, "bool"),
        ("({} & {})", operator.and_, "bool bool"),
        ("({} | {})", operator.or_, "bool bool"),
        ("(~{})", operator.invert, "bool"),
        ("func.coalesce({}, {})", func.coalesce, "bool bool"),
        ("case(({}, {}), else_={})", case, "bool bool bool"),
        ("cast({}, Boolean)", lambda x: sa.cast(x, sa.Boolean), "int"),
        ("({} == any_({}))", lambda x, y: x == sa.any_(y), "int array"),
        ("({} < all_({}))", lambda x, y: x < sa.all_(y), "int array"),
        ("{}.contains({})", lambda x, y: x.contains(y), "column_array array"),
        ("{}.overlap({})", lambda x, y: x.overlap(y), "column_array array"),
        ("{}.has_key({})", lambda x, y: x.has_key(y), "json TEXT"),
        ("{}.contains({})", lambda x, y: x.contains(y), "json json"),
        ("{}['f'].as_boolean()", lambda x: x["f"].as_boolean(), "json"),
    ],
}

JOINED = [
    operator
    for operator in OPERATORS["bool"]
    if operator[0].startswith(("and_", "or_", "not_", "({} &", "({} |", "case"))
]

HOURS = datetime.timedelta(hours=5)


def hour(moment: Any) -> Any:
    return sa.cast(sa.extract("hour", moment), sa.Integer)


def at_zone(moment: Any) -> Any:
    return moment.op("AT TIME ZONE", return_type=sa.DateTime())("Asia/Tokyo")


def at_function(moment: Any) -> Any:
    return func.timezone("Asia/Tokyo", moment, type_=sa.DateTime())


def append(array: Any, item: Any) -> Any:
    return func.array_append(array, item, type_=ARRAY(sa.Integer))


LEAVES = {
    "int": INTEGERS,
    "text": TEXTS,
    "string": TEXTS,
    "truth": FLAGS,
    "bool": FLAGS,
    "time": ["at"],
    "zoned": ["zoned"],
    "array": ["numbers"],
    "column_array": ["numbers"],
    "json": ["data"],
}

STRINGS = ["", "a", "B", "ab", "%", "a%", "_"]


@dataclasses.dataclass(frozen=True)
class Draw:
    """Chooses recipes and rows, by the seed of its random numbers."""

    random: random.Random

    def recipe(
        self, rows: tuple[str, ...], kind: str = "bool", depth: int = 4
    ) -> Recipe:
        """Return a recipe for an expression of a kind.

        :param rows: the rows whose columns are used.
        :param depth: how many operators stand in each other at most; the first two
            always do.
        """
        if kind.isupper() and self.random.random() < 0.5:
            return value(self.plain(kind))
        kind = kind.lower()
        is_column = depth < 3 and self.random.random() < 0.3
        if kind not in OPERATORS or depth == 0 or is_column:
            name = self.random.choice(LEAVES[kind])
            return column(self.random.choice(rows), name)
        if kind == "bool" and len(rows) == 2 and self.random.random() < 0.1:
            return self.change()
        # Half of the parts are joined by and_() and its like, so that there are many.
        joined = kind == "bool" and self.random.random() < 0.5
        shown, make, parts = self.random.choice(JOINED if joined else OPERATORS[kind])
        inner = [self.recipe(rows, part, depth - 1) for part in parts.split()]
        return made(shown, make, *inner)

    def change(self) -> Recipe:
        kinds = [AnyChange, AllChange, AnyDontChange, AllDontChange]
        kind = self.random.choice(kinds)
        some = [*INTEGERS, *TEXTS, *FLAGS]
        names = tuple(self.random.sample(some, self.random.randint(1, 3)))
        shown = f"{kind.__name__}{names}"
        return Recipe(shown, lambda rows: rows.change(kind, names))

    def plain(self, kind: str) -> int | str:
        if kind == "INT":
            return self.random.randint(-3, 3)
        return self.random.choice(STRINGS)

    def row(self) -> dict[str, Any]:
        hours = [datetime.timedelta(hours=self.random.randint(0, 40)) for _ in "ab"]
        numbers = [self.random.randint(-3, 3) for _ in range(self.random.randint(0, 3))]
        data = {
            "n": self.random.randint(-3, 3),
            "t": self.random.choice(STRINGS),
            "f": self.random.random() < 0.5,
            "a": None,
        }
        values = {
            **{name: self.plain("INT") for name in INTEGERS},
            **{name: self.plain("TEXT") for name in TEXTS},
            **{name: self.random.random() < 0.5 for name in FLAGS},
            "at": datetime.datetime(2024, 5, 1) + hours[0],
            "zoned": datetime.datetime(2024, 5, 1, tzinfo=UTC) + hours[1],
            "numbers": numbers,
            "data": {k: v for k, v in data.items() if self.random.random() < 0.8},
        }
        return {k: v if self.random.random() < 0.9 else None for k, v in values.items()}

    def rows(self) -> list[dict[str, Any]]:
        return [self.row() for _ in range(ROWS)]


DRAWS = st.integers(0, 2**32).map(lambda seed: Draw(random.Random(seed)))


def columns() -> list[Column[Any]]:
    return [
        Column("id", sa.Integer, primary_key=True),
        *(Column(name, sa.Integer) for name in INTEGERS),
        *(Column(name, sa.Text) for name in TEXTS),
        *(Column(name, sa.Boolean) for name in FLAGS),
        Column("at", sa.DateTime),
        Column("zoned", sa.DateTime(timezone=True)),
        Column("numbers", ARRAY(sa.Integer)),
        Column("data", JSONB(none_as_null=True)),
        Column("state", sa.Text),
        Column("version", sa.Integer),
        Column("touched", sa.DateTime),
        Column("gone", sa.Boolean),
    ]


ALL_EXAMPLES = MetaData()
BEFORE = Table("before", ALL_EXAMPLES, *columns())
AFTER = Table("after", ALL_EXAMPLES, *columns())


@dataclasses.dataclass
class World:
    """The rows before and after an update, in tables that all examples have.

    :param connection: in a transaction that is taken back.
    """

    connection: Connection

    def __post_init__(self) -> None:
        self.metadata = MetaData()
        self.before, self.after = BEFORE, AFTER

    def table(self, name: str) -> Table:
        return Table(name, self.metadata, *columns())

    def fill(self, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
        common = {"version": 1, "gone": False, "touched": None}
        for table, state, rows in (
            (self.before, "draft", before),
            (self.after, "done", after),
        ):
            self.connection.execute(
                table.insert(),
                [
                    {"id": number, "state": state, **common, **row}
                    for number, row in enumerate(rows)
                ],
            )

    def decided(self, recipe: Recipe) -> set[int]:
        """Return the ids of the rows of which PostgreSQL says that it is true."""
        rows = Rows(self.before.c, self.after.c)
        joined = self.before.join(self.after, self.before.c.id == self.after.c.id)
        statement = sa.select(self.before.c.id).select_from(joined)
        return set(self.connection.scalars(statement.where(recipe.build(rows))))

    def begin(self, table: Table) -> None:
        names = [column.name for column in table.c]
        rows = sa.select(*self.before.c)
        self.connection.execute(table.insert().from_select(names, rows))

    def update(self, table: Table, number: int | None = None) -> None:
        """Make the rows, or one of them, what they are after the update."""
        kept = {"id", "version", "touched", "gone"}
        values = {c: self.after.c[c.name] for c in table.c if c.name not in kept}
        statement = table.update().values(values).where(table.c.id == self.after.c.id)
        if number is not None:
            statement = statement.where(table.c.id == number)
        self.connection.execute(statement)

    def refused(self, table: Table) -> set[int]:
        """Return the ids of the rows whose update raises an error."""
        updates = {n: functools.partial(self.update, table, n) for n in range(ROWS)}
        return {n for n, update in updates.items() if self.is_refused(update)}

    def is_refused(self, write: Callable[[], object]) -> bool:
        """Return whether a trigger refuses a write, which is taken back then."""
        savepoint = self.connection.begin_nested()
        try:
            write()
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", "") not in REFUSALS:
                raise
            savepoint.rollback()
            return True
        savepoint.commit()
        return False

    def ids(self, table: Table, *where: Any) -> set[int]:
        return set(self.connection.scalars(sa.select(table.c.id).where(*where)))


Decision = Callable[[], "set[int]"]


def tracked(world: World, condition: Any, level: str) -> Decision:
    """A tracker alone, whose condition stands in WHEN at row level."""
    table = world.table(f"tracked_{level}")
    track(AfterUpdate(condition, label="it"), level=level)(table)
    return lambda: _recorded(world, table)


def tracked_twice(world: World, condition: Any, level: str) -> Decision:
    """One of two trackers, whose conditions stand in the function at either level."""
    table = world.table(f"twice_{level}")
    track(
        AfterUpdate(condition, label="it"),
        AfterUpdate(new.version == 0, label="other"),
        level=level,
    )(table)
    return lambda: _recorded(world, table)


def _recorded(world: World, table: Table) -> set[int]:
    world.begin(table)
    world.update(table)
    return world.ids(events(table).table)


def refusing(trigger: Callable[[Any, str], Any]) -> Callable[..., Decision]:
    def attached(world: World, condition: Any, level: str) -> Decision:
        table = world.table("refused")
        attach(trigger(condition, level))(table)

        def decide() -> set[int]:
            world.begin(table)
            return world.refused(table)

        return decide

    return attached


def audited(world: World, condition: Any, level: str) -> Decision:
    table = world.table("audited")
    log = audit_table("log", world.metadata)
    attach(Audit(operation=Update, into=log, condition=condition, level=level))(table)

    def decide() -> set[int]:
        world.begin(table)
        world.update(table)
        keys = world.connection.scalars(sa.select(log.c.key))
        return {key["id"] for key in keys}

    return decide


def touched(world: World, condition: Any, level: str) -> Decision:
    table = world.table("touched")
    attach(Touch("touched", condition=condition))(table)

    def decide() -> set[int]:
        world.begin(table)
        world.update(table)
        return world.ids(table, table.c.touched.is_not(None))

    return decide


def restore_triggers(connection: Connection) -> None:
    """Make the triggers anew, from what PostgreSQL says of them as pg_dump asks it."""
    shown = connection.execute(
        sa.text(
            "SELECT tgname, tgrelid::regclass::text, pg_get_triggerdef(oid)"
            " FROM pg_trigger WHERE NOT tgisinternal"
        )
    ).all()
    for name, table, definition in shown:
        connection.exec_driver_sql(f'DROP TRIGGER "{name}" ON {table}')
        connection.exec_driver_sql(definition.replace("%", "%%"))


TRIGGERS = [
    tracked_twice,
    refusing(lambda c, level: Protect(Update, condition=c, level=level)),
    refusing(lambda c, level: ReadOnly("state", condition=c, level=level)),
    refusing(
        lambda c, level: FSM(
            "state", transitions=[("draft", "lost")], condition=c, level=level
        )
    ),
    refusing(
        lambda c, level: Trigger(
            "stop", "before", Update, condition=c, body="RAISE EXCEPTION 'stop';"
        )
    ),
    audited,
    touched,
]


@pytest.fixture
def engine(pg_engine: Engine) -> Engine:
    ALL_EXAMPLES.create_all(pg_engine)
    return pg_engine


@contextlib.contextmanager
def world_of_an_example(engine: Engine) -> Iterator[World]:
    """A world in a transaction that is taken back, in a connection of its own.

    PostgreSQL keeps the plans of functions that are gone until the connection ends, and
    goes through all of them with each change of its catalog: the hundredth example of a
    connection took twice as long as the first, the four hundredth nine times.
    """
    with engine.connect() as connection:
        connection.detach()  # it is closed then, and not put back into the pool
        yield World(connection)


def examples(number: int) -> settings:
    return settings(
        deadline=None,
        derandomize=SCALE == 1,
        max_examples=number * SCALE,
        phases=[Phase.generate],  # to shrink takes minutes, and the recipe says it
        suppress_health_check=list(HealthCheck),
    )


@examples(150)
@given(
    draw=DRAWS,
    attached=st.sampled_from(TRIGGERS),
    level=st.sampled_from(["row", "statement"]),
)
def test_a_trigger_decides_as_a_select_of_its_condition_does(
    engine: Engine, draw: Draw, attached: Callable[..., Decision], level: str
) -> None:
    recipe = draw.recipe(("old", "new"))
    note(recipe.shown)
    condition = recipe.build(Rows(old, new))
    with world_of_an_example(engine) as world:
        decisions = [
            tracked(world, condition, "row"),
            tracked(world, condition, "statement"),
            attached(world, condition, level),
        ]
        world.metadata.create_all(world.connection, checkfirst=False)
        restore_triggers(world.connection)
        world.fill(draw.rows(), draw.rows())
        expected = world.decided(recipe)
        for decide in decisions:
            assert decide() == expected


@examples(30)
@given(draw=DRAWS)
def test_a_deletion_marks_or_is_refused_as_a_select_of_its_condition_says(
    engine: Engine, draw: Draw
) -> None:
    recipe = draw.recipe(("old",))
    note(recipe.shown)
    condition = recipe.build(Rows(old, new))
    with world_of_an_example(engine) as world:
        marked, kept = world.table("marked"), world.table("kept")
        attach(SoftDelete("gone", value=True, condition=condition))(marked)
        attach(Protect(Delete, condition=condition))(kept)
        world.metadata.create_all(world.connection, checkfirst=False)
        restore_triggers(world.connection)
        rows = draw.rows()
        world.fill(rows, rows)
        expected = world.decided(recipe)
        world.begin(marked)
        world.connection.execute(marked.delete())
        assert world.ids(marked) == expected
        world.begin(kept)
        for number in range(ROWS):
            delete = kept.delete().where(kept.c.id == number)
            world.is_refused(functools.partial(world.connection.execute, delete))
        assert world.ids(kept) == expected
