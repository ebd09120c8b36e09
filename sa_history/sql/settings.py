"""The statement that tells a connection the blocks in force."""

from __future__ import annotations

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
