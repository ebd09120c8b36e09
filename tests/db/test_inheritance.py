"""Tracking of models that inherit from others: joined, single-table and concrete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterUpdate, HistoryMixin, Manual, Snapshot, new, track
from sa_history.exc import DefinitionError, EventsError
from tests.db.helpers import people

Recorded = Callable[..., list[tuple[Any, ...]]]
CreateAll = Callable[[], None]


def hire_and_promote(session: Session, employee_class: Any) -> Any:
    employee = employee_class(id=1, name="Ann", salary=10)
    session.add(employee)
    session.flush()
    employee.salary = 20
    session.flush()
    employee.name = "Anne"
    session.commit()
    return employee


def test_joined_parent_records_the_parents_row_only(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    level: str,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    person, employee_class = people(base, track(level=level), None)
    create_all()
    employee = hire_and_promote(pg_session, employee_class)
    assert recorded(person, "id", "kind", "name") == [
        ("snapshot", "I", 1, "employee", "Ann", None),
        ("snapshot", "U", 1, "employee", "Anne", None),
    ]
    events = pg_session.scalars(employee.events.select()).all()
    assert [event.pgh_obj for event in events] == [employee, employee]


def test_joined_child_records_the_childs_row_only(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    level: str,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    person, employee_class = people(base, None, track(level=level))
    create_all()
    employee = hire_and_promote(pg_session, employee_class)
    assert not hasattr(person, "events")
    assert recorded(employee_class, "id", "salary") == [
        ("snapshot", "I", 1, 10, None),
        ("snapshot", "U", 1, 20, None),
    ]
    events = pg_session.scalars(employee.events.select()).all()
    assert [event.pgh_obj for event in events] == [employee, employee]


def test_joined_parent_and_child_have_a_history_each(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    level: str,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    person, employee_class = people(base, track(level=level), track(level=level))
    create_all()
    employee = hire_and_promote(pg_session, employee_class)
    pg_session.delete(employee)
    pg_session.commit()
    assert recorded(person, "name") == [
        ("snapshot", "I", "Ann", None),
        ("snapshot", "U", "Anne", None),
        ("delete", "D", "Anne", None),
    ]
    assert recorded(employee_class, "salary") == [
        ("snapshot", "I", 10, None),
        ("snapshot", "U", 20, None),
        ("delete", "D", 20, None),
    ]


def test_events_of_a_class_with_three_tables_are_those_of_its_own(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    level: str,
    pg_session: Session,
) -> None:
    person, employee_class = people(base, track(level=level), track(level=level))

    @track(level=level)
    class Manager(employee_class):  # type: ignore[misc]
        __tablename__ = "manager"
        id: Mapped[int] = mapped_column(ForeignKey(employee_class.id), primary_key=True)
        bonus: Mapped[int]
        __mapper_args__ = {"polymorphic_identity": "manager"}

    create_all()
    manager = Manager(id=1, name="Ann", salary=10, bonus=3)
    pg_session.add(manager)
    pg_session.commit()
    for target in (Manager, manager):
        (event,) = pg_session.scalars(history.events(target).select())
        assert event.bonus == 3
    (change,) = pg_session.execute(history.changes(manager, "id"))
    assert change.pgh_id == event.pgh_id
    assert history.events(employee_class).table.name == "employee_event"
    assert history.events(person).table.name == "person_event"


def test_mixin_tracks_joined_subclasses_unless_they_say_otherwise(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    level: str,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    class Person(HistoryMixin, base):  # type: ignore[misc, valid-type]
        __tablename__ = "person"
        __history__ = (Snapshot(label="changed"),)
        __history_options__ = {"level": level}
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    class Employee(Person):
        __tablename__ = "employee"
        id: Mapped[int] = mapped_column(ForeignKey(Person.id), primary_key=True)
        salary: Mapped[int]
        __mapper_args__ = {"polymorphic_identity": "employee"}

    class Guest(Person):
        __tablename__ = "guest"
        __history__ = None
        id: Mapped[int] = mapped_column(ForeignKey(Person.id), primary_key=True)
        room: Mapped[int]
        __mapper_args__ = {"polymorphic_identity": "guest"}

    class Manager(Employee):  # in the table of employees
        bonus: Mapped[int | None]
        __mapper_args__ = {"polymorphic_identity": "manager"}

    create_all()
    pg_session.add_all([Manager(id=1, salary=10, bonus=3), Guest(id=2, room=5)])
    pg_session.commit()
    assert recorded(Person, "id", "kind") == [
        ("changed", "I", 1, "manager", None),
        ("changed", "I", 2, "guest", None),
    ]
    assert recorded(Employee, "id", "salary", "bonus") == [
        ("changed", "I", 1, 10, 3, None)
    ]
    assert Employee.events.table.name == Manager.events.table.name == "employee_event"
    assert "guest_event" not in base.metadata.tables
    assert Guest.events.table.name == "person_event"


def test_columns_that_subclasses_add_are_recorded(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    level: str,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    @track(
        Snapshot,
        AfterUpdate(new.kind == "dog", label="dog"),
        Manual("fed"),
        level=level,
    )
    class Pet(base):  # type: ignore[misc, valid-type]
        __tablename__ = "pet"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "pet"}

    class Dog(Pet):
        tricks: Mapped[int | None] = mapped_column("number_of_tricks")
        __mapper_args__ = {"polymorphic_identity": "dog"}

    # To ask for it maps the event class, in the middle of an import perhaps.
    assert not hasattr(Pet.events.model, "weeks")

    class Puppy(Dog):
        weeks: Mapped[int | None] = mapped_column("age_in_weeks")
        __mapper_args__ = {"polymorphic_identity": "puppy"}

    assert Pet.events.model.tricks.expression.name == "number_of_tricks"
    assert Pet.events.model.weeks.expression.name == "age_in_weeks"
    create_all()
    dog, puppy = Dog(id=1, tricks=1), Puppy(id=2, tricks=0, weeks=5)
    pg_session.add_all([dog, puppy])
    pg_session.flush()
    dog.tricks = 2
    pg_session.flush()
    puppy.weeks = 6
    pg_session.flush()
    history.create_event(pg_session, puppy, label="fed")
    pg_session.commit()
    assert recorded(Pet, "id", "tricks", "weeks") == [
        ("snapshot", "I", 1, 1, None, None),
        ("snapshot", "I", 2, 0, 5, None),
        ("snapshot", "U", 1, 2, None, None),
        ("dog", "U", 1, 2, None, None),
        ("snapshot", "U", 2, 0, 6, None),
        ("fed", "M", 2, 0, 6, None),
    ]
    events = pg_session.scalars(puppy.events.select()).all()
    assert {event.pgh_obj for event in events} == {puppy}
    assert len(events) == 3


def test_subclass_without_a_table_cannot_be_tracked(
    base: type[DeclarativeBase],
) -> None:
    class Pet(base):  # type: ignore[misc, valid-type]
        __tablename__ = "pet"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "pet"}

    with pytest.raises(DefinitionError, match="track Pet"):

        @track()
        class Dog(Pet):
            __mapper_args__ = {"polymorphic_identity": "dog"}


def test_concrete_subclass_is_tracked_by_itself(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    level: str,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    @track(level=level)
    class Paper(base):  # type: ignore[misc, valid-type]
        __tablename__ = "paper"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]

    class Draft(Paper):
        __tablename__ = "draft"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        __mapper_args__ = {"concrete": True}

    with pytest.raises(EventsError, match="put @track"):
        Draft.events
    track(level=level)(Draft)
    create_all()
    pg_session.add_all([Paper(id=1, title="a"), Draft(id=2, title="b")])
    pg_session.commit()
    assert recorded(Paper, "id", "title") == [("snapshot", "I", 1, "a", None)]
    assert recorded(Draft, "id", "title") == [("snapshot", "I", 2, "b", None)]


def test_mixin_tracks_concrete_subclasses(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    class Paper(HistoryMixin, base):  # type: ignore[misc, valid-type]
        __tablename__ = "paper"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Draft(Paper):
        __tablename__ = "draft"
        id: Mapped[int] = mapped_column(primary_key=True)
        version: Mapped[int]
        __mapper_args__ = {"concrete": True}

    create_all()
    pg_session.add_all([Paper(id=1), Draft(id=2, version=3)])
    pg_session.commit()
    assert recorded(Paper, "id") == [("snapshot", "I", 1, None)]
    assert recorded(Draft, "id", "version") == [("snapshot", "I", 2, 3, None)]
