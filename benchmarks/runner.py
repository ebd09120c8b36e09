"""Run workloads with all subjects in turns, on one server."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import IO, Any

import psycopg

from benchmarks.measures import Measure, Scale, Series
from benchmarks.subjects import Entry
from sa_history.testing import PgServer

STARTUP = "startup"


class Failure(Exception):
    """A subject could not do a workload."""


class Worker:
    """A process with a subject, and its database."""

    def __init__(
        self, server: PgServer, database: str, entry: Entry, log: IO[Any]
    ) -> None:
        self._server = server
        self._database = database
        server.drop_database(database)
        url = server.create_database(database)
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.worker", entry.where),
                url.render_as_string(hide_password=False),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
            cwd=entry.checkout,  # where Python looks for modules first
        )

    def run(self, **command: Any) -> list[Measure]:
        """Return what a command measured."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        measures = []
        try:
            print(json.dumps(command), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise Failure("its process has ended") from None
        for line in self._process.stdout:
            answer = json.loads(line)
            if "done" in answer:
                return measures
            if "failed" in answer:
                raise Failure(answer["failed"])
            measures.append(Measure(**answer))
        raise Failure("its process has ended")

    def close(self) -> None:
        """End the process, and drop the database."""
        self._process.communicate()
        self._server.drop_database(self._database)


@dataclass
class Runner:
    """Runs workloads, and collects what they measure.

    :param server: where every subject gets a database.
    :param subjects: by name.
    :param models: how many models to map, for the start of a program.
    :param prefix: of the names of databases.
    :param log: takes what the processes say.
    :param progress: is told what runs.
    """

    server: PgServer
    subjects: dict[str, Entry]
    scale: Scale
    rounds: int
    models: Sequence[int]
    prefix: str
    log: IO[Any]
    progress: Callable[[str], None]
    series: dict[tuple[str, str, str, bool], Series] = field(default_factory=dict)
    _workers: dict[str, Worker] = field(default_factory=dict)

    def run(self, workloads: Sequence[str]) -> Iterator[list[Series]]:
        """Yield the values so far, after each workload."""
        try:
            for workload in workloads:
                self._run(workload)
                yield list(self.series.values())
        finally:
            for worker in self._workers.values():
                worker.close()

    def _run(self, workload: str) -> None:
        """Run a workload in rounds.

        Each round begins with another subject, so that none is always the one that
        finds the caches as its neighbour left them.
        """
        variants = [
            (name, context)
            for name, entry in self.subjects.items()
            if workload not in entry.without
            for context in _contexts(workload, entry)
        ]
        out: set[tuple[str, bool]] = set()
        for number in range(self.rounds):
            self._checkpoint()
            start = number % len(variants) if variants else 0
            for name, context in variants[start:] + variants[:start]:
                if (name, context) in out:
                    continue
                self.progress(
                    f"{workload}, round {number + 1} of {self.rounds}: {name}"
                    f"{', context' if context else ''}"
                )
                if not self._measure(workload, name, context):
                    out.add((name, context))

    def _checkpoint(self) -> None:
        """Have what was written until now not be in the way of what comes."""
        url = self.server.url.set(drivername="postgresql").render_as_string(False)
        with (
            psycopg.connect(url, autocommit=True) as connection,
            contextlib.suppress(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute("CHECKPOINT")

    def _measure(self, workload: str, name: str, context: bool) -> bool:
        """Return whether it is worth another round."""
        try:
            if workload == STARTUP:
                measures = self._start(name)
            else:
                measures = self._worker(name).run(
                    workload=workload, context=context, scale=asdict(self.scale)
                )
        except Failure as failure:
            measures = [Measure("", None, "", note=f"fails: {failure}")]
        for measure in measures:
            key = (workload, measure.step, name, context)
            if key not in self.series:
                self.series[key] = Series(*key, measure.unit)
            self.series[key].add(measure)
        return all(measure.value is not None for measure in measures)

    def _start(self, name: str) -> list[Measure]:
        measures = []
        for models in self.models:
            worker = self._new_worker(name, "_new")
            try:
                measures += worker.run(
                    workload=STARTUP, models=models, scale=asdict(self.scale)
                )
            finally:
                worker.close()
        # It was imported each time; the last is as good as any.
        of_import = [each for each in measures if each.step.startswith("import")]
        return of_import[-2:] + [each for each in measures if each not in of_import]

    def _worker(self, name: str) -> Worker:
        if name not in self._workers:
            self._workers[name] = self._new_worker(name)
        return self._workers[name]

    def _new_worker(self, name: str, suffix: str = "") -> Worker:
        database = f"{self.prefix}_{name}{suffix}"
        return Worker(self.server, database, self.subjects[name], self.log)


def _contexts(workload: str, entry: Entry) -> Sequence[bool]:
    if entry.context and workload not in (STARTUP, "statement", "attached"):
        return (False, True)
    return (False,)
