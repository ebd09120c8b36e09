"""The erasure of contexts: of the values of keys in the metadata.

A context is that of events of many objects and tables, and has the values of the block
around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB

from sa_history.capture.context_storage import CONTEXT_ID_COLUMN
from sa_history.exc import ErasureError
from sa_history.sealing.chain import Seal
from sa_history.sealing.erasure_log import insert_erased
from sa_history.sealing.leaves import context_commitment, has_keys, picked
from sa_history.sealing.sources import ArchivedHistory, Ledger


def erased_context_keys(ledger: Ledger, seals: Sequence[Seal]) -> tuple[str, ...]:
    """Return the keys that are erased of contexts: those of all models and seals."""
    of_seals = (one.leaf_columns.context_keys for one in seals)
    keys = {key for some in (ledger.context_keys(), *of_seals) for key in some}
    return tuple(sorted(keys))


def require_context_commitments(
    ledger: Ledger, seals: Sequence[Seal], ids: Sequence[Any], keys: Sequence[str]
) -> None:
    """Refuse contexts that a seal has without a commitment to all that is erased.

    The contexts may be those of events of other objects, too, and of other tables.

    :raises ErasureError: there is such a context.
    """
    tables = {one.name: one for one in ledger.sealed_tables()}
    for one in seals if ids else ():
        known = one.leaf_columns
        missing = [key for key in keys if key not in known.context_keys]
        sealed = tables.get(one.table_name)
        if not missing or sealed is None or not known.refers_to_contexts:
            continue
        events = ledger.place(sealed.table, [sealed.id, CONTEXT_ID_COLUMN])
        number = ledger.connection.scalar(
            select(func.min(events.c[sealed.id])).where(
                is_any_of(events.c[CONTEXT_ID_COLUMN], ids),
                events.c[sealed.id].between(one.first_id, one.last_id),
            )
        )
        if number is not None:
            raise sealed_before(one, number, missing)


def sealed_before(seal: Seal, number: int, missing: Sequence[str]) -> ErasureError:
    """Return the error of an event that is sealed without commitments.

    :param seal: its seal.
    :param number: the number of the event.
    :param missing: the columns and keys that the seal has no commitment to.
    """
    return ErasureError(
        f"event {number} of {seal.table_name} was sealed when "
        f"{', '.join(sorted(missing))} could not be erased yet, by seal {seal.number}; "
        "delete the seals from that one on, and seal again"
    )


def with_inherited(
    ledger: Ledger,
    ids: Sequence[Any],
    keys: Sequence[str],
    archived: ArchivedHistory | None,
) -> list[Any]:
    """Return contexts with those that have a value from them, or they from those.

    The context of a nested block has the values of the block around it as well.

    :param ids: the ids of the contexts.
    :param keys: the keys whose values are erased.
    :param archived: has the contexts that the database has no more; None without.
    """
    table = ledger.history.shared.context_table
    known = dict.fromkeys(ids)
    new = [*known]
    while new:
        if archived is not None:
            archived.load_contexts([*known])
            one = ledger.place(table)
            around = select(one.c.parent_id).where(
                is_any_of(one.c.id, new), one.c.parent_id.is_not(None)
            )
            parents = ledger.connection.scalars(around).all()
            archived.load_contexts([*dict.fromkeys([*known, *parents])])
        one, other = ledger.place(table), ledger.place(table).alias("other")
        values = zip(
            picked(one.c.metadata, keys), picked(other.c.metadata, keys), strict=True
        )
        has_same = or_(
            *(and_(func.jsonb_typeof(a) != "null", a == b) for a, b in values)
        )
        new = []
        for is_near in (
            other.c.id == one.c.parent_id,
            other.c.parent_id == one.c.id,
        ):
            query = select(other.c.id).where(
                is_any_of(one.c.id, [*known]), is_near, has_same
            )
            found = ledger.connection.scalars(query.distinct())
            new += [number for number in found if number not in known]
        known |= dict.fromkeys(new)
    return [*known]


def contexts_of(ledger: Ledger, ids: Sequence[Any], keys: Sequence[str]) -> list[Any]:
    """Return the ids of the contexts that have something to erase."""
    if not ids:
        return []
    contexts = ledger.place(ledger.history.shared.context_table)
    query = select(contexts.c.id).where(
        is_any_of(contexts.c.id, ids),
        has_keys(contexts.c.metadata, keys),
    )
    return list(ledger.connection.scalars(query))


def erase_contexts(
    ledger: Ledger, erasure: int, ids: Sequence[Any], keys: Sequence[str]
) -> None:
    """Commit to the values of contexts, and erase them.

    :param erasure: the number of the erasure.
    :param ids: the ids of the contexts.
    :param keys: the keys whose values are erased.
    """
    if not ids:
        return
    table = ledger.history.shared.context_table
    contexts = ledger.place(table)
    salt = ledger.place(ledger.tables.salt)
    number = sql_cast(contexts.c.id, Text)
    name = table.fullname
    is_one = is_any_of(contexts.c.id, ids)
    is_own_salt = and_(salt.c.table_name == name, salt.c.key == number)
    rows = (
        select(
            literal(name, Text),
            number,
            literal(erasure, BigInteger),
            literal(list(keys), ARRAY(Text)),
            case((salt.c.salt.is_not(None), context_commitment(contexts, salt, keys))),
        )
        .select_from(contexts.outerjoin(salt, is_own_salt))
        .where(is_one)
    )
    erased = ledger.place(ledger.tables.erased)
    execute = ledger.connection.execute
    execute(insert_erased(erased, rows))
    own = ledger.place_own(table)
    metadata = nulled(own.c.metadata, keys)
    is_own = is_any_of(own.c.id, ids)
    execute(update(own).where(is_own).values(metadata=metadata))
    execute(
        delete(salt).where(
            salt.c.table_name == name, salt.c.key.in_([str(one) for one in ids])
        )
    )


def is_any_of(column: Any, ids: Sequence[Any]) -> Any:
    """Return whether a column has one of some ids of contexts."""
    given = sql_cast(bindparam(None, list(ids), ARRAY(Uuid)), ARRAY(Uuid))
    return column == func.any(given)


def nulled(metadata: Any, keys: Sequence[str]) -> Any:
    """Return the metadata of a context with null for the values of some keys."""
    for key in keys:
        path = sql_cast(literal([key], ARRAY(Text)), ARRAY(Text))
        nothing = sql_cast(literal_column("'null'"), JSONB)
        # Without creating a key that is not there.
        metadata = func.jsonb_set(metadata, path, nothing, literal_column("false"))
    return metadata
