"""One process at a time changes what is installed in a database."""

from __future__ import annotations

from sqlalchemy import BigInteger, Connection, cast, func, select

# "sa_histo" in ASCII, so that it is nobody else's.
KEY = 0x73615F686973746F


def wait_for_turn(connection: Connection) -> None:
    """Wait until no other process does; the turn ends with the transaction.

    https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
    """
    key = cast(KEY, BigInteger)
    connection.execute(select(func.pg_advisory_xact_lock(key)))
