"""Columns that triggers set, as fetched values of SQLAlchemy's ORM.

A flush has the database return values that a trigger sets where the ORM sent none, and
reads those that a trigger may have replaced where it did.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    FetchedValue,
    Table,
    event,
    inspect,
    select,
    tuple_,
)
from sqlalchemy.orm import Mapper, Session, UOWTransaction
from sqlalchemy.orm.attributes import set_committed_value

from sa_history.attachments.registry import INFO_KEY, Attachment, attachments_of
from sa_history.definition.mapped_tables import shares_a_table
from sa_history.exc import DefinitionError
from sa_history.triggers.soft_delete import SoftDelete
from sa_history.triggers.versioned import Versioned

REPLACED = "sa_history.replaced"
"""The key in a session's ``info`` of attributes that triggers may have replaced."""

BATCH = 500
"""The number of objects that one statement reads."""


def set_fetched_values(attachment: Attachment) -> None:
    """Have a flush return the values that the trigger sets.

    https://docs.sqlalchemy.org/en/20/orm/persistence_techniques.html
    #fetching-server-generated-defaults
    """
    inserted, updated = fetched_columns(attachment)
    for column in (*inserted, *updated):
        # Columns that only an update sets as well: without it, a column that an INSERT
        # leaves out would need a SELECT.
        if column.server_default is None and column.default is None:
            column.server_default = FetchedValue()
    for column in updated:
        if column.server_onupdate is None:
            column.server_onupdate = FetchedValue(for_update=True)
    if attachment.model is not None:
        _prepare_mapper(attachment, inspect(attachment.model))


def fetched_columns(
    attachment: Attachment,
) -> tuple[list[Column[Any]], list[Column[Any]]]:
    """Return the columns that a trigger sets in new rows, and those in updated ones."""
    trigger, columns = attachment.trigger, attachment.target.columns
    return (
        [columns.named(attachment.name, name) for name in trigger.set_on_insert()],
        [columns.named(attachment.name, name) for name in trigger.set_on_update()],
    )


def _prepare_mapper(attachment: Attachment, mapper: Mapper[Any]) -> None:
    inserted, updated = fetched_columns(attachment)
    if isinstance(attachment.trigger, Versioned):
        _check_version_of_mapper(attachment, mapper)
    base = mapper.base_mapper
    if updated and base.eager_defaults == "auto":
        # "auto" fetches after an INSERT only.
        base.eager_defaults = True
    if isinstance(attachment.trigger, SoftDelete):
        # An orphan that the flush itself finds is deleted by it, and its row stays; the
        # other deletions are sent by soft_delete_flush.
        base.confirm_deleted_rows = False
    for name, columns in (("after_insert", inserted), ("after_update", updated)):
        if columns:
            remember = functools.partial(
                _remember_replaced, name == "after_insert", columns
            )
            event.listen(mapper, name, remember, propagate=True)


def _check_version_of_mapper(attachment: Attachment, mapper: Mapper[Any]) -> None:
    (column,) = fetched_columns(attachment)[1]
    if mapper.version_id_col is column and mapper.version_id_generator is not False:
        raise DefinitionError(
            f"{mapper.class_.__name__}: SQLAlchemy would set {column.name!r} as well, "
            "as the version_id_col of the mapper, and that is refused; add "
            '"version_id_generator": False to __mapper_args__'
        )


@event.listens_for(Mapper, "after_mapper_constructed")
def _prepare_mapper_of_table(mapper: Mapper[Any], _: type[Any]) -> None:
    """Prepare the mapper of a class whose table has its triggers already."""
    table = mapper.local_table
    if not isinstance(table, Table) or shares_a_table(mapper):
        return
    if INFO_KEY in table.metadata.info:
        # The triggers of the class itself are attached later than this.
        for attachment in attachments_of(table.metadata).of_table(table):
            _prepare_mapper(attachment, mapper)


def _remember_replaced(
    inserted: bool,
    columns: Sequence[Column[Any]],
    mapper: Mapper[Any],
    _: Connection,
    obj: object,
) -> None:
    """Remember the attributes with a value that a trigger may have replaced.

    SQLAlchemy has the database return only values that it has not sent itself.
    """
    state: Any = inspect(obj)
    session = state.session
    for column in columns:
        if not mapper.columns.contains_column(column):
            continue
        key = mapper.get_property_by_column(column).key
        default = column.default if inserted else column.onupdate
        if key in state.committed_state or (
            default is not None and (inserted or session.is_modified(obj))
        ):
            session.info.setdefault(REPLACED, {}).setdefault(state, []).append(key)


@event.listens_for(Session, "after_flush_postexec")
def _read_replaced(session: Session, _: UOWTransaction) -> None:
    """Read the values that triggers may have replaced into their objects."""
    replaced: dict[Any, list[str]] = session.info.pop(REPLACED, {})
    groups: dict[tuple[Mapper[Any], tuple[str, ...]], list[Any]] = {}
    for state, keys in replaced.items():
        obj = state.obj()
        if obj is not None and state.persistent and state.session is session:
            # Expired until they are read, and for good if the row is not found again.
            session.expire(obj, keys)
            if state.mapper.base_mapper.eager_defaults:
                groups.setdefault((state.mapper, tuple(keys)), []).append(obj)
    for (mapper, names), objects in groups.items():
        _read(session, mapper, names, objects)


def _read(
    session: Session, mapper: Mapper[Any], names: tuple[str, ...], objects: list[Any]
) -> None:
    connection = session.connection(bind_arguments={"mapper": mapper})
    key = mapper.primary_key
    statement = select(*key, *(mapper.columns[name] for name in names)).select_from(
        mapper.persist_selectable
    )
    for start in range(0, len(objects), BATCH):
        batch = {tuple(inspect(o).identity): o for o in objects[start:][:BATCH]}
        wanted = list(batch)
        found = connection.execute(statement.where(tuple_(*key).in_(wanted)))
        for row in found:
            obj = batch.get(tuple(row[: len(key)]))
            if obj is not None:
                for name, value in zip(names, row[len(key) :], strict=True):
                    set_committed_value(obj, name, value)
