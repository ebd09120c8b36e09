"""Keys that two rows had at once, which a deferrable primary key allows for a while.

Events tell rows apart by their keys. Where two rows had one, it is not known which of
them an event is of, and so not what its row was before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, FromClause, and_, exists, or_

from sa_history._types import Op
from sa_history.capture.event_table import OLD_KEY
from sa_history.tracking.completeness import GONE, is_one_of
from sa_history.tracking.event_keys import have_key, keys_of, old_keys_of
from sa_history.tracking.registry import Tracking


def had_shared_key(tracking: Tracking, event: FromClause) -> ColumnElement[bool] | None:
    """Return whether another row may have had the key of an event's row before it.

    An example, in which one UPDATE exchanges the keys of row a (1) and row b (2)::

        pgh_id  pgh_op  key  pgh_old_key
        11      I       2                 owner: row b has the key 2
        12      U       2    [1]          arrival: row a gets the key 2, too
        13      U       1    [2]          event: which of the two leaves the key 2?

    :param event: the event table, or an alias of it.
    :return: None if the primary key is not deferrable, and so never shared.
    """
    if not tracking.table.primary_key.deferrable:
        return None
    arrival, owner, deleted, left = (
        tracking.event_table.alias(f"pgh_{name}")
        for name in ("arrival", "owner", "deleted", "left")
    )
    key = keys_of(tracking, arrival)
    is_sibling = and_(  # of one change, under two labels
        owner.c.pgh_xact_id == arrival.c.pgh_xact_id,
        owner.c.pgh_op == arrival.c.pgh_op,
        owner.c[OLD_KEY].is_not_distinct_from(arrival.c[OLD_KEY]),
        owner.c.pgh_label != arrival.c.pgh_label,
    )
    was_deleted = exists().where(
        *have_key(tracking, deleted, key),
        deleted.c.pgh_id.between(owner.c.pgh_id, arrival.c.pgh_id),
        is_one_of(deleted.c.pgh_op, GONE),
    )
    has_left = exists().where(
        left.c[OLD_KEY].is_not(None),
        *_are_equal(old_keys_of(tracking, left), key),
        left.c.pgh_id > owner.c.pgh_id,
        left.c.pgh_id < arrival.c.pgh_id,
    )
    has_owner = exists().where(
        *have_key(tracking, owner, key),
        owner.c.pgh_id < arrival.c.pgh_id,
        ~is_sibling,
        ~was_deleted.correlate(owner, arrival),
        ~has_left.correlate(owner, arrival),
    )
    is_shared = exists().where(
        *_are_equal(key, old_keys_of(tracking, event)),
        arrival.c.pgh_xact_id == event.c.pgh_xact_id,
        arrival.c.pgh_id < event.c.pgh_id,
        or_(arrival.c[OLD_KEY].is_not(None), arrival.c.pgh_op == Op.INSERT.value),
        has_owner.correlate(arrival),
    )
    return is_shared.correlate(event)


def _are_equal(
    one: Sequence[ColumnElement[Any]], other: Sequence[ColumnElement[Any]]
) -> list[ColumnElement[bool]]:
    return [a == b for a, b in zip(one, other, strict=True)]
