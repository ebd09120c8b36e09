"""The switch of a trigger, by which ``history.ignore`` turns it off.

The setting holds a JSON list of keys, ``"table:trigger"`` with a star for any. In a
name, a backslash stands before a star, a colon and a backslash.

Of a trigger that is attached the switch stands in WHEN, since its function is the
user's. The functions that write events look at it themselves: PostgreSQL reads a WHEN
from the catalog for each statement, which takes longer than to write an index entry.
"""

from __future__ import annotations

import re

from sa_history.sql.compose import Fragment, Joined, Literal, Raw, join
from sa_history.sql.naming import IGNORED


def switch_key(table: str | None, trigger: str | None) -> str:
    """Return what ignores a trigger of a table; None is any table, or any trigger."""
    return ":".join(
        "*" if name is None else re.sub(r"[\\:*]", r"\\\g<0>", name)
        for name in (table, trigger)
    )


def switch_keys(table: str, trigger: str) -> tuple[str, ...]:
    """Return each key that ignores a trigger.

    :param table: the table's key in its MetaData, whatever schema it is mapped to.
    :param trigger: the name it was given, not that in the database.
    """
    return (
        switch_key(table, trigger),
        switch_key(table, None),
        switch_key(None, trigger),
    )


def is_ignored(table: str, trigger: str) -> Fragment:
    """Return the condition that is true where, and only where, the trigger is ignored.

    Parameters are as for :func:`switch_keys`.
    """
    # Where it was local to an earlier transaction it reads '' and not NULL.
    setting = f"NULLIF(current_setting('{IGNORED}', true), '')"
    keys = join(", ", (Literal(key) for key in switch_keys(table, trigger)))
    return Joined((Raw(f"{setting}::jsonb ?| ARRAY["), keys, Raw("]")))


def switch(table: str, trigger: str) -> Fragment:
    """Return the condition that is true unless the trigger is ignored.

    Parameters are as for :func:`switch_keys`.
    """
    return Joined((Raw("("), is_ignored(table, trigger), Raw(") IS NOT TRUE")))


def switched(condition: Fragment | None, by: Fragment | None) -> Fragment | None:
    """Return a condition for WHEN with the switch before it; either may be missing."""
    if condition is None or by is None:
        return by if condition is None else condition
    return Joined((Raw("("), by, Raw(") AND ("), condition, Raw(")")))
