"""The condition by which ``history.ignore`` turns a trigger off.

The setting ``pghistory.ignore`` holds a JSON list of keys, ``"table:trigger"``, with a
star for any table or any trigger. In a name, a backslash stands before a star, a colon
and a backslash.

The WHEN of an attached trigger holds the condition, since the function of such a
trigger may be the user's. A function that writes events looks at the setting itself:
PostgreSQL reads a WHEN from the catalog for each statement, which takes longer than to
write an index entry.
"""

from __future__ import annotations

import re

from sa_history.sql.compose import Fragment, Joined, Literal, Raw, Setting, join
from sa_history.sql.naming import IGNORED


def switch_key(table: str | None, trigger: str | None) -> str:
    """Return the key that ignores a trigger of a table.

    :param table: the table's key in its MetaData, or None for any table.
    :param trigger: the name that the trigger was given, or None for any trigger.
    """
    return ":".join(
        "*" if name is None else re.sub(r"[\\:*]", r"\\\g<0>", name)
        for name in (table, trigger)
    )


def switch_keys(table: str, trigger: str) -> tuple[str, ...]:
    """Return each key that ignores a trigger.

    :param table: the table's key in its MetaData, whatever schema it is mapped to.
    :param trigger: the name that the trigger was given, not its name in the database.
    """
    return (
        switch_key(table, trigger),
        switch_key(table, None),
        switch_key(None, trigger),
    )


def is_ignored(table: str, trigger: str) -> Fragment:
    """Return the condition that is true if, and only if, the trigger is ignored.

    The parameters are those of :func:`switch_keys`.
    """
    keys = join(", ", (Literal(key) for key in switch_keys(table, trigger)))
    return Joined((Setting(IGNORED), Raw("::jsonb ?| ARRAY["), keys, Raw("]")))


def switch(table: str, trigger: str) -> Fragment:
    """Return the condition that is true unless the trigger is ignored.

    The parameters are those of :func:`switch_keys`.
    """
    return Joined((Raw("("), is_ignored(table, trigger), Raw(") IS NOT TRUE")))


def switched(condition: Fragment | None, by: Fragment | None) -> Fragment | None:
    """Return a condition for WHEN with the switch before it.

    :param condition: the trigger's own condition, or None for none.
    :param by: the condition of :func:`switch`, or None for a trigger that cannot be
        ignored.
    :return: None if there is neither.
    """
    if condition is None or by is None:
        return by if condition is None else condition
    return Joined((Raw("("), by, Raw(") AND ("), condition, Raw(")")))
