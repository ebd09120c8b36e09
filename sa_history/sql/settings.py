"""The statement that tells a connection the context in force."""

from __future__ import annotations

from sa_history.sql.naming import CONTEXT_ID, CONTEXT_METADATA, CONTEXT_PARENT_ID

SET_CONFIG = (
    f"SELECT set_config('{CONTEXT_ID}', %s, true),"
    f" set_config('{CONTEXT_METADATA}', %s, true),"
    f" set_config('{CONTEXT_PARENT_ID}', %s, true)"
)
"""For psycopg; the settings last until the transaction ends."""
