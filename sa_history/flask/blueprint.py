"""The timeline: pages that show what changed, and the same as JSON."""

from __future__ import annotations

import hmac
import re
import secrets
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import flask
from itsdangerous import BadSignature, URLSafeSerializer
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from werkzeug.exceptions import (
    BadRequest,
    Conflict,
    Forbidden,
    MethodNotAllowed,
    NotFound,
)
from werkzeug.wrappers import Response

from sa_history.contexts.context import context
from sa_history.exc import DefinitionError, HistoryError
from sa_history.flask.entries import Entry, Masks, changed
from sa_history.flask.queries import Filters, Found, Timeline, as_time
from sa_history.sql.readable_json import dumps
from sa_history.tracking.event_class import Event
from sa_history.tracking.restore import restore_row
from sa_history.tracking.value_text import as_text

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of each page: nothing from elsewhere, no script."""

TOKEN = "sa_history_token"
"""Of the restore form, in the user's session and in the form."""


def timeline(
    name: str = "history",
    *,
    authorize: Callable[[], Any],
    authorize_restore: Callable[[Event], Any] | None = None,
    models: Any = None,
    mask: Collection[str] = (),
    who: Callable[[Mapping[str, Any]], str | None] | None = None,
    page_size: int = 50,
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
    :return: the blueprint, to register with any ``url_prefix``.
    :raises DefinitionError: ``authorize`` is no function.

    Example::

        app.register_blueprint(
            timeline(authorize=lambda: current_user.is_admin, mask=["password_hash"]),
            url_prefix="/history",
        )
    """
    if not callable(authorize):
        raise DefinitionError(
            "timeline shows everything that was ever changed; give authorize=, a "
            f"function that says who may see it, got {authorize!r}"
        )
    if page_size < 1:
        raise DefinitionError(f"page_size is a number of events, got {page_size!r}")
    pages = _Pages(
        authorize,
        authorize_restore,
        models,
        Masks(frozenset(mask)),
        who or _user,
        page_size,
    )
    blueprint = flask.Blueprint(
        name,
        __name__,
        template_folder="templates",
        static_folder="static",
        static_url_path="/static",
    )
    blueprint.before_request(pages.check)
    blueprint.after_request(pages.protect)
    for rule, view in (
        ("/", pages.events),
        ("/contexts/<uuid:context_id>", pages.context),
        ("/transactions/<int:number>", pages.transaction),
        ("/objects/<table>/<path:key>", pages.object),
        ("/<path:path>", pages.nothing),
    ):
        blueprint.add_url_rule(rule, view_func=view, endpoint=view.__name__)
    blueprint.add_url_rule(
        "/objects/<table>", view_func=pages.object, endpoint="object_by_key"
    )
    blueprint.add_url_rule(
        "/restore/<table>/<int(signed=True):event_id>",
        view_func=pages.restore,
        endpoint="restore",
        methods=["GET", "POST"],
    )
    return blueprint


def _user(metadata: Mapping[str, Any]) -> str | None:
    user = metadata.get("user")
    return None if user is None else str(user)


class _Pages:
    """The views of one blueprint."""

    def __init__(
        self,
        authorize: Callable[[], Any],
        authorize_restore: Callable[[Event], Any] | None,
        models: Any,
        masks: Masks,
        who: Callable[[Mapping[str, Any]], str | None],
        page_size: int,
    ) -> None:
        self._authorize = authorize
        self._authorize_restore = authorize_restore
        self._models = models
        self._masks = masks
        self._who = who
        self._page_size = page_size

    def check(self) -> None:
        """Answer 403 to who may not see the pages, before anything is looked for."""
        if flask.request.endpoint == f"{flask.request.blueprint}.static":
            return
        if not _is_allowed("authorize", self._authorize):
            raise Forbidden

    def protect(self, response: Response) -> Response:
        """Add the headers that keep a page to itself."""
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers.setdefault("Cache-Control", "no-store")
        response.vary.add("Accept")
        return response

    def events(self) -> Any:
        """Show the newest events over all models."""
        with self._timeline() as shown:
            filters = Filters.of(flask.request.args, shown)
            return self._list("events", shown, filters, {"filters": filters})

    def nothing(self, path: str) -> Any:
        """Answer 404, but only to those who may see the pages."""
        raise NotFound

    def context(self, context_id: uuid.UUID) -> Any:
        """Show all that was changed in a context."""
        with self._timeline() as shown:
            return self._list("context", shown, Filters(context_id=context_id))

    def transaction(self, number: int) -> Any:
        """Show all that a transaction changed."""
        with self._timeline() as shown:
            filters = Filters(transaction=number)
            return self._list("transaction", shown, filters, {"number": number})

    def object(self, table: str, key: str | None = None) -> Any:
        """Show one object's versions."""
        arguments = flask.request.args
        key = arguments.get("key", "") if key is None else key
        with self._timeline() as shown:
            filters = Filters(table=shown.table(table), key=key)
            extra: dict[str, Any] = {"table": table, "key": key}
            chosen = arguments.getlist("version", type=int)
            if len(chosen) == 2:
                found = [
                    self._entry(shown, version)
                    for version in shown.versions(filters, sorted({*chosen}))
                ]
                if len(found) != len({*chosen}):
                    raise NotFound
                extra["versions"] = [found[0], found[-1]]
                extra["compared"] = changed(found[0], found[-1])
            if arguments.get("at"):
                extra["at"] = as_time("at", arguments["at"])
                state = shown.at(filters, extra["at"])
                extra["state"] = None if state is None else self._entry(shown, state)
            return self._list("object", shown, filters, extra)

    def restore(self, table: str, event_id: int) -> Any:
        """Restore a row as it was in an event."""
        if flask.request.method != "POST":
            raise MethodNotAllowed(["POST"])
        allow = self._authorize_restore
        if allow is None:
            raise Forbidden
        token = flask.session.get(TOKEN, "")
        given = flask.request.form.get("token", "")
        if not token or not hmac.compare_digest(token.encode(), given.encode()):
            raise BadRequest(
                "The form is too old; go back, load the page and try again."
            )
        with self._timeline() as shown:
            event = shown.event(table, event_id)
            if not _is_allowed("authorize_restore", allow, event):
                raise Forbidden
            tracking = shown.table(table)
            hidden = shown.hidden.attributes(tracking)
            key = None if shown.hidden.has_key(tracking) else shown.key_of(event)
            # Now, since after an error the session reads nothing more.
            values = [str(getattr(event, name, "")) for name in hidden]
            try:
                with context(shown.session, restored=event_id):
                    restore_row(shown.session, event, None)
                    shown.session.commit()
            except DBAPIError as error:
                raise Conflict(_refusal(error, values)) from error
            except HistoryError as error:
                raise BadRequest(str(error)) from error
        if key is None:
            return flask.redirect(flask.url_for(".events"), code=303)
        return flask.redirect(self._object_url(table, key), code=303)

    def _list(
        self,
        page: str,
        shown: Timeline,
        filters: Filters,
        extra: Mapping[str, Any] | None = None,
    ) -> Any:
        cursor = flask.request.args.get("before")
        before = None if cursor is None else self._read(cursor)
        rows = shown.events(filters, before, self._page_size + 1)
        if not rows and page != "events" and before is None:
            raise NotFound
        entries = [self._entry(shown, row) for row in rows[: self._page_size]]
        following = None
        if len(rows) > self._page_size:
            following = self._following(page, filters, entries[-1].id)
        if flask.request.accept_mimetypes.best_match(_TYPES) == _TYPES[1]:
            answer: dict[str, Any] = {
                "events": [entry.as_json() for entry in entries],
                "next": following,
            }
            if extra is not None and "at" in extra:
                state = extra["state"]
                answer["state"] = None if state is None else state.as_json()
            if extra is not None and "compared" in extra:
                answer["compared"] = extra["compared"]
            return flask.Response(dumps(answer), mimetype="application/json")
        # Each is given, because the application may have variables of these names.
        nothing = dict.fromkeys(("at", "state", "versions", "compared"))
        return flask.render_template(
            f"sa_history/{page}.html",
            entries=entries,
            following=following,
            timeline=shown,
            can_restore=self._authorize_restore is not None,
            token=self._token(),
            as_text=as_text,
            object_url=self._object_url,
            **{**nothing, **(extra or {})},
        )

    def _following(self, page: str, filters: Filters, last: int) -> str:
        """Return the address of the next page, with the arguments that pages know."""
        arguments = flask.request.args
        given = {name: arguments.getlist(name) for name in _KEPT if name in arguments}
        given["before"] = [self._cursor(last)]
        if page == "object":
            assert filters.table is not None
            assert filters.key is not None
            table = filters.table.event_table.fullname
            return self._object_url(table, filters.key, **given)
        if page == "events":
            names = (n for n in _FILTERS if n in arguments)
            given.update({name: arguments.getlist(name) for name in names})
        return flask.url_for(f".{page}", **{**given, **(flask.request.view_args or {})})

    def _object_url(self, table: str, key: str, **more: Any) -> str:
        """Return the address of an object's page.

        A path loses slashes and dots on its way; keys that have such are an argument.
        """
        plain = _PLAIN.fullmatch(key) and not {".", ".."} & {*key.split("/")}
        page = ".object" if plain else ".object_by_key"
        return flask.url_for(page, **{**more, "table": table, "key": key})

    def _entry(self, shown: Timeline, found: Found) -> Entry:
        tracking, row = found
        return Entry.of(row, tracking, shown.hidden.attributes(tracking), self._who)

    def _timeline(self) -> Timeline:
        state = flask.current_app.extensions.get("sa_history")
        if state is None:
            raise DefinitionError(
                "the timeline needs a History; call its init_app for this application"
            )
        engine, metadata = state.tracked(self._models)
        hidden = self._masks.of(state.trackings())
        return Timeline(Session(engine), metadata, hidden)

    def _token(self) -> str | None:
        """Return the token of the user's forms."""
        if self._authorize_restore is None:
            return None
        if TOKEN not in flask.session:
            flask.session[TOKEN] = secrets.token_urlsafe(32)
        token: str = flask.session[TOKEN]
        return token

    def _cursor(self, event_id: int) -> str:
        return str(self._signer().dumps(event_id))

    def _read(self, cursor: str) -> int:
        try:
            return int(self._signer().loads(cursor))
        except BadSignature as error:
            raise BadRequest("This page has no such cursor.") from error

    def _signer(self) -> URLSafeSerializer:
        key = flask.current_app.secret_key
        if not key:
            raise DefinitionError(
                "the timeline needs app.secret_key, to sign its links"
            )
        return URLSafeSerializer(key, salt="sa_history.timeline")


_TYPES = ["text/html", "application/json"]

_FILTERS = ("table", "key", "label", "user", "since", "until", "context")
_KEPT = ("version", "at")
_PLAIN = re.compile(r"[^/\\\x00-\x1f\x7f]+(/[^/\\\x00-\x1f\x7f]+)*")


def _is_allowed(name: str, function: Callable[..., Any], *args: Any) -> bool:
    """Return the answer of a function of the application: a permission, or none.

    :raises DefinitionError: it gives something else that is true, such as a coroutine,
        a response, or Flask-Login's ``current_user``, which anonymous users have too.
    """
    allowed = flask.current_app.ensure_sync(function)(*args)
    if allowed and allowed is not True:
        raise DefinitionError(
            f"{name} returns True or False, got {allowed!r}; write bool(...) around it "
            "if that is what is meant"
        )
    return bool(allowed)


def _refusal(error: DBAPIError, hidden: Sequence[str]) -> str:
    """Return the database's message, without details, which have values of the row.

    :param hidden: values that may not be shown; a trigger can say them.
    """
    diagnostics = getattr(error.orig, "diag", None)
    said = getattr(diagnostics, "message_primary", None)
    if said is None or any(value in said for value in hidden):
        said = type(error.orig).__name__
    return f"The database refused it: {said}"
