"""The decorator ``@attach(...)``, which attaches triggers to a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Table

# Imported to be run: it registers the before_flush listener that SoftDelete needs.
# Nothing calls it, and without attach() no table has a SoftDelete.
from sa_history.attachments import soft_delete_flush as _registers  # noqa: F401
from sa_history.attachments.fetched_values import fetched_columns, set_fetched_values
from sa_history.attachments.registry import Attachment, attachments_of
from sa_history.ddl.name_registry import name_registry_of
from sa_history.ddl.table_events import install_with_table
from sa_history.definition.mapped_tables import definition_target, is_view
from sa_history.exc import DefinitionError
from sa_history.triggers.base import TableTrigger

T = TypeVar("T", bound="type[Any] | Table")


def attach(*triggers: TableTrigger) -> Callable[[T], T]:
    """Attach triggers to a mapped class, a table or a view.

    ``create_all`` installs them with the table, and ``drop_all`` drops them. The
    columns that a trigger sets get a ``FetchedValue``, so that a flush reads their
    values.

    :param triggers: at least one, such as ``Protect(Delete)``, ``Versioned("version")``
        or any :class:`Trigger`.
    :return: a decorator that returns the class or table unchanged.
    :raises DefinitionError: something in a definition cannot work; the message says
        what, and what to write.

    Example::

        @attach(Protect(Delete), Touch("updated_at"))
        class Account(Base): ...


        attach(Protect(Update | Delete))(ledger_table)
    """
    if not triggers or not all(isinstance(t, TableTrigger) for t in triggers):
        raise DefinitionError(
            f"attach takes triggers such as Protect(Delete), got {triggers!r}; make "
            "one of a class by calling it"
        )

    def decorate(target: T) -> T:
        subject, table, model = definition_target(target, "attach")
        attachments = [Attachment(t, subject, table, model) for t in triggers]
        _check_names(subject, table, attachments)
        # All of them first: one that does not fit the table leaves nothing behind.
        definitions = [(attachment, attachment.objects()) for attachment in attachments]
        names = name_registry_of(table.metadata)
        for attachment, objects in definitions:
            for definition in objects:
                names.register(definition, table, f"{subject}.{attachment.name}")
            attachments_of(table.metadata).add(attachment)
            set_fetched_values(attachment)
            if not is_view(table):
                install_with_table(
                    table,
                    attachment.objects,
                    attachment.functions,
                    attachment.check,
                )
        return target

    return decorate


def fits(trigger: TableTrigger, model: type[Any]) -> bool:
    """Return whether a trigger can be attached to a mapped class."""
    subject, table, model_ = definition_target(model, "attach")
    attachment = Attachment(trigger, subject, table, model_)
    try:
        attachment.objects()
        fetched_columns(attachment)
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
