"""Statements that set the context, and the ignored triggers, for a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sa_history.sql.compose import quote_literal
from sa_history.sql.naming import (
    CONTEXT_ID,
    CONTEXT_METADATA,
    CONTEXT_PARENT_ID,
    IGNORED,
)

SETTING_NAMES = (CONTEXT_ID, CONTEXT_METADATA, CONTEXT_PARENT_ID, IGNORED)
"""The names of the settings, in the order in which their values are given."""

SET_CONFIG = "SELECT " + ", ".join(
    f"set_config('{name}', %s, true)" for name in SETTING_NAMES
)
"""Sets all of them until the transaction ends, by psycopg's ``%s`` parameters."""

READ_ONLY = ("transaction_read_only", "on")
"""What has PostgreSQL refuse to write until the transaction ends.

``postgresql_readonly`` of SQLAlchemy would leave the connection with READ WRITE for
whoever has it next from the pool, whatever ``default_transaction_read_only`` says.
"""

CITUS_SETTING = "citus.propagate_set_commands"
"""The setting of Citus that says which settings go to the nodes that have the rows.

Citus passes on SET LOCAL if this is ``'local'``, and never what set_config() sets.
"""

CITUS_MARK = "citus.multi_shard_modify_mode"
"""A setting that every server with Citus has, and that nothing here sets."""

ASK_CITUS = f"current_setting('{CITUS_MARK}', true)"
"""Whether the server has Citus: NULL or empty if it has not. It reads no table."""

SET_CONFIG_UNLESS_CITUS = f"{SET_CONFIG}, NULLIF({ASK_CITUS}, '')::pg_catalog.int4"
"""Does what :data:`SET_CONFIG` does; on Citus it fails, as a word is no number."""

_SET_LOCAL = tuple(f"SET LOCAL {name} = " for name in SETTING_NAMES)


def begin(
    isolation_level: str | None,
    read_only: bool | None,
    deferrable: bool | None,
    values: Iterable[str] = ("",) * len(SETTING_NAMES),
) -> str:
    """Return BEGIN and the settings of its transaction, as one text.

    SET LOCAL takes half of the time of SELECT set_config(...), which has to be planned.
    Empty values are left out, since a setting is empty when a transaction begins.

    :param isolation_level: a name such as ``"REPEATABLE_READ"``, or None for the
        server's default; likewise the next two.
    :param read_only: True for READ ONLY, False for READ WRITE.
    :param deferrable: True if it may wait for a snapshot that cannot fail.
    :param values: one for each of :data:`SETTING_NAMES`; none are set if left out.
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
            statement += f"; {set_local}{quote_literal(value)}"
    return statement


def set_local(values: Iterable[str]) -> list[str]:
    """Return a statement for each setting, that sets it until the transaction ends.

    :param values: one for each of :data:`SETTING_NAMES`.
    """
    return [
        set_local + quote_literal(value)
        for set_local, value in zip(_SET_LOCAL, values, strict=True)
    ]


def set_local_on_citus(values: Sequence[str], are_empty: bool) -> list[str]:
    """Return the statements that set the settings on all nodes of Citus.

    Nothing else may be in a message with them: Citus passes on the whole message that
    has a SET LOCAL in it, once for each of them. A server without Citus takes the first
    for a setting that nobody reads.

    :param values: one for each of :data:`SETTING_NAMES`.
    :param are_empty: whether the settings are empty, as when a transaction begins; then
        empty values are left out.
    """
    return [
        f"SET LOCAL {CITUS_SETTING} = 'local'",
        *(
            statement
            for statement, value in zip(set_local(values), values, strict=True)
            if value or not are_empty
        ),
    ]
