"""The command ``diff``: what differs between two versions of a row."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from sqlalchemy.orm import Session

from sa_history.cli.command import Database
from sa_history.cli.keys import texts_of_one_key
from sa_history.cli.log import change_lines
from sa_history.cli.output import printable
from sa_history.cli.times import local, time_of
from sa_history.exc import CommandError
from sa_history.query.event_search import (
    Version,
    differences,
    first_version,
    key_from_texts,
    version_at,
)


def diff(
    database: Database,
    key: Sequence[str],
    id: Sequence[str],
    between: Sequence[str] | None,
    since: str | None,
    json: bool,
) -> int:
    """Print what differs between two versions of a row.

    :param key: the primary key of the row; empty, if ``id`` has it.
    :param id: the primary key in place of that.
    :param between: two versions, each the number of an event or a time; None for the
        first and the last.
    :param since: a time in place of ``between``, for the version of then and the last.
    """
    if between and since is not None:
        raise CommandError("diff got both --between and --since; give one of them")
    texts = texts_of_one_key("diff", database.model, key, id)
    with Session(database.engine) as session:
        row = key_from_texts(session, database.model, texts)
        after = version_at(
            session, database.model, row, _moment(between[1]) if between else None
        )
        if between or since is not None:
            moment = _moment(between[0]) if between else time_of(since or "")
            before = version_at(session, database.model, row, moment)
        else:
            before = first_version(session, database.model, row)
    if before is None and after is None:
        raise CommandError(
            f"{' '.join(texts)!r} has no event by then; sa-history log shows all of "
            "its events"
        )
    changes = differences(before, after)
    if json:
        for name, (was, now) in changes.items():
            database.print_json(attribute=name, before=was, after=now)
        return 0
    for sign, version in (("---", before), ("+++", after)):
        print(f"{sign} {printable(' '.join(texts))}{_described(version)}")
    print(*change_lines(changes), sep="\n", end="\n" if changes else "")
    return 0


def _moment(text: str) -> int | datetime.datetime:
    return int(text) if text.isdecimal() else time_of(text)


def _described(version: Version | None) -> str:
    if version is None:
        return " did not exist"
    gone = " deleted" if version.values is None else ""
    return f"{gone} event {version.number}  {local(version.time)}"
