"""The drivers that contexts know, and which of them has a connection."""

from __future__ import annotations

from typing import Any

from sa_history.contexts.drivers.base import Driver
from sa_history.contexts.drivers.sqlalchemy_events import EventsDriver


def _drivers() -> tuple[Driver, ...]:
    """Return psycopg's, unless psycopg finds no libpq and cannot be imported.

    The library has to be importable then, for another driver, and for its commands to
    say what is missing.
    """
    try:
        from sa_history.contexts.drivers.psycopg.driver import PsycopgDriver
    except ImportError:
        return ()
    return (PsycopgDriver(),)


DRIVERS = _drivers()
"""The drivers that send settings by means of their own."""

OTHERS = EventsDriver([dialect for driver in DRIVERS for dialect in driver.dialects])
"""What serves every other driver."""


def driver_of(connection: Any) -> Driver:
    """Return what serves a connection; also one to another database.

    :param connection: the driver's connection, as SQLAlchemy's pool has it.
    """
    for driver in DRIVERS:
        if isinstance(connection, driver.connections):
            return driver
    return OTHERS
