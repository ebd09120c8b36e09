"""Any trigger, with a body in PL/pgSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from sqlalchemy.sql.elements import TextClause

from sa_history._types import Deferrable, Level, Operation, When
from sa_history.ddl.elements import PGFunction, PGTrigger, Referencing
from sa_history.definition.conditions import ConditionArgument
from sa_history.definition.operations import Operations
from sa_history.exc import DefinitionError
from sa_history.sql.compose import Joined, Raw
from sa_history.sql.ignore_switch import switched
from sa_history.triggers.base import TableTrigger, TriggerTarget
from sa_history.triggers.refusing import check_deferrable, check_operations
from sa_history.util.arguments import as_names
from sa_history.util.identifiers import check_text


@dataclass(frozen=True, eq=False, init=False)
class Trigger(TableTrigger):
    """Any trigger: a body in PL/pgSQL, which is taken as it is.

    :param name: of the trigger, unique on the model. Triggers that fire together run
        in the order of their names.
    :param when: ``"before"``, ``"after"``, or on a view ``"instead of"``.
    :param operation: what fires it, such as ``Insert`` or ``Update | Delete``.
    :param body: the statements between BEGIN and END, a RETURN among them: ``RETURN
        NEW`` to go on, ``RETURN NULL`` after the change or to skip the row.
    :param condition: which rows, as an expression over ``old`` and ``new``; at
        statement level, where there are none, only ``text(...)``.
    :param level: ``"row"`` or ``"statement"``.
    :param declare: what stands after DECLARE, such as ``"total integer; note text;"``.
    :param referencing: the names of the transition tables in the body.
    :param deferrable: ``"immediate"`` or ``"deferred"``: it can be deferred to the end
        of the transaction.
    :param writes: attribute names of the columns that the body sets in ``NEW``, so that
        a flush returns their values.
    :param security_definer: run with the rights of the function's owner.
    :param search_path: the schemas in which the body finds names, after
        ``pg_catalog``; the caller's path, if left out.
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

    when: When
    operation: Operations
    body: str
    declare: str
    referencing: Referencing | None
    deferrable: Deferrable | None
    writes: tuple[str, ...]
    security_definer: bool
    search_path: tuple[str, ...] | None

    default_name = ""  # there is none

    def __init__(
        self,
        name: str,
        when: When,
        operation: Operations,
        *,
        body: str,
        condition: ConditionArgument | None = None,
        level: Level | str = Level.ROW,
        declare: str = "",
        referencing: Referencing | None = None,
        deferrable: Deferrable | None = None,
        writes: Sequence[str] = (),
        security_definer: bool = False,
        search_path: Sequence[str] | None = None,
        ignorable: bool = True,
    ) -> None:
        moment = when.lower() if isinstance(when, str) else when
        for field, value in (
            ("name", name),
            ("when", moment),
            ("operation", operation),
            ("body", body),
            ("condition", condition),
            ("level", level),
            ("declare", declare),
            ("referencing", referencing),
            ("deferrable", deferrable),
            ("writes", as_names("Trigger: writes", writes)),
            ("security_definer", security_definer),
            (
                "search_path",
                None
                if search_path is None
                else as_names("Trigger: search_path", search_path),
            ),
            # PostgreSQL has no WHEN for a trigger on a view.
            ("ignorable", ignorable and moment != "instead of"),
        ):
            object.__setattr__(self, field, value)
        self.__post_init__()

    def __post_init__(self) -> None:
        """Check the arguments, without knowing the model."""
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
        for wrong, reason in self._contradictions():
            if wrong:
                raise DefinitionError(f"{owner}: {reason}")

    def _contradictions(self) -> list[tuple[bool, str]]:
        """Return what PostgreSQL would refuse, and how to say it here."""
        by_row = self.level is Level.ROW
        members, referencing = self.operation.members, self.referencing
        instead = self.when == "instead of"
        return [
            (
                by_row and Operation.TRUNCATE in members,
                'TRUNCATE has no rows; give level="statement"',
            ),
            (
                instead and (not by_row or bool(self.operation.columns)),
                "instead of an operation is for whole rows; leave level and UpdateOf "
                "out",
            ),
            (
                instead and self.condition is not None,
                "a trigger on a view has no condition; write an IF in the body",
            ),
            (
                not by_row
                and self.condition is not None
                and not isinstance(self.condition, TextClause),
                "at statement level there is no old or new row; write the condition as "
                "text(...), or select from the transition tables in the body",
            ),
            (
                self.deferrable is not None and not (by_row and self.when == "after"),
                'only a trigger with when="after" and level="row" is deferrable',
            ),
            (
                referencing is not None and self.when != "after",
                'transition tables need when="after"',
            ),
            (
                referencing is not None and self.deferrable is not None,
                "a deferrable trigger has no transition tables; leave one out",
            ),
            (
                referencing is not None
                and (len(members) != 1 or bool(self.operation.columns)),
                "transition tables need one operation, and no UpdateOf",
            ),
            (
                referencing is not None and members == (Operation.TRUNCATE,),
                "TRUNCATE has no transition tables; read the table in a trigger with "
                'when="before"',
            ),
            (
                referencing is not None
                and (
                    (referencing.old is not None and not members[0].has_old)
                    or (referencing.new is not None and not members[0].has_new)
                    or (referencing.old is None and referencing.new is None)
                ),
                f"{members[0].value} has no such transition table as {referencing!r}",
            ),
            (
                bool(self.writes) and not (by_row and self.when == "before"),
                'writes is for when="before" and level="row"',
            ),
            (
                bool(self.writes) and not any(m.has_new for m in members),
                "writes is for Insert or Update; a deletion has no new row",
            ),
        ]

    def written_on_insert(self) -> tuple[str, ...]:
        """Return the attributes that it sets in a new row."""
        return self.writes if Operation.INSERT in self.operation.members else ()

    def written_on_update(self) -> tuple[str, ...]:
        """Return the attributes that it sets in a changed row."""
        return self.writes if Operation.UPDATE in self.operation.members else ()

    def function_at(self, place: TriggerTarget) -> PGFunction:
        """Return the function, with the body as it is."""
        for name in self.writes:
            place.columns.named(f"Trigger({self.given_name!r})", name)
        declare = Raw(f"DECLARE\n{self.declare}\n" if self.declare else "")
        body = Joined((Raw("\n"), declare, Raw(f"BEGIN\n{self.body}\nEND\n")))
        return PGFunction(
            place.function,
            body,
            definer=self.security_definer,
            search_path=self.search_path,
        )

    def triggers_at(self, place: TriggerTarget) -> list[PGTrigger]:
        """Return one trigger, or with a condition one for each operation."""
        self._check_relation(place)
        members = self.operation.members
        if self.condition is None or len(members) == 1:
            return [self._trigger(place, members, "")]
        return [
            self._trigger(place, (operation,), operation.value.lower())
            for operation in members
        ]

    def _check_relation(self, place: TriggerTarget) -> None:
        instead = self.when == "instead of"
        if place.is_view and self.level is Level.ROW and not instead:
            raise DefinitionError(
                f"{place.subject}: on a view a trigger runs instead of an operation, "
                'for each row; give when="instead of"'
            )
        if instead and not place.is_view:
            raise DefinitionError(
                f"{place.subject}: instead of an operation a trigger runs on a view "
                'only; give when="before", and RETURN NULL in the body'
            )
        if place.is_view and Operation.TRUNCATE in self.operation.members:
            raise DefinitionError(f"{place.subject}: a view has no TRUNCATE")
        if place.is_view and self.referencing is not None:
            raise DefinitionError(
                f"{place.subject}: a view has no transition tables; attach it to the "
                "table"
            )
        options = place.columns.table.dialect_options["postgresql"]
        if (
            self.referencing is not None
            and self.level is Level.ROW
            and (options["partition_by"] or options["inherits"])
        ):
            raise DefinitionError(
                f"{place.subject}: on a table with partitions, or one that inherits, "
                'transition tables need level="statement"'
            )

    def _trigger(
        self, place: TriggerTarget, operations: tuple[Operation, ...], part: str
    ) -> PGTrigger:
        condition = self._condition_sql(place, operations[0], self.when == "before")
        updates = Operation.UPDATE in operations
        columns = self.operation.columns if updates else ()
        return PGTrigger(
            name=place.trigger_name(part),
            table=place.relation,
            function=place.function,
            timing=self.when.upper(),
            operations=operations,
            level=Level(self.level),
            columns=tuple(
                place.columns.named(place.subject, name).name for name in columns
            ),
            referencing=self.referencing,
            deferrable=self.deferrable.upper() if self.deferrable else None,
            when=switched(Raw(condition) if condition else None, place.switch),
        )
