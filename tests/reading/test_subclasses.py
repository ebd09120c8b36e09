"""Subclasses as targets: the history of their rows, and of no other rows."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    Boolean,
    ForeignKey,
    ForeignKeyConstraint,
    case,
    delete,
    select,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    configure_mappers,
    mapped_column,
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
from sa_history.exc import ConflictError, EventsError, UndoError


def models(
    base: type[DeclarativeBase], *trackers: Any, kind: Any = "kind", **options: Any
) -> SimpleNamespace:
    """Persons, of whom some are managers with a table of their own, and some bosses."""
    mapping: dict[str, Any] = {"polymorphic_identity": "person"}
    mapping |= {} if kind is None else {"polymorphic_on": kind}

    @track(*trackers, **options)
    class Person(base):  # type: ignore[misc, valid-type]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(default="person")
        name: Mapped[str] = mapped_column(default="")
        __mapper_args__ = mapping

    class Guest(Person):
        __mapper_args__ = {"polymorphic_identity": "guest"}

    class Manager(Person):
        __tablename__ = "manager"
        id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
        __mapper_args__ = {"polymorphic_identity": "manager"}

    class Boss(Manager):
        __mapper_args__ = {"polymorphic_identity": "boss"}

    return SimpleNamespace(Person=Person, Guest=Guest, Manager=Manager, Boss=Boss)


def add_one_of_each(session: Session, m: SimpleNamespace) -> None:
    session.add_all([m.Person(id=1), m.Guest(id=2), m.Manager(id=3), m.Boss(id=4)])
    session.commit()


def keys_in(session: Session, statement: Any) -> set[tuple[str, str]]:
    return {(row.pgh_obj_model, row.pgh_obj_id) for row in session.execute(statement)}


def of_person(*keys: str) -> set[tuple[str, str]]:
    return {("Person", key) for key in keys}


def of_manager(*keys: str) -> set[tuple[str, str]]:
    return {("Manager", key) for key in keys}


def test_events_of_a_subclass_are_those_of_its_rows(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    m = models(base)
    track()(m.Manager)
    create_all()
    add_one_of_each(pg_session, m)

    def found(*targets: Any, **options: Any) -> set[tuple[str, str]]:
        return keys_in(pg_session, AggregateEvent.select(*targets, **options))

    assert found(m.Person) == of_person("1", "2", "3", "4")
    assert found(m.Guest) == of_person("2")
    assert found(m.Manager) == of_person("3", "4") | of_manager("3", "4")
    assert found(m.Boss) == of_person("4") | of_manager("4")
    assert found(m.Guest, m.Boss) == of_person("2", "4") | of_manager("4")
    assert found(m.Guest, m.Person) == of_person("1", "2", "3", "4")
    assert found(across=m.Guest) == of_person("2")
    assert found(base, across=[m.Guest]) == of_person("2")
    assert found(m.Boss, across=[m.Guest]) == set()
    assert keys_in(pg_session, history.feed(m.Guest)) <= of_person("2")


@pytest.mark.usefixtures("undo_way")
def test_undo_of_a_subclass_is_of_its_rows(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    m = models(base)
    track()(m.Manager)
    create_all()
    add_one_of_each(pg_session, m)
    for table in (m.Manager.__table__, m.Person.__table__):
        pg_session.execute(delete(table))
    pg_session.commit()
    gone = pg_session.scalars(m.Person.events.last()).one()
    for targets, expected in [
        ([m.Guest], [2]),
        ([m.Boss], [4]),
        ([m.Guest, m.Manager], [2, 3, 4]),
        ([m.Guest, m.Person], [1, 2, 3, 4]),
    ]:
        history.undo(pg_session, *targets, transaction=gone, force=True)
        ids = select(m.Person.__table__.c.id).order_by("id")
        assert pg_session.scalars(ids).all() == expected
        pg_session.rollback()


@pytest.mark.usefixtures("undo_way")
def test_undo_of_a_subclass_leaves_rows_of_other_classes_alone(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    m = models(base)
    track()(m.Manager)
    create_all()
    add_one_of_each(pg_session, m)
    person, manager = m.Person.__table__, m.Manager.__table__
    pg_session.execute(update(person).values(name="x"))
    pg_session.execute(delete(manager).where(manager.c.id == 3))
    pg_session.execute(delete(person).where(person.c.id == 3))
    pg_session.add_all([m.Person(id=5), m.Guest(id=6), m.Manager(id=7), m.Boss(id=8)])
    pg_session.commit()
    changed = pg_session.scalars(m.Person.events.last()).one()
    everyone = {1: "x", 2: "x", 4: "x", 5: "", 6: "", 7: "", 8: ""}

    def found() -> dict[int, str]:
        return {row.id: row.name for row in pg_session.execute(names)}

    names = select(person.c.id, person.c.name)
    for target, expected in [
        (m.Guest, {**everyone, 2: "", 6: None}),
        (m.Boss, {**everyone, 4: "", 8: None}),
        (m.Manager, {**everyone, 3: "", 4: "", 7: None, 8: None}),
    ]:
        history.undo(pg_session, target, transaction=changed)
        assert found() == {k: n for k, n in expected.items() if n is not None}
        keys = {3, 4, 7, 8} & {*found()}
        assert {*pg_session.scalars(select(manager.c.id))} == keys
        pg_session.rollback()


@pytest.mark.usefixtures("undo_way")
def test_undo_of_a_subclass_goes_by_the_class_that_each_event_stores(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    m = models(base)
    create_all()
    pg_session.add_all(
        [m.Person(id=1, name="a"), m.Guest(id=2, name="b"), m.Guest(id=3, name="c")]
    )
    pg_session.commit()
    person = m.Person.__table__

    def change(key: int, **values: Any) -> None:
        pg_session.execute(update(person).where(person.c.id == key).values(**values))

    change(1, kind="guest", name="A")  # becomes a guest
    change(2, kind="person", name="B")  # is none any more
    change(3, name="C")  # is one, and then none any more
    change(3, kind="person")
    pg_session.add(m.Guest(id=4, name="d"))  # comes as one, and is none any more
    pg_session.flush()
    change(4, kind="person")
    pg_session.commit()
    changed = pg_session.scalars(m.Person.events.last()).one()
    with pytest.raises(ConflictError, match="kind is 'person' and was 'guest'"):
        history.undo(pg_session, m.Guest, transaction=changed)
    history.undo(pg_session, m.Guest, transaction=changed, force=True)
    by_key = select(person.c.id, person.c.kind, person.c.name).order_by("id")
    assert pg_session.execute(by_key).all() == [
        (1, "person", "a"),
        (2, "person", "B"),
        (3, "person", "c"),
    ]


def test_a_subclass_is_undone_if_only_other_rows_lack_events(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    m = models(base, Snapshot)
    create_all()
    pg_session.add(m.Person(id=1))
    pg_session.commit()
    added = pg_session.scalars(m.Person.events.last()).one()
    assert history.undo(pg_session, m.Guest, transaction=added).steps == ()
    with pytest.raises(UndoError, match="'person' was changed as well"):
        history.undo(pg_session, m.Person, transaction=added)


def test_events_without_the_discriminator_are_found_by_the_key(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    name = AfterUpdate(columns=["name"], label="name")
    m = models(base, Snapshot, name, AfterDelete)
    create_all()
    add_one_of_each(pg_session, m)
    for person in pg_session.scalars(select(m.Person)):
        person.name = "x"
    pg_session.commit()
    events = AggregateEvent.select(m.Guest)
    rows = pg_session.execute(events).all()
    assert {row.pgh_obj_id for row in rows} == {"2"}
    assert sorted(row.pgh_label for row in rows) == ["name", "snapshot", "snapshot"]


@pytest.mark.parametrize("kind", [None, "kind"])
def test_rows_of_joined_inheritance_are_found_by_their_own_table(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    kind: str | None,
) -> None:
    m = models(base, kind=kind, exclude=["kind"])
    track()(m.Manager)
    create_all()
    pg_session.add_all([m.Person(id=1), m.Manager(id=3)])
    pg_session.commit()
    found = keys_in(pg_session, AggregateEvent.select(m.Manager))
    assert found == of_person("3") | of_manager("3")


def test_classes_without_a_discriminator_share_all_rows(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    m = models(base, kind=None)
    create_all()
    pg_session.add_all([m.Person(id=1), m.Guest(id=2)])
    pg_session.commit()
    found = keys_in(pg_session, AggregateEvent.select(m.Guest))
    assert found == of_person("1", "2")
    assert set(pg_session.scalars(select(m.Guest.id))) == {1, 2}


@pytest.mark.parametrize("name", ["Guest", "Manager"])
def test_a_subclass_whose_rows_no_event_tells_apart_is_refused(
    base: type[DeclarativeBase], name: str
) -> None:
    m = models(base, exclude=["kind"])
    with pytest.raises(EventsError, match=f"{name} shares the table 'person' with"):
        AggregateEvent.select(getattr(m, name))


def test_a_discriminator_that_is_no_column_is_refused(
    base: type[DeclarativeBase],
) -> None:
    @track()
    class Animal(base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        tame = mapped_column(Boolean)
        __mapper_args__ = {
            "polymorphic_on": case((tame, "pet"), else_="animal"),
            "polymorphic_identity": "animal",
        }

    class Pet(Animal):
        __mapper_args__ = {"polymorphic_identity": "pet"}

    with pytest.raises(EventsError, match="Pet shares the table 'animal' with"):
        AggregateEvent.select(Pet)


@pytest.mark.parametrize("has_foreign_key", [True, False])
def test_a_key_of_another_name_than_the_parents_leads_to_the_events(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    has_foreign_key: bool,
) -> None:
    @track()
    class Person(base):  # type: ignore[misc, valid-type]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    references = [ForeignKey("person.id")] if has_foreign_key else []

    @track(Snapshot, AfterDelete, Manual("seen"))
    class Mechanic(Person):
        __tablename__ = "mechanic"
        person_id: Mapped[int] = mapped_column(*references, primary_key=True)
        tool: Mapped[str]
        __mapper_args__ = {
            "polymorphic_identity": "mechanic",
            "inherit_condition": person_id == Person.id,
        }

    create_all()
    person = Mechanic(id=7, person_id=7, tool="map")
    pg_session.add(person)
    pg_session.commit()
    person.tool = "wrench"
    pg_session.commit()
    found = pg_session.execute(history.changes(person, "tool"))
    assert [change.after for change in found] == ["map", "wrench"]
    seen = history.create_event(pg_session, person, label="seen")
    assert (seen.person_id, seen.tool) == (7, "wrench")
    first = pg_session.scalars(person.events.first()).one()
    assert first.revert(pg_session) is person
    assert person.tool == "map"


def test_a_key_with_its_columns_in_another_order_than_the_parents_leads_to_the_events(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @track()
    class Place(base):  # type: ignore[misc, valid-type]
        __tablename__ = "place"
        town: Mapped[str] = mapped_column(primary_key=True)
        number: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "place"}

    @track()
    class Shop(Place):
        __tablename__ = "shop"
        shop_number: Mapped[int] = mapped_column(primary_key=True)
        shop_town: Mapped[str] = mapped_column(primary_key=True)
        name: Mapped[str]
        __table_args__ = (
            ForeignKeyConstraint(
                ["shop_town", "shop_number"], ["place.town", "place.number"]
            ),
        )
        __mapper_args__ = {"polymorphic_identity": "shop"}

    create_all()
    shop = Shop(town="a", number=1, name="x")
    pg_session.add(shop)
    pg_session.commit()
    shop.name = "y"
    pg_session.commit()
    first = pg_session.scalars(shop.events.first()).one()
    assert first.revert(pg_session) is shop
    assert shop.name == "x"


def test_a_column_that_a_subclass_adds_later_is_read_as_well(
    base: type[DeclarativeBase],
) -> None:
    @track()
    class Animal(base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]

    def read() -> str:
        return str(
            AggregateEvent.select(Animal.metadata).compile(
                dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}
            )
        )

    assert "'wings'" not in read()

    class Bird(Animal):
        __mapper_args__ = {"polymorphic_identity": "bird"}
        wings: Mapped[int | None]

    configure_mappers()
    assert "'wings'" in read()
    base.registry.dispose()
