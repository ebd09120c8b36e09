"""Models of every kind, and every option of tracking, in the database."""

from __future__ import annotations

import asyncio
import datetime
import uuid
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import (
    Column,
    DateTime,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    mapped_column,
    relationship,
    scoped_session,
    sessionmaker,
)

import sa_history as history
from sa_history import (
    AfterDelete,
    AfterInsert,
    AfterUpdate,
    Event,
    HistoryMixin,
    Manual,
    Snapshot,
    new,
    track,
)
from sa_history.exc import (
    AppendOnlyError,
    ContextRequiredError,
    DefinitionError,
    EventsError,
)

Recorded = Callable[..., list[tuple[Any, ...]]]
CreateAll = Callable[[], None]

BY = {"user": 7}


# Joined-table inheritance: an object has a row in each table


def people(base: type[DeclarativeBase], of_parent: Any, of_child: Any) -> Any:
    """A Person, and an Employee with a table of its own."""

    class Person(base):  # type: ignore[misc, valid-type]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        name: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    if of_parent:
        of_parent(Person)

    class Employee(Person):
        __tablename__ = "employee"
        id: Mapped[int] = mapped_column(ForeignKey(Person.id), primary_key=True)
        salary: Mapped[int]
        __mapper_args__ = {"polymorphic_identity": "employee"}

    if of_child:
        of_child(Employee)
    return Person, Employee


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


# Single-table inheritance: subclasses add columns to one table


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


# Concrete inheritance: classes share attributes, not tables


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


# Other kinds of models


def test_dataclasses_are_tracked_by_decorator_and_by_mixin(
    pg_engine: Engine, level: str, recorded: Recorded
) -> None:
    class Base(MappedAsDataclass, DeclarativeBase, kw_only=True):
        pass

    @track(Snapshot, Manual("seen"), level=level)
    class Account(Base):
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        balance: Mapped[int] = mapped_column(default=5)

    class Owner(HistoryMixin, Base):
        __tablename__ = "owner"
        __history_options__ = {"level": level}
        id: Mapped[int] = mapped_column(primary_key=True)

    Base.metadata.create_all(pg_engine)
    with Session(pg_engine) as session:
        account = Account()
        session.add_all([account, Owner(id=1)])
        history.create_event(session, account, label="seen")
        session.commit()
    assert recorded(Account, "id", "balance") == [
        ("snapshot", "I", 1, 5, None),
        ("seen", "M", 1, 5, None),
    ]
    assert recorded(Owner, "id") == [("snapshot", "I", 1, None)]


def test_table_without_a_key_is_tracked(
    pg_engine: Engine, level: str, recorded: Recorded
) -> None:
    readings = Table(
        "readings",
        MetaData(),
        Column("at", Integer),
        Column("Value", Integer, key="value"),
    )
    track(Snapshot, AfterUpdate(new.value > 5, label="high"), AfterDelete, level=level)(
        readings
    )
    readings.metadata.create_all(pg_engine)
    with pg_engine.begin() as connection, history.context(connection, **BY):
        # Rows that nothing tells apart.
        connection.execute(insert(readings), [{"at": 1, "value": 1}] * 2)
        connection.execute(update(readings).values(value=readings.c.value + 5))
        connection.execute(delete(readings))
    assert recorded(readings, "at", "value") == [
        *[("snapshot", "I", 1, 1, BY)] * 2,
        *(
            [("snapshot", "U", 1, 6, BY)] * 2 + [("high", "U", 1, 6, BY)] * 2
            if level == "statement"
            else [("snapshot", "U", 1, 6, BY), ("high", "U", 1, 6, BY)] * 2
        ),
        *[("delete", "D", 1, 6, BY)] * 2,
    ]
    table = history.events(readings).table
    assert "pgh_obj_id" not in table.c


def test_association_table_records_who_is_in_and_out(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    level: str,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    members = Table(
        "members",
        base.metadata,
        Column("group_id", ForeignKey("group.id"), primary_key=True),
        Column("user_id", ForeignKey("user.id"), primary_key=True),
    )
    track(AfterInsert(label="joined"), AfterDelete(label="left"), level=level)(members)

    class User(base):  # type: ignore[misc, valid-type]
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Group(base):  # type: ignore[misc, valid-type]
        __tablename__ = "group"
        id: Mapped[int] = mapped_column(primary_key=True)
        users: Mapped[list[User]] = relationship(secondary=members)

    create_all()
    ann, bob = User(id=1), User(id=2)
    group = Group(id=3, users=[ann, bob])
    pg_session.add(group)
    with history.context(pg_session, **BY):
        pg_session.flush()
        group.users.remove(ann)
        pg_session.commit()
    assert recorded(members, "group_id", "user_id") == [
        ("joined", "I", 3, 1, BY),
        ("joined", "I", 3, 2, BY),
        ("left", "D", 3, 1, BY),
    ]


def test_column_with_the_type_of_its_foreign_key_is_tracked_before_that_exists(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    level: str,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    @track(Snapshot, AfterDelete, Manual("seen"), level=level)
    class Profile(base):  # type: ignore[misc, valid-type]
        __tablename__ = "profile"
        user_id: Mapped[uuid.UUID] = mapped_column(
            ForeignKey("user.id"), primary_key=True
        )
        friend_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user.id"))

    class User(base):  # type: ignore[misc, valid-type]
        __tablename__ = "user"
        id: Mapped[uuid.UUID] = mapped_column(primary_key=True)

    columns = Profile.events.table.c
    for name in ("pgh_obj_id", "user_id", "friend_id"):
        assert isinstance(columns[name].type, Uuid)
        assert not columns[name].foreign_keys
    create_all()
    ann, bob = uuid.UUID(int=1), uuid.UUID(int=2)
    pg_session.add_all([User(id=ann), User(id=bob)])
    pg_session.flush()
    profile = Profile(user_id=ann)
    pg_session.add(profile)
    pg_session.flush()
    profile.friend_id = bob
    pg_session.flush()
    history.create_event(pg_session, profile, label="seen")
    pg_session.commit()
    assert recorded(Profile, "pgh_obj_id", "user_id", "friend_id") == [
        ("snapshot", "I", ann, ann, None, None),
        ("snapshot", "U", ann, ann, bob, None),
        ("seen", "M", ann, ann, bob, None),
    ]
    of_bob = Profile.events.where(Profile.events.friend_id == bob)
    assert len(pg_session.scalars(of_bob).all()) == 2
    copied = Profile.events.table.to_metadata(MetaData())
    assert isinstance(copied.c.friend_id.type, Uuid)


@pytest.fixture
def partitioned(
    base: type[DeclarativeBase], create_all: CreateAll, level: str, pg_engine: Engine
) -> Any:
    """A table in two parts, for days below 10 and above."""

    @track(
        Snapshot,
        AfterUpdate(new.value > 100, label="high"),
        AfterDelete,
        level=level,
    )
    class Reading(base):  # type: ignore[misc, valid-type]
        __tablename__ = "reading"
        __table_args__ = {"postgresql_partition_by": "RANGE (day)"}
        day: Mapped[int] = mapped_column(primary_key=True)
        value: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    with pg_engine.begin() as connection:
        part = "CREATE TABLE {} PARTITION OF reading FOR VALUES FROM ({}) TO ({})"
        connection.execute(text(part.format("early", 0, 10)))
        connection.execute(text(part.format("late", 10, 20)))
    return Reading


def test_partitioned_table_is_recorded_through_the_parent(
    partitioned: Any, pg_session: Session, recorded: Recorded
) -> None:
    with history.context(pg_session, **BY):
        rows = [{"day": day, "value": 1} for day in (5, 15)]
        pg_session.execute(insert(partitioned), rows)
        pg_session.execute(text("UPDATE reading SET value = 101 WHERE day = 15"))
        pg_session.execute(text("DELETE FROM reading WHERE day = 5"))
        pg_session.execute(text("TRUNCATE reading"))
        pg_session.commit()
    assert recorded(partitioned, "day", "value") == [
        ("snapshot", "I", 5, 1, BY),
        ("snapshot", "I", 15, 1, BY),
        ("snapshot", "U", 15, 101, BY),
        ("high", "U", 15, 101, BY),
        ("delete", "D", 5, 1, BY),
        ("delete", "T", 15, 101, BY),
    ]


def test_row_that_moves_to_another_partition_is_recorded(
    partitioned: Any, level: str, pg_session: Session, recorded: Recorded
) -> None:
    pg_session.execute(text("INSERT INTO reading VALUES (5, 1), (6, 2), (15, 3)"))
    pg_session.execute(text("UPDATE reading SET day = day + 4, value = value * 100"))
    pg_session.commit()
    found = sorted(recorded(partitioned, "day", "value")[3:], key=lambda e: e[3])
    if level == "statement":
        assert found == [
            ("snapshot", "U", 9, 100, None),
            ("snapshot", "U", 10, 200, None),
            ("high", "U", 10, 200, None),
            ("snapshot", "U", 19, 300, None),
            ("high", "U", 19, 300, None),
        ]
    else:  # for PostgreSQL's row triggers a move is a DELETE and an INSERT
        assert found == [
            ("delete", "D", 6, 2, None),
            ("snapshot", "U", 9, 100, None),
            ("snapshot", "I", 10, 200, None),
            ("snapshot", "U", 19, 300, None),
            ("high", "U", 19, 300, None),
        ]


def test_write_to_a_partition_itself_is_recorded_at_row_level(
    partitioned: Any, level: str, pg_session: Session, recorded: Recorded
) -> None:
    pg_session.execute(text("INSERT INTO early VALUES (5, 1)"))
    pg_session.execute(text("UPDATE early SET value = 101"))
    pg_session.commit()
    by_row = [
        ("snapshot", "I", 5, 1, None),
        ("snapshot", "U", 5, 101, None),
        ("high", "U", 5, 101, None),
    ]
    # The trigger of a statement is the named table's, which is not tracked.
    found = recorded(partitioned, "day", "value")
    assert found == (by_row if level == "row" else [])


# Options


def test_stacked_tracks_keep_a_history_each(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    @track(
        AfterUpdate(label="renamed"),
        columns=["name"],
        level="row",
        events="renames",
        event_name="Rename",
        event_table="account_rename",
        context=None,
    )
    @track(exclude=["name"], level="statement")
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        balance: Mapped[int]

    create_all()
    account = Account(id=1, name="a", balance=1)
    with history.context(pg_session, **BY):
        pg_session.add(account)
        pg_session.flush()
        account.name = "b"
        pg_session.flush()
        account.balance = 2
        pg_session.commit()
    assert recorded(Account, "id", "balance") == [
        ("snapshot", "I", 1, 1, BY),
        ("snapshot", "U", 1, 2, BY),
    ]
    (rename,) = pg_session.scalars(account.renames.select())
    assert type(rename).__name__ == "Rename"
    assert (rename.pgh_label, rename.id, rename.name) == ("renamed", 1, "b")
    assert not hasattr(rename, "balance")
    assert {"pgh_context_id", "balance"}.isdisjoint(Account.renames.table.c.keys())
    assert not hasattr(Account.events.model, "name")


def test_event_class_inherits_the_base_that_it_is_given(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_session: Session,
) -> None:
    class Told:
        @property
        def sentence(self) -> str:
            return f"{self.pgh_label} of {self.id}"  # type: ignore[attr-defined]

    class Short(Event):
        def __repr__(self) -> str:
            return f"#{self.pgh_id}"

    @track(base=Told)
    @track(base=Short, events="short", event_table="s", event_name="S")
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    account = Account(id=1)
    pg_session.add(account)
    pg_session.commit()
    told = pg_session.scalars(account.events.select()).one()
    assert isinstance(told, Told)
    assert isinstance(told, Event)
    assert told.sentence == "snapshot of 1"
    short = pg_session.scalars(account.short.select()).one()
    assert repr(short) == f"#{short.pgh_id}"


@pytest.mark.parametrize("wrong", ["Base", 1])
def test_event_class_cannot_inherit_what_is_mapped_or_no_class(
    base: type[DeclarativeBase], wrong: Any
) -> None:
    class Mapped_(base):  # type: ignore[misc, valid-type]
        __tablename__ = "mapped"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(DefinitionError, match="plain class"):
        track(base=Mapped_ if wrong == "Base" else wrong)(Mapped_)


def test_inline_context_is_stored_in_the_event(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    level: str,
    pg_session: Session,
    recorded: Recorded,
    contexts: Callable[[], list[object]],
) -> None:
    @track(Snapshot, Manual("seen"), level=level, context="inline")
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    with history.context(pg_session, **BY):
        account = Account(id=1)
        pg_session.add(account)
        history.create_event(pg_session, account, label="seen")
        pg_session.commit()
    pg_session.add(Account(id=2))
    pg_session.commit()
    history.create_event(pg_session, account, label="seen")
    pg_session.commit()
    events = pg_session.scalars(Account.events.select()).all()
    assert [(e.pgh_label, e.id, e.pgh_context) for e in events] == [
        ("snapshot", 1, BY),
        ("seen", 1, BY),
        ("snapshot", 2, None),
        ("seen", 1, None),
    ]
    assert len({event.pgh_context_id for event in events}) <= 2
    assert contexts() == []


def test_history_can_be_kept_without_context(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    level: str,
    pg_session: Session,
    recorded: Recorded,
    contexts: Callable[[], list[object]],
) -> None:
    @track(Snapshot, Manual("seen"), level=level, context=None)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    with history.context(pg_session, **BY):
        account = Account(id=1)
        pg_session.add(account)
        history.create_event(pg_session, account, label="seen")
        pg_session.commit()
    assert recorded(Account, "id") == [
        ("snapshot", "I", 1, None),
        ("seen", "M", 1, None),
    ]
    assert contexts() == []
    assert not hasattr(Account.events.model, "pgh_context")


# Keys of the context with columns of their own


def test_context_columns_have_the_value_in_their_type(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    level: str,
    pg_session: Session,
) -> None:
    @track(
        Snapshot,
        Manual("seen"),
        level=level,
        context=None,
        context_columns=[
            Column("user", Integer),
            Column("at", DateTime(timezone=True)),
            Column("roles", JSONB),
            Column("missing", Text),
        ],
    )
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    noon = datetime.datetime(2020, 2, 29, 12, tzinfo=datetime.timezone.utc)
    with history.context(pg_session, user=7, at=noon, roles=["a", {"b": None}]):
        account = Account(id=1)
        pg_session.add(account)
        history.create_event(pg_session, account, label="seen")
        pg_session.commit()
    pg_session.add(Account(id=2))
    pg_session.commit()
    columns = Account.events.table.c
    stored = select(columns.user, columns.at, columns.roles, columns.missing)
    assert pg_session.execute(stored.order_by(columns.pgh_id)).all() == [
        (7, noon, ["a", {"b": None}], None),
        (7, noon, ["a", {"b": None}], None),
        (None, None, None, None),
    ]


@pytest.fixture
def guarded(base: type[DeclarativeBase], create_all: CreateAll, level: str) -> Any:
    """A model that is changed in a context with a user only."""

    @track(
        Snapshot,
        AfterDelete,
        Manual("seen"),
        level=level,
        context_columns=[Column("user", Integer, nullable=False)],
    )
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int] = mapped_column(default=0)

    create_all()
    return Account


@pytest.mark.parametrize("keys", [{}, {"job": "x"}, {"user": None}], ids=repr)
def test_change_without_a_required_key_is_refused(
    guarded: Any, pg_session: Session, recorded: Recorded, keys: dict[str, Any]
) -> None:
    pg_session.add(guarded(id=1))
    with (
        history.context(pg_session, **keys),
        pytest.raises(
            ContextRequiredError, match='needs a context with the key "user"'
        ) as caught,
    ):
        pg_session.flush()
    pg_session.rollback()
    assert isinstance(caught.value, DBAPIError)
    original = caught.value.orig
    assert isinstance(original, psycopg.Error)
    assert original.sqlstate == ContextRequiredError.sqlstate
    assert original.diag.table_name == "account"
    assert original.diag.column_name == "user"
    assert "history.context" in (original.diag.message_hint or "")
    assert "INSERT INTO account" in str(caught.value)
    assert recorded(guarded) == []
    assert pg_session.scalar(select(func.count()).select_from(guarded)) == 0


def test_change_with_a_required_key_is_recorded(
    guarded: Any, pg_session: Session, recorded: Recorded
) -> None:
    with history.context(pg_session, **BY):
        account = guarded(id=1)
        pg_session.add(account)
        history.create_event(pg_session, account, label="seen")
        pg_session.delete(account)
        pg_session.commit()
    assert recorded(guarded, "id", "user") == [
        ("snapshot", "I", 1, 7, BY),
        ("seen", "M", 1, 7, BY),
        ("delete", "D", 1, 7, BY),
    ]


def test_statement_that_writes_no_event_needs_no_required_key(
    guarded: Any, pg_session: Session, recorded: Recorded
) -> None:
    with history.context(pg_session, **BY):
        pg_session.execute(insert(guarded).values(id=1))
        pg_session.commit()
    for statement in (
        "UPDATE account SET balance = 5 WHERE id = 99",
        "UPDATE account SET balance = balance",
        "DELETE FROM account WHERE id = 99",
        "INSERT INTO account VALUES (1, 1) ON CONFLICT DO NOTHING",
    ):
        pg_session.execute(text(statement))
    pg_session.commit()
    assert len(recorded(guarded)) == 1


@pytest.mark.parametrize(
    "statement",
    ["UPDATE account SET balance = 5", "DELETE FROM account", "TRUNCATE account"],
)
def test_each_kind_of_change_needs_a_required_key(
    guarded: Any, pg_session: Session, recorded: Recorded, statement: str
) -> None:
    with history.context(pg_session, **BY):
        pg_session.execute(insert(guarded).values(id=1))
        pg_session.commit()
    with pytest.raises(ContextRequiredError):
        pg_session.execute(text(statement))
    pg_session.rollback()
    assert len(recorded(guarded)) == 1


def test_manual_event_needs_a_required_key(guarded: Any, pg_session: Session) -> None:
    with history.context(pg_session, **BY):
        account = guarded(id=1)
        pg_session.add(account)
        pg_session.commit()
    with pytest.raises(ContextRequiredError):
        history.create_event(pg_session, account, label="seen")
    pg_session.rollback()


# Append-only histories


@pytest.fixture
def sealed(base: type[DeclarativeBase], create_all: CreateAll, level: str) -> Any:
    @track(Snapshot, AfterDelete, Manual("seen"), level=level, append_only=True)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    return Account


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE account_event SET pgh_label = 'forged'",
        "DELETE FROM account_event",
        "TRUNCATE account_event",
        "DELETE FROM account_event WHERE false",
        "INSERT INTO account_event SELECT * FROM account_event"
        " ON CONFLICT (pgh_id) DO UPDATE SET pgh_label = 'forged'",
    ],
)
def test_append_only_events_cannot_be_changed(
    sealed: Any, pg_session: Session, recorded: Recorded, statement: str
) -> None:
    pg_session.add(sealed(id=1))
    pg_session.commit()
    with pytest.raises(AppendOnlyError, match="append-only") as caught:
        pg_session.execute(text(statement))
    pg_session.rollback()
    assert isinstance(caught.value, DBAPIError)
    original = caught.value.orig
    assert isinstance(original, psycopg.Error)
    assert original.sqlstate == AppendOnlyError.sqlstate
    assert original.diag.table_name == "account_event"
    assert original.diag.constraint_name == "account_event_append_only"
    assert recorded(sealed, "id") == [("snapshot", "I", 1, None)]


def test_append_only_events_cannot_be_changed_through_the_session(
    sealed: Any, pg_session: Session
) -> None:
    account = sealed(id=1)
    pg_session.add(account)
    pg_session.commit()
    event = pg_session.scalars(account.events.select()).one()
    event.pgh_label = "forged"
    with pytest.raises(AppendOnlyError):
        pg_session.flush()
    pg_session.rollback()
    pg_session.delete(event)
    with pytest.raises(AppendOnlyError):
        pg_session.flush()
    pg_session.rollback()


def test_append_only_events_are_still_added(
    sealed: Any, pg_session: Session, recorded: Recorded
) -> None:
    account = sealed(id=1)
    pg_session.add(account)
    history.create_event(pg_session, account, label="seen")
    pg_session.delete(account)
    pg_session.commit()
    assert [event[0] for event in recorded(sealed)] == ["snapshot", "seen", "delete"]


def test_refusal_is_the_same_error_for_an_async_session(
    sealed: Any, pg_async_engine: AsyncEngine
) -> None:
    async def forge() -> None:
        async with AsyncSession(pg_async_engine) as session:
            await session.execute(text("DELETE FROM account_event"))

    with pytest.raises(AppendOnlyError) as caught:
        asyncio.run(forge())
    assert isinstance(caught.value.orig, psycopg.Error)


# Events made by hand


@pytest.fixture
def user(base: type[DeclarativeBase], create_all: CreateAll) -> Any:
    @track(Manual("login"), Manual("mail", columns=["mail"]), Snapshot)
    class User(base):  # type: ignore[misc, valid-type]
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        mail: Mapped[str] = mapped_column(default="a@b")

    create_all()
    return User


def test_manual_event_stores_the_row_as_it_is_after_the_flush(
    user: Any, pg_session: Session, recorded: Recorded
) -> None:
    ann = user(id=1, name="Ann")
    pg_session.add(ann)
    with history.context(pg_session, **BY):
        history.create_event(pg_session, ann, label="login")
        ann.name = "Anne"
        history.create_event(pg_session, ann, label="mail")
        pg_session.commit()
    assert recorded(user, "id", "name", "mail") == [
        ("snapshot", "I", 1, "Ann", "a@b", BY),
        ("login", "M", 1, "Ann", "a@b", BY),
        ("snapshot", "U", 1, "Anne", "a@b", BY),
        ("mail", "M", 1, None, "a@b", BY),
    ]
    events = pg_session.scalars(ann.events.select()).all()
    assert [event.pgh_obj_id for event in events] == [1, 1, 1, 1]


def test_manual_event_through_a_scoped_session(
    user: Any, pg_engine: Engine, recorded: Recorded
) -> None:
    session = scoped_session(sessionmaker(pg_engine))
    # The flush is what gives the object its key.
    ann = user(name="Ann")
    session.add(ann)
    history.create_event(session, ann, label="login")
    session.commit()
    session.remove()
    assert [event[0] for event in recorded(user)] == ["snapshot", "login"]


def test_manual_event_through_an_async_session(
    user: Any, pg_async_engine: AsyncEngine, recorded: Recorded
) -> None:
    async def log_in() -> None:
        async with AsyncSession(pg_async_engine) as session:
            ann = user(name="Ann")
            session.add(ann)
            async with history.context(session, **BY):
                await history.create_event(session, ann, label="login")
                await session.commit()

    asyncio.run(log_in())
    assert recorded(user, "id", "name") == [
        ("snapshot", "I", 1, "Ann", BY),
        ("login", "M", 1, "Ann", BY),
    ]


@pytest.mark.parametrize("context", ["reference", "inline", None])
def test_manual_event_of_a_row_with_a_key_of_several_columns(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_session: Session,
    recorded: Recorded,
    context: Any,
) -> None:
    @track(Manual("seen"), context=context)
    class Seat(base):  # type: ignore[misc, valid-type]
        __tablename__ = "seat"
        row: Mapped[str] = mapped_column("Row", primary_key=True)
        number: Mapped[int] = mapped_column(primary_key=True)
        taken: Mapped[bool] = mapped_column(default=False)

    create_all()
    seats = [Seat(row="A", number=number) for number in (1, 2)]
    pg_session.add_all(seats)
    history.create_event(pg_session, seats[0], label="seen")
    with history.context(pg_session, **BY):
        history.create_event(pg_session, seats[1], label="seen")
        pg_session.commit()
    assert "pgh_obj_id" not in Seat.events.table.c
    assert recorded(Seat, "row", "number", "taken") == [
        ("seen", "M", "A", 1, False, None),
        ("seen", "M", "A", 2, False, BY if context else None),
    ]


@pytest.mark.parametrize("label", ["logout", "snapshot"])
def test_manual_event_needs_a_manual_tracker(
    user: Any, pg_session: Session, label: str
) -> None:
    ann = user(id=1, name="Ann")
    with pytest.raises(EventsError, match="no Manual tracker.*login"):
        history.create_event(pg_session, ann, label=label)


def test_manual_event_is_returned(user: Any, pg_session: Session) -> None:
    ann = user(id=1, name="Ann")
    pg_session.add(ann)
    event = history.create_event(pg_session, ann, label="login")
    assert (event.pgh_label, event.name, event.pgh_obj) == ("login", "Ann", ann)


def test_manual_event_of_a_row_that_is_gone_is_refused(
    user: Any, pg_session: Session, recorded: Recorded
) -> None:
    ann = user(id=1, name="Ann")
    pg_session.add(ann)
    pg_session.commit()
    pg_session.execute(delete(user).execution_options(synchronize_session=False))
    with pytest.raises(EventsError, match="User has no row in the database"):
        history.create_event(pg_session, ann, label="login")
    pg_session.commit()
    assert [event[0] for event in recorded(user)] == ["snapshot"]


def test_model_of_manual_events_only_has_no_trigger(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    @track(Manual("seen"))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    page = Page(id=1)
    pg_session.add(page)
    history.create_event(pg_session, page, label="seen")
    pg_session.commit()
    assert recorded(Page, "id") == [("seen", "M", 1, None)]
    triggers = text("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal")
    assert pg_session.scalar(triggers) == 0
    base.metadata.drop_all(pg_session.connection())
    pg_session.commit()
    functions = text("SELECT count(*) FROM pg_proc WHERE proname ~ '^(page|pghis)'")
    assert pg_session.scalar(functions) == 0


def test_manual_event_of_a_joined_object_is_found_in_the_table_that_has_it(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    person, employee_class = people(
        base, track(Manual("met")), track(Manual("promoted"))
    )
    create_all()
    employee = employee_class(id=1, name="Ann", salary=10)
    pg_session.add(employee)
    history.create_event(pg_session, employee, label="met")
    history.create_event(pg_session, employee, label="promoted")
    pg_session.commit()
    assert recorded(person, "id", "name") == [("met", "M", 1, "Ann", None)]
    assert recorded(employee_class, "salary") == [("promoted", "M", 10, None)]
