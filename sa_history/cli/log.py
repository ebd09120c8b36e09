"""The command ``log``: the history of a row, or of all, as ``git log -p`` shows it."""

from __future__ import annotations

import json as json_format
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from sa_history._types import Op
from sa_history.cli.command import Database
from sa_history.cli.keys import texts_of_keys
from sa_history.cli.output import GREEN, RED, YELLOW, colored, printable
from sa_history.cli.times import local, time_of
from sa_history.exc import CommandError
from sa_history.query.aggregate import AggregateRow
from sa_history.query.event_search import (
    EventSearch,
    in_order,
    key_from_texts,
)
from sa_history.timeline.entries import Entry, Masks, ShownTable
from sa_history.tracking.completeness import GONE
from sa_history.tracking.registry import Tracking
from sa_history.tracking.value_text import MAX_LENGTH, as_text, as_texts_that_differ

_USER = "user"
"""The key of a context that says who made a change."""


def log(
    database: Database,
    key: Sequence[str],
    id: Sequence[str],
    user: str | None,
    context: Sequence[str],
    transaction: int | None,
    since: str | None,
    until: str | None,
    limit: int | None,
    json: bool,
) -> int:
    """Print events, the newest first.

    :param key: the primary key of a row.
    :param id: the keys of more rows; all rows if there is no key at all.
    :param user: the value of the key ``user`` of the context.
    :param context: further keys and values, as ``key=value``.
    :param transaction: the number of a transaction.
    :param since: the earliest time, as text.
    :param until: the time before which events are printed, as text.
    :param limit: the greatest number of events.
    """
    pairs = [_pair(text) for text in context]
    if user is not None:
        pairs.append((_USER, user))
    times = [None if text is None else time_of(text) for text in (since, until)]
    is_empty = True
    with Session(database.engine) as session:
        for targets in _targets(session, database, key, id):
            search = EventSearch(targets, pairs, times[0], times[1], transaction)
            for tracking, row in search.rows(session, limit):
                entry = Entry.of(row, ShownTable.of(tracking, Masks().of(())), _user)
                if json:
                    database.print_json(**entry.as_json())
                else:
                    print(*_lines(tracking, row, entry), "", sep="\n")
                is_empty = False
    if is_empty and not json:
        # A configuration may have several databases, of which others have events.
        print(f"{', '.join(database.targets)}: no event was found", file=sys.stderr)
    return 0


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise CommandError(
            f"--context takes a key and its value, got {text!r}; write --context "
            f"{text}=value"
        )
    return key, value


def _targets(
    session: Session, database: Database, key: Sequence[str], ids: Sequence[str]
) -> Iterator[list[Any]]:
    """Yield targets for a search, of one MetaData each."""
    model = database.model
    if model is None and (key or ids):
        raise CommandError(
            f"{' '.join([*key, *ids])!r} is the key of a row, of which the model is "
            "not given; name the class in place of the base"
        )
    if model is not None:
        keys = texts_of_keys(model, key, ids)
        rows = [(model, key_from_texts(session, model, texts)) for texts in keys]
        yield rows or [model]
    else:
        for metadata in database.metadatas:
            yield [metadata]


def _lines(tracking: Tracking, row: AggregateRow, entry: Entry) -> Iterator[str]:
    """Yield the lines of an event."""
    what = " ".join([entry.model, *_key(tracking, row), entry.operation])
    yield f"{colored(f'event {entry.id}', YELLOW)} {printable(what)}"
    if entry.who is not None:
        yield f"User:        {printable(entry.who)}"
    yield f"Date:        {local(entry.time)}"
    yield f"Label:       {printable(entry.label)}"
    yield f"Transaction: {entry.transaction}"
    for name, value in entry.context.items():
        if name != _USER:
            yield printable(f"Context:     {name}={as_text(value)}")
    changes = list(change_lines(in_order(tracking, _changes(row))))
    if changes:
        yield ""
        yield from (f"    {line}" for line in changes)


def _key(tracking: Tracking, row: AggregateRow) -> Iterator[str]:
    """Yield the values of the row's key, as a shell takes them."""
    texts = [] if row.pgh_obj_id is None else [row.pgh_obj_id]
    if texts and len(tracking.tracked_columns.key) > 1:
        texts = [
            value if isinstance(value, str) else json_format.dumps(value)
            for value in json_format.loads(texts[0], parse_int=str, parse_float=str)
        ]
    yield from map(shlex.quote, texts)


def _user(metadata: Mapping[str, Any]) -> str | None:
    """Return the user of a context as text."""
    user = metadata.get(_USER)
    return None if user is None else as_text(user)


def _changes(row: AggregateRow) -> Mapping[str, Sequence[Any]]:
    """Return the values before and after an event, None where there was no row."""
    if row.pgh_op in GONE:
        return {name: (value, None) for name, value in row.pgh_data.items()}
    if row.pgh_diff is None and row.pgh_op != Op.MANUAL:
        return {name: (None, value) for name, value in row.pgh_data.items()}
    return row.pgh_diff or {}


def change_lines(changes: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """Yield lines that show values before and after, as a diff does.

    :param changes: the two values by attribute; no line is about one that is None.
    """
    for name, (before, after) in changes.items():
        texts = as_texts_that_differ(before, after, MAX_LENGTH)
        signs = (("-", RED, before), ("+", GREEN, after))
        for text, (sign, color, value) in zip(texts, signs, strict=True):
            if value is not None:
                yield colored(printable(f"{sign}{name}: {text}"), color)
