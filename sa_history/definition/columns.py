"""The columns of a table by attribute name, and which of them are tracked."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Column, Table, inspect
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.exc import UnmappedColumnError

from sa_history.exc import DefinitionError
from sa_history.util.messages import suggestion


@dataclass(frozen=True, eq=False)
class TableColumns:
    """The columns of a table, as its triggers see them.

    :param subject: the model's name, for messages.
    :param table: the table.
    :param by_attribute: the columns that have a value when a trigger runs, by
        attribute name.
    :param virtual: the other columns, by attribute name: generated ones that the
        database does not store.
    :param key: the attributes of the primary key, in the key's order.
    """

    subject: str
    table: Table
    by_attribute: Mapping[str, Column[Any]]
    virtual: Mapping[str, Column[Any]]
    key: tuple[str, ...]

    def named(self, owner: str, name: Any) -> Column[Any]:
        """Return the column of an attribute that a definition names.

        :param owner: the part of the definition, for messages.
        :param name: the attribute name.
        :raises DefinitionError: the table has no such attribute; the message lists
            those it has.
        """
        if not isinstance(name, str) or name not in self.by_attribute:
            raise DefinitionError(
                f"{self.subject}: {owner} names {name!r}, which is not a column "
                f"attribute{suggestion(str(name), self.by_attribute)}"
            )
        return self.by_attribute[name]

    def column_name(self, name: str) -> str:
        """Return the name that the column of an attribute has in the database.

        :param name: the attribute name; the table has to have it.
        """
        return self.by_attribute[name].name

    @property
    def columns_of_key(self) -> list[Column[Any]]:
        """The columns of the primary key, in the key's order."""
        return [self.by_attribute[name] for name in self.key]

    @property
    def generated(self) -> frozenset[str]:
        """The attributes whose columns are generated from others, and stored."""
        return frozenset(
            name
            for name, column in self.by_attribute.items()
            if column.computed is not None
        )


@dataclass(frozen=True, eq=False)
class TrackedColumns(TableColumns):
    """The columns of a tracked table, as its trackers see them.

    :param stored: the attributes that the event table stores, the key among them.
    :param object_id: the event column that repeats the key, or None if the key does
        not have exactly one column.
    """

    stored: tuple[str, ...]
    object_id: str | None


def table_columns(subject: str, table: Table, model: type[Any] | None) -> TableColumns:
    """Return the columns of a table.

    :param subject: the model's name, for messages.
    :param model: the mapped class that names the attributes, or None for a table
        whose attributes are the keys of its columns.
    """
    known = _columns_by_attribute(table, model)
    names = {column: name for name, column in known.items()}
    virtual = {
        name: column
        for name, column in known.items()
        if column.computed is not None and not column.computed.persisted
    }
    return TableColumns(
        subject=subject,
        table=table,
        by_attribute={n: c for n, c in known.items() if n not in virtual},
        virtual=virtual,
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
    """Return the columns of a tracked table, with those that its events store.

    :param subject: the model's name, for messages.
    :param model: the mapped class, or None for a table that is not mapped.
    :param columns: attribute names to store, or None for all but those of ``exclude``.
    :param exclude: attribute names not to store, or None for none.
    :raises DefinitionError: ``columns`` or ``exclude`` names an attribute that the
        table does not have.
    """
    known = table_columns(subject, table, model)
    chosen = chosen_names(subject, known.by_attribute, columns, exclude)
    return TrackedColumns(
        subject=subject,
        table=table,
        by_attribute=known.by_attribute,
        virtual=known.virtual,
        key=known.key,
        stored=tuple(n for n in known.by_attribute if n in chosen or n in known.key),
        object_id="pgh_obj_id" if len(known.key) == 1 else None,
    )


def columns_state(table: Table, model: type[Any] | None) -> Hashable:
    """Return a value that is another one when :func:`table_columns` would be.

    :param model: the mapped class, or None for a table that is not mapped.
    """
    columns = (tuple(table.columns), tuple(table.primary_key))
    if model is None:
        return columns
    return (
        *columns,
        *(
            each
            for mapper in _mappers_of(table, model)
            for each in (mapper, tuple(mapper.columns.items()))
        ),
    )


def _mappers_of(table: Table, model: type[Any]) -> list[Mapper[Any]]:
    mapper: Mapper[Any] = inspect(model)
    return [m for m in mapper.self_and_descendants if m.local_table is table]


def _columns_by_attribute(
    table: Table, model: type[Any] | None
) -> Mapping[str, Column[Any]]:
    if model is None:
        return {column.key: column for column in table.columns}
    mappers = _mappers_of(table, model)
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
    """Return the attributes that ``columns`` and ``exclude`` leave.

    :param owner: the definition that chooses, for messages.
    :param known: by attribute name, what there is to choose from.
    :param columns: the names to take, or None for all but those of ``exclude``.
    :param exclude: the names to leave out, or None for none.
    :raises DefinitionError: a name is not known; the message lists the known ones.
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
