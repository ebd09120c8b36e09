"""The columns of a tracked table, and which of them are stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Table, inspect
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.exc import UnmappedColumnError

from sa_history.conditions import suggestion
from sa_history.exc import DefinitionError


@dataclass(frozen=True, eq=False)
class TrackedColumns:
    """The columns of a tracked table, as its trackers see them.

    :param subject: the model's name, for messages.
    :param table: the tracked table.
    :param columns: every column by attribute name.
    :param stored: the attributes that the event table stores.
    :param key: the attributes of the primary key, always stored.
    :param object_id: the event column that repeats a key of one column, if any.
    """

    subject: str
    table: Table
    columns: Mapping[str, Column[Any]]
    stored: tuple[str, ...]
    key: tuple[str, ...]
    object_id: str | None


def tracked_columns(
    subject: str,
    table: Table,
    model: type[Any] | None,
    columns: Sequence[str] | None,
    exclude: Sequence[str] | None,
) -> TrackedColumns:
    """Return the columns of a table by attribute name, and those that are stored.

    :raises DefinitionError: an option names a column that is not there.
    """
    known = _columns_by_attribute(table, model)
    key = tuple(name for name, column in known.items() if column.primary_key)
    # A generated column that is not stored has no value when a trigger runs.
    storable = {
        name: column
        for name, column in known.items()
        if column.computed is None or column.computed.persisted
    }
    chosen = chosen_names(subject, storable, columns, exclude)
    stored = tuple(name for name in storable if name in chosen or name in key)
    return TrackedColumns(
        subject=subject,
        table=table,
        columns=storable,
        stored=stored,
        key=key,
        object_id="pgh_obj_id" if len(key) == 1 else None,
    )


def _columns_by_attribute(
    table: Table, model: type[Any] | None
) -> Mapping[str, Column[Any]]:
    if model is None:
        return {column.key: column for column in table.columns}
    mapper: Mapper[Any] = inspect(model)
    mappers = [m for m in mapper.self_and_descendants if m.local_table is table]
    columns: dict[str, Column[Any]] = {}
    for column in table.columns:
        name = _attribute_name(mappers, column)
        # Subclasses that share a table may use one name for different columns.
        columns[column.key if name in columns else name] = column
    return columns


def _attribute_name(mappers: Sequence[Mapper[Any]], column: Column[Any]) -> str:
    # A column that a subclass adds to the table is known to its mapper only. The
    # mapper's attributes are not asked for: that would configure all mappers, while
    # classes that they name may not exist yet.
    for mapper in mappers:
        try:
            return mapper.get_property_by_column(column).key
        except UnmappedColumnError:
            continue
    return column.key


def as_names(argument: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return names as a tuple.

    :raises DefinitionError: it is one string, or holds something else than strings.
    """
    if isinstance(names, str):
        raise DefinitionError(
            f"{argument} is a list of names, got {names!r}; write [{names!r}]"
        )
    result = tuple(names)
    for name in result:
        if not isinstance(name, str):
            raise DefinitionError(
                f"{argument} is a list of names, got {name!r} in it; write its name"
            )
    return result


def check_names(
    owner: str, columns: Sequence[str] | None, exclude: Sequence[str] | None
) -> None:
    """Refuse ``columns`` and ``exclude`` together.

    :raises DefinitionError: says whose.
    """
    if columns is not None and exclude is not None:
        raise DefinitionError(f"{owner} got both columns and exclude; give one of them")


def chosen_names(
    owner: str,
    known: Mapping[str, Any],
    columns: Sequence[str] | None,
    exclude: Sequence[str] | None,
) -> tuple[str, ...]:
    """Return the names of ``known`` that ``columns`` and ``exclude`` leave.

    :raises DefinitionError: a name is not known; the message lists the right ones.
    """
    for name in (*(columns or ()), *(exclude or ())):
        if name not in known:
            raise DefinitionError(
                f"{owner} names {name!r}, which is not a column attribute it can store"
                f"{suggestion(name, known)}"
            )
    if columns is not None:
        return tuple(name for name in known if name in columns)
    return tuple(name for name in known if name not in (exclude or ()))
