"""A column that counts the changes of its row."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import types

from sa_history._types import Operation
from sa_history.definition.binding import changed
from sa_history.definition.operations import Operations, Update
from sa_history.exc import DefinitionError, ReadOnlyError
from sa_history.sql.compose import Fragment, Ident, Joined, Literal, Raw
from sa_history.sql.expressions import expression_sql
from sa_history.sql.functions import refuse
from sa_history.triggers.base import TriggerTarget
from sa_history.triggers.before_row import ChangingTrigger


@dataclass(frozen=True, eq=False)
class Versioned(ChangingTrigger):
    """Adds one to a column with each update that changes the row.

    The column itself may not be set by an update: that is refused with a
    ``ReadOnlyError``. A new row has the value it is inserted with, so give the column
    a default; NULL counts as 0.

    :param column: the attribute name of an integer column.
    :param name: of the trigger; ``"versioned"`` if left out.
    :param ignorable: whether ``history.ignore`` turns it off.
    :raises DefinitionError: the column does not hold integers.

    Example::

        @attach(Versioned("version"))
        class Page(Base):
            __tablename__ = "page"
            id: Mapped[int] = mapped_column(primary_key=True)
            version: Mapped[int] = mapped_column(default=0)
            text: Mapped[str]
    """

    column: str

    def __post_init__(self) -> None:
        """Check the arguments, without knowing the model."""
        super().__post_init__()
        if self.condition is not None:
            raise DefinitionError(
                "Versioned takes no condition, which its protection of the column "
                "would have as well; write a Trigger and a ReadOnly"
            )

    @property
    def default_name(self) -> str:
        """The name without ``name=``."""
        return "versioned"

    def firing(self) -> Operations:
        """Return the operations that fire it."""
        return Update

    def written_on_update(self) -> tuple[str, ...]:
        """Return the attributes that it sets in a changed row."""
        return (self.column,)

    def code(self, place: TriggerTarget) -> Fragment:
        """Return the statements of its body."""
        column = self._written(place, self.column)
        if not isinstance(column.type, types.Integer):
            raise DefinitionError(
                f"{place.subject}: Versioned counts in an integer column, and "
                f"{self.column!r} is {column.type!r}"
            )
        name = Ident(column.name)
        scope = self._scope(place, Operation.UPDATE, before=True)
        # Compared by "=", which the caller's path could replace, a version that is
        # set might pass; record_image_ne is named with its schema.
        differs = changed(scope, self.column, by_image=True)
        return Joined(
            (
                Raw(f"  IF {expression_sql(differs)} THEN\n"),
                refuse(
                    Literal("% of %.% is refused: % may only be read"),
                    (
                        Raw("TG_OP"),
                        Raw("TG_TABLE_SCHEMA"),
                        Raw("TG_TABLE_NAME"),
                        Literal(column.name),
                    ),
                    ReadOnlyError.sqlstate,
                    Literal("It counts the changes of the row; leave it out."),
                    indent="    ",
                    column=column.name,
                ),
                Raw("  END IF;\n  NEW."),
                name,
                Raw(" := COALESCE(OLD."),
                name,
                Raw(", 0) OPERATOR(pg_catalog.+) 1;\n  RETURN NEW;\n"),
            )
        )
