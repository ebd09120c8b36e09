"""How long a bulk update takes: on a new connection, and after single rows.

PL/pgSQL keeps the plan of a statement that it made first, in a connection. One that was
made while a transition table held one row may be slow for many rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, text


def best_seconds(
    connect: Callable[[], Connection],
    single: str,
    bulk: str,
    *,
    clean: Sequence[str],
    singles: int,
    rounds: int,
) -> tuple[float, float]:
    """Return the seconds of the fastest bulk update: fresh, and after single rows.

    :param connect: opens a new connection, in AUTOCOMMIT.
    :param single: the update of one row, whose number is its parameter.
    :param bulk: the update of many.
    :param clean: what is executed before each bulk update, on a connection of its own,
        as it makes others plan anew.
    :param singles: how many single rows are updated before.
    :param rounds: how many bulk updates there are of each kind.
    """
    fresh: list[float] = []
    warmed: list[float] = []
    for _ in range(rounds):
        for seconds in (fresh, warmed):
            with connect() as connection:
                for statement in clean:
                    connection.execute(text(statement))
            with connect() as connection:
                driver: Any = connection.connection.driver_connection
                for number in range(singles if seconds is warmed else 0):
                    driver.execute(single, (number + 1,), prepare=True)
                # It fails, and does not hang.
                connection.execute(text("SET statement_timeout = '10s'"))
                start = time.perf_counter()
                connection.execute(text(bulk))
                seconds.append(time.perf_counter() - start)
    return min(fresh), min(warmed)
