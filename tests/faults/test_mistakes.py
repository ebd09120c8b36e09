"""What a newcomer does wrong, and what is said about it.

Each message says what was wrong, with the value, why, and what to do. A mistake is run
against the real thing: a definition as a class is made, a query against PostgreSQL, a
command by its parser.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import flask
import pytest
from alembic import command as alembic_command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import (
    URL,
    Engine,
    create_engine,
    select,
    text,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

import sa_history as history
from sa_history import (
    FSM,
    AfterInsert,
    AfterUpdate,
    AggregateEvent,
    Delete,
    Manual,
    Protect,
    ReadOnly,
    Snapshot,
    attach,
    exc,
    new,
    old,
    track,
)
from sa_history.cli import main
from sa_history.flask import History, timeline
from sa_history.install import install


@dataclass
class Shop:
    """What mistakes are made with: a tracked model with a row, and a session."""

    url: URL
    engine: Engine
    session: Session
    base: type[DeclarativeBase]
    account: Any
    plain: Any
    row: Any
    directory: Path
    main: Callable[..., None]
    patch: pytest.MonkeyPatch

    def define(self, *trackers: Any, **options: Any) -> Any:
        """Define another model, with these trackers."""

        @track(*trackers, **options)
        class Order(self.base):  # type: ignore[misc, name-defined]
            __tablename__ = "order"
            id: Mapped[int] = mapped_column(primary_key=True)
            price: Mapped[int]

        return Order

    def attach(self, *triggers: Any) -> Any:
        """Define a model with these triggers."""

        @attach(*triggers)
        class Order(self.base):  # type: ignore[misc, name-defined]
            __tablename__ = "order"
            id: Mapped[int] = mapped_column(primary_key=True)
            status: Mapped[str]

        return Order


class CommandFailed(Exception):
    """A command has ended with exit status 2, and with this on standard error."""


@pytest.fixture
def shop(
    base: type[DeclarativeBase],
    pg_engine: Engine,
    pg_url: URL,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Shop]:
    @track()
    @attach(Protect(Delete), ReadOnly("owner"))
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int]
        owner: Mapped[str | None]

    class Plain(base):  # type: ignore[misc, valid-type]
        __tablename__ = "plain"
        id: Mapped[int] = mapped_column(primary_key=True)

    base.metadata.create_all(pg_engine)
    (tmp_path / "models.py").write_text(MODELS)
    (tmp_path / "raising.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("DATABASE_URL", pg_url.render_as_string(hide_password=False))

    def run(*arguments: str) -> None:
        status = main(arguments)
        assert status == 2
        raise CommandFailed(capsys.readouterr().err.removesuffix("\n"))

    with Session(pg_engine) as session:
        session.add(row := Account(id=7, balance=5, owner="ann"))
        session.commit()
        yield Shop(
            *(pg_url, pg_engine, session, base),
            *(Account, Plain, row, tmp_path, run, monkeypatch),
        )
    sys.modules.pop("models", None)


MODELS = """
from sqlalchemy import Column, Integer, MetaData, Table
from sa_history import track

metadata, sealed, empty = MetaData(), MetaData(), MetaData()
account = track()(Table("account", metadata, Column("id", Integer, primary_key=True)))
track(ignorable=False)(
    Table("seal", sealed, Column("id", Integer, primary_key=True))
)
"""


class Mistake(NamedTuple):
    """A mistake, and what its message says."""

    run: Callable[[Shop], Any]
    error: type[BaseException]
    what: str
    why: str
    to_do: str


def enter(block: Any) -> None:
    with block:
        pass


def twice(shop: Shop) -> None:
    block = history.context(shop.session, user=7)
    with block, block:
        pass


def within_a_loop(shop: Shop) -> None:
    async def view() -> None:
        with history.context(user=7):
            pass

    asyncio.run(view())


def never_entered(shop: Shop) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history.context(shop.session, user=7)
    raise caught[0].message  # type: ignore[misc]


def decorated_generator(shop: Shop) -> None:
    @history.context(user=7)
    def rows() -> Iterator[int]:
        yield 1


def first_event(shop: Shop) -> Any:
    return shop.session.scalars(shop.account.events.select()).first()


def detached(shop: Shop) -> Any:
    event = first_event(shop)
    shop.session.expunge_all()
    return event


def change_event(shop: Shop) -> None:
    first_event(shop).balance = 6
    shop.session.commit()


def commit(shop: Shop, change: Callable[[], Any]) -> None:
    change()
    shop.session.commit()


_NOW = datetime.datetime.now(datetime.timezone.utc)


def past(shop: Shop, query: Callable[[Session], Any]) -> None:
    with history.as_of(shop.session, _NOW) as session:
        query(session)


def conflict(shop: Shop) -> None:
    event = first_event(shop)
    shop.row.balance = 0
    shop.session.commit()
    history.undo(shop.session, shop.base, transaction=event.pgh_xact_id)


def revision(shop: Shop, argument: str) -> None:
    """Make a revision with ``-x argument``."""
    folder = shop.directory / "migrations"
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(ENV)
    (folder / "script.py.mako").write_text("")
    config = Config(cmd_opts=argparse.Namespace(x=[argument]))
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    alembic_command.revision(config, autogenerate=True)


ENV = """
import os
from alembic import context
from sqlalchemy import NullPool, create_engine
import sa_history.alembic
from models import metadata

engine = create_engine(os.environ["DATABASE_URL"], poolclass=NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()
"""


def app_with(
    extension: Any = None, authorize: Any = lambda: True, **options: Any
) -> flask.Flask:
    app = flask.Flask("shop", root_path="/")
    app.config.update(SECRET_KEY="s", TESTING=True, PROPAGATE_EXCEPTIONS=True)
    if extension is not None:
        extension.init_app(app)
    app.register_blueprint(timeline(authorize=authorize, **options))
    return app


def flask_command(app: flask.Flask, *arguments: str) -> None:
    result = app.test_cli_runner().invoke(args=["history", *arguments])
    assert result.exit_code == 2
    raise CommandFailed(result.stderr.removesuffix("\n"))


def visit(app: flask.Flask) -> None:
    app.test_client().get("/")


def sessions(shop: Shop) -> Any:
    return sessionmaker(shop.engine)


def history_of(shop: Shop) -> History:
    return History(sessions(shop), models=shop.base)


MISTAKES: dict[str, Mistake] = {
    # Definitions
    "track without parentheses": Mistake(
        lambda s: track(s.plain),
        exc.DefinitionError,
        what="track got <class",
        why="which is not a tracker",
        to_do="write @track() above the class",
    ),
    "a tracker by its name": Mistake(
        lambda s: s.define("snapshot"),
        exc.DefinitionError,
        what="track got 'snapshot'",
        why="which is not a tracker",
        to_do="give trackers such as Snapshot",
    ),
    "a label for a condition": Mistake(
        lambda s: s.define(AfterUpdate("low")),
        exc.DefinitionError,
        what="got the string 'low'",
        why="as its condition",
        to_do="give label=... for a label",
    ),
    "a condition on a column that is not there": Mistake(
        lambda s: s.define(AfterUpdate(new.prise < 0)),
        exc.ConditionError,
        what="'prise' for new.prise",
        why="Order has no column attribute",
        to_do="did you mean 'price'?",
    ),
    "a condition on the class": Mistake(
        lambda s: s.define(AfterUpdate(s.account.balance < 0)),
        exc.ConditionError,
        what="names the column account.balance",
        why="which is neither of the old nor of the new row",
        to_do="write new.balance or old.balance",
    ),
    "the row before an insert": Mistake(
        lambda s: s.define(AfterInsert(old.price < 0)),
        exc.ConditionError,
        what="a condition on INSERT uses old.price",
        why="there is no old row",
        to_do="use new.price",
    ),
    "and between conditions": Mistake(
        lambda s: s.define(AfterUpdate((new.price < 0) and (old.price > 0))),
        TypeError,
        what="a condition",
        why="has no truth value in Python",
        to_do="combine conditions with & | ~",
    ),
    "a column in place of a list": Mistake(
        lambda s: s.define(Snapshot(columns="price")),
        exc.DefinitionError,
        what="got 'price'",
        why="columns is a list of names",
        to_do="write ['price']",
    ),
    "columns and exclude": Mistake(
        lambda s: s.define(columns=["price"], exclude=["id"]),
        exc.DefinitionError,
        what="track got both columns and exclude",
        why="each says what the other leaves out",
        to_do="give one of them",
    ),
    "a misspelt column to leave out": Mistake(
        lambda s: s.define(exclude=["prise"]),
        exc.DefinitionError,
        what="Order names 'prise'",
        why="not a column attribute it can store",
        to_do="did you mean 'price'?",
    ),
    "a condition that Python compares": Mistake(
        lambda s: s.define(AfterUpdate(new.price is None)),
        exc.ConditionError,
        what="Order: a condition is False",
        why="Python has compared by itself",
        to_do="write new.column == None",
    ),
    "a class for a condition": Mistake(
        lambda s: s.define(AfterUpdate(s.account)),
        exc.ConditionError,
        what="Order: the condition <class",
        why="cannot be written as SQL",
        to_do="write that part with text('...'), or a function of old and new",
    ),
    "a manual tracker without a label": Mistake(
        lambda s: s.define(Manual()),
        exc.DefinitionError,
        what="Manual",
        why="needs a label, got none",
        to_do="give a name such as",
    ),
    "two trackers with one label": Mistake(
        lambda s: s.define(AfterUpdate, AfterUpdate(new.price < 0)),
        exc.DefinitionError,
        what="the label 'update'",
        why="is used by AfterUpdate and AfterUpdate",
        to_do="give one of them another label=",
    ),
    "a model tracked twice": Mistake(
        lambda s: track()(s.account),
        exc.DefinitionError,
        what="the table 'account'",
        why="is tracked already, and Account.events has its events",
        to_do="leave this track out, or give events='another_name'",
    ),
    "an event table with the name of another": Mistake(
        lambda s: s.define(event_table="account"),
        exc.DefinitionError,
        what="would be 'account'",
        why="which is a table already",
        to_do="give event_table='another_name'",
    ),
    "a level that there is not": Mistake(
        lambda s: s.define(level="rows"),
        exc.DefinitionError,
        what="got 'rows'",
        why='level is "statement" or "row"',
        to_do="write one of the two",
    ),
    "track on something else": Mistake(
        lambda s: track()(int),
        exc.DefinitionError,
        what="got <class 'int'>",
        why="track takes a mapped class or a Table",
        to_do="put @track above other decorators",
    ),
    "the name of an operation": Mistake(
        lambda s: s.attach(Protect("delete")),
        exc.DefinitionError,
        what="got 'delete'",
        why="Protect takes operations such as",
        to_do="import them from sa_history",
    ),
    "a class of triggers": Mistake(
        lambda s: s.attach(ReadOnly),
        exc.DefinitionError,
        what="got (<class 'sa_history.triggers.read_only.ReadOnly'>,)",
        why="attach takes triggers such as Protect(Delete)",
        to_do="make one of a class by calling it",
    ),
    "transitions as a mapping": Mistake(
        lambda s: s.attach(FSM("status", transitions={"draft": "sent"})),
        exc.DefinitionError,
        what="got {'draft': 'sent'}",
        why="transitions holds lists of states",
        to_do='write a list such as [("draft", "sent"), ...]',
    ),
    "an initial state without a list": Mistake(
        lambda s: s.attach(FSM("status", transitions=[("a", "b")], initial="a")),
        exc.DefinitionError,
        what="got 'a'",
        why="initial holds lists of states",
        to_do='write a list such as ["draft"]',
    ),
    "a read-only column that is not there": Mistake(
        lambda s: s.attach(ReadOnly("state")),
        exc.DefinitionError,
        what="'state'",
        why="Order",
        to_do="did you mean 'status'?",
    ),
    # Contexts
    "a context that is never entered": Mistake(
        never_entered,
        exc.HistoryWarning,
        what="history.context(...) was called and never entered",
        why="it did nothing",
        to_do="write 'with history.context(...):' around",
    ),
    "a context of an engine": Mistake(
        lambda s: enter(history.context(s.engine, user=7)),
        exc.ContextError,
        what="got Engine(",
        why="is bound to a session or a connection",
        to_do="give one, or none for the thread",
    ),
    "a dict in place of keywords": Mistake(
        lambda s: enter(history.context({"user": 7})),
        exc.ContextError,
        what="got {'user': 7}",
        why="in the place of a session",
        to_do="give keys and values as keywords",
    ),
    "a user that is no JSON": Mistake(
        lambda s: enter(history.context(s.session, user=s.row)),
        exc.ContextError,
        what="context value 'user' is <",
        why="cannot be stored as JSON",
        to_do="give a string, a number",
    ),
    "a context of the thread in a coroutine": Mistake(
        within_a_loop,
        exc.ContextError,
        what="for the whole thread",
        why="where other tasks would get it too",
        to_do="pass the session",
    ),
    "a context that decorates a generator": Mistake(
        decorated_generator,
        exc.ContextError,
        what="the generator rows",
        why="its body runs after the call",
        to_do="write 'with history.context(...)' in it",
    ),
    "a context entered twice": Mistake(
        twice,
        exc.ContextError,
        what="this block is entered already",
        why="perhaps by another thread",
        to_do="call history.context(...) for each",
    ),
    "annotate outside of a context": Mistake(
        lambda s: history.annotate(s.session, reason="x"),
        exc.ContextError,
        what="annotate",
        why="there is no context",
        to_do="enter one with history.context(...)",
    ),
    "ignore a trigger that there is not": Mistake(
        lambda s: history.ignore(s.session, s.account, "protect"),
        exc.IgnoreError,
        what="no trigger 'protect'",
        why="that can be ignored",
        to_do="did you mean 'protect_delete'?",
    ),
    # Reading
    "the events of a model that is not tracked": Mistake(
        lambda s: history.events(s.plain),
        exc.EventsError,
        what="Plain'>",
        why="is not tracked",
        to_do="put @track(...) on its class",
    ),
    "events.all()": Mistake(
        lambda s: s.row.events.all(),
        AttributeError,
        what="no attribute 'all'",
        why="events are not a list but a SELECT",
        to_do="run session.scalars(",
    ),
    "a loop over events": Mistake(
        lambda s: list(s.row.events),
        TypeError,
        what="events",
        why="are not a list but a SELECT",
        to_do="run session.scalars(",
    ),
    "events as a statement": Mistake(
        lambda s: s.session.scalars(s.account.events),
        exc.EventsError,
        what="<Events AccountEvent>",
        why="is no statement",
        to_do="run session.scalars(x.events.select())",
    ),
    "an asynchronous loop over events": Mistake(
        lambda s: aiter(s.row.events),
        TypeError,
        what="events",
        why="are not a list but a SELECT",
        to_do="run await session.scalars(",
    ),
    "the events of an object without a key": Mistake(
        lambda s: s.account(balance=1).events.select(),
        exc.EventsError,
        what="Account object",
        why="has no key yet",
        to_do="flush the session first",
    ),
    "the events of None": Mistake(
        lambda s: s.account.events.of(None),
        exc.EventsError,
        what="got None",
        why="of takes the key of a row",
        to_do="write Model.events.of(7), or object.events",
    ),
    "the events of the object as a key": Mistake(
        lambda s: s.account.events.of(s.row),
        exc.EventsError,
        what="got <",
        why="of takes the key of a row",
        to_do="write Model.events.of(7), or object.events",
    ),
    "a key as text": Mistake(
        lambda s: s.account.events.of("7").select(),
        exc.EventsError,
        what="got '7'",
        why="id, of the key of Account, is a number",
        to_do="convert it",
    ),
    "a key with a fraction": Mistake(
        lambda s: s.account.events.of(1.5).select(),
        exc.EventsError,
        what="got 1.5",
        why="id, of the key of Account, is an integer",
        to_do="convert it",
    ),
    "a key that is None": Mistake(
        lambda s: AggregateEvent.select((s.account, (None,))),
        exc.EventsError,
        what="None",
        why="id, of the key of Account, cannot be None",
        to_do="give the key that a row has or had",
    ),
    "a key of a target as text": Mistake(
        lambda s: AggregateEvent.select((s.account, "7")),
        exc.EventsError,
        what="got '7'",
        why="id, of the key of Account, is a number",
        to_do="convert it",
    ),
    "references as text": Mistake(
        lambda s: AggregateEvent.select(s.row, references="yes"),
        exc.EventsError,
        what="got 'yes'",
        why="references is True, False or how many foreign keys to follow",
        to_do="give an int",
    ),
    "events where rows are now": Mistake(
        lambda s: s.account.events.where(s.account.balance < 0),
        exc.EventsError,
        what="where got account.balance <",
        why="is about rows as they are now",
        to_do="compare attributes of events",
    ),
    "a page of an engine": Mistake(
        lambda s: AggregateEvent.page(s.engine, s.base),
        exc.EventsError,
        what="got Engine(",
        why="AggregateEvent.page takes a session",
        to_do="give a Session or an AsyncSession",
    ),
    "a page of the feed after a text": Mistake(
        lambda s: history.feed_page(s.session, s.base, after="17"),
        exc.EventsError,
        what="got after='17'",
        why="feed goes on after a transaction and an event",
        to_do="give what cursor_of(row) returned",
    ),
    "an event without a label": Mistake(
        lambda s: history.create_event(s.session, s.row, label=None),  # type: ignore[call-overload]
        exc.EventsError,
        what="got None",
        why="label is that of a Manual tracker",
        to_do="give its text",
    ),
    "a batch as text": Mistake(
        lambda s: history.baseline(s.engine, s.account, batch="100"),  # type: ignore[arg-type]
        exc.EventsError,
        what="got batch='100'",
        why="a batch has one row at least",
        to_do="give a number of rows",
    ),
    "seals by batches of no number": Mistake(
        lambda s: history.seal(s.engine, s.base, batch=None),  # type: ignore[arg-type]
        exc.SealError,
        what="got batch=None",
        why="a batch has 1000 events at least",
        to_do="give an int",
    ),
    "a time to wait as text": Mistake(
        lambda s: history.seal(s.engine, s.base, timeout="1s"),  # type: ignore[arg-type]
        exc.SealError,
        what="got '1s'",
        why="timeout is milliseconds",
        to_do="give an int from 0 on",
    ),
    "a step that is never tried": Mistake(
        lambda s: history.partitions(s.engine, s.base, attempts=0),
        exc.CommandError,
        what="got 0",
        why="attempts is a number of times",
        to_do="give an int from 1 on",
    ),
    "a negative time to wait for locks": Mistake(
        lambda s: history.archive(s.engine, s.base, to=s.directory, lock_timeout=-1),
        exc.CommandError,
        what="got -1",
        why="lock_timeout is milliseconds",
        to_do="give an int from 0 on",
    ),
    "a digest as text": Mistake(
        lambda s: history.verify(s.engine, s.base, digest='{"chains": {}}'),  # type: ignore[arg-type]
        exc.SealError,
        what="""got '{"chains": {}}'""",
        why="digest is what seal has returned",
        to_do="write SealDigest.from_json(...) around the text",
    ),
    "a key in place of the reason of an erasure": Mistake(
        lambda s: history.erase(s.session, s.account, 1, reason=2),  # type: ignore[call-overload]
        exc.ErasureError,
        what="got 2",
        why="reason is a text for the log of erasures",
        to_do="give all keys before it",
    ),
    "the day of a run": Mistake(
        lambda s: history.partitions(s.engine, s.base, now=datetime.date(2026, 1, 1)),  # type: ignore[arg-type]
        exc.CommandError,
        what="got datetime.date(2026, 1, 1)",
        why="now is a datetime with a time zone",
        to_do="such as datetime.now(timezone.utc)",
    ),
    "the time of a run of an archive without a zone": Mistake(
        lambda s: history.archive(
            s.engine, s.base, to=s.directory, now=datetime.datetime(2026, 1, 1)
        ),
        exc.CommandError,
        what="now is datetime.datetime(2026, 1, 1",
        why="another moment in each time zone",
        to_do="such as tzinfo=datetime.timezone.utc",
    ),
    "an event of a class": Mistake(
        lambda s: history.create_event(s.session, s.account, label="seen"),
        exc.EventsError,
        what="got <class",
        why="create_event takes an object",
        to_do="give the one whose event it is",
    ),
    "a misspelt label": Mistake(
        lambda s: AggregateEvent.select(s.base, labels=["snapshto"]),
        exc.EventsError,
        what="'snapshto'",
        why="no tracker has the label",
        to_do="did you mean 'snapshot'?",
    ),
    "a label in place of a list": Mistake(
        lambda s: AggregateEvent.select(s.base, labels="snapshot"),
        exc.EventsError,
        what="got 'snapshot'",
        why="labels is a list of labels",
        to_do="write ['snapshot']",
    ),
    "a transaction as text": Mistake(
        lambda s: AggregateEvent.select(s.base, transaction="5"),
        exc.EventsError,
        what="got '5'",
        why="transaction is the number of a transaction",
        to_do="give an int",
    ),
    "a key of too many values": Mistake(
        lambda s: AggregateEvent.select((s.account, (1, 2))),
        exc.EventsError,
        what="got (1, 2)",
        why="the key of Account is (id)",
        to_do="give a value for each of its columns",
    ),
    "events of nothing": Mistake(
        lambda s: AggregateEvent.select(),
        exc.EventsError,
        what="AggregateEvent.select",
        why="needs something whose events to select",
        to_do="give objects, tracked classes",
    ),
    "steps of an object": Mistake(
        lambda s: list(history.steps(s.row)),
        exc.EventsError,
        what="got <",
        why="steps takes the events of one row",
        to_do="give what session.scalars(x.events.select()) returns",
    ),
    "a key of bytes": Mistake(
        lambda s: s.account.events.of(b"7").select(),
        exc.EventsError,
        what="got b'7'",
        why="id, of the key of Account, is an integer",
        to_do="convert it",
    ),
    "a key that is a time": Mistake(
        lambda s: history.changes((s.account, _NOW), "balance"),
        exc.EventsError,
        what="got datetime.datetime(",
        why="id, of the key of Account, is an integer",
        to_do="convert it",
    ),
    "a diff of no event": Mistake(
        lambda s: history.diff(s.row, s.row),
        exc.EventsError,
        what="diff got <",
        why="neither is an event",
        to_do="give two events",
    ),
    "the diff of an event without a session": Mistake(
        lambda s: detached(s).diff,
        exc.EventsError,
        what="<AccountEvent pgh_id=",
        why="is in no session",
        to_do="compare two events with history.diff",
    ),
    "an event that is changed": Mistake(
        change_event,
        exc.EventsError,
        what="would change AccountEvent 1",
        why="what is recorded stays as it is",
        to_do="history.editing_events(session)",
    ),
    # Time travel
    "a time without a zone": Mistake(
        lambda s: history.as_of(s.session, datetime.datetime(2026, 1, 1)),
        exc.PastError,
        what="got datetime.datetime(2026, 1, 1",
        why="another moment in each time zone",
        to_do="such as tzinfo=datetime.timezone.utc",
    ),
    "no time": Mistake(
        lambda s: history.as_of(s.session, None),
        exc.PastError,
        what="got None and transaction=None",
        why="as_of takes one moment",
        to_do="give one",
    ),
    "the past without a block": Mistake(
        lambda s: history.as_of(s.session, _NOW).scalars(select(s.account)),
        AttributeError,
        what="has no 'scalars' itself",
        why="as_of gives a session within its block",
        to_do="write: with history.as_of(...) as past",
    ),
    "a time as text": Mistake(
        lambda s: history.as_of(s.session, "2026-01-01"),
        exc.PastError,
        what="got '2026-01-01'",
        why="which says no point in time",
        to_do="make a datetime with a time zone",
    ),
    "a transaction that is a truth": Mistake(
        lambda s: history.as_of(s.session, transaction=True),  # a bool is an int
        exc.PastError,
        what="got True",
        why="which says no point in time",
        to_do="transaction= with a number",
    ),
    "text in the past": Mistake(
        lambda s: past(s, lambda p: p.execute(text("SELECT 1"))),
        exc.PastError,
        what="'SELECT 1'",
        why="text sees no past",
        to_do="write it as a select(...)",
    ),
    "an untracked table in the past": Mistake(
        lambda s: past(s, lambda p: p.scalars(select(s.plain)).all()),
        exc.PastError,
        what="'plain' is not tracked",
        why="so its past is not known",
        to_do="track it with @track()",
    ),
    "a write to the past": Mistake(
        lambda s: past(s, lambda p: p.execute(update(s.account).values(balance=1))),
        exc.PastError,
        what="UPDATE",
        why="the past is not written",
        to_do="use a session of its own",
    ),
    # Undo
    "undo a transaction as text": Mistake(
        lambda s: history.undo(s.session, s.base, transaction="5"),
        exc.UndoError,
        what="got '5'",
        why="transaction is the number of a transaction",
        to_do="give an int",
    ),
    "undo of nothing": Mistake(
        lambda s: history.undo(s.session, s.base),
        exc.UndoError,
        what="transaction=None and context=None",
        why="undo takes transaction=... or context=..., one of them",
        to_do="give one",
    ),
    "undo without models": Mistake(
        lambda s: history.undo(s.session, transaction=5),
        exc.UndoError,
        what="undo got no targets",
        why="whose rows to undo",
        to_do="give a declarative base",
    ),
    "undo of an object": Mistake(
        lambda s: history.undo(s.session, s.row, transaction=5),
        exc.UndoError,
        what="got <",
        why="undo takes a declarative base",
        to_do="event.revert(session) sets one row back",
    ),
    "undo by the text of a context": Mistake(
        lambda s: history.undo(s.session, s.base, context=str(uuid.UUID(int=0))),
        exc.UndoError,
        what="got '00000000-",
        why="its id as a UUID",
        to_do="write uuid.UUID(...) around",
    ),
    "undo what was changed again": Mistake(
        conflict,
        exc.ConflictError,
        what="balance is 0 and was 5",
        why="since it has been changed again",
        to_do="give force=True to overwrite that",
    ),
    # What triggers refuse
    "delete what is protected": Mistake(
        lambda s: commit(s, lambda: s.session.delete(s.row)),
        exc.ProtectedError,
        what="DELETE of public.account",
        why="the table is protected",
        to_do='a history.ignore(...) of "protect_delete"',
    ),
    "write what may only be read": Mistake(
        lambda s: commit(s, lambda: setattr(s.row, "owner", "bo")),
        exc.ReadOnlyError,
        what="UPDATE of public.account",
        why="owner may only be read",
        to_do="Leave the column as it is",
    ),
    # Databases and migrations
    "SQLite": Mistake(
        lambda s: s.base.metadata.create_all(create_engine("sqlite://")),
        exc.DialectError,
        what="got an engine for sqlite",
        why="sa_history needs PostgreSQL",
        to_do="use a postgresql:// URL",
    ),
    "installed before the tables": Mistake(
        lambda s: (s.base.metadata.drop_all(s.engine), install(s.engine, s.base)),
        exc.InstallError,
        what="table public.account_event",
        why="nothing is installed, since",
        to_do="run the migrations, or create_all()",
    ),
    "a misspelt argument of a revision": Mistake(
        lambda s: revision(s, "basline"),
        CommandError,
        what="-x basline",
        why="there is no argument 'basline'",
        to_do="write -x baseline",
    ),
    "a rename of a column that is not there": Mistake(
        lambda s: revision(s, "rename_column=account.nam:name"),
        CommandError,
        what="-x rename_column=account.nam:name",
        why="the models do not drop 'nam' and add 'name' in account",
        to_do="rename it in the model, or correct the names",
    ),
    # Flask
    "History without models": Mistake(
        lambda s: flask_command(app_with(History(sessions(s))), "check"),
        CommandFailed,
        what="flask history: History",
        why="does not know the models",
        to_do="give History(..., models=Base)",
    ),
    "History of an engine": Mistake(
        lambda s: flask_command(app_with(History(s.engine, models=s.base)), "check"),
        CommandFailed,
        what="got Engine(",
        why="History takes Flask-SQLAlchemy's or -Lite's object",
        to_do="a sessionmaker or a scoped session",
    ),
    "a timeline without History": Mistake(
        lambda s: visit(app_with()),
        exc.DefinitionError,
        what="the timeline",
        why="needs a History",
        to_do="call its init_app for this application",
    ),
    "a mask without a list": Mistake(
        lambda s: app_with(mask="password"),
        exc.DefinitionError,
        what="got 'password'",
        why="mask is a list of names",
        to_do="write ['password']",
    ),
    "a size as text": Mistake(
        lambda s: app_with(page_size="50"),
        exc.DefinitionError,
        what="got '50'",
        why="page_size is a number of events",
        to_do="give an int from 1 on",
    ),
    "users without a function": Mistake(
        lambda s: app_with(users={"7": "Ada"}),
        exc.DefinitionError,
        what="got {'7': 'Ada'}",
        why="users is a function",
        to_do="write users=lambda",
    ),
    "True in place of who may restore": Mistake(
        lambda s: app_with(authorize_restore=True),
        exc.DefinitionError,
        what="got True",
        why="authorize_restore is a function",
        to_do="write authorize_restore=lambda",
    ),
    "a list of labels": Mistake(
        lambda s: app_with(labels=["Note"]),
        exc.DefinitionError,
        what="got ['Note']",
        why="labels is a mapping",
        to_do='write labels={"Order.note": "Remark"}',
    ),
    "a label of what there is not": Mistake(
        lambda s: visit(app_with(history_of(s), labels={"Acount": "Konto"})),
        exc.DefinitionError,
        what="labels names Acount",
        why="which no tracked model has",
        to_do="write models as 'Order'",
    ),
    "a mask that hides nothing": Mistake(
        lambda s: visit(app_with(history_of(s), mask=["pasword"])),
        exc.DefinitionError,
        what="mask names pasword",
        why="which no tracked model has",
        to_do="write attributes as 'password'",
    ),
    "authorize that returns the user": Mistake(
        lambda s: visit(app_with(history_of(s), authorize=lambda: "ada")),
        exc.DefinitionError,
        what="got 'ada'",
        why="authorize returns True or False",
        to_do="write bool(...) around it",
    ),
    "a model that the application has not": Mistake(
        lambda s: flask_command(app_with(history_of(s)), "log", "Acount"),
        CommandFailed,
        what="'Acount'",
        why="the application has no tracked model",
        to_do="did you mean 'Account'?",
    ),
    # Commands
    "a class in place of all models": Mistake(
        lambda s: s.main("uninstall", "models:account"),
        CommandFailed,
        what="got 'models:account'",
        why="uninstall is about all models",
        to_do="write the declarative base or the MetaData",
    ),
    "a module in place of models": Mistake(
        lambda s: s.main("check", "models"),
        CommandFailed,
        what="'models'",
        why="names no models",
        to_do="write module:Base",
    ),
    "a module that is not there": Mistake(
        lambda s: s.main("check", "modles:metadata"),
        CommandFailed,
        what="'modles:metadata'",
        why="No module named 'modles'",
        to_do="run it in the directory that has modles",
    ),
    "a name that the module has not": Mistake(
        lambda s: s.main("check", "models:metdata"),
        CommandFailed,
        what="'models:metdata'",
        why="has no attribute 'metdata'",
        to_do="did you mean 'metadata'?",
    ),
    "a module that raises": Mistake(
        lambda s: s.main("check", "raising:metadata"),
        CommandFailed,
        what="'raising:metadata'",
        why="ZeroDivisionError: division by zero",
        to_do="raising.py, line 1); import it in Python",
    ),
    "a name that is no model": Mistake(
        lambda s: s.main("check", "models:track"),
        CommandFailed,
        what="'models:track' is <function",
        why="no declarative base and no MetaData",
        to_do="write module:Base or module:metadata",
    ),
    "models that are not imported": Mistake(
        lambda s: s.main("check", "models:empty"),
        CommandFailed,
        what="models:empty",
        why="tracks nothing",
        to_do="import its models",
    ),
    "a base whose last model is not tracked": Mistake(
        lambda s: s.main("install", "models:empty", "--prune"),
        CommandFailed,
        what="models:empty",
        why="tracks nothing",
        to_do="give --tracks-nothing",
    ),
    "no URL": Mistake(
        lambda s: (s.patch.delenv("DATABASE_URL"), s.main("check", "models:metadata")),
        CommandFailed,
        what="no database",
        why="give --url",
        to_do="such as postgresql://",
    ),
    "a URL that is none": Mistake(
        lambda s: s.main("check", "models:metadata", "--url", "shop"),
        CommandFailed,
        what="the URL of the database cannot be used",
        why="Could not parse",
        to_do="write it as postgresql://",
    ),
    "a driver that is not there": Mistake(
        lambda s: s.main("check", "models:metadata", "--url", "postgresql+pg9://x/y"),
        CommandFailed,
        what="postgresql.pg9",
        why="Can't load plugin",
        to_do="write it as postgresql://",
    ),
    "a server that is not there": Mistake(
        lambda s: s.main(
            "check", "models:metadata", "--url", "postgresql://x@/y?host=/nowhere"
        ),
        CommandFailed,
        what="/nowhere/",
        why="the database cannot be reached",
        to_do="check its URL",
    ),
    "a table that is not tracked": Mistake(
        lambda s: s.main("baseline", "models:metadata", "acount"),
        CommandFailed,
        what="acount",
        why="there is no tracked table",
        to_do="there is account",
    ),
    "a role that is not there": Mistake(
        lambda s: s.main("harden", "models:sealed", "--app-role", "nobody"),
        CommandFailed,
        what="role 'nobody'",
        why="does not exist",
        to_do="create it first",
    ),
    "a role with tracking that can be ignored": Mistake(
        lambda s: s.main("harden", "models:metadata", "--app-role", "nobody"),
        CommandFailed,
        what="the tracking of account",
        why="any client may have",
        to_do="give track(..., ignorable=False)",
    ),
    "the key of no model": Mistake(
        lambda s: s.main("log", "models:metadata", "7"),
        CommandFailed,
        what="'7' is the key of a row",
        why="the model is not given",
        to_do="name the class in place of the base",
    ),
    "a key of another type": Mistake(
        lambda s: s.main("log", "models:account", "seven"),
        CommandFailed,
        what="'seven' is no key of account",
        why="invalid input syntax for type integer",
        to_do="give a value for id",
    ),
    "a table that no migration has made": Mistake(
        lambda s: s.main("log", "models:sealed"),
        CommandFailed,
        what='"seal_event"',
        why="does not exist",
        to_do="run the migrations, or create_all()",
    ),
    "a time in words": Mistake(
        lambda s: s.main("log", "models:account", "--since", "yesterday"),
        CommandFailed,
        what="'yesterday'",
        why="is no time",
        to_do="write it as 2026-11-28T12:00",
    ),
    "a row without history": Mistake(
        lambda s: s.main("diff", "models:account", "99"),
        CommandFailed,
        what="'99'",
        why="has no event by then",
        to_do="sa-history log shows all of its events",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.usefixtures("english")
def test_a_message_says_what_was_wrong_why_and_what_to_do(
    name: str, shop: Shop
) -> None:
    mistake = MISTAKES[name]
    with pytest.raises(mistake.error) as raised:
        mistake.run(shop)
    message = str(raised.value)
    for part in (mistake.what, mistake.why, mistake.to_do):
        assert part in message


def test_the_table_is_as_long_as_that_of_the_newcomers() -> None:
    assert len(MISTAKES) >= 39
