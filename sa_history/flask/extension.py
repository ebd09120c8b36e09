"""The extension: requests and commands as contexts."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import flask
from sqlalchemy import Connection, Engine, MetaData, event
from sqlalchemy.orm import Session, SessionTransaction, scoped_session, sessionmaker

from sa_history._types import UNSET
from sa_history.blocks import blocks_of
from sa_history.context import ContextBlock, context
from sa_history.exc import ContextError, DefinitionError
from sa_history.flask.commands import history_commands
from sa_history.flask.requests import about_command, about_request, login_user
from sa_history.frames import Frame, LateFrame, ambient_blocks
from sa_history.tracking import history_of

NAME = "sa_history"
"""Of the extension in ``app.extensions``, and of what it keeps in ``flask.g``."""


@dataclass(eq=False)
class _Scope:
    """A request or a command, and the stacks that its frame is on.

    :param frame: its context.
    :param stacks: where the frame has to be taken from at the end.
    """

    frame: Frame
    stacks: list[list[Frame]] = field(default_factory=list)
    sessions: weakref.WeakSet[Session] = field(default_factory=weakref.WeakSet)

    def enter(self, stack: list[Frame]) -> None:
        stack.append(self.frame)
        self.stacks.append(stack)

    def attach(self, session: Session) -> None:
        """Have what a session writes linked to the context."""
        if session not in self.sessions:
            self.sessions.add(session)
            self.enter(blocks_of(session, "History", ContextError).contexts)

    def leave(self) -> None:
        """Take the frame from wherever it is; in a teardown nothing may fail."""
        for stack in self.stacks:
            with contextlib.suppress(ValueError):
                stack.remove(self.frame)
        self.stacks.clear()


class History:
    """The Flask extension: what a request changes is linked to the request.

    The context of a request has the user, method, path, endpoint, remote address, and
    where headers bring them a request id and a trace id; that of a ``flask`` command
    has its name. Nothing is stored for a request that changes nothing. The commands
    ``flask history ls|check|baseline|ddl`` come with it.

    :param db: Flask-SQLAlchemy's or Flask-SQLAlchemy-Lite's object, a sessionmaker or a
        scoped session; give it here or to :meth:`init_app`.
    :param models: declarative bases or MetaData, for the commands and the timeline;
        those of Flask-SQLAlchemy are known.
    :param context: called to add keys to the context of a request, whenever something
        is written in it. It must not use the database. What it gives as ``user`` is
        used and not Flask-Login's.
    :param request: gives what is recorded of a request, for :func:`about_request`.

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
        self._db = db
        self._models = models
        self._context = context
        self._about = request

    def init_app(self, app: flask.Flask, db: Any = None) -> None:
        """Set up an application; one extension can serve several.

        :param db: as for the class, if this application has another.
        :raises DefinitionError: the application has been set up already.

        Example::

            history.init_app(app, db)
        """
        if NAME in app.extensions:
            raise DefinitionError(
                f"{app!r} has a History already; call init_app once for each app"
            )
        app.extensions[NAME] = _State(self, self._db if db is None else db)
        flask.request_started.connect(_request_started, app)
        flask.appcontext_pushed.connect(_appcontext_pushed, app)
        app.teardown_appcontext(_leave)
        app.cli.add_command(history_commands())

    def context(self, **metadata: Any) -> ContextBlock:
        """Return a block with more keys, for what the thread does.

        In an async view it is for ``db.session``.

        Example::

            with history.context(reason="chargeback"):
                db.session.commit()
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return context(**metadata)
        return context(getattr(self._db, "session", UNSET), **metadata)

    def annotate(self, **metadata: Any) -> None:
        """Add keys to the context of the request or command.

        :raises ContextError: there is no request and no command.

        Example::

            history.annotate(order=order.id)
        """
        scope = flask.g.get(NAME) if flask.has_app_context() else None
        if scope is None:
            raise ContextError(
                "there is no request and no command whose context could be annotated"
            )
        scope.frame.annotate(metadata)

    def _about_request(self) -> Callable[[], Mapping[str, Any]]:
        """Return what gives the values of this request, whenever something is written.

        A session may be used where there is no request, such as in a thread that the
        view has started; it has the values that were known last.
        """
        always = dict(self._about(flask.request))
        late: dict[str, Any] = {}

        def values() -> Mapping[str, Any]:
            if flask.has_request_context():
                late.clear()
                late.update(login_user())
                late.update(self._context() if self._context else {})
            return {**always, **late}

        return values


@dataclass(frozen=True, eq=False)
class _State:
    """What the extension knows of one application."""

    extension: History
    db: Any

    def databases(self) -> list[tuple[Engine, MetaData]]:
        """Return each MetaData with the engine of its database.

        :raises DefinitionError: they are not known.
        """
        models = self.extension._models
        of_flask_sqlalchemy: dict[Any, MetaData] = getattr(self.db, "metadatas", {})
        if of_flask_sqlalchemy:
            engines = self.db.engines
            return [(engines[key], m) for key, m in of_flask_sqlalchemy.items()]
        if models is None or models == ():
            raise DefinitionError(
                "History does not know the models; give History(..., models=Base)"
            )
        listed = models if isinstance(models, (list, tuple)) else [models]
        metadatas: list[Any] = [getattr(model, "metadata", model) for model in listed]
        return [(self._engine(), metadata) for metadata in metadatas]

    def tracked(self) -> tuple[Engine, MetaData]:
        """Return the first MetaData that tracks anything, with its engine.

        :raises DefinitionError: none does.
        """
        for engine, metadata in self.databases():
            if history_of(metadata) is not None:
                return engine, metadata
        raise DefinitionError("the application tracks nothing; put @track() on a model")

    def _engine(self) -> Engine:
        if hasattr(self.db, "engine"):  # of Flask-SQLAlchemy-Lite
            engine: Engine = self.db.engine
            return engine
        if not isinstance(self.db, (sessionmaker, scoped_session)):
            raise DefinitionError(
                "History takes Flask-SQLAlchemy's or -Lite's object, a sessionmaker or "
                f"a scoped session, got {self.db!r}"
            )
        maker: Any = getattr(self.db, "session_factory", self.db)
        with maker() as session:
            return session.get_bind().engine  # type: ignore[no-any-return]


def _request_started(app: flask.Flask, **_: Any) -> None:
    extension = app.extensions[NAME].extension
    _leave(None)  # a command, such as "run", that serves requests in its own thread
    _begin(LateFrame(extension._about_request()))


def _appcontext_pushed(app: flask.Flask, **_: Any) -> None:
    # Its name is asked for late: the context of the group comes before the command's.
    if not flask.has_request_context() and about_command() is not None:
        _begin(LateFrame(lambda: about_command() or {}))


def _begin(frame: Frame) -> None:
    scope = _Scope(frame)
    setattr(flask.g, NAME, scope)
    # For what is written without a session, too.
    scope.enter(ambient_blocks().contexts)


def _leave(_: BaseException | None) -> None:
    scope: _Scope | None = flask.g.pop(NAME, None)
    if scope is not None:
        scope.leave()


# For all sessions of the process, since an application may have any: it is looked up
# which request, if any, one begins a transaction in.
@event.listens_for(Session, "after_begin")
def _attach(session: Session, _: SessionTransaction, __: Connection) -> None:
    scope = flask.g.get(NAME) if flask.has_app_context() else None
    if scope is not None:
        scope.attach(session)
