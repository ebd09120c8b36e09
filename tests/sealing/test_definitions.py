"""What ``track`` takes for seals and erasures, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    insert,
    inspect,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import ERASED, track
from sa_history.capture.seal_tables import seal_tables_of
from sa_history.exc import AppendOnlyError, DefinitionError, ErasureError
from sa_history.install import check, harden

Base = type[DeclarativeBase]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"erasable": ["nam"]}, "erasable names 'nam', which is not tracked"),
        ({"erasable": ["id"]}, "erasable names 'id', a part of the key"),
        ({"erasable": "name"}, "erasable is a list of names"),
        ({"erasable_context": ["ip"], "context": None}, "events store no context"),
        (
            {
                "erasable_context": ["ip"],
                "context_columns": [Column("ip", String, nullable=False)],
            },
            "whose column is NOT NULL",
        ),
    ],
)
def test_options_that_cannot_work_are_refused(
    base: Base, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):

        @track(**options)
        class Person(base):  # type: ignore[misc, valid-type]
            __tablename__ = "person"
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str]


def test_a_table_without_a_key_has_nothing_to_erase() -> None:
    table = Table("log", MetaData(), Column("line", String))
    with pytest.raises(DefinitionError, match="has no primary key, by which"):
        track(erasable=["line"])(table)


def test_a_table_of_the_name_of_one_of_seals_is_refused() -> None:
    metadata = MetaData(schema="audit")
    Table("pghistory_salt", metadata, Column("id", String))
    table = Table("log", metadata, Column("id", String, primary_key=True))
    with pytest.raises(DefinitionError, match="has a table 'audit.pghistory_salt'"):
        track(sealed=True)(table)


def test_no_foreign_key_is_checked_for_each_event_that_is_erased(
    base: type[DeclarativeBase], person: Any
) -> None:
    """It takes longer than all else of an erasure."""
    tables = seal_tables_of(base.metadata)
    assert tables is not None
    assert not tables.erased.foreign_keys


def test_models_that_ask_for_no_seals_have_no_tables_of_them(
    base: Base, create_all: Callable[[], None], pg_engine: Engine
) -> None:
    @track()
    class Person(base):  # type: ignore[misc, valid-type]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    tables = set(inspect(pg_engine).get_table_names())
    assert tables == {"person", "person_event", "pghistory_context"}
    message = "nothing of .* can be erased; name"
    with Session(pg_engine) as session, pytest.raises(ErasureError, match=message):
        history.erase(session, Person, 1)


def test_a_check_tells_of_missing_tables_and_harden_guards_them(
    person: Any, base: Base, pg_engine: Engine, pg_url: Any
) -> None:
    assert check(pg_engine, base) == []
    with pg_engine.begin() as connection:
        connection.execute(text("DROP TABLE pghistory_erased"))
    (found,) = check(pg_engine, base)
    assert (found.problem, found.name) == ("missing", "public.pghistory_erased")


def test_a_hardened_role_cannot_read_salts_or_write_seals(
    base: Base, create_all: Callable[[], None], pg_engine: Engine, pg_url: Any
) -> None:
    @track(sealed=True, ignorable=False)
    class Person(base):  # type: ignore[misc, valid-type]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    role = f"app_{pg_url.database}"[-63:]
    with pg_engine.begin() as connection:
        connection.execute(text(f'CREATE ROLE "{role}"'))
    try:
        statements = harden(pg_engine, base, role=role)
        assert any("pghistory_salt" in s and "SELECT" in s for s in statements)
        with pg_engine.connect() as connection:
            for table, right, has in (
                ("pghistory_salt", "SELECT", False),
                ("pghistory_seal", "SELECT", True),
                ("pghistory_seal", "UPDATE", False),
                ("pghistory_erasure", "INSERT", False),
            ):
                query = text("SELECT has_table_privilege(:role, :table, :right)")
                given = {"role": role, "table": table, "right": right}
                assert connection.scalar(query, given) is has
    finally:
        with pg_engine.begin() as connection:
            connection.execute(text(f'DROP OWNED BY "{role}"'))
            connection.execute(text(f'DROP ROLE "{role}"'))


def test_append_only_events_are_erased_by_their_owner_and_are_append_only_after(
    base: Base, create_all: Callable[[], None], pg_engine: Engine
) -> None:
    @track(sealed=True, append_only=True, erasable=["name"])
    class Person(base):  # type: ignore[misc, valid-type]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    create_all()
    with Session(pg_engine) as session:
        session.add(Person(id=1, name="Name1"))
        session.commit()
        history.seal(pg_engine, base)
        assert history.erase(session, Person, 1).events == 1
        session.commit()
        with pytest.raises(AppendOnlyError):
            session.execute(text("UPDATE person_event SET name = 'x'"))
    assert history.verify(pg_engine, base).discrepancies == ()


def test_inline_contexts_and_context_columns_are_erased_with_a_commitment(
    base: Base, create_all: Callable[[], None], pg_engine: Engine
) -> None:
    @track(
        sealed=True,
        context="inline",
        context_columns=[Column("mail", String)],
        erasable_context=["ip", "mail"],
    )
    class Person(base):  # type: ignore[misc, valid-type]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    create_all()
    with Session(pg_engine) as session:
        for number in (1, 2):
            with history.context(session, user=5, ip="::1", mail="a@b"):
                session.add(Person(id=number, name="x"))
                session.commit()
        session.add(Person(id=3, name="x"))
        session.commit()
        history.seal(pg_engine, base)
        assert history.erase(session, Person, 1, 3).events == 2
        session.commit()
        events = session.scalars(Person.events.select()).all()
        assert [(e.pgh_context, e.mail) for e in events] == [
            ({"user": 5, "ip": None, "mail": None}, None),
            ({"user": 5, "ip": "::1", "mail": "a@b"}, "a@b"),
            (None, None),
        ]
    assert history.verify(pg_engine, base).discrepancies == ()
    with pg_engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE person_event SET pgh_context = pgh_context || '{\"ip\": 1}'"
                " WHERE pgh_id = 1"
            )
        )
    (found,) = history.verify(pg_engine, base).discrepancies
    assert (found.problem, found.ids) == ("changed", (1,))


def test_events_without_a_context_are_erased(
    base: Base, create_all: Callable[[], None], pg_engine: Engine
) -> None:
    @track(sealed=True, context=None, erasable=["name"])
    class Person(base):  # type: ignore[misc, valid-type]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    create_all()
    with Session(pg_engine) as session:
        session.add(Person(id=1, name="x"))
        session.commit()
        history.seal(pg_engine, base)
        assert history.erase(session, Person, 1, dry_run=True).number is None
        assert history.erase(session, Person, 2).number is None
        assert history.erase(session, Person, 1).number == 1
        session.commit()
    assert history.verify(pg_engine, base).discrepancies == ()
    assert repr(ERASED) == "ERASED"


def test_an_event_that_was_sealed_before_it_could_be_erased_is_refused(
    base: Base, create_all: Callable[[], None], pg_engine: Engine
) -> None:
    class Before(DeclarativeBase):
        metadata = MetaData()

    def define(of: Any, **options: Any) -> Any:
        @track(sealed=True, **options)
        class Person(of):  # type: ignore[misc]
            __tablename__ = "person"
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str]

        return Person

    person = define(Before)
    Before.metadata.create_all(pg_engine)
    with Session(pg_engine) as session:
        session.add(person(id=1, name="x"))
        session.commit()
        history.seal(pg_engine, Before)
        session.execute(text("ALTER TABLE person_event ADD pgh_erased text[]"))
        session.commit()
        later = define(base, erasable=["name"])
        message = "event 1 of person_event was sealed when name could not be erased yet"
        with pytest.raises(ErasureError, match=message):
            history.erase(session, later, 1)
        session.execute(text("INSERT INTO person VALUES (2, 'y')"))
        session.commit()
        history.seal(pg_engine, base)
        assert history.erase(session, later, 2).events == 1
        session.commit()
    assert history.verify(pg_engine, base).discrepancies == ()


def define(of: Any, table: str = "person", **options: Any) -> Any:
    attributes = {
        "__tablename__": table,
        "id": mapped_column(Integer, primary_key=True),
        "name": mapped_column(String),
        "email": mapped_column(String),
    }
    return track(sealed=True, **options)(type(table, (of,), attributes))


class Earlier:
    """Makes bases of models as they were at another time."""

    @staticmethod
    def base() -> Any:
        class Base(DeclarativeBase):
            metadata = MetaData()

        return Base


def test_what_a_seal_commits_to_is_erased_though_the_model_asks_for_less_now(
    pg_engine: Engine,
) -> None:
    before, now = Earlier.base(), Earlier.base()
    then = define(before, erasable=["name", "email"], erasable_context=["a", "b"])
    person = define(now, erasable=["name"], erasable_context=["a"])
    before.metadata.create_all(pg_engine)
    with Session(pg_engine) as session:
        with history.context(session, a=1, b=2, c=3):
            session.add(then(id=1, name="n", email="e"))
            session.commit()
        history.seal(pg_engine, before)
        history.erase(session, person, 1)
        session.commit()
        (event,) = session.scalars(person.events.select())
        assert (event.name, event.email) == (None, None)
        assert event.pgh_context.metadata == {"a": None, "b": None, "c": 3}
    assert history.verify(pg_engine, now).discrepancies == ()


def test_a_context_that_was_sealed_before_it_could_be_erased_is_refused(
    pg_engine: Engine,
) -> None:
    """Also if an event of another table has it, and not that of the object."""
    before, now = Earlier.base(), Earlier.base()
    place = define(before, "place", erasable=["name"])
    define(before, "other", erasable=["name"])
    define(now, "place", erasable=["name"])
    person = define(now, "person", erasable=["name"], erasable_context=["a"])
    now.metadata.create_all(pg_engine)
    before.metadata.create_all(pg_engine)
    with Session(pg_engine) as session:
        with history.context(session, a=1):
            session.add(place(id=1, name="n"))
            session.commit()
            history.seal(pg_engine, before)
            session.add(person(id=1, name="n"))
            session.commit()
        with history.context(session, a=2):
            session.add(person(id=2, name="n"))
            session.commit()
        history.seal(pg_engine, now)
        with pytest.raises(ErasureError, match="event 1 of place_event was sealed whe"):
            history.erase(session, person, 1)
        session.rollback()
        assert history.erase(session, person, 2).contexts == 1
        session.commit()
    assert history.verify(pg_engine, now).discrepancies == ()


def test_a_second_event_table_that_keeps_what_is_erased_is_refused(
    base: Base, create_all: Callable[[], None], pg_engine: Engine
) -> None:
    @track(erasable=["name"])
    @track(events="log", event_table="person_log")
    class Person(base):  # type: ignore[misc, valid-type]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    create_all()
    message = "person_log stores name of Person as"
    with Session(pg_engine) as session, pytest.raises(ErasureError, match=message):
        history.erase(session, Person, 1)


def test_an_object_is_erased_under_all_keys_that_it_had(
    person: Any, base: Base, pg_engine: Engine, some_events: list[int]
) -> None:
    history.seal(pg_engine, base)
    with Session(pg_engine) as session:
        for before, after in ((1, 10), (10, 1), (1, 11)):
            session.execute(
                text("UPDATE person SET id = :after WHERE id = :before"),
                {"before": before, "after": after},
            )
        session.commit()
        history.seal(pg_engine, base)
        assert history.erase(session, person, 11).events == 7
        session.commit()
        assert history.verify(pg_engine, base).discrepancies == ()
        session.execute(text("UPDATE person SET id = 12 WHERE id = 2"))
        session.add(person(id=2, name="another"))
        session.commit()
        with pytest.raises(ErasureError, match=r"has left the key \(2,\) with event"):
            history.erase(session, person, 12)


def test_what_was_erased_is_not_restored(
    person: Any, base: Base, pg_engine: Engine, some_events: list[int]
) -> None:
    with Session(pg_engine) as session:
        history.erase(session, person, 2)
        session.commit()
        obj = session.get_one(person, 2)
        obj.name = "new"
        session.commit()
        first, *_, last = session.scalars(obj.events.select())
        first.revert(session)
        session.commit()
        assert (obj.name, obj.points) == ("new", 0)
        with pytest.raises(history.exc.EventsError, match="or which was erased"):
            first.revert(session, columns=["name"])
        session.rollback()
        transaction = last.pgh_xact_id
        history.undo(session, person, transaction=transaction)
        session.commit()
        assert obj.name == "new"  # what it was before is not known any more
        steps = list(history.steps(session.scalars(obj.events.select())))
        changes = [diff["name"] for _, diff in steps if diff and "name" in diff]
        assert changes == [(ERASED, "new")]


def test_a_row_is_not_inserted_again_without_what_was_erased(
    person: Any, base: Base, pg_engine: Engine, some_events: list[int]
) -> None:
    with Session(pg_engine) as session:
        session.delete(session.get_one(person, 2))
        session.commit()
        history.erase(session, person, 2)
        session.commit()
        *_, last = session.scalars(person.events.of(2).select())
        message = "cannot be inserted again, since its name was erased from its events"
        with pytest.raises(history.exc.EventsError, match=message):
            last.revert(session)
        session.rollback()
        with pytest.raises(history.exc.EventsError, match=message):
            history.undo(session, person, transaction=last.pgh_xact_id)
        session.rollback()
        *_, last = session.scalars(person.events.of(1).select())
        session.delete(session.get_one(person, 1))
        session.commit()
        assert last.revert(session).name == "Name1"


def test_odd_names_and_schemas_are_sealed_and_erased(
    pg_engine: Engine, pg_url: Any
) -> None:
    metadata = MetaData(schema='au"dit')
    table = Table(
        'o\'dd "täble" 100% :x',
        metadata,
        Column('i"d %s', Integer, primary_key=True),
        Column("gr:öße %(x)s", String),
    )
    track(
        sealed=True,
        append_only=True,
        erasable=["gr:öße %(x)s"],
        erasable_context=["i'p %s"],
    )(table)
    with pg_engine.begin() as connection:
        connection.execute(text('CREATE SCHEMA "au""dit"'))
    translated = pg_engine.execution_options(
        schema_translate_map={'au"dit': "tenant %"}
    )
    with pg_engine.begin() as connection:
        connection.execute(text('CREATE SCHEMA "tenant %"'))
    for engine in (pg_engine, translated):
        metadata.create_all(engine)
        with Session(engine) as session:
            with history.context(session, **{"i'p %s": "::1"}):
                session.execute(
                    insert(table).values({'i"d %s': 1, "gr:öße %(x)s": "value"})
                )
                session.commit()
            history.seal(engine, metadata)
            assert history.erase(session, table, 1).contexts == 1
            session.commit()
        history.seal(engine, metadata)
        found = history.verify(engine, metadata)
        assert (found.discrepancies, found.events) == ((), 2)
