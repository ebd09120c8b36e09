"""The pages of the timeline, each as HTML and as JSON."""

from __future__ import annotations

import contextlib
import datetime
import hmac
import re
import secrets
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from sa_history.contexts.context import context
from sa_history.exc import (
    CommandError,
    ConflictError,
    DefinitionError,
    EventsError,
    EventsRemovedError,
    SealError,
    UndoError,
)
from sa_history.sealing.chain import Seal
from sa_history.sealing.discrepancies import Discrepancy
from sa_history.sql.readable_json import dumps
from sa_history.timeline.addresses import Addresses, from_segment, is_path
from sa_history.timeline.archived_events import FoundEvent, is_archived
from sa_history.timeline.cards import cards_of
from sa_history.timeline.chart import HEIGHT, WIDTH, Chart
from sa_history.timeline.display import Display, zone_of
from sa_history.timeline.entries import Entry, changed
from sa_history.timeline.error_pages import error_page
from sa_history.timeline.export import HEADER, PART, as_csv, as_json_lines
from sa_history.timeline.filters import ARGUMENTS, FilterForm, Filters, as_time
from sa_history.timeline.json_answers import chart_as_json, list_as_json, seal_as_json
from sa_history.timeline.options import (
    TimelineOptions,
    checked_link,
    choices,
    is_permission,
)
from sa_history.timeline.queries import SEARCHED, Timeline
from sa_history.timeline.references import Reference, referring_keys
from sa_history.timeline.rendering import render
from sa_history.timeline.requests import JSON, PageRequest
from sa_history.timeline.responses import (
    BadRequest,
    ChangeRefused,
    Forbidden,
    NotFound,
    PageError,
    PageResponse,
    redirect,
)
from sa_history.timeline.size_chart import SizeChart
from sa_history.timeline.undo_pages import conflict_text, counts_of
from sa_history.tracking.completeness import GONE, missing_operations
from sa_history.tracking.registry import Tracking
from sa_history.util.postgresql import message_of
from sa_history.writing.undo import Undo

TOKEN = "sa_history_token"
"""The key of the token of forms in the user's session."""

DONE = "sa_history_done"
"""The key of what the next page says was done, in the user's session."""

PREVIEW = 100
"""How many of the events that an undo would write are shown."""

MOST_TABLES = 20
"""From how many tables a page reads the names of rows."""

_NUMBER = re.compile(r"-?[0-9]{1,19}")


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

    def form(self) -> FilterForm:
        """Return the form of filters, as it is filled in."""
        now = datetime.datetime.now(datetime.timezone.utc)
        return FilterForm.of(self.request, self.timeline.trackings, now)


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
        table = {k: from_segment(arguments[k]) for k in arguments if k == "table"}
        try:
            response: PageResponse = getattr(self, page)(
                visit, **{**arguments, **table}
            )
        except PageError as error:
            addresses = visit.addresses
            back = ("Back to the history", addresses.events())
            return error_page(error, visit.request, back)
        return response

    def events(self, visit: Visit) -> PageResponse:
        """Show the newest events of all models."""
        form = visit.form()
        extra: dict[str, Any] = {"form": form, "users": self._users(visit.request)}
        if form.errors:
            return self._wrong_form("events", visit, extra)
        extra["sees_size"] = self._sees_size(visit.request)
        return self._list("events", visit, form.filters, extra)

    def chart(self, visit: Visit) -> PageResponse:
        """Show how many changes each day and model has."""
        form = visit.form()
        extra = {"form": form, "users": self._users(visit.request)}
        if form.errors:
            return self._wrong_form("chart", visit, extra)
        chart = Chart.of(visit.timeline.counts(form.filters))
        visit.timeline.finish()
        if visit.request.wants_json:
            return PageResponse(dumps(chart_as_json(chart)), content_type=JSON)
        body = render(
            "chart.html",
            chart=chart,
            width=WIDTH,
            height=HEIGHT,
            searched=SEARCHED,
            address=visit.addresses,
            timeline=visit.timeline,
            display=self._display(visit, ()),
            **extra,
        )
        return PageResponse(body)

    def size(self, visit: Visit) -> PageResponse:
        """Show how large event tables are, how fast they grow, and what could go."""
        request, shown = visit.request, visit.timeline
        if self.options.authorize_size is None:
            raise NotFound
        if not self._sees_size(request):
            raise Forbidden
        keep, error = request.argument("keep"), None
        try:
            sizes = shown.sizes(keep)
        except CommandError as refused:
            if request.wants_json:
                raise BadRequest(str(refused)) from refused
            sizes, error = shown.sizes(None), str(refused)
        if request.wants_json:
            tables = [size.as_json(keep is not None) for size in sizes]
            return PageResponse(dumps({"tables": tables}), content_type=JSON)
        body = render(
            "size.html",
            charts=[SizeChart.of(size) for size in sizes],
            tells_of_removal=keep is not None and error is None,
            keep=keep,
            error=error,
            address=visit.addresses,
            height=HEIGHT,
        )
        return PageResponse(body, 200 if error is None else 400)

    def _sees_size(self, request: PageRequest) -> bool:
        allow = self.options.authorize_size
        return allow is not None and is_permission(
            "authorize_size", request.call(allow, *request.subject)
        )

    def csv(self, visit: Visit) -> PageResponse:
        """Send the events that meet the filters as CSV."""
        return self._export(visit, "csv", "text/csv; charset=utf-8", HEADER, as_csv)

    def json_lines(self, visit: Visit) -> PageResponse:
        """Send the events that meet the filters as a JSON object a line."""
        return self._export(visit, "jsonl", "application/x-ndjson", "", as_json_lines)

    def _export(
        self,
        visit: Visit,
        suffix: str,
        content_type: str,
        header: str,
        written: Callable[[Iterable[Entry]], str],
    ) -> PageResponse:
        form, request = visit.form(), visit.request
        for name, message in form.errors.items():
            raise BadRequest(f"{name}: {message}")
        limit = self.options.export_limit
        found = visit.timeline.keys(form.filters, request.cursor, limit + 1)
        visit.timeline.finish()
        keys = found.keys[:limit]
        last = keys[-1].pgh_id if len(found.keys) > limit else found.searched_to
        # Who has the file only learns by its name that there are more.
        name = f"history.{suffix}" if last is None else f"history-newest.{suffix}"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        if last is not None:
            arguments = form.arguments(before=request.sign(last))
            addresses = visit.addresses
            make = addresses.csv if suffix == "csv" else addresses.json_lines
            headers["Link"] = f'<{make(arguments)}>; rel="next"'

        def part_of(keys: Sequence[Any]) -> Callable[[Session], str]:
            def part(session: Session) -> str:
                shown = visit.timeline.with_session(session)
                found = shown.read(keys)
                shown.finish()
                return written(self._entry(shown, event) for event in found)

            return part

        parts = [part_of(keys[n : n + PART]) for n in range(0, len(keys), PART)]
        return PageResponse(header, 200, content_type, headers, parts=parts)

    def _users(self, request: PageRequest) -> dict[str, str] | None:
        """Return the users to choose from, None if they are typed."""
        if self.options.users is None or request.wants_json:
            return None
        return choices(request.call(self.options.users))

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
            "given_at": visit.request.argument("at"),
            **dict.fromkeys(("at", "at_error", "state", "versions", "compared")),
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
        status = 200
        if extra["given_at"] is not None:
            try:
                at = as_time(extra["given_at"])
                state = shown.at(filters, at)
            except BadRequest as error:
                if visit.request.wants_json:
                    raise
                status, extra["at_error"] = error.status, error.message
            else:
                extra["at"] = at
                extra["state"] = None if state is None else self._entry(shown, state)
        return self._list("object", visit, filters, extra, status)

    def restore(self, visit: Visit, table: str, event_id: str) -> PageResponse:
        """Restore a row as it was in an event; by GET, show what that would write."""
        request, shown = visit.request, visit.timeline
        allow = self._check_form(request, self.options.authorize_restore)
        # Below zero, if it was kept when its partition was removed.
        if not _NUMBER.fullmatch(event_id):
            raise NotFound
        shown.begin()
        event = shown.event(table, int(event_id))
        number = event.pgh_id
        if not is_permission("authorize_restore", request.call(allow, event)):
            raise Forbidden
        tracking = shown.table(table)
        key = None if shown.hidden.has_key(tracking) else shown.key_of(event)
        # Now, since after an error the session reads nothing more.
        values = shown.hidden_values(event)
        try:
            with context(shown.session, **{**request.context, "restored": number}):
                shown.restore(event)
                written = self._written(visit)
        except DBAPIError as error:
            raise ChangeRefused(_refusal(error, values)) from error
        except EventsError as error:
            raise BadRequest(f"It cannot be restored: {error.reason}.") from error
        if request.method != "POST":
            extra = {
                "restored": self._restored(visit, tracking, number),
                "is_current": not any(entry.diff != {} for entry in written)
                and not missing_operations(tracking),
            }
            return self._preview("restore", visit, written, extra)
        shown.session.commit()
        _session(request)[DONE] = {"restored": number}
        addresses = visit.addresses
        return redirect(
            addresses.events() if key is None else addresses.object(table, key)
        )

    def _restored(self, visit: Visit, tracking: Tracking, number: int) -> Entry:
        """Return the event that is restored, after what that wrote is taken back."""
        shown = visit.timeline
        shown.session.rollback()
        found = shown.versions(Filters(table=tracking), [number])
        return self._entry(shown, found[0])

    def undo_context(self, visit: Visit, context_id: uuid.UUID) -> PageResponse:
        """Undo all that was changed in a context; by GET, show what that would do."""
        return self._undo(visit, Filters(context_id=context_id))

    def undo_transaction(self, visit: Visit, number: int) -> PageResponse:
        """Undo all that a transaction changed; by GET, show what that would do."""
        return self._undo(visit, Filters(transaction=number))

    def seal(self, visit: Visit, table: str, event_id: str) -> PageResponse:
        """Show the seal of an event; by POST, verify it."""
        request, shown, allow = visit.request, visit.timeline, None
        if request.method == "POST":
            allow = self._check_form(request, self.options.authorize_verify)
        if not _NUMBER.fullmatch(event_id):
            raise NotFound
        filters = Filters(table=shown.table(table))
        found = shown.versions(filters, [int(event_id)])
        if not found:
            raise NotFound
        entry = self._entry(shown, found[0])
        seals = shown.seals([entry])
        if not seals:
            raise NotFound
        (seal,) = seals.values()
        discrepancies = None
        if allow is not None and seal is not None:
            event = shown.event(table, entry.id)
            if not is_permission("authorize_verify", request.call(allow, event)):
                raise Forbidden
            try:
                discrepancies = shown.verify(table, entry.id)
            except SealError as error:
                raise ChangeRefused(str(error)) from error
            except DBAPIError as error:
                raise ChangeRefused(_refusal(error, ())) from error
        return self._seal_page(visit, entry, seal, discrepancies)

    def _seal_page(
        self,
        visit: Visit,
        entry: Entry,
        seal: Seal | None,
        discrepancies: Sequence[Discrepancy] | None,
    ) -> PageResponse:
        """Return the page of a seal.

        :param discrepancies: what a verification has found; None without one.
        """
        if visit.request.wants_json:
            answer: dict[str, Any] = {
                "event": entry.as_json(),
                "seal": seal_as_json(seal),
            }
            if discrepancies is not None:
                answer["discrepancies"] = [*map(str, discrepancies)]
            return PageResponse(dumps(answer), content_type=JSON)
        can_verify = self._can(visit.request, self.options.authorize_verify)
        body = render(
            "seal.html",
            entry=entry,
            seal=seal,
            discrepancies=discrepancies,
            token=self._token(visit.request) if can_verify else None,
            display=self._display(visit, [entry]),
            timeline=visit.timeline,
            address=visit.addresses,
        )
        return PageResponse(body)

    def _undo(self, visit: Visit, filters: Filters) -> PageResponse:
        request, shown = visit.request, visit.timeline
        allow = self._check_form(request, self.options.authorize_undo)
        shown.begin()
        found = shown.events(filters, None, 1).found
        if not found:
            raise NotFound
        about = {"undone": self._entry(shown, found[0]), "filters": filters}
        try:
            with _context(visit):
                done = shown.undo(filters)
                written = self._written(visit)
        except ConflictError:
            return self._conflicts(visit, about)
        except (UndoError, DBAPIError) as error:
            raise ChangeRefused(_why_not(error, shown)) from error
        if not is_permission("authorize_undo", request.call(allow, done)):
            raise Forbidden
        if request.method != "POST":
            shown.session.rollback()
            return self._preview("undo", visit, written, {**about, "plan": done})
        shown.session.commit()
        rows = len(done.steps)
        _session(request)[DONE] = {"rows": rows, "transaction": done.transaction}
        addresses = visit.addresses
        if not written or done.transaction is None:
            return redirect(addresses.events())
        return redirect(addresses.transaction(done.transaction))

    def _conflicts(self, visit: Visit, about: Mapping[str, Any]) -> PageResponse:
        """Show what prevents an undo: by POST, it happened after it was shown."""
        request, shown = visit.request, visit.timeline
        shown.session.rollback()
        shown.begin()
        plan = shown.undo(about["filters"], dry_run=True)
        allow = self.options.authorize_undo
        if not is_permission("authorize_undo", request.call(allow, plan)):
            raise Forbidden
        status = 409 if request.method == "POST" else 200
        return self._preview("undo", visit, [], {**about, "plan": plan}, status)

    def _written(self, visit: Visit) -> list[Entry]:
        """Return the first of the events that the transaction has written."""
        shown = visit.timeline
        return [self._entry(shown, found) for found in shown.written(PREVIEW)]

    def _preview(
        self,
        page: str,
        visit: Visit,
        written: Sequence[Entry],
        extra: Mapping[str, Any],
        status: int = 200,
    ) -> PageResponse:
        """Return the page that shows what a change would write.

        :param page: ``"restore"`` or ``"undo"``.
        :param written: the events that it would write, or some of them.
        """
        shown = visit.timeline
        plan: Undo | None = extra.get("plan")
        display = self._display(visit, [*written, *_others(extra)])
        conflicts = [
            conflict_text(conflict, shown, display)
            for conflict in (() if plan is None else plan.conflicts)
        ]
        counts = [] if plan is None else counts_of(plan, shown, display)
        if visit.request.wants_json:
            rows = [
                {"model": model, "operation": operation, "rows": number}
                for model, operation, number in counts
            ]
            answer = {
                "events": [entry.as_json() for entry in written],
                "conflicts": conflicts,
                "rows": rows,
            }
            return PageResponse(dumps(answer), status, JSON)
        values = {
            "written": written,
            "conflicts": conflicts,
            "counts": counts,
            "display": display,
            "timeline": shown,
            "address": visit.addresses,
            "token": self._token(visit.request),
            "most": PREVIEW,
        }
        return PageResponse(render(f"{page}.html", **values, **extra), status)

    def _display(
        self,
        visit: Visit,
        entries: Sequence[Entry],
        users: Mapping[str, str] | None = None,
    ) -> Display:
        """Return how some events are written, with the names of what they refer to.

        :param users: the users to choose from; None if they were not asked for yet.
        """
        options, shown = self.options, visit.timeline
        given = options.time_zone
        zone = zone_of(visit.request.call(given) if callable(given) else given)
        wanted = {entry.table for entry in entries}
        tables = {
            tracking.event_table.fullname: shown.shown_table(tracking)
            for tracking in shown.trackings
            if tracking.event_table.fullname in wanted
        }
        of_table = {tracking.table: tracking for tracking in shown.trackings}
        referring = {n: referring_keys(table, of_table) for n, table in tables.items()}
        now = datetime.datetime.now(datetime.timezone.utc)
        display = Display(options.labels or {}, zone, now, tables, referring)
        if entries and options.names_users:
            named = self._users(visit.request) if users is None else users
            display = replace(display, users=named or {})
        if options.name_of is None:
            return display
        return replace(display, names=self._names(visit, display, entries))

    def _names(
        self, visit: Visit, display: Display, entries: Sequence[Entry]
    ) -> dict[Reference, str]:
        wanted: dict[Tracking, set[Reference]] = {}
        for entry in entries:
            for reference in display.references(entry):
                wanted.setdefault(reference.tracking, set()).add(reference)
        names: dict[Reference, str] = {}
        for tracking in [*wanted][:MOST_TABLES]:
            call = partial(visit.request.call, self.options.name_of)
            names.update(visit.timeline.names(tracking, wanted[tracking], call))
        return names

    def _check_form(
        self, request: PageRequest, allow: Callable[..., Any] | None
    ) -> Callable[..., Any]:
        """Refuse what no form of the timeline has sent for its user.

        By GET, nothing is written.

        :param allow: the option that says who may do it.
        :return: the option.
        """
        if allow is None:
            raise Forbidden
        if request.method != "POST":
            return allow
        token = str(_session(request).get(TOKEN, ""))
        given = request.form.get("token", "")
        if not token or not hmac.compare_digest(token.encode(), given.encode()):
            raise BadRequest(
                "The form is too old; go back, load the page and try again."
            )
        return allow

    def _list(
        self,
        page: str,
        visit: Visit,
        filters: Filters,
        extra: Mapping[str, Any],
        status: int = 200,
    ) -> PageResponse:
        shown, request = visit.timeline, visit.request
        before, page_size = request.cursor, self.options.page_size
        listed = shown.events(filters, before, page_size + 1)
        found = listed.found[:page_size]
        if not found and page != "events" and before is None:
            raise NotFound
        entries = [self._entry(shown, event) for event in found]
        is_full = len(listed.found) > page_size
        last = entries[-1].id if is_full else listed.searched_to
        following = None
        if last is not None:
            following = _following(page, visit, last, extra)
        seals = shown.seals(entry for entry in entries if not entry.archived)
        if request.wants_json:
            shown.finish()
            return list_as_json(entries, seals, following, extra)
        link = self.options.link or _no_link
        more = self._entry(shown, listed.found[page_size]) if is_full else None
        can_restore = self._can(request, self.options.authorize_restore)
        body = render(
            f"{page}.html",
            entries=entries,
            cards=cards_of(entries, more),
            current=_current(shown, found, _has_newest(filters, before))
            if can_restore
            else set(),
            display=self._display(
                visit, [*entries, *_others(extra)], extra.get("users")
            ),
            done=_done(request),
            following=following,
            newest=None if before is None else _address(page, visit, {}, extra),
            # The search has more to go through.
            searched=None if is_full or last is None else SEARCHED,
            timeline=shown,
            can_restore=can_restore,
            can_undo=self._can(request, self.options.authorize_undo),
            address=visit.addresses,
            seals=seals,
            links={entry.id: checked_link(link(entry)) for entry in entries},
            export_limit=self.options.export_limit,
            **extra,
        )
        shown.finish()
        return PageResponse(body, status)

    def _entry(self, shown: Timeline, found: FoundEvent) -> Entry:
        tracking, row = found
        table = shown.shown_table(tracking)
        return Entry.of(row, table, self.options.user_name, is_archived(row))

    def _can(self, request: PageRequest, allow: Callable[..., Any] | None) -> bool:
        """Return whether something may be done by somebody, who has a token then.

        :raises DefinitionError: it may, and there is no session for its form.
        """
        return allow is not None and bool(self._token(request))

    def _wrong_form(
        self, page: str, visit: Visit, extra: Mapping[str, Any]
    ) -> PageResponse:
        """Return the page with the form of filters, and what is wrong in it."""
        form: FilterForm = extra["form"]
        if visit.request.wants_json:
            errors = {"error": "; ".join(form.errors.values()), "fields": form.errors}
            return PageResponse(dumps(errors), form.status, JSON)
        body = render(
            "wrong_form.html",
            page=page,
            address=visit.addresses,
            timeline=visit.timeline,
            display=self._display(visit, ()),
            **extra,
        )
        return PageResponse(body, form.status)

    def _token(self, request: PageRequest) -> str:
        """Return the token of the user's forms."""
        session = _session(request)
        if TOKEN not in session:
            session[TOKEN] = secrets.token_urlsafe(32)
        return str(session[TOKEN])


def _has_newest(filters: Filters, before: int | None) -> bool:
    """Return whether a list has the newest event of each row that is in it."""
    if before is not None:
        return False
    return replace(filters, table=None, key=None) == Filters()


def _current(
    shown: Timeline, found: Sequence[FoundEvent], has_newest: bool
) -> set[int]:
    """Return the events that rows are as they are now.

    Where some changes have no events, it is not known.

    :param found: events, newest first.
    :param has_newest: whether they have the newest event of each of their rows.
    """
    newest: dict[tuple[Tracking, str], FoundEvent] = {}
    for tracking, row in found:
        newest.setdefault((tracking, row.pgh_obj_id), FoundEvent(tracking, row))
    is_complete = {t: not missing_operations(t) for t, _ in newest}
    present = [
        FoundEvent(tracking, row)
        for tracking, row in newest.values()
        if is_complete[tracking] and row.pgh_op not in GONE and not is_archived(row)
    ]
    if has_newest:
        return {row.pgh_id for _, row in present}
    return shown.newest_of_rows(present)


def _others(extra: Mapping[str, Any]) -> list[Entry]:
    """Return the events that a page shows beside those of its list."""
    found = [extra.get(name) for name in ("restored", "undone", "state")]
    return [entry for entry in (*found, *(extra.get("versions") or ())) if entry]


def _done(request: PageRequest) -> Any:
    """Return what has been done since the last page, to be said once."""
    session = request.session
    if session is None or DONE not in session:
        return None
    return session.pop(DONE)


def _context(visit: Visit) -> contextlib.AbstractContextManager[Any]:
    """Return a block whose changes are recorded with what is known of the request."""
    about = visit.request.context
    return (
        context(visit.timeline.session, **about) if about else contextlib.nullcontext()
    )


def _why_not(error: UndoError | DBAPIError, shown: Timeline) -> str:
    """Return why something cannot be undone, without values that are hidden."""
    if shown.hidden.columns and not isinstance(error, EventsRemovedError):
        return (
            "This cannot be undone: the events do not tell all that is needed, there "
            "is no order in which it could be, or the database refuses it."
        )
    if isinstance(error, DBAPIError):
        return _refusal(error, ())
    return f"This cannot be undone: {error.reason}."


def _no_link(entry: Entry) -> None:
    """Return no address, as the application gives none."""


def _following(page: str, visit: Visit, last: int, extra: Mapping[str, Any]) -> str:
    """Return the address of the next page."""
    return _address(page, visit, {"before": [visit.request.sign(last)]}, extra)


def _address(
    page: str,
    visit: Visit,
    arguments: Mapping[str, Sequence[str]],
    extra: Mapping[str, Any],
) -> str:
    """Return the address of a part of the same list, with the arguments that it knows.

    :param arguments: those of the part.
    """
    addresses, given = visit.addresses, {**arguments}
    known = {"events": ARGUMENTS, "object": ("version", "at")}.get(page, ())
    for name in known:
        values = visit.request.arguments.get(name, ())
        if any(values):
            given[name] = values
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
            "authorize_restore and authorize_undo need sessions, for the token of "
            "forms; add a middleware for them, such as Starlette's SessionMiddleware"
        )
    return request.session


def _numbers(texts: Sequence[str]) -> list[int]:
    """Return the texts that are numbers of events."""
    return [int(t) for t in texts if t.isascii() and t.isdigit() and len(t) < 20]


def _refusal(error: DBAPIError, hidden: Sequence[str]) -> str:
    """Return the database's message, without details, which have values of the row.

    :param hidden: values that may not be shown; a trigger can say them.
    """
    said = message_of(error.orig)
    if said is None or any(value in said for value in hidden):
        said = type(error.orig).__name__
    return f"The database refused it: {said}"
