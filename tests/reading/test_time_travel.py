"""Sessions of ``as_of``: what ordinary ORM code finds in them."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Integer,
    Table,
    Text,
    exists,
    func,
    insert,
    literal,
    select,
    tuple_,
    union_all,
    update,
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
    selectinload,
    subqueryload,
    undefer,
    with_loader_criteria,
)

import sa_history as history
from sa_history import (
    track,
)


def names(session: Session, statement: Any) -> list[Any]:
    return list(session.scalars(statement))


@pytest.mark.parametrize("moment", ["time", "event", "transaction"])
def test_a_point_in_time_is_a_time_an_event_or_a_transaction(
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


def test_aliases_subqueries_unions_and_laterals_see_the_past(
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


def test_hybrids_column_properties_and_deferred_columns_see_the_past(
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


def test_allowed_classes_and_events_are_seen_as_they_are_now(
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
