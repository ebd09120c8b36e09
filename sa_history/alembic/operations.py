"""The operation in a revision: final SQL, and what it is for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, Operations, ops
from sqlalchemy import Connection

from sa_history.ddl.citus import read_trigger_problems, refuse
from sa_history.ddl.elements import Statement
from sa_history.ddl.execution import CITUS_SETTINGS, read_server
from sa_history.sql.compose import Raw


@Operations.register_operation("history_ddl")
class HistoryOp(MigrateOperation):
    """Runs statements about functions, triggers, views and sequences.

    :param what: what the statements do, in words.
    :param statements: the final SQL.
    :param undo: words and SQL of the operation that takes this one back, which
        autogenerate puts into the downgrade; None if nothing takes it back.
    """

    def __init__(
        self,
        what: str,
        statements: Sequence[str],
        undo: tuple[str, Sequence[str]] | None = None,
    ) -> None:
        self.what = what
        self.statements = tuple(statements)
        self.undo = undo

    @classmethod
    def history_ddl(
        cls, operations: Operations, what: str, *statements: str
    ) -> HistoryOp:
        """Run statements as they are, one after the other.

        :param what: what they do, for whoever reads the revision.
        :param statements: SQL; nothing in it is taken for a parameter.

        Example::

            op.history_ddl(
                "drop trigger account_event_insert on public.account",
                'DROP TRIGGER "account_event_insert" ON "public"."account"',
            )
        """
        operation = cls(what, statements)
        operations.invoke(operation)
        return operation

    def reverse(self) -> HistoryOp:
        """Return the operation for the downgrade.

        :raises NotImplementedError: nothing takes this operation back.
        """
        if self.undo is None:
            raise NotImplementedError(f"{self.what!r} cannot be taken back")
        what, statements = self.undo
        return HistoryOp(what, statements, (self.what, self.statements))

    def to_diff_tuple(self) -> tuple[str, str]:
        """Return the difference that ``alembic check`` shows."""
        return ("history_ddl", self.what)


@Operations.implementation_for(HistoryOp)
def run_history_op(operations: Operations, operation: HistoryOp) -> None:
    """Run the statements, or print them where there is no connection.

    :raises DistributionError: Citus distributes a table of a trigger that is made.
    """
    context = operations.get_context()
    if context.as_sql:
        for statement in operation.statements:
            # Not by execute(), which replaces tabs, in the bodies of functions too.
            terminator = context.impl.command_terminator
            context.impl.static_output(f"{statement}{terminator}")
        return
    connection = context.connection
    assert connection is not None  # there is none in offline mode alone
    has_citus = _has_citus(connection)
    known = read_trigger_problems(connection) if has_citus else {}
    settings = CITUS_SETTINGS if has_citus else ()
    for statement in (*settings, *operation.statements):
        context.impl.execute(Statement(Raw(statement)))
    if has_citus:
        # What was wrong before may be what the revision mends next.
        found = read_trigger_problems(connection)
        refuse(next((found[key] for key in found if key not in known), None))


_HAS_CITUS = "sa_history_has_citus"


def _has_citus(connection: Connection) -> bool:
    """Return whether the database has Citus; a connection is asked once."""
    if _HAS_CITUS not in connection.info:
        connection.info[_HAS_CITUS] = read_server(connection).has_citus
    found: bool = connection.info[_HAS_CITUS]
    return found


@renderers.dispatch_for(HistoryOp)
def render_history_op(autogen_context: AutogenContext, operation: HistoryOp) -> str:
    """Return the operation as it stands in a revision, which imports what has it."""
    autogen_context.imports.add("import sa_history.alembic")
    prefix: Any = autogen_context.opts["alembic_module_prefix"] or ""
    lines = [f"{prefix}history_ddl(", f"    {operation.what!r},"]
    for statement in operation.statements:
        lines += quoted_lines(statement)
    return "\n".join([*lines, ")"])


def created_tables(upgrade_ops: ops.UpgradeOps) -> set[tuple[str | None, str]]:
    """Return the schemas and names of the tables that a revision creates."""
    return {
        (operation.schema, operation.table_name)
        for operation in upgrade_ops.ops
        if isinstance(operation, ops.CreateTableOp)
    }


def quoted_lines(statement: str) -> list[str]:
    """Return a statement as an argument in a revision.

    Each line of SQL is a string of its own: Alembic indents what it is given, which
    would change a text of many lines.
    """
    lines = [f"    {part!r}" for part in statement.splitlines(keepends=True)]
    lines[-1] += ","
    return lines
