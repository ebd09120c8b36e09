"""What was erased is told by all that reads history: it is not NULL, and no error."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import pytest
from sqlalchemy import (
    URL,
    Engine,
    ForeignKey,
    Integer,
    String,
    create_engine,
    func,
    select,
    text,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    defer,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)
from sqlalchemy.types import TypeDecorator

import sa_history as history
from sa_history import ERASED, as_of, changes, track

Base = type[DeclarativeBase]


class Upper(TypeDecorator[str]):
    """Text that has to be text where it is read."""

    impl = String
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else value.upper()


@pytest.fixture
def guest(base: Base) -> Any:
    """A guest of a house, whose name and age can be erased."""

    class House(base):  # type: ignore[misc, valid-type]
        __tablename__ = "house"
        id: Mapped[int] = mapped_column(primary_key=True)
        guests: Mapped[list[Guest]] = relationship(back_populates="house")

    @track(sealed=True, erasable=["name", "age"])
    class Guest(base):  # type: ignore[misc, valid-type]
        __tablename__ = "guest"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str | None] = mapped_column("full_name", Upper)
        age: Mapped[int | None] = mapped_column(Integer)
        visits: Mapped[int] = mapped_column(default=0)
        house_id: Mapped[int | None] = mapped_column(ForeignKey("house.id"))
        house: Mapped[House | None] = relationship(back_populates="guests")

    track()(House)
    return Guest


GUESTS = ((1, "ann", 41), (2, "bo", 42), (3, None, None))


@pytest.fixture
def past(guest: Any, base: Base, pg_engine: Engine) -> datetime.datetime:
    """A moment when there were three guests of one house; the second one is erased."""
    base.metadata.create_all(pg_engine)
    house = guest.house.property.mapper.class_
    with Session(pg_engine) as session:
        session.add(house(id=1))
        session.flush()
        for number, name, age in GUESTS:
            session.add(guest(id=number, name=name, age=age, house_id=1))
        session.commit()
        moment = session.scalar(select(func.clock_timestamp()))
        history.erase(session, guest, 2)
        session.commit()
        session.get_one(guest, 2).name = "new"
        session.get_one(guest, 2).age = None
        session.commit()
    assert isinstance(moment, datetime.datetime)
    return moment


def values(guests: Any) -> list[Any]:
    return [(g.id, g.name, g.age) for g in guests]


def in_order(guests: Any) -> list[Any]:
    return sorted(guests, key=lambda guest: guest.id)


EXPECTED = [(1, "ANN", 41), (2, ERASED, ERASED), (3, None, None)]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_objects_and_columns_of_the_past_have_the_word(
    guest: Any, past: datetime.datetime, pg_url: URL, driver: str
) -> None:
    engine = create_engine(pg_url.set(drivername=f"postgresql+{driver}"))
    house = guest.house.property.mapper.class_
    other = aliased(guest)
    with as_of(engine, past) as then:
        assert values([then.get_one(guest, n) for n in (1, 2, 3)]) == EXPECTED
        then.expunge_all()
        query = select(guest).order_by(guest.id)
        assert values(then.scalars(query)) == EXPECTED
        assert values(in_order(then.get_one(house, 1).guests)) == EXPECTED
        columns = select(guest.id, guest.name, guest.age).order_by(guest.id)
        assert [tuple(row) for row in then.execute(columns)] == EXPECTED
        by_name = select(guest.name.label("x"), guest.id).order_by(guest.id)
        assert [row.x for row in then.execute(by_name)] == ["ANN", ERASED, None]
        assert then.scalar(select(other.name).where(other.id == 2)) is ERASED
        assert then.scalar(select(guest.__table__.c.age).filter_by(id=2)) is ERASED
    engine.dispose()


def test_all_ways_to_load_objects_have_the_word(
    guest: Any, past: datetime.datetime, pg_engine: Engine
) -> None:
    house = guest.house.property.mapper.class_
    query = select(house)
    rows = select(guest).order_by(guest.id)
    with as_of(pg_engine, past) as then:
        for loads in (
            query.options(selectinload(house.guests)),
            query.options(joinedload(house.guests)),
            # With a limit, what is joined is read from a subquery.
            query.options(joinedload(house.guests)).limit(1),
        ):
            then.expunge_all()
            found = then.scalars(loads).unique().one()
            assert values(in_order(found.guests)) == EXPECTED
        then.expunge_all()
        joined = rows.options(joinedload(guest.house).joinedload(house.guests))
        assert values(then.scalars(joined.limit(3)).unique()) == EXPECTED
        then.expunge_all()
        assert values(then.scalars(rows.execution_options(yield_per=2))) == EXPECTED
        then.expunge_all()
        columns = select(guest.id, guest.name, guest.age).order_by(guest.id)
        result = then.execute(columns.execution_options(stream_results=True))
        parts = [*result.fetchmany(1), result.fetchone(), *result.fetchall()]
        assert [tuple(row) for row in parts if row] == EXPECTED
        assert result.fetchone() is None
        # Also where the driver has all rows already.
        buffered = then.execute(columns).yield_per(2)
        assert [tuple(row) for row in buffered] == EXPECTED
        rows_in_parts = then.connection().execute(columns).yield_per(2)
        assert [tuple(row) for row in rows_in_parts] == EXPECTED
        with then.execute(columns) as unread:
            assert tuple(unread.fetchmany(1)[0]) == EXPECTED[0]
        last = then.get_one(guest, 2)
        then.refresh(last)
        assert last.name is ERASED


def test_subqueries_pass_the_word_on(
    guest: Any, past: datetime.datetime, pg_engine: Engine
) -> None:
    inner = select(guest.id, guest.name, guest.age).subquery()
    cte = select(inner.c.id, inner.c.name.label("n"), inner.c.age).cte("some")
    again = cte.alias("again")
    of_class = aliased(guest, select(guest).limit(9).subquery())
    with as_of(pg_engine, past) as then:
        for query in (
            select(inner).order_by(inner.c.id),
            select(again).order_by(again.c.id),
            select(of_class.id, of_class.name, of_class.age).order_by(of_class.id),
        ):
            assert [tuple(row) for row in then.execute(query)] == EXPECTED
        objects = then.scalars(select(of_class).order_by(of_class.id))
        assert values(objects) == EXPECTED


def test_what_sql_makes_of_erased_values_is_made_of_null(
    guest: Any, past: datetime.datetime, pg_engine: Engine
) -> None:
    names = select(guest.name, guest.id)
    either = union_all(names, names).subquery()
    with as_of(pg_engine, past) as then:
        assert then.scalar(select(func.sum(guest.age))) == 41
        assert then.scalar(select(func.lower(guest.name)).filter_by(id=2)) is None
        is_null = select(guest.id).where(guest.name.is_(None)).order_by(guest.id)
        assert [*then.scalars(is_null)] == [2, 3]
        in_ages = select(guest.id).where(guest.age.in_(select(guest.age)))
        assert [*then.scalars(in_ages)] == [1]
        scalar = select(select(guest.age).filter_by(id=2).scalar_subquery())
        assert then.scalar(scalar) is None
        by_id = select(guest.id, guest.name, func.count()).group_by(
            guest.id, guest.name
        )
        found = then.execute(by_id.order_by(guest.id))
        assert [name for _, name, _ in found] == ["ANN", ERASED, None]
        by_name = select(guest.name, func.count()).group_by(guest.name)
        assert sorted(map(str, then.execute(by_name))) == ["('ANN', 1)", "(None, 2)"]
        combined = select(either.c.name, either.c.id).where(either.c.id == 2)
        assert {*then.scalars(combined)} == {None}
        assert {*then.scalars(union_all(names, names))} == {"ANN", None}


def test_an_async_session_of_the_past_has_the_word(
    guest: Any, past: datetime.datetime, pg_url: URL
) -> None:
    async def run() -> None:
        engine = create_async_engine(pg_url.set(drivername="postgresql+asyncpg"))
        async with as_of(engine, past) as then:
            query = select(guest).order_by(guest.id)
            assert values(await then.scalars(query)) == EXPECTED
            then.expunge_all()
            streamed = await then.stream_scalars(query)
            assert values([each async for each in streamed]) == EXPECTED
        async with AsyncSession(engine) as session:
            found = await session.execute(changes((guest, 2), "age"))
            assert [(row.before, row.after) for row in found] == [
                (None, ERASED),
                (ERASED, None),
            ]
        await engine.dispose()

    asyncio.run(run())


def test_changes_of_an_attribute_have_the_word(
    guest: Any, past: datetime.datetime, pg_engine: Engine
) -> None:
    with Session(pg_engine) as session:
        obj = session.get_one(guest, 2)
        session.execute(text("UPDATE guest SET id = 5 WHERE id = 2"))
        session.commit()
        told = {
            name: [
                (row.before, row.after)
                for row in session.execute(changes((guest, key), name))
            ]
            for name, key in (("name", 2), ("age", 2), ("visits", 2))
        }
        assert told == {
            "name": [(None, ERASED), (ERASED, "NEW")],
            # NULL is another value than one that was erased.
            "age": [(None, ERASED), (ERASED, None)],
            "visits": [(None, 0)],
        }
        del obj
        history.erase(session, guest, 5)
        session.commit()
        (row,) = session.execute(changes((guest, 5), "name"))
        assert (row.before, row.after) == (ERASED, ERASED)
        session.execute(text("UPDATE guest SET full_name = 'x' WHERE id = 5"))
        session.execute(text("DELETE FROM guest WHERE id = 5"))
        session.commit()
        rows = session.execute(changes((guest, 5), guest.name)).mappings().all()
        assert [(row["before"], row["after"]) for row in rows] == [
            (ERASED, ERASED),
            (ERASED, "X"),
            ("X", None),
        ]
        of_some = changes((guest, 5), "name").subquery()
        after = select(of_some.c.after_erased)
        assert [*session.scalars(after)] == [True, False, False]


@pytest.mark.parametrize("keeps_others", [True, False])
def test_an_undo_leaves_what_was_erased_as_it_is(
    person: Any, base: Base, pg_engine: Engine, keeps_others: bool
) -> None:
    with Session(pg_engine) as session:
        session.add_all([person(id=n, name=f"old{n}", points=n) for n in (1, 2)])
        session.commit()
        session.execute(text("UPDATE person SET name = 'later', points = 9"))
        number = session.scalar(text("SELECT pg_current_xact_id()::text::bigint"))
        session.commit()
        history.erase(session, person, *([2] if keeps_others else [1, 2]))
        session.commit()
        plan = history.undo(session, base, transaction=number, dry_run=True)
        assert plan.conflicts == ()
        history.undo(session, base, transaction=number)
        session.commit()
        found = session.execute(select(person.name, person.points).order_by(person.id))
        assert [tuple(row) for row in found] == [
            ("old1" if keeps_others else "later", 1),
            ("later", 2),
        ]


def test_an_undo_of_a_deletion_says_what_it_lacks(
    base: Base, person: Any, some_events: list[int], pg_engine: Engine
) -> None:
    with Session(pg_engine) as session:
        session.delete(session.get_one(person, 2))
        session.flush()
        number = session.scalar(text("SELECT pg_current_xact_id()::text::bigint"))
        session.commit()
        history.erase(session, person, 2)
        session.commit()
        with pytest.raises(history.exc.EventsError, match="its name was erased from"):
            history.undo(session, base, transaction=number)
        session.rollback()
        with pytest.raises(history.exc.EventsError, match="its name was erased from"):
            history.undo(session, base, transaction=number, dry_run=True)


def test_an_attribute_of_mutable_values_refuses_the_word(
    base: Base, pg_engine: Engine
) -> None:
    @track(sealed=True, erasable=["note"])
    class Visit(base):  # type: ignore[misc, valid-type]
        __tablename__ = "visit"
        id: Mapped[int] = mapped_column(primary_key=True)
        note: Mapped[Any] = mapped_column(MutableDict.as_mutable(JSONB))

    base.metadata.create_all(pg_engine)
    with Session(pg_engine) as session:
        session.add(Visit(id=1, note={"a": 1}))
        session.commit()
        moment = session.scalar(select(func.clock_timestamp()))
        history.erase(session, Visit, 1)
        session.commit()
    assert moment is not None
    with as_of(pg_engine, moment) as then:
        assert then.scalar(select(Visit.note)) is ERASED
        with pytest.raises(ValueError, match="does not accept objects of type"):
            then.get(Visit, 1)
        assert then.get_one(Visit, 1, options=[defer(Visit.note)]).id == 1


def test_contexts_beside_events_need_no_key_that_can_be_erased(
    base: Base, pg_engine: Engine
) -> None:
    @track(sealed=True, erasable=["name"], context="inline")
    class Person(base):  # type: ignore[misc, valid-type]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    base.metadata.create_all(pg_engine)
    with Session(pg_engine) as session, history.context(session, user=1):
        session.add(Person(id=7, name="Ann"))
        session.commit()
        history.seal(pg_engine, base)
        history.erase(session, Person, 7)
        session.commit()
        (event,) = session.scalars(Person.events.of(7).select())
        assert (event.name, event.pgh_erased) == (None, ["name"])
        assert event.pgh_context == {"user": 1}
    assert history.verify(pg_engine, base).discrepancies == ()
