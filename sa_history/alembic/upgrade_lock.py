"""One migration at a time."""

from __future__ import annotations

from typing import Any

from alembic.util import CommandError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from sa_history.ddl.advisory_lock import wait_for_turn


def lock(context: Any) -> None:
    """Wait until no other process migrates the database.

    :param context: ``alembic.context``, or a MigrationContext. The turn ends with the
        transaction, which is READ COMMITTED, whatever the level of the server, the role
        or the engine is; without a connection, in offline mode, nothing is done.
    :raises CommandError: there is no transaction around all migrations, or it has
        another isolation level and a query before the lock.

    Example::

        with context.begin_transaction():
            sa_history.alembic.lock(context)
            context.run_migrations()
    """
    migration = context.get_context() if hasattr(context, "get_context") else context
    if migration.as_sql or migration.dialect.name != "postgresql":
        return
    if not migration.connection.in_transaction():
        raise CommandError(
            "sa_history.alembic.lock(context) has no transaction to hold the lock: "
            "call it within context.begin_transaction(), and not with "
            "transaction_per_migration"
        )
    # At any other level the statement that waits takes the snapshot of the transaction,
    # which then does not see what the others have done meanwhile.
    try:
        migration.connection.execute(
            text("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        )
    except DBAPIError as error:
        raise CommandError(
            "sa_history.alembic.lock(context) needs a READ COMMITTED transaction: call "
            "it before any query of the transaction, or give the engine "
            f'isolation_level="READ COMMITTED"; {error.orig}'
        ) from error
    wait_for_turn(migration.connection)
