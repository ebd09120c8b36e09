"""The timeline as a blueprint of Flask."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import flask
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from werkzeug.exceptions import HTTPException, default_exceptions
from werkzeug.wrappers import Response

import sa_history.timeline
from sa_history.exc import DefinitionError
from sa_history.timeline.addresses import ROUTES
from sa_history.timeline.display import Labels
from sa_history.timeline.entries import Entry
from sa_history.timeline.error_pages import turned_away
from sa_history.timeline.options import TimelineOptions, is_permission
from sa_history.timeline.pages import Pages, Visit
from sa_history.timeline.queries import Timeline
from sa_history.timeline.requests import PageRequest
from sa_history.timeline.responses import CACHE_CONTROL, HEADERS, PageResponse
from sa_history.tracking.event_class import Event
from sa_history.writing.undo import Undo


def timeline(
    name: str = "history",
    *,
    authorize: Callable[[], Any],
    authorize_restore: Callable[[Event], Any] | None = None,
    models: Any = None,
    mask: Collection[str] = (),
    who: Callable[[Mapping[str, Any]], str | None] | None = None,
    page_size: int = 50,
    users: Callable[[], Any] | None = None,
    link: Callable[[Entry], str | None] | None = None,
    export_limit: int = 10_000,
    authorize_undo: Callable[[Undo], Any] | None = None,
    labels: Labels | None = None,
    name_of: Callable[[Any], str | None] | None = None,
    time_zone: Any = datetime.timezone.utc,
    authorize_size: Callable[[], Any] | None = None,
    authorize_verify: Callable[[Event], Any] | None = None,
    archive: Any = None,
) -> flask.Blueprint:
    """Return a blueprint with the pages, for an application that has a History.

    :param name: the name of the blueprint; endpoints are such as ``history.events``.
    :param authorize: called before each page; it returns True, or the answer is 403,
        whatever was asked for. It may abort or redirect by itself.
    :param authorize_restore: called with an event before it is restored, and returns
        True or False; without it nothing can be restored.
    :param models: the declarative base or MetaData whose history is shown; the only one
        with tracked models, if left out. An application with several has a blueprint
        for each, with a name and prefix of its own, since the events of one MetaData
        have no order among those of another.
    :param mask: attributes that are never shown, as ``"password"`` for all models or
        ``"User.email"`` for one. A foreign key to a masked attribute is masked as well.
        Where a key is masked objects have no pages, and are not found by their keys.
    :param who: called with the metadata of a context for the name of the user; the key
        ``user``, if left out.
    :param page_size: how many events a page has, from 1 on.
    :param users: called for the users to choose from, as a mapping of what contexts
        have as ``user`` to a name, or as a list; users are typed, if left out.
    :param link: called with an event as it is shown, an ``Entry``, for the address of
        its row in the application, or None.
    :param export_limit: how many events an export as CSV or JSON lines has, from 1 on.
    :param authorize_undo: called with the plan or the result of an undo, before it is
        shown or committed, and returns True or False: ``undo.counts`` says how many
        rows of which tables it is about. Without it nothing can be undone.
    :param labels: what models and attributes are called on the pages: a mapping, or a
        function that returns None for the name itself. It is looked up by ``"Order"``,
        ``"Order.note"`` and ``"note"``.
    :param name_of: called with an object that a foreign key refers to, for the name of
        the link to it, such as ``str``; None, or an empty name, for the key. Of the
        object, masked attributes, JSON and relationships cannot be read: if the
        function needs them the name is the key.
    :param time_zone: the time zone of the times on the pages: a tzinfo, a name such as
        ``"Europe/Berlin"``, or a function that returns either, as for the user who
        asks. Days and times in filters are UTC.
    :param authorize_size: called for who asks how large event tables are, and returns
        True or False; without it nobody is told.
    :param authorize_verify: called with a sealed event before it is compared with its
        seal, and returns True or False; without it nothing is verified, and seals are
        only shown. The range of the event is read for it, some 1,000 events, and the
        salts of its objects.
    :param archive: the folder of an archive, as ``history.archive`` takes it. Where the
        events of the database end, lists and exports go on with those that were removed
        and are in the archive; without it they end there.
    :return: the blueprint, to register with any ``url_prefix``.
    :raises DefinitionError: ``authorize`` is no function, or another option is none
        that can be meant.
    :raises ArchiveError: ``archive`` is given and what reads it is not installed.

    Example::

        app.register_blueprint(
            timeline(authorize=lambda: current_user.is_admin, mask=["password_hash"]),
            url_prefix="/history",
        )
    """
    options = TimelineOptions(
        authorize=authorize,
        authorize_restore=authorize_restore,
        mask=mask,
        who=who,
        page_size=page_size,
        users=users,
        link=link,
        export_limit=export_limit,
        authorize_undo=authorize_undo,
        labels=labels,
        name_of=name_of,
        time_zone=time_zone,
        authorize_size=authorize_size,
        authorize_verify=authorize_verify,
        archive=archive,
    )
    views = _Views(options, models)
    blueprint = flask.Blueprint(
        name,
        __name__,
        static_folder=str(Path(sa_history.timeline.__file__).parent / "static"),
        static_url_path="/static",
    )
    blueprint.before_request(views.check)
    blueprint.after_request(_protect)
    for route in ROUTES:
        blueprint.add_url_rule(
            route.rule,
            endpoint=route.name or route.page,
            view_func=views.view(route.page),
            methods=[*route.methods],
        )
    return blueprint


class _Views:
    """The views of one blueprint."""

    def __init__(self, options: TimelineOptions, models: Any) -> None:
        self._options = options
        self._pages = Pages(options)
        self._models = models

    def check(self) -> Response | None:
        """Answer 403 to who may not see the pages, before anything is looked for."""
        if flask.request.endpoint == f"{flask.request.blueprint}.static":
            return None
        if is_permission("authorize", _call(self._options.authorize)):
            return None
        return _sent(turned_away(_request()), None)

    def view(self, page: str) -> Callable[..., Response]:
        """Return the view of a page."""

        def view(**arguments: Any) -> Response:
            engine, metadata, hidden = self._shown()
            archive = self._options.archive_folder
            with Session(engine) as session:
                visit = Visit(_request(), Timeline(session, metadata, hidden, archive))
                response = self._pages.respond(page, visit, arguments)
            return _sent(response, engine)

        return view

    def _shown(self) -> Any:
        state = flask.current_app.extensions.get("sa_history")
        if state is None:
            raise DefinitionError(
                "the timeline needs a History; call its init_app for this application"
            )
        engine, metadata = state.tracked(self._models)
        return engine, metadata, self._options.hidden(state.trackings())


def _request() -> PageRequest:
    request = flask.request
    return PageRequest(
        method=request.method,
        root=flask.url_for(".events").rstrip("/"),
        home=f"{request.script_root}/",
        accept=request.headers.get("Accept", ""),
        arguments=request.args.to_dict(flat=False),
        form=request.form.to_dict(),
        session=flask.session,
        signing_key=_signing_key,
        call=_call,
        context={},  # History links all that the request writes to it
    )


def _call(function: Callable[..., Any], *args: Any) -> Any:
    return flask.current_app.ensure_sync(function)(*args)


def _signing_key() -> str | bytes:
    key = flask.current_app.secret_key
    if not key:
        raise DefinitionError("the timeline needs app.secret_key, to sign its links")
    return key


def _sent(response: PageResponse, engine: Engine | None) -> Response:
    """Return an answer for Flask.

    :param engine: what further parts of the answer are read from.
    :raises HTTPException: the answer is an error page. The application may have a page
        of its own for such an error, which is shown instead.
    """
    body: Any = response.body
    if response.parts:
        body = flask.stream_with_context(_streamed(response, engine))
    sent = flask.Response(
        body,
        response.status,
        headers={**response.headers},
        content_type=response.content_type,
    )
    if response.error is None:
        return sent
    error_class: type[HTTPException] = default_exceptions[response.status]
    raise error_class(response.error.message, response=sent)


def _streamed(response: PageResponse, engine: Engine | None) -> Iterator[str]:
    yield response.body
    for part in response.parts:
        # No connection is kept while the client is slow.
        with Session(engine) as session:
            text = part(session)
        yield text


def _protect(response: Response) -> Response:
    """Add the headers that keep a page to itself."""
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", CACHE_CONTROL)
    response.vary.add("Accept")
    return response
