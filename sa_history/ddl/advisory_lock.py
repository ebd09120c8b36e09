"""The lock that lets one process at a time change what is installed in a database."""

from __future__ import annotations

from sqlalchemy import BigInteger, Connection, cast, func, select

# "sa_histo" in ASCII, a number that no other program is likely to use.
KEY = 0x73615F686973746F


def wait_for_turn(connection: Connection) -> None:
    """Wait until no other process holds the lock; the transaction's end releases it.

    https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
    """
    key = cast(KEY, BigInteger)
    connection.execute(select(func.pg_advisory_xact_lock(key)))
