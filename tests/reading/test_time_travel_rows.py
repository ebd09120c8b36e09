"""Sessions of ``as_of``: which rows there were, by the events of their table."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    delete,
    event,
    exists,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    mapped_column,
)

import sa_history as history
from sa_history import (
    AfterDelete,
    AfterInsert,
    AfterUpdate,
    Manual,
    Snapshot,
    new,
    track,
)
from sa_history.exc import PastError


def test_a_row_that_changed_its_key_is_found_by_the_key_of_then(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    clock: Callable[[], datetime.datetime],
    level: str,
) -> None:
    seat = Table(
        "seat",
        base.metadata,
        Column("row", String, primary_key=True),
        Column("number", Integer, primary_key=True),
        Column("guest", Text),
    )
    track(level=level)(seat)
    create_all()
    moments = []

    def run(*statements: Any) -> None:
        for statement in statements:
            pg_session.execute(statement)
        pg_session.commit()
        moments.append(
            (clock(), pg_session.execute(select(seat).order_by(*seat.c)).all())
        )
        pg_session.commit()

    run(insert(seat).values(row="a", number=1, guest="x"))
    run(update(seat).values(number=2))
    run(insert(seat).values(row="a", number=1, guest="y"))
    run(delete(seat).where(seat.c.number == 2))
    run(
        update(seat).where(seat.c.number == 1).values(row="b"),
        insert(seat).values(row="a", number=1, guest="z"),
    )
    run(update(seat).values(number=seat.c.number + 1))
    run(delete(seat))
    run(insert(seat).values(row="b", number=2, guest="again"))
    for when, then in moments:
        with history.as_of(pg_session, when) as past:
            assert past.execute(select(seat).order_by(*seat.c)).all() == then
            by_key = [
                row
                for key in itertools.product("ab", range(1, 5))
                for row in past.execute(
                    select(seat).where(seat.c.row == key[0], seat.c.number == key[1])
                )
            ]
            assert by_key == then


def test_rows_may_exchange_their_keys_in_one_statement(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    level: str,
) -> None:
    item = Table(
        "item",
        base.metadata,
        Column("id", Integer),
        Column("name", Text),
    )
    item.append_constraint(
        PrimaryKeyConstraint("id", deferrable=True, initially="DEFERRED")
    )
    track(level=level)(item)
    create_all()
    pg_session.execute(
        insert(item), [{"id": n, "name": name} for n, name in enumerate("abc", 1)]
    )
    pg_session.commit()
    pg_session.execute(update(item).values(id=item.c.id % 3 + 1))
    pg_session.commit()
    pg_session.execute(update(item).values(id=item.c.id + 1))
    pg_session.commit()
    now = pg_session.execute(select(item).order_by(item.c.id)).all()
    last = pg_session.scalars(history.events(item).last()).one()
    with history.as_of(pg_session, last) as past:
        assert past.execute(select(item).order_by(item.c.id)).all() == now


def test_tables_that_are_not_tracked_in_full_are_named(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    def make(name: str, *trackers: Any) -> Table:
        table = Table(
            name,
            base.metadata,
            Column("id", Integer, primary_key=True),
            Column("a", Integer),
        )
        return track(*trackers)(table) if trackers else table

    plain = make("plain")
    no_deletes = make("no_deletes", Snapshot)
    some = make("some", Snapshot(new.a > 1), AfterDelete)
    part = make("part", Snapshot(columns=["id"]), AfterDelete)
    manual = make("manual", Manual("seen"))
    no_key = track()(Table("no_key", base.metadata, Column("a", Integer)))
    old = make("old", AfterInsert, AfterUpdate(row="old"), AfterDelete)
    create_all()
    for seen, words in [
        (plain, "'plain' is not tracked, so its past is not known"),
        (no_deletes, "'no_deletes' do not record every DELETE"),
        (some, "'some' do not record every INSERT, every UPDATE,"),
        (part, "'part' do not record every INSERT, every UPDATE,"),
        (manual, "'manual' do not record every INSERT, every UPDATE, every DELETE"),
        (no_key, "'no_key' do not record a primary key"),
        (old, "'old' do not record every UPDATE"),
    ]:
        with history.as_of(pg_session, transaction=1) as past:
            with pytest.raises(PastError, match=words):
                past.execute(select(seen))
            with pytest.raises(PastError, match=words):
                past.execute(select(literal(1)).where(exists().where(seen.c.a == 1)))
        with history.as_of(pg_session, transaction=1, allow=[seen]) as past:
            assert past.execute(select(seen)).all() == []


def test_a_column_that_is_not_stored_is_null(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @track(exclude=["secret"])
    class User(base):  # type: ignore[misc, valid-type]
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        secret: Mapped[str]

    create_all()
    pg_session.add(User(id=1, name="a", secret="x"))
    pg_session.commit()
    last = pg_session.scalars(User.events.last()).one()
    with history.as_of(pg_session, last) as past:
        user = past.get_one(User, 1)
        assert (user.name, user.secret) == ("a", None)


def test_events_with_a_part_of_the_row_are_passed_over(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    table = Table(
        "thing",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("a", Integer),
        Column("b", Integer),
    )
    track(
        AfterUpdate(columns=["a"], label="a"),
        AfterUpdate(row="old", label="was"),
        Manual("seen", columns=["id"]),
        Snapshot,
        AfterDelete(label="gone", columns=["id"]),
        AfterDelete,
        AfterInsert(new.a > 0, label="positive"),
    )(table)
    create_all()
    pg_session.execute(insert(table).values(id=1, a=1, b=1))
    pg_session.execute(update(table).values(a=2))
    pg_session.execute(insert(table).values(id=2, a=0, b=0))
    pg_session.commit()
    last = pg_session.scalars(history.events(table).last()).one()
    with history.as_of(pg_session, last) as past:
        rows = past.execute(select(table).order_by(table.c.id)).all()
        assert rows == [(1, 2, 1), (2, 0, 0)]
    pg_session.execute(delete(table))
    pg_session.commit()
    last = pg_session.scalars(history.events(table).last()).one()
    with history.as_of(pg_session, last) as past:
        assert past.execute(select(table)).all() == []


def test_rows_from_before_tracking_are_seen_from_their_baseline_on(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_engine: Engine,
    pg_session: Session,
    clock: Callable[[], Any],
) -> None:
    @track(Snapshot, AfterDelete, Manual("seen"))
    class Thing(base):  # type: ignore[misc, valid-type]
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        a: Mapped[int]

    create_all()
    with history.ignore(pg_session, Thing):
        pg_session.add(Thing(id=1, a=1))
        pg_session.commit()
    before = clock()
    history.baseline(pg_engine, Thing)
    after = clock()
    history.create_event(pg_session, pg_session.get_one(Thing, 1), label="seen")
    pg_session.commit()
    pg_session.execute(update(Thing).values(a=2))
    pg_session.commit()
    with history.as_of(pg_session, before) as past:
        assert past.scalars(select(Thing.a)).all() == []
    with history.as_of(pg_session, after) as past:
        assert past.scalars(select(Thing.a)).all() == [1]


@pytest.mark.parametrize(
    ("looks_up", "times"),
    [
        (lambda past, of: past.get_one(of, 1), 1),
        (lambda past, of: past.scalars(select(aliased(of)).filter_by(id=1)), 2),
    ],
    ids=["its newest event", "events, and later ones"],
)
def test_a_row_is_found_by_the_index_of_its_key(
    shop: SimpleNamespace, pg_engine: Engine, looks_up: Any, times: int
) -> None:
    Product = shop.Product
    sent: list[tuple[str, Any]] = []
    with history.as_of(pg_engine, **shop.then) as past:
        connection = past.connection()
        event.listen(
            connection,
            "before_cursor_execute",
            lambda *arguments: sent.append((arguments[2], arguments[3])),
        )
        looks_up(past, Product)
        cursor: Any = connection.connection.cursor()
        cursor.execute("SET LOCAL enable_seqscan = off")
        statement, parameters = sent[-1]
        cursor.execute("EXPLAIN " + statement, parameters)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    # What the index is asked for beside the key depends on PostgreSQL's version.
    conditions = [line for line in plan.splitlines() if "Index Cond: " in line]
    assert sum("(pgh_obj_id = 1)" in line for line in conditions) == times, plan
    assert "Seq Scan" not in plan


def test_a_row_is_found_without_a_look_at_all_events_if_nobody_analysed_them(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_engine: Engine
) -> None:
    """PostgreSQL thinks then that rows of nearly all events got another key."""
    table = Table("t", base.metadata, Column("id", Integer, primary_key=True))
    track()(table)
    create_all()
    with pg_engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO t_event (pgh_op, pgh_label, id, pgh_obj_id)"
                " SELECT 'I', 'snapshot', v, v FROM generate_series(1, 5000) v"
            )
        )
    plans: list[str] = []
    with history.as_of(pg_engine, transaction=2**40) as past:

        @event.listens_for(past.connection(), "before_cursor_execute", retval=True)
        def explained(_: Any, cursor: Any, sql: str, values: Any, *__: Any) -> Any:
            cursor.execute(f"EXPLAIN {sql}", values)
            plans.append("\n".join(line for (line,) in cursor.fetchall()))
            return sql, values

        assert past.execute(select(table).where(table.c.id == 7)).all() == [(7,)]
    assert "ix_t_event_pgh_old_key" in plans[-1], plans[-1]
    assert "Seq Scan" not in plans[-1], plans[-1]


@pytest.mark.parametrize("is_analysed", [False, True])
def test_all_rows_are_cheap_to_the_planner_if_no_row_got_another_key(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_engine: Engine,
    is_analysed: bool,
) -> None:
    """Above a cost, PostgreSQL compiles statements, which takes it seconds.

    It expected to look for another key at each event, and does so at none.
    """
    columns = (Column(f"c{n}", Integer) for n in range(5))
    key = Column("id", Integer, primary_key=True)
    table = Table("t", base.metadata, key, *columns)
    track()(table)
    create_all()
    with pg_engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO t_event (pgh_op, pgh_label, id, pgh_obj_id, c1)"
                " SELECT 'U', 'snapshot', v % 2000, v % 2000, v % 2000"
                " FROM generate_series(1, 20000) v"
            )
        )
        if is_analysed:
            connection.execute(text("ANALYZE t_event"))
    costs: list[float] = []
    other = table.alias("other")
    with history.as_of(pg_engine, transaction=2**40) as past:

        @event.listens_for(past.connection(), "before_cursor_execute", retval=True)
        def explained(_: Any, cursor: Any, sql: str, values: Any, *__: Any) -> Any:
            cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", values)
            costs.append(cursor.fetchone()[0][0]["Plan"]["Total Cost"])
            return sql, values

        assert len(past.execute(select(table)).all()) == 2000
        assert past.scalar(select(func.count()).select_from(table)) == 2000
        joined = select(table, other.c.id).join(other, other.c.c1 == table.c.id)
        assert len(past.execute(joined).all()) == 2000
    assert len(costs) == 3
    assert max(costs) < 50_000, costs  # half of jit_above_cost
