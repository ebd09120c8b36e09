"""The command ``archive``."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import MetaData

from sa_history.archiving.archive import ArchiveProgress, ArchiveReport
from sa_history.archiving.archive import archive as write_archive
from sa_history.archiving.manifest import ArchivedPart
from sa_history.cli.command import FOUND, Database
from sa_history.cli.output import GREEN, RED, YELLOW, colored, printable
from sa_history.cli.progress import ProgressLine
from sa_history.install.sizes import human
from sa_history.tracking.registry import trackings_in
from sa_history.util.messages import counted


def archive(
    database: Database,
    to: str,
    older_than: str | None,
    drop: bool,
    open: bool,
    verify: bool,
    json: bool,
) -> int:
    """Archive closed partitions, and print what was done.

    :param to: the folder of the archive.
    :param older_than: how old events are that are archived; None for any.
    :param drop: True to remove from the database what is archived.
    :param open: True to write what is not closed, too.
    :param verify: True to compare all files.
    """
    with ProgressLine("archive") as line:

        def show(progress: ArchiveProgress) -> None:
            written = f"{progress.rows:,} rows, {human(progress.bytes)}"
            part = progress.done / progress.total if progress.total else None
            line.show(f"{printable(progress.table)}: {written}", part)

        reports = write_archive(
            database.engine,
            *database.metadatas,
            to=to,
            older_than=older_than,
            drop=drop,
            open=open,
            verify=verify,
            progress=show if line.is_shown else None,
        )
    for report in reports:
        if json:
            database.print_json(**_as_json(report))
        else:
            _print(report)
    return FOUND if any(report.problems for report in reports) else 0


def has_partitions(metadata: MetaData) -> bool:
    """Return True if events of a MetaData have partitions."""
    return any(t.options.partition_by is not None for t in trackings_in(metadata))


def _print(report: ArchiveReport) -> None:
    print(printable(report.table))
    still_open = () if report.open is None else (report.open,)
    for part in (*report.archived, *still_open):
        print(f"  {printable(part.path)}: {part.rows:,} rows, {human(part.bytes)}")
    for step in report.dropped:
        print(f"  {printable(step)}")
    for step in report.postponed:
        print(f"  {colored('later:', YELLOW)} {printable(step)}")
    for problem in report.problems:
        print(f"  {colored('wrong:', RED)} {printable(problem)}")
    if report.verified:
        rows = sum(part.rows for part in report.verified)
        files = f"{counted(len(report.verified), 'file')}, {rows:,} rows"
        print(f"  {colored(f'{files}: as they were written', GREEN)}")
    if report == ArchiveReport(report.table, report.folder):
        print("  nothing to do")


def _as_json(report: ArchiveReport) -> dict[str, object]:
    return {
        "table": report.table,
        "folder": report.folder,
        "archived": [_part_as_json(part) for part in report.archived],
        "open": None if report.open is None else _part_as_json(report.open),
        "dropped": list(report.dropped),
        "postponed": list(report.postponed),
        "problems": list(report.problems),
        "verified": [part.path for part in report.verified],
    }


def _part_as_json(part: ArchivedPart) -> dict[str, object]:
    fields = asdict(part)
    return {name: value for name, value in fields.items() if name != "columns"}
