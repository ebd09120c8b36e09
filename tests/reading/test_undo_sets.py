"""Undo of many rows, by one statement for each kind of change of each table."""

from __future__ import annotations

import itertools
import tracemalloc
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Computed,
    Engine,
    ForeignKey,
    Identity,
    Integer,
    MetaData,
    Numeric,
    Table,
    Text,
    Uuid,
    cast,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import SoftDelete, Versioned, attach, track
from sa_history.exc import ConflictError, UndoError
from sa_history.install import install
from sa_history.writing.undo_steps import StoredSteps

from .transactions import commit, rows

InSession = Callable[[Callable[[Session], Any]], Any]


@pytest.fixture
def goods(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> SimpleNamespace:
    """A hundred and fifty makers, each with two wares."""

    @track()
    class Maker(base):  # type: ignore[misc, valid-type]
        __tablename__ = "maker"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    @track()
    class Ware(base):  # type: ignore[misc, valid-type]
        __tablename__ = "ware"
        id: Mapped[int] = mapped_column(primary_key=True)
        maker_id: Mapped[int] = mapped_column(
            ForeignKey("maker.id", ondelete="CASCADE")
        )
        price: Mapped[int]
        note: Mapped[str | None]

    create_all()
    made = commit(
        pg_session,
        text("INSERT INTO maker SELECT n, 'm' FROM generate_series(1, 150) n"),
        text(
            "INSERT INTO ware SELECT n, (n + 1) / 2, n, 'new'"
            " FROM generate_series(1, 300) n"
        ),
    )
    tables = [Maker.__table__, Ware.__table__]
    return SimpleNamespace(Maker=Maker, Ware=Ware, base=base, tables=tables, made=made)


CHANGES = {
    "an update of two tables": (
        ["UPDATE maker SET name = 'x'", "UPDATE ware SET price = 0, note = NULL"],
        [
            "update maker (150 rows): name",
            "update ware (300 rows): price, note",
        ],
    ),
    "a deletion with a cascade": (
        ["DELETE FROM maker WHERE id > 20"],
        ["insert maker (130 rows)", "insert ware (260 rows)"],
    ),
    "an insertion into two tables": (
        [
            "INSERT INTO maker SELECT n, 'm' FROM generate_series(201, 350) n",
            "INSERT INTO ware SELECT n, n, 0, NULL FROM generate_series(301, 350) n",
        ],
        ["delete ware (50 rows)", "delete maker (150 rows)"],
    ),
    "all at once": (
        [
            "INSERT INTO maker SELECT n, 'm' FROM generate_series(201, 350) n",
            "INSERT INTO ware SELECT n, n, 0, NULL FROM generate_series(301, 350) n",
            "DELETE FROM maker WHERE id <= 20",
            "UPDATE ware SET maker_id = 201 WHERE maker_id = 30",
            "UPDATE ware SET note = 'y', price = 7 WHERE id % 2 = 0",
            "UPDATE ware SET price = 8 WHERE id = 100",
            "DELETE FROM ware WHERE id > 340",
        ],
        [
            "insert maker (20 rows)",
            "delete ware (40 rows)",
            "update ware (1 rows): maker_id",
            "update ware (1 rows): maker_id, price, note",
            "update ware (129 rows): price, note",
            "delete maker (150 rows)",
            "insert ware (40 rows)",
        ],
    ),
    "a truncation": (
        ["TRUNCATE ware"],
        ["insert ware (300 rows)"],
    ),
}
"""Statements, with what their undo consists of."""


@pytest.mark.parametrize("case", CHANGES)
def test_many_rows_are_undone_by_few_statements_and_the_undo_as_well(
    goods: SimpleNamespace, pg_session: Session, case: str
) -> None:
    statements, summary = CHANGES[case]
    before = rows(pg_session, *goods.tables)
    transaction = commit(pg_session, *map(text, statements))
    after = rows(pg_session, *goods.tables)
    assert after != before
    plan = history.undo(pg_session, goods.base, transaction=transaction, dry_run=True)
    assert sorted(str(plan).splitlines()) == sorted(summary)
    assert (plan.transaction, plan.conflicts) == (None, ())
    assert rows(pg_session, *goods.tables) == after, "a dry run changes nothing"
    for expected in (before, after):
        done = history.undo(pg_session, goods.base, transaction=transaction)
        pg_session.commit()
        assert rows(pg_session, *goods.tables) == expected
        (recorded,) = {
            tuple(row.pgh_context["undo"].items())
            for row in pg_session.execute(
                history.AggregateEvent.select(goods.base, transaction=done.transaction)
            )
        }
        assert recorded == ("transaction", transaction) or recorded == (
            ("transaction", transaction),
        )
        assert done.transaction is not None
        transaction = done.transaction


@pytest.mark.parametrize("case", CHANGES)
def test_the_steps_of_many_rows_are_those_of_single_rows(
    goods: SimpleNamespace,
    pg_session: Session,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
) -> None:
    transaction = commit(pg_session, *map(text, CHANGES[case][0]))
    plan = history.undo(pg_session, goods.base, transaction=transaction, dry_run=True)
    done = history.undo(pg_session, goods.base, transaction=transaction)
    monkeypatch.setattr("sa_history.writing.undo.ROW_BY_ROW", 1_000_000)
    pg_session.rollback()
    single = history.undo(pg_session, goods.base, transaction=transaction, dry_run=True)
    assert isinstance(single.steps, tuple)
    for many in (plan, done):
        assert len(many.steps) == len(single.steps)
        assert sorted(map(str, many.steps)) == sorted(map(str, single.steps))
        assert many.counts == single.counts
        assert sum(many.counts.values()) == len(many.steps)


def test_steps_are_read_as_they_are_asked_for(
    goods: SimpleNamespace, pg_session: Session, statements: list[tuple[str, Any]]
) -> None:
    transaction = commit(pg_session, *map(text, CHANGES["an update of two tables"][0]))
    steps = history.undo(pg_session, goods.base, transaction=transaction).steps
    pg_session.commit()
    statements.clear()
    assert (len(steps), repr(steps)) == (450, "<450 steps>")
    assert statements == []
    assert len(list(itertools.islice(steps, 2))) == 2
    assert len(statements) == 1
    every = list(steps)
    assert [*map(str, steps[3:7])] == [*map(str, every[3:7])]
    assert [*map(str, steps[5:1:-2])] == [*map(str, every[5:1:-2])]
    assert str(steps[-1]) == str(every[-1])
    assert str(steps[0]) == str(every[0])
    with pytest.raises(IndexError):
        steps[450]
    first = every[0]
    assert (first.table.name, first.kind, first.key) == ("maker", "update", (1,))
    assert dict(first.values) == {"name": "m"}


@pytest.mark.parametrize("limit", [100, 1_000])
def test_few_rows_are_undone_one_by_one_and_many_by_a_fixed_number_of_statements(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    statements: list[tuple[str, Any]],
    limit: int,
) -> None:
    columns = Column("id", Integer, primary_key=True), Column("a", Integer)
    item = track()(Table("item", base.metadata, *columns))
    create_all()
    numbers = []
    for number in (limit, 2 * limit):
        inserted = f"SELECT n, 1 FROM generate_series(1, {number}) n"
        commit(pg_session, text("TRUNCATE item"), text(f"INSERT INTO item {inserted}"))
        changed = commit(pg_session, update(item).values(a=2))
        statements.clear()
        done = history.undo(pg_session, item, transaction=changed)
        assert len(done.steps) == number
        numbers.append(len(statements))
        pg_session.rollback()
    if limit == 100:
        assert isinstance(done.steps, StoredSteps)
        assert numbers[0] > 200 > numbers[1]
    else:
        assert numbers[0] == numbers[1] < 15


def test_objects_are_loaded_again_after_many_rows_were_undone(
    goods: SimpleNamespace, pg_session: Session
) -> None:
    ware = pg_session.get_one(goods.Ware, 7)
    assert ware.price == 7
    transaction = commit(pg_session, update(goods.Ware).values(price=0))
    assert ware.price == 0
    history.undo(pg_session, goods.base, transaction=transaction)
    assert ware.price == 7


def test_many_rows_are_undone_in_any_session(
    goods: SimpleNamespace, pg_session: Session, in_session: InSession
) -> None:
    transaction = commit(pg_session, *map(text, CHANGES["all at once"][0]))

    def undo(session: Session) -> Any:
        planned = history.undo(
            session, goods.base, transaction=transaction, dry_run=True
        )
        steps = sorted(map(str, planned.steps))
        history.undo(session, goods.base, transaction=transaction)
        return steps, rows(session, *goods.tables)

    steps, found = in_session(undo)
    assert (len(steps), len(found)) == (381, 450)


def test_many_rows_are_undone_with_other_drivers(
    goods: SimpleNamespace, pg_session: Session, in_other_session: InSession
) -> None:
    transaction = commit(pg_session, *map(text, CHANGES["all at once"][0]))
    commit(pg_session, text("UPDATE ware SET price = 9 WHERE id IN (100, 102)"))

    def undo(session: Session) -> Any:
        plan = history.undo(session, goods.base, transaction=transaction, dry_run=True)
        return sorted(map(str, plan.conflicts)), len([*plan.steps])

    assert in_other_session(undo) == (
        [
            "ware (100,) has changed: price is 9 and was 8",
            "ware (102,) has changed: price is 9 and was 7",
        ],
        381,
    )


def test_many_rows_of_one_that_has_changed_since_are_not_undone(
    goods: SimpleNamespace, pg_session: Session, statements: list[tuple[str, Any]]
) -> None:
    transaction = commit(pg_session, *map(text, CHANGES["an update of two tables"][0]))
    commit(pg_session, text("UPDATE ware SET price = 5 WHERE id = 77"))
    after = rows(pg_session, *goods.tables)
    words = r"again: ware \(77,\) has changed: price is 5 and was 0; give force=True"
    statements.clear()
    with pytest.raises(ConflictError, match=words):
        history.undo(pg_session, goods.base, transaction=transaction)
    assert len(statements) < 25
    assert rows(pg_session, *goods.tables) == after
    plan = history.undo(pg_session, goods.base, transaction=transaction, dry_run=True)
    (conflict,) = plan.conflicts
    assert (conflict.step.key, conflict.step.values["price"]) == ((77,), 77)
    assert str(plan).splitlines() == [
        "update maker (150 rows): name",
        "update ware (300 rows): price, note",
        "conflict: ware (77,) has changed: price is 5 and was 0",
    ]
    forced = history.undo(pg_session, goods.base, transaction=transaction, force=True)
    assert [*map(str, forced.conflicts)] == [str(conflict)]
    assert rows(pg_session, goods.tables[1])[76] == (77, 39, 77, "new")


SINCE = {
    "a row is gone": (
        "an update of two tables",
        "DELETE FROM ware WHERE id IN (3, 4)",
        ["ware (3,) is gone", "ware (4,) is gone"],
    ),
    "a row is there again": (
        "a deletion with a cascade",
        "INSERT INTO maker VALUES (21, 'z')",
        ["maker (21,) is there again"],
    ),
    "an inserted row has changed": (
        "an insertion into two tables",
        "UPDATE ware SET note = 'seen' WHERE id = 301",
        ["ware (301,) has changed: note is 'seen' and was None"],
    ),
    "an inserted row is referred to": (
        "an insertion into two tables",
        "INSERT INTO ware VALUES (900, 203, 0, NULL)",
        ["maker (203,) is referred to by ware (900,)"],
    ),
    "a row that is needed is gone": (
        "a truncation",
        "DELETE FROM maker WHERE id = 9",
        [f"ware ({n},) needs maker (9,), which is gone" for n in (17, 18)],
    ),
}
"""What is undone, what has happened since, and the conflicts."""


@pytest.mark.parametrize("case", SINCE)
def test_conflicts_of_many_rows_are_found_and_named(
    goods: SimpleNamespace, pg_session: Session, case: str
) -> None:
    changes, since, conflicts = SINCE[case]
    transaction = commit(pg_session, *map(text, CHANGES[changes][0]))
    commit(pg_session, text(since))
    after = rows(pg_session, *goods.tables)
    plan = history.undo(pg_session, goods.base, transaction=transaction, dry_run=True)
    assert [*map(str, plan.conflicts)] == conflicts
    with pytest.raises(ConflictError, match="nothing is undone") as refusal:
        history.undo(pg_session, goods.base, transaction=transaction)
    assert "; ".join(conflicts) in str(refusal.value)
    assert rows(pg_session, *goods.tables) == after


def test_conflicts_of_single_rows_and_of_many_are_told_together(
    goods: SimpleNamespace, pg_session: Session
) -> None:

    def make(name: str) -> Table:
        columns = Column("id", Integer, primary_key=True), Column("a", Integer)
        return track()(Table(name, goods.base.metadata, *columns))

    other, third = make("other"), make("third")
    goods.base.metadata.create_all(pg_session.connection())
    commit(pg_session, insert(other).values(id=1, a=1))
    series = "SELECT n, 1 FROM generate_series(1, 200) n"
    commit(pg_session, text(f"INSERT INTO third {series}"))
    transaction = commit(
        pg_session,
        *map(text, CHANGES["an update of two tables"][0]),
        update(other).values(a=2),
        update(third).values(a=2),
    )
    commit(pg_session, update(other).values(a=3))
    commit(pg_session, text("UPDATE ware SET price = 5 WHERE id = 77"))
    plan = history.undo(pg_session, goods.base, transaction=transaction, dry_run=True)
    assert [*map(str, plan.conflicts)] == [
        "other (1,) has changed: a is 3 and was 2",
        "ware (77,) has changed: price is 5 and was 0",
    ]
    assert plan.counts == {
        ("maker", "update"): 150,
        ("ware", "update"): 300,
        ("third", "update"): 200,
        ("other", "update"): 1,
    }
    commit(pg_session, update(other).values(a=2))
    commit(pg_session, text("UPDATE ware SET price = 0 WHERE id = 77"))
    done = history.undo(pg_session, goods.base, transaction=transaction)
    assert done.counts == plan.counts
    assert rows(pg_session, other) == [(1, 1)]
    assert str(list(done.steps)[-1]) == "update other (1): a = 1"


def test_progress_is_told_while_many_rows_are_undone(
    goods: SimpleNamespace, pg_session: Session, undo_row_by_row: None
) -> None:
    transaction = commit(pg_session, update(goods.Ware).values(price=0))
    for dry_run in (True, False):
        told: list[int] = []
        history.undo(
            pg_session,
            goods.base,
            transaction=transaction,
            progress=told.append,
            dry_run=dry_run,
        )
        assert told == [300]
    history.undo(pg_session, goods.base, transaction=transaction, force=True)


@pytest.mark.full
def test_progress_is_told_after_each_statement_or_after_so_many_rows(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def make(name: str) -> Table:
        columns = Column("id", Integer, primary_key=True), Column("a", Integer)
        return track()(Table(name, base.metadata, *columns))

    tables = make("one"), make("two")
    create_all()
    series = "SELECT n, 1 FROM generate_series(1, 120) n"
    commit(pg_session, *(text(f"INSERT INTO {t.name} {series}") for t in tables))
    changed = commit(pg_session, *(update(table).values(a=2) for table in tables))
    monkeypatch.setattr("sa_history.writing.undo_run._REPORTED", 100)
    for limit, expected in ((100, [120, 240]), (10_000, [100, 200, 240])):
        monkeypatch.setattr("sa_history.writing.undo.ROW_BY_ROW", limit)
        told: list[int] = []
        history.undo(pg_session, base, transaction=changed, progress=told.append)
        assert told == expected
        pg_session.rollback()


def test_an_undo_of_many_rows_that_is_interrupted_has_done_nothing(
    goods: SimpleNamespace, pg_session: Session
) -> None:
    transaction = commit(pg_session, *map(text, CHANGES["an update of two tables"][0]))
    after = rows(pg_session, *goods.tables)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    for dry_run in (True, False):
        with pytest.raises(KeyboardInterrupt):
            history.undo(
                pg_session,
                goods.base,
                transaction=transaction,
                progress=interrupt,
                dry_run=dry_run,
            )
        assert rows(pg_session, *goods.tables) == after
        pg_session.commit()
    assert rows(pg_session, *goods.tables) == after


def test_an_undo_of_many_rows_that_takes_too_long_is_not_tried_row_by_row(
    goods: SimpleNamespace,
    pg_session: Session,
    pg_engine: Engine,
    statements: list[tuple[str, Any]],
) -> None:
    transaction = commit(pg_session, *map(text, CHANGES["an update of two tables"][0]))
    statements.clear()
    with pg_engine.connect() as holding:
        holding.execute(text("SELECT FROM ware WHERE id = 5 FOR UPDATE"))
        pg_session.execute(text("SET LOCAL lock_timeout = 100"))
        with pytest.raises(OperationalError, match="LockNotAvailable"):
            history.undo(pg_session, goods.base, transaction=transaction)
    assert len(statements) < 20
    pg_session.rollback()
    history.undo(pg_session, goods.base, transaction=transaction)


def test_the_values_of_many_rows_are_not_in_memory(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    columns = Column("id", Integer, primary_key=True), Column("a", Text)
    item = track()(Table("item", base.metadata, *columns))
    create_all()
    word = "SELECT n, repeat(n::text, 300) FROM generate_series(1, 5000) n"
    commit(pg_session, text(f"INSERT INTO item {word}"))
    changed = commit(pg_session, text("UPDATE item SET a = a || '.'"))
    tracemalloc.start()
    try:
        done = history.undo(pg_session, item, transaction=changed)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        assert sum(1 for _ in done.steps) == 5000
        _, reading = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # All values before and after are 12 MB.
    assert peak < 2_000_000
    assert reading < 6_000_000


def test_many_changes_of_the_transaction_itself_are_undone(
    goods: SimpleNamespace, pg_session: Session
) -> None:
    """The undo writes events with the same number."""
    before = rows(pg_session, *goods.tables)
    number = func.pg_current_xact_id().cast(Text)
    with history.context(pg_session, user="ada") as context:
        transaction = int(pg_session.scalars(select(number)).one())
        pg_session.execute(update(goods.Ware).values(price=0))
        pg_session.execute(delete(goods.Ware).where(goods.Ware.id > 250))
        done = history.undo(pg_session, goods.base, transaction=transaction)
        assert is_by_set(done)
        assert len(list(done.steps)) == len(done.steps) == 300
        assert rows(pg_session, *goods.tables) == before
        pg_session.rollback()
        pg_session.execute(update(goods.Ware).values(price=0))
        done = history.undo(pg_session, goods.base, context=context)
        assert is_by_set(done)
    assert rows(pg_session, *goods.tables) == before


def test_many_changes_of_a_context_are_undone_around_those_in_between(
    goods: SimpleNamespace, pg_session: Session
) -> None:
    Ware = goods.Ware
    with history.context(pg_session, user="ada") as context:
        commit(pg_session, update(Ware).values(price=0))
    commit(pg_session, update(Ware).values(note="kept"))
    with history.context(pg_session, user="ada") as later:
        commit(pg_session, update(Ware).values(price=1))
    history.undo(pg_session, Ware, context=later)
    history.undo(pg_session, Ware, context=context)
    found = pg_session.execute(select(Ware.price, Ware.note).order_by(Ware.id))
    assert [*found] == [(n, "kept") for n in range(1, 301)]
    pg_session.rollback()
    with history.context(pg_session, user="eve") as both:
        commit(pg_session, update(Ware).values(price=5))
        with Session(pg_session.get_bind()) as other:
            commit(other, update(Ware).values(note="between"))
        commit(pg_session, update(Ware).values(price=6))
    with pytest.raises(ConflictError, match="price is 6 and was 1"):
        history.undo(pg_session, Ware, context=later)
    history.undo(pg_session, Ware, context=both)
    found = pg_session.execute(select(Ware.price, Ware.note).order_by(Ware.id))
    assert {*found} == {(1, "between")}


@pytest.fixture
def make(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    undo_by_sets: None,
) -> Callable[..., Table]:
    """Make a tracked table with a key and what is given, and rows by SQL."""

    def make(*items: Any, rows: str, **options: Any) -> Table:
        columns = Column("id", Integer, primary_key=True), *items
        table = track(**options)(Table("thing", base.metadata, *columns))
        create_all()
        commit(pg_session, text(f"INSERT INTO thing {rows}"))
        return table

    return make


def is_undone(session: Session, table: Table, *statements: str) -> history.Undo:
    """Make changes, and undo them; return the undo."""
    before = stored(session, table)
    transaction = commit(session, *map(text, statements))
    assert stored(session, table) != before
    plan = history.undo(session, table, transaction=transaction, dry_run=True)
    done = history.undo(session, table, transaction=transaction)
    assert stored(session, table) == before
    assert plan.counts == done.counts
    session.commit()
    return done


def stored(session: Session, table: Table) -> list[Any]:
    """Return the rows as the database has them."""
    rows = select(*(cast(column, Text) for column in table.c)).order_by(*table.c)
    return [tuple(row) for row in session.execute(rows)]


def is_by_set(done: history.Undo) -> bool:
    """Return whether rows were undone by a statement for many."""
    return not isinstance(done.steps, tuple)


def test_rows_with_an_identity_that_is_always_generated_come_back(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    undo_by_sets: None,
) -> None:
    key = Column("id", Integer, Identity(always=True), primary_key=True)
    table = track()(Table("thing", base.metadata, key, Column("a", Integer)))
    create_all()
    commit(pg_session, text("INSERT INTO thing (a) VALUES (5), (6)"))
    assert is_by_set(is_undone(pg_session, table, "DELETE FROM thing"))


def test_columns_that_are_generated_or_not_tracked_are_left_to_the_database(
    make: Callable[..., Table], pg_session: Session
) -> None:
    table = make(
        Column("a", Integer),
        Column("twice", Integer, Computed("a * 2", persisted=True)),
        Column("secret", Text, server_default="none"),
        rows="VALUES (1, 1), (2, 2)",
        exclude=["secret"],
    )
    assert is_by_set(is_undone(pg_session, table, "UPDATE thing SET a = 7"))
    assert is_by_set(is_undone(pg_session, table, "DELETE FROM thing"))


def test_a_table_with_nothing_but_a_key_is_undone(
    make: Callable[..., Table], pg_session: Session
) -> None:
    table = make(rows="VALUES (1), (2)")
    assert is_by_set(is_undone(pg_session, table, "DELETE FROM thing"))
    assert is_by_set(is_undone(pg_session, table, "INSERT INTO thing VALUES (3), (4)"))


def test_changes_that_came_to_nothing_are_no_steps(
    make: Callable[..., Table], pg_session: Session
) -> None:
    table = make(Column("a", Integer), rows="VALUES (1, 1), (2, 2)")
    transaction = commit(
        pg_session,
        text("UPDATE thing SET a = a + 1"),
        text("UPDATE thing SET a = a - 1"),
        text("INSERT INTO thing VALUES (3, 3)"),
        text("DELETE FROM thing WHERE id = 3"),
    )
    done = history.undo(pg_session, table, transaction=transaction)
    assert (str(done), len(done.steps)) == ("nothing to undo", 0)


def test_events_that_are_no_changes_are_nothing_to_undo(
    make: Callable[..., Table], pg_session: Session
) -> None:
    table = make(Column("a", Integer), rows="VALUES (1, 1)")
    with history.ignore(pg_session, table):
        commit(pg_session, text("INSERT INTO thing VALUES (2, 2)"))
    assert history.baseline(pg_session.connection(), table) == 1
    number = commit(pg_session)
    done = history.undo(pg_session, table, transaction=number)
    assert str(done) == "nothing to undo"


def test_rows_are_told_apart_by_what_is_stored(
    make: Callable[..., Table], pg_session: Session
) -> None:
    """One is not true in JSON, and NULL is not null."""
    table = make(Column("a", JSONB), rows="VALUES (1, '1'), (2, 'null'), (3, NULL)")
    done = is_undone(
        pg_session,
        table,
        "UPDATE thing SET a = CASE id WHEN 1 THEN 'true'::jsonb WHEN 3 THEN 'null' END",
    )
    assert is_by_set(done)


ONE_BY_ONE: dict[str, tuple[Callable[[], Column[Any]], list[str]]] = {
    "keys change": (
        lambda: Column("a", Integer),
        ["UPDATE thing SET id = id + 10"],
    ),
    "unique values are exchanged": (
        lambda: Column("a", Integer, unique=True),
        [
            "UPDATE thing SET a = 9 WHERE id = 1",
            "UPDATE thing SET a = 1 WHERE id = 2",
            "UPDATE thing SET a = 2 WHERE id = 1",
        ],
    ),
}
"""What cannot be undone at once: a column, and statements."""


@pytest.mark.parametrize("case", ONE_BY_ONE)
def test_what_cannot_be_undone_at_once_is_undone_row_by_row(
    make: Callable[..., Table], pg_session: Session, case: str
) -> None:
    column, statements = ONE_BY_ONE[case]
    table = make(column(), rows="VALUES (1, 1), (2, 2)")
    assert not is_by_set(is_undone(pg_session, table, *statements))


def test_unique_values_are_left_to_other_rows_before_these_take_them(
    make: Callable[..., Table], pg_session: Session
) -> None:
    table = make(Column("a", Integer, unique=True), rows="VALUES (1, 1), (2, 2)")
    replaced = ["DELETE FROM thing", "INSERT INTO thing VALUES (3, 1), (4, 2)"]
    assert is_by_set(is_undone(pg_session, table, *replaced))
    handed_on = [
        "DELETE FROM thing WHERE id = 1",
        "UPDATE thing SET a = 1 WHERE id = 2",
        "INSERT INTO thing VALUES (3, 2)",
    ]
    assert is_by_set(is_undone(pg_session, table, *handed_on))


def test_rows_that_have_to_be_undone_anew_are_counted_once(
    make: Callable[..., Table], pg_session: Session
) -> None:
    table = make(Column("a", Integer), rows="VALUES (1, 1), (2, 2)")
    track()(
        Table(
            "child",
            table.metadata,
            Column("id", Integer, primary_key=True),
            Column("thing_id", ForeignKey("thing.id")),
            Column("a", Integer, unique=True),
        )
    )
    table.metadata.create_all(pg_session.connection())
    commit(pg_session, text("INSERT INTO child VALUES (1, 1, 1), (2, 2, 2)"))
    changed = commit(
        pg_session,
        text("UPDATE thing SET a = 0"),
        text("UPDATE child SET a = 9 WHERE id = 1"),
        text("UPDATE child SET a = 1 WHERE id = 2"),
    )
    for limit in (0, 1_000_000):
        told: list[int] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sa_history.writing.undo.ROW_BY_ROW", limit)
            done = history.undo(
                pg_session,
                table.metadata,
                transaction=changed,
                progress=told.append,
            )
        assert told == [len(done.steps)] == [4]
        assert not is_by_set(done)
        pg_session.rollback()


def test_a_default_that_is_a_function_is_called_for_each_row_that_comes_back(
    make: Callable[..., Table], pg_session: Session
) -> None:
    token = Column("token", Uuid, default=uuid.uuid4)
    table = make(token, rows="VALUES (1, NULL), (2, NULL)", exclude=["token"])
    gone = commit(pg_session, delete(table))
    assert not is_by_set(history.undo(pg_session, table, transaction=gone))
    assert pg_session.scalar(select(func.count(token.distinct()))) == 2


def test_keys_that_are_equal_and_stored_differently_are_undone_row_by_row(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    undo_by_sets: None,
) -> None:
    key = Column("id", Numeric, primary_key=True)
    table = track()(Table("thing", base.metadata, key, Column("a", Integer)))
    create_all()
    commit(pg_session, text("INSERT INTO thing VALUES (1.0, 1)"))
    changed = commit(
        pg_session, delete(table), text("INSERT INTO thing VALUES (1.00, 1)")
    )
    history.undo(pg_session, table, transaction=changed)
    assert [*map(str, pg_session.scalars(select(table.c.id)))] == ["1.0"]


def test_columns_in_too_many_combinations_are_undone_row_by_row(
    make: Callable[..., Table], pg_session: Session
) -> None:
    names = "abcde"
    table = make(
        *(Column(name, Integer) for name in names),
        rows="SELECT n, 0, 0, 0, 0, 0 FROM generate_series(1, 31) n",
    )
    values = ", ".join(f"{name} = id / {2**n} % 2" for n, name in enumerate(names))
    assert not is_by_set(is_undone(pg_session, table, f"UPDATE thing SET {values}"))
    few = f"UPDATE thing SET {values} WHERE id < 20"
    assert is_by_set(is_undone(pg_session, table, few))


def test_two_tables_that_refer_to_each_other_are_undone_row_by_row(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    undo_by_sets: None,
) -> None:
    one = Table(
        "one",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("other_id", ForeignKey("other.id", use_alter=True, name="back")),
    )
    other = Table(
        "other",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("one_id", ForeignKey("one.id"), nullable=False),
    )
    track()(one)
    track()(other)
    create_all()
    made = commit(
        pg_session,
        text("INSERT INTO one SELECT n FROM generate_series(1, 9) n"),
        text("INSERT INTO other SELECT n, n FROM generate_series(1, 9) n"),
        text("UPDATE one SET other_id = id"),
    )
    full = rows(pg_session, one, other)
    undone = history.undo(pg_session, base, transaction=made)
    assert not is_by_set(undone)
    pg_session.commit()
    assert rows(pg_session, one, other) == []
    history.undo(pg_session, base, transaction=undone.transaction)
    assert rows(pg_session, one, other) == full


def test_a_tree_is_undone_at_once(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    undo_by_sets: None,
) -> None:
    parent: Column[Any] = Column("parent_id", ForeignKey("node.id", ondelete="CASCADE"))
    node = Table(
        "node",
        base.metadata,
        Column("id", Integer, primary_key=True),
        parent,
        Column("name", Text),
    )
    track()(node)
    create_all()
    series = "SELECT n, nullif(n / 2, 0) FROM generate_series(1, 9) n"
    commit(pg_session, text(f"INSERT INTO node {series}"))
    assert is_by_set(is_undone(pg_session, node, "DELETE FROM node WHERE id = 2"))
    more = "INSERT INTO node SELECT n, n / 2 FROM generate_series(10, 40) n"
    moved = "UPDATE node SET parent_id = 30 WHERE id = 9"
    assert is_by_set(is_undone(pg_session, node, more, moved))
    made = commit(pg_session, text(more))
    commit(pg_session, text("INSERT INTO node VALUES (50, 40, 'later')"))
    with pytest.raises(ConflictError, match=r"\(40,\) is referred to by node \(50,"):
        history.undo(pg_session, node, transaction=made)


def test_a_reference_that_is_looked_at_later_is_a_conflict_at_once(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    undo_by_sets: None,
) -> None:
    maker = Table("maker", base.metadata, Column("id", Integer, primary_key=True))
    ware = Table(
        "ware",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column(
            "maker_id", ForeignKey("maker.id", deferrable=True, initially="DEFERRED")
        ),
    )
    track()(maker)
    track()(ware)
    create_all()
    commit(
        pg_session,
        text("INSERT INTO maker VALUES (1), (2)"),
        text("INSERT INTO ware VALUES (1, 1), (2, 2), (3, NULL)"),
    )
    assert is_by_set(is_undone(pg_session, ware, "DELETE FROM ware"))
    gone = commit(pg_session, text("UPDATE ware SET maker_id = 2"))
    commit(pg_session, text("DELETE FROM maker WHERE id = 1"))
    with pytest.raises(ConflictError, match=r"needs maker \(1,\), which is gone"):
        history.undo(pg_session, base, transaction=gone)


def test_what_the_database_refuses_to_many_rows_is_a_conflict_of_one(
    make: Callable[..., Table], pg_session: Session
) -> None:
    table = make(Column("a", Integer), rows="VALUES (1, 1), (2, 2)")
    changed = commit(pg_session, text("UPDATE thing SET a = a + 10"))
    commit(pg_session, text("ALTER TABLE thing ADD CHECK (a > 1)"))
    plan = history.undo(pg_session, table, transaction=changed, dry_run=True)
    assert [conflict.step.key for conflict in plan.conflicts] == [(1,)]
    with pytest.raises(IntegrityError, match="CheckViolation"):
        history.undo(pg_session, table, transaction=changed)
    assert rows(pg_session, table) == [(1, 11), (2, 12)]


def test_rows_that_a_trigger_deletes_softly_are_undone_row_by_row(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    undo_by_sets: None,
) -> None:
    @track()
    @attach(SoftDelete("is_active", value=False))
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        is_active: Mapped[bool] = mapped_column(default=True)

    create_all()
    made = commit(pg_session, insert(Note).values([{"id": 1}, {"id": 2}]))
    done = history.undo(pg_session, Note, transaction=made)
    assert not is_by_set(done)
    assert rows(pg_session, Note.__table__) == [(1, False), (2, False)]


def test_a_row_without_an_earlier_event_is_named(
    make: Callable[..., Table], pg_session: Session
) -> None:
    table = make(Column("a", Integer), rows="VALUES (1, 1)")
    with history.ignore(pg_session, table):
        commit(pg_session, insert(table).values(id=2, a=2))
    changed = commit(pg_session, update(table).values(a=3))
    with pytest.raises(UndoError, match=r"no event tells what thing \(2,\) was before"):
        history.undo(pg_session, table, transaction=changed)


def test_versions_go_on_where_many_rows_are_undone(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    undo_by_sets: None,
) -> None:
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        words: Mapped[int]
        edition: Mapped[int] = mapped_column()
        __mapper_args__ = {"version_id_col": edition}

    track()(Page)
    create_all()
    pages = [Page(id=n, words=1) for n in range(1, 4)]
    pg_session.add_all(pages)
    pg_session.commit()
    for page in pages:
        page.words = 2
    pg_session.commit()
    last = pg_session.scalars(Page.events.of(1).last()).one()
    done = history.undo(pg_session, Page, transaction=last)
    assert str(done) == "update page (3 rows): words, edition = (the next)"
    assert [(p.words, p.edition) for p in pages] == [(1, 3)] * 3
    pg_session.commit()
    gone = commit(pg_session, delete(Page.__table__))
    done = history.undo(pg_session, Page, transaction=gone)
    assert is_by_set(done)
    assert rows(pg_session, Page.__table__) == [(n, 1, 4) for n in range(1, 4)]
    pg_session.commit()
    bumped = commit(
        pg_session,
        update(Page.__table__).values(edition=9),
        update(Page.__table__).where(Page.id > 1).values(words=5),
    )
    done = history.undo(pg_session, Page, transaction=bumped)
    assert not is_by_set(done)
    assert sorted(map(str, done.steps))[0] == "update page (1): edition = (the next)"


def test_rows_come_back_by_sets_with_versions_above_all_that_their_keys_had(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    undo_by_sets: None,
) -> None:
    @track()
    @attach(Versioned("edition"))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        book: Mapped[int] = mapped_column(primary_key=True)
        id: Mapped[int] = mapped_column(primary_key=True)
        words: Mapped[int]
        edition: Mapped[int] = mapped_column(default=1)

    create_all()
    table = Page.__table__
    pages = [{"book": 1, "id": n, "words": n, "edition": 10 * n} for n in (1, 2, 3)]
    commit(pg_session, insert(table).values(pages))
    commit(pg_session, update(table).where(table.c.id == 3).values(words=4))
    commit(pg_session, delete(table))
    again = [{**page, "edition": 2} for page in pages]
    commit(pg_session, insert(table).values(again))
    gone = commit(pg_session, delete(table))
    assert is_by_set(history.undo(pg_session, Page, transaction=gone))
    assert rows(pg_session, table) == [(1, 1, 1, 11), (1, 2, 2, 21), (1, 3, 3, 32)]


@pytest.mark.parametrize("options", [{"exclude": ["edition"]}, {}], ids=["untold", ""])
def test_rows_come_back_one_by_one_where_their_versions_are_not_known_or_may_be_null(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    undo_by_sets: None,
    options: dict[str, Any],
) -> None:
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        edition: Mapped[int | None] = mapped_column()
        __mapper_args__ = {"version_id_col": edition}

    track(**options)(Page)
    create_all()
    commit(pg_session, insert(Page.__table__).values([{"id": 1}, {"id": 2}]))
    gone = commit(pg_session, delete(Page.__table__))
    assert not is_by_set(history.undo(pg_session, Page, transaction=gone))
    assert rows(pg_session, Page.__table__) == [(1, 1), (2, 1)]


def test_a_column_that_was_added_since_is_left_alone_in_many_rows(
    pg_session: Session, undo_by_sets: None
) -> None:
    def define(*more: Column[Any]) -> Table:
        columns = Column("id", Integer, primary_key=True), Column("a", Integer)
        return track()(Table("thing", MetaData(), *columns, *more))

    before = define()
    before.metadata.create_all(pg_session.get_bind())
    commit(pg_session, insert(before).values([(1, 1), (2, 2)]))
    commit(
        pg_session,
        text("ALTER TABLE thing ADD COLUMN b integer DEFAULT 5"),
        text("ALTER TABLE thing_event ADD COLUMN b integer"),
    )
    table = define(Column("b", Integer, server_default="5"))
    install(pg_session.get_bind(), table.metadata)
    done = is_undone(pg_session, table, "UPDATE thing SET a = 0")
    assert str(done) == "update thing (2 rows): a"
    changed = commit(pg_session, text("UPDATE thing SET a = 9"))
    commit(pg_session, text("UPDATE thing SET b = 6"))
    history.undo(pg_session, table, transaction=changed)
    assert rows(pg_session, table) == [(1, 1, 6), (2, 2, 6)]
