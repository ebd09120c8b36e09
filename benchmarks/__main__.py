"""Run the benchmarks: all of them, or those that are named."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import psycopg

from benchmarks.measures import Scale
from benchmarks.report import Report
from benchmarks.runner import STARTUP, Runner
from benchmarks.subjects import PEERS, SUBJECTS, of_checkout
from benchmarks.workloads import WORKLOADS
from sa_history.testing import EmbeddedPostgres, PgServer

NAMES = [*WORKLOADS, STARTUP]
DURABLE = ("fsync", "synchronous_commit", "full_page_writes")
SETTINGS = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "shared_buffers",
    "work_mem",
    "jit",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run benchmarks by their names, and print and save the results."""
    options = _options(arguments)
    unknown = [name for name in options.names if name not in NAMES]
    everything = SUBJECTS | PEERS
    unknown += [name for name in options.subjects if name not in everything]
    if unknown:
        sys.exit(
            f"there is no {', '.join(unknown)}; there are the workloads"
            f" {', '.join(NAMES)}, and the subjects {', '.join(everything)}"
        )
    if url := os.environ.get("DATABASE_URL"):
        _run(options, PgServer.from_url(url))
        return
    # The server of the tests, with the memory of one that is used for work, with room
    # for what is measured, and with nothing that happens in the background.
    with EmbeddedPostgres(
        shared_buffers="512MB",
        work_mem="32MB",
        max_wal_size="4GB",
        checkpoint_timeout="1h",
        autovacuum="off",
        **(dict.fromkeys(DURABLE, "on") if options.durable else {}),
    ) as server:
        _run(options, PgServer.from_url(server.url(), embedded=True))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(NAMES)}")
    parser.add_argument(
        "--rows", type=int, default=100_000, help="of bulk statements; scales the rest"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", type=int, nargs="+", default=[100, 183, 200])
    parser.add_argument(
        "--subjects", nargs="+", default=[], help="what to measure, instead of all"
    )
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument(
        "--beside",
        type=Path,
        help="another checkout, whose build of our subjects is measured as well",
    )
    parser.add_argument(
        "--timeout", type=int, default=60, help="of a statement, in seconds"
    )
    parser.add_argument(
        "--delay", type=int, default=10, help="of a distant server, in milliseconds"
    )
    parser.add_argument(
        "--durable", action="store_true", help="sync each commit, as servers do"
    )
    parser.add_argument(
        "--prefix", default="bench", help="of the names of the databases"
    )
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace, server: PgServer) -> None:
    subjects = SUBJECTS if options.no_peers else SUBJECTS | PEERS
    if options.subjects:
        wanted = {"untracked", *options.subjects}
        subjects = {k: v for k, v in (SUBJECTS | PEERS).items() if k in wanted}
    if options.beside is not None:
        subjects = subjects | of_checkout(subjects, options.beside.resolve())
    for entry in subjects.values():
        if entry.version is None:
            _progress(f"{entry.label} is left out: {entry.distribution} is missing")
    options.output.mkdir(parents=True, exist_ok=True)
    with (options.output / "log.txt").open("w") as log:
        runner = Runner(
            server,
            {name: entry for name, entry in subjects.items() if entry.version},
            Scale(options.rows, options.timeout, options.delay),
            options.rounds,
            options.models,
            options.prefix,
            log,
            _progress,
        )
        asked = {key: str(value) for key, value in vars(options).items()}
        settings = _settings(server)
        for series in runner.run(options.names or NAMES):
            # After each workload, so that a run can be ended before its time.
            report = Report(series, runner.subjects, settings, asked)
            _save(report, options.output)
    print(report.table())
    _progress(f"the results are in {options.output}")


def _save(report: Report, directory: Path) -> None:
    (directory / "results.txt").write_text(report.table(), encoding="utf-8")
    (directory / "results.json").write_text(report.json(), encoding="utf-8")
    with contextlib.suppress(ImportError):  # matplotlib may be missing
        report.pictures(directory)


def _settings(server: PgServer) -> dict[str, str]:
    url = server.url.set(drivername="postgresql").render_as_string(False)
    with psycopg.connect(url) as connection:
        return {
            name: connection.execute(f"SHOW {name}").fetchone()[0] for name in SETTINGS
        }


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
