"""Events of several models in one list: whose, of what, and by what means."""

from __future__ import annotations

import asyncio
import datetime
import re
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar, get_type_hints

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Engine,
    Enum,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    Table,
    Text,
    Uuid,
    bindparam,
    func,
    insert,
    literal,
    select,
    text,
    union,
    update,
)
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.sql.expression import ColumnClause

import sa_history as history
from sa_history import AggregateEvent, AggregateRow, track
from sa_history.exc import ContextError, EventsError, UndoError

from .transactions import run


def found(session: Session, statement: Any) -> list[tuple[str, str, str]]:
    return [
        (row.pgh_obj_model, row.pgh_obj_id, row.pgh_op)
        for row in session.execute(statement)
    ]


def ids(session: Session, statement: Any) -> set[tuple[str, str]]:
    return {(model, key) for model, key, _ in found(session, statement)}


def test_events_of_rows_that_refer_to_a_row(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    Maker, Tag, select_ = shop.Maker, shop.Tag, AggregateEvent.select
    ada = pg_session.get_one(Maker, 1)
    alone = {("Maker", "1")}
    products = {("Product", "1"), ("Product", "2")}
    links = {("tagged", "[1, 1]"), ("tagged", "[1, 2]"), ("tagged", "[2, 2]")}
    assert ids(pg_session, select_(ada)) == alone
    assert ids(pg_session, select_(ada, references=True)) == alone | products
    two = select_(ada, references=2)
    assert ids(pg_session, two) == alone | products | links
    # Tea has another maker now, and its events then are those of the other one.
    ops = found(pg_session, select_(ada, references=True, across=shop.Product))
    assert ops == [("Product", "1", "I"), ("Product", "2", "I"), ("Product", "2", "D")]
    old = select_((Tag, 2), references=True)
    assert ids(pg_session, old) == {
        ("Tag", "2"),
        ("tagged", "[1, 2]"),
        ("tagged", "[2, 2]"),
    }


def test_an_aggregate_finds_events_by_every_kind_of_foreign_key(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    place = Table(
        "place",
        base.metadata,
        Column("row", Text, primary_key=True),
        Column("number", Integer, primary_key=True),
        Column("inside_row", Text),
        Column("inside_number", Integer),
        ForeignKeyConstraint(
            ["inside_number", "inside_row"], ["place.number", "place.row"]
        ),
    )
    guest = Table(
        "guest",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("number", Integer),
        Column("row", Text),
        Column("hidden", ForeignKey("guest.id")),
        ForeignKeyConstraint(["row", "number"], ["place.row", "place.number"]),
    )
    track()(place)
    track(exclude=["hidden"])(guest)
    create_all()
    with history.ignore(pg_session, place):
        pg_session.execute(insert(place).values(row="a", number=1))
    pg_session.execute(
        insert(place).values(row="b", number=2, inside_row="a", inside_number=1)
    )
    pg_session.execute(
        insert(place).values(row="c", number=3, inside_row="b", inside_number=2)
    )
    pg_session.execute(insert(guest).values(id=1, row="a", number=1))
    pg_session.execute(insert(guest).values(id=2, row="c", number=3, hidden=1))
    pg_session.commit()

    def of(hops: int) -> set[tuple[str, str]]:
        statement = AggregateEvent.select((place, ("a", 1)), references=hops)
        return ids(pg_session, statement)

    assert of(0) == set(), "its row is from before tracking"
    assert of(1) == {("place", '["b", 2]'), ("guest", "1")}
    assert of(2) == of(1) | {("place", '["c", 3]')}
    assert of(3) == of(2) | {("guest", "2")}
    statement = AggregateEvent.select((guest, 1), references=5)
    assert ids(pg_session, statement) == {("guest", "1")}, "a column that is not stored"


def test_an_aggregate_finds_events_by_foreign_keys_of_other_types(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    kind = Table(
        "kind",
        base.metadata,
        Column("name", Enum("soft", "hard", name="kind_name"), primary_key=True),
    )
    ware = Table(
        "ware",
        base.metadata,
        Column("id", BigInteger, primary_key=True),
        Column("kind", ForeignKey("kind.name")),
    )
    part = Table(
        "part",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("ware_id", Integer, ForeignKey("ware.id")),
    )
    for table in (kind, ware, part):
        track()(table)
    create_all()
    pg_session.execute(insert(kind).values(name="soft"))
    pg_session.execute(
        insert(ware), [{"id": 1, "kind": "soft"}, {"id": 2**40, "kind": None}]
    )
    pg_session.execute(insert(part).values(id=1, ware_id=1))
    pg_session.commit()

    def of(target: Any, hops: int) -> set[tuple[str, str]]:
        return ids(pg_session, AggregateEvent.select(target, references=hops))

    first = {("kind", "soft"), ("ware", "1")}
    assert of((kind, "soft"), 1) == first
    assert of((kind, "soft"), 2) == first | {("part", "1")}
    assert of((ware, 2**40), 1) == {("ware", str(2**40))}


def test_events_of_rows_that_refer_to_any_row_of_a_class(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    class Animal(base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        mother_id: Mapped[int | None] = mapped_column(ForeignKey("animal.id"))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class Cow(Animal):
        __mapper_args__ = {"polymorphic_identity": "cow"}

    tag, note = (
        Table(
            name,
            base.metadata,
            Column("id", Integer, primary_key=True),
            Column("of", ForeignKey(to)),
        )
        for name, to in (("tag", "animal.id"), ("note", "tag.id"))
    )
    for model in (Animal, tag, note):
        track()(model)
    create_all()
    pg_session.add_all([Animal(id=1), Cow(id=2)])
    pg_session.flush()
    pg_session.add(Animal(id=3, mother_id=2))
    tags = [{"id": 1, "of": 1}, {"id": 2, "of": 2}, {"id": 3, "of": None}]
    pg_session.execute(insert(tag).values(tags))
    pg_session.execute(insert(note).values([{"id": n, "of": n} for n in (1, 2, 3)]))
    pg_session.commit()

    def of(target: Any, hops: int) -> set[tuple[str, str]]:
        return ids(pg_session, AggregateEvent.select(target, references=hops))

    animals = {("Animal", "1"), ("Animal", "2"), ("Animal", "3")}
    assert of(Animal, 0) == animals
    assert of(Animal, 1) == animals | {("tag", "1"), ("tag", "2")}
    assert of(tag, 1) - of(tag, 0) == {("note", "1"), ("note", "2"), ("note", "3")}
    of_cows = {("Animal", "2"), ("Animal", "3"), ("tag", "2")}
    assert of(Cow, 1) == of_cows
    assert of(Cow, 2) == of_cows | {("note", "2")}
    assert of(base, 9) == of(base, 0), "it has all of them"


def test_a_foreign_key_to_other_columns_than_the_primary_key_is_not_followed(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    metadata = base.metadata
    country = Table(
        "country",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("code", Text, unique=True),
    )
    city = Table(
        "city",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("country", ForeignKey("country.code")),
        Column("country_id", ForeignKey("country.id")),
    )
    track()(country)
    track()(city)
    create_all()
    pg_session.execute(insert(country).values(id=1, code="at"))
    pg_session.execute(insert(city).values(id=1, country="at"))
    pg_session.execute(insert(city).values(id=2, country_id=1))
    pg_session.commit()
    statement = AggregateEvent.select((country, 1), references=True)
    assert ids(pg_session, statement) == {("country", "1"), ("city", "2")}


def test_targets_are_objects_pairs_and_selects(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    Maker, Product, select_ = shop.Maker, shop.Product, AggregateEvent.select
    gone = found(pg_session, select_((Product, 2)))
    assert gone == [("Product", "2", "I"), ("Product", "2", "D")]
    linked = found(pg_session, select_((shop.tagged, (1, 2))))
    assert linked == [("tagged", "[1, 2]", "I"), ("tagged", "[1, 2]", "D")]
    of_ben = select(Product.id).where(Product.maker_id == 2)
    pairs = [
        (Product, of_ben),
        (Product, of_ben.union(select(Product.id).where(False))),
    ]
    for pair in pairs:
        assert ids(pg_session, select_(pair)) == {
            ("Product", "1"),
            ("Product", "3"),
            ("Product", "4"),
        }
    keys = select(shop.tagged.c.product_id, shop.tagged.c.tag_id)
    assert ids(pg_session, select_((shop.tagged, keys))) == {("tagged", "[1, 1]")}
    both = select_((Maker, 1), (Product, of_ben), pg_session.get_one(Maker, 2))
    assert len(ids(pg_session, both)) == 5
    with_makers = select_((Maker, select(Maker.id).where(Maker.id == 2)), references=1)
    assert ids(pg_session, with_makers) == {
        ("Maker", "2"),
        ("Product", "1"),
        ("Product", "3"),
        ("Product", "4"),
    }
    for wrong, words in [
        ((1, 2), "a target is an object or"),
        ((Product, (1, 2)), r"the key of Product is \(id\)"),
        ((Product.metadata, 1), "is not a mapped class"),
        (("Product", 1), "a target is an object or"),
        ("Product", "'Product' is not a mapped class"),
        (7, "is not a mapped class"),
    ]:
        with pytest.raises(EventsError, match=words):
            select_(wrong)


def test_a_select_of_keys_is_what_it_is_by_itself(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    """It may read the event table, which the statement around it reads as well."""
    Maker, events = shop.Maker, shop.Product.events.model
    once_of_ada = select(events.id).where(
        events.maker_id == Maker.id, Maker.id == 1, events.pgh_op == "I"
    )
    assert set(pg_session.scalars(once_of_ada)) == {1, 2}
    whole = found(pg_session, AggregateEvent.select((shop.Product, 1)))
    whole += found(pg_session, AggregateEvent.select((shop.Product, 2)))
    for query in (once_of_ada, union(once_of_ada, once_of_ada)):
        statement = AggregateEvent.select((shop.Product, query))
        assert sorted(found(pg_session, statement)) == sorted(whole)


DAY = datetime.timedelta(days=1)


def test_times_are_expressions_that_the_database_computes(
    thing: Any, pg_session: Session
) -> None:
    Thing = thing()
    run(pg_session, insert(Thing).values(id=1, a=1), update(Thing).values(a=2))
    first, last = pg_session.scalars(Thing.events.select()).all()
    moment = func.clock_timestamp()
    begin = select(func.min(Thing.events.pgh_created_at)).scalar_subquery()
    end = select(func.max(Thing.events.pgh_created_at)).scalar_subquery()
    asked: list[tuple[dict[str, Any], list[int]]] = [
        ({"since": func.now() - DAY}, [1, 2]),
        ({"since": func.now() + DAY}, []),
        ({"until": func.now() - DAY}, []),
        ({"since": begin, "until": end}, [1]),
        ({"since": end, "until": moment + DAY}, [2]),
        ({"since": literal(last.pgh_created_at)}, [2]),
        ({"since": begin + (end - begin), "limit": 5, "newest_first": True}, [2]),
        ({"since": first.pgh_created_at, "until": end, "labels": ["snapshot"]}, [1]),
        ({"since": func.current_date() - DAY}, [1, 2]),
    ]
    for filters, expected in asked:
        rows = pg_session.execute(AggregateEvent.select(Thing, **filters)).all()
        assert [row.pgh_data["a"] for row in rows] == expected
        assert AggregateEvent.page(pg_session, Thing, **filters) == rows
        bounds = {"since": func.now() - DAY, "until": func.now() + DAY, **filters}
        between = Thing.events.between(bounds["since"], bounds["until"])
        assert [event.a for event in pg_session.scalars(between)] == expected
    given = bindparam("day", type_=DateTime(timezone=True))
    for statement in (
        AggregateEvent.select(Thing, since=given),
        Thing.events.between(given, moment),
    ):
        for day, count in (first.pgh_created_at, 2), (last.pgh_created_at, 1):
            assert len(pg_session.execute(statement, {"day": day}).all()) == count


def test_a_column_is_no_time(thing: Any, pg_session: Session) -> None:
    Thing = thing()
    column = Thing.events.table.c.pgh_created_at
    for ask in (
        lambda: AggregateEvent.select(Thing, since=column),
        lambda: AggregateEvent.page(pg_session, Thing, since=column - DAY),
        lambda: Thing.events.between(column, func.now()),
    ):
        with pytest.raises(EventsError, match=r"^since is one time, got thing_event\."):
            ask()
    for wrong in ("2026-01-01", None, 5):
        with pytest.raises(EventsError, match=f"^until is a datetime, got {wrong!r}; "):
            Thing.events.between(func.now(), wrong)


WRONG: dict[str, list[Any]] = {
    "limit": [-1, "5", True, 2.5, 2**63],
    "before": ["5", True, 1.0, -(2**63) - 1, object()],
    "since": ["2026-01-01", 5, datetime.timedelta(1)],
    "until": ["monday", True],
    "transaction": ["5", 2**63],
    "context": ["ada", str(uuid.UUID(int=0)), 5, ["ada"]],
    "labels": [5, "snapshot"],
    "references": [-1, None],
}


@pytest.mark.parametrize("argument", WRONG)
def test_an_argument_of_another_type_is_named(
    shop: SimpleNamespace, pg_session: Session, argument: str
) -> None:
    for wrong in WRONG[argument]:
        message = re.compile(f"^{argument} is .*, got {re.escape(repr(wrong))}; ")
        with pytest.raises(EventsError, match=message):
            AggregateEvent.select(shop.Product, **{argument: wrong})
        with pytest.raises(EventsError, match=message):
            AggregateEvent.page(pg_session, shop.Product, **{argument: wrong})


def test_what_is_no_key_of_a_target_is_refused(
    base: type[DeclarativeBase], shop: SimpleNamespace, pg_session: Session
) -> None:
    Product = shop.Product
    thing = Table("thing", base.metadata, Column("id", Uuid, primary_key=True))
    track()(thing)
    wrong: dict[str, list[Any]] = {
        "one value": [Product, pg_session.get_one(Product, 1), thing],
        "an integer": [True, 2**63],
    }
    for wanted, values in wrong.items():
        for value in values:
            message = f"^id, of the key of Product, is {wanted}, got .*; convert it"
            with pytest.raises(EventsError, match=message):
                AggregateEvent.select((Product, value))
    for value in ("x", 5):
        with pytest.raises(EventsError, match=f"is a UUID, got {value!r}"):
            AggregateEvent.select((thing, value))
    assert AggregateEvent.select((thing, str(uuid.UUID(int=5)))) is not None
    two = select(Product.id, Product.name)
    with pytest.raises(EventsError, match=r"of Product is \(id\), got a SELECT of \("):
        AggregateEvent.select((Product, two))
    with pytest.raises(EventsError, match="is one value, got"):
        history.changes((Product, select(Product.id)), "name")


def test_the_id_of_something_else_is_no_context(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    class Person(base):  # type: ignore[misc, valid-type]
        __tablename__ = "person"
        id: Mapped[uuid.UUID] = mapped_column(primary_key=True)

    track()(Person)
    create_all()
    pg_session.add(Person(id=uuid.UUID(int=7)))
    pg_session.commit()
    person = pg_session.scalars(select(Person)).one()
    (event,) = pg_session.scalars(Person.events.select())
    for wrong in (person, event):
        with pytest.raises(EventsError, match="^context is a context, its id as"):
            AggregateEvent.select(Person, context=wrong)
        if wrong is person:
            with pytest.raises(UndoError, match="^context is a context"):
                history.undo(pg_session, base, context=wrong)


def test_across_alone_means_all_events_of_these(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    alone = ids(pg_session, AggregateEvent.select(across=[shop.Maker, shop.tagged]))
    assert alone == ids(pg_session, AggregateEvent.select(shop.Maker, shop.tagged))
    assert {model for model, _ in alone} == {"Maker", "tagged"}


def test_rows_are_as_their_annotation_says(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    result = pg_session.execute(AggregateEvent.select(shop.Product, shop.tagged))
    assert tuple(result.keys()) == AggregateRow._fields
    assert AggregateEvent.rows(result) is result
    columns = get_type_hints(AggregateEvent)
    for name, type_ in get_type_hints(AggregateRow).items():
        assert columns[name] == ClassVar[ColumnClause[type_]]  # type: ignore[valid-type]


def test_labels_are_a_list(shop: SimpleNamespace) -> None:
    with pytest.raises(EventsError, match="labels is a list of labels, got 'snapshot'"):
        AggregateEvent.select(shop.Maker, labels="snapshot")


@pytest.mark.parametrize("kind", ["context", "id", "metadata"])
def test_events_of_a_context_are_also_those_of_its_copies_and_of_what_is_within_it(
    shop: SimpleNamespace, pg_session: Session, base: type[DeclarativeBase], kind: str
) -> None:
    """A transaction that has other keys than an earlier one stores a copy."""
    Product = shop.Product

    def price(number: int) -> None:
        pg_session.execute(
            update(Product).where(Product.id == number).values(price=number + 100)
        )
        pg_session.commit()

    with history.context(pg_session, user=7) as block:
        price(1)
        history.annotate(pg_session, reason="more")
        price(3)
        with history.context(pg_session, step="inner"):
            price(4)
    with history.context(pg_session, user=8):
        pg_session.execute(update(Product).where(Product.id == 1).values(price=1))
        pg_session.commit()
    first, copied, inner = (
        pg_session.scalars(Product.events.of(number).last()).one().pgh_context
        for number in (1, 3, 4)
    )
    first = pg_session.get_one(type(copied), block.id)
    assert len({first.id, copied.id, inner.id}) == 3
    of_block = {"context": block, "id": block.id, "metadata": {"user": 7}}[kind]
    found = pg_session.execute(AggregateEvent.select(base, context=of_block)).all()
    assert [(row.pgh_obj_model, row.pgh_obj_id) for row in found] == [
        ("Product", "1"),
        ("Product", "3"),
        ("Product", "4"),
    ]
    of_copy = {"context": copied, "id": copied.id, "metadata": {"reason": "more"}}[kind]
    found = pg_session.execute(AggregateEvent.select(Product, context=of_copy)).all()
    assert [row.pgh_obj_id for row in found][:1] == ["3"]


def test_events_within_a_context_are_found_by_indexes(
    shop: SimpleNamespace, pg_session: Session, base: type[DeclarativeBase]
) -> None:
    contexts = base.metadata.tables["pghistory_context"]
    events = shop.Product.events.table
    filled = (
        f"INSERT INTO {contexts.name} (id, metadata, parent_id)"
        " SELECT md5(n::text)::uuid, '{}', CASE WHEN n % 10 = 0 THEN"
        " md5((n - 1)::text)::uuid END FROM generate_series(1, 60000) AS n",
        f"INSERT INTO {events.name} (pgh_label, pgh_op, pgh_xact_id, pgh_obj_id, id,"
        " pgh_context_id) SELECT 'snapshot', 'U', n, n, n, md5(n::text)::uuid"
        " FROM generate_series(1, 60000) AS n",
        f"ANALYZE {contexts.name}, {events.name}",
    )
    for statement in filled:
        pg_session.execute(text(statement))
    wanted = pg_session.scalar(
        select(contexts.c.parent_id).where(contexts.c.parent_id.is_not(None)).limit(1)
    )
    statement = AggregateEvent.select(shop.Product, shop.Maker, context=wanted)
    assert len(pg_session.execute(statement).all()) == 2
    connection = pg_session.connection()
    written = statement.compile(connection, compile_kwargs={"literal_binds": True})
    lines = connection.exec_driver_sql(f"EXPLAIN {written}").scalars()
    plan = "\n".join(lines)
    assert "ix_pghistory_context_parent_id" in plan
    assert "ix_product_event_pgh_context_id" in plan
    assert "Seq Scan on pghistory_context" not in plan
    assert "Seq Scan on product_event" not in plan


def test_events_of_a_transaction_and_of_keys_of_a_context(
    shop: SimpleNamespace, pg_session: Session, base: type[DeclarativeBase]
) -> None:
    Product, select_ = shop.Product, AggregateEvent.select
    inline = track(context="inline")(
        Table("inline", base.metadata, Column("id", Integer, primary_key=True))
    )
    plain = track(context=None)(
        Table("plain", base.metadata, Column("id", Integer, primary_key=True))
    )
    base.metadata.create_all(pg_session.connection())
    pg_session.commit()
    with history.context(pg_session, user=7, tags={"a": [1]}):
        pg_session.execute(update(Product).where(Product.id == 1).values(price=1))
        pg_session.execute(insert(inline).values(id=1))
        pg_session.execute(insert(plain).values(id=1))
        pg_session.commit()
    with history.context(pg_session, user=8):
        pg_session.execute(insert(inline).values(id=2))
        pg_session.commit()
    of_7 = {("Product", "1"), ("inline", "1")}
    for keys in ({"user": 7}, {"tags": {"a": [1]}}, {"user": 7, "tags": {}}):
        assert ids(pg_session, select_(base, context=keys)) == of_7
    assert ids(pg_session, select_(base, context={"user": "7"})) == set()
    with history.context(pg_session, day=datetime.date(2026, 1, 2)):
        pg_session.execute(insert(inline).values(id=3))
        pg_session.commit()
    of_day = select_(base, context={"day": datetime.date(2026, 1, 2)})
    assert ids(pg_session, of_day) == {("inline", "3")}
    with pytest.raises(ContextError, match="context value 'day' is <object"):
        select_(base, context={"day": object()})
    (event,) = pg_session.scalars(Product.events.of(1).last())
    together = select_(base, transaction=event.pgh_xact_id)
    assert ids(pg_session, together) == of_7 | {("plain", "1")}
    whole = select_(base)
    by_key = whole.where(AggregateEvent.pgh_context["user"].as_integer() == 8)
    assert ids(pg_session, by_key) == {("inline", "2")}
    changed = whole.where(AggregateEvent.pgh_diff.has_key("maker_id"))
    assert found(pg_session, changed) == [("Product", "1", "U")]


def test_the_statement_is_one_as_any_other(
    shop: SimpleNamespace, pg_session: Session, pg_async_engine: AsyncEngine
) -> None:
    metadata = shop.Product.metadata
    statement = AggregateEvent.select(
        metadata, (shop.Product, select(shop.Product.id)), references=2, limit=12
    )
    whole = pg_session.execute(statement).all()
    assert len(whole) == 12
    streamed = pg_session.execute(statement.execution_options(yield_per=5))
    assert [len(part) for part in streamed.partitions()] == [5, 5, 2]
    events = statement.subquery()
    count = select(events.c.pgh_obj_model, func.count()).group_by(
        events.c.pgh_obj_model
    )
    counted = [n for _, n in pg_session.execute(count)]
    assert sum(counted) == 12
    shown = select(shop.Product.name, events.c.pgh_op).join(
        events, events.c.pgh_obj_id == shop.Product.id.cast(Text)
    )
    assert pg_session.execute(shown).first() is not None
    seen: list[int] = []
    before = None
    while page := pg_session.execute(
        AggregateEvent.select(metadata, newest_first=True, limit=5, before=before)
    ).all():
        seen += [row.pgh_id for row in page]
        before = seen[-1]
    every = pg_session.execute(AggregateEvent.select(metadata)).all()
    assert seen[::-1] == [row.pgh_id for row in every]

    async def main() -> Any:
        async with AsyncSession(pg_async_engine) as session:
            streamed = await session.stream(statement)
            return [row async for row in streamed]

    assert asyncio.run(main()) == whole


def test_references_are_found_by_an_index(
    shop: SimpleNamespace, pg_session: Session, pg_engine: Engine
) -> None:
    Product = shop.Product
    makers = [{"id": n, "name": "x"} for n in range(10, 1010)]
    pg_session.execute(insert(shop.Maker), makers)
    pg_session.execute(
        insert(Product),
        [{"id": n, "name": "x", "price": 1, "maker_id": n} for n in range(10, 1010)],
    )
    pg_session.execute(text("ANALYZE product_event, maker_event"))
    statement = AggregateEvent.select((shop.Maker, 500), references=True, limit=50)
    compiled = statement.compile(pg_engine, compile_kwargs={"literal_binds": True})
    plan = "\n".join(pg_session.scalars(text(f"EXPLAIN {compiled}")))
    assert "ix_product_event_maker_id" in plan, plan
    assert "Seq Scan on product_event" not in plan


def test_an_index_names_what_is_tracked(base: type[DeclarativeBase]) -> None:
    table = Table(
        "log", base.metadata, Column("id", Integer, primary_key=True), Column("a", Text)
    )
    with pytest.raises(history.exc.DefinitionError, match="index names 'b', which is"):
        track(index=["b"])(table)
