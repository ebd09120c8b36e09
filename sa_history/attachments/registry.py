"""The triggers that are attached to the tables of a MetaData."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, MetaData, Table

from sa_history.ddl.citus import attached_problem, placements_in_run, refuse
from sa_history.ddl.elements import PGFunction, PGTrigger
from sa_history.definition.columns import table_columns
from sa_history.definition.mapped_tables import is_view
from sa_history.sql.compose import Qualified
from sa_history.sql.ignore_switch import switch_keys
from sa_history.triggers.base import TableTrigger, TriggerTarget

INFO_KEY = "sa_history.attachments"


@dataclass(frozen=True, eq=False)
class Attachment:
    """One trigger on one table or view.

    :param trigger: the definition.
    :param subject: the model's name, for messages.
    :param table: the table or view.
    :param model: the mapped class; None for a Core table.
    """

    trigger: TableTrigger
    subject: str
    table: Table
    model: type[Any] | None

    @property
    def name(self) -> str:
        """The trigger's name, as it was given."""
        return self.trigger.given_name

    @property
    def target(self) -> TriggerTarget:
        """The table as it is now: subclasses may have added columns."""
        return TriggerTarget(
            table_columns(self.subject, self.table, self.model),
            is_view(self.table),
            self.name,
            self.trigger.ignorable,
        )

    def function(self) -> PGFunction:
        """Return the trigger function."""
        return self.trigger.function_at(self.target)

    def functions(self) -> list[Qualified]:
        """Return the function's name, as the DDL events of its table take it."""
        return [self.function().name]

    def triggers(self) -> list[PGTrigger]:
        """Return the triggers in the database; one definition may need several."""
        return self.trigger.triggers_at(self.target)

    def objects(self) -> tuple[PGFunction | PGTrigger, ...]:
        """Return the function and its triggers."""
        return (self.function(), *self.triggers())

    def check(self, connection: Connection, memo: dict[str, Any]) -> None:
        """Refuse a table that Citus distributes.

        :param memo: the memo of the run of ``create_all``.
        :raises DistributionError: names the table.
        """
        for found in placements_in_run(connection, [self.table], memo).values():
            refuse(attached_problem(*found))

    def is_ignored(self, names: frozenset[str]) -> bool:
        """Return whether an active ``ignore`` block covers this trigger.

        :param names: the keys of the blocks, as ``switch_key`` makes them.
        """
        return self.trigger.ignorable and not names.isdisjoint(
            switch_keys(self.table.key, self.name)
        )


class Attachments:
    """The attachments of one MetaData."""

    def __init__(self) -> None:
        self._attached: dict[tuple[str, str], Attachment] = {}

    def add(self, attachment: Attachment) -> None:
        """Add an attachment."""
        self._attached[attachment.table.key, attachment.name] = attachment

    def of_table(self, table: Table) -> list[Attachment]:
        """Return the attachments of a table, in the order they were made."""
        return [a for a in self._attached.values() if a.table is table]

    def __iter__(self) -> Iterator[Attachment]:
        return iter(self._attached.values())


def attachments_of(metadata: MetaData) -> Attachments:
    """Return the attachments of a MetaData, an empty collection at first."""
    attachments: Attachments = metadata.info.setdefault(INFO_KEY, Attachments())
    return attachments
