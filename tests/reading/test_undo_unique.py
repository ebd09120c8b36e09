"""Undo where values have to be unique, and rows handed theirs on or exchanged them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    CheckConstraint,
    Column,
    Date,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import INT4RANGE, ExcludeConstraint
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Session

import sa_history as history
from sa_history import track
from sa_history.exc import ConflictError

from .transactions import commit, rows


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
}
"""What a table has, its rows, and their changes."""


@pytest.mark.parametrize("case", UNIQUE)
def test_rows_get_back_the_unique_values_that_others_have(
    make: Callable[..., Table], pg_session: Session, case: str
) -> None:
    items, inserts, changes = UNIQUE[case]
    table = make(*items())
    changed(pg_session, *inserts)
    is_undone_both_ways(pg_session, table, *changes)


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
    with pytest.raises(IntegrityError, match="already exists"):
        history.undo(pg_session, table, transaction=gone, force=True)
    assert rows(pg_session, table) == [(2, "a")]


def test_values_that_cannot_be_parked_are_a_conflict(
    make: Callable[..., Table], pg_session: Session
) -> None:
    table = make(Column("day", Date, unique=True, nullable=False))
    changed(pg_session, "INSERT INTO thing VALUES (1, '2026-01-01'), (2, '2026-01-02')")
    exchanged = changed(
        pg_session,
        "UPDATE thing SET day = '2027-01-01' WHERE id = 1",
        "UPDATE thing SET day = '2026-01-01' WHERE id = 2",
        "UPDATE thing SET day = '2026-01-02' WHERE id = 1",
    )
    plan = history.undo(pg_session, table, transaction=exchanged, dry_run=True)
    assert [conflict.step.kind for conflict in plan.conflicts] == ["update"] * 2
    with pytest.raises(ConflictError, match="other rows have values"):
        history.undo(pg_session, table, transaction=exchanged)


def test_what_the_database_refuses_is_in_the_plan(
    base: type[DeclarativeBase], make: Callable[..., Table], pg_session: Session
) -> None:
    table = make(Column("a", Integer))
    changed(pg_session, "INSERT INTO thing VALUES (1, 1)")
    second = changed(pg_session, "UPDATE thing SET a = 2")
    changed(pg_session, "ALTER TABLE thing ADD CHECK (a > 1)")
    plan = history.undo(pg_session, table, transaction=second, dry_run=True)
    assert 'violates check constraint "thing_a_check"' in str(plan.conflicts[0])
    assert [*map(str, plan.steps)] == ["update thing (1): a = 1"]
    with pytest.raises(IntegrityError, match="violates check constraint"):
        history.undo(pg_session, table, transaction=second)


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
