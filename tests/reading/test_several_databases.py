"""Sessions of several databases: history is read and written where the model is."""

from __future__ import annotations

import asyncio
import datetime
import random
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
    MetaData,
    Sequence,
    Table,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    selectinload,
)
from sqlalchemy.schema import CreateSequence
from sqlalchemy.sql.dml import UpdateBase

import sa_history as history
from sa_history import AggregateEvent, Manual, Snapshot, track
from sa_history.exc import EventsError, PastError, UndoError


@pytest.fixture
def hotel() -> Iterator[SimpleNamespace]:
    """Guests with a base of their own, and rooms with things in them with another."""

    class Base(DeclarativeBase):
        metadata = MetaData()

    class Other(DeclarativeBase):
        metadata = MetaData()

    trackers = (Snapshot, history.AfterDelete, Manual("seen"))

    @track(*trackers)
    class Guest(Base):
        __tablename__ = "guest"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    placed = Table(
        "placed",
        Other.metadata,
        Column("room_id", ForeignKey("room.id"), primary_key=True),
        Column("thing_id", ForeignKey("thing.id"), primary_key=True),
    )

    @track(*trackers)
    class Room(Other):
        __tablename__ = "room"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        things: Mapped[list[Any]] = relationship("Thing", secondary=placed)

    @track()
    class Thing(Other):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)

    track()(placed)
    yield SimpleNamespace(**{k: v for k, v in locals().items() if k != "trackers"})
    Base.registry.dispose()
    Other.registry.dispose()


def by_bases(hotel: Any, engine: Any, other: Any) -> dict[str, Any]:
    return {"binds": {hotel.Base: engine, hotel.Other: other}}


def by_models(hotel: Any, engine: Any, other: Any) -> dict[str, Any]:
    binds = {hotel.Guest: engine, hotel.Room: other, hotel.Thing: other}
    return {"binds": binds}


def with_a_default(hotel: Any, engine: Any, other: Any) -> dict[str, Any]:
    return {"bind": engine, "binds": {hotel.Other: other}}


def by_get_bind(hotel: Any, engine: Any, other: Any) -> dict[str, Any]:
    class RoutingSession(Session):
        def get_bind(  # type: ignore[override]
            self, mapper: Any = None, clause: Any = None, bind: Any = None
        ) -> Any:
            if bind is not None:
                return bind
            is_other = mapper and issubclass(mapper.class_, hotel.Other)
            return getattr(other if is_other else engine, "sync_engine", None) or (
                other if is_other else engine
            )

    return {"class": RoutingSession}


def make(kind: type[Any], arguments: dict[str, Any]) -> Any:
    arguments = dict(arguments)
    routing = arguments.pop("class", None)
    if routing is None:
        return kind(**arguments)
    if kind is Session:
        return routing(**arguments)
    return kind(sync_session_class=routing, **arguments)


@pytest.fixture(params=[by_bases, by_models, with_a_default, by_get_bind])
def binds(request: pytest.FixtureRequest) -> Any:
    """How a session tells which database a model is in."""
    return request.param


@pytest.fixture
def engines(
    hotel: SimpleNamespace, pg_engine: Engine, other_url: URL
) -> Iterator[tuple[Engine, Engine]]:
    """The engines of both databases, in which the tables are created."""
    other = create_engine(other_url)
    hotel.Base.metadata.create_all(pg_engine)
    hotel.Other.metadata.create_all(other)
    yield pg_engine, other
    other.dispose()


@pytest.fixture(params=["sync", "async"])
def in_both(
    request: pytest.FixtureRequest,
    hotel: SimpleNamespace,
    binds: Any,
    engines: tuple[Engine, Engine],
) -> Callable[[Callable[[Session], Any]], Any]:
    """Run a function with a session of both databases."""

    def run_sync(function: Callable[[Session], Any]) -> Any:
        with make(Session, binds(hotel, *engines)) as session:
            return function(session)

    def run_async(function: Callable[[Session], Any]) -> Any:
        async def main() -> Any:
            both = [create_async_engine(engine.url) for engine in engines]
            async with make(AsyncSession, binds(hotel, *both)) as session:
                try:
                    return await session.run_sync(function)
                finally:
                    await session.close()
                    for engine in both:
                        await engine.dispose()

        return asyncio.run(main())

    return run_sync if request.param == "sync" else run_async


def write(session: Session, hotel: Any) -> None:
    """Write a guest and a room with a thing, and change the names of both."""
    Guest, Room = hotel.Guest, hotel.Room
    with history.context(session, user=7):
        room = Room(id=1, name="old", things=[hotel.Thing(id=1)])
        session.add_all([Guest(id=1, name="old"), room])
        session.commit()
        session.get_one(Guest, 1).name = "new"
        session.get_one(Room, 1).name = "new"
        session.commit()


def ways(session: Session, model: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what each way to read finds, and what it has to find."""
    events = model.events.model
    obj = session.get_one(model, 1)
    names = ["old", "new"]
    yield [e.name for e in session.scalars(obj.events.select())], names
    yield session.scalars(select(events.name).order_by(events.pgh_id)).all(), names
    yield session.scalars(select(model.events.table.c.name)).all(), names
    yield session.scalar(select(func.count()).select_from(events)), 2
    inner = model.events.select().subquery()
    yield session.scalar(select(func.count()).select_from(inner)), 2
    for target in (obj, model, (model, 1)):
        found = session.execute(AggregateEvent.select(target)).all()
        yield (
            [(row.pgh_data["name"], row.pgh_context) for row in found],
            [(name, {"user": 7}) for name in names],
        )
    base = next(b for b in model.__mro__ if "registry" in vars(b))
    feed = session.execute(history.feed(base)).all()
    yield (
        {row.pgh_obj_model for row in feed} <= {model.__name__, "Thing", "placed"},
        True,
    )
    changes = session.execute(history.changes(obj, "name")).all()
    yield [row.after for row in changes], names
    last = session.scalars(model.events.of(1).last()).one()
    yield last.diff["name"], ("old", "new")
    yield last.pgh_obj is obj, True
    yield last.pgh_context.metadata, {"user": 7}
    session.expire(last)
    yield (last.name, session.get(events, last.pgh_id)), ("new", last)
    session.expunge_all()
    eager = session.scalars(model.events.select().options(selectinload("*"))).all()
    session.expunge_all()
    yield [e.pgh_context.metadata for e in eager], [{"user": 7}] * 2


@pytest.mark.parametrize("name", ["Guest", "Room"])
def test_history_is_read_in_the_database_of_the_model(
    hotel: SimpleNamespace, in_both: Any, name: str
) -> None:
    def read(session: Session) -> None:
        write(session, hotel)
        for number, (found, wanted) in enumerate(ways(session, getattr(hotel, name))):
            assert found == wanted, number

    in_both(read)


@pytest.mark.parametrize("name", ["Guest", "Room"])
def test_history_is_written_in_the_database_of_the_model(
    hotel: SimpleNamespace, in_both: Any, name: str
) -> None:
    def act(session: Session) -> None:
        write(session, hotel)
        model = getattr(hotel, name)
        events, obj = model.events.model, session.get_one(model, 1)
        last = session.scalars(model.events.of(1).last()).one()
        done = history.undo(session, model, transaction=last)
        session.commit()
        assert obj.name == "old"
        history.undo(session, model, transaction=done.transaction)
        assert obj.name == "new"
        first = session.scalars(obj.events.first()).one()
        assert first.revert(session, columns=["name"]) is obj
        assert obj.name == "old"
        seen = history.create_event(session, obj, label="seen")
        assert (seen.pgh_label, seen.name) == ("seen", "old")
        with history.editing_events(session):
            session.execute(delete(events).where(events.pgh_label == "seen"))
        table = model.events.table
        session.execute(update(table).values(pgh_label="x"))
        assert set(session.scalars(select(events.pgh_label))) == {"x"}
        session.execute(delete(table))
        assert session.scalars(select(events)).all() == []

    in_both(act)


def test_a_table_without_a_class_is_where_the_tables_are_that_it_refers_to(
    hotel: SimpleNamespace, in_both: Any
) -> None:
    def act(session: Session) -> None:
        write(session, hotel)
        placed = history.events(hotel.placed)
        (event_,) = session.scalars(placed.select()).all()
        rows = session.execute(AggregateEvent.select(hotel.placed)).all()
        assert [row.pgh_data for row in rows] == [{"room_id": 1, "thing_id": 1}]
        session.get_one(hotel.Room, 1).things = []
        session.commit()
        gone = session.scalars(placed.last()).one()
        assert gone.pgh_op == "D"
        history.undo(session, hotel.Other, transaction=gone)
        session.expire_all()
        assert len(session.get_one(hotel.Room, 1).things) == 1
        assert event_.revert(session) is None

    in_both(act)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_past_is_that_of_each_database(
    hotel: SimpleNamespace, binds: Any, engines: tuple[Engine, Engine], kind: str
) -> None:
    Guest, Room = hotel.Guest, hotel.Room
    with make(Session, binds(hotel, *engines)) as session:
        session.add_all([Guest(id=1, name="old"), Room(id=1, name="old")])
        session.commit()
        then = datetime.datetime.now(datetime.timezone.utc)
        session.get_one(Guest, 1).name = session.get_one(Room, 1).name = "new"
        session.commit()
        last = session.scalars(Room.events.of(1).first()).one()

    def look(past: Session) -> None:
        assert past.get_one(Guest, 1).name == "old"
        assert past.get_one(Room, 1).name == "old"
        assert past.scalars(select(Room.name)).all() == ["old"]
        assert past.get_one(Room, 1).things == []
        assert past.scalars(select(Room.events.model.name)).all() == ["old", "new"]
        assert len(past.execute(AggregateEvent.select(Room)).all()) == 2
        with history.as_of(past, then) as other:
            assert other.get_one(Room, 1).name == "old"

    def look_by_event(past: Session) -> None:
        assert past.get_one(Room, 1).name == "old"
        with pytest.raises(PastError, match="'guest' is in another database, in which"):
            past.get(Guest, 1)

    def run() -> None:
        with make(Session, binds(hotel, *engines)) as session:
            with history.as_of(session, then) as past:
                look(past)
            with history.as_of(session, last) as past:
                look_by_event(past)

    async def run_async() -> None:
        both = [create_async_engine(engine.url) for engine in engines]
        async with make(AsyncSession, binds(hotel, *both)) as session:
            async with history.as_of(session, then) as past:
                await past.run_sync(lambda s: (s.get_one(Guest, 1), s.get_one(Room, 1)))
                assert (await past.get_one(Room, 1)).name == "old"
                assert (await past.get_one(Guest, 1)).name == "old"
            async with history.as_of(session, last) as past:
                await past.run_sync(look_by_event)
        for engine in both:
            await engine.dispose()

    run() if kind == "sync" else asyncio.run(run_async())


def test_a_number_of_a_transaction_is_of_the_default_database(
    hotel: SimpleNamespace, engines: tuple[Engine, Engine]
) -> None:
    Guest, Room = hotel.Guest, hotel.Room
    with Session(**with_a_default(hotel, *engines)) as session:
        write(session, hotel)
        first = session.scalars(Guest.events.first()).one()
        with history.as_of(session, transaction=first.pgh_xact_id) as past:
            assert past.get_one(Guest, 1).name == "old"
            with pytest.raises(PastError, match="'room' is in another database"):
                past.scalars(select(Room)).all()
            assert past.connection().engine is engines[0]
    with (
        Session(**by_bases(hotel, *engines)) as session,
        pytest.raises(PastError, match="several or none; give it an engine"),
        history.as_of(session, transaction=1),
    ):
        pass


def test_the_past_of_a_table_that_the_session_cannot_place(
    hotel: SimpleNamespace, engines: tuple[Engine, Engine]
) -> None:
    then = datetime.datetime.now(datetime.timezone.utc)
    with (
        Session(**by_bases(hotel, *engines)) as session,
        history.as_of(session, then) as past,
        pytest.raises(PastError, match="several or none; give it an engine"),
    ):
        past.execute(select(hotel.placed)).all()
    with history.as_of(engines[1], then) as past:
        assert past.execute(select(hotel.placed)).all() == []


@pytest.fixture
def split(hotel: SimpleNamespace, engines: tuple[Engine, Engine]) -> Iterator[Session]:
    """A session with the tables of one MetaData in two databases."""
    engine, other = engines
    hotel.Other.metadata.create_all(engine)
    with Session(binds={hotel.Thing: engine, hotel.Room: other}) as session:
        with history.context(session, user=7):
            session.add_all([hotel.Thing(id=1), hotel.Room(id=1, name="a")])
            session.commit()
        yield session


def test_models_in_several_databases_are_refused_in_one_statement(
    hotel: SimpleNamespace, split: Session
) -> None:
    Room, Thing = hotel.Room, hotel.Thing
    words = "got Room and Thing, which the session has in two databases"
    for statement in (
        AggregateEvent.select(Room, Thing),
        history.feed(hotel.Other),
        select(Room.events.model.pgh_context.property.mapper.class_),
        select(Room.events.model.pgh_context.property.target),
    ):
        with pytest.raises(EventsError, match=words):
            split.execute(statement)
    for model in (Room, Thing):
        assert len(split.execute(AggregateEvent.select(model)).all()) == 1
        event_ = split.scalars(model.events.last()).one()
        assert event_.pgh_context.metadata == {"user": 7}
        split.expunge_all()
        eager = model.events.select().options(
            selectinload(model.events.model.pgh_context)
        )
        assert split.scalars(eager).one().pgh_context.metadata == {"user": 7}
        split.expunge_all()


def test_an_undo_is_of_one_database(
    hotel: SimpleNamespace, split: Session, engines: tuple[Engine, Engine]
) -> None:
    Guest, Room, Thing = hotel.Guest, hotel.Room, hotel.Thing
    of_room = split.scalars(Room.events.last()).one()
    with pytest.raises(UndoError, match="undo got Room and Thing, which the session"):
        history.undo(split, Room, Thing, transaction=1)
    for of in ({"transaction": of_room}, {"context": of_room}):
        with pytest.raises(UndoError, match="undo got Room and Thing, which the"):
            history.undo(split, Thing, **of)
    assert len(history.undo(split, Room, transaction=of_room).steps) == 1
    with (
        Session(**by_bases(hotel, *engines)) as session,
        pytest.raises(UndoError, match="undo got Guest and Room, which the session"),
    ):
        history.undo(session, Guest, Room, transaction=1)


def test_a_session_that_reads_copies_goes_on_to_choose_them(
    hotel: SimpleNamespace, engines: tuple[Engine, Engine]
) -> None:
    """As in SQLAlchemy's manual, with a get_bind that takes no bind."""
    engine, _ = engines
    copies = [create_engine(engine.url) for _ in range(2)]
    read: list[Any] = []

    class RoutingSession(Session):
        def get_bind(self, mapper: Any = None, clause: Any = None) -> Any:  # type: ignore[override]
            if self._flushing or isinstance(clause, UpdateBase):
                return engine
            return random.choice(copies)

    for copy in copies:
        event.listen(copy, "begin", read.append)
    with Session(engine) as session:
        write_guest(session, hotel.Guest)
        last = session.scalars(hotel.Guest.events.last()).one()
    with RoutingSession() as session:
        assert len(session.scalars(hotel.Guest.events.select()).all()) == 2
        assert len(session.execute(AggregateEvent.select(hotel.Guest)).all()) == 2
        assert read, "events are read from a copy"
        for point in ({"when": last}, {"transaction": last.pgh_xact_id}):
            with history.as_of(session, **point) as past:
                assert past.get_one(hotel.Guest, 1).name == "new"
                assert past.scalars(select(hotel.Guest.name)).all() == ["new"]
                assert past.connection().engine in {*copies, engine}
        session.rollback()
        read.clear()
        history.undo(session, hotel.Guest, transaction=last)
        assert not read, "what is to be written is read where it is written"
        session.commit()
    for copy in copies:
        copy.dispose()


def write_guest(session: Session, model: Any) -> None:
    session.add(model(id=1, name="old"))
    session.commit()
    session.get_one(model, 1).name = "new"
    session.commit()


def test_a_database_that_is_not_given_is_an_error(
    hotel: SimpleNamespace, engines: tuple[Engine, Engine]
) -> None:
    with Session(binds={hotel.Base: engines[0]}) as session:
        for statement in (
            hotel.Room.events.select(),
            AggregateEvent.select(hotel.Room),
        ):
            with pytest.raises(UnboundExecutionError, match="Room"):
                session.execute(statement)


def test_other_statements_go_where_they_went(
    hotel: SimpleNamespace, engines: tuple[Engine, Engine]
) -> None:
    with Session(**with_a_default(hotel, *engines)) as session:
        write(session, hotel)
        assert session.scalar(text("SELECT count(*) FROM guest")) == 1
        assert session.scalar(select(func.count()).select_from(hotel.Guest)) == 1
        untracked = Table("x", MetaData(), Column("id", ForeignKey("y.id")))
        session.execute(DDL("CREATE TABLE x (id int)"))
        session.execute(insert(untracked).values(id=1))
        given = {"bind": engines[1]}
        found = session.scalars(select(hotel.Room.events.model), bind_arguments=given)
        assert len(found.all()) == 2


def test_statements_without_tables_go_where_they_went(
    hotel: SimpleNamespace, engines: tuple[Engine, Engine]
) -> None:
    with make(Session, by_get_bind(hotel, *engines)) as session:
        session.execute(CreateSequence(Sequence("numbers")))
        assert session.scalar(Sequence("numbers")) == 1
        assert session.scalar(func.abs(-1)) == 1


def test_contexts_are_read_where_all_models_of_the_metadata_are(
    hotel: SimpleNamespace, engines: tuple[Engine, Engine]
) -> None:
    with Session(**by_bases(hotel, *engines)) as session:
        write(session, hotel)
        contexts = inspect(hotel.Room.events.model).attrs.pgh_context.entity
        (found,) = session.scalars(select(contexts.class_)).all()
        assert found.metadata == {"user": 7}
        assert found.parent is None
        table = contexts.local_table
        assert session.scalars(select(table.c.metadata)).all() == [{"user": 7}]
        with history.context(session, outer=1), history.context(session, inner=2):
            session.get_one(hotel.Room, 1).name = "newer"
            session.commit()
        last = session.scalars(hotel.Room.events.last()).one()
        assert last.pgh_context.metadata == {"outer": 1, "inner": 2}
        assert last.pgh_context.parent is None, "it made no change itself"


def test_a_table_without_any_class_is_where_the_session_has_it(
    base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    lone = track()(
        Table("lone", base.metadata, Column("id", Integer, primary_key=True))
    )
    base.metadata.create_all(pg_engine)
    with Session(binds={lone: pg_engine}) as session:
        session.execute(insert(lone).values(id=1))
        session.commit()
        last = session.scalars(history.events(lone).last()).one()
        assert len(session.execute(AggregateEvent.select(lone)).all()) == 1
        now = datetime.datetime.now(datetime.timezone.utc)
        with history.as_of(session, now) as past:
            assert past.scalars(select(lone.c.id)).all() == [1]
        assert len(history.undo(session, lone, transaction=last).steps) == 1
        assert session.scalars(select(lone.c.id)).all() == []
        assert last.revert(session) is None
        assert session.scalars(select(lone.c.id)).all() == [1]


def test_engines_of_options_are_of_one_database(
    hotel: SimpleNamespace, engines: tuple[Engine, Engine]
) -> None:
    engine, other = engines
    with Session(**by_bases(hotel, engine, other)) as session:
        write(session, hotel)
    tagged = other.execution_options(tag="x")
    with Session(binds={hotel.Room: other, hotel.Thing: tagged}) as session:
        assert len(session.execute(AggregateEvent.select(hotel.Other)).all()) == 4


def test_what_an_undo_and_a_diff_ask_for_is_asked_where_the_model_is(
    base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    """The session has no other database, so that any other question is an error."""
    asked: list[Any] = []

    class RoutingSession(Session):
        def get_bind(self, *args: Any, **options: Any) -> Any:
            asked.append(options.get("clause"))
            return super().get_bind(*args, **options)

    @track()
    class Door(base):  # type: ignore[misc, valid-type]
        __tablename__ = "door"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        edition: Mapped[int] = mapped_column()
        __mapper_args__ = {
            "polymorphic_on": "kind",
            "polymorphic_identity": "door",
            "version_id_col": edition,
        }

    @track()
    class Gate(Door):
        __tablename__ = "gate"
        id: Mapped[int] = mapped_column(ForeignKey("door.id"), primary_key=True)
        number: Mapped[int] = mapped_column(unique=True)
        data: Mapped[Any] = mapped_column(JSONB, nullable=True)
        note: Mapped[str] = mapped_column(nullable=True)
        __mapper_args__ = {"polymorphic_identity": "gate"}

    base.metadata.create_all(pg_engine)
    with RoutingSession(binds={base: pg_engine}) as session:
        gates = [Gate(id=n, number=n, data=1) for n in (1, 2)]
        session.add_all(gates)
        session.commit()
        for gate, number in zip([*gates, gates[0]], [3, 1, 2], strict=True):
            gate.number, gate.data = number, True
            session.flush()
        session.commit()
        first, *_, last = session.scalars(Gate.events.of(1).select()).all()
        assert history.diff(first, last) == {"number": (1, 2), "data": (1, True)}
        assert list(history.steps([first, last]))[1][1] == history.diff(first, last)
        edition = gates[0].edition
        for dry_run in (True, False):
            asked.clear()
            plan = history.undo(session, base, transaction=last, dry_run=dry_run)
            assert {isinstance(clause, UpdateBase) for clause in asked} == {True}
            parking = "update gate (2): number = '0'"
            assert parking in map(str, plan.steps)
        assert [(gate.number, gate.data) for gate in gates] == [(1, 1), (2, 1)]
        assert gates[0].edition > edition
        edition = gates[0].edition
        session.commit()
        session.delete(gates[0])
        session.commit()
        gone = session.scalars(Gate.events.of(1).last()).one()
        asked.clear()
        history.undo(session, base, transaction=gone)
        assert {isinstance(clause, UpdateBase) for clause in asked} == {True}
        again = session.get_one(Gate, 1)
        assert again.number == 1
        assert again.edition > edition
        edition = again.edition
        again.number = 7
        session.commit()
        assert first.revert(session) is again
        assert again.number == 1
        assert again.edition > edition + 1
