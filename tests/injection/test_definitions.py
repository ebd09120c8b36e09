"""Hostile names, labels, conditions and values, from a definition to its events."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import sqlalchemy
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext
from alembic.operations import Operations
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    delete,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.schema import CreateSchema, DropSchema

import sa_history as history
import sa_history.alembic
from sa_history import (
    FSM,
    AfterDelete,
    AfterUpdate,
    AggregateEvent,
    Audit,
    Delete,
    Insert,
    Manual,
    Protect,
    Referencing,
    Snapshot,
    SoftDelete,
    Trigger,
    attach,
    audit_table,
    new,
    old,
    track,
    view,
)
from sa_history.cli import command, installation
from sa_history.exc import (
    DefinitionError,
    ProtectedError,
    TransitionError,
)
from sa_history.install import check

SCALE = int(os.environ.get("INJECTION_SCALE", "1"))
"""How many times as many examples; with more than one they are others each time."""

Catalog = Callable[[Connection], list[str]]


def examples(number: int) -> settings:
    return settings(
        deadline=None,
        derandomize=SCALE == 1,
        max_examples=number * SCALE,
        phases=[Phase.generate],  # to shrink would take minutes, and names say it all
        suppress_health_check=list(HealthCheck),
    )


class Names(NamedTuple):
    """What somebody hostile has chosen; no two are the same."""

    schema: str
    event_schema: str
    name: str
    event_name: str
    key: str
    value: str
    state: str
    context_key: str
    channel: str
    fsm: str
    guard: str
    free: str
    view_name: str
    view_column: str
    audit: str
    log: str
    table_comment: str
    column_comment: str


@dataclass
class World:
    """A model of which all that can be named is named by somebody hostile.

    :param draw: gives a name, or a text.
    """

    hostile: Any
    data: st.DataObject
    level: str

    def __post_init__(self) -> None:
        size = len(Names._fields)
        self.names = Names(
            *self.data.draw(
                st.lists(self.hostile.names, min_size=size, max_size=size, unique=True)
            )
        )
        self.labels = self.data.draw(
            st.lists(self.text(1), min_size=4, max_size=4, unique=True)
        )
        self.first, self.second = self.data.draw(
            st.lists(self.text(), min_size=2, max_size=2, unique=True)
        )
        # One is the default of a column of the application, and Alembic takes quotes at
        # the ends of such a text for those around it.
        state = self.text().filter(lambda text: text == text.strip("'"))
        self.states = self.data.draw(
            st.lists(state, min_size=3, max_size=3, unique=True)
        )
        self.hint = self.data.draw(self.text(1))
        self.note = self.data.draw(self.text())
        self.metadata = MetaData(schema=self.names.schema)
        self._define()

    def text(self, at_least: int = 0) -> st.SearchStrategy[str]:
        strategy: st.SearchStrategy[str] = self.hostile.texts
        return strategy.filter(lambda text: len(text) >= at_least)

    def _define(self) -> None:
        class Base(DeclarativeBase):
            metadata = self.metadata

        self.base = Base
        log = audit_table(self.names.log, self.metadata)
        table = Table(
            self.names.name,
            self.metadata,
            # Without a sequence, whose name Alembic cannot read with a quote in it.
            Column(
                self.names.key,
                Integer,
                primary_key=True,
                key="id",
                autoincrement=False,
            ),
            Column(
                self.names.value, Text, key="value", comment=self.names.column_comment
            ),
            Column(self.names.state, Text, key="state", server_default=self.states[0]),
            comment=self.names.table_comment,
        )

        @track(
            Snapshot(label=self.labels[0]),
            AfterUpdate(new.value == self.second, label=self.labels[1]),
            AfterDelete(
                old.value.in_([self.second, self.labels[1]]), label=self.labels[2]
            ),
            Manual(self.labels[3]),
            level=self.level,
            schema=self.names.event_schema,
            event_table=self.names.event_name,
            context_columns=[
                Column(self.names.context_key, Text, key="who", nullable=False)
            ],
            notify=self.names.channel,
            append_only=True,
        )
        @attach(
            FSM(
                "state",
                transitions=[self.states[:2]],
                initial=self.states[:1],
                name=self.names.fsm,
                level=self.level,
            ),
            Protect(
                Delete,
                condition=(old.value == self.first) & (old.state != self.states[1]),
                name=self.names.guard,
                hint=self.hint,
            ),
            Trigger(
                self.names.free,
                "after",
                Insert,
                body=f"PERFORM {literal(self.note)}; RETURN NULL;",
            ),
            Audit(into=log, name=self.names.audit, level=self.level),
        )
        class Thing(Base):
            __table__ = table

        self.model = Thing
        shown = view(
            self.names.view_name,
            self.metadata,
            select(table.c.id, table.c.value.label(self.names.view_column)).where(
                table.c.value != self.second
            ),
        )
        self.shown, self.audited, self.table = shown, log, table

    def create_schemas(self, connection: Connection) -> None:
        for name in (self.names.schema, self.names.event_schema):
            connection.execute(CreateSchema(name))


def literal(value: str) -> str:
    """Return a literal of PL/pgSQL, by other means than the library's."""
    return "E'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


@dataclass
class Written:
    """A world with tables, in which a row came, changed twice and went.

    :param told: the context of it all.
    """

    world: World
    session: Session
    told: dict[str, Any]

    @property
    def who(self) -> Any:
        return self.told[self.world.names.context_key]


@contextlib.contextmanager
def created(world: World, engine: Engine) -> Iterator[Session]:
    """Create what a world defines, and roll it back in the end."""
    with engine.connect() as connection, Session(connection) as session:
        world.create_schemas(connection)
        world.metadata.create_all(connection)
        yield session
    world.base.registry.dispose()


@contextlib.contextmanager
def written(
    data: st.DataObject, level: str, hostile: Any, engine: Engine
) -> Iterator[Written]:
    """Write a row, change its value and its state, and delete it."""
    world = World(hostile, data, level)
    told = data.draw(st.dictionaries(hostile.texts, hostile.values, max_size=3))
    told[world.names.context_key] = data.draw(world.text())
    with created(world, engine) as session:
        with history.context(session, **told):
            thing = world.model(id=1, value=world.first)
            session.add(thing)
            session.flush()
            thing.value = world.second
            session.flush()
            history.create_event(session, thing, label=world.labels[3])
            thing.state = world.states[1]
            session.flush()
            session.delete(thing)
            session.flush()
        yield Written(world, session, told)


@examples(3)
@given(data=st.data())
def test_events_are_read_as_they_were_written_whatever_it_is_called(
    data: st.DataObject, level: str, hostile: Any, pg_engine: Engine
) -> None:
    with written(data, level, hostile, pg_engine) as done:
        world, who, told = done.world, done.who, done.told
        events = done.session.scalars(world.model.events.select()).all()
        first, second, (a, b, _) = world.first, world.second, world.states
        assert [
            (e.pgh_label, e.pgh_op, e.value, e.state, e.who, e.pgh_context.metadata)
            for e in events
        ] == [
            (world.labels[0], "I", first, a, who, told),
            (world.labels[0], "U", second, a, who, told),
            (world.labels[1], "U", second, a, who, told),
            (world.labels[3], "M", second, a, who, told),
            (world.labels[0], "U", second, b, who, told),
            (world.labels[1], "U", second, b, who, told),
            (world.labels[2], "D", second, b, who, told),
        ]
        label = world.labels[2]
        found = world.model.events.select().where(world.model.events.pgh_label == label)
        assert done.session.scalars(found).all() == events[-1:]
        rows = done.session.execute(AggregateEvent.select(world.model)).all()
        assert rows[0].pgh_data == {"id": 1, "value": first, "state": a}
        assert rows[1].pgh_diff == {"value": [first, second]}


@examples(3)
@given(data=st.data())
def test_log_has_each_change_by_the_names_of_the_database_whatever_they_are(
    data: st.DataObject, level: str, hostile: Any, pg_engine: Engine
) -> None:
    with written(data, level, hostile, pg_engine) as done:
        world, names = done.world, done.world.names
        log = done.session.execute(select(world.audited)).mappings().all()
        assert [(row["operation"], row["table_name"]) for row in log] == [
            ("INSERT", names.name),
            ("UPDATE", names.name),
            ("UPDATE", names.name),
            ("DELETE", names.name),
        ]
        assert log[0]["new_row"] == {
            names.key: 1,
            names.value: world.first,
            names.state: world.states[0],
        }
        assert log[0]["context"] == done.told


@examples(3)
@given(data=st.data())
def test_refusals_name_what_they_refuse_until_it_is_ignored_whatever_it_is_called(
    data: st.DataObject, level: str, hostile: Any, pg_engine: Engine
) -> None:
    world = World(hostile, data, level)
    name, (start, _, end) = world.names, world.states
    with created(world, pg_engine) as session:
        with history.context(session, **{name.context_key: data.draw(world.text())}):
            session.add(world.model(id=1, value=world.first))
            session.flush()
            with pytest.raises(TransitionError) as error, session.begin_nested():
                session.execute(update(world.table).values(state=end))
            said = error.value.orig.diag
            assert said.message_primary == (
                f"UPDATE of {name.schema}.{name.name} is refused: {name.state} may not "
                f"go from {start} to {end}"
            )
            assert said.column_name == name.state
            with pytest.raises(ProtectedError) as error, session.begin_nested():
                session.execute(delete(world.table))
            assert error.value.orig.diag.message_hint.startswith(world.hint)
            events = session.scalars(world.model.events.select()).all()
            assert [event.pgh_op for event in events] == ["I"]
            with history.ignore(session, world.model, name.fsm, name.guard):
                session.execute(update(world.table).values(state=end))
                session.execute(delete(world.table))
        assert session.scalars(select(world.table.c.id)).all() == []


@examples(3)
@given(data=st.data())
def test_drop_all_leaves_nothing_whatever_it_is_called(
    data: st.DataObject, level: str, hostile: Any, pg_engine: Engine, catalog: Catalog
) -> None:
    world = World(hostile, data, level)
    with pg_engine.connect() as connection:
        world.create_schemas(connection)
        empty = catalog(connection)
        world.metadata.create_all(connection)
        assert catalog(connection) != empty
        world.metadata.drop_all(connection)
        assert catalog(connection) == empty
    world.base.registry.dispose()


def by_psql(world: World, connection: Connection, psql: Callable[[str], None]) -> None:
    """What ``sa-history ddl`` prints, by psql."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        database = command.Database([world.metadata], "sa-history {}", None, ["models"])
        installation.ddl(database, without_tables=False, json=False)
    connection.commit()
    psql(printed.getvalue())


def by_migration(world: World, connection: Connection, *_: Any) -> None:
    """The text of a revision, compiled and executed."""
    migrate(world, connection)


def migrate(world: World, connection: Connection) -> str:
    """Execute what autogenerate finds to do, and return its text."""
    context = MigrationContext.configure(
        connection,
        opts={"target_metadata": world.metadata, "include_schemas": True},
    )
    script = produce_migrations(context, world.metadata)
    assert script.upgrade_ops is not None
    code = render_python_code(script.upgrade_ops, migration_context=context)
    lines = code.encode().decode().split("\n")
    body = "\n".join(["def upgrade():", *lines])
    names = {
        "op": Operations(context),
        "sa": sqlalchemy,
        "postgresql": postgresql,
        "Text": Text,
    }
    exec(compile(body, "revision", "exec"), names)
    names["upgrade"]()
    return code


@pytest.mark.parametrize("way", [by_psql, by_migration])
@examples(2)
@given(data=st.data())
def test_printed_and_migrated_is_the_same_as_created(
    data: st.DataObject,
    way: Callable[..., None],
    hostile: Any,
    pg_engine: Engine,
    catalog: Catalog,
    psql: Callable[[str], None],
) -> None:
    world = World(hostile, data, data.draw(st.sampled_from(["statement", "row"])))
    with pg_engine.connect() as connection:
        world.create_schemas(connection)
        connection.commit()
        try:
            world.metadata.create_all(connection)
            created = catalog(connection)
            connection.rollback()
            way(world, connection, psql)
            assert catalog(connection) == created
            assert check(connection, world.metadata) == []
            assert "pass" in migrate(world, connection)
        finally:
            connection.rollback()
            for name in (world.names.schema, world.names.event_schema):
                connection.execute(DropSchema(name, cascade=True))
            connection.commit()
    world.base.registry.dispose()


def table_named(
    name: str = "t", schema: str | None = None, column: str = "value"
) -> Table:
    key = Column("id", Integer, primary_key=True)
    return Table(name, MetaData(), key, Column(column, Text), schema=schema)


PLACES: dict[str, Callable[[str], Any]] = {
    "table": lambda bad: track()(table_named(name=bad)),
    "attached table": lambda bad: attach(Protect(Delete))(table_named(name=bad)),
    "schema": lambda bad: track()(table_named(schema=bad)),
    "metadata": lambda bad: track()(
        Table("t", MetaData(schema=bad), Column("id", Integer), schema="s")
    ),
    "column": lambda bad: track()(table_named(column=bad)),
    "event table": lambda bad: track(event_table=bad)(table_named()),
    "event schema": lambda bad: track(schema=bad)(table_named()),
    "event class": lambda bad: track(event_name=bad)(table_named()),
    "label": lambda bad: track(Snapshot(label=bad)),
    "label by hand": lambda bad: track(Manual(bad)),
    "condition": lambda bad: track(AfterUpdate(new.value == bad))(table_named()),
    "text": lambda bad: track(AfterUpdate(text(f"'{bad}' = '1'")))(table_named()),
    "context column": lambda bad: track(context_columns=[Column(bad, Text)]),
    "channel": lambda bad: track(notify=bad),
    "search path": lambda bad: track(search_path=[bad]),
    "convention": lambda bad: track()(
        Table(
            "t",
            MetaData(naming_convention={"history_context_table": bad}),
            Column("id", Integer, primary_key=True),
        )
    ),
    "trigger": lambda bad: Protect(Delete, name=bad),
    "hint": lambda bad: Protect(Delete, hint=bad),
    "body": lambda bad: Trigger("t", "after", Insert, body=f"NULL; -- {bad}"),
    "declare": lambda bad: Trigger("t", "after", Insert, body="NULL;", declare=bad),
    "state": lambda bad: attach(FSM("value", transitions=[("a", bad)]))(table_named()),
    "deletion": lambda bad: attach(SoftDelete("value", value=bad))(table_named()),
    "log": lambda bad: Audit(into=audit_table(bad, MetaData())),
    "view": lambda bad: view(bad, MetaData(), select(table_named())),
    "transition table": lambda bad: Referencing(old=bad),
}


@pytest.mark.parametrize("bad", ["a\0b", "a\ud800b"], ids=["NUL", "half a pair"])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_what_postgresql_cannot_hold_is_refused_by_the_definition(
    place: Callable[[str], Any], bad: str
) -> None:
    with pytest.raises(DefinitionError, match="NUL|half of a surrogate pair") as error:
        place(bad)
    assert repr(bad)[1:-1] in str(error.value)


@pytest.mark.parametrize(
    "place",
    ["table", "schema", "column", "event table", "event schema", "context column"],
)
def test_a_name_that_postgresql_would_cut_is_refused(place: str) -> None:
    PLACES[place]("ä" * 31 + "b")
    with pytest.raises(DefinitionError, match="has 1 to 63 bytes"):
        PLACES[place]("ä" * 32)
