"""Events that were made together, as a list shows them: a card for each request."""

from __future__ import annotations

import uuid
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sa_history.timeline.entries import Entry


@dataclass(frozen=True)
class Card:
    """Events of a list that were made in one context, or without any in a transaction.

    :param entries: the events, newest first.
    :param continues: whether the next page has more of them.
    """

    entries: Sequence[Entry]
    continues: bool

    @property
    def newest(self) -> Entry:
        """The newest event."""
        return self.entries[0]

    @property
    def transactions(self) -> list[int]:
        """The numbers of the transactions, newest first."""
        return [*dict.fromkeys(entry.transaction for entry in self.entries)]

    @property
    def restored(self) -> int | None:
        """The number of the event that was restored, None if it is no restore."""
        return _number(self.newest.context.get("restored"))

    @property
    def undone_transaction(self) -> int | None:
        """The number of the transaction that was undone, or None."""
        return _number(self._undone.get("transaction"))

    @property
    def undone_context(self) -> uuid.UUID | None:
        """The id of the context that was undone, or None."""
        try:
            return uuid.UUID(self._undone.get("context"))
        except (TypeError, ValueError, AttributeError):
            return None  # anybody's SQL can write what it likes

    @property
    def _undone(self) -> Mapping[str, Any]:
        undone = self.newest.context.get("undo")
        return undone if isinstance(undone, Mapping) else {}

    @property
    def counts(self) -> list[tuple[str, list[tuple[str, int]]]]:
        """How many events each operation has by model, in the order of the events."""
        counts: dict[str, dict[str, int]] = {}
        for entry in self.entries:
            models = counts.setdefault(entry.operation, {})
            models[entry.model] = models.get(entry.model, 0) + 1
        return [(operation, [*models.items()]) for operation, models in counts.items()]


def cards_of(entries: Iterable[Entry], following: Entry | None) -> list[Card]:
    """Return the events of a page as cards, those with the newest events first.

    :param following: the first event of the next page, None if there is none.
    """
    together: dict[Hashable, list[Entry]] = {}
    for entry in entries:
        together.setdefault(_key(entry), []).append(entry)
    continues = None if following is None else _key(following)
    return [Card(found, key == continues) for key, found in together.items()]


def _key(entry: Entry) -> Hashable:
    return entry.transaction if entry.context_id is None else entry.context_id


def _number(value: Any) -> int | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 0 <= abs(value) < 2**63 else None
