"""The command ``as-of``: the rows of a model as they were."""

from __future__ import annotations

import csv as csv_format
import datetime
import sys
from collections.abc import Sequence

from sqlalchemy.orm import Session

from sa_history.cli.command import Database
from sa_history.cli.keys import texts_of_one_key
from sa_history.cli.output import printable, table_lines
from sa_history.cli.times import local, time_of
from sa_history.exc import CommandError
from sa_history.query.event_search import key_from_texts
from sa_history.query.past_rows import first_event_time, past_rows
from sa_history.query.time_travel import as_of as as_of_block
from sa_history.tracking.events import trackings_of
from sa_history.tracking.value_text import as_json, as_line, as_text


def as_of(
    database: Database,
    time: str,
    key: Sequence[str],
    id: Sequence[str],
    limit: int | None,
    csv: bool,
    json: bool,
) -> int:
    """Print the rows of a model as they were.

    :param time: the time, as text.
    :param key: the primary key of a row.
    :param id: the primary key in place of that; all rows if both are empty.
    :param limit: the greatest number of rows.
    :param csv: print CSV.
    """
    if csv and json:
        raise CommandError("as-of got both --csv and --json; give one of them")
    moment = time_of(time)
    row_key = None
    texts = texts_of_one_key("as-of", database.model, key, id)
    if texts:
        with Session(database.engine) as session:
            row_key = key_from_texts(session, database.model, texts)
    statement = past_rows(database.model, row_key, limit)
    with as_of_block(database.engine, moment) as past:
        result = past.execute(statement)
        names, found = list(result.keys()), result.all()
        if json:
            for row in found:
                database.print_json(**dict(zip(names, map(as_json, row), strict=True)))
        elif csv:
            writer = csv_format.writer(sys.stdout, lineterminator="\n")
            writer.writerow(names)
            for row in found:
                writer.writerow(["" if v is None else as_text(v) for v in row])
        else:
            rows = [[printable(as_line(value)) for value in row] for row in found]
            print(*table_lines(list(map(printable, names)), rows), sep="\n")
    if not found:
        _tell_start(database, moment)
    return 0


def _tell_start(database: Database, moment: datetime.datetime) -> None:
    """Say so if there are no rows because there are no events of that time."""
    with Session(database.engine) as session:
        first = first_event_time(session, database.model)
    if first is None or moment < first:
        name = printable(trackings_of(database.model)[0].subject)
        if first is None:
            message = f"{name} has no events, so what rows there were is not known"
        else:
            message = (
                f"the first event of {name} is of {local(first)}; what rows there were "
                "before is not known"
            )
        print(message, file=sys.stderr)
