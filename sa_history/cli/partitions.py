"""The command ``partitions``."""

from __future__ import annotations

import datetime
from typing import Any

from sa_history.cli.command import Database
from sa_history.cli.output import YELLOW, colored, printable
from sa_history.install import api as installation
from sa_history.install.partition_steps import PartitionReport


def partitions(
    database: Database,
    keep: str | None,
    without_last_events: bool,
    without_archive: bool,
    convert: bool,
    dry_run: bool,
    json: bool,
) -> int:
    """End partitions in time, remove old ones, and print what was done.

    :param keep: for how long events are kept; None to remove none.
    :param without_last_events: True to keep nothing of events that are removed.
    :param without_archive: True to remove also what is not in an archive.
    :param convert: True to give event tables partitions that have none yet.
    :param dry_run: True to only print what would be done first.
    """
    reports = installation.partitions(
        database.engine,
        *database.metadatas,
        keep=keep,
        keep_last_events=not without_last_events,
        without_archive=without_archive,
        convert=convert,
        dry_run=dry_run,
    )
    if not reports and not json:
        print("no event table has partitions")
    for report in reports:
        if json:
            database.print_json(**_as_json(report))
            continue
        print(printable(report.table))
        for step in report.done:
            print(f"  {printable(step)}")
        for step in report.postponed:
            print(f"  {colored('later:', YELLOW)} {printable(step)}")
        if not report.done and not report.postponed:
            print("  nothing to do")
    return 0


def _as_json(report: PartitionReport) -> dict[str, Any]:
    return {
        "table": report.table,
        "done": list(report.done),
        "postponed": list(report.postponed),
        "partitions": [
            {
                "name": partition.name.name,
                "from": partition.lower,
                "to": partition.upper,
                "since": _as_text(partition.since),
                "until": _as_text(partition.until),
            }
            for partition in report.partitions
        ],
    }


def _as_text(time: datetime.datetime | None) -> str | None:
    return None if time is None else time.isoformat()
