"""Views that are created and dropped with the tables that they read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Connection,
    FetchedValue,
    MetaData,
    Select,
    Table,
    event,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import TextClause, _anonymous_label

from sa_history._types import Level, Operation
from sa_history.attachments.registry import attachments_of
from sa_history.ddl.elements import DatabaseObject, PGFunction, PGTrigger, PGView
from sa_history.ddl.execution import create_objects, drop_objects, exists
from sa_history.ddl.name_registry import name_registry_of
from sa_history.definition.columns import table_columns
from sa_history.definition.mapped_tables import VIEWS_OF
from sa_history.exc import DefinitionError, ReadOnlyError
from sa_history.sql.compose import Joined, Literal, Qualified, Raw
from sa_history.sql.expressions import Query, expression_sql
from sa_history.sql.functions import refuse
from sa_history.triggers.base import TriggerTarget
from sa_history.triggers.custom import Trigger as AttachedTrigger
from sa_history.util.arguments import as_names
from sa_history.util.identifiers import check_name
from sa_history.util.messages import suggestion
from sa_history.util.postgresql import require_postgresql

INFO_KEY = "sa_history.views"

WRITES = (Operation.INSERT, Operation.UPDATE, Operation.DELETE)


def view(
    name: str,
    metadata: MetaData,
    definition: Select[Any],
    *,
    schema: str | None = None,
    primary_key: Sequence[str] = (),
) -> Table:
    """Return a Table for a view, which a class can be mapped to.

    ``create_all`` creates the view after the tables that it reads, and ``drop_all``
    drops it before them. Writing to it is refused with a ``ReadOnlyError``; attach a
    :class:`Trigger` with ``when="instead of"`` for each operation that it should
    accept.

    :param name: the name of the view.
    :param metadata: the MetaData of the tables that it reads. The view itself is not
        added to it, as ``create_all`` would create a table.
    :param definition: the query; values in it become literals.
    :param schema: the schema of the view; None for that of the MetaData.
    :param primary_key: the names of the columns that identify a row; if empty, those
        that are primary keys in the definition.
    :return: the Table, in a MetaData of its own.
    :raises DefinitionError: the name is taken, a column has no name or that of another,
        or a value cannot be a literal.

    Example::

        class ActiveUser(Base):
            __table__ = view(
                "active_user",
                Base.metadata,
                select(User.id, User.email).where(User.is_active),
            )
    """
    if not isinstance(definition, Select):
        raise DefinitionError(f"view {name!r} is a select(...), got {definition!r}")
    check_name(f"view {name!r}: its name", name)
    _check_values(name, definition)
    views = _ensure_views(metadata)
    columns = _columns(name, definition, as_names("primary_key", primary_key))
    key = ".".join(filter(None, (schema or metadata.schema, name)))
    if key in metadata.tables or key in views.tables.tables:
        raise DefinitionError(
            f"view {key!r}: the MetaData has a table or a view of this name; give it "
            "another"
        )
    table = Table(name, views.tables, *columns, schema=schema)
    defined = DefinedView(table, definition)
    function = defined.refusal_function()
    name_registry_of(views.tables).register(function, table, f"view {name}")
    views.defined.append(defined)
    return table


def _check_values(view_name: str, definition: Select[Any]) -> None:
    for element in visitors.iterate(definition):
        if not isinstance(element, BindParameter):
            continue
        if element.required:  # SQLAlchemy would write NULL
            raise DefinitionError(
                f"view {view_name!r}: the parameter :{element.key} has no value; give "
                "it one"
            )
        try:
            if not element.expanding:
                expression_sql(element)
        except (SQLAlchemyError, NotImplementedError, TypeError, ValueError) as error:
            raise DefinitionError(
                f"view {view_name!r}: the value {element.value!r} cannot be written as "
                f"SQL: {error}; give an SQL expression"
            ) from error


def _columns(
    view_name: str, definition: Select[Any], key: tuple[str, ...]
) -> list[Column[Any]]:
    # Not column_descriptions: that would configure all mappers, while classes that
    # they name may not exist yet.
    for raw in definition._raw_columns:
        if isinstance(raw, TextClause):
            raise DefinitionError(
                f"view {view_name!r}: the column {str(raw)!r} has no name; write "
                'literal_column(...), and .label("name") where it is more than a name'
            )
    columns: dict[str, Column[Any]] = {}
    for attribute, selected in definition.selected_columns.items():
        name = getattr(selected, "name", None)
        if isinstance(name, _anonymous_label):  # of a column_property
            name = attribute
        if not isinstance(name, str) or name in columns:
            raise DefinitionError(
                f"view {view_name!r}: the column {str(selected)!r} has "
                f"{'the name of another' if name in columns else 'no name'}; give it "
                'one with .label("name")'
            )
        base = _base_column(selected)
        columns[name] = Column(
            name,
            selected.type,
            primary_key=name in key
            or (not key and base is not None and base.primary_key),
            key=attribute,
            autoincrement=False,
            # Where the table would make a value, the view may return one.
            server_default=(
                FetchedValue() if base is not None and _is_generated(base) else None
            ),
        )
    for name in key:
        if name not in columns:
            raise DefinitionError(
                f"view {view_name!r}: primary_key names {name!r}, which it has not"
                f"{suggestion(name, columns)}"
            )
    return list(columns.values())


def _base_column(selected: ColumnElement[Any]) -> Column[Any] | None:
    """Return the table's column that is selected; None for another expression."""
    bases = [base for base in selected.base_columns if isinstance(base, Column)]
    return bases[0] if bases else None


def _is_generated(column: Column[Any]) -> bool:
    table = column.table
    return column.server_default is not None or (
        isinstance(table, Table) and table.autoincrement_column is column
    )


@dataclass(frozen=True, eq=False)
class DefinedView:
    """A view, as a model defines it.

    :param table: the Table that classes are mapped to.
    :param definition: the query.
    """

    table: Table
    definition: Select[Any]

    def view(self) -> PGView:
        """Return the view as a value, which has its CREATE statement."""
        return PGView(
            Qualified(self.table.schema, self.table.name),
            tuple(column.name for column in self.table.columns),
            # By its columns: an ORM entity leaves out deferred columns, and adds those
            # that its relationships load.
            Query(self.definition.with_only_columns(*self.definition.selected_columns)),
        )

    def reads(self) -> set[Table]:
        """Return the tables and views that its query reads."""
        found: set[Table] = set()
        for element in visitors.iterate(self.definition):
            table = getattr(element, "table", element)
            if isinstance(table, Table):
                # Of an ORM class it is an annotated copy.
                found.add(table.metadata.tables.get(table.key, table))
        return found

    def refusal_function(self) -> PGFunction:
        """Return the trigger function that refuses writing to the view."""
        body = Joined(
            (
                Raw("\nBEGIN\n"),
                refuse(
                    Literal("% of %.% is refused: the view may only be read"),
                    (Raw("TG_OP"), Raw("TG_TABLE_SCHEMA"), Raw("TG_TABLE_NAME")),
                    ReadOnlyError.sqlstate,
                    Literal("Write the tables that it reads."),
                    indent="  ",
                ),
                Raw("END\n"),
            )
        )
        return PGFunction(self._target.function, body, definer=False, search_path=None)

    def refusals(self) -> list[PGTrigger]:
        """Return the trigger for the operations that no INSTEAD OF trigger accepts."""
        accepted = {
            operation
            for attachment in attachments_of(self.table.metadata).of_table(self.table)
            if isinstance(attachment.trigger, AttachedTrigger)
            and attachment.trigger.when == "instead of"
            for operation in attachment.trigger.operation.members
        }
        refused = tuple(operation for operation in WRITES if operation not in accepted)
        if not refused:
            return []
        return [
            PGTrigger(
                name=self._target.trigger_name(),
                table=self._target.relation,
                function=self._target.function,
                timing="INSTEAD OF",
                operations=refused,
                level=Level.ROW,
            )
        ]

    @property
    def _target(self) -> TriggerTarget:
        columns = table_columns(self.table.name, self.table, None)
        return TriggerTarget(columns, is_view=True, name="read_only", ignorable=False)

    def objects(self) -> list[DatabaseObject]:
        """Return the view, its functions and its triggers."""
        objects: list[DatabaseObject] = [self.view()]
        if refusals := self.refusals():
            objects += [self.refusal_function(), *refusals]
        for attachment in attachments_of(self.table.metadata).of_table(self.table):
            objects += attachment.objects()
        return objects

    def drop(self, connection: Connection) -> None:
        """Drop the view, with its triggers, and their functions."""
        attached = attachments_of(self.table.metadata).of_table(self.table)
        functions = [attachment.function() for attachment in attached]
        drop_objects(connection, self.view(), self.refusal_function(), *functions)


@dataclass(frozen=True, eq=False)
class Views:
    """The views of one MetaData.

    :param tables: the MetaData of their Tables.
    :param defined: the views, each after those that it reads.
    """

    tables: MetaData
    defined: list[DefinedView] = field(default_factory=list)


def views_of(metadata: MetaData) -> list[DefinedView]:
    """Return the views of a MetaData, each after those that it reads."""
    found: Views | None = metadata.info.get(INFO_KEY)
    return found.defined if found else []


def _ensure_views(metadata: MetaData) -> Views:
    found: Views | None = metadata.info.get(INFO_KEY)
    if found is not None:
        return found
    tables = MetaData(
        schema=metadata.schema,
        naming_convention=metadata.naming_convention,
        info={VIEWS_OF: metadata},
    )
    views = metadata.info[INFO_KEY] = Views(tables)

    @event.listens_for(metadata, "before_create")
    def check(_: MetaData, connection: Connection, **__: Any) -> None:
        require_postgresql(connection)
        for defined in views.defined:
            if defined.table.key in metadata.tables:
                raise DefinitionError(
                    f"view {defined.table.key!r}: the MetaData has a table of this "
                    "name as well; rename one of them"
                )

    @event.listens_for(metadata, "after_create")
    def create_views(_: MetaData, connection: Connection, **__: Any) -> None:
        for defined in views.defined:
            if _can_be_created(defined, connection):
                create_objects(connection, *defined.objects())

    @event.listens_for(metadata, "before_drop")
    def drop_views(
        _: MetaData, connection: Connection, tables: Iterable[Table], **__: Any
    ) -> None:
        require_postgresql(connection)
        going = set(tables)
        rest = [table for table in metadata.tables.values() if table not in going]
        all_go = all(exists(table, connection) is False for table in rest)
        dropped = []
        for defined in views.defined:
            if all_go or not going.isdisjoint(defined.reads()):
                going.add(defined.table)
                dropped.append(defined)
        for defined in reversed(dropped):
            defined.drop(connection)

    return views


def _can_be_created(defined: DefinedView, connection: Connection) -> bool:
    """Return whether the view is missing, and no table that it reads is known to be."""
    if exists(defined.table, connection):
        return False
    return all(exists(table, connection) is not False for table in defined.reads())
