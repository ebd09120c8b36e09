"""A process that runs workloads with one subject; the runner starts it.

It reads a command from each line of its input, and prints JSON lines: what was
measured, and at last ``{"done": true}`` or ``{"failed": ...}``. Every subject has a
process of its own, since many of them change SQLAlchemy for the whole process.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
import traceback
from dataclasses import asdict
from typing import Any

from sqlalchemy import make_url
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


def startup(where: str, url: str, models: int) -> list[Measure]:
    """Import a library, map models and create their tables, in a new process."""
    declarative_base().registry.configure()
    begun = time.perf_counter()
    cls = load(where)
    imported = time.perf_counter()
    subject = cls(make_url(url))
    ready = time.perf_counter()
    # A registry holds its classes weakly; they have to be here until the end.
    classes = [
        subject.declare(f"model_{number}", columns.item()) for number in range(models)
    ]
    subject.item = classes[0]  # any of them leads to the MetaData
    subject.configure()
    mapped = time.perf_counter()
    subject.fresh()
    connected = time.perf_counter()
    subject.create()
    created = time.perf_counter()
    subject.close()
    return [
        Measure("import", imported - begun, "s"),
        Measure(f"map {models} models", mapped - ready, "s"),
        Measure(f"create_all of {models} models", created - connected, "s"),
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])
