"""The columns of a table by attribute name, and which of them are tracked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Column, Table, inspect
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.exc import UnmappedColumnError

from sa_history.definition.conditions import suggestion
from sa_history.exc import DefinitionError


@dataclass(frozen=True, eq=False)
class TableColumns:
    """The columns of a table, as its triggers see them.

    :param subject: the model's name, for messages.
    :param table: the table.
    :param columns: every column with a value, by attribute name.
    :param key: the attributes of the primary key, in its order.
    """

    subject: str
    table: Table
    columns: Mapping[str, Column[Any]]
    key: tuple[str, ...]

    def named(self, owner: str, name: Any) -> Column[Any]:
        """Return the column of an attribute.

        :param owner: who names it, for messages.
        :raises DefinitionError: there is none; the message lists the right ones.
        """
        if not isinstance(name, str) or name not in self.columns:
            raise DefinitionError(
                f"{self.subject}: {owner} names {name!r}, which is not a column "
                f"attribute{suggestion(str(name), self.columns)}"
            )
        return self.columns[name]

    @property
    def generated(self) -> frozenset[str]:
        """The attributes whose columns are computed from others."""
        return frozenset(n for n, c in self.columns.items() if c.computed is not None)


@dataclass(frozen=True, eq=False)
class TrackedColumns(TableColumns):
    """The columns of a tracked table, as its trackers see them.

    :param stored: the attributes that the event table stores; the key always is.
    :param object_id: the event column that repeats a key of one column, if any.
    """

    stored: tuple[str, ...]
    object_id: str | None


def table_columns(subject: str, table: Table, model: type[Any] | None) -> TableColumns:
    """Return the columns of a table by attribute name."""
    known = _columns_by_attribute(table, model)
    names = {column: name for name, column in known.items()}
    return TableColumns(
        subject=subject,
        table=table,
        # A generated column that is not stored has no value when a trigger runs.
        columns={
            name: column
            for name, column in known.items()
            if column.computed is None or column.computed.persisted
        },
        # In the order of session.get, which need not be that of the columns.
        key=tuple(names[column] for column in table.primary_key),
    )


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
    known = table_columns(subject, table, model)
    chosen = chosen_names(subject, known.columns, columns, exclude)
    return TrackedColumns(
        subject=subject,
        table=table,
        columns=known.columns,
        key=known.key,
        stored=tuple(n for n in known.columns if n in chosen or n in known.key),
        object_id="pgh_obj_id" if len(known.key) == 1 else None,
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


GeneratedKind = Literal["STORED", "VIRTUAL"]
"""Whether PostgreSQL stores a generated column, or computes it when it is read."""


def kind_of_generated(column: Column[Any]) -> GeneratedKind | None:
    """Return the kind of a generated column as its definition says.

    :return: None, if the column is not generated, or the kind is left to the database.
    """
    if column.computed is None or column.computed.persisted is None:
        return None
    return "STORED" if column.computed.persisted else "VIRTUAL"
