"""Run the benchmarks: all of them, or those that are named."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys

from sqlalchemy import create_engine, make_url

import benchmarks
from sa_history.testing import EmbeddedPostgres

NOT_BENCHMARKS = {"__main__", "harness"}


def main(names: list[str]) -> None:
    """Run benchmarks by their modules' names, and print the results."""
    known = sorted(
        module.name
        for module in pkgutil.iter_modules(benchmarks.__path__)
        if module.name not in NOT_BENCHMARKS
    )
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}; there is {', '.join(known)}")
    if url := os.environ.get("DATABASE_URL"):
        _run(names or known, url)
    else:
        with EmbeddedPostgres() as server:
            _run(names or known, server.url())


def _run(names: list[str], url: object) -> None:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))  # type: ignore[arg-type]
    for name in names:
        print(importlib.import_module(f"benchmarks.{name}").run(engine), flush=True)
    engine.dispose()


if __name__ == "__main__":
    main(sys.argv[1:])
