"""The base class of all triggers that can be attached to a table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from sa_history._types import UNSET, Level, Operation, Unset
from sa_history.ddl.elements import PGFunction, PGTrigger
from sa_history.definition.binding import RowScope, condition_sql
from sa_history.definition.columns import TableColumns
from sa_history.definition.conditions import ConditionArgument
from sa_history.exc import DefinitionError
from sa_history.sql.compose import Fragment, Qualified, quote_ident
from sa_history.sql.ignore_switch import switch
from sa_history.sql.naming import generated_name
from sa_history.util.arguments import checked_level
from sa_history.util.identifiers import MAX_BYTES


@dataclass(frozen=True, eq=False)
class TriggerTarget:
    """The table or view that a trigger is attached to, and the names it has there.

    :param columns: the columns of the table or view.
    :param is_view: whether it is a view.
    :param name: the name of the trigger, as the definition gives it.
    :param ignorable: whether ``history.ignore`` turns the trigger off.
    """

    columns: TableColumns
    is_view: bool
    name: str
    ignorable: bool

    @property
    def subject(self) -> str:
        """The model's name with the trigger's, for messages."""
        return f"{self.columns.subject}: trigger {self.name!r}"

    @property
    def relation(self) -> Qualified:
        """The table or the view."""
        return Qualified(self.columns.table.schema, self.columns.table.name)

    def trigger_name(self, part: str = "") -> str:
        """Return the name of a trigger in the database.

        :param part: what tells triggers of one definition apart, such as ``"update"``;
            empty if there is one.
        """
        return generated_name(
            self.columns.table.metadata,
            "history_attached",
            table_name=self.columns.table.name,
            trigger_name=f"{self.name}_{part}" if part else self.name,
        )

    @property
    def function(self) -> Qualified:
        """The name of the trigger function, with its schema."""
        return Qualified(self.columns.table.schema, self.trigger_name())

    @property
    def switch(self) -> Fragment | None:
        """The condition that is false while it is ignored; None if it never is."""
        key = self.columns.table.key
        return switch(key, self.name) if self.ignorable else None


@dataclass(frozen=True, eq=False, kw_only=True)
class TableTrigger(ABC):
    """The base of all triggers that :func:`attach` takes.

    :param name: the name, unique on the model; if left out, the default of its kind.
    :param condition: the rows that it is for, as an expression over ``old`` and
        ``new``; None for all.
    :param level: ``"row"`` runs for each row, ``"statement"`` once for a statement.
    :param ignorable: whether ``history.ignore`` turns it off.

    Example::

        def names(triggers: Sequence[TableTrigger]) -> list[str]:
            return [trigger.given_name for trigger in triggers]
    """

    name: str | Unset = UNSET
    condition: ConditionArgument | None = None
    level: Level | str = Level.ROW
    ignorable: bool = True

    levels: ClassVar[tuple[Level, ...]] = (Level.ROW, Level.STATEMENT)

    def __post_init__(self) -> None:
        """Check the arguments, without knowing the model."""
        owner = type(self).__name__
        level = checked_level(owner, self.level)
        object.__setattr__(self, "level", level)
        if level not in self.levels:
            only = self.levels[0].value
            raise DefinitionError(
                f"{owner} runs once for each {only}, so its level is "
                f'"{only}", got {level.value!r}'
            )
        if isinstance(self.condition, str):
            raise DefinitionError(
                f"{owner} got the string {self.condition!r} as its condition; give an "
                "expression over old and new, or text(...) for SQL"
            )
        self._check_name(owner)

    def _check_name(self, owner: str) -> None:
        name = self.given_name
        if not isinstance(name, str) or not name:
            raise DefinitionError(
                f'{owner} needs a name, got {name!r}; give one such as name="guard"'
            )
        try:
            quote_ident(name)
        except ValueError as error:
            raise DefinitionError(f"{owner}: {error}") from error
        if len(name.encode()) > MAX_BYTES:
            raise DefinitionError(
                f"{owner}: the name {name!r} has {len(name.encode())} bytes, and "
                f"PostgreSQL's limit is {MAX_BYTES}; give a shorter name=..."
            )

    @property
    def given_name(self) -> str:
        """The name that was given, or the default of its kind."""
        return self.default_name if self.name is UNSET else self.name

    @property
    @abstractmethod
    def default_name(self) -> str:
        """The name if none is given."""

    @abstractmethod
    def function_at(self, target: TriggerTarget) -> PGFunction:
        """Return the trigger function for a table.

        :param target: the table, and the names on it.
        :raises DefinitionError: it does not fit the table.
        """

    @abstractmethod
    def triggers_at(self, target: TriggerTarget) -> list[PGTrigger]:
        """Return the triggers for a table.

        :param target: the table, and the names on it.
        :raises DefinitionError: it does not fit the table.
        """

    def set_on_insert(self) -> tuple[str, ...]:
        """Return the attribute names of the columns that it sets in a new row."""
        return ()

    def set_on_update(self) -> tuple[str, ...]:
        """Return the attribute names of the columns that it sets in an updated row."""
        return ()

    def _scope(
        self, target: TriggerTarget, operation: Operation, before: bool
    ) -> RowScope:
        """Return the rows and columns that a condition may name.

        :param operation: the operation that the condition is for.
        :param before: whether the trigger runs before the row is written.
        """
        columns = target.columns
        generated = columns.generated if before else frozenset()
        return RowScope(
            subject=target.subject,
            columns=columns,
            watched=tuple(
                n for n in columns.by_attribute if n not in columns.generated
            ),
            operation=operation,
            generated=generated,
        )

    def _condition_sql(
        self, target: TriggerTarget, operation: Operation, before: bool
    ) -> str | None:
        if self.condition is None:
            return None
        sql = condition_sql(self.condition, self._scope(target, operation, before))
        # A comment at the end of text() must not hide the SQL that comes after it.
        return f"{sql}\n" if "--" in sql else sql
