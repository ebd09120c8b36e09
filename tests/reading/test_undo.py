"""All changes of a transaction or a context undone."""

from __future__ import annotations

import asyncio
import datetime
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    Column,
    Integer,
    Interval,
    MetaData,
    Table,
    Text,
    delete,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Session

import sa_history as history
from sa_history import AfterDelete, AfterUpdate, Snapshot, old, track
from sa_history.exc import EventsError, UndoError

from .transactions import commit, rows


def test_a_transaction_is_undone_and_the_undo_as_well(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    Product, base = shop.Product, shop.Product.metadata
    tables = [t.__table__ for t in (shop.Maker, Product, shop.Tag)] + [shop.tagged]
    after = rows(pg_session, *tables)
    (event,) = pg_session.scalars(Product.events.of(4).last())
    transaction = event.pgh_xact_id
    count = len(pg_session.execute(history.AggregateEvent.select(base)).all())
    plan = history.undo(pg_session, base, transaction=transaction, dry_run=True)
    assert sorted(str(plan).splitlines()) == [
        "delete product (4)",
        "insert product (2)",
        "insert tagged (1, 2)",
        "insert tagged (2, 2)",
        "update maker (1): name = 'Ada'",
        "update product (1): price = 5, note = 'n', maker_id = 1",
    ]
    assert (plan.transaction, plan.conflicts) == (None, ())
    assert rows(pg_session, *tables) == after, "a dry run changes nothing"
    assert len(pg_session.execute(history.AggregateEvent.select(base)).all()) == count
    tea = pg_session.get_one(Product, 1)
    done = history.undo(pg_session, base, transaction=event)
    assert tea.price == 5, "objects are loaded again"
    pg_session.commit()
    with history.as_of(pg_session, **shop.then) as past:
        assert rows(pg_session, *tables) == rows(past, *tables)
    recorded = pg_session.execute(
        history.AggregateEvent.select(base, transaction=done.transaction)
    ).all()
    assert {tuple(row.pgh_context["undo"].items()) for row in recorded} == {
        (("transaction", transaction),)
    }
    assert len(recorded) == 6
    history.undo(pg_session, base, transaction=done.transaction)
    pg_session.commit()
    assert rows(pg_session, *tables) == after


@pytest.mark.usefixtures("undo_way")
def test_a_context_is_undone_with_the_contexts_within_it(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    Maker, Product = shop.Maker, shop.Product
    tables = [Maker.__table__, Product.__table__]
    before = rows(pg_session, *tables)
    with history.context(pg_session, user="ada") as context:
        commit(pg_session, update(Product).values(price=0))
        with history.context(pg_session, step="inner"):
            commit(pg_session, insert(Maker).values(id=9, name="x"))
        commit(pg_session, update(Product).values(price=1, maker_id=9))
    (event,) = pg_session.scalars(Product.events.last())
    for what in (context, context.id, event, event.pgh_context):
        done = history.undo(pg_session, Product, Maker, context=what)
        assert rows(pg_session, *tables) == before
        pg_session.flush()
        (row,) = pg_session.execute(
            history.AggregateEvent.select(Maker, newest_first=True, limit=1)
        )
        assert row.pgh_context == {"undo": {"context": str(context.id)}}
        assert row.pgh_xact_id == done.transaction
        pg_session.rollback()


@pytest.mark.usefixtures("undo_way")
def test_columns_that_changed_one_after_the_other_are_all_set_back(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    stay = Table(
        "stay",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("length", Interval),  # which Python does not read exactly
        Column("name", Text),
        Column("beds", ARRAY(Integer)),
    )
    track()(stay)
    create_all()
    days = [datetime.timedelta(number) for number in range(3)]
    before = {"id": 1, "length": days[1], "name": "a", "beds": [1]}
    commit(pg_session, insert(stay).values(before))
    changed = commit(
        pg_session,
        update(stay).values(length=days[2]),
        update(stay).values(name="b"),
        update(stay).values(beds=[2], length=days[0]),
    )
    history.undo(pg_session, stay, transaction=changed)
    assert rows(pg_session, stay) == [tuple(before.values())]


def test_undo_of_a_context_leaves_alone_tables_that_store_none(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    def make(name: str, *trackers: Any, **options: Any) -> Table:
        table = Table(name, base.metadata, Column("id", Integer, primary_key=True))
        return track(*trackers, **options)(table)

    known, unknown = make("known"), make("unknown", context=None)
    inline, part = make("inline", context="inline"), make("part", Snapshot)
    create_all()
    commit(pg_session, insert(part).values(id=1))
    with history.context(pg_session, user=7) as context:
        tables = (known, unknown, inline)
        commit(pg_session, *(insert(table).values(id=1) for table in tables))
    done = history.undo(pg_session, base, context=context)
    steps = sorted(str(step) for step in done.steps)
    assert steps == ["delete inline (1)", "delete known (1)"]
    assert rows(pg_session, known, inline, unknown, part) == [(1,), (1,)]


@pytest.mark.usefixtures("undo_way")
@pytest.mark.parametrize(
    "trackers",
    [
        (Snapshot, AfterUpdate, AfterDelete, AfterDelete(label="gone")),
        (Snapshot, AfterDelete(columns=["id"], label="key"), AfterDelete),
        (Snapshot, AfterDelete(old.line == "a", label="a"), AfterDelete),
    ],
    ids=["twice", "a part first", "some first"],
)
def test_a_change_that_several_trackers_record_is_undone_once(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    level: str,
    trackers: tuple[Any, ...],
) -> None:
    columns = Column("id", Integer, primary_key=True), Column("line", Text)
    log = track(*trackers, level=level)(Table("log", base.metadata, *columns))
    create_all()
    commit(pg_session, insert(log).values([(1, "a"), (2, "b")]))
    before = rows(pg_session, log)
    rekeyed = update(log).values(id=log.c.id + 10)
    changed_line = update(log).values(line="c")
    for change in (rekeyed, changed_line, delete(log), text("TRUNCATE log")):
        changed = commit(pg_session, change)
        done = history.undo(pg_session, log, transaction=changed)
        assert len(done.steps) == 2
        pg_session.commit()
        assert rows(pg_session, log) == before


def test_rows_inserted_and_deleted_in_one_transaction_need_no_undo(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    Tag = shop.Tag
    before = rows(pg_session, Tag.__table__)
    both = commit(
        pg_session,
        insert(Tag).values(id=3, word="new"),
        delete(Tag).where(Tag.id == 3),
    )
    plan = history.undo(pg_session, Tag, transaction=both)
    assert (str(plan), plan.steps) == ("nothing to undo", ())
    assert rows(pg_session, Tag.__table__) == before


@pytest.mark.usefixtures("undo_way")
def test_a_truncation_is_undone(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    columns = Column("id", Integer, primary_key=True), Column("line", Text)
    log = track()(Table("log", base.metadata, *columns))
    create_all()
    commit(pg_session, insert(log).values([(1, "a"), (2, "b")]))
    before = rows(pg_session, log)
    gone = commit(pg_session, text("TRUNCATE log"))
    history.undo(pg_session, log, transaction=gone)
    assert rows(pg_session, log) == before


@pytest.fixture
def whole_and_part(
    base: type[DeclarativeBase], create_all: Callable[[], None]
) -> tuple[Table, Table]:
    """A table that is tracked in full, and one whose events lack deletions."""

    def make(name: str, *trackers: Any) -> Table:
        columns = Column("id", Integer, primary_key=True), Column("a", Integer)
        return track(*trackers)(Table(name, base.metadata, *columns))

    tables = make("whole"), make("part", Snapshot)
    create_all()
    return tables


def test_a_change_of_a_table_that_is_not_tracked_in_full_is_not_undone(
    base: type[DeclarativeBase],
    pg_session: Session,
    whole_and_part: tuple[Table, Table],
) -> None:
    whole, part = whole_and_part
    with history.ignore(pg_session, whole):
        commit(pg_session, insert(whole).values(id=1, a=1))
    both = commit(pg_session, insert(whole).values(id=2), insert(part).values(id=1))
    with pytest.raises(UndoError, match="'part' was changed as well, .* every DELETE"):
        history.undo(pg_session, base, transaction=both)
    history.undo(pg_session, whole, transaction=both)
    assert rows(pg_session, whole) == [(1, 1)]


@pytest.mark.usefixtures("undo_way")
def test_a_change_of_a_row_without_an_earlier_event_is_not_undone(
    base: type[DeclarativeBase],
    pg_session: Session,
    whole_and_part: tuple[Table, Table],
) -> None:
    whole, _ = whole_and_part
    with history.ignore(pg_session, whole):
        commit(pg_session, insert(whole).values(id=1, a=1))
    unknown = commit(pg_session, update(whole).values(a=2))
    with pytest.raises(UndoError, match=r"no event tells what whole \(1,\) was before"):
        history.undo(pg_session, base, transaction=unknown)


def test_a_transaction_without_events_leaves_nothing_to_undo(
    pg_session: Session, whole_and_part: tuple[Table, Table]
) -> None:
    nothing = history.undo(pg_session, whole_and_part[0], transaction=1)
    assert (str(nothing), nothing.steps) == ("nothing to undo", ())


def test_undo_takes_targets_and_either_a_transaction_or_a_context(
    pg_session: Session, whole_and_part: tuple[Table, Table]
) -> None:
    for arguments, words in [
        ({}, "transaction=... or context=..., one of them"),
        ({"transaction": 1, "context": 2}, "one of them"),
    ]:
        with pytest.raises(UndoError, match=words):
            history.undo(pg_session, whole_and_part[0], **arguments)
    with pytest.raises(UndoError, match="needs to know whose rows to undo"):
        history.undo(pg_session, transaction=1)


def test_an_event_without_a_context_names_none(
    pg_session: Session, base: type[DeclarativeBase], create_all: Callable[[], None]
) -> None:
    """Also where events may have been removed, as far as a context tells."""
    tables = [
        Table(name, base.metadata, Column("id", Integer, primary_key=True))
        for name in ("outside", "unknown", "parted")
    ]
    track()(tables[0])
    track(context=None)(tables[1])
    track(partition_by="month")(tables[2])
    create_all()
    for table in tables:
        pg_session.execute(insert(table).values(id=1))
    pg_session.commit()
    for table in tables:
        (event,) = pg_session.scalars(history.events(table).select())
        with pytest.raises(UndoError, match="made outside of a context, or"):
            history.undo(pg_session, base, context=event)


def test_progress_is_a_function(
    pg_session: Session, whole_and_part: tuple[Table, Table]
) -> None:
    progress: Any = 5
    with pytest.raises(UndoError, match="progress is called with numbers.*, got 5"):
        history.undo(pg_session, whole_and_part[0], transaction=1, progress=progress)


def test_undo_takes_models_and_no_single_rows(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    """Changes of other rows of the transaction would be undone with one row."""
    Product = shop.Product
    event = pg_session.scalars(Product.events.last()).one()
    tea = pg_session.get_one(Product, 1)
    for wrong in ("Product", 7, None, tea, (Product, 1), [Product]):
        with pytest.raises(UndoError, match="undo takes a declarative base.* got"):
            history.undo(pg_session, wrong, transaction=event)


def test_what_is_no_session_is_refused(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    event = pg_session.scalars(shop.Product.events.last()).one()
    tea = pg_session.get_one(shop.Product, 1)
    for wrong in ("session", pg_session.get_bind(), pg_session.connection()):
        with pytest.raises(UndoError, match="undo takes a session, got"):
            history.undo(wrong, shop.Product, transaction=event)
        with pytest.raises(EventsError, match="revert takes a session, got"):
            event.revert(wrong)
        with pytest.raises(EventsError, match="create_event takes a session, got"):
            history.create_event(wrong, tea, label="reviewed")


def test_async_sessions_revert_and_undo(
    shop: SimpleNamespace, pg_async_engine: AsyncEngine
) -> None:
    Product = shop.Product

    async def main() -> list[Any]:
        async with AsyncSession(pg_async_engine) as session:
            first = (await session.scalars(Product.events.of(1).first())).one()
            tea = await first.revert(session, columns=["price"])
            found = [tea.price]
            await session.rollback()
            last = (await session.scalars(Product.events.of(4).last())).one()
            base = Product.metadata
            await history.undo(session, base, transaction=last)
            found += list(
                await session.scalars(select(Product.name).order_by(Product.id))
            )
            return found

    assert asyncio.run(main()) == [5, "Tea", "Cup", "Pot"]


def test_the_events_of_a_transaction_are_found_by_their_index(
    shop: SimpleNamespace, pg_session: Session, statements: list[tuple[str, Any]]
) -> None:
    Product = shop.Product
    commit(
        pg_session,
        *(
            insert(Product).values(
                [{"id": n * 100 + m, "name": "x", "price": 1} for m in range(100)]
            )
            for n in range(1, 11)
        ),
    )
    number = commit(pg_session, update(Product).where(Product.id == 1).values(price=2))
    commit(pg_session, text("ANALYZE product_event"))
    statements.clear()
    history.undo(pg_session, Product, transaction=number, dry_run=True)
    (statement, parameters) = next(s for s in statements if "LATERAL" in s[0])
    cursor: Any = pg_session.connection().connection.cursor()
    cursor.execute("EXPLAIN " + statement, parameters)
    plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "ix_product_event_pgh_xact_id" in plan, plan
    assert "ix_product_event_pgh_obj_id" in plan
    assert "Seq Scan" not in plan


def test_the_tables_that_were_not_changed_are_looked_for_by_one_statement(
    pg_session: Session, statements: list[tuple[str, Any]]
) -> None:
    class Base(DeclarativeBase):
        pass

    tables = [
        Table(f"t{n}", Base.metadata, Column("id", Integer, primary_key=True))
        for n in range(20)
    ]
    for number, table in enumerate(tables):
        # One of them has a history that cannot be undone, and no event.
        trackers = [AfterUpdate] if number == 7 else []
        track(*trackers, partition_by="month" if number in (8, 9) else None)(table)
    Base.metadata.create_all(pg_session.connection())
    commit(pg_session, insert(tables[3]).values(id=1))
    (event,) = pg_session.scalars(history.events(tables[3]).select())
    statements.clear()
    done = history.undo(pg_session, Base, transaction=event, dry_run=True)
    assert list(map(str, done.steps)) == ["delete t3 (1)"]
    others = [f"t{n}_event" for n in range(20) if n != 3]
    about_others = [sql for sql, _ in statements if any(n in sql for n in others)]
    assert len(about_others) == 1
    about_removed = [sql for sql, _ in statements if "pg_partition_tree" in sql]
    assert len(about_removed) == 1


def test_nothing_is_undone_where_nothing_is_tracked(pg_session: Session) -> None:
    assert str(history.undo(pg_session, MetaData(), transaction=1)) == "nothing to undo"


@pytest.mark.parametrize("number", ["5", 5.5, True, [5]])
def test_a_transaction_that_is_no_number_is_refused(
    shop: SimpleNamespace, pg_session: Session, number: Any
) -> None:
    told = f"transaction is the number .*, got {re.escape(repr(number))}; give an int"
    with pytest.raises(UndoError, match=told):
        history.undo(pg_session, shop.Maker, transaction=number)
    with pytest.raises(EventsError, match=told):
        history.AggregateEvent.select(shop.Maker, transaction=number)


def test_a_context_that_is_no_id_is_refused(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    with pytest.raises(UndoError, match="its id as a UUID, or an event of it, got '5'"):
        history.undo(pg_session, shop.Maker, context="5")  # type: ignore[call-overload]
