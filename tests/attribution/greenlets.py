"""The workers as greenlets of gevent: ``greenlets.py URL WRITES``."""

# ruff: noqa: E402

from gevent import monkey

monkey.patch_all()

import sys
from collections.abc import Callable

import gevent
from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import DeclarativeBase
from workload import Plan, Worker, entries, live, record


class Base(DeclarativeBase):
    """The base of the model."""


def be_stoppable(worker: Worker) -> Worker:
    """Have a worker be stopped now and then in a statement."""

    def interrupt(function: Callable[[], None]) -> bool:
        with gevent.Timeout(worker.luck.random() / 200, False):
            function()
            return False
        return True

    worker.interrupt = interrupt
    return worker


def main(url: str, writes: str) -> None:
    """Run the workers, and put down what they have written."""
    plan = Plan(workers=50, writes=int(writes) // 50, connections=4)
    engine = create_engine(url, **plan.options)
    workers = plan.make(entries(Base, "statement"))
    greenlets = [gevent.spawn(live, be_stoppable(worker), engine) for worker in workers]
    gevent.joinall(greenlets, raise_error=True)
    engine.dispose()
    record(make_url(url), workers)


if __name__ == "__main__":
    main(*sys.argv[1:])
