"""Alembic's environment, for ``flask db``."""

from __future__ import annotations

from alembic import context
from flask import current_app

# Autogenerate sees functions and triggers with it, and revisions have op.history_ddl.
import sa_history.alembic

migrate = current_app.extensions["migrate"]


def run(**options: object) -> None:
    context.configure(
        target_metadata=migrate.db.metadata, **migrate.configure_args, **options
    )
    with context.begin_transaction():
        sa_history.alembic.lock(context)
        context.run_migrations()


if context.is_offline_mode():
    run(url=migrate.db.engine.url, literal_binds=True)
else:
    with migrate.db.engine.connect() as connection:
        run(connection=connection)
