"""The ``before_flush`` listener for deleted objects whose rows stay, by ``SoftDelete``.

SQLAlchemy would go on as if the row were gone: it would set the foreign keys of its
children to NULL, delete its rows in association tables and in the tables of joined
subclasses, and forget the object. So this listener sends the DELETE itself, which the
trigger turns into an update, and keeps the object in the session, with the values that
the row has afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import (
    Connection,
    Select,
    Table,
    bindparam,
    delete,
    event,
    inspect,
    literal_column,
    select,
)
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import (
    MANYTOONE,
    Mapper,
    RelationshipProperty,
    Session,
    UOWTransaction,
)
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.sql.elements import quoted_name

from sa_history.attachments.registry import INFO_KEY as ATTACHMENTS
from sa_history.attachments.registry import Attachment, attachments_of
from sa_history.contexts.stack import active_stacks, ignored_keys
from sa_history.definition.mapped_tables import tables_of
from sa_history.triggers.soft_delete import SoftDelete


def send_soft_deletes(session: Session) -> None:
    """Send the DELETE of each deleted object whose row stays, and keep the object."""
    orphans = list(_orphans(session))
    for _, __, orphan in orphans:
        session.delete(orphan)
    for obj in session.deleted:
        mapper: Mapper[Any] = inspect(obj).mapper
        attachments = _soft_deletes(mapper)
        if not attachments:
            continue
        connection = session.connection(bind_arguments={"mapper": mapper})
        names = ignored_keys(active_stacks(connection, session))
        tables = [
            attachment.table
            for attachment in attachments
            if not attachment.is_ignored(names)
            and _is_soft_deleted(attachment, obj, connection)
        ]
        if tables:
            _soft_delete(session, tables, obj, connection)
    for parent, relationship, orphan in orphans:
        if orphan in session and orphan not in session.deleted:
            _set_parent(parent, relationship, orphan)


def _soft_deletes(mapper: Mapper[Any]) -> list[Attachment]:
    """Return the ``SoftDelete`` attachments of a class, a subclass's table first."""
    return [
        attachment
        for table in tables_of(mapper)
        if ATTACHMENTS in table.metadata.info
        for attachment in attachments_of(table.metadata).of_table(table)
        if isinstance(attachment.trigger, SoftDelete)
    ]


def _orphans(session: Session) -> Iterator[tuple[Any, RelationshipProperty[Any], Any]]:
    """Yield the objects that the flush would delete as orphans (``delete-orphan``).

    Each comes after the parent that it was removed from, and the relationship.
    """
    known: dict[Mapper[Any], list[RelationshipProperty[Any]]] = {}
    for parent in session.dirty:
        state: Any = inspect(parent)
        mapper: Mapper[Any] = state.mapper
        if mapper not in known:
            known[mapper] = [
                relationship
                for relationship in mapper.relationships
                if relationship.cascade.delete_orphan
                and any(
                    _soft_deletes(m) for m in relationship.mapper.self_and_descendants
                )
            ]
        for relationship in known[mapper]:
            for child in state.attrs[relationship.key].history.deleted or ():
                left: Any = inspect(child, raiseerr=False)
                if (
                    left is not None
                    and left.persistent
                    and left.session is session
                    and not _impl(parent, relationship).hasparent(left)
                    and _soft_deletes(left.mapper)
                ):
                    yield parent, relationship, child


def _set_parent(
    parent: object, relationship: RelationshipProperty[Any], child: object
) -> None:
    """Set the child's parent again, so that the flush does not see an orphan in it."""
    state: Any = inspect(child)
    _impl(parent, relationship).sethasparent(state, inspect(parent), True)


def _impl(obj: object, relationship: RelationshipProperty[Any]) -> Any:
    state: Any = inspect(obj)
    return state.manager[relationship.key].impl


def _is_soft_deleted(
    attachment: Attachment, obj: object, connection: Connection
) -> bool:
    """Return whether the trigger keeps the row: whether its condition holds for it."""
    assert isinstance(attachment.trigger, SoftDelete)
    condition = attachment.trigger.soft_delete_condition(attachment.target)
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


def _soft_delete(
    session: Session, tables: list[Table], obj: object, connection: Connection
) -> None:
    _check_version(obj, connection)
    for table in tables:
        is_row = (column == value for column, value in _key(table, obj))
        connection.execute(delete(table).where(*is_row))
    session.add(obj)  # takes back session.delete(obj)
    _forget_changes(session, obj)
    state: Any = inspect(obj)
    columns = [
        attribute.key
        for attribute in state.mapper.column_attrs
        # An expression as polymorphic_on is a property, but no attribute of the class.
        if attribute.key in state.manager
        and (not attribute.deferred or attribute.key in state.dict)
    ]
    try:
        session.refresh(obj, columns)
    except InvalidRequestError:  # another transaction has deleted it for good
        session.expunge(obj)
    else:
        # A rollback to a savepoint expires only what a flush has written; as SQLAlchemy
        # does for an UPDATE in bulk. flag_dirty() would expire column properties.
        session._register_altered([state])


def _check_version(obj: object, connection: Connection) -> None:
    """Refuse to mark a row that somebody else has changed, as a mapper may ask for."""
    state: Any = inspect(obj)
    column = state.mapper.version_id_col
    if column is None:
        return
    is_row = (key == value for key, value in _key(column.table, obj))
    version = select(column).where(*is_row).with_for_update()
    if connection.scalar(version) != _committed(state, column):
        raise StaleDataError(
            f"DELETE statement on table {column.table.description!r} expected to "
            "delete 1 row(s); 0 were matched."
        )


def _forget_changes(session: Session, obj: object) -> None:
    """Undo pending changes of foreign keys, on both sides of their relationships."""
    state: Any = inspect(obj)
    for relationship in state.mapper.relationships:
        if relationship.direction is not MANYTOONE or relationship.viewonly:
            continue
        changes = state.attrs[relationship.key].history
        if changes.has_changes():
            before = next(iter(changes.deleted), None)
            setattr(obj, relationship.key, before)
            if before is None:  # or it was never read
                session.expire(obj, [relationship.key])


def _key(table: Table, obj: object) -> list[tuple[Any, Any]]:
    """Return the key columns of a table, each with the value that the row has."""
    state: Any = inspect(obj)
    return [
        (column, bindparam(None, _committed(state, column), type_=column.type))
        for column in table.primary_key
    ]


def _committed(state: Any, column: Any) -> Any:
    """Return the value of a column that the row has in the database, before changes."""
    mapper: Mapper[Any] = state.mapper
    for of_key, value in zip(mapper.primary_key, state.identity, strict=True):
        if mapper.get_property_by_column(of_key) is mapper.get_property_by_column(
            column
        ):
            return value
    history = state.attrs[mapper.get_property_by_column(column).key].load_history()
    return next(iter(history.deleted or history.unchanged), None)


@event.listens_for(Session, "before_flush")
def _before_flush(session: Session, _: UOWTransaction, __: Any) -> None:
    send_soft_deletes(session)
