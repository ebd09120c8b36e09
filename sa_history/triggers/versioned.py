"""``Versioned``: a column that counts the changes of its row."""

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
from sa_history.triggers.before_row import BeforeRowTrigger


@dataclass(frozen=True, eq=False)
class Versioned(BeforeRowTrigger):
    """Adds one to a column with each update that changes the row.

    An update that sets the column itself is refused with a ``ReadOnlyError``. A new row
    has the value that it is inserted with, so give the column a default; NULL counts
    as 0.

    :param column: the attribute name of an integer column.
    :param name: the name of the trigger; if left out, ``"versioned"``.
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
        """The name if none is given."""
        return "versioned"

    def firing_operations(self) -> Operations:
        """Return the operations that fire it."""
        return Update

    def set_on_update(self) -> tuple[str, ...]:
        """Return the attribute names of the columns that it sets in an updated row."""
        return (self.column,)

    def code(self, target: TriggerTarget) -> Fragment:
        """Return the statements of its body."""
        column = self._column_to_set(target, self.column)
        if not isinstance(column.type, types.Integer):
            raise DefinitionError(
                f"{target.subject}: Versioned counts in an integer column, and "
                f"{self.column!r} is {column.type!r}"
            )
        name = Ident(column.name)
        scope = self._scope(target, Operation.UPDATE, before=True)
        # Not by "=": an operator of that name in the caller's search_path could let an
        # update set the version. record_image_ne is named with its schema.
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
