"""The statement that tells a connection the blocks in force."""

from __future__ import annotations

from collections.abc import Iterable

from sa_history.sql.compose import quote_literal
from sa_history.sql.naming import (
    CONTEXT_ID,
    CONTEXT_METADATA,
    CONTEXT_PARENT_ID,
    IGNORED,
)

SETTING_NAMES = (CONTEXT_ID, CONTEXT_METADATA, CONTEXT_PARENT_ID, IGNORED)
"""The settings, in the order in which their values are given."""

SET_CONFIG = "SELECT " + ", ".join(
    f"set_config('{name}', %s, true)" for name in SETTING_NAMES
)
"""Sets them until the transaction ends, with the parameters of psycopg."""

_SET_LOCAL = tuple(f"; SET LOCAL {name} = " for name in SETTING_NAMES)


def begin(
    isolation_level: str | None,
    read_only: bool | None,
    deferrable: bool | None,
    values: Iterable[str],
) -> str:
    """Return the statements that begin a transaction, and have the settings in it.

    SET LOCAL takes half of the time of SELECT set_config(...), which has to be planned.
    What is empty is so at the beginning of a transaction.

    :param isolation_level: such as ``"REPEATABLE_READ"``.
    :param read_only: whether it only reads.
    :param deferrable: whether it may wait until it cannot fail.
    :param values: of the settings, in their order.
    """
    statement = "BEGIN"
    if isolation_level is not None:
        statement += f" ISOLATION LEVEL {isolation_level.replace('_', ' ')}"
    if read_only is not None:
        statement += " READ ONLY" if read_only else " READ WRITE"
    if deferrable is not None:
        statement += " DEFERRABLE" if deferrable else " NOT DEFERRABLE"
    for set_local, value in zip(_SET_LOCAL, values, strict=True):
        if value:
            statement += set_local + quote_literal(value)
    return statement
