"""An event as the timeline shows it."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sa_history._types import Op
from sa_history.exc import DefinitionError
from sa_history.tracking.registry import Tracking

MASKED = "•••"
"""What stands in the place of a value that is not shown."""

_VERBS = {
    Op.INSERT: "created",
    Op.UPDATE: "changed",
    Op.DELETE: "deleted",
    Op.TRUNCATE: "truncated",
    Op.MANUAL: "noted",
    Op.BASELINE: "began",
}


@dataclass(frozen=True)
class Masks:
    """What is never shown.

    :param names: attributes, as ``"password"`` or ``"User.email"``.
    """

    names: frozenset[str]

    def hides(self, model: str, attribute: str) -> bool:
        """Return whether an attribute is hidden."""
        return attribute in self.names or f"{model}.{attribute}" in self.names

    def require(self, trackings: Iterable[Tracking]) -> None:
        """Refuse names that hide nothing, since what they were to hide is shown.

        :raises DefinitionError: there are such.
        """
        known = {
            name
            for tracking in trackings
            for attribute in tracking.tracked_columns.by_attribute
            for name in (attribute, f"{tracking.subject}.{attribute}")
        }
        if unknown := sorted(self.names - known):
            raise DefinitionError(
                f"mask names {', '.join(unknown)}, which no tracked model has; write "
                "attributes as 'password' or 'User.password'"
            )


@dataclass(frozen=True)
class Entry:
    """An event, with what hides from view hidden.

    :param id: its number.
    :param table: the event table.
    :param model: the name of the tracked class.
    :param key: of the row, as text; None for none, and for one that is not shown.
    :param verb: what was done.
    :param label: of the tracker.
    :param time: when.
    :param who: the user.
    :param transaction: the number of the transaction.
    :param context_id: the id of the context.
    :param context: its metadata.
    :param data: the row, by attribute.
    :param diff: what changed, None where it is not known.
    """

    id: int
    table: str
    model: str
    key: str | None
    verb: str
    label: str
    time: datetime.datetime
    who: str | None
    transaction: int
    context_id: uuid.UUID | None
    context: Mapping[str, Any]
    data: Mapping[str, Any]
    diff: Mapping[str, tuple[Any, Any]] | None

    @classmethod
    def of(
        cls,
        row: Any,
        tracking: Tracking,
        masks: Masks,
        who: Callable[[Mapping[str, Any]], str | None],
    ) -> Entry:
        """Return a row of AggregateEvent as an entry.

        :param tracking: whose event it is.
        """
        model, metadata = row.pgh_obj_model, row.pgh_context or {}

        def shown(name: str, value: Any) -> Any:
            hidden = value is not None and masks.hides(model, name)
            return MASKED if hidden else value

        diff, columns = row.pgh_diff, tracking.tracked_columns
        has_key = not any(masks.hides(model, name) for name in columns.key)
        return cls(
            id=row.pgh_id,
            table=tracking.event_table.fullname,
            model=model,
            key=row.pgh_obj_id if has_key else None,
            verb=_VERBS.get(Op(row.pgh_op), row.pgh_op),
            label=row.pgh_label,
            time=row.pgh_created_at,
            who=who(metadata),
            transaction=row.pgh_xact_id,
            context_id=row.pgh_context_id,
            context=metadata,
            data={name: shown(name, value) for name, value in row.pgh_data.items()},
            diff=None
            if diff is None
            else {n: (shown(n, was), shown(n, now)) for n, (was, now) in diff.items()},
        )

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "id": self.id,
            "model": self.model,
            "key": self.key,
            "label": self.label,
            "did": self.verb,
            "time": self.time.isoformat(),
            "user": self.who,
            "transaction": self.transaction,
            "context_id": None if self.context_id is None else str(self.context_id),
            "context": dict(self.context),
            "data": dict(self.data),
            "diff": None if self.diff is None else dict(self.diff),
        }


def changed(before: Entry, after: Entry) -> dict[str, tuple[Any, Any]]:
    """Return what differs between two versions."""
    return {
        name: (before.data.get(name), after.data.get(name))
        for name in {**before.data, **after.data}
        if before.data.get(name) != after.data.get(name)
    }


def as_text(value: Any) -> str:
    """Return a value as a page shows it."""
    if value is None:
        return "—"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
