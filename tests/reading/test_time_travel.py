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
    Connection,
    Engine,
    ForeignKey,
    Integer,
    PrimaryKeyConstraint,
    QueuePool,
    String,
    Table,
    Text,
    column,
    create_engine,
    delete,
    event,
    exists,
    func,
    insert,
    literal,
    select,
    table,
    text,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.ext.asyncio import (
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
        assert [(p.name, p.price) for p in found] == [
            ("Tea", 5),
            ("Cup", 9),
            ("Pot", 20),
        ]
        assert past.get(Product, 2).name == "Cup", "deleted since"
        assert past.get(Product, 4) is None, "inserted since"
    assert pg_session.get(Product, 2) is None


def test_joins_and_aggregates_see_the_past(
    shop: SimpleNamespace, past: Session
) -> None:
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
    steps = steps.union_all(
        select(Product.id).join(steps, Product.id == steps.c.id + 1)
    )
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
        return track(event_name=f"Item{schema}")(table)

    here, there = make(None), make("Other %'\"")
    with pg_engine.begin() as connection:
        connection.exec_driver_sql('CREATE SCHEMA "Other %%\'"""')
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
        pytest.raises(
            history.exc.DialectError,
            match="as_of needs PostgreSQL, got .* sqlite",
        ),
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
        select(text("*")).select_from(lightweight("product"))
    ),
}


def lightweight(name: str) -> Any:
    return table(name, column("id"))


def test_writes_and_text_are_refused_before_they_are_sent(
    shop: SimpleNamespace, past: Session
) -> None:
    sent: list[str] = []
    event.listen(
        past.connection(),
        "before_cursor_execute",
        lambda *arguments: sent.append(arguments[2]),
    )
    for write in WRITES.values():
        with pytest.raises(PastError):
            write(past, shop.Product)
        past.rollback()
        assert past.get_one(shop.Product, 1).price == 5, "the session goes on"
    assert all(line.startswith("SELECT") for line in sent)
    assert not [line for line in sent if "INSERT" in line or "FOR UPDATE" in line]


def test_the_session_goes_on_seeing_the_past(
    shop: SimpleNamespace, past: Session
) -> None:
    Product = shop.Product
    for end in (past.commit, past.rollback, past.close):
        assert past.get_one(Product, 1).price == 5
        end()
    with past.begin_nested() as savepoint:
        assert past.get_one(Product, 2).name == "Cup"
        savepoint.rollback()
    assert past.scalar(select(func.sum(Product.price))) == 34
    with past.begin_nested():
        assert past.scalar(select(func.count(Product.id))) == 3
    assert past.scalar(select(func.count(Product.id))) == 3


def test_what_commits_meanwhile_is_not_seen(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    Product = shop.Product
    future = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
    pg_session.execute(update(Product).where(Product.id == 3).values(price=0))
    with history.as_of(pg_session, future) as past:
        prices = select(Product.price).order_by(Product.id)
        assert past.scalars(prices).all() == [6, 20, 1], "not what is uncommitted"
        pg_session.commit()
        assert past.scalars(prices).all() == [6, 20, 1]
        past.rollback()
        assert past.scalars(prices).all() == [6, 0, 1]


def test_two_moments_at_once(
    shop: SimpleNamespace, pg_session: Session, pg_engine: Engine
) -> None:
    Product = shop.Product
    now = pg_session.scalars(Product.events.last()).one()
    one, other = shop.moments["time"], {"when": now}
    with (
        history.as_of(pg_engine, **one) as before,
        history.as_of(pg_engine, **other) as after,
    ):
        for _ in range(2):
            assert before.get_one(Product, 1).price == 5
            assert after.get_one(Product, 1).price == 6
            before.expire_all()
            after.rollback()
        assert (before.get(Product, 2).name, after.get(Product, 2)) == ("Cup", None)
        assert before.get_one(Product, 1) is not after.get_one(Product, 1)


def test_the_connection_is_given_back_as_it_was(
    shop: SimpleNamespace, pg_url: URL
) -> None:
    engine = create_engine(pg_url, poolclass=QueuePool, pool_size=1, max_overflow=0)
    Product = shop.Product

    def state() -> tuple[Any, ...]:
        with engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            return (
                driver.info.backend_pid,
                connection.get_isolation_level(),
                connection.scalar(text("SHOW transaction_read_only")),
                connection.scalar(select(func.current_setting("pghistory.as_of", True)))
                or "",
                type(connection.dialect),
                connection.scalar(select(func.count(Product.id))),
            )

    try:
        before = state()
        assert before[1:4] == ("READ COMMITTED", "off", "")
        with history.as_of(engine, **shop.then) as past:
            assert past.scalar(select(func.count(Product.id))) == 3
            mode = past.connection().get_isolation_level()
            assert mode == "REPEATABLE READ"
        assert state() == before
        with pytest.raises(ZeroDivisionError), history.as_of(engine, **shop.then) as p:
            p.get_one(Product, 1).price // 0
        assert state() == before
        with Session(engine) as session:
            session.add(Product(id=5, name="Mug", price=2))
            session.commit()
        assert state()[-1] == before[-1] + 1
    finally:
        engine.dispose()


def test_one_statement_is_compiled_once_for_all_moments(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    Product = shop.Product
    statements = []
    later = datetime.datetime.now(datetime.timezone.utc)
    for when in (shop.then["when"], later):
        with history.as_of(pg_session, when) as past:
            event.listen(
                past.connection(),
                "before_cursor_execute",
                lambda *arguments: statements.append(
                    (arguments[2], arguments[4].cache_hit.name)
                ),
            )
            past.scalars(select(Product).where(Product.price > 3)).all()
    (first, _), (second, hit) = statements
    assert first == second
    assert hit == "CACHE_HIT"


def test_sessions_of_all_kinds_lead_to_the_past(
    shop: SimpleNamespace, pg_engine: Engine
) -> None:
    price = select(shop.Product.price).where(shop.Product.id == 1)
    scoped = scoped_session(sessionmaker(pg_engine))
    with pg_engine.connect() as connection, Session(connection) as bound:
        for target in (pg_engine, connection, bound, scoped, sessionmaker(pg_engine)()):
            with history.as_of(target, **shop.then) as past:
                assert past.scalar(price) == 5
    with (
        pytest.raises(PastError, match="as_of takes a session, a connection or an"),
        history.as_of(7, **shop.then),
    ):
        pass
    scoped.remove()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_async_sessions_lead_to_the_past(
    shop: SimpleNamespace, pg_url: URL, driver: str
) -> None:
    Maker, Product = shop.Maker, shop.Product

    async def look(target: Any, moment: dict[str, Any]) -> Any:
        async with history.as_of(target, **moment) as past:
            statement = select(Maker).options(selectinload(Maker.products))
            found = await past.scalars(statement.order_by(Maker.id))
            seen = [(m.name, [p.name for p in m.products]) for m in found]
            past.add(Product(name="x", price=1))
            with pytest.raises(PastError, match="the past is not written: INSERT"):
                await past.flush()
            await past.rollback()
            assert (await past.get_one(Product, 1)).price == 5
            return seen

    async def main() -> list[Any]:
        engine = create_async_engine(pg_url.set(drivername=f"postgresql+{driver}"))
        maker = async_sessionmaker(engine)
        scoped = async_scoped_session(maker, scopefunc=lambda: 1)
        found = []
        async with maker() as session, engine.connect() as connection:
            for target in (session, engine, connection, scoped):
                found.append(await look(target, shop.then))
            for moment in ("event", "transaction"):
                found.append(await look(engine, shop.moments[moment]))
            with pytest.raises(PastError, match="write 'async with' for it"):
                history.as_of(session, **shop.then).__enter__()
            price = await session.scalar(select(Product.price).where(Product.id == 1))
            assert price == 6
        await scoped.remove()
        await engine.dispose()
        return found

    expected = [("Ada", ["Tea", "Cup"]), ("Ben", ["Pot"])]
    assert asyncio.run(main()) == [expected] * 6


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_connection_that_cannot_see_the_past_is_given_back(
    shop: SimpleNamespace, pg_url: URL, kind: str
) -> None:
    """Such as one in which a listener has begun a transaction already."""
    options: dict[str, Any] = {"pool_size": 1, "max_overflow": 0}
    taken = "This connection has already initialized a SQLAlchemy Transaction"

    def begin(connection: Connection) -> None:
        connection.begin()

    def look() -> None:
        engine = create_engine(pg_url, poolclass=QueuePool, **options)
        event.listen(engine, "engine_connect", begin)
        with (
            pytest.raises(InvalidRequestError, match=taken),
            history.as_of(engine, **shop.then),
        ):
            pass
        event.remove(engine, "engine_connect", begin)
        with history.as_of(engine, **shop.then) as past:
            assert past.scalar(select(func.count(shop.Product.id))) == 3
        engine.dispose()

    async def look_async() -> None:
        engine = create_async_engine(pg_url, **options)
        event.listen(engine.sync_engine, "engine_connect", begin)
        with pytest.raises(InvalidRequestError, match=taken):
            async with history.as_of(engine, **shop.then):
                pass
        event.remove(engine.sync_engine, "engine_connect", begin)
        async with history.as_of(engine, **shop.then) as past:
            assert await past.scalar(select(func.count(shop.Product.id))) == 3
        with pytest.raises(PastError, match="write 'with' for it"):
            await history.as_of(engine.sync_engine, **shop.then).__aenter__()
        await engine.dispose()

    look() if kind == "sync" else asyncio.run(look_async())


def test_a_role_that_may_only_read_events(
    shop: SimpleNamespace, pg_engine: Engine, pg_url: URL
) -> None:
    with pg_engine.begin() as connection:
        role = connection.scalar(text("SELECT 'reader_' || pg_backend_pid()"))
        connection.exec_driver_sql(f"CREATE ROLE {role}")
        connection.exec_driver_sql(f"GRANT SELECT ON product_event TO {role}")
    reader = create_engine(
        pg_url,
        connect_args={"options": f"-c role={role} -c default_transaction_read_only=on"},
    )
    try:
        with history.as_of(reader, **shop.then) as past:
            assert past.get_one(shop.Product, 1).price == 5
            with pytest.raises(DBAPIError, match="permission denied for table maker"):
                past.get(shop.Maker, 1)
    finally:
        reader.dispose()
        with pg_engine.begin() as connection:
            connection.exec_driver_sql(f"DROP OWNED BY {role}")
            connection.exec_driver_sql(f"DROP ROLE {role}")


def test_a_row_is_found_by_the_index_of_its_key(
    shop: SimpleNamespace, pg_engine: Engine
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
        past.get_one(Product, 1)
        cursor: Any = connection.connection.cursor()
        cursor.execute("SET LOCAL enable_seqscan = off")
        statement, parameters = sent[-1]
        cursor.execute("EXPLAIN " + statement, parameters)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    # What the index is asked for beside the key depends on PostgreSQL's version.
    conditions = [line for line in plan.splitlines() if "Index Cond: " in line]
    assert sum("(pgh_obj_id = 1)" in line for line in conditions) == 2, plan
    assert "Seq Scan" not in plan
