"""The command ``size``."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from sa_history.cli.command import Database
from sa_history.cli.output import printable, table_lines
from sa_history.install import api as installation
from sa_history.install.sizes import EventTableSize, RelationSize, human


def size(database: Database, keep: str | None, json: bool) -> int:
    """Print how large event tables are, and what could be removed.

    :param keep: for how long events would be kept; None to tell of no removal.
    """
    sizes = installation.size(database.engine, *database.metadatas, keep=keep)
    if json:
        for each in sizes:
            database.print_json(**each.as_json(keep is not None))
        return 0
    header = ["table", "events", "size", "oldest", "newest", "a month"]
    if keep is not None:
        header.append(f"beyond {keep}")
    rows = [row for each in sizes for row in _rows(each, keep is not None)]
    for line in table_lines(header, rows):
        print(line)
    return 0


def _rows(table: EventTableSize, tells_of_removal: bool) -> Iterator[list[str]]:
    growth = "" if table.bytes_a_month is None else f"+{human(table.bytes_a_month)}"
    total = [*_cells(table.name, table), growth]
    yield total + ([human(table.removed_bytes)] if tells_of_removal else [])
    if table.is_partitioned:
        for relation in table.relations:
            cells = [*_cells(f"  {relation.name}", relation), ""]
            removed = human(relation.bytes) if relation.is_removed else ""
            yield cells + ([removed] if tells_of_removal else [])


def _cells(name: str, sized: EventTableSize | RelationSize) -> list[str]:
    return [
        printable(name),
        f"{sized.rows:,}",
        human(sized.bytes),
        _day(sized.oldest),
        _day(sized.newest),
    ]


def _day(time: datetime.datetime | None) -> str:
    return "" if time is None else f"{time:%Y-%m-%d}"
