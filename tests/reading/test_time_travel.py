"""Sessions that see the past: what ordinary ORM code finds in them, and is refused."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    DDL,
    URL,
    Column,
    Engine,
    ForeignKey,
    Integer,
    QueuePool,
    String,
    Table,
    Text,
    create_engine,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    text,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    joinedload,
    lazyload,
    mapped_column,
    relationship,
    scoped_session,
    selectinload,
    sessionmaker,
    subqueryload,
    undefer,
    with_loader_criteria,
)
from sqlalchemy.schema import CreateTable

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


@pytest.fixture
def past(shop: SimpleNamespace, pg_engine: Engine) -> Iterator[Session]:
    """A session that sees the shop as it was."""
    with history.as_of(pg_engine, **shop.then) as session:
        yield session


def names(session: Session, statement: Any) -> list[Any]:
    return list(session.scalars(statement))


@pytest.mark.parametrize("moment", ["time", "event", "transaction"])
def test_a_moment_is_a_time_an_event_or_a_transaction(
    shop: SimpleNamespace, pg_session: Session, moment: str
) -> None:
    Product = shop.Product
    with history.as_of(pg_session, **shop.moments[moment]) as past:
        found = past.scalars(select(Product).order_by(Product.id)).all()
        assert [(p.name, p.price) for p in found] == [("Tea", 5), ("Cup", 9), ("Pot", 20)]
        assert past.get(Product, 2).name == "Cup", "deleted since"
        assert past.get(Product, 4) is None, "inserted since"
    assert pg_session.get(Product, 2) is None


def test_joins_and_aggregates_see_the_past(shop: SimpleNamespace, past: Session) -> None:
    Maker, Product = shop.Maker, shop.Product
    totals = (
        select(Maker.name, func.sum(Product.price), func.count())
        .join(Maker.products)
        .group_by(Maker.name)
        .having(func.count() > 0)
        .order_by(Maker.name)
    )
    assert past.execute(totals).all() == [("Ada", 14, 2), ("Ben", 20, 1)]
    outer = select(Product.name, Maker.name).outerjoin(Maker, Maker.id > Product.id + 1)
    assert past.execute(outer.order_by(Product.id)).all() == [
        ("Tea", None),
        ("Cup", None),
        ("Pot", None),
    ]


@pytest.mark.parametrize(
    "loader",
    [lazyload, joinedload, selectinload, subqueryload],
    ids=["lazy", "joined", "selectin", "subquery"],
)
def test_relationships_see_the_past(
    shop: SimpleNamespace, past: Session, loader: Any
) -> None:
    Maker, Product, Tag = shop.Maker, shop.Product, shop.Tag
    makers = select(Maker).options(loader(Maker.products).options(loader(Product.tags)))
    found = past.scalars(makers.order_by(Maker.id)).unique().all()
    assert [
        (m.name, [(p.name, [t.word for t in p.tags]) for p in m.products])
        for m in found
    ] == [("Ada", [("Tea", ["hot", "old"]), ("Cup", ["old"])]), ("Ben", [("Pot", [])])]
    old = past.scalars(
        select(Tag).where(Tag.word == "old").options(loader(Tag.products))
    )
    assert [p.name for p in old.unique().one().products] == ["Tea", "Cup"]


def test_statements_of_all_kinds_see_the_past(
    shop: SimpleNamespace, past: Session
) -> None:
    Maker, Product, tagged = shop.Maker, shop.Product, shop.tagged
    twin = aliased(Product, name="a%'\"b")
    pairs = select(Product.name, twin.name).where(Product.price < twin.price)
    assert past.execute(pairs.order_by(Product.price, twin.price)).all() == [
        ("Tea", "Cup"),
        ("Tea", "Pot"),
        ("Cup", "Pot"),
    ]
    cheap = select(Product).where(Product.price < 10).subquery()
    of_cheap = aliased(Product, cheap)
    assert names(past, select(of_cheap.name).order_by(of_cheap.id)) == ["Tea", "Cup"]
    cte = select(Product.maker_id, func.max(Product.price).label("top")).group_by(
        Product.maker_id
    )
    tops = cte.cte("tops")
    best = select(Maker.name, tops.c.top).join(tops, tops.c.maker_id == Maker.id)
    assert past.execute(best.order_by(Maker.name)).all() == [("Ada", 9), ("Ben", 20)]
    both = union_all(select(Product.name), select(Maker.name)).order_by("name")
    assert names(past, both) == ["Ada", "Ben", "Cup", "Pot", "Tea"]
    tagless = select(Product.name).where(~Product.tags.any())
    assert names(past, tagless) == ["Pot"]
    without = select(Product.name).where(
        ~exists().where(tagged.c.product_id == Product.id)
    )
    assert names(past, without) == ["Pot"]
    tables = select(Product.__table__.c.name, tagged.c.tag_id).join_from(
        Product.__table__, tagged
    )
    assert len(past.execute(tables).all()) == 3
    lateral = (
        select(Product.name)
        .where(Product.maker_id == Maker.id)
        .order_by(Product.price.desc())
        .limit(1)
        .lateral("best")
    )
    per_maker = select(Maker.name, lateral.c.name).join(lateral, literal(True))
    assert past.execute(per_maker.order_by(Maker.name)).all() == [
        ("Ada", "Cup"),
        ("Ben", "Pot"),
    ]
    steps = select(Product.id).where(Product.id == 1).cte("steps", recursive=True)
    steps = steps.union_all(select(Product.id).join(steps, Product.id == steps.c.id + 1))
    assert names(past, select(steps.c.id)) == [1, 2, 3]
    keys = select(Product.id, Product.price).where(Product.id == 1)
    in_keys = tuple_(Product.id, Product.price).in_(keys)
    assert names(past, select(Product.name).where(in_keys)) == ["Tea"]
    assert past.query(Product).filter_by(name="Cup").count() == 1


def test_attributes_of_all_kinds_see_the_past(
    shop: SimpleNamespace, past: Session
) -> None:
    Maker, Product = shop.Maker, shop.Product
    Product.label = hybrid_property(
        lambda self: self.name + "!", expr=lambda cls: cls.name + "!"
    )
    assert names(past, select(Product.label).where(Product.label == "Tea!")) == ["Tea!"]
    ada = past.get_one(Maker, 1)
    assert ada.worth == 14, "a column_property, loaded later"
    assert past.scalars(select(Maker).options(undefer(Maker.worth))).first().worth == 14
    assert past.get_one(Product, 1).note == "n", "deferred"
    past.expire_all()
    assert past.get_one(Product, 1).price == 5, "refreshed"
    only = with_loader_criteria(Product, Product.price > 5)
    found = past.scalars(select(Product).options(only).order_by(Product.id))
    assert [p.name for p in found] == ["Cup", "Pot"]
    batches = past.scalars(
        select(Product).order_by(Product.id).execution_options(yield_per=2)
    ).partitions()
    assert [[p.id for p in batch] for batch in batches] == [[1, 2], [3]]


def test_the_present_is_seen_by_what_is_allowed_and_by_events(
    shop: SimpleNamespace, pg_engine: Engine
) -> None:
    Product = shop.Product
    with history.as_of(pg_engine, **shop.then, allow=[Product]) as past:
        found = past.scalars(select(Product).order_by(Product.id)).all()
        assert [p.name for p in found] == ["Tea", "Pot", "Jug"]
        assert found[0].maker.name == "Ben"
    with history.as_of(pg_engine, **shop.then) as past:
        assert len(past.scalars(Product.events.of(2).select()).all()) == 2


def inherited(base: type[DeclarativeBase]) -> SimpleNamespace:
    @track()
    class Animal(base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        name: Mapped[str]
        owner_id: Mapped[int | None] = mapped_column(ForeignKey("animal.id"))
        owner: Mapped[Any] = relationship("Animal", remote_side="Animal.id")
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    @track()
    class Dog(Animal):
        __tablename__ = "dog"
        id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        tricks: Mapped[int]
        __mapper_args__ = {"polymorphic_identity": "dog"}

    class Cat(Animal):
        lives: Mapped[int | None]
        __mapper_args__ = {"polymorphic_identity": "cat"}

    return SimpleNamespace(Animal=Animal, Dog=Dog, Cat=Cat)


def test_inherited_classes_see_the_past(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    clock: Callable[[], datetime.datetime],
) -> None:
    models = inherited(base)
    create_all()
    rex = models.Dog(id=1, name="Rex", tricks=1)
    tom = models.Cat(id=2, name="Tom", lives=9, owner=rex)
    pg_session.add_all([rex, tom])
    pg_session.commit()
    then = clock()
    rex.tricks, tom.lives, tom.owner = 2, 8, None
    pg_session.flush()
    pg_session.delete(rex)
    pg_session.commit()
    with history.as_of(pg_session, then) as past:
        found = past.scalars(select(models.Animal).order_by(models.Animal.id)).all()
        assert [type(a).__name__ for a in found] == ["Dog", "Cat"]
        assert (found[0].tricks, found[1].lives, found[1].owner) == (1, 9, found[0])
        assert names(past, select(models.Dog.name)) == ["Rex"]
        assert past.get(models.Cat, 2).lives == 9


def test_a_row_that_changed_its_key_is_found_by_the_one_that_it_had(
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
        moments.append((clock(), pg_session.execute(select(seat).order_by(*seat.c)).all()))
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


def test_rows_may_exchange_their_keys_in_one_statement(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session,
    level: str,
) -> None:
    item = Table(
        "item",
        base.metadata,
        Column("id", Integer),
        Column("name", Text),
    )
    from sqlalchemy import PrimaryKeyConstraint

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


def test_tables_in_schemas_see_the_past(
    base: type[DeclarativeBase], pg_engine: Engine, clock: Callable[[], Any]
) -> None:
    def make(schema: str | None) -> Table:
        table = Table(
            "Item %'\"",
            base.metadata,
            Column("Id %'\"", Integer, primary_key=True, key="id"),
            Column("Name", Text, key="name"),
            schema=schema,
        )
        return track()(table)

    here, there = make(None), make("Other %'\"")
    with pg_engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA \"Other %%'\"\"\"")
    base.metadata.create_all(pg_engine)
    with Session(pg_engine) as session:
        session.execute(insert(here).values(id=1, name="here"))
        session.execute(insert(there).values(id=1, name="there"))
        session.commit()
        then = clock()
        session.execute(update(here).values(name="x"))
        session.execute(update(there).values(name="y"))
        session.commit()
    with history.as_of(pg_engine, then) as past:
        both = select(here.c.name, there.c.name).join(there, there.c.id == here.c.id)
        assert past.execute(both).all() == [("here", "there")]
        alias = there.alias()
        assert names(past, select(alias.c.name)) == ["there"]


def test_schemas_are_translated(
    shop: SimpleNamespace, pg_engine: Engine, clock: Callable[[], Any]
) -> None:
    Product = shop.Product
    with pg_engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA tenant")
    tenant = pg_engine.execution_options(schema_translate_map={None: "tenant"})
    shop.Product.metadata.create_all(tenant)
    with Session(tenant) as session:
        session.add(Product(id=1, name="Soap", price=1))
        session.commit()
        then = clock()
        session.get_one(Product, 1).name = "Oil"
        session.commit()
        for target in (session, tenant, session.connection()):
            with history.as_of(target, then) as past:
                assert names(past, select(Product.name)) == ["Soap"]
    with history.as_of(pg_engine, then) as past:
        here = past.execute(
            select(Product.name),
            execution_options={"schema_translate_map": {None: "tenant"}},
        )
        assert here.scalars().all() == ["Soap"]


def test_a_moment_that_cannot_be_told() -> None:
    engine = create_engine("postgresql+psycopg://")
    naive = datetime.datetime(2026, 1, 1)
    for arguments, words in [
        ({}, "as_of takes one moment"),
        ({"when": naive, "transaction": 1}, "as_of takes one moment"),
        ({"when": naive}, "another moment in each time zone"),
        ({"when": "yesterday"}, "as_of takes a datetime, an event"),
        ({"transaction": naive}, "transaction= with a number"),
    ]:
        with pytest.raises(PastError, match=words):
            history.as_of(engine, **arguments)
    with pytest.raises(PastError, match="allow takes mapped classes and tables, got 7"):
        history.as_of(engine, transaction=1, allow=[7])
    with (
        pytest.raises(PastError, match="several or none; give it an engine"),
        history.as_of(Session(), transaction=1),
    ):
        pass
    with (
        pytest.raises(history.exc.DialectError, match="needs PostgreSQL, got sqlite"),
        history.as_of(create_engine("sqlite://"), transaction=1),
    ):
        pass


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
    for table, words in [
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
                past.execute(select(table))
            with pytest.raises(PastError, match=words):
                past.execute(select(literal(1)).where(exists().where(table.c.a == 1)))
        with history.as_of(pg_session, transaction=1, allow=[table]) as past:
            assert past.execute(select(table)).all() == []


def test_what_is_not_stored_is_null(
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


def test_only_events_that_tell_the_whole_row_are_its_state(
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
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session,
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
    history.baseline(pg_session, Thing)
    pg_session.commit()
    after = clock()
    history.create_event(pg_session, pg_session.get_one(Thing, 1), label="seen")
    pg_session.commit()
    pg_session.execute(update(Thing).values(a=2))
    pg_session.commit()
    with history.as_of(pg_session, before) as past:
        assert past.scalars(select(Thing.a)).all() == []
    with history.as_of(pg_session, after) as past:
        assert past.scalars(select(Thing.a)).all() == [1]


WRITES: dict[str, Callable[[Session, Any], Any]] = {
    "a new object": lambda past, P: (past.add(P(name="x", price=1)), past.flush()),
    "a changed one": lambda past, P: (
        setattr(past.get_one(P, 1), "price", 7),
        past.commit(),
    ),
    "a deleted one": lambda past, P: (past.delete(past.get_one(P, 1)), past.flush()),
    "insert": lambda past, P: past.execute(insert(P).values(name="x", price=1)),
    "bulk insert": lambda past, P: past.execute(insert(P), [{"name": "x", "price": 1}]),
    "insert from select": lambda past, P: past.execute(
        insert(P).from_select(["name", "price"], select(P.name, P.price))
    ),
    "update": lambda past, P: past.execute(update(P).values(price=1)),
    "delete": lambda past, P: past.execute(delete(P)),
    "a writing CTE": lambda past, P: past.execute(
        select(delete(P).returning(P.id).cte("gone").c.id)
    ),
    "a new table": lambda past, P: past.execute(
        CreateTable(Table("x", P.metadata.__class__(), Column("id", Integer)))
    ),
    "ddl": lambda past, P: past.execute(DDL("DROP TABLE product")),
    "text": lambda past, P: past.execute(text("DELETE FROM product")),
    "text that reads": lambda past, P: past.execute(text("SELECT * FROM product")),
    "text with columns": lambda past, P: past.execute(
        text("SELECT id, name FROM product").columns(P.id, P.name)
    ),
    "from_statement": lambda past, P: past.execute(
        select(P).from_statement(text("SELECT * FROM product"))
    ),
    "driver sql": lambda past, P: past.connection().exec_driver_sql(
        "SELECT * FROM product"
    ),
    "a row lock": lambda past, P: past.get(P, 1, with_for_update=True),
    "a lightweight table": lambda past, P: past.execute(
        select(text("*")).select_from(_lightweight("product"))
    ),
}


def _lightweight(name: str) -> Any:
    from sqlalchemy import column, table

    return table(name, column("id"))


@pytest.mark.parametrize("write", WRITES.values(), ids=list(WRITES))
def test_writes_and_text_are_refused_before_they_are_sent(
    shop: SimpleNamespace, past: Session, write: Callable[[Session, Any], Any]
) -> None:
    with pytest.raises(PastError):
        write(past, shop.Product)
    past.rollback()
    assert past.get_one(shop.Product, 1).price == 5, "the session goes on"
