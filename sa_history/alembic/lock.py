"""One migration at a time."""

from __future__ import annotations

from typing import Any

from sa_history.locks import wait_for_turn


def lock(context: Any) -> None:
    """Wait until no other process migrates the database.

    :param context: ``alembic.context``, or a MigrationContext. The turn ends with the
        transaction; without a connection, in offline mode, nothing is done.

    Example::

        with context.begin_transaction():
            sa_history.alembic.lock(context)
            context.run_migrations()
    """
    migration = context.get_context() if hasattr(context, "get_context") else context
    if not migration.as_sql and migration.dialect.name == "postgresql":
        wait_for_turn(migration.connection)
