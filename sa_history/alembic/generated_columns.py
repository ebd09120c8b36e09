"""Generated columns that the database does not store as the model says.

Alembic compares the expression of a generated column, and not its kind, STORED or
VIRTUAL. The kind matters to triggers: a virtual column has no value when they run.
PostgreSQL cannot change it, so the column is dropped and added again.
"""

from __future__ import annotations

from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from alembic.util import PriorityDispatchResult
from sqlalchemy import Table

from sa_history.definition.columns import kind_of_generated
from sa_history.tracking.ignore import has_triggers


def compare_generated_columns(
    autogen_context: AutogenContext,
    modify_table_ops: ops.ModifyTableOps,
    schema: str | None,
    table_name: str,
    reflected: Table | None,
    table: Table | None,
) -> PriorityDispatchResult:
    """Renew the generated columns of another kind than the model's."""
    if reflected is not None and table is not None and has_triggers(table):
        renewed: list[ops.MigrateOperation] = []
        for column in table.columns:
            found = reflected.columns.get(column.name)
            wanted = kind_of_generated(column)
            if found is None or wanted is None:
                continue
            if kind_of_generated(found) not in (None, wanted):
                renewed += [
                    ops.DropColumnOp.from_column_and_tablename(
                        schema, table_name, found
                    ),
                    ops.AddColumnOp.from_column_and_tablename(
                        schema, table_name, column
                    ),
                ]
        # First, since what Alembic does may be about the new columns, such as an index.
        modify_table_ops.ops[:0] = renewed
    return PriorityDispatchResult.CONTINUE
