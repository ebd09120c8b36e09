"""The extension: requests and commands as contexts."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import click
import flask
from sqlalchemy import Connection, Engine, MetaData, event
from sqlalchemy.engine.interfaces import ExecutionContext
from sqlalchemy.orm import Session, SessionTransaction, scoped_session, sessionmaker

import sa_history
from sa_history._types import UNSET, Unset
from sa_history.contexts.block import stacks_of
from sa_history.contexts.context import ContextBlock, context
from sa_history.contexts.frame import ContextFrame, LazyFrame
from sa_history.contexts.stack import this_thread
from sa_history.exc import ContextError, DefinitionError
from sa_history.flask.commands import history_commands
from sa_history.flask.requests import about_command, about_request, login_user
from sa_history.tracking.databases import (
    ModelSession,
    database_of,
    require_one_database,
)
from sa_history.tracking.registry import Tracking, trackings_in
from sa_history.util.arguments import metadata_of
from sa_history.util.event_loop import is_event_loop_running
from sa_history.util.sessions import Target

NAME = "sa_history"
"""The key of the extension in ``app.extensions``, and of its scope in ``flask.g``."""


class _Scope(LazyFrame):
    """The context of a request or a command, and the stacks of blocks that it is on.

    :param values: called for the keys and values of the context, whenever something is
        written.
    """

    def __init__(self, values: Callable[[], Mapping[str, Any]]) -> None:
        super().__init__(values)
        self._stacks: list[list[ContextFrame]] = []
        self._users: weakref.WeakSet[Session | Connection] = weakref.WeakSet()
        self._around: list[_Scope] = []
        self._holder: Any = flask.g._get_current_object()

    def begin(self) -> None:
        """Link what the thread writes to this scope, and to no scope around it.

        There is one around where a view or a command calls the application by a test
        client.
        """
        stack = this_thread.stacks.contexts
        self._around = [frame for frame in stack if isinstance(frame, _Scope)]
        for scope in self._around:
            scope._take_away()
        self._enter(stack)

    def attach(self, user: Session | Connection) -> None:
        """Link what a session or connection writes to this scope."""
        if user not in self._users:
            self._users.add(user)
            self._enter(stacks_of(user, "History", ContextError).contexts)

    def leave(self) -> None:
        """Link nothing more to this scope; in a teardown nothing may fail."""
        self._take_away()
        self._stacks.clear()
        self._users.clear()
        for scope in self._around:
            for stack in scope._stacks:
                stack.append(scope)

    @property
    def has_begun(self) -> bool:
        """True from :meth:`begin` or :meth:`attach` on until :meth:`leave`."""
        return bool(self._stacks)

    def is_of_thread(self) -> bool:
        """Return True if what this thread writes is linked to this scope."""
        return any(frame is self for frame in this_thread.stacks.contexts)

    def is_held(self) -> bool:
        """Return True if the scope began in the current application context.

        It did not in a copy of the request's context.
        """
        return self._holder is flask.g._get_current_object()

    def known(self) -> dict[str, Any]:
        """Return the values last asked for, for a copy of the context."""
        return {**self._values(), **self._known}

    def _enter(self, stack: list[ContextFrame]) -> None:
        stack.append(self)
        self._stacks.append(stack)

    def _take_away(self) -> None:
        for stack in self._stacks:
            with contextlib.suppress(ValueError):
                stack.remove(self)


class History:
    """The Flask extension: what a request changes is linked to the request.

    The context of a request has the user, method, path, endpoint, remote address, and
    where headers bring them a request id and a trace id; that of a ``flask`` command
    has its name. Nothing is stored for a request that changes nothing. The commands
    ``flask history ...`` come with it, which are those of ``sa-history``.

    :param db: Flask-SQLAlchemy's or Flask-SQLAlchemy-Lite's object, a sessionmaker or a
        scoped session; give it here or to :meth:`init_app`.
    :param models: declarative bases or MetaData, for the commands and the timeline;
        those of Flask-SQLAlchemy are known.
    :param context: called for more keys of a request's context, whenever something is
        written in the request. It must not use the database. Its ``user`` is used
        instead of Flask-Login's.
    :param request: called once with a request for what is recorded of it, instead of
        :func:`sa_history.flask.requests.about_request`.

    Example::

        db = SQLAlchemy(model_class=Base)
        history = History(db, context=lambda: {"tenant": g.tenant})

        def create_app():
            app = Flask(__name__)
            db.init_app(app)
            history.init_app(app)
            return app
    """

    def __init__(
        self,
        db: Any = None,
        *,
        models: Any = (),
        context: Callable[[], Mapping[str, Any]] | None = None,
        request: Callable[[flask.Request], Mapping[str, Any]] = about_request,
    ) -> None:
        self._db = _checked(db)
        self._models = models
        self._context = context
        self._about = request

    def init_app(self, app: flask.Flask, db: Any = None) -> None:
        """Set up an application; one extension can serve several.

        :param app: the application.
        :param db: as for the class, if this application has another.
        :raises DefinitionError: the application has been set up already, or stands in
            the place of the database.

        Example::

            history.init_app(app, db)
        """
        db = self._db if db is None else _checked(db)
        if NAME in app.extensions:
            raise DefinitionError(
                f"{app!r} has a History already; call init_app once for each app"
            )
        app.extensions[NAME] = _State(self, db)
        flask.request_started.connect(_request_started, app)
        flask.appcontext_pushed.connect(_appcontext_pushed, app)
        app.teardown_request(_request_ends)
        app.teardown_appcontext(_leave)
        app.cli.add_command(history_commands())

    def context(
        self, target: Target | Unset = UNSET, /, **metadata: Any
    ) -> ContextBlock:
        """Return a block with more keys, for what the thread does.

        In an async view it is for ``db.session``, if nothing else is given.

        :param target: a session or connection, as for :func:`sa_history.context`.
        :param metadata: the keys and values, as JSON has them.

        Example::

            with history.context(reason="chargeback"):
                db.session.commit()
        """
        if target is UNSET and is_event_loop_running():
            target = self._session()
        return context(target, **metadata)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            message = f"'History' object has no attribute {name!r}"
            if name in sa_history.__all__:
                message += f"; it is one of the package: sa_history.{name}"
            raise AttributeError(message)

    def _session(self) -> Any:
        db = self._db
        if flask.has_app_context() and NAME in flask.current_app.extensions:
            db = flask.current_app.extensions[NAME].db
        return db if isinstance(db, scoped_session) else getattr(db, "session", UNSET)

    def annotate(self, /, **metadata: Any) -> None:
        """Add keys to the context of the request or command.

        :raises ContextError: there is no request and no command.

        Example::

            history.annotate(order=order.id)
        """
        scope = _current()
        if scope is None:
            raise ContextError(
                "there is no request and no command whose context could be annotated; "
                "begin one with history.context(session, ...)"
            )
        scope.annotate(metadata)

    def _about_request(self) -> Callable[[], Mapping[str, Any]]:
        """Return a function for the values of this request, called at each write.

        A session may be used where there is no request, such as in a thread that the
        view has started; it has the values that were known last.
        """
        always = dict(self._about(flask.request))
        late: dict[str, Any] = {}

        def values() -> Mapping[str, Any]:
            nonlocal late
            if flask.has_request_context():
                late = {**login_user(), **(self._context() if self._context else {})}
            return {**always, **late}

        return values


def _checked(db: Any) -> Any:
    """Return what is given as the database.

    :raises DefinitionError: it is the application.
    """
    if isinstance(db, flask.Flask):
        raise DefinitionError(
            f"History is given the database and got {db!r}; write History(db), and "
            "init_app(app)"
        )
    return db


@dataclass(frozen=True, eq=False)
class _State:
    """What the extension knows of one application."""

    extension: History
    db: Any

    def databases(self) -> list[tuple[Engine, MetaData]]:
        """Return each MetaData with the engine of its database.

        :raises DefinitionError: they are not known.
        """
        if self.db is None:
            raise DefinitionError(
                "History was given no database; it takes Flask-SQLAlchemy's or -Lite's "
                "object, a sessionmaker or a scoped session: write History(db)"
            )
        models = self.extension._models
        of_flask_sqlalchemy: dict[Any, MetaData] = getattr(self.db, "metadatas", {})
        if of_flask_sqlalchemy:
            engines = self.db.engines
            if missing := [key for key in of_flask_sqlalchemy if key not in engines]:
                raise DefinitionError(
                    f"models are bound to {missing[0]!r}, which is no database of "
                    f"{flask.current_app!r}; add it to SQLALCHEMY_BINDS"
                )
            return [(engines[key], m) for key, m in of_flask_sqlalchemy.items()]
        if models is None or (isinstance(models, Collection) and not models):
            raise DefinitionError(
                "History does not know the models; give History(..., models=Base)"
            )
        listed = list(models) if isinstance(models, Collection) else [models]
        metadatas = [metadata_of(model, DefinitionError) for model in listed]
        return [(self._engine(metadata), metadata) for metadata in metadatas]

    @property
    def is_configured(self) -> bool:
        """True if the databases are those of Flask-SQLAlchemy's configuration."""
        return bool(getattr(self.db, "metadatas", None))

    def name_of(self, metadata: MetaData) -> str:
        """Return what messages call a MetaData of :meth:`databases`."""
        of_flask_sqlalchemy: dict[Any, MetaData] = getattr(self.db, "metadatas", {})
        for key, known in of_flask_sqlalchemy.items():
            if known is metadata:
                return "db.Model" if key is None else f"db.Model of the bind {key!r}"
        models: Any = self.extension._models
        listed = list(models) if isinstance(models, Collection) else [models]
        return next(
            getattr(model, "__name__", repr(model))
            for model in listed
            if getattr(model, "metadata", model) is metadata
        )

    def tracked(self, models: Any = None) -> tuple[Engine, MetaData]:
        """Return the MetaData that a timeline shows, with its engine.

        :param models: the declarative base or MetaData; None for the only one that
            tracks anything.
        :raises DefinitionError: none tracks anything, or several do; or the one that is
            given does not, or History does not know it.
        """
        tracked = [pair for pair in self.databases() if trackings_in(pair[1])]
        if models is not None:
            wanted = getattr(models, "metadata", models)
            found = [pair for pair in tracked if pair[1] is wanted]
            if not found:
                raise DefinitionError(
                    f"timeline got models={models!r}, of which History knows nothing "
                    "that is tracked; give a declarative base or MetaData of its models"
                )
            return found[0]
        if not tracked:
            raise DefinitionError(
                "the application tracks nothing; put @track() on a model"
            )
        if len(tracked) > 1:
            raise DefinitionError(
                f"the application tracks models of {len(tracked)} MetaData, such as "
                f"{trackings_in(tracked[0][1])[0].subject} and "
                f"{trackings_in(tracked[1][1])[0].subject}; register a timeline for "
                "each, with timeline(name, models=...)"
            )
        return tracked[0]

    def trackings(self) -> list[Tracking]:
        """Return the trackings of all databases."""
        return [t for _, metadata in self.databases() for t in trackings_in(metadata)]

    def _engine(self, metadata: MetaData) -> Engine:
        """Return the engine of the database to which sessions write the models."""
        # Flask-SQLAlchemy-Lite has the first.
        db = getattr(self.db, "sessionmaker", self.db)
        if not isinstance(db, (sessionmaker, scoped_session)):
            raise DefinitionError(
                "History takes Flask-SQLAlchemy's or -Lite's object, a sessionmaker or "
                f"a scoped session, got {self.db!r}"
            )
        maker: Any = getattr(db, "session_factory", db)
        with maker() as session:
            tracked = trackings_in(metadata)
            require_one_database(session, tracked, "History", DefinitionError)
            first = ModelSession(session, next(iter(tracked), None))
            return database_of(session, first.bind_arguments)


def _request_started(app: flask.Flask, **_: Any) -> None:
    extension = app.extensions[NAME].extension
    scope = _Scope(extension._about_request())
    flask.request.environ[NAME] = scope
    scope.begin()


def _request_ends(_: BaseException | None) -> None:
    scope: _Scope | None = flask.request.environ.get(NAME)
    # A copy of the request's context ends by itself.
    if scope is not None and scope.is_held():
        scope.leave()


def _appcontext_pushed(app: flask.Flask, **_: Any) -> None:
    if not flask.has_request_context() and about_command() is not None:
        _begin(_of_current_command())


def _begin(scope: _Scope) -> _Scope:
    setattr(flask.g, NAME, scope)
    scope.begin()
    return scope


def _leave(_: BaseException | None) -> None:
    scope: _Scope | None = flask.g.pop(NAME, None)
    if scope is not None:
        scope.leave()


def _current() -> _Scope | None:
    """Return the scope of the current request or command, or None outside of both.

    ======================================  ============================================
    where the code runs                     its scope
    ======================================  ============================================
    outside of the application              None
    in ``app.app_context()``                None
    in a ``flask`` command                  the command's, which ``flask.g`` has; it
                                            begins here if a test had the application
                                            context before
    in ``app.test_request_context()``       None: the request never started
    in a request, in the thread it is in    the request's
    in a request's async view               the request's, which another thread is in
    in a stream, after the teardown         the request's, which begins again
    in a copy of a request's context, in    a scope of the copy, with what the request's
    another thread                          told last
    ======================================  ============================================
    """
    if not flask.has_app_context():
        return None
    if not flask.has_request_context():
        return _of_command()
    scope: _Scope | None = flask.request.environ.get(NAME)
    if scope is None or scope.is_of_thread():
        return scope
    return _of_request(scope) if scope.is_held() else _of_copy(scope)


def _of_command() -> _Scope | None:
    scope: _Scope | None = flask.g.get(NAME)
    if scope is None and NAME in flask.current_app.extensions:
        command = click.get_current_context(silent=True)
        if command is not None:
            # The application context is older, so no signal has told of the command.
            scope = _begin(_of_current_command())
            ended = partial(_command_ends, scope, flask.g._get_current_object())
            command.find_root().call_on_close(ended)
    return scope


def _command_ends(scope: _Scope, holder: Any) -> None:
    scope.leave()
    holder.pop(NAME, None)


def _of_current_command() -> _Scope:
    # Its name is asked for late: the context of the group comes before the command's.
    return _Scope(lambda: about_command() or {})


def _of_request(scope: _Scope) -> _Scope:
    # A stream goes on when the request has been torn down.
    if not scope.has_begun:
        scope.begin()
    return scope


def _of_copy(scope: _Scope) -> _Scope:
    of_copy: _Scope | None = flask.g.get(NAME)
    if of_copy is None:
        known = scope.known()
        of_copy = _begin(_Scope(lambda: known))
    return of_copy


# For all of the process, since an application may have any: it is looked up which
# request, if any, one begins a transaction in.
@event.listens_for(Session, "after_begin")
def _attach_session(session: Session, _: SessionTransaction, __: Connection) -> None:
    scope = _current()
    if scope is not None:
        scope.attach(session)


# First, so that what tells the context to other drivers than psycopg knows of it. Not
# "begin", which each statement of each engine would pay for.
@event.listens_for(Engine, "do_execute", insert=True)
@event.listens_for(Engine, "do_executemany", insert=True)
def _before_statement(_: Any, __: str, ___: Any, context: ExecutionContext) -> None:
    _attach_connection(context)


@event.listens_for(Engine, "do_execute_no_params", insert=True)
def _before_bare_statement(_: Any, __: str, context: ExecutionContext) -> None:
    _attach_connection(context)


def _attach_connection(context: ExecutionContext) -> None:
    scope = _current()
    # In an async view, which runs in a thread of its own.
    if scope is None or scope.is_of_thread():
        return
    connection = context.root_connection
    # SQLAlchemy asks what server it is before it begins anything.
    if context.dialect.name == "postgresql" and connection.in_transaction():
        scope.attach(connection)
