"""Migrations: functions, triggers, views and event tables in Alembic's revisions.

Alembic finds it by itself, as a plugin, where sa_history is installed; elsewhere a line
in ``env.py`` switches it on::

    import sa_history.alembic

``alembic revision --autogenerate`` and ``alembic check`` see what the
models track and what is attached to them. A revision holds the SQL as it is run, and
what it replaces, so that a downgrade brings back exactly what was there.
"""

from __future__ import annotations

from sa_history.alembic.column_types import PGType
from sa_history.alembic.comparators import register
from sa_history.alembic.operations import HistoryOp
from sa_history.alembic.upgrade_lock import lock

register()

__all__ = ["HistoryOp", "PGType", "lock"]
