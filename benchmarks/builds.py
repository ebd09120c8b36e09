"""Builds of this library beside each other, by the processor time that each uses.

Each build is a checkout, such as a worktree of an earlier commit. What is measured is
how long its program and the server's process work; who else uses the machine, and what
a disk takes, counts less than it does by the clock. All builds take turns, and begin
again in new processes, since one process is by some hundredths faster than the next.
Run it with ``python -m benchmarks.builds ../before``; ``DATABASE_URL`` names a server,
which has to be on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.builds_worker import LEVELS, WORKLOADS
from sa_history.testing import EmbeddedPostgres, PgServer

ROOT = Path(__file__).parent.parent

Key = tuple[str, str]
"""The level, and what was done."""
Used = tuple[float, float]
"""The microseconds of the processor that the program and the server have used."""
Measures = dict[Key, list[dict[Path, Used]]]
"""What each build has used, once for each round."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare this checkout with others, and print a table for each."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.builds",
        description="Compare the processor time of this checkout with that of others.",
    )
    parser.add_argument("before", type=Path, nargs="+", help="another checkout")
    parser.add_argument("--workloads", nargs="+", default=[*WORKLOADS])
    parser.add_argument("--levels", nargs="+", default=[*LEVELS])
    parser.add_argument("--processes", type=int, default=5, help="of each build")
    parser.add_argument("--rounds", type=int, default=5, help="in each process")
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--prefix", default="builds", help="of the names of databases")
    options = parser.parse_args(arguments)
    unknown = {*options.workloads} - {*WORKLOADS} | {*options.levels} - {*LEVELS}
    if unknown:
        parser.error(
            f"there is no {', '.join(sorted(unknown))}; there are the workloads"
            f" {', '.join(WORKLOADS)}, and the levels {', '.join(LEVELS)}"
        )
    if url := os.environ.get("DATABASE_URL"):
        measures = _measure(options, PgServer.from_url(url))
    else:
        with EmbeddedPostgres(
            shared_buffers="512MB",
            work_mem="32MB",
            max_wal_size="4GB",
            checkpoint_timeout="1h",
            autovacuum="off",
        ) as server:
            url = server.url()
            measures = _measure(options, PgServer.from_url(url, embedded=True))
    for before in options.before:
        print(*_table(measures, before.resolve()), sep="\n", end="\n\n")


class _Worker:
    """A process with a build, and its database."""

    def __init__(self, server: PgServer, name: str, build: Path, level: str) -> None:
        self._server, self._name = server, name
        server.drop_database(name)
        url = server.create_database(name).render_as_string(hide_password=False)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.builds_worker", str(build), level, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            cwd=ROOT,
        )

    def ask(self, **command: Any) -> dict[str, Used]:
        """Return what the steps of a workload used."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(command), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit("a process has ended; its error is above")
        return {step: (used[0], used[1]) for step, used in json.loads(answer).items()}

    def close(self) -> None:
        """End the process, and drop the database."""
        self._process.communicate()
        self._server.drop_database(self._name)


def _measure(options: argparse.Namespace, server: PgServer) -> Measures:
    builds = [ROOT, *(each.resolve() for each in options.before)]
    measures: Measures = {}
    for number in range(options.processes):
        for level in options.levels:
            for workload, found in _process(options, server, builds, number, level):
                print(number + 1, level, workload, file=sys.stderr, flush=True)
                for step in found[ROOT]:
                    measures.setdefault((level, step), []).append(
                        {build: used[step] for build, used in found.items()}
                    )
    return measures


def _process(
    options: argparse.Namespace,
    server: PgServer,
    builds: list[Path],
    number: int,
    level: str,
) -> Iterator[tuple[str, dict[Path, dict[str, Used]]]]:
    """Start a process for each build, and yield what all used for each workload."""
    workers: dict[Path, _Worker] = {}

    def start() -> None:
        for place, build in enumerate(builds):
            workers[build] = _Worker(server, f"{options.prefix}_{place}", build, level)

    def close() -> None:
        while workers:
            workers.popitem()[1].close()

    def ask(workload: str, turn: int) -> dict[Path, dict[str, Used]]:
        first = (number + turn) % len(builds)
        return {
            build: workers[build].ask(workload=workload, rows=options.rows)
            for build in builds[first:] + builds[:first]
        }

    rest = [each for each in options.workloads if each != "start"]
    if "start" in options.workloads:
        start()
        yield "start", ask("start", 0)
        close()
    if rest:
        start()
        for turn in range(options.rounds + 1):
            for workload in rest:
                found = ask(workload, turn)
                if turn:  # the first one is to get ready
                    yield workload, found
        close()


def _table(measures: Measures, before: Path) -> Iterator[str]:
    yield f"processor time, beside {before.name}; medians of rounds"
    yield ""
    yield (
        f"{'':56}{'program, us':>12}{'x':>7}{'server, us':>12}{'x':>7}{'both, x':>9}"
        f"{'quartiles':>14}"
    )
    for (level, step), rounds in sorted(measures.items()):
        ratios = {
            name: [
                of(each[ROOT]) / of(each[before]) for each in rounds if of(each[before])
            ]
            for name, of in _PARTS.items()
        }
        times = [
            statistics.median(each[ROOT][part] for each in rounds) for part in (0, 1)
        ]
        columns = f"{level + ': ' + step:56}"
        for part, name in enumerate(("program", "server")):
            columns += f"{times[part]:12,.1f}{_median(ratios[name])}"
        both = sorted(ratios["both"])
        lower, upper = both[len(both) // 4], both[-1 - len(both) // 4]
        yield f"{columns}  {_median(ratios['both'])}{lower:8.3f} {upper:5.3f}"


_PARTS = {"program": lambda used: used[0], "server": lambda used: used[1], "both": sum}


def _median(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):7.3f}" if ratios else f"{'':7}"


if __name__ == "__main__":
    main()
