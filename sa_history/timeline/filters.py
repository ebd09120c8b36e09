"""Which events of the timeline are shown, and what that is in SQL."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    Enum,
    Float,
    Integer,
    Numeric,
    String,
    Text,
    Uuid,
    and_,
    bindparam,
    literal,
)
from sqlalchemy import cast as sql_cast

from sa_history.capture.event_table import key_columns
from sa_history.query.sources import EventSource
from sa_history.timeline.requests import PageRequest
from sa_history.timeline.responses import BadRequest, NotFound
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
    context_id: uuid.UUID | None = None
    transaction: int | None = None

    @classmethod
    def of(cls, request: PageRequest, trackings: Sequence[Tracking]) -> Filters:
        """Return the filters of the form on the first page.

        :param request: the request, with the fields of the form as arguments.
        :param trackings: all that is shown.
        :raises BadRequest: a value cannot be read.
        :raises NotFound: there is no such event table.
        """
        given = request.argument
        table, pair = given("table"), given("context")
        if pair is not None and "=" not in pair:
            raise BadRequest("context is key=value")
        key, _, value = (pair or "").partition("=")
        return cls(
            table=None if table is None else tracking_of(trackings, table),
            key=given("key"),
            label=given("label"),
            user=given("user"),
            since=as_time("since", given("since")),
            until=as_time("until", given("until")),
            context=None if pair is None else (key.strip(), value.strip()),
        )

    def shape(self) -> tuple[Any, ...] | None:
        """Return what tells the criteria from those of other filters with parameters.

        :return: None if they depend on values.
        """
        if self.key is not None or self.context_id is not None:
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
        """Yield the criteria that events of a table meet."""
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
        if self.context_id is not None:
            storage = tracking.context_storage
            yield storage.is_within(tracking.event_table, self.context_id)
        if self.user is not None:
            yield _context_has(tracking, "user", self.user)
        if self.context is not None:
            yield _context_has(tracking, *self.context)


_PARAMETERS: Mapping[str, Any] = {
    "label": Text(),
    "user": Text(),
    "since": DateTime(timezone=True),
    "until": DateTime(timezone=True),
    "transaction": BigInteger(),
}


ARGUMENTS = ("table", "key", "label", "user", "since", "until", "context")
"""The arguments of the list of events that :meth:`Filters.of` reads."""


def tracking_of(trackings: Sequence[Tracking], table: str) -> Tracking:
    """Return the tracking with an event table.

    :param table: the full name of the event table.
    :raises NotFound: there is none.
    """
    for tracking in trackings:
        if tracking.event_table.fullname == table:
            return tracking
    raise NotFound


def as_time(name: str, text: str | None) -> datetime.datetime | None:
    """Return a time that was given as text; without a time zone it is UTC.

    :raises BadRequest: it is none.
    """
    if text is None:
        return None
    try:
        time = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise BadRequest(f"{name} is no time: {text!r}") from error
    return time if time.tzinfo else time.replace(tzinfo=datetime.timezone.utc)


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


def _context_has(tracking: Tracking, key: str, value: str) -> ColumnElement[bool]:
    return tracking.context_storage.metadata_meets(
        tracking.event_table, lambda metadata: metadata[key].astext == value
    )
