"""A process that runs workloads with one subject; the runner starts it.

It reads a command from each line of its input, and prints JSON lines: what was
measured, and at last ``{"done": true}`` or ``{"failed": ...}``. Every subject has a
process of its own, since many of them change SQLAlchemy for the whole process.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from sqlalchemy import Engine, event, make_url
from sqlalchemy.orm import declarative_base

from benchmarks import columns
from benchmarks.measures import Measure, Scale
from benchmarks.subject import Subject
from benchmarks.workloads import WORKLOADS


def main(where: str, url: str) -> None:
    """Run the commands of the input with a subject, on a database."""
    # What libraries print goes to the log, not between our lines.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    subject: Subject | None = None

    def say(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")

    for line in sys.stdin:
        command = json.loads(line)
        scale = Scale(**command["scale"])
        try:
            if command["workload"] == "startup":
                for measure in startup(where, url, command["models"]):
                    say(**asdict(measure))
            else:
                if subject is None:
                    created = load(where)(make_url(url), scale.timeout)
                    created.setup()
                    subject = created
                    # Else one of several rounds has a collection of all that was
                    # imported: 30 ms, by chance.
                    gc.collect()
                    gc.freeze()
                workload = WORKLOADS[command["workload"]]
                for measure in workload(subject, scale, command["context"]):
                    say(**asdict(measure))
                subject.close()
            say(done=True)
        except Exception as error:
            traceback.print_exc()
            lines = str(error).splitlines() or [""]
            say(failed=f"{type(error).__name__}: {lines[0]}")
            if subject is None:
                return  # half of a setup is of no use for the next workload


def load(where: str) -> type[Subject]:
    """Return the class of a subject."""
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(f"benchmarks.{module}"), name)


class Clock:
    """Measures the steps of a start: their time, and what they use of the processor.

    A machine that is shared disturbs the time more than the use of the processor.
    """

    def __init__(self) -> None:
        self.measures: list[Measure] = []

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure a block."""
        gc.collect()
        begun, used = time.perf_counter(), time.process_time()
        yield
        used = time.process_time() - used
        self.measures += [
            Measure(name, time.perf_counter() - begun, "s"),
            Measure(f"{name}, processor", used, "s"),
        ]


def startup(where: str, url: str, models: int) -> list[Measure]:
    """Import a library, map models and create their tables, in a new process."""
    declarative_base().registry.configure()
    clock = Clock()
    with clock.step("import"):
        cls = load(where)
    subject = cls(make_url(url))
    # A registry holds its classes weakly; they have to be here until the end.
    classes: list[Any] = []
    with clock.step(f"map {models} models"):
        for number in range(models):
            classes.append(subject.declare(f"model_{number}", columns.usual()))
        subject.item = classes[0]  # any of them leads to the MetaData
        subject.configure()
    subject.fresh()
    statements = count_statements(subject.engine)
    creates = f"create_all of {models} models"
    with clock.step(creates):
        subject.create()
    clock.measures.append(
        Measure(f"{creates}, round trips", len(statements), "round trips")
    )
    for step, run in subject.comparisons().items():
        run()  # what is imported or looked up once is none of it
        with clock.step(f"{step} of {models} models"):
            run()
    if subject.drops_all:
        statements.clear()
        drops = f"drop_all of {models} models"
        with clock.step(drops):
            subject.item.metadata.drop_all(subject.engine)
        clock.measures.append(
            Measure(f"{drops}, round trips", len(statements), "round trips")
        )
    subject.close()
    return clock.measures


def count_statements(engine: Engine) -> list[str]:
    """Return a list that takes each statement of an engine, a round trip each."""
    statements: list[str] = []
    event.listen(
        engine, "before_cursor_execute", lambda *args: statements.append(args[2])
    )
    return statements


if __name__ == "__main__":
    main(*sys.argv[1:])
