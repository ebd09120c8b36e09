"""Migrations: functions, triggers, views and event tables in Alembic's revisions.

One line in ``env.py`` switches it on::

    import sa_history.alembic

From then on ``alembic revision --autogenerate`` and ``alembic check`` see what the
models track and what is attached to them. A revision holds the SQL as it is run, and
what it replaces, so that a downgrade brings back exactly what was there.
"""

from __future__ import annotations

from sa_history.alembic import compare as _compare  # noqa: F401 (registers it)
from sa_history.alembic import generated_columns as _generated  # noqa: F401 (as above)
from sa_history.alembic.column_types import PGType
from sa_history.alembic.operations import HistoryOp
from sa_history.alembic.upgrade_lock import lock

__all__ = ["HistoryOp", "PGType", "lock"]
