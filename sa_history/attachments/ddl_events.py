"""Creating and dropping attached triggers together with their tables."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table, event

from sa_history.attachments.registry import Attachment
from sa_history.ddl.execution import create_objects, drop_objects
from sa_history.util.postgresql import require_postgresql


def install_attached_with_table(attachment: Attachment) -> None:
    """Have an attached trigger come and go with its table."""

    @event.listens_for(attachment.table, "before_create")
    def check_dialect(_: Table, connection: Connection, **__: Any) -> None:
        require_postgresql(connection)

    @event.listens_for(attachment.table, "after_create")
    def create_trigger(_: Table, connection: Connection, **__: Any) -> None:
        create_objects(connection, *attachment.objects())

    @event.listens_for(attachment.table, "after_drop")
    def drop_function(_: Table, connection: Connection, **__: Any) -> None:
        drop_objects(connection, attachment.function())
