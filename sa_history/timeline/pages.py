"""The pages of the timeline, each as HTML and as JSON."""

from __future__ import annotations

import hmac
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import DBAPIError

from sa_history.contexts.context import context
from sa_history.exc import DefinitionError, HistoryError
from sa_history.sql.readable_json import dumps
from sa_history.timeline.addresses import Addresses, is_path
from sa_history.timeline.entries import Entry, changed
from sa_history.timeline.filters import ARGUMENTS, Filters, as_time
from sa_history.timeline.options import TimelineOptions, is_permission
from sa_history.timeline.queries import Found, Timeline
from sa_history.timeline.rendering import render
from sa_history.timeline.requests import JSON, PageRequest
from sa_history.timeline.responses import (
    BadRequest,
    Conflict,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    PageError,
    PageResponse,
    redirect,
)

TOKEN = "sa_history_token"
"""The key of the token of forms in the user's session."""


@dataclass(frozen=True, eq=False)
class Visit:
    """A request, and what its page is made of.

    :param request: what is asked for.
    :param timeline: reads the events.
    """

    request: PageRequest
    timeline: Timeline

    @property
    def addresses(self) -> Addresses:
        """The addresses of the other pages."""
        return Addresses(self.request.root)


@dataclass(frozen=True, eq=False)
class Pages:
    """The pages of a timeline.

    :param options: what the application says about it.
    """

    options: TimelineOptions

    def respond(
        self, page: str, visit: Visit, arguments: Mapping[str, Any]
    ) -> PageResponse:
        """Return the answer to somebody who may see the pages.

        :param page: the name of a page, as in ``ROUTES``.
        :param arguments: the parts of the path.
        """
        try:
            response: PageResponse = getattr(self, page)(visit, **arguments)
        except PageError as error:
            addresses = visit.addresses
            back = ("Back to the history", addresses.events())
            return error_page(error, visit.request, back)
        return response

    def events(self, visit: Visit) -> PageResponse:
        """Show the newest events of all models."""
        filters = Filters.of(visit.request, visit.timeline.trackings)
        return self._list("events", visit, filters, {"filters": filters})

    def nothing(self, visit: Visit, path: str) -> PageResponse:
        """Answer 404, but only to those who may see the pages."""
        raise NotFound

    def context(self, visit: Visit, context_id: uuid.UUID) -> PageResponse:
        """Show all that was changed in a context."""
        filters = Filters(context_id=context_id)
        return self._list("context", visit, filters, {"context_id": context_id})

    def transaction(self, visit: Visit, number: int) -> PageResponse:
        """Show all that a transaction changed."""
        filters = Filters(transaction=number)
        return self._list("transaction", visit, filters, {"number": number})

    def object(self, visit: Visit, table: str, key: str | None = None) -> PageResponse:
        """Show one object's versions."""
        given, shown = visit.request.arguments, visit.timeline
        key = (given.get("key") or ("",))[0] if key is None else key
        filters = Filters(table=shown.table(table), key=key)
        extra: dict[str, Any] = {
            "table": table,
            "key": key,
            "is_path": is_path(key),
            **dict.fromkeys(("at", "state", "versions", "compared")),
        }
        chosen = _numbers(given.get("version", ()))
        if len(chosen) == 2:
            found = [
                self._entry(shown, version)
                for version in shown.versions(filters, sorted({*chosen}))
            ]
            if len(found) != len({*chosen}):
                raise NotFound
            extra["versions"] = [found[0], found[-1]]
            extra["compared"] = changed(found[0], found[-1])
        at = visit.request.argument("at")
        if at is not None:
            extra["at"] = as_time("at", at)
            state = shown.at(filters, extra["at"])
            extra["state"] = None if state is None else self._entry(shown, state)
        return self._list("object", visit, filters, extra)

    def restore(self, visit: Visit, table: str, event_id: int) -> PageResponse:
        """Restore a row as it was in an event."""
        request, shown = visit.request, visit.timeline
        allow = self._check_form(request)
        event = shown.event(table, event_id)
        if not is_permission("authorize_restore", request.call(allow, event)):
            raise Forbidden
        tracking = shown.table(table)
        hidden = shown.hidden.attributes(tracking)
        key = None if shown.hidden.has_key(tracking) else shown.key_of(event)
        # Now, since after an error the session reads nothing more.
        values = [str(getattr(event, name, "")) for name in hidden]
        try:
            with context(shown.session, **{**request.context, "restored": event_id}):
                shown.restore(event)
        except DBAPIError as error:
            raise Conflict(_refusal(error, values)) from error
        except HistoryError as error:
            raise BadRequest(str(error)) from error
        addresses = visit.addresses
        return redirect(
            addresses.events() if key is None else addresses.object(table, key)
        )

    def _check_form(self, request: PageRequest) -> Any:
        """Refuse what no form of the timeline has sent for its user.

        :return: the option ``authorize_restore``.
        """
        if request.method != "POST":
            raise MethodNotAllowed
        allow = self.options.authorize_restore
        if allow is None:
            raise Forbidden
        token = str(_session(request).get(TOKEN, ""))
        given = request.form.get("token", "")
        if not token or not hmac.compare_digest(token.encode(), given.encode()):
            raise BadRequest(
                "The form is too old; go back, load the page and try again."
            )
        return allow

    def _list(
        self, page: str, visit: Visit, filters: Filters, extra: Mapping[str, Any]
    ) -> PageResponse:
        shown, request = visit.timeline, visit.request
        before = request.cursor
        rows = shown.events(filters, before, self.options.page_size + 1)
        if not rows and page != "events" and before is None:
            raise NotFound
        page_size = self.options.page_size
        entries = [self._entry(shown, row) for row in rows[:page_size]]
        following = None
        if len(rows) > page_size:
            following = _following(page, visit, entries[-1].id, extra)
        if request.wants_json:
            return _as_json(entries, following, extra)
        return PageResponse(
            render(
                f"{page}.html",
                entries=entries,
                following=following,
                timeline=shown,
                can_restore=self.options.authorize_restore is not None,
                token=self._token(request),
                address=visit.addresses,
                **extra,
            )
        )

    def _entry(self, shown: Timeline, found: Found) -> Entry:
        tracking, row = found
        hidden = shown.hidden.attributes(tracking)
        return Entry.of(row, tracking, hidden, self.options.who)

    def _token(self, request: PageRequest) -> str | None:
        """Return the token of the user's forms."""
        if self.options.authorize_restore is None:
            return None
        session = _session(request)
        if TOKEN not in session:
            session[TOKEN] = secrets.token_urlsafe(32)
        return str(session[TOKEN])


def turned_away(request: PageRequest) -> PageResponse:
    """Return the answer to somebody who may not see the pages.

    It is the same for all that may be asked for, whether it exists or not.
    """
    return _as_html(Forbidden(), request, ("Back to the application", request.home))


def error_page(
    error: PageError, request: PageRequest, back: tuple[str, str]
) -> PageResponse:
    """Return an error as an answer, of the kind that is asked for.

    :param back: the text and the address of the link that leads away from it.
    """
    if not request.wants_json:
        return _as_html(error, request, back)
    body = dumps({"error": error.message})
    return PageResponse(body, error.status, JSON, _headers_of(error), error)


def _as_html(
    error: PageError, request: PageRequest, back: tuple[str, str]
) -> PageResponse:
    body = render("error.html", error=error, back=back, address=Addresses(request.root))
    headers = _headers_of(error)
    return PageResponse(body, error.status, headers=headers, error=error)


def _headers_of(error: PageError) -> dict[str, str]:
    return {"Allow": "POST"} if isinstance(error, MethodNotAllowed) else {}


def _as_json(
    entries: Sequence[Entry], following: str | None, extra: Mapping[str, Any]
) -> PageResponse:
    answer: dict[str, Any] = {
        "events": [entry.as_json() for entry in entries],
        "next": following,
    }
    if extra.get("at") is not None:
        state = extra["state"]
        answer["state"] = None if state is None else state.as_json()
    if extra.get("compared") is not None:
        answer["compared"] = extra["compared"]
    return PageResponse(dumps(answer), content_type=JSON)


def _following(page: str, visit: Visit, last: int, extra: Mapping[str, Any]) -> str:
    """Return the address of the next page, with the arguments that pages know."""
    request, addresses = visit.request, visit.addresses
    given: dict[str, Sequence[str]] = {"before": [request.sign(last)]}
    known = {"events": ARGUMENTS, "object": ("version", "at")}.get(page, ())
    given |= {name: v for name in known if any(v := request.arguments.get(name, ()))}
    if page == "object":
        return addresses.object(extra["table"], extra["key"], given)
    if page == "context":
        return addresses.context(extra["context_id"], given)
    if page == "transaction":
        return addresses.transaction(extra["number"], given)
    return addresses.events(given)


def _session(request: PageRequest) -> Any:
    if request.session is None:
        raise DefinitionError(
            "authorize_restore needs sessions, for the token of its forms; add a "
            "middleware for them, such as Starlette's SessionMiddleware"
        )
    return request.session


def _numbers(texts: Sequence[str]) -> list[int]:
    """Return the texts that are numbers of events."""
    return [int(t) for t in texts if t.isascii() and t.isdigit() and len(t) < 20]


def _refusal(error: DBAPIError, hidden: Sequence[str]) -> str:
    """Return the database's message, without details, which have values of the row.

    :param hidden: values that may not be shown; a trigger can say them.
    """
    diagnostics = getattr(error.orig, "diag", None)
    said = getattr(diagnostics, "message_primary", None)
    if said is None or any(value in said for value in hidden):
        said = type(error.orig).__name__
    return f"The database refused it: {said}"
