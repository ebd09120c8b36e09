"""The personal data of an object is erased from its history, and seals stay true."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    DateTime,
    Engine,
    ForeignKey,
    Integer,
    Numeric,
    Table,
    event,
    insert,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import ERASED, AggregateEvent, track
from sa_history.exc import ErasureError, EventsError

Base = type[DeclarativeBase]


@pytest.fixture
def session(pg_engine: Engine, some_events: list[int]) -> Any:
    with Session(pg_engine) as session:
        yield session


def everything(engine: Engine) -> str:
    """All that the tables of the history have, as text."""
    with engine.connect() as connection:
        tables = connection.scalars(
            text(
                "SELECT relname FROM pg_class WHERE relkind = 'r'"
                " AND relnamespace = 'public'::regnamespace AND relname <> 'person'"
            )
        ).all()
        return "\n".join(
            str(row)
            for table in tables
            for row in connection.execute(text(f'SELECT t::text FROM "{table}" AS t'))
        )


@pytest.mark.parametrize("sealed_before", [True, False])
def test_an_erasure_leaves_no_value_and_a_clean_verification(
    base: Base,
    person: Any,
    session: Session,
    pg_engine: Engine,
    sealed_before: bool,
) -> None:
    if sealed_before:
        history.seal(pg_engine, base)
    done = history.erase(session, person, 2, reason="asked for")
    session.commit()
    assert (done.number, done.events, done.contexts) == (1, 4, 1)
    history.seal(pg_engine, base)
    found = history.verify(pg_engine, base)
    assert found.discrepancies == ()
    assert found.events == 13  # with the one of the log
    left = everything(pg_engine)
    for value in ("Name2", "e2@x.org", "10.0.0.2"):
        assert value not in left
    assert "Name1" in left
    assert "asked for" in left


@pytest.mark.parametrize("sealed_before", [True, False])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE person_event SET name = 'Name2' WHERE pgh_id = 5",
        "UPDATE person_event SET points = 7 WHERE pgh_id = 5",
        "UPDATE person_event SET pgh_erased = NULL WHERE pgh_id = 5",
        'UPDATE pghistory_context SET metadata = metadata || \'{"ip": "10.0.0.2"}\''
        " WHERE metadata ->> 'user' = '2'",
        "DELETE FROM pghistory_erased WHERE id = '5'",
    ],
)
def test_what_is_done_to_an_erased_event_is_found(
    base: Base,
    person: Any,
    session: Session,
    pg_engine: Engine,
    statement: str,
    sealed_before: bool,
) -> None:
    if sealed_before:
        history.seal(pg_engine, base)
    history.erase(session, person, 2)
    session.commit()
    history.seal(pg_engine, base)
    with pg_engine.begin() as connection:
        connection.execute(text(statement))
    (found,) = history.verify(pg_engine, base).discrepancies
    assert found.problem == "changed"
    assert found.ids in [(5,), (2,)]


def test_who_reads_an_erased_event_is_told_so(
    base: Base, person: Any, session: Session, pg_engine: Engine
) -> None:
    history.erase(session, person, 2)
    session.commit()
    obj = session.get_one(person, 2)
    obj.email = "new@x.org"
    session.commit()
    first, *_, last = session.scalars(obj.events.select())
    assert (first.name, first.pgh_erased) == (None, ["name", "email"])
    assert history.diff(first, last)["email"] == (ERASED, "new@x.org")
    assert "email: erased -> new@x.org" in history.diff(first, last).text()
    assert history.diff(first, last).as_json()["email"] == {
        "before": {"erased": True},
        "after": "new@x.org",
    }
    *_, row = session.execute(AggregateEvent.select(obj))
    assert row.pgh_diff["email"] == [{"erased": True}, "new@x.org"]
    before = session.execute(AggregateEvent.select(obj)).first()
    assert before is not None
    assert before.pgh_data["name"] == {"erased": True}
    assert before.pgh_data["points"] == 0


def test_all_that_history_has_of_an_object_is_told(
    base: Base, person: Any, session: Session, pg_engine: Engine
) -> None:
    history.erase(session, person, 2)
    session.delete(session.get_one(person, 1))
    session.commit()
    of_erased = history.subject(session, person, 2, user=2)
    assert of_erased["row"]["name"] == "Name2"
    assert [event["data"]["name"] for event in of_erased["events"]] == [
        {"erased": True}
    ] * 4
    assert [event["context"] for event in of_erased["made"]] == [
        {"user": 2, "ip": None}
    ]
    deleted = history.subject(session, person, 1)
    assert deleted["row"] is None
    assert deleted["events"][-1]["data"]["name"] == "Name1"


def test_what_a_person_did_to_many_tables_is_cheap_to_the_planner(
    base: Base, pg_engine: Engine
) -> None:
    """Above a cost of 100,000, PostgreSQL compiles statements, which takes seconds."""
    tables = []
    for n in range(20):
        columns = (Column(f"c{m}", Integer) for m in range(20))
        key = Column("id", Integer, primary_key=True)
        tables.append(track()(Table(f"t{n}", base.metadata, key, *columns)))
    base.metadata.create_all(pg_engine)
    costs: list[float] = []

    @event.listens_for(pg_engine, "before_cursor_execute", retval=True)
    def explained(_: Any, cursor: Any, sql: str, values: Any, *__: Any) -> Any:
        if sql.startswith(("SELECT", "WITH", "(SELECT")):
            cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", values)
            costs.append(cursor.fetchone()[0][0]["Plan"]["Total Cost"])
        return sql, values

    with Session(pg_engine) as session:
        with history.context(session, user=7):
            for table in tables:
                session.execute(insert(table), [{"id": n} for n in range(40)])
            session.commit()
        found = history.subject(session, tables[0], 0, user=7)
        assert len(found["made"]) == 20 * 40
        assert found["events"] == found["made"][:1]
    # Read in one step it would be 41,000, and four times as much of 40 tables.
    assert max(costs) < 10_000, costs


def test_references_in_a_circle_are_followed_and_come_to_an_end(
    base: Base, pg_engine: Engine
) -> None:
    @track()
    class Friend(base):  # type: ignore[misc, valid-type]
        __tablename__ = "friend"
        id: Mapped[int] = mapped_column(primary_key=True)
        best: Mapped[int | None] = mapped_column(ForeignKey("friend.id"))
        first: Mapped[int | None] = mapped_column(ForeignKey("friend.id"))

    base.metadata.create_all(pg_engine)
    with Session(pg_engine) as session:
        one, other = Friend(id=1), Friend(id=2)
        session.add_all([one, other])
        session.flush()
        one.best, other.best, other.first = 2, 1, 1
        session.commit()
        for hops in (1, 4):
            found = history.subject(session, Friend, 1, references=hops)
            assert {event["key"] for event in found["references"]} == {"2"}
        with pytest.raises(EventsError, match="in a circle; give fewer"):
            history.subject(session, Friend, 1, references=50)


def test_an_attribute_that_its_column_does_not_name_is_erased_and_told_so(
    base: Base, pg_engine: Engine
) -> None:
    @track(sealed=True, erasable=["name"])
    class Guest(base):  # type: ignore[misc, valid-type]
        __tablename__ = "guest"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column("full_name")
        price: Mapped[Decimal] = mapped_column(Numeric)

    base.metadata.create_all(pg_engine)
    with Session(pg_engine) as session:
        session.add(Guest(id=1, name="Name1", price=Decimal("1.50")))
        session.commit()
        history.erase(session, Guest, 1)
        session.commit()
        session.get_one(Guest, 1).name = "New"
        session.commit()
        rows = session.execute(AggregateEvent.select(Guest)).all()
        assert [row.pgh_data["name"] for row in rows] == [{"erased": True}, "New"]
        assert rows[1].pgh_diff == {"name": [{"erased": True}, "New"]}
        (event, _) = session.scalars(Guest.events.select())
        assert event.pgh_erased == ["full_name"]


def test_contexts_that_have_the_value_by_nesting_are_erased_and_others_are_not(
    base: Base, person: Any, pg_engine: Engine
) -> None:
    def add(session: Session, number: int) -> None:
        session.add(person(id=number, name=f"Name{number}"))
        session.flush()

    with Session(pg_engine) as session:
        with history.context(session, ip="10.0.0.1"):
            add(session, 1)
            with history.context(session, step="own"):
                add(session, 2)
                with history.context(session, step="inner"):
                    add(session, 3)
                with history.context(session, ip="10.0.0.4"):
                    add(session, 4)
        session.commit()
        history.seal(pg_engine, base)
        assert history.erase(session, person, 2).contexts == 3
        session.commit()
        left = session.scalars(
            text("SELECT metadata ->> 'ip' FROM pghistory_context ORDER BY id")
        ).all()
    assert left == [None, None, None, "10.0.0.4"]
    assert history.verify(pg_engine, base).discrepancies == ()


@pytest.mark.parametrize("sealed_before", [True, False])
def test_what_was_erased_before_is_not_counted_again(
    base: Base,
    person: Any,
    session: Session,
    pg_engine: Engine,
    sealed_before: bool,
) -> None:
    def erase(*keys: int, dry_run: bool = False) -> tuple[int | None, int, int]:
        done = history.erase(session, person, *keys, dry_run=dry_run)
        session.commit()
        return done.number, done.events, done.contexts

    if sealed_before:
        history.seal(pg_engine, base)
    assert erase(2) == (1, 4, 1)
    assert erase(2, dry_run=True) == erase(2) == (None, 0, 0)
    history.seal(pg_engine, base)
    assert erase(2) == (None, 0, 0)
    with history.context(session, user=9, ip="10.0.0.9"):
        session.get_one(person, 2).points = 9
        session.commit()
    assert erase(2, 3, dry_run=True) == (None, 5, 2)
    assert erase((2,), 3) == (2, 5, 2)
    with pg_engine.begin() as connection:
        connection.execute(text("UPDATE person_event SET email = 'x' WHERE id = 3"))
    assert erase(3) == (3, 4, 0)
    with pg_engine.connect() as connection:
        log = text("SELECT keys, events, contexts FROM pghistory_erasure ORDER BY id")
        assert connection.execute(log).all() == [
            (["2"], 4, 1),
            (["2", "3"], 5, 2),
            (["3"], 4, 0),
        ]
    history.seal(pg_engine, base)
    assert history.verify(pg_engine, base).discrepancies == ()


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_transaction_that_does_not_see_new_seals_is_refused(
    base: Base, person: Any, some_events: list[int], pg_engine: Engine, level: str
) -> None:
    """It would erase without a commitment what was sealed since it began."""
    with Session(pg_engine.execution_options(isolation_level=level)) as session:
        session.get_one(person, 2)
        history.seal(pg_engine, base)
        with pytest.raises(ErasureError, match=f"is {level}, .*READ COMMITTED"):
            history.erase(session, person, 2)


def test_an_object_of_a_joined_subclass_is_erased_by_the_class_above_it(
    base: Base, pg_engine: Engine
) -> None:
    @track(sealed=True, erasable=["name"])
    class Party(base):  # type: ignore[misc, valid-type]
        __tablename__ = "party"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        name: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "party"}

    @track(sealed=True, erasable=["badge"])
    class Employee(Party):
        __tablename__ = "employee"
        id: Mapped[int] = mapped_column(ForeignKey("party.id"), primary_key=True)
        badge: Mapped[str]
        __mapper_args__ = {"polymorphic_identity": "employee"}

    @track(erasable=["stars"])
    class Guest(Party):
        __tablename__ = "guest"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        name: Mapped[str]
        stars: Mapped[str]
        __mapper_args__ = {"concrete": True, "polymorphic_identity": "guest"}

    base.metadata.create_all(pg_engine)
    with Session(pg_engine) as session:
        session.add(Employee(id=7, name="Ann", badge="B7"))
        session.add(Guest(id=7, kind="guest", name="Other", stars="5"))
        session.commit()
        history.seal(pg_engine, base)
        found = history.subject(session, Party, 7)
        assert [one["model"] for one in found["events"]] == ["Party", "Employee"]
        assert found == {**history.subject(session, Employee, 7), "model": "Party"}
        assert found["row"]["badge"] == "B7"
        (own,) = history.subject(session, Party.__table__, 7)["events"]
        assert own["model"] == "Party"
        assert history.erase(session, Party, 7).events == 2
        session.commit()
        badges = text("SELECT badge, pgh_erased FROM employee_event")
        assert session.execute(badges).all() == [(None, ["badge"])]
        assert session.scalar(text("SELECT stars FROM guest_event")) == "5"
    assert history.verify(pg_engine, base).discrepancies == ()


def test_times_that_python_lacks_are_told_of_a_subject(
    base: Base, pg_engine: Engine
) -> None:
    @track()
    class Booking(base):  # type: ignore[misc, valid-type]
        __tablename__ = "booking"
        id: Mapped[int] = mapped_column(primary_key=True)
        until: Mapped[datetime.datetime] = mapped_column(DateTime(timezone=True))
        since: Mapped[datetime.date]

    base.metadata.create_all(pg_engine)
    with Session(pg_engine) as session:
        fill = text("INSERT INTO booking VALUES (1, 'infinity', '0044-03-15 BC')")
        session.execute(fill)
        found = history.subject(session, Booking, 1)
    assert found["row"] == {"id": 1, "until": "infinity", "since": "0044-03-15 BC"}
    assert found["events"][0]["data"] == found["row"]
