"""Attaching triggers to a model: ``@attach(...)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Table

from sa_history.attachments import soft_delete_flush as _soft_deletion  # noqa: F401 (registers)
from sa_history.attachments.ddl_events import install_attached_with_table
from sa_history.attachments.fetched_values import mark_written, written_columns
from sa_history.attachments.registry import Attachment, attachments_of
from sa_history.ddl.name_registry import claims_of
from sa_history.definition.mapped_tables import definition_target, is_view
from sa_history.exc import DefinitionError
from sa_history.triggers.base import TableTrigger

T = TypeVar("T", bound="type[Any] | Table")


def attach(*triggers: TableTrigger) -> Callable[[T], T]:
    """Attach triggers to a mapped class, a table or a view.

    ``create_all`` installs them with the table, and ``drop_all`` takes them away. The
    columns that a trigger sets are marked, so that a flush returns their values.

    :param triggers: such as ``Protect(Delete)``, ``Versioned("version")`` or any
        :class:`Trigger`.
    :return: a decorator that returns the class or table.
    :raises DefinitionError: something in a definition cannot work; the message says
        what, and what to write.

    Example::

        @attach(Protect(Delete), Touch("updated_at"))
        class Account(Base): ...


        attach(Protect(Update | Delete))(ledger_table)
    """
    if not triggers or not all(isinstance(t, TableTrigger) for t in triggers):
        raise DefinitionError(
            f"attach takes triggers such as Protect(Delete), got {triggers!r}"
        )

    def decorate(target: T) -> T:
        subject, table, model = definition_target(target, "attach")
        attachments = [Attachment(t, subject, table, model) for t in triggers]
        _check_names(subject, table, attachments)
        made = [(a, a.function(), a.triggers()) for a in attachments]
        for attachment, function, triggers_made in made:
            claims, owner = claims_of(table.metadata), f"{subject}.{attachment.name}"
            claims.function(function, table, owner)
            for trigger in triggers_made:
                claims.trigger(trigger, table, owner)
            attachments_of(table.metadata).add(attachment)
            mark_written(attachment)
            if not is_view(table):
                install_attached_with_table(attachment)
        return target

    return decorate


def fits(trigger: TableTrigger, model: type[Any]) -> bool:
    """Return whether a trigger can be attached to a mapped class."""
    subject, table, model_ = definition_target(model, "attach")
    attachment = Attachment(trigger, subject, table, model_)
    try:
        attachment.function()
        attachment.triggers()
        written_columns(attachment)
    except DefinitionError:
        return False
    return True


def _check_names(subject: str, table: Table, attachments: list[Attachment]) -> None:
    seen = {a.name: a for a in attachments_of(table.metadata).of_table(table)}
    for attachment in attachments:
        other = seen.get(attachment.name)
        if other is not None:
            raise DefinitionError(
                f"{subject}: the name {attachment.name!r} is used by "
                f"{type(other.trigger).__name__} and "
                f"{type(attachment.trigger).__name__}; give one of them another "
                "name=..."
            )
        seen[attachment.name] = attachment
