"""Indexes that are created in one message, after their table.

SQLAlchemy sends a statement for each index of a table that it creates. What an index of
an empty table costs is mostly that message, and an event table has several.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Index, Table, event
from sqlalchemy.schema import CreateIndex

from sa_history.ddl.elements import Script
from sa_history.ddl.execution import run_memo, takes_scripts

_NEXT = "sa_history_next_index"
"""The key in ``Connection.info`` of the batch that the next index may go to."""


class BatchedIndex(Index):
    """An index that is created with the others of its table, if the driver can do so.

    It is one by itself for whoever creates it alone, and for Alembic. SQLAlchemy's
    condition for the DDL of an index is what leaves it out of the run of a table.

    :param arguments: those of SQLAlchemy's ``Index``.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.ddl_if(callable_=_is_created_now)


def begin_batch(table: Table, connection: Connection, memo: dict[str, Any]) -> None:
    """Keep the batched indexes of a table from being created one by one.

    :param memo: the memo of the run that creates the table.
    """
    if takes_scripts(connection, memo):
        memo[_batch(table)] = []


def create_batch(table: Table, connection: Connection, memo: dict[str, Any]) -> None:
    """Create the indexes that were kept from it since :func:`begin_batch`.

    :param memo: the memo of the run that creates the table.
    """
    indexes = memo.pop(_batch(table), [])
    if indexes:
        connection.execute(Script([CreateIndex(index) for index in indexes]))


def _batch(table: Any) -> str:
    """Return the key of a table's batch in the memo of a run."""
    return f"sa_history_batch:{table.key}"


@event.listens_for(BatchedIndex, "before_create")
def _find_batch(index: BatchedIndex, connection: Connection, **options: Any) -> None:
    """Remember the batch of the run, which is not known where the index is left out."""
    if not isinstance(connection, Connection):
        return  # a mock connection prints each statement
    connection.info.pop(_NEXT, None)
    batch = run_memo(options).get(_batch(index.table))
    # Who listens for the index finds it.
    if batch is not None and not index.dispatch.after_create:
        connection.info[_NEXT] = (index, batch)


def _is_created_now(ddl: Any, target: Any, bind: Any, *_: Any, **__: Any) -> bool:
    if not isinstance(bind, Connection):
        return True
    index, batch = bind.info.pop(_NEXT, (None, None))
    if index is not target:
        return True
    batch.append(index)
    return False
