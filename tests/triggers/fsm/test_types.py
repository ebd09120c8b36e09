"""FSM: states of columns of each type."""

from __future__ import annotations

import datetime
import enum
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    CHAR,
    Boolean,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Text,
    TypeDecorator,
    Uuid,
    create_engine,
    insert,
    literal_column,
    null,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import CITEXT, DOMAIN
from sqlalchemy.dialects.postgresql import ENUM as PG_ENUM
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateSchema

from sa_history import FSM
from sa_history.exc import RefusedError, TransitionError
from tests.triggers.fsm.helpers import DAYS, WAY, Coded, Plain, values_of

Attempt = Callable[..., "type[RefusedError] | None"]
Rows = Callable[[Any], list[tuple[Any, ...]]]


class Word(str, enum.Enum):
    """A value is a string as well, and is not what is stored."""

    ONE = "TWO"
    TWO = "END"
    END = "ONE"


class Number(enum.IntEnum):
    ONE = 1
    TWO = 2
    END = 3


class Casual(TypeDecorator[str]):
    """A text that is compared in lower case."""

    impl = Text
    cache_ok = True

    class comparator_factory(TypeDecorator.Comparator[str]):
        def operate(self, op: Any, *other: Any, **kwargs: Any) -> Any:
            return op(literal_column("lower('x')"), literal_column("'x'"))


TIMES = [datetime.datetime(2020, 1, n, tzinfo=datetime.timezone.utc) for n in (1, 2, 3)]

KEYS = [uuid.UUID(int=n) for n in (1, 2, 3)]

PLAIN, WORD = list(Plain), list(Word)

TYPES = {
    "text": (Text(), ["one", "it's %(two)s :x {}", "\\end\n--"]),
    "varchar": (String(3), ["one", "two", "end"]),
    "char": (CHAR(5), ["one", "two", "end"]),
    "collated": (String(5, collation="C"), ["one", "two", "end"]),
    "citext": (CITEXT(), ["one", "ONE", "One"]),
    "domain": (DOMAIN("state_name", String(5)), ["one", "two", "end"]),
    "decorated": (Coded(), PLAIN),
    "its own comparison": (Casual(), ["one", "ONE", "One"]),
    "enum": (Enum(Plain), PLAIN),
    "enum by name": (Enum(Plain), ["ONE", "TWO", "END"]),
    "enum of strings": (Enum(Word), WORD),
    "enum of integers": (Enum(Number), list(Number)),
    "enum by values": (Enum(Plain, values_callable=values_of), PLAIN),
    "enum by its values": (Enum(Plain, values_callable=values_of), values_of(Plain)),
    "enum in a schema": (Enum(Plain, schema="Other Place"), PLAIN),
    "plain enum": (Enum("one", "it's", "end", name="plain"), ["one", "it's", "end"]),
    "postgresql enum": (PG_ENUM(Plain, name="mood"), PLAIN),
    "enum as text": (Enum(Plain, native_enum=False), PLAIN),
    "enum of values as text": (
        Enum(Plain, native_enum=False, values_callable=values_of, length=50),
        PLAIN,
    ),
    "plain enum as text": (
        Enum("one", "two", "end", native_enum=False),
        ["one", "two", "end"],
    ),
    "integer": (Integer(), [0, 1, -1]),
    "small integer": (SmallInteger(), [0, 1, 2]),
    "numeric": (Numeric(8, 2), [Decimal("1"), Decimal("2.5"), Decimal("-3.00")]),
    "numeric of any scale": (Numeric(), [Decimal("1"), Decimal("1.0"), Decimal("2")]),
    "float": (Float(), [1.0, 2.5, -3.0]),
    "uuid": (Uuid(), KEYS),
    "date": (Date(), DAYS),
    "time": (DateTime(timezone=True), TIMES),
    "bytes": (LargeBinary(), [b"one", b"\\two", b"\0"]),
    "array": (ARRAY(Integer), [[1], [1, 2], []]),
}


@pytest.mark.contrib
@pytest.mark.parametrize(("type_", "states"), TYPES.values(), ids=TYPES)
def test_states_are_what_the_column_holds(
    thing: Any,
    attempt: Attempt,
    pg_session: Session,
    rows: Rows,
    level: str,
    type_: Any,
    states: list[Any],
) -> None:
    pg_session.execute(CreateSchema("Other Place"))
    pg_session.execute(text("CREATE EXTENSION citext"))
    pg_session.commit()
    one, two, end = states
    table = thing(
        type_,
        transitions=[(one, two), (two, end), (end, None)],
        initial=[one],
        level=level,
    )
    for wrong in (two, end, None):
        assert attempt(insert(table).values(id=1, state=wrong)) is TransitionError
    assert attempt(insert(table).values(id=1, state=one)) is None
    for passed, state, refused in (
        (one, two, end),
        (two, end, one),
        (end, None, two),
        (None, None, one),
    ):
        assert attempt(update(table).values(state=passed)) is None
        assert attempt(update(table).values(state=refused)) is TransitionError
        assert attempt(update(table).values(state=state)) is None
    assert attempt(update(table).values(state=null())) is None


def test_a_boolean_goes_one_way(thing: Any, attempt: Attempt, level: str) -> None:
    table = thing(Boolean(), transitions=[(False, True)], initial=[False], level=level)
    assert attempt(insert(table).values(id=1, state=True)) is TransitionError
    assert attempt(insert(table).values(id=1, state=False)) is None
    assert attempt(update(table).values(state=None)) is TransitionError
    assert attempt(update(table).values(state=True)) is None
    assert attempt(update(table).values(state=False)) is TransitionError


@pytest.mark.contrib
def test_states_that_equality_takes_for_one_are_two(
    thing: Any, pg_session: Session, attempt: Attempt, level: str
) -> None:
    pg_session.execute(text("CREATE EXTENSION citext"))
    pg_session.commit()
    table = thing(CITEXT(), transitions=[("a", "b")], initial=["a"], level=level)
    assert attempt(insert(table).values(id=1, state="A")) is TransitionError
    assert attempt(insert(table).values(id=1, state="a")) is None
    assert attempt(update(table).values(state="A")) is TransitionError
    assert attempt(update(table).values(state="B")) is TransitionError
    assert attempt(update(table).values(state="b")) is None


def test_states_do_not_depend_on_the_settings_of_the_connection(
    thing: Any, pg_url: Any, level: str
) -> None:
    table = thing(Text(), transitions=[("a\\'b", "c\\n"), ("c\\n", "1.5")], level=level)
    settings = "-cstandard_conforming_strings=off -cDateStyle=German,DMY"
    settings += " -cbackslash_quote=on -cescape_string_warning=off"
    settings += " -ctransform_null_equals=on -csearch_path="
    engine = create_engine(pg_url, connect_args={"options": settings})
    table = table.to_metadata(MetaData(), schema="public")
    with engine.connect() as connection:
        connection.execute(insert(table).values(id=1, state="a\\'b"))
        connection.execute(update(table).values(state="c\\n"))
        with pytest.raises(TransitionError):
            connection.execute(update(table).values(state="a\\'b"))
    engine.dispose()


def test_changes_of_a_row_that_has_a_state_of_none_of_these_are_refused(
    article: Any, attempt: Attempt, level: str
) -> None:
    model = article(FSM("status", transitions=WAY, level=level))
    assert attempt(insert(model).values(id=1, status="from before")) is None
    assert attempt(update(model).values(status="draft")) is TransitionError
