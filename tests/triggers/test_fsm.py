"""A state machine: through which states a column may go, whatever holds them."""

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
    Column,
    Computed,
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
    Table,
    Text,
    TypeDecorator,
    Uuid,
    create_engine,
    delete,
    insert,
    literal_column,
    null,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import CITEXT, DOMAIN
from sqlalchemy.dialects.postgresql import ENUM as PG_ENUM
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateSchema
from sqlalchemy.types import TypeEngine

import sa_history as history
from sa_history import (
    FSM,
    AfterDelete,
    AfterUpdate,
    Delete,
    Protect,
    Snapshot,
    SoftDelete,
    attach,
    new,
    old,
    track,
)
from sa_history.exc import ProtectedError, RefusedError, TransitionError

Attempt = Callable[..., "type[RefusedError] | None"]
CreateAll = Callable[[], None]
Rows = Callable[[Any], list[tuple[Any, ...]]]

WAY = [("draft", "published"), ("published", "archived"), ("published", "draft")]


@pytest.fixture
def article(base: type[DeclarativeBase], create_all: CreateAll) -> Callable[..., Any]:
    """Make a model with these triggers."""

    def make(*triggers: Any) -> Any:
        @attach(*triggers)
        class Article(base):  # type: ignore[misc, valid-type]
            __tablename__ = "article"
            id: Mapped[int] = mapped_column(primary_key=True)
            status: Mapped[str | None] = mapped_column(server_default="draft")
            words: Mapped[int] = mapped_column(default=0)

        create_all()
        return Article

    return make


@pytest.fixture
def thing(base: type[DeclarativeBase], create_all: CreateAll) -> Callable[..., Table]:
    """Make a table with a state of some type, and a machine for it."""

    def make(type_: Any, **options: Any) -> Table:
        table = Table(
            "thing",
            base.metadata,
            Column("id", Integer, primary_key=True),
            Column("state", type_),
        )
        attach(FSM("state", **options))(table)
        create_all()
        return table

    return make


# Transitions


def test_states_go_the_way_they_are_given(
    article: Any, attempt: Attempt, rows: Rows, level: str
) -> None:
    model = article(FSM("status", transitions=WAY, level=level))
    allowed = set()
    states = ["draft", "published", "archived", "unknown"]
    for number, start in enumerate(states):
        for end in states:
            assert attempt(insert(model).values(id=number, status=start)) is None
            change = update(model).where(model.id == number).values(status=end)
            if attempt(change) is None:
                allowed.add((start, end))
                assert rows(model)[-1][1] == end
            else:
                assert rows(model)[-1][1] == start
            attempt(delete(model))
    # A state that stays as it is goes nowhere.
    assert allowed == {*WAY, *((state, state) for state in states)}


def test_other_columns_change_in_every_state(
    article: Any, attempt: Attempt, level: str
) -> None:
    model = article(FSM("status", transitions=WAY, level=level))
    for number, state in enumerate(("draft", "archived", "unknown", None)):
        assert attempt(insert(model).values(id=number, status=state)) is None
    assert attempt(update(model).values(words=1)) is None
    assert attempt(update(model).values(status=model.status, words=2)) is None


def test_rows_go_their_own_ways_in_one_statement(
    article: Any, attempt: Attempt, rows: Rows, level: str
) -> None:
    model = article(FSM("status", transitions=WAY, level=level))
    states = ["draft", "published", "archived"]
    values = [{"id": n, "status": state} for n, state in enumerate(states)]
    assert attempt(insert(model), values) is None
    forward = "UPDATE article SET id = id + 1, status = CASE status"
    forward += " WHEN 'draft' THEN 'published' WHEN 'published' THEN '{}'"
    forward += " ELSE status END"
    # With the wrong partner, each of these changes would be another.
    forward = forward.replace("id + 1", "-id - 1")
    assert attempt(forward.format("unknown")) is TransitionError
    assert [row[1] for row in rows(model)] == states
    assert attempt(forward.format("archived")) is None
    found = {row[0]: row[1] for row in rows(model)}
    assert found == {-1: "published", -2: "archived", -3: "archived"}


def test_keys_that_change_do_not_mix_up_the_states(
    article: Any, attempt: Attempt, level: str
) -> None:
    model = article(FSM("status", transitions=[("a", "b"), ("b", "c")], level=level))
    values = [{"id": n, "status": "ab"[n % 2]} for n in range(1, 8)]
    assert attempt(insert(model), values) is None
    assert attempt("UPDATE article SET id = 1000 - id") is None
    # Where a goes to b and b to a: by key it would seem that they stay.
    swap = "UPDATE article SET id = CASE status WHEN 'a' THEN -id ELSE 2000 - id END,"
    swap += " status = CASE status WHEN 'a' THEN 'b' ELSE 'a' END"
    assert attempt(swap) is TransitionError
    assert attempt(swap.replace("ELSE 'a'", "ELSE 'c'")) is None


def test_bulk_change_is_refused_for_one_row_of_many(
    article: Any, attempt: Attempt, level: str
) -> None:
    article(FSM("status", transitions=WAY, initial=["draft"], level=level))
    many = "INSERT INTO article (id, status, words) SELECT n, {}, n"
    many += " FROM generate_series(1, 20000) AS n"
    wrong = "CASE n WHEN 19999 THEN 'published' ELSE 'draft' END"
    assert attempt(many.format(wrong)) is TransitionError
    assert attempt(many.format("'draft'")) is None
    change = "UPDATE article SET status = CASE id WHEN 19999 THEN '{}'"
    change += " ELSE 'published' END"
    assert attempt(change.format("archived")) is TransitionError
    assert attempt(change.format("draft")) is None


# The first state


def test_a_row_begins_with_one_of_the_initial_states(
    article: Any, attempt: Attempt, level: str
) -> None:
    model = article(
        FSM("status", transitions=WAY, initial=["draft", "published"], level=level)
    )
    assert attempt(insert(model).values(id=1, status="published")) is None
    assert attempt(insert(model).values(id=2)) is None  # the column's default
    assert attempt(insert(model).values(id=3, status="archived")) is TransitionError
    assert attempt(insert(model).values(id=3, status=None)) is TransitionError
    values = [{"id": 3, "status": "draft"}, {"id": 4, "status": "archived"}]
    assert attempt(insert(model), values) is TransitionError
    assert attempt(update(model).where(model.id == 1).values(status="archived")) is None


def test_null_is_a_state(article: Any, attempt: Attempt, level: str) -> None:
    model = article(
        FSM(
            "status",
            transitions=[(None, "draft"), ("draft", "done"), ("draft", None)],
            initial=[None, "draft"],
            level=level,
        )
    )
    assert attempt(insert(model).values(id=1, status="done")) is TransitionError
    assert attempt(insert(model).values(id=1, status=None)) is None
    assert attempt(update(model).values(status=None)) is None
    assert attempt(update(model).values(status="done")) is TransitionError
    assert attempt(update(model).values(status="draft")) is None
    assert attempt(update(model).values(status=None)) is None
    assert attempt(update(model).values(status="draft")) is None
    assert attempt(update(model).values(status="done")) is None
    assert attempt(update(model).values(status=None)) is TransitionError


def test_null_is_no_state_where_it_is_not_given(
    article: Any, attempt: Attempt, level: str
) -> None:
    model = article(FSM("status", transitions=WAY, initial=["draft"], level=level))
    assert attempt(insert(model).values(id=1, status=None)) is TransitionError
    assert attempt(insert(model).values(id=1, status="draft")) is None
    assert attempt(update(model).values(status=None)) is TransitionError


def test_a_row_that_is_upserted_goes_or_begins(
    article: Any, attempt: Attempt, rows: Rows, level: str
) -> None:
    model = article(
        FSM("status", transitions=WAY, initial=["draft", "published"], level=level)
    )

    def upsert(id: int, status: str) -> Any:
        statement = pg_insert(model).values(id=id, status=status)
        changes = {"status": statement.excluded.status}
        return statement.on_conflict_do_update(index_elements=["id"], set_=changes)

    assert attempt(upsert(1, "draft")) is None
    assert attempt(upsert(1, "published")) is None
    assert attempt(upsert(1, "published")) is None
    assert attempt(upsert(2, "archived")) is TransitionError
    # At row level PostgreSQL asks for the first state before it looks for the row.
    goes = attempt(upsert(1, "archived"))
    assert goes is (TransitionError if level == "row" else None)
    state = "published" if level == "row" else "archived"
    assert [row[1] for row in rows(model)] == [state]


def test_merge_is_refused_by_what_it_does_to_each_row(
    article: Any, attempt: Attempt, rows: Rows, level: str
) -> None:
    model = article(FSM("status", transitions=WAY, initial=["draft"], level=level))
    assert attempt(insert(model).values(id=1)) is None
    merge = (
        "MERGE INTO article AS a USING (VALUES {}) AS s (id, status) ON a.id = s.id"
        " WHEN MATCHED THEN UPDATE SET status = s.status"
        " WHEN NOT MATCHED THEN INSERT (id, status, words) VALUES (s.id, s.status, 0)"
    )
    assert attempt(merge.format("(1, 'archived'), (2, 'draft')")) is TransitionError
    assert attempt(merge.format("(1, 'draft'), (2, 'archived')")) is TransitionError
    assert attempt(merge.format("(1, 'published'), (2, 'draft')")) is None
    assert [row[1] for row in rows(model)] == ["published", "draft"]


# Conditions


def test_condition_narrows_the_changes_it_looks_at(
    article: Any, attempt: Attempt, level: str
) -> None:
    model = article(
        FSM("status", transitions=WAY, condition=old.words > 100, level=level)
    )
    assert attempt(insert(model).values(id=1, words=100)) is None
    assert attempt(update(model).values(status="archived")) is None
    assert attempt(update(model).values(words=101, status="draft")) is None
    assert attempt(update(model).values(status="archived")) is TransitionError
    assert attempt(update(model).values(words=1, status="archived")) is TransitionError


def test_condition_over_new_is_for_the_beginning_too(
    article: Any, attempt: Attempt, level: str
) -> None:
    model = article(
        FSM(
            "status",
            transitions=WAY,
            initial=["draft"],
            condition=lambda old, new: new.words > 100,
            level=level,
        )
    )
    assert attempt(insert(model).values(id=1, status="archived")) is None
    long = {"status": "archived", "words": 101}
    assert attempt(insert(model).values(id=2, **long)) is TransitionError
    assert attempt(update(model).values(status="draft", words=101)) is TransitionError
    assert attempt(update(model).values(status="draft", words=100)) is None


def test_two_machines_on_one_column_are_a_condition_each(
    article: Any, attempt: Attempt, level: str
) -> None:
    model = article(
        FSM(
            "status",
            transitions=[("draft", "published")],
            condition=new.words <= 100,
            level=level,
        ),
        FSM(
            "status",
            transitions=[("draft", "review"), ("review", "published")],
            condition=new.words > 100,
            level=level,
            name="long",
        ),
    )
    assert attempt(insert(model), [{"id": 1}, {"id": 2, "words": 200}]) is None
    publish = update(model).values(status="published")
    assert attempt(publish) is TransitionError
    assert attempt(publish.where(model.id == 1)) is None
    assert attempt(update(model).values(status="review").where(model.id == 2)) is None
    assert attempt(publish) is None


# Types


class Plain(enum.Enum):
    """Stored by name."""

    ONE = "the first"
    TWO = "it's 100% two"
    END = "end"


class Word(str, enum.Enum):
    """A value is a string as well, and is not what is stored."""

    ONE = "TWO"
    TWO = "END"
    END = "ONE"


class Number(enum.IntEnum):
    ONE = 1
    TWO = 2
    END = 3


def values_of(members: type[enum.Enum]) -> list[str]:
    return [str(member.value) for member in members]


class Coded(TypeDecorator[Plain]):
    """Stores a member as the first letter of its name."""

    impl = CHAR(1)
    cache_ok = True

    def process_bind_param(self, value: Plain | None, dialect: Any) -> str | None:
        return None if value is None else value.name[0]

    def process_result_value(self, value: str | None, dialect: Any) -> Plain | None:
        return next((member for member in Plain if member.name[0] == value), None)


class Casual(TypeDecorator[str]):
    """A text that is compared in lower case."""

    impl = Text
    cache_ok = True

    class comparator_factory(TypeDecorator.Comparator[str]):
        def operate(self, op: Any, *other: Any, **kwargs: Any) -> Any:
            return op(literal_column("lower('x')"), literal_column("'x'"))


DAYS = [datetime.date(2020, 1, n) for n in (1, 2, 3)]
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


# Messages


@pytest.mark.parametrize(
    ("type_", "states", "message", "hint"),
    [
        (
            Text(),
            ["a", "it's {1} %"],
            "may not go from it's {1} % to a",
            "a to it's {1} %",
        ),
        (Boolean(), [False, True], "may not go from true to false", "false to true"),
        (Boolean(), [None, True], "may not go from true to NULL", "NULL to true"),
        (Integer(), [1, 2], "may not go from 2 to 1", "1 to 2"),
        (Enum(Plain), [Plain.ONE, "TWO"], "may not go from TWO to ONE", "ONE to TWO"),
        (
            Enum(Plain, values_callable=values_of, name="by_value"),
            [Plain.ONE, Plain.END],
            "may not go from end to the first",
            "the first to end",
        ),
        (Coded(), [Plain.ONE, Plain.END], "may not go from E to O", "O to E"),
        (Date(), DAYS[:2], "may not go from 2020-01-02 to 2020-01-01", None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, TypeEngine) else "",
)
def test_message_shows_states_as_they_are_stored(
    thing: Any,
    pg_session: Session,
    level: str,
    type_: Any,
    states: list[Any],
    message: str,
    hint: str | None,
) -> None:
    table = thing(type_, transitions=[states], level=level)
    pg_session.execute(insert(table).values(id=1, state=states[1]))
    with pytest.raises(TransitionError) as caught:
        pg_session.execute(update(table).values(state=states[0]))
    diag: Any = caught.value.orig.diag  # type: ignore[union-attr]
    assert diag.message_primary == f"UPDATE of public.thing is refused: state {message}"
    way = hint or "2020-01-01 to 2020-01-02"
    assert diag.message_hint.startswith(f"It goes from {way}. Where it is meant")
    assert (diag.sqlstate, diag.column_name) == ("SH005", "state")


def test_message_says_how_a_row_begins(
    article: Any, pg_session: Session, level: str
) -> None:
    model = article(
        FSM("status", transitions=WAY, initial=["draft", None], level=level)
    )
    with pytest.raises(TransitionError) as caught:
        pg_session.execute(insert(model).values(id=1, status="done"))
    diag: Any = caught.value.orig.diag  # type: ignore[union-attr]
    assert diag.message_primary == (
        "INSERT of public.article is refused: status may not begin as done"
    )
    assert diag.message_hint.startswith("It begins as draft, NULL. Where it is")
    assert diag.constraint_name == "article_fsm_status_insert"


# Together with others


def test_flush_is_refused_and_the_object_stays_as_it_was(
    article: Any, pg_session: Session, level: str
) -> None:
    model = article(FSM("status", transitions=WAY, initial=["draft"], level=level))
    first = model(id=1)
    pg_session.add(first)
    pg_session.commit()
    first.status = "archived"
    with pytest.raises(TransitionError):
        pg_session.commit()
    pg_session.rollback()
    assert first.status == "draft"
    first.status = "published"
    pg_session.commit()
    assert first.status == "published"


def test_deferred_machine_refuses_at_the_end(
    article: Any, pg_session: Session, rows: Rows
) -> None:
    model = article(FSM("status", transitions=WAY, deferrable="deferred"))
    pg_session.add(model(id=1))
    pg_session.commit()
    pg_session.execute(update(model).values(status="archived"))
    with pytest.raises(TransitionError):
        pg_session.commit()
    pg_session.rollback()
    for state in ("published", "archived"):
        pg_session.execute(update(model).values(status=state))
    pg_session.commit()
    assert rows(model) == [(1, "archived", 0)]


def test_deletion_is_no_transition(article: Any, attempt: Attempt, level: str) -> None:
    model = article(FSM("status", transitions=WAY, level=level))
    assert attempt(insert(model).values(id=1, status="archived")) is None
    assert attempt(delete(model)) is None
    assert attempt("TRUNCATE article") is None


def test_soft_deletion_is_a_transition(
    article: Any, attempt: Attempt, rows: Rows, level: str
) -> None:
    model = article(
        SoftDelete("status", value="gone"),
        FSM("status", transitions=[("done", "gone"), ("draft", "done")], level=level),
    )
    assert attempt(insert(model).values(id=1)) is None
    assert attempt(delete(model)) is TransitionError
    assert attempt(update(model).values(status="done")) is None
    assert attempt(delete(model)) is None
    assert rows(model) == [(1, "gone", 0)]


def test_protection_by_state(article: Any, attempt: Attempt, level: str) -> None:
    model = article(
        FSM("status", transitions=WAY, level=level),
        Protect(Delete, condition=old.status == "published", level=level),
    )
    assert attempt(insert(model).values(id=1)) is None
    assert attempt(update(model).values(status="published")) is None
    assert attempt(delete(model)) is ProtectedError
    assert attempt(update(model).values(status="archived")) is None
    assert attempt(delete(model)) is None


def test_refused_transition_leaves_no_event(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    attempt: Attempt,
    pg_session: Session,
    recorded: Any,
    level: str,
) -> None:
    @track(
        Snapshot, AfterUpdate(new.status == "b", label="b"), AfterDelete, level=level
    )
    @attach(FSM("status", transitions=[("a", "b")], initial=["a"], level=level))
    class Article(base):  # type: ignore[misc, valid-type]
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        status: Mapped[str]

    create_all()
    with history.context(pg_session, user=7):
        assert attempt(insert(Article).values(id=1, status="b")) is TransitionError
        assert attempt(insert(Article).values(id=1, status="a")) is None
        assert attempt(update(Article).values(status="c")) is TransitionError
        assert attempt(update(Article).values(status="b")) is None
        assert attempt(update(Article).values(status="a")) is TransitionError
    assert recorded(Article, "status") == [
        ("snapshot", "I", "a", {"user": 7}),
        ("snapshot", "U", "b", {"user": 7}),
        ("b", "U", "b", {"user": 7}),
    ]


def test_generated_state_is_looked_at_after_the_change(
    base: type[DeclarativeBase], create_all: CreateAll, attempt: Attempt
) -> None:
    open_until = Computed("CASE WHEN done < 9 THEN 'open' END", persisted=True)
    table = Table(
        "task",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("done", Integer),
        Column("state", Text, open_until),
    )
    machine = FSM(
        "state", transitions=[("open", None)], initial=["open"], level="statement"
    )
    attach(machine)(table)
    create_all()
    assert attempt(insert(table).values(id=1, done=9)) is TransitionError
    assert attempt(insert(table).values(id=1, done=0)) is None
    assert attempt(update(table).values(done=8)) is None
    assert attempt(update(table).values(done=9)) is None
    assert attempt(update(table).values(done=8)) is TransitionError


# Partitions


@pytest.fixture
def job(
    base: type[DeclarativeBase], create_all: CreateAll, pg_session: Session
) -> Callable[..., Any]:
    """Make a table with a part for each place, with these triggers."""

    def make(*triggers: Any) -> Any:
        @attach(*triggers)
        class Job(base):  # type: ignore[misc, valid-type]
            __tablename__ = "job"
            __table_args__ = {"postgresql_partition_by": "LIST (place)"}
            id: Mapped[int] = mapped_column(primary_key=True)
            place: Mapped[str] = mapped_column(primary_key=True)
            state: Mapped[str]

        create_all()
        for place in ("here", "there"):
            part = f"CREATE TABLE {place} PARTITION OF job FOR VALUES IN ('{place}')"
            pg_session.execute(text(part))
        jobs = [Job(id=n, place="here", state="new") for n in (1, 2)]
        pg_session.add_all(jobs)
        pg_session.commit()
        return Job

    return make


def test_row_that_moves_to_another_partition_goes_its_way(
    job: Any, attempt: Attempt, level: str
) -> None:
    model = job(FSM("state", transitions=[("new", "old")], level=level))
    move = update(model).where(model.id == 1)
    assert attempt(move.values(place="there", state="done")) is TransitionError
    assert attempt(move.values(place="there", state="old")) is None
    assert attempt(move.values(place="here", state="new")) is TransitionError
    assert attempt(move.values(place="here")) is None


def test_row_that_moves_to_another_partition_begins_again_at_row_level_only(
    job: Any, attempt: Attempt, level: str
) -> None:
    """For PostgreSQL's row triggers a move is a DELETE and an INSERT."""
    model = job(
        FSM("state", transitions=[("new", "old")], initial=["new"], level=level)
    )
    assert attempt(update(model).values(place="there")) is None
    assert attempt(update(model).values(state="old")) is None
    moved = attempt(update(model).values(place="here"))
    assert moved is (TransitionError if level == "row" else None)
