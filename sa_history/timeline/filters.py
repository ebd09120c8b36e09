"""Which events of the timeline are shown, and what that is in SQL."""

from __future__ import annotations

import datetime
import decimal
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    Enum,
    Float,
    FromClause,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Text,
    Uuid,
    and_,
    bindparam,
    literal,
    or_,
)
from sqlalchemy import cast as sql_cast

from sa_history.capture.event_table import key_columns
from sa_history.query.contexts_asked import ContextsAsked
from sa_history.query.sources import EventSource
from sa_history.timeline.requests import PageRequest
from sa_history.timeline.responses import BadRequest, NotFound, PageError
from sa_history.tracking.registry import Tracking


@dataclass(frozen=True)
class Filters:
    """Which events are shown.

    :param table: the tracking whose events are shown, None for all.
    :param key: the key of the row, as text.
    :param label: the label of the tracker.
    :param user: the ``user`` of the context, as text.
    :param since: the earliest time.
    :param until: the time before which events are shown.
    :param context: a key of the context and its value, as text.
    :param text: what a value, or the metadata of the context, has somewhere.
    :param context_id: the id of the context.
    :param transaction: the number of the transaction.
    """

    table: Tracking | None = None
    key: str | None = None
    label: str | None = None
    user: str | None = None
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    context: tuple[str, str] | None = None
    text: str | None = None
    context_id: uuid.UUID | None = None
    transaction: int | None = None

    def shape(self) -> tuple[Any, ...] | None:
        """Return what tells the criteria from those of other filters with parameters.

        :return: None if they depend on values.
        """
        if self.key is not None:
            return None
        return ("timeline", *self.values(), *(self.context or ())[:1])

    def values(self) -> dict[str, Any]:
        """Return the values of the parameters of :meth:`bound`."""
        given = {name: getattr(self, name) for name in _PARAMETERS}
        if self.context is not None:
            given["context"] = self.context[1]
        return {
            f"page_{name}": value for name, value in given.items() if value is not None
        }

    def bound(self) -> Filters:
        """Return the same filters with parameters in place of values."""
        parameters: dict[str, Any] = {
            name: bindparam(f"page_{name}", type_=type_)
            for name, type_ in _PARAMETERS.items()
            if getattr(self, name) is not None
        }
        if self.context is not None:
            value = bindparam("page_context", type_=Text())
            parameters["context"] = (self.context[0], value)
        return replace(self, **parameters)

    def criteria(self, source: EventSource) -> Iterator[ColumnElement[bool]]:
        """Yield the criteria that events of a table meet, but for their contexts."""
        tracking, columns = source.tracking, source.tracking.event_table.c
        if self.key is not None:
            yield _has_key(tracking, self.key)
        if self.label is not None:
            yield columns.pgh_label == self.label
        if self.since is not None:
            yield columns.pgh_created_at >= self.since
        if self.until is not None:
            yield columns.pgh_created_at < self.until
        if self.transaction is not None:
            yield columns.pgh_xact_id == self.transaction

    def criteria_with_contexts(
        self, source: EventSource
    ) -> Iterator[ColumnElement[bool]]:
        """Yield all criteria that events of a table meet."""
        yield from self.criteria(source)
        tracking = source.tracking
        yield from self.criteria_of_contexts(tracking, tracking.event_table)

    @property
    def contexts(self) -> ContextsAsked:
        """Which contexts the events have."""
        pairs = [] if self.user is None else [("user", self.user)]
        if self.context is not None:
            pairs.append(self.context)
        return ContextsAsked(self.context_id, [_has(*pair) for pair in pairs])

    def criteria_of_contexts(
        self, tracking: Tracking, events: FromClause
    ) -> Iterator[ColumnElement[bool]]:
        """Yield those of the criteria that are about the contexts of events.

        :param events: has the columns about contexts that event tables have.
        """
        yield from self.contexts.criteria(tracking.context_storage, events)


_PARAMETERS: Mapping[str, Any] = {
    "label": Text(),
    "user": Text(),
    "since": DateTime(timezone=True),
    "until": DateTime(timezone=True),
    "context_id": Uuid(),
    "transaction": BigInteger(),
}


ARGUMENTS = (
    *("table", "key", "label", "user", "text", "period", "since", "until", "context"),
)
"""The fields of the form of filters, which are arguments of the pages that have it."""

PERIODS = {"today": "today", "week": "the last 7 days", "month": "this month"}
"""The values of the field ``period``, with what they are called."""


@dataclass(frozen=True)
class FilterForm:
    """The form of filters, as somebody has filled it in.

    :param given: what was typed in the fields that are not empty.
    :param filters: the filters that could be read.
    :param errors: what is wrong with the other fields.
    :param times: the fields that are times, in UTC.
    :param status: the status of HTTP of a page with the form.
    """

    given: Mapping[str, str]
    filters: Filters
    errors: Mapping[str, str]
    times: Mapping[str, datetime.datetime]
    status: int

    @classmethod
    def of(
        cls,
        request: PageRequest,
        trackings: Sequence[Tracking],
        now: datetime.datetime,
    ) -> FilterForm:
        """Return the form that a request has, in its arguments.

        :param trackings: all that is shown.
        :param now: the time, with a time zone.
        """
        typed = {name: request.argument(name) for name in ARGUMENTS}
        given = {name: text for name, text in typed.items() if text is not None}
        values: dict[str, Any] = {}
        errors: dict[str, PageError] = {}
        for name, text in given.items():
            try:
                values[name] = _read(name, text, trackings, now)
            except PageError as error:
                errors[name] = error
        times: dict[str, Any] = {
            n: values[n] for n in ("since", "until") if n in values
        }
        begin = values.pop("period", None)
        values["since"] = max(filter(None, (begin, values.get("since"))), default=None)
        return cls(
            given,
            Filters(**values),
            {name: error.message for name, error in errors.items()},
            times,
            max((error.status for error in errors.values()), default=200),
        )

    def arguments(self, **others: str | None) -> dict[str, list[str]]:
        """Return the arguments of an address with these filters.

        :param others: other values of fields; None to leave a field out.
        """
        merged = {**self.given, **others}
        return {name: [text] for name, text in merged.items() if text is not None}


def _read(
    name: str, text: str, trackings: Sequence[Tracking], now: datetime.datetime
) -> Any:
    """Return the value of a field.

    :raises PageError: it cannot be read.
    """
    if name == "table":
        try:
            return tracking_of(trackings, text)
        except NotFound as error:
            raise NotFound(f"There is no such model: {text!r}") from error
    if name == "context":
        key, sign, value = text.partition("=")
        if not sign:
            raise BadRequest(
                f"Write a key, = and its value, such as method=POST, not {text!r}"
            )
        return key.strip(), value.strip()
    if name == "period":
        return _begin_of(text, now)
    return as_time(text) if name in ("since", "until") else text


def _begin_of(period: str, now: datetime.datetime) -> datetime.datetime:
    """Return when a period began that ends now; days are those of UTC."""
    today = now.astimezone(datetime.timezone.utc).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    begins = {
        "today": today,
        "week": today - datetime.timedelta(days=6),
        "month": today.replace(day=1),
    }
    if period not in begins:
        raise BadRequest(f"There is no such period: {period!r}")
    return begins[period]


def tracking_of(trackings: Sequence[Tracking], table: str) -> Tracking:
    """Return the tracking with an event table.

    :param table: the full name of the event table.
    :raises NotFound: there is none.
    """
    for tracking in trackings:
        if tracking.event_table.fullname == table:
            return tracking
    raise NotFound


def as_time(text: str) -> datetime.datetime:
    """Return a time that was given as text, in UTC; so is one without a time zone.

    :raises BadRequest: it is none.
    """
    try:
        time = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
        if time.tzinfo is None:
            return time.replace(tzinfo=datetime.timezone.utc)
        return time.astimezone(datetime.timezone.utc)
    except (ValueError, OverflowError) as error:
        raise BadRequest(
            f"Write a time such as 2026-01-31 or 2026-01-31T13:30, not {text!r}"
        ) from error


def _has_key(tracking: Tracking, key: str) -> ColumnElement[bool]:
    """Return the criterion for events of the row with a key, given as text."""
    columns = key_columns(tracking.tracked_columns, tracking.event_table)
    texts = [key] if len(columns) == 1 else _texts(key)
    if not columns or len(texts) != len(columns):
        return literal(False)
    return and_(
        *(_is(column, text) for column, text in zip(columns, texts, strict=True))
    )


def _texts(key: str) -> list[str]:
    """Return the parts of a key of several columns, none if it is not such a key."""
    try:
        parts = json.loads(key, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        return []
    if not isinstance(parts, list):
        return []
    return [part if isinstance(part, str) else json.dumps(part) for part in parts]


def _is(column: Column[Any], text: str) -> ColumnElement[bool]:
    """Return the criterion for a column that has the value with this text.

    A list over all models has keys of several types, so what is none of a type must
    not become an error of the database. Types whose values cannot be told here, such as
    dates, are compared as text, which uses no index.
    """
    kind = column.type
    if isinstance(kind, Integer):
        return _equals(column, _integer(text), BigInteger())
    if isinstance(kind, Numeric) and not isinstance(kind, Float):
        return _equals(column, _decimal(text), Numeric())
    if isinstance(kind, Uuid) and kind.native_uuid:
        return _equals(column, _uuid(text), kind)
    if isinstance(kind, String) and not isinstance(kind, Enum):
        # Longer ones would be cut.
        fits = kind.length is None or len(text) <= kind.length
        return _equals(column, text if fits else None, kind if kind.length else Text())
    return sql_cast(column, Text) == text


def _equals(column: Column[Any], text: str | None, kind: Any) -> ColumnElement[bool]:
    if text is None:
        return literal(False)
    return column == sql_cast(literal(text, Text), kind)


def _integer(text: str) -> str | None:
    """Return an integer as PostgreSQL reads it, None if the text is none."""
    try:
        number = int(text)
    except ValueError:
        return None
    is_bigint = text.isascii() and -(2**63) <= number < 2**63
    return str(number) if is_bigint else None


def _decimal(text: str) -> str | None:
    """Return a number as PostgreSQL reads it, None if the text is none."""
    try:
        number = decimal.Decimal(text)
    except decimal.InvalidOperation:
        return None
    if not text.isascii() or not number.is_finite():
        return "NaN" if number.is_qnan() else None
    # https://www.postgresql.org/docs/current/datatype-numeric.html
    exponent = cast("int", number.as_tuple().exponent)
    return str(number) if number.adjusted() < 131072 and exponent >= -16383 else None


def _uuid(text: str) -> str | None:
    """Return a UUID as PostgreSQL reads it, None if the text is none."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None


def has_text(
    tracking: Tracking, hidden: AbstractSet[str], text: str
) -> ColumnElement[bool]:
    """Return the criterion for events that have a text, in any case of its letters.

    It is looked for in each value, as PostgreSQL writes it, and in the metadata of the
    context. No index helps, so the events have to be few.

    :param hidden: the attributes whose values are not looked at, so that nobody learns
        whether a guess is right.
    """
    events = tracking.event_table
    pattern = like(text)
    values = [
        events.c[column.name]
        for attribute, column in tracking.tracked_columns.by_attribute.items()
        if attribute not in hidden and column.name in events.c
    ]
    texts = [sql_cast(c, Text) for c in values if not isinstance(c.type, LargeBinary)]
    texts.append(sql_cast(tracking.context_storage.metadata_of(events), Text))
    return or_(*(value.ilike(pattern) for value in texts))


def event_criteria(
    filters: Filters,
    hidden: Callable[[Tracking], AbstractSet[str]],
    before: int | None,
    oldest: int | None,
) -> Callable[[EventSource], Iterator[ColumnElement[bool]]]:
    """Return the criteria for events, the text of a filter among them.

    :param hidden: returns the attributes of a tracked table that are never shown.
    :param before: the number that the events' numbers are smaller than.
    :param oldest: the smallest number that they may have.
    """

    def criteria(source: EventSource) -> Iterator[ColumnElement[bool]]:
        number = source.tracking.event_table.c.pgh_id
        yield from filters.criteria_with_contexts(source)
        if before is not None:
            yield number < before
        if oldest is not None:
            yield number >= oldest
        if filters.text is not None:
            yield has_text(source.tracking, hidden(source.tracking), filters.text)

    return criteria


def like(text: str) -> Any:
    """Return the pattern of what has a text."""
    return bindparam(None, f"%{_LIKE.sub(_escaped, text)}%", Text, unique=True)


_LIKE = re.compile(r"[\\%_]")


def _escaped(match: re.Match[str]) -> str:
    return f"\\{match[0]}"


def _has(key: str, value: str) -> Callable[[Any], ColumnElement[bool]]:
    """Return what makes the criterion of metadata that has a value."""

    def criterion(metadata: Any) -> ColumnElement[bool]:
        found: ColumnElement[bool] = metadata[key].astext == value
        return found

    return criterion
