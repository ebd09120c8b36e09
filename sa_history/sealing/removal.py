"""The record of old events that a retention removes, for verifications after it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, MetaData

from sa_history.exc import SealError
from sa_history.sealing.chain import last_seal
from sa_history.sealing.erasure_log import add_to_log
from sa_history.sealing.sources import ledger_of
from sa_history.util.arguments import metadata_of


def last_sealed_id(
    connection: Connection, models: MetaData | type[Any], event_table: str
) -> int:
    """Return the number up to which the events of a table are sealed; 0 if none are.

    :param models: as for :func:`record_removal`.
    :param event_table: as for :func:`record_removal`.
    :raises SealError: the models have no seals, or their tables are missing.
    """
    seal = last_seal(ledger_of(connection, metadata_of(models, SealError)), event_table)
    return 0 if seal is None else seal.last_id


def record_removal(
    connection: Connection,
    models: MetaData | type[Any],
    event_table: str,
    first_id: int,
    last_id: int,
    reason: str,
) -> int:
    """Record that the events with some numbers are removed, in the same transaction.

    A verification tells of what is missing there as removed, which is no fault. The
    record itself is sealed as events are.

    :param models: a declarative base or a MetaData with seals.
    :param event_table: the event table by its name in the models, with the schema that
        they give it.
    :param first_id: the number of the first event that is removed.
    :param last_id: the number of the last one.
    :param reason: why, for who reads the record.
    :return: the number of the record in the log of erasures.
    :raises SealError: the models have no seals, or their tables are missing.
    """
    ledger = ledger_of(connection, metadata_of(models, SealError))
    ledger.wait_for_turn()
    return add_to_log(
        ledger,
        table_name=event_table,
        keys=[],
        first_id=first_id,
        last_id=last_id,
        events=0,
        contexts=0,
        reason=reason,
    )
