"""The timeline: pages that show what changed, and the same as JSON."""

from __future__ import annotations

import hmac
import secrets
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any

import flask
from itsdangerous import BadSignature, URLSafeSerializer
from sqlalchemy.orm import Session
from werkzeug.exceptions import BadRequest, Forbidden, NotFound
from werkzeug.wrappers import Response

from sa_history.context import context
from sa_history.event_class import Event
from sa_history.exc import DefinitionError, HistoryError
from sa_history.flask.entries import Entry, Masks, as_text, changed
from sa_history.flask.queries import Filters, Timeline, as_time

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
    mask: Collection[str] = (),
    who: Callable[[Mapping[str, Any]], str | None] | None = None,
    page_size: int = 50,
) -> flask.Blueprint:
    """Return a blueprint with the pages, for an application that has a History.

    :param name: of the blueprint; endpoints are such as ``history.events``.
    :param authorize: called before each page; what it returns has to be true, or the
        answer is 403, whatever was asked for. It may abort or redirect by itself.
    :param authorize_restore: called with an event before it is restored; without it
        nothing can be restored.
    :param mask: attributes that are never shown, as ``"password"`` for all models or
        ``"User.email"`` for one.
    :param who: gives the name of the user from the metadata of a context; the key
        ``user``, if left out.
    :param page_size: events on a page.
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
    pages = _Pages(
        authorize, authorize_restore, Masks(frozenset(mask)), who or _user, page_size
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
    ):
        blueprint.add_url_rule(rule, view_func=view, endpoint=view.__name__)
    blueprint.add_url_rule(
        "/restore/<table>/<int:event_id>",
        view_func=pages.restore,
        endpoint="restore",
        methods=["POST"],
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
        masks: Masks,
        who: Callable[[Mapping[str, Any]], str | None],
        page_size: int,
    ) -> None:
        self._authorize = authorize
        self._authorize_restore = authorize_restore
        self._masks = masks
        self._who = who
        self._page_size = page_size

    def check(self) -> None:
        """Turn away who may not see it, before anything is looked for."""
        if flask.request.endpoint == f"{flask.request.blueprint}.static":
            return
        if not self._authorize():
            raise Forbidden

    def protect(self, response: Response) -> Response:
        """Add what keeps a page to itself."""
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    def events(self) -> Any:
        """Show the newest events over all models."""
        with self._timeline() as shown:
            filters = Filters.of(flask.request.args, shown)
            return self._list("events", shown, filters, {"filters": filters})

    def context(self, context_id: uuid.UUID) -> Any:
        """Show all that was changed in a context."""
        with self._timeline() as shown:
            return self._list("context", shown, Filters(context_id=context_id))

    def transaction(self, number: int) -> Any:
        """Show all that a transaction changed."""
        with self._timeline() as shown:
            filters = Filters(transaction=number)
            return self._list("transaction", shown, filters, {"number": number})

    def object(self, table: str, key: str) -> Any:
        """Show one object's versions."""
        arguments = flask.request.args
        with self._timeline() as shown:
            filters = Filters(table=shown.table(table), key=key)
            extra: dict[str, Any] = {"table": table, "key": key}
            chosen = arguments.getlist("version", type=int)
            if len(chosen) == 2:
                versions = [
                    self._entry(shown, row)
                    for row in shown.versions(filters, sorted(chosen))
                ]
                if len(versions) != 2:
                    raise NotFound
                extra["versions"] = versions
                extra["compared"] = changed(*versions)
            if arguments.get("at"):
                extra["at"] = as_time("at", arguments["at"])
                row = shown.at(filters, extra["at"])
                extra["state"] = self._entry(shown, row) if row is not None else None
            return self._list("object", shown, filters, extra)

    def restore(self, table: str, event_id: int) -> Any:
        """Make a row what it was in an event."""
        token = flask.session.get(TOKEN, "")
        given = flask.request.form.get("token", "")
        if not token or not hmac.compare_digest(token.encode(), given.encode()):
            raise BadRequest(
                "The form is too old; go back, load the page and try again."
            )
        with self._timeline() as shown:
            event = shown.event(table, event_id)
            if self._authorize_restore is None or not self._authorize_restore(event):
                raise Forbidden
            try:
                with context(shown.session, restored=event_id):
                    event.revert(shown.session)
                    shown.session.commit()
            except HistoryError as error:
                raise BadRequest(str(error)) from error
            key = shown.key_of(event)
        return flask.redirect(flask.url_for(".object", table=table, key=key), code=303)

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
            arguments = flask.request.args.to_dict(flat=False)
            arguments["before"] = [self._cursor(entries[-1].id)]
            values = {**(flask.request.view_args or {}), **arguments}
            following = flask.url_for(f".{page}", **values)
        if flask.request.accept_mimetypes.best_match(_TYPES) == _TYPES[1]:
            state = (extra or {}).get("state")
            answer: dict[str, Any] = {
                "events": [entry.as_json() for entry in entries],
                "next": following,
            }
            if state is not None:
                answer["state"] = state.as_json()
            if extra is not None and "compared" in extra:
                answer["compared"] = extra["compared"]
            return flask.jsonify(answer)
        return flask.render_template(
            f"history/{page}.html",
            entries=entries,
            following=following,
            timeline=shown,
            can_restore=self._authorize_restore is not None,
            token=self._token(),
            as_text=as_text,
            **(extra or {}),
        )

    def _entry(self, shown: Timeline, row: Any) -> Entry:
        return Entry.of(row, shown.table_of(row), self._masks, self._who)

    def _timeline(self) -> Timeline:
        engine, metadata = flask.current_app.extensions["sa_history"].tracked()
        return Timeline(Session(engine), metadata)

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
