"""What ``track`` and ``attach`` take: mapped classes, tables and views."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from sqlalchemy import MetaData, Table, inspect
from sqlalchemy.orm import DeclarativeBase, DeclarativeBaseNoMeta, Mapper
from sqlalchemy.orm.exc import UnmappedClassError

from sa_history.exc import DefinitionError
from sa_history.util.identifiers import check_name

Model: TypeAlias = type[Any] | Table
"""A mapped class or a Table."""

Models: TypeAlias = Model | MetaData
"""Mapped classes and tables: one, or all of a declarative base or a MetaData."""


class _HasMetaData(Protocol):
    """An object of a class with a declarative base of another kind.

    That of Flask-SQLAlchemy is one, by its types.
    """

    @property
    def metadata(self) -> MetaData:
        """The MetaData of the class."""


MappedObject: TypeAlias = DeclarativeBase | DeclarativeBaseNoMeta | _HasMetaData
"""An object of a mapped class, by what type checkers know of it."""


VIEWS_OF = "sa_history.views_of"
"""The key of ``MetaData.info`` under which views have the MetaData of their tables."""


def definition_target(
    target: Any, function: str
) -> tuple[str, Table, type[Any] | None]:
    """Return the name, the table and the class of what ``track`` or ``attach`` takes.

    :param target: a mapped class or a Table.
    :param function: the name of the function that took it, for messages.
    :return: the class is None for a Table.
    :raises DefinitionError: ``target`` is neither, or has no table of its own.
    """
    if isinstance(target, Table):
        check_table(target)
        return target.name, target, None
    try:
        mapper = inspect(target, raiseerr=False) if isinstance(target, type) else None
    except UnmappedClassError as error:
        # Of DeferredReflection, and of automap.
        raise DefinitionError(
            f"{target.__name__} is not mapped before its prepare(); call {function}() "
            f"on it after that: {function}()({target.__name__})"
        ) from error
    if isinstance(target, type) and "__abstract__" in vars(target):
        raise DefinitionError(
            f"{target.__name__} is abstract, and has no table; {function} each class "
            "that has one, or have them inherit from HistoryMixin"
        )
    if not isinstance(mapper, Mapper):
        raise DefinitionError(
            f"{function} takes a mapped class or a Table, got {target!r}; give a class "
            f"with __tablename__, and put @{function} above other decorators that map "
            "it"
        )
    table = mapper.local_table
    if not isinstance(table, Table):
        raise DefinitionError(
            f"{target.__name__} is mapped to {table.description!r}, which is not a "
            f"table; {function} the tables it is made of"
        )
    if shares_a_table(mapper):
        assert mapper.inherits is not None
        raise DefinitionError(
            f"{target.__name__} has no table of its own: its rows are in "
            f"{table.name!r}; {function} {mapper.inherits.class_.__name__}, with a "
            "condition on the discriminator where only some rows matter"
        )
    check_table(table)
    return target.__name__, table, target


def check_table(table: Table) -> None:
    """Refuse a table with a name that PostgreSQL cannot have.

    :param table: the table; its schema and its columns are looked at as well.
    :raises DefinitionError: a name is too long, or cannot be stored.
    """
    owner = f"table {table.fullname!r}"
    check_name(f"{owner}: its name", table.name)
    if table.schema is not None:
        check_name(f"{owner}: its schema", table.schema)
    for column in table.columns:
        check_name(f"{owner}: the name of a column", column.name)


def shares_a_table(mapper: Mapper[Any]) -> bool:
    """Return whether a class has its rows in the table of its base."""
    return mapper.single and mapper.inherits is not None


def tables_of(mapper: Mapper[Any]) -> list[Table]:
    """Return the tables of a mapped class, its own before those of its bases.

    ``Mapper.tables`` has them in the order in which the joins between them are visited,
    in which the own table is the last of two and the first of three.
    """
    found: list[Table] = []
    for one in mapper.iterate_to_root():
        base = () if one.inherits is None or one.concrete else one.inherits.tables
        own = [table for table in reversed(one.tables) if table not in base]
        found += [table for table in own if isinstance(table, Table)]
        if one.concrete:
            break
    return found


def is_view(table: Table) -> bool:
    """Return whether a Table stands for a view that :func:`view` made."""
    return VIEWS_OF in table.metadata.info
