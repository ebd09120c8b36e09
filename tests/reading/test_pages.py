"""Pages that are read in two steps: the rows of the one SELECT, for less."""

from __future__ import annotations

import asyncio
import datetime
import random
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Column,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

import sa_history as history
from sa_history import (
    AfterDelete,
    AfterUpdate,
    AggregateEvent,
    Manual,
    Snapshot,
    track,
)
from sa_history.exc import EventsError
from sa_history.tracking.registry import history_of

from .transactions import settle


@pytest.fixture
def farm(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_engine: Engine
) -> SimpleNamespace:
    """Tables of all kinds, with events of all kinds."""
    with pg_engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA field; CREATE SCHEMA log"))

    @track(Snapshot, AfterDelete, AfterUpdate(label="changed"), Manual("seen"))
    class Animal(base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        name: Mapped[str | None] = mapped_column("called")
        mother_id: Mapped[int | None] = mapped_column(ForeignKey("animal.id"))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class Cow(Animal):
        milk: Mapped[int | None] = mapped_column(nullable=True)
        __mapper_args__ = {"polymorphic_identity": "cow"}

    @track()
    class Bull(Animal):
        __tablename__ = "bull"
        id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        weight: Mapped[int]
        __mapper_args__ = {"polymorphic_identity": "bull"}

    @track(context="inline", schema="log")
    class Barn(base):  # type: ignore[misc, valid-type]
        __tablename__ = "barn"
        __table_args__ = {"schema": "field"}
        id: Mapped[int] = mapped_column(primary_key=True)
        event: Mapped[str]
        page: Mapped[Any] = mapped_column(JSON, nullable=True)
        extra: Mapped[Any] = mapped_column(JSONB, nullable=True)

    stall = Table(
        "stall",
        base.metadata,
        Column("barn_id", ForeignKey("field.barn.id"), primary_key=True),
        Column("event", Integer, primary_key=True),
        Column('a "name"\\', Integer, key="odd"),
        Column("animal_id", ForeignKey("animal.id")),
        schema="field",
    )
    track(context=None)(stall)
    noise = track()(Table("noise", base.metadata, Column("text", Text)))
    plain = track()(
        Table(
            "plain",
            base.metadata,
            Column("event", Integer, primary_key=True),
            Column("previous", Text),
        )
    )
    create_all()
    made = SimpleNamespace(**locals())
    dice = random.Random(7)
    with Session(pg_engine) as session:
        for turn in range(12):
            with history.context(session, user=turn % 3, turn={"number": turn}):
                cow = Cow(id=turn * 2, kind="cow", name=f"c{turn}", milk=turn)
                session.add(cow)
                session.add(Bull(id=turn * 2 + 1, kind="bull", weight=turn))
                session.add(Barn(id=turn, event="built", page={"a": turn}))
                session.flush()
                rows: dict[str, Any] = {"barn_id": turn, "event": 1, "odd": turn}
                session.execute(insert(stall).values(**rows, animal_id=turn * 2))
                session.execute(insert(noise).values(text=str(turn)))
                session.execute(insert(plain).values(event=turn, previous=str(turn)))
                cow.name = "renamed"
                history.create_event(session, cow, label="seen")
                session.commit()
            known = dice.randrange(turn + 1)
            session.get_one(Barn, known).event = f"mended {turn}"
            bull = session.get(Bull, known * 2 + 1)
            if bull is not None:
                bull.weight += 1
            session.execute(
                plain.update().where(plain.c.event == known).values(previous=None)
            )
            session.commit()
            if turn % 4 == 3:
                session.delete(session.get_one(Bull, turn * 2 + 1))
                session.commit()
    return made


def same(session: Any, *targets: Any, **arguments: Any) -> list[Any]:
    """Return the rows of a page, which are those of the SELECT."""
    rows: list[Any] = AggregateEvent.page(session, *targets, **arguments)
    selected = session.execute(AggregateEvent.select(*targets, **arguments)).all()
    assert [tuple(row) for row in rows] == [tuple(row) for row in selected]
    assert not rows or rows[0]._fields == selected[0]._fields
    return rows


def test_a_page_has_the_rows_of_the_select(
    farm: SimpleNamespace, base: type[DeclarativeBase], pg_session: Session
) -> None:
    whole = same(pg_session, base)
    assert {row.pgh_obj_model for row in whole} == {
        *("Animal", "Bull", "Barn"),
        *("stall", "noise", "plain"),
    }
    in_context = next(row for row in whole if row.pgh_context is not None)
    dice = random.Random(3)
    targets: list[tuple[Any, ...]] = [
        (base,),
        (farm.Cow,),
        (farm.Bull, farm.stall),
        (pg_session.get_one(farm.Cow, 4), (farm.Barn, 3)),
        ((farm.Animal, select(farm.Animal.id).where(farm.Animal.id < 9)),),
        (farm.plain,),
        ((farm.stall, (2, 1)),),
    ]
    filters: dict[str, list[Any]] = {
        "labels": [["snapshot"], ["snapshot", "delete"], []],
        "since": [whole[9].pgh_created_at],
        "until": [whole[-9].pgh_created_at],
        "transaction": [whole[12].pgh_xact_id, -1],
        "before": [whole[40].pgh_id],
        "context": [in_context.pgh_context_id, {"user": 1}, {"turn": {"number": 2}}],
        "references": [True, 2],
        "across": [[farm.Animal, farm.stall], farm.Barn],
        "newest_first": [True],
        "limit": [1, 7, 50],
    }
    found = 0
    for _ in range(150):
        asked = dice.sample([*filters], dice.randrange(5))
        values = {name: dice.choice(filters[name]) for name in asked}
        chosen = dice.choice(targets)
        if "labels" in values and len(chosen) == 1 and chosen[0] is not base:
            values["labels"] = ["snapshot"]
        try:
            AggregateEvent.select(*chosen, **values)
        except EventsError as error:
            with pytest.raises(EventsError, match=str(error)[:20]):
                AggregateEvent.page(pg_session, *chosen, **values)
            continue
        found += bool(same(pg_session, *chosen, **values))
    assert found


def test_pages_follow_each_other(
    farm: SimpleNamespace, base: type[DeclarativeBase], pg_session: Session
) -> None:
    whole = AggregateEvent.page(pg_session, base, newest_first=True)
    seen: list[Any] = []
    while page := same(
        pg_session,
        base,
        newest_first=True,
        limit=9,
        before=seen[-1].pgh_id if seen else None,
    ):
        seen += page
    assert seen == whole
    assert [row.pgh_id for row in whole] == sorted(
        (row.pgh_id for row in whole), reverse=True
    )


def test_a_page_is_read_by_sessions_of_all_kinds(
    farm: SimpleNamespace,
    base: type[DeclarativeBase],
    pg_session: Session,
    pg_engine: Engine,
    pg_async_engine: AsyncEngine,
) -> None:
    settle(pg_session)
    rows = AggregateEvent.page(pg_session, base, limit=20)
    scoped = scoped_session(sessionmaker(pg_engine))
    assert AggregateEvent.page(scoped, base, limit=20) == rows
    scoped.remove()

    async def main() -> None:
        async with AsyncSession(pg_async_engine) as session:
            assert await AggregateEvent.page(session, base, limit=20) == rows
            feed = await history.feed_page(session, farm.Animal, limit=3)
            assert len(feed) == 3
        maker = async_sessionmaker(pg_async_engine)
        async_scoped = async_scoped_session(maker, asyncio.current_task)
        assert await AggregateEvent.page(async_scoped, base, limit=20) == rows
        await async_scoped.remove()

    asyncio.run(main())


def test_a_page_is_two_statements_whatever_there_are_of_models_and_columns(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_engine: Engine,
    statements: list[tuple[str, Any]],
) -> None:
    tables = [
        track()(
            Table(
                f"t{n}",
                base.metadata,
                Column("id", Integer, primary_key=True),
                *(Column(f"c{m}", Integer) for m in range(30)),
            )
        )
        for n in range(12)
    ]
    create_all()
    with Session(pg_engine) as session:
        assert AggregateEvent.page(session, base, limit=5) == []
        for table in tables:
            session.execute(insert(table).values(id=1, c0=1))
        session.commit()
        statements.clear()
        few = AggregateEvent.page(session, base, limit=2, newest_first=True)
        assert [row.pgh_obj_model for row in few] == ["t11", "t10"]
        keys, details = (sql for sql, _ in statements)
        assert "c7" not in keys
        assert "t0_event" in keys
        assert "t0_event" not in details
        # The columns are in it as a list of names, once for each table.
        assert details.count("c7") == 2
        statements.clear()
        whole = same(session, base)
        assert len(whole) == len(statements[:-1]) * 6 == 12
        assert same(session, base, newest_first=True, limit=2) == few


def test_statements_are_made_once(
    farm: SimpleNamespace,
    base: type[DeclarativeBase],
    pg_session: Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = history_of(base.metadata)
    assert known is not None
    known.statements.clear()
    for number in range(500):
        rows = AggregateEvent.page(pg_session, base, limit=3, before=number)
        assert len(rows) <= 3
    made = len(known.statements)
    assert made < 10
    pages = "sa_history.query.pages._MOST_STATEMENTS"
    monkeypatch.setattr(pages, made + 1)
    for transaction in range(5):
        AggregateEvent.page(pg_session, base, transaction=transaction)
        AggregateEvent.page(pg_session, farm.Barn, transaction=transaction)
        AggregateEvent.page(pg_session, farm.Cow, transaction=transaction)
    same(pg_session, base, limit=5)
    assert len(known.statements) <= made + 1


def test_columns_that_only_the_event_table_has_are_not_shown(
    farm: SimpleNamespace, base: type[DeclarativeBase], pg_session: Session
) -> None:
    before = AggregateEvent.page(pg_session, farm.plain)
    pg_session.execute(
        text('ALTER TABLE plain_event ADD was integer, ADD "b"" \'c" json')
    )
    pg_session.execute(text("UPDATE plain_event SET was = pgh_id"))
    after = same(pg_session, farm.plain)
    assert after == before
    changed = next(row for row in after if row.pgh_diff)
    assert changed.pgh_diff.keys() == {"previous"}
    assert changed.pgh_data.keys() == {"event", "previous"}


def test_a_row_of_more_values_than_one_call_takes_is_shown_whole(
    base: type[DeclarativeBase], pg_session: Session, pg_engine: Engine
) -> None:
    """PostgreSQL's functions take 100 arguments, which are 50 values with their names.

    An attribute with another name than its column keeps the row from being taken whole.
    """
    names = [f"c{number}" for number in range(120)]
    columns = [Column(name, Integer) for name in names]
    key = Column("id", Integer, primary_key=True, key="number")
    wide = track()(Table("wide", base.metadata, key, *columns))
    base.metadata.create_all(pg_engine)
    pg_session.execute(insert(wide).values(number=1, c0=0, c60=60, c119=119))
    pg_session.execute(update(wide).values(c60=61))
    pg_session.commit()
    _, changed = same(pg_session, wide)
    assert changed.pgh_data.keys() == {"number", *names}
    assert changed.pgh_data["c119"] == 119
    assert changed.pgh_diff == {"c60": [60, 61]}


def test_a_subclass_may_add_a_column_after_the_first_page(
    farm: SimpleNamespace, base: type[DeclarativeBase], pg_session: Session
) -> None:
    assert AggregateEvent.page(pg_session, farm.Animal, limit=1)
    AggregateEvent.page(pg_session, base, limit=1)

    class Calf(farm.Animal):  # type: ignore[misc, name-defined]
        age: Mapped[int | None] = mapped_column(nullable=True)
        __mapper_args__ = {"polymorphic_identity": "calf"}

    pg_session.execute(text("ALTER TABLE animal ADD age integer"))
    pg_session.execute(text("ALTER TABLE animal_event ADD age integer"))
    (row,) = same(pg_session, farm.Animal, limit=1)
    assert "age" in row.pgh_data


def test_an_event_table_may_have_the_name_of_what_a_page_is_made_of(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_engine: Engine
) -> None:
    names = ("page", "events", "events_0", "details", "event", "previous")
    tables = [
        track(event_table=name)(
            Table(f"t_{name}", base.metadata, Column("id", Integer, primary_key=True))
        )
        for name in names
    ]
    create_all()
    with Session(pg_engine) as session:
        with history.context(session, user=1):
            for table in tables:
                session.execute(insert(table).values(id=1))
                session.execute(update(table).values(id=2))
            session.commit()
        whole = same(session, base)
        assert [row.pgh_diff for row in whole] == [None, {"id": [1, 2]}] * len(names)
        assert same(session, base, context={"user": 1}, limit=50) == whole
        session.rollback()
        settle(session)
        assert len(history.feed_page(session, base)) == len(whole)


def test_schemas_are_translated(
    base: type[DeclarativeBase], pg_engine: Engine, statements: list[Any]
) -> None:
    tables = [
        track()(Table(name, base.metadata, Column("id", Integer, primary_key=True)))
        for name in ("one", "two")
    ]
    base.metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA tenant"))
    tenant = pg_engine.execution_options(schema_translate_map={None: "tenant"})
    with tenant.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE tenant.one_event (LIKE public.one_event INCLUDING ALL);"
                "CREATE TABLE tenant.two_event (LIKE public.two_event INCLUDING ALL);"
                "CREATE TABLE tenant.pghistory_context"
                " (LIKE public.pghistory_context INCLUDING ALL);"
                "INSERT INTO tenant.two_event (pgh_op, pgh_label, pgh_obj_id, id)"
                " VALUES ('I', 'snapshot', 5, 5), ('U', 'snapshot', 5, 5)"
            )
        )
    for _ in range(2):
        with Session(pg_engine) as session:
            assert same(session, base) == []
        with Session(tenant) as session:
            rows = same(session, base)
            assert [row.pgh_diff for row in rows] == [None, {}]
            assert len(same(session, tables[1], limit=1)) == 1


def test_a_page_of_the_feed_has_the_rows_of_the_select(
    farm: SimpleNamespace, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    for targets in ((base,), (farm.Cow, farm.plain), ((farm.Barn, 3),)):
        position = None
        with Session(pg_engine) as session:
            settle(session)
            while True:
                arguments: dict[str, Any] = {"after": position, "limit": 8}
                rows = history.feed_page(session, *targets, **arguments)
                selected = session.execute(history.feed(*targets, **arguments)).all()
                assert rows == selected
                if not rows:
                    break
                position = history.cursor_of(rows[-1])
    with (
        Session(pg_engine) as session,
        pytest.raises(EventsError, match="one event at least, got limit=0"),
    ):
        history.feed_page(session, base, limit=0)


@pytest.mark.parametrize("by", ["one transaction", "many transactions"])
def test_a_page_of_the_feed_reads_what_it_holds(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_engine: Engine,
    by: str,
) -> None:
    table = Table("t", base.metadata, Column("id", Integer, primary_key=True))
    track()(table)
    create_all()
    number = "1" if by == "one transaction" else "v"
    with pg_engine.connect() as connection:
        connection.execute(
            text(
                "INSERT INTO t_event (pgh_op, pgh_label, pgh_obj_id, id, pgh_xact_id)"
                f" SELECT 'I', 'snapshot', v, v, {number} - 100000"
                " FROM generate_series(1, 20000) v"
            )
        )
        connection.commit()
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text("VACUUM ANALYZE t_event"))
    plans: list[str] = []

    @event.listens_for(pg_engine, "before_cursor_execute", retval=True)
    def explained(_: Any, cursor: Any, sql: str, values: Any, *__: Any) -> Any:
        if "LIMIT 10" in sql:
            cursor.execute(f"EXPLAIN (ANALYZE) {sql}", values)
            plans.append("\n".join(row[0] for row in cursor.fetchall()))
        return sql, values

    with Session(pg_engine) as session:
        position = None
        for _ in range(3):
            rows = history.feed_page(session, base, after=position, limit=10)
            position = history.cursor_of(rows[-1])
        rows = history.feed_page(session, base, after=(99999, 0), limit=10)
    assert rows == []
    assert len(plans) == 4
    for plan in plans:
        assert "Sort" not in plan, plan
        assert "ix_t_event_pgh_xact_id" in plan, plan


def test_a_page_of_tables_that_were_never_analysed_is_cheap_to_the_planner(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_engine: Engine
) -> None:
    """Above a cost, PostgreSQL compiles statements, which takes it seconds."""
    for n in range(30):
        columns = (Column(f"c{m}", Integer) for m in range(20))
        track()(
            Table(
                f"t{n}",
                base.metadata,
                Column("id", Integer, primary_key=True),
                *columns,
            )
        )
    create_all()
    costs: list[float] = []

    @event.listens_for(pg_engine, "before_cursor_execute", retval=True)
    def explained(_: Any, cursor: Any, sql: str, values: Any, *__: Any) -> Any:
        if "t0_event" in sql and not sql.startswith("INSERT"):
            cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", values)
            costs.append(cursor.fetchone()[0][0]["Plan"]["Total Cost"])
        return sql, values

    with Session(pg_engine) as session:
        for table in base.metadata.tables.values():
            if table.name.endswith("_event"):
                session.execute(
                    insert(table).values(pgh_op="I", pgh_label="x", pgh_obj_id=1, id=1)
                )
        session.execute(
            text(
                "INSERT INTO pghistory_context (id, metadata)"
                " VALUES (md5('1')::uuid, jsonb_build_object('user', 1))"
            )
        )
        session.commit()
        costs.clear()
        assert len(AggregateEvent.page(session, base)) == 30
        assert len(AggregateEvent.page(session, base, limit=50)) == 30
        assert len(AggregateEvent.page(session, base, labels=["snapshot"])) == 0
        past = datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc)
        assert len(AggregateEvent.page(session, base, since=past, limit=50)) == 30
        assert not AggregateEvent.page(session, base, context={"user": 1}, limit=50)
        assert not AggregateEvent.page(session, base, context=uuid.UUID(int=1))
        whole = len(costs)
        session.rollback()
        settle(session)
        assert len(history.feed_page(session, base)) == 30
    assert len(costs) == whole + 2 == 11
    default = 100_000  # jit_above_cost
    assert max(costs) < default, costs


def test_a_session_of_several_databases_reads_where_the_models_are(
    pg_engine: Engine,
) -> None:
    class Base(DeclarativeBase):
        metadata = MetaData()

    @track()
    class Note(Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    Base.metadata.create_all(pg_engine)
    nowhere = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    with Session(nowhere, binds={Note: pg_engine}) as session:
        session.add(Note(id=1))
        session.commit()
        assert len(same(session, Base)) == 1
    Base.registry.dispose()


def test_a_session_of_the_past_reads_pages(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_engine: Engine
) -> None:
    class Wide(base):  # type: ignore[misc, valid-type]
        __table__ = Table(
            "wide",
            base.metadata,
            Column("id", Integer, primary_key=True),
            *(Column(f"c{n}", Integer) for n in range(30)),
        )

    track()(Wide)
    create_all()
    with Session(pg_engine) as session:
        session.add(Wide(id=1, c0=1))
        session.commit()
        session.get_one(Wide, 1).c0 = 2
        session.commit()
        transaction = session.scalars(Wide.events.last()).one().pgh_xact_id
    with history.as_of(pg_engine, transaction=transaction) as past:
        rows = same(past, Wide)
        assert [row.pgh_diff for row in rows] == [None, {"c0": [1, 2]}]
        assert same(past, Wide, limit=1) == rows[:1]
