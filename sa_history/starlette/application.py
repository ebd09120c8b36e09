"""The timeline as an application of ASGI, to be mounted in another one."""

from __future__ import annotations

import datetime
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, quote

import anyio.from_thread
from sqlalchemy import Engine, MetaData
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Router
from starlette.routing import Route as StarletteRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import sa_history.timeline
from sa_history.exc import DefinitionError
from sa_history.timeline.addresses import ROUTES, Route
from sa_history.timeline.display import Labels
from sa_history.timeline.entries import Entry
from sa_history.timeline.error_pages import turned_away
from sa_history.timeline.options import TimelineOptions, is_permission
from sa_history.timeline.pages import Pages, Visit
from sa_history.timeline.queries import Timeline
from sa_history.timeline.requests import PageRequest
from sa_history.timeline.responses import CACHE_CONTROL, HEADERS, PageResponse
from sa_history.tracking.event_class import Event
from sa_history.tracking.registry import trackings_in
from sa_history.util.arguments import metadata_of
from sa_history.util.sessions import is_async_engine, is_sessionmaker
from sa_history.writing.undo import Undo

_Answer = TypeVar("_Answer")

_MOST_OF_FORM = 64 * 1024
"""How many bytes a form may have."""


def timeline(
    engine: Any,
    *,
    models: Any,
    authorize: Callable[[Request], Any],
    secret_key: str | bytes,
    authorize_restore: Callable[[Event], Any] | None = None,
    context: Callable[[Request], Any] | None = None,
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
    authorize_size: Callable[[Request], Any] | None = None,
    authorize_verify: Callable[[Event], Any] | None = None,
    archive: Any = None,
) -> ASGIApp:
    """Return an application with the pages, to mount in one of Starlette or FastAPI.

    ``authorize``, each other ``authorize_...``, ``context`` and ``users`` may be
    ``async``.
    What is not is called in a thread, where it may wait for a database; but with an
    ``AsyncEngine`` all but ``authorize`` and ``context`` is called in the event loop.

    :param engine: the ``Engine`` or ``AsyncEngine`` of the database; or a
        ``sessionmaker`` or ``async_sessionmaker``, whose engine is looked up for each
        request, so that tests may bind another one.
    :param models: the declarative base or MetaData whose history is shown.
    :param authorize: called with the request before each page; it returns True, or the
        answer is 403, whatever was asked for. It may raise an ``HTTPException``, as
        one with the status 303 and a header ``Location``.
    :param secret_key: a secret of the application, that signs links to older events.
    :param authorize_restore: called with an event before it is restored, and returns
        True or False; without it nothing can be restored. It needs a session, for a
        token, as Starlette's ``SessionMiddleware`` gives it.
    :param context: called with the request for the keys and values of the context that
        a restore or an undo is recorded with, such as the user; the method, the path
        and the address are added.
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
    :param authorize_size: called with the request of who asks how large event tables
        are, and returns True or False; without it nobody is told.
    :param authorize_verify: called with a sealed event before it is compared with its
        seal, and returns True or False; without it nothing is verified, and seals are
        only shown. The range of the event is read for it, some 1,000 events, and the
        salts of its objects.
    :param archive: the folder of an archive, as ``history.archive`` takes it. Where the
        events of the database end, lists and exports go on with those that were removed
        and are in the archive; without it they end there.
    :return: the application.
    :raises DefinitionError: ``authorize`` is no function, or another option is none
        that can be meant.
    :raises ArchiveError: ``archive`` is given and what reads it is not installed.

    Example::

        async def is_admin(request):
            return request.session.get("role") == "admin"

        pages = timeline(engine, models=Base, authorize=is_admin, secret_key=SECRET)
        app.mount("/history", pages)
    """
    metadata = metadata_of(models, DefinitionError)
    if not is_sessionmaker(engine):
        _require_engine(engine)
    if not isinstance(secret_key, (str, bytes)) or not secret_key:
        raise DefinitionError(
            "secret_key signs links, and cannot be empty; give a str or bytes"
        )
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
    return _Application(engine, metadata, options, secret_key, context)


class _Application:
    """The pages of one timeline, as an application of ASGI."""

    def __init__(
        self,
        engine: Any,
        metadata: MetaData,
        options: TimelineOptions,
        secret_key: str | bytes,
        context: Callable[[Request], Any] | None,
    ) -> None:
        self._bind = engine
        self._metadata = metadata
        self._options = options
        self._pages = Pages(options)
        self._secret_key = secret_key
        self._context = context
        static = StaticFiles(
            directory=Path(sa_history.timeline.__file__).parent / "static"
        )
        routes: list[BaseRoute] = [Mount("/static", static)]
        routes += [self._route(route) for route in ROUTES]
        self._router = Router(routes, redirect_slashes=False)

    @property
    def _engine(self) -> Any:
        """The engine, which a ``sessionmaker`` may have got since."""
        if not is_sessionmaker(self._bind):
            return self._bind
        bind = self._bind.kw.get("bind")
        _require_engine(bind)
        return bind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                _protect(MutableHeaders(raw=message["headers"]))
            await send(message)

        await self._router(scope, receive, send_protected)

    def _route(self, route: Route) -> StarletteRoute:
        names = re.findall(r"<(?:\w+:)?(\w+)>", route.rule)

        async def endpoint(request: Request) -> Response:
            # Those of the path that this application is mounted at are not ours.
            arguments = {name: request.path_params[name] for name in names}
            return await self._respond(route.page, request, arguments)

        path = re.sub(r"<(?:(\w+):)?(\w+)>", _as_parameter, route.rule)
        return StarletteRoute(path, endpoint, methods=[*route.methods])

    async def _respond(
        self, page: str, request: Request, arguments: Mapping[str, Any]
    ) -> Response:
        allowed = await _called(self._options.authorize, request)
        if not is_permission("authorize", allowed):
            return self._sent(turned_away(self._request(request, {}, {})))
        form = context = {}
        if request.method == "POST":
            form, context = await _form(request), await self._about(request)
        asked = self._request(request, form, context)
        trackings = trackings_in(self._metadata)
        if not trackings:
            raise DefinitionError(
                "models of the timeline track nothing; put @track() on a model"
            )
        hidden = self._options.hidden(trackings)
        archive = self._options.archive_folder

        def respond(session: Session) -> PageResponse:
            shown = Timeline(session, self._metadata, hidden, archive, self._read_files)
            return self._pages.respond(page, Visit(asked, shown), arguments)

        return self._sent(await self._in_session(respond))

    async def _in_session(self, function: Callable[[Session], _Answer]) -> _Answer:
        """Call a function with a session of the engine, wherever that may wait."""
        if isinstance(self._engine, Engine):
            return await run_in_threadpool(self._in_sync_session, function)
        from sqlalchemy.ext.asyncio import AsyncSession

        async with AsyncSession(self._engine) as session:
            return await session.run_sync(function)

    def _read_files(self, function: Callable[[], _Answer]) -> _Answer:
        """Call a function that waits for files: in a thread, if this is the loop."""
        if isinstance(self._engine, Engine):
            return function()
        return await_only(run_in_threadpool(function))

    def _in_sync_session(self, function: Callable[[Session], _Answer]) -> _Answer:
        with Session(self._engine) as session:
            return function(session)

    def _sent(self, response: PageResponse) -> Response:
        """Return an answer for Starlette."""
        headers = {**response.headers, "Content-Type": response.content_type}
        if not response.parts:
            return Response(response.body, response.status, headers)
        return StreamingResponse(self._streamed(response), response.status, headers)

    async def _streamed(self, response: PageResponse) -> AsyncIterator[str]:
        yield response.body
        for part in response.parts:
            # No connection is kept while the client is slow.
            yield await self._in_session(part)

    async def _about(self, request: Request) -> dict[str, Any]:
        """Return the keys and values of the context of what a request changes."""
        about = {"method": request.method, "path": request.url.path}
        if request.client is not None:
            about["remote"] = request.client.host
        if self._context is None:
            return about
        return {**about, **await _called(self._context, request)}

    def _request(
        self, request: Request, form: Mapping[str, str], context: Mapping[str, Any]
    ) -> PageRequest:
        root = request.scope.get("root_path", "")
        home = request.scope.get("app_root_path", "")
        query = request.query_params
        is_sync = isinstance(self._engine, Engine)
        return PageRequest(
            method=request.method,
            root=quote(root.rstrip("/")),
            home=f"{quote(home)}/",
            accept=request.headers.get("Accept", ""),
            arguments={name: query.getlist(name) for name in query},
            form=form,
            session=request.scope.get("session"),
            signing_key=lambda: self._secret_key,
            call=_call_from_thread if is_sync else _call_from_greenlet,
            context=context,
            subject=(request,),
        )


def _require_engine(engine: Any) -> None:
    if not isinstance(engine, Engine) and not is_async_engine(engine):
        raise DefinitionError(
            "timeline takes an Engine, an AsyncEngine, or a sessionmaker that is bound "
            f"to one, got {engine!r}"
        )


def _as_parameter(match: re.Match[str]) -> str:
    """Return a part of a rule as Starlette has it: ``<int:number>``."""
    convertor, name = match.groups()
    return f"{{{name}:{convertor}}}" if convertor else f"{{{name}}}"


async def _called(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of the application, sync or async, and return its answer."""
    if inspect.iscoroutinefunction(function):
        return await function(*args)
    answer = await run_in_threadpool(function, *args)
    return await answer if inspect.isawaitable(answer) else answer


def _call_from_thread(function: Callable[..., Any], *args: Any) -> Any:
    answer = function(*args)
    if inspect.isawaitable(answer):
        return anyio.from_thread.run(_awaited, answer)
    return answer


def _call_from_greenlet(function: Callable[..., Any], *args: Any) -> Any:
    answer = function(*args)
    if inspect.isawaitable(answer):
        return await_only(answer)
    return answer


async def _awaited(answer: Awaitable[Any]) -> Any:
    return await answer


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a form; none if it is too large, or of another kind.

    Not by Starlette, which needs another package for it.
    """
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_OF_FORM:
            return {}
    if kind != "application/x-www-form-urlencoded":
        return {}
    try:
        fields = parse_qs(body.decode("ascii"), keep_blank_values=True)
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()}


def _protect(headers: MutableHeaders) -> None:
    """Add the headers that keep a page to itself."""
    headers.update(HEADERS)
    # What has an ETag is asked for again, and seldom sent.
    headers.setdefault(
        "Cache-Control", "no-cache" if "ETag" in headers else CACHE_CONTROL
    )
    headers.add_vary_header("Accept")
