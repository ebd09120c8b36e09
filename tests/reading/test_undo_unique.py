"""Undo where values have to be unique, and rows handed theirs on or exchanged them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    Engine,
    Enum,
    ForeignKey,
    Index,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    SmallInteger,
    String,
    Table,
    Text,
    Time,
    TypeDecorator,
    UniqueConstraint,
    Uuid,
    cast,
    event,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import (
    DATERANGE,
    DOMAIN,
    INET,
    INT4MULTIRANGE,
    INT4RANGE,
    ExcludeConstraint,
)
from sqlalchemy.exc import IntegrityError, InternalError
from sqlalchemy.orm import DeclarativeBase, Session

import sa_history as history
from sa_history import track
from sa_history.exc import ConflictError

from .transactions import commit, rows


class Cents(TypeDecorator[int]):
    """Money as a whole number in Python."""

    impl = Numeric
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else value / 100

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else int(value * 100)


@pytest.fixture
def make(
    base: type[DeclarativeBase], create_all: Callable[[], None]
) -> Callable[..., Table]:
    """Make a tracked table with a key and what is given."""

    def make(*items: Any) -> Table:
        columns = Column("id", Integer, primary_key=True), *items
        table = track()(Table("thing", base.metadata, *columns))
        create_all()
        return table

    return make


def changed(session: Session, *statements: str) -> int:
    return commit(session, *map(text, statements))


def is_undone_both_ways(session: Session, table: Table, *statements: str) -> None:
    """Make changes, undo them, and undo that; each is planned as it is done."""
    before = rows(session, table)
    transaction = changed(session, *statements)
    after = rows(session, table)
    assert after != before
    for expected in (before, after):
        plan = history.undo(session, table, transaction=transaction, dry_run=True)
        assert plan.conflicts == ()
        done = history.undo(session, table, transaction=transaction)
        assert [*map(str, plan.steps)] == [*map(str, done.steps)]
        session.commit()
        assert rows(session, table) == expected
        assert done.transaction is not None
        transaction = done.transaction


UNIQUE: dict[str, tuple[Callable[[], list[Any]], list[str], list[str]]] = {
    "a row is replaced": (
        lambda: [Column("email", Text, unique=True)],
        ["INSERT INTO thing VALUES (1, 'a')"],
        ["DELETE FROM thing", "INSERT INTO thing VALUES (2, 'a')"],
    ),
    "a value is handed on": (
        lambda: [Column("email", Text, unique=True)],
        ["INSERT INTO thing VALUES (1, 'a'), (2, NULL)"],
        [
            "UPDATE thing SET email = NULL WHERE id = 1",
            "UPDATE thing SET email = 'a' WHERE id = 2",
        ],
    ),
    "values are exchanged": (
        lambda: [Column("email", Text, unique=True)],
        ["INSERT INTO thing VALUES (1, 'a'), (2, 'b')"],
        [
            "UPDATE thing SET email = 'c' WHERE id = 1",
            "UPDATE thing SET email = 'a' WHERE id = 2",
            "UPDATE thing SET email = 'b' WHERE id = 1",
        ],
    ),
    "values that are needed are exchanged": (
        lambda: [Column("email", Text, unique=True, nullable=False)],
        ["INSERT INTO thing VALUES (1, 'a'), (2, 'b')"],
        [
            "UPDATE thing SET email = 'c' WHERE id = 1",
            "UPDATE thing SET email = 'a' WHERE id = 2",
            "UPDATE thing SET email = 'b' WHERE id = 1",
        ],
    ),
    "another row becomes the default": (
        lambda: [
            Column("is_default", Integer),
            Index(
                "default_", "is_default", unique=True, postgresql_where="is_default = 1"
            ),
        ],
        ["INSERT INTO thing VALUES (1, 1), (2, 0)"],
        [
            "UPDATE thing SET is_default = 0 WHERE id = 1",
            "UPDATE thing SET is_default = 1 WHERE id = 2",
        ],
    ),
    "values that an expression makes equal": (
        lambda: [
            Column("email", Text),
            Index("lower_", func.lower(text("email")), unique=True),
        ],
        ["INSERT INTO thing VALUES (1, 'a'), (2, 'b'), (3, 'c')"],
        [
            "UPDATE thing SET email = 'x' WHERE id = 1",
            "UPDATE thing SET email = 'A' WHERE id = 3",
            "UPDATE thing SET email = 'C' WHERE id = 2",
        ],
    ),
    "a list goes round": (
        lambda: [
            Column("place", Integer, CheckConstraint("place >= 0"), nullable=False),
            UniqueConstraint("place"),
        ],
        ["INSERT INTO thing SELECT n, n FROM generate_series(0, 20) AS n"],
        [
            "UPDATE thing SET place = place + 100",
            "UPDATE thing SET place = (place - 99) % 21",
        ],
    ),
    "bookings are shifted": (
        lambda: [Column("nights", INT4RANGE), ExcludeConstraint(("nights", "&&"))],
        [
            "INSERT INTO thing SELECT n, int4range(n, n + 2)"
            " FROM generate_series(0, 20, 2) AS n"
        ],
        [
            "UPDATE thing SET nights = int4range(id + 101, id + 103)",
            "UPDATE thing SET nights = int4range(id + 1, id + 3)",
        ],
    ),
    "nights that are needed are exchanged": (
        lambda: [
            Column("nights", INT4RANGE, nullable=False),
            ExcludeConstraint(("nights", "&&")),
        ],
        ["INSERT INTO thing VALUES (1, '[1,3)'), (2, '[3,5)')"],
        [
            "UPDATE thing SET nights = '[8,9)' WHERE id = 1",
            "UPDATE thing SET nights = '[1,3)' WHERE id = 2",
            "UPDATE thing SET nights = '[3,5)' WHERE id = 1",
        ],
    ),
    "a pair is exchanged": (
        lambda: [
            Column("owner", Uuid, nullable=False),
            Column("day", Date, nullable=False),
            UniqueConstraint("owner", "day"),
        ],
        [
            f"INSERT INTO thing VALUES (1, '{'1' * 32}', '2026-01-01'),"
            f" (2, '{'2' * 32}', '2026-01-02')"
        ],
        [
            "UPDATE thing SET day = '2027-01-01' WHERE id = 1",
            f"UPDATE thing SET owner = '{'1' * 32}', day = '2026-01-01' WHERE id = 2",
            f"UPDATE thing SET owner = '{'2' * 32}', day = '2026-01-02' WHERE id = 1",
        ],
    ),
}
"""What a table has, its rows, and their changes."""


@pytest.mark.parametrize("case", ["a row is replaced", "a value is handed on"])
def test_rows_that_handed_on_their_values_are_undone_without_a_trial(
    make: Callable[..., Table], pg_session: Session, pg_engine: Engine, case: str
) -> None:
    """Each trial costs a savepoint, and an error in the log of the server."""
    items, inserts, changes = UNIQUE[case]
    table = make(*items())
    changed(pg_session, *inserts)
    refused: list[Any] = []
    event.listen(pg_engine, "handle_error", refused.append)
    is_undone_both_ways(pg_session, table, *changes)
    assert refused == []


@pytest.mark.usefixtures("undo_way")
@pytest.mark.parametrize("case", UNIQUE)
def test_rows_get_back_the_unique_values_that_others_have(
    make: Callable[..., Table], pg_session: Session, case: str
) -> None:
    items, inserts, changes = UNIQUE[case]
    table = make(*items())
    changed(pg_session, *inserts)
    is_undone_both_ways(pg_session, table, *changes)


@pytest.mark.usefixtures("undo_way")
@pytest.mark.usefixtures("english")
def test_a_value_that_another_row_took_since_is_a_conflict(
    make: Callable[..., Table], pg_session: Session
) -> None:
    table = make(Column("email", Text, unique=True))
    changed(pg_session, "INSERT INTO thing VALUES (1, 'a')")
    gone = changed(pg_session, "DELETE FROM thing")
    changed(pg_session, "INSERT INTO thing VALUES (2, 'a')")
    plan = history.undo(pg_session, table, transaction=gone, dry_run=True)
    (conflict,) = plan.conflicts
    assert str(conflict).startswith("thing (1,) is refused: ")
    assert "(email)=(a) already exists" in str(conflict)
    with pytest.raises(ConflictError, match="other rows have values that .* unique"):
        history.undo(pg_session, table, transaction=gone)
    with pytest.raises(IntegrityError, match="UniqueViolation"):
        history.undo(pg_session, table, transaction=gone, force=True)
    assert rows(pg_session, table) == [(2, "a")]


LETTERS = Enum("a", "b", "c", "d", native_enum=False)
EXCHANGED: dict[str, tuple[Any, str, str, str]] = {
    "uuid": (Uuid, "1" * 32, "2" * 32, "3" * 32),
    "uuid as text": (Uuid(native_uuid=False), "1" * 32, "2" * 32, "3" * 32),
    "numeric": (Numeric(5, 2), "1.50", "2.00", "9.00"),
    "numeric at its end": (Numeric(3, 2), "1.50", "9.99", "2.00"),
    "decorated numeric": (Cents, "1.50", "2.00", "9.00"),
    "float": (Double, "1.5", "2", "9"),
    "integer at its end": (SmallInteger, "-1", "32767", "9"),
    "date": (Date, "2026-01-01", "2026-01-02", "2027-01-01"),
    "timestamp": (DateTime, "2026-01-01", "2026-01-02", "2027-01-01"),
    "timestamptz": (DateTime(True), "2026-01-01", "2026-01-02", "2027-01-01"),
    "time": (Time, "01:00", "02:00", "09:00"),
    "interval": (Interval, "1 month", "40 days", "1 year"),
    "enum": (Enum("a", "b", "c", "d", name="letter"), "a", "b", "c"),
    "text of some letters": (
        Enum("a", "b", "c", "d", native_enum=False),
        "a",
        "b",
        "c",
    ),
    "bytea": (LargeBinary, "a", "b", "c"),
    "short text": (String(1), "a", "b", "c"),
    "range": (DATERANGE, "[2026-01-01,2026-01-02)", "[2026-01-02,)", "[2020-01-01,)"),
    "multirange": (INT4MULTIRANGE, "{[1,2)}", "{[2,3)}", "{[3,4)}"),
    "domain": (DOMAIN("place", Integer), "1", "2", "3"),
}
"""Types with two values that rows exchange, and one that they have meanwhile."""


@pytest.mark.parametrize("name", EXCHANGED)
def test_values_that_are_needed_are_exchanged_whatever_their_type(
    make: Callable[..., Table], pg_session: Session, name: str
) -> None:
    type_, one, other, meanwhile = EXCHANGED[name]
    table = make(Column("x", type_, unique=True, nullable=False))
    changed(pg_session, f"INSERT INTO thing VALUES (1, '{one}'), (2, '{other}')")
    texts = select(table.c.id, cast(table.c.x, Text)).order_by(table.c.id)
    before = pg_session.execute(texts).all()
    transaction = changed(
        pg_session,
        f"UPDATE thing SET x = '{meanwhile}' WHERE id = 1",
        f"UPDATE thing SET x = '{one}' WHERE id = 2",
        f"UPDATE thing SET x = '{other}' WHERE id = 1",
    )
    after = pg_session.execute(texts).all()
    for expected in (before, after):
        plan = history.undo(pg_session, table, transaction=transaction, dry_run=True)
        assert plan.conflicts == ()
        done = history.undo(pg_session, table, transaction=transaction)
        assert [*map(str, plan.steps)] == [*map(str, done.steps)]
        assert len(done.steps) == 3, "one row has another value for a while"
        pg_session.commit()
        assert pg_session.execute(texts).all() == expected
        assert done.transaction is not None
        transaction = done.transaction


@pytest.mark.parametrize(
    ("type_", "one", "other", "meanwhile"),
    [
        (Date, "2026-01-01", "2026-01-02", "2027-01-01"),
        (INET, "10.0.0.1", "10.0.0.2", "10.0.0.3"),
        (Enum("a", "b", "c", name="letter"), "a", "b", "c"),
    ],
)
@pytest.mark.usefixtures("english")
def test_values_that_cannot_be_parked_are_a_conflict(
    make: Callable[..., Table],
    pg_session: Session,
    type_: Any,
    one: str,
    other: str,
    meanwhile: str,
) -> None:
    table = make(Column("day", type_, unique=True, nullable=False))
    changed(pg_session, f"INSERT INTO thing VALUES (1, '{one}'), (2, '{other}')")
    exchanged = changed(
        pg_session,
        f"UPDATE thing SET day = '{meanwhile}' WHERE id = 1",
        f"UPDATE thing SET day = '{one}' WHERE id = 2",
        f"UPDATE thing SET day = '{other}' WHERE id = 1",
        f"ALTER TABLE thing ADD CHECK (day IN ('{one}', '{other}'))",
    )
    plan = history.undo(pg_session, table, transaction=exchanged, dry_run=True)
    assert [conflict.step.kind for conflict in plan.conflicts] == ["update"] * 2
    assert "already exists" in str(plan.conflicts[0])
    with pytest.raises(ConflictError, match="other rows have values"):
        history.undo(pg_session, table, transaction=exchanged)


@pytest.mark.usefixtures("undo_way")
def test_values_are_exchanged_in_two_tables_that_refer_to_each_other(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    maker = Table(
        "maker",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("code", Uuid, unique=True, nullable=False),
    )
    item = Table(
        "item",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("day", Date, unique=True, nullable=False),
        Column("maker_id", ForeignKey("maker.id"), nullable=False),
    )
    track()(maker)
    track()(item)
    create_all()
    changed(
        pg_session,
        f"INSERT INTO maker VALUES (1, '{'1' * 32}'), (2, '{'2' * 32}')",
        "INSERT INTO item VALUES (1, '2026-01-01', 1), (2, '2026-01-02', 2)",
    )
    before = rows(pg_session, maker, item)
    transaction = changed(
        pg_session,
        f"UPDATE maker SET code = '{'9' * 32}' WHERE id = 1",
        "UPDATE item SET day = '2027-01-01' WHERE id = 1",
        f"INSERT INTO maker VALUES (3, '{'1' * 32}')",
        "UPDATE item SET day = '2026-01-01', maker_id = 3 WHERE id = 2",
        "DELETE FROM maker WHERE id = 2",
        f"UPDATE maker SET code = '{'2' * 32}' WHERE id = 1",
        "UPDATE item SET day = '2026-01-02' WHERE id = 1",
        f"UPDATE maker SET code = '{'4' * 32}' WHERE id = 3",
        f"INSERT INTO maker VALUES (4, '{'1' * 32}')",
    )
    after = rows(pg_session, maker, item)
    for expected in (before, after):
        plan = history.undo(pg_session, base, transaction=transaction, dry_run=True)
        assert plan.conflicts == ()
        done = history.undo(pg_session, base, transaction=transaction)
        pg_session.commit()
        assert rows(pg_session, maker, item) == expected
        assert done.transaction is not None
        transaction = done.transaction


@pytest.mark.usefixtures("english")
def test_the_plan_says_which_value_is_taken_whatever_the_driver(
    make: Callable[..., Table],
    pg_session: Session,
    in_other_session: Callable[[Callable[[Session], Any]], Any],
) -> None:
    table = make(Column("email", Text, unique=True))
    changed(pg_session, "INSERT INTO thing VALUES (1, 'a')")
    gone = changed(pg_session, "DELETE FROM thing")
    changed(pg_session, "INSERT INTO thing VALUES (2, 'a')")

    def planned(session: Session) -> str:
        return str(history.undo(session, table, transaction=gone, dry_run=True))

    assert in_other_session(planned).count("(email)=(a) already exists") == 1


def test_what_the_database_refuses_is_in_the_plan(
    base: type[DeclarativeBase], make: Callable[..., Table], pg_session: Session
) -> None:
    table = make(Column("a", Integer))
    changed(pg_session, "INSERT INTO thing VALUES (1, 1)")
    second = changed(pg_session, "UPDATE thing SET a = 2")
    changed(pg_session, "ALTER TABLE thing ADD CHECK (a > 1)")
    plan = history.undo(pg_session, table, transaction=second, dry_run=True)
    assert "thing_a_check" in str(plan.conflicts[0])
    assert [*map(str, plan.steps)] == ["update thing (1): a = 1"]
    with pytest.raises(IntegrityError, match="CheckViolation"):
        history.undo(pg_session, table, transaction=second)


def test_a_dry_run_uses_up_numbers_of_events_and_writes_none(
    make: Callable[..., Table], pg_session: Session
) -> None:
    table = make(Column("a", Integer))
    changed(pg_session, "INSERT INTO thing VALUES (1, 1)")
    second = changed(pg_session, "UPDATE thing SET a = 2")
    history.undo(pg_session, table, transaction=second, dry_run=True)
    changed(pg_session, "UPDATE thing SET a = 3")
    events = pg_session.scalars(history.events(table).select())
    assert [event.pgh_id for event in events] == [1, 2, 4]


def test_an_undo_needs_a_transaction_for_its_savepoints(
    make: Callable[..., Table], pg_session: Session, pg_engine: Engine
) -> None:
    table = make(Column("a", Integer))
    changed(pg_session, "INSERT INTO thing VALUES (1, 1)")
    second = changed(pg_session, "UPDATE thing SET a = 2")
    engine = pg_engine.execution_options(isolation_level="AUTOCOMMIT")
    for dry_run in (True, False):
        with (
            Session(engine) as session,
            pytest.raises(InternalError, match="SAVEPOINT"),
        ):
            history.undo(session, table, transaction=second, dry_run=dry_run)
    assert rows(pg_session, table) == [(1, 2)]


def test_a_dry_run_locks_no_row_when_it_is_done(
    make: Callable[..., Table], pg_session: Session
) -> None:
    table = make(Column("a", Integer))
    changed(pg_session, "INSERT INTO thing VALUES (1, 1)")
    second = changed(pg_session, "UPDATE thing SET a = 2")
    history.undo(pg_session, table, transaction=second, dry_run=True)
    with Session(pg_session.get_bind()) as other:
        found = other.execute(select(table).with_for_update(nowait=True)).all()
    assert found == [(1, 2)]
