"""The command ``baseline``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from sa_history.cli.command import Database
from sa_history.cli.output import printable
from sa_history.cli.progress import ProgressLine
from sa_history.tracking.registry import trackings_in
from sa_history.writing.baseline import baseline as write_baseline
from sa_history.writing.baseline import rows_without_events


def baseline(database: Database, tables: Sequence[str], batch: int, json: bool) -> int:
    """Give rows without an event their first one, and print how many.

    :param tables: the names of tracked tables; all, if there are none. Those that are
        in another database are left out.
    :param batch: rows in a transaction.
    """
    for tracking in trackings_in(*database.metadatas):
        table, events = tracking.table, tracking.options.events
        if tables and table.fullname not in tables:
            continue
        name = printable(tracking.event_table.fullname)
        total = partial(rows_without_events, database.engine, table, events=events)
        with ProgressLine(name, total) as progress:
            written = write_baseline(
                database.engine,
                table,
                events=events,
                batch=batch,
                progress=progress.update,
            )
        if json:
            database.print_json(
                table=table.fullname,
                event_table=tracking.event_table.fullname,
                events=written,
            )
        else:
            print(f"{name}: {written} first events")
    return 0
