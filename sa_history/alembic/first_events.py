"""First events for the rows of a table that becomes tracked, as an operation."""

from __future__ import annotations

from alembic.operations import ops
from sqlalchemy import MetaData

from sa_history.alembic.operations import HistoryOp
from sa_history.baseline import LABEL, baseline_insert
from sa_history.objects import trackings_in
from sa_history.sql.compose import SchemaNames
from sa_history.sql.expressions import Query


def baselines(
    upgrade_ops: ops.UpgradeOps, metadatas: list[MetaData], schemas: SchemaNames
) -> list[HistoryOp]:
    """Return the operations for the event tables that are created now."""
    created = {
        (operation.schema, operation.table_name)
        for operation in upgrade_ops.ops
        if isinstance(operation, ops.CreateTableOp)
    }
    return [
        HistoryOp(
            f"first events of {tracking.table.fullname}",
            [Query(baseline_insert(tracking, LABEL)).render(schemas)],
            (f"first events of {tracking.table.fullname} go with their table", []),
        )
        for metadata in metadatas
        for tracking in trackings_in(metadata)
        if (tracking.event_table.schema, tracking.event_table.name) in created
        and (tracking.table.schema, tracking.table.name) not in created
        and tracking.tracked_columns.key
    ]
