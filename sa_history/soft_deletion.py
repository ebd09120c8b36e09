"""What a session does when an object is deleted whose rows stay, marked.

SQLAlchemy would go on as if the row were gone: it would set the foreign keys of its
children to NULL, delete its rows in association tables and in the tables of joined
subclasses, and forget the object. So the session sends the DELETE itself, which marks
the row, and keeps the object, with the row's values as they are now.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    Connection,
    Select,
    Table,
    bindparam,
    delete,
    inspect,
    literal_column,
    select,
)
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.sql.elements import quoted_name

from sa_history.attachments import Attachment, attachments_of
from sa_history.frames import ignored
from sa_history.triggers.soft_delete import SoftDelete
from sa_history.wire import INFO_KEY


def mark_deleted(session: Session) -> None:
    """Send the DELETE of the session's deleted objects whose rows stay."""
    for obj in session.deleted:
        mapper: Mapper[Any] = inspect(obj).mapper
        for attachment in _soft_deletes(mapper):
            connection = session.connection(bind_arguments={"mapper": mapper})
            if not attachment.is_ignored(_ignored(session, connection)) and _marks(
                attachment, obj, connection
            ):
                _mark(session, attachment.table, obj, connection)
                break


def _soft_deletes(mapper: Mapper[Any]) -> Iterable[Attachment]:
    for table in mapper.tables:
        if isinstance(table, Table):
            for attachment in attachments_of(table.metadata).of_table(table):
                if isinstance(attachment.trigger, SoftDelete):
                    yield attachment


def _ignored(session: Session, connection: Connection) -> frozenset[str]:
    stacks = (
        session.info.get(INFO_KEY),
        connection.get_execution_options().get(INFO_KEY),
    )
    return ignored(blocks for blocks in stacks if blocks)


def _marks(attachment: Attachment, obj: object, connection: Connection) -> bool:
    """Whether the trigger marks the row, and does not leave it to be deleted."""
    assert isinstance(attachment.trigger, SoftDelete)
    condition = attachment.trigger.marks(attachment.place)
    if condition is None:
        return True
    row = attachment.table.alias(quoted_name("OLD", quote=False))
    key = _key(attachment.table, obj)
    found: Select[Any] = (
        select(literal_column("1"))
        .select_from(row)
        .where(
            literal_column(condition),
            *(row.c[column.key] == value for column, value in key),
        )
    )
    return connection.execute(found).first() is not None


def _mark(session: Session, table: Table, obj: object, connection: Connection) -> None:
    connection.execute(
        delete(table).where(*(column == value for column, value in _key(table, obj)))
    )
    session.add(obj)  # takes back session.delete(obj)
    mapper: Mapper[Any] = inspect(obj).mapper
    columns = [attribute.key for attribute in mapper.column_attrs]
    try:
        session.refresh(obj, columns)
    except InvalidRequestError:  # another transaction has deleted it for good
        session.expunge(obj)


def _key(table: Table, obj: object) -> list[tuple[Any, Any]]:
    """Return the key's columns in a table, with the values the row has."""
    state: Any = inspect(obj)
    mapper: Mapper[Any] = state.mapper
    identity = {
        mapper.get_property_by_column(column).key: value
        for column, value in zip(mapper.primary_key, state.identity, strict=True)
    }
    return [
        (
            column,
            bindparam(
                None,
                identity[mapper.get_property_by_column(column).key],
                type_=column.type,
            ),
        )
        for column in table.primary_key
    ]
