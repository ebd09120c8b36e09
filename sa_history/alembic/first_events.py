"""First events for the rows of a table that becomes tracked, as an operation."""

from __future__ import annotations

import logging
from typing import Any

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, Operations, ops
from sqlalchemy import MetaData

from sa_history.alembic.operations import HistoryOp, created_tables, quoted_lines
from sa_history.sql.compose import DollarQuoted, Joined, Raw, SchemaNames
from sa_history.sql.expressions import Query
from sa_history.tracking.distribution import refuse_distributed
from sa_history.tracking.registry import Tracking, trackings_in
from sa_history.writing.baseline import LABEL, baseline_insert

# Of Alembic's, whose messages its usual configuration shows.
log = logging.getLogger("alembic.sa_history")

BATCH = 100_000
"""How many rows get their first event by one statement."""


@Operations.register_operation("history_baseline")
class BaselineOp(MigrateOperation):
    """Gives rows their first event, in batches.

    :param table: the tracked table, for messages.
    :param statement: the final SQL of one batch, which returns how many rows it gave
        their first event; it is run until there are none.
    """

    def __init__(self, table: str, statement: str) -> None:
        self.table = table
        self.statement = statement

    @classmethod
    def history_baseline(
        cls, operations: Operations, table: str, statement: str
    ) -> BaselineOp:
        """Give rows their first event, a batch at a time, and log how many have it.

        Rows that have one are left out, so it can be run again. In an
        ``autocommit_block`` each batch is committed.

        :param table: the tracked table, for messages.
        :param statement: the SQL of one batch, which returns the number of its rows.

        Example::

            with op.get_context().autocommit_block():
                op.history_baseline("account", "WITH written AS (...) SELECT ...")
        """
        operation = cls(table, statement)
        operations.invoke(operation)
        return operation

    def reverse(self) -> HistoryOp:
        """Return the operation for the downgrade, which drops the event table."""
        return HistoryOp(f"first events of {self.table} go with their table", ())

    def to_diff_tuple(self) -> tuple[str, str]:
        """Return the difference that ``alembic check`` shows."""
        return ("history_baseline", self.table)


@Operations.implementation_for(BaselineOp)
def run_baseline_op(operations: Operations, operation: BaselineOp) -> None:
    """Run the statement until it finds no row, or print a loop that does."""
    context = operations.get_context()
    if context.as_sql:
        loop = Joined(
            (
                Raw("\nDECLARE\n  written bigint;\nBEGIN\n  LOOP\n    EXECUTE "),
                DollarQuoted(Raw(operation.statement)),
                Raw(" INTO written;\n    EXIT WHEN written = 0;\n  END LOOP;\nEND\n"),
            )
        )
        block = Joined((Raw("DO "), DollarQuoted(loop))).render(lambda _: "")
        context.impl.static_output(f"{block}{context.impl.command_terminator}")
        return
    connection: Any = operations.get_bind()
    total, statement = 0, operation.statement
    if connection.dialect.paramstyle in ("format", "pyformat"):
        statement = statement.replace("%", "%%")
    while written := connection.exec_driver_sql(statement).scalar():
        total += written
        log.info("first events of %s: %s", operation.table, total)


@renderers.dispatch_for(BaselineOp)
def render_baseline_op(autogen_context: AutogenContext, operation: BaselineOp) -> str:
    """Return the operation as it stands in a revision."""
    prefix: Any = autogen_context.opts["alembic_module_prefix"] or ""
    return "\n".join(
        [
            f"{prefix}history_baseline(",
            f"    {operation.table!r},",
            *quoted_lines(operation.statement),
            ")",
        ]
    )


def baselines(
    upgrade_ops: ops.UpgradeOps, metadatas: list[MetaData], schemas: SchemaNames
) -> list[BaselineOp]:
    """Return the operations for the event tables that are created now."""
    created = created_tables(upgrade_ops)
    wanted = [
        tracking
        for tracking in trackings_in(*metadatas)
        if (tracking.event_table.schema, tracking.event_table.name) in created
        and (tracking.table.schema, tracking.table.name) not in created
        and tracking.tracked_columns.key
    ]
    for tracking in wanted:
        refuse_distributed(tracking, "-x baseline")
    return [
        BaselineOp(tracking.table.fullname, _batch(tracking).render(schemas))
        for tracking in wanted
    ]


def _batch(tracking: Tracking) -> Joined:
    return Joined(
        (
            Raw("WITH written AS (\n"),
            Query(baseline_insert(tracking, LABEL, limit=BATCH)),
            Raw("\nRETURNING 1)\nSELECT count(*) FROM written"),
        )
    )
