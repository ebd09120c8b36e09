"""``Trigger``: any trigger, with a body in PL/pgSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

from sqlalchemy.sql.elements import TextClause

from sa_history._types import Deferrable, Level, Operation, When
from sa_history.ddl.elements import PGFunction, PGTrigger, Referencing
from sa_history.definition.operations import Operations
from sa_history.exc import DefinitionError
from sa_history.sql.compose import Joined, Raw
from sa_history.sql.ignore_switch import switched
from sa_history.triggers.base import TableTrigger, TriggerTarget
from sa_history.triggers.refusing import check_deferrable, check_operations
from sa_history.util.arguments import as_names
from sa_history.util.identifiers import check_text


@dataclass(frozen=True, eq=False)
class Trigger(TableTrigger):
    """Any trigger, with a body in PL/pgSQL, which is installed as it is.

    :param name: the name of the trigger, unique on the model. Triggers that fire
        together run in the order of their names.
    :param when: ``"before"``, ``"after"``, or on a view ``"instead of"``.
    :param operation: the operations that fire it, such as ``Insert`` or
        ``Update | Delete``.
    :param body: the statements between BEGIN and END, a RETURN among them: ``RETURN
        NEW`` to go on, ``RETURN NULL`` after the change or to skip the row.
    :param condition: the rows that it is for, as an expression over ``old`` and
        ``new``; at statement level, which has no rows, only ``text(...)``. None for
        all.
    :param level: ``"row"`` or ``"statement"``.
    :param declare: the declarations, such as ``"total integer; note text;"``.
    :param referencing: the names of the transition tables in the body; None for none.
    :param deferrable: ``"immediate"`` or ``"deferred"`` for a trigger that can be
        deferred to the end of the transaction; None for one that cannot.
    :param writes: attribute names of the columns that the body sets in ``NEW``, so that
        a flush reads their values.
    :param security_definer: whether it runs with the rights of the function's owner.
    :param search_path: the schemas in which the body finds names, after
        ``pg_catalog``; None for the caller's path.
    :param ignorable: whether ``history.ignore`` turns it off; a trigger on a view is
        never ignored.
    :raises DefinitionError: the arguments cannot work together.

    Example::

        @attach(
            Trigger(
                "lower_email",
                "before",
                Insert | Update,
                body="NEW.email = lower(NEW.email); RETURN NEW;",
                writes=["email"],
            )
        )
        class User(Base): ...
    """

    name: str = field()
    when: When
    operation: Operations
    body: str = field(kw_only=True)
    declare: str = field(default="", kw_only=True)
    referencing: Referencing | None = field(default=None, kw_only=True)
    deferrable: Deferrable | None = field(default=None, kw_only=True)
    writes: Sequence[str] = field(default=(), kw_only=True)
    security_definer: bool = field(default=False, kw_only=True)
    search_path: Sequence[str] | None = field(default=None, kw_only=True)

    default_name = ""  # the name has to be given

    def __post_init__(self) -> None:
        """Check the arguments, without knowing the model."""
        if isinstance(self.when, str):
            object.__setattr__(self, "when", self.when.lower())
        writes = as_names("Trigger: writes", self.writes)
        object.__setattr__(self, "writes", writes)
        if self.search_path is not None:
            path = as_names("Trigger: search_path", self.search_path)
            object.__setattr__(self, "search_path", path)
        if self.when == "instead of":
            # PostgreSQL has no WHEN for a trigger on a view.
            object.__setattr__(self, "ignorable", False)
        super().__post_init__()
        owner = f"Trigger({self.given_name!r})"
        check_operations(owner, self.operation)
        check_deferrable(owner, self.deferrable)
        if self.when not in get_args(When):
            raise DefinitionError(
                f'{owner}: when is "before", "after" or "instead of", got {self.when!r}'
            )
        for argument in ("body", "declare"):
            text = getattr(self, argument)
            if not isinstance(text, str) or (argument == "body" and not text.strip()):
                raise DefinitionError(f"{owner}: {argument} is PL/pgSQL, got {text!r}")
            check_text(f"{owner}: {argument}", text)
        if not isinstance(self.referencing, (Referencing, type(None))):
            raise DefinitionError(
                f"{owner}: referencing is Referencing(new=...) or the like, got "
                f"{self.referencing!r}"
            )
        for wrong in (
            self._level_mismatch(),
            self._deferrable_mismatch(),
            self._referencing_mismatch(),
            self._writes_mismatch(),
        ):
            if wrong is not None:
                raise DefinitionError(f"{owner}: {wrong}")

    # Each of these returns what PostgreSQL would refuse, and what to write; None if
    # it would accept the arguments.

    def _level_mismatch(self) -> str | None:
        by_row, instead = self.level is Level.ROW, self.when == "instead of"
        if by_row and Operation.TRUNCATE in self.operation.members:
            return 'TRUNCATE has no rows; give level="statement"'
        if instead and (not by_row or self.operation.columns):
            return (
                "instead of an operation is for whole rows; leave level and UpdateOf "
                "out"
            )
        if instead and self.condition is not None:
            return "a trigger on a view has no condition; write an IF in the body"
        if by_row or isinstance(self.condition, (TextClause, type(None))):
            return None
        return (
            "at statement level there is no old or new row; write the condition as "
            "text(...), or select from the transition tables in the body"
        )

    def _deferrable_mismatch(self) -> str | None:
        if self.deferrable is None:
            return None
        if self.level is not Level.ROW or self.when != "after":
            return 'only a trigger with when="after" and level="row" is deferrable'
        if self.referencing is not None:
            return "a deferrable trigger has no transition tables; leave one out"
        return None

    def _referencing_mismatch(self) -> str | None:
        referencing, members = self.referencing, self.operation.members
        if referencing is None:
            return None
        if self.when != "after":
            return 'transition tables need when="after"'
        if len(members) != 1 or self.operation.columns:
            return "transition tables need one operation, and no UpdateOf"
        (operation,) = members
        if operation is Operation.TRUNCATE:
            return (
                "TRUNCATE has no transition tables; read the table in a trigger with "
                'when="before"'
            )
        has_old, has_new = referencing.old is not None, referencing.new is not None
        if (
            (has_old and not operation.has_old)
            or (has_new and not operation.has_new)
            or not (has_old or has_new)
        ):
            return f"{operation.value} has no such transition table as {referencing!r}"
        return None

    def _writes_mismatch(self) -> str | None:
        if not self.writes:
            return None
        if self.level is not Level.ROW or self.when != "before":
            return 'writes is for when="before" and level="row"'
        if not any(operation.has_new for operation in self.operation.members):
            return "writes is for Insert or Update; a deletion has no new row"
        return None

    def set_on_insert(self) -> tuple[str, ...]:
        """Return the attribute names of the columns that it sets in a new row."""
        return tuple(self.writes) if Operation.INSERT in self.operation.members else ()

    def set_on_update(self) -> tuple[str, ...]:
        """Return the attribute names of the columns that it sets in an updated row."""
        return tuple(self.writes) if Operation.UPDATE in self.operation.members else ()

    def function_at(self, target: TriggerTarget) -> PGFunction:
        """Return the function, with the body as it is."""
        for name in self.writes:
            target.columns.named(f"Trigger({self.given_name!r})", name)
        declare = Raw(f"DECLARE\n{self.declare}\n" if self.declare else "")
        body = Joined((Raw("\n"), declare, Raw(f"BEGIN\n{self.body}\nEND\n")))
        return PGFunction(
            target.function,
            body,
            definer=self.security_definer,
            search_path=None if self.search_path is None else tuple(self.search_path),
        )

    def triggers_at(self, target: TriggerTarget) -> list[PGTrigger]:
        """Return one trigger, or with a condition one for each operation."""
        self._check_relation(target)
        members = self.operation.members
        if self.condition is None or len(members) == 1:
            return [self._trigger(target, members, "")]
        return [
            self._trigger(target, (operation,), operation.value.lower())
            for operation in members
        ]

    def _check_relation(self, target: TriggerTarget) -> None:
        instead = self.when == "instead of"
        if target.is_view and self.level is Level.ROW and not instead:
            raise DefinitionError(
                f"{target.subject}: on a view a trigger runs instead of an operation, "
                'for each row; give when="instead of"'
            )
        if instead and not target.is_view:
            raise DefinitionError(
                f"{target.subject}: instead of an operation a trigger runs on a view "
                'only; give when="before", and RETURN NULL in the body'
            )
        if target.is_view and Operation.TRUNCATE in self.operation.members:
            raise DefinitionError(
                f"{target.subject}: a view has no TRUNCATE; leave it out"
            )
        if target.is_view and self.referencing is not None:
            raise DefinitionError(
                f"{target.subject}: a view has no transition tables; attach it to the "
                "table"
            )
        options = target.columns.table.dialect_options["postgresql"]
        if (
            self.referencing is not None
            and self.level is Level.ROW
            and (options["partition_by"] or options["inherits"])
        ):
            raise DefinitionError(
                f"{target.subject}: on a table with partitions, or one that inherits, "
                'transition tables need level="statement"'
            )

    def _trigger(
        self, target: TriggerTarget, operations: tuple[Operation, ...], part: str
    ) -> PGTrigger:
        condition = self._condition_sql(target, operations[0], self.when == "before")
        updates = Operation.UPDATE in operations
        columns = self.operation.columns if updates else ()
        return PGTrigger(
            name=target.trigger_name(part),
            table=target.relation,
            function=target.function,
            timing=self.when.upper(),
            operations=operations,
            level=Level(self.level),
            columns=tuple(
                target.columns.named(target.subject, name).name for name in columns
            ),
            referencing=self.referencing,
            deferrable=self.deferrable.upper() if self.deferrable else None,
            when=switched(Raw(condition) if condition else None, target.switch),
        )
