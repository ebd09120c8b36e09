"""The rows of a statement-level trigger, as ``OLD`` and ``NEW`` in a FROM clause.

In a function with ``#variable_conflict use_column`` these aliases hide the records of
PL/pgSQL with the same names, so that one text of a condition serves both levels.
"""

from __future__ import annotations

from sa_history._types import Operation
from sa_history.ddl.elements import NEW_ROWS, OLD_ROWS
from sa_history.sql.compose import Fragment, Joined, Literal, Qualified, Raw, RegClass
from sa_history.sql.functions import refuse
from sa_history.util.postgresql import INSUFFICIENT_PRIVILEGE

USE_COLUMN = "\n#variable_conflict use_column\n"
"""The beginning of the body of a function with such a FROM clause."""

ROW_NUMBER = "pgh_row"
"""The column by which old and new rows are paired; a table may not have it."""


def pairs_with(further: str = "") -> str:
    """Return :data:`PAIRS`, whose new rows have further columns.

    :param further: the columns, each with a comma after it.
    """
    return (
        f"(SELECT row_number() OVER () AS {ROW_NUMBER}, {further}* FROM {NEW_ROWS})"
        " AS NEW\n    FULL JOIN"
        f" (SELECT row_number() OVER () AS {ROW_NUMBER}, * FROM {OLD_ROWS}) AS OLD"
        f" ON NEW.{ROW_NUMBER} = OLD.{ROW_NUMBER}"
    )


PAIRS = pairs_with()
"""The old and the new rows of an update, paired by position.

PostgreSQL fills both transition tables together, row by row, so a row whose key has
changed is paired as well. PL/pgSQL keeps the plan that it made for one row; an inner
join would then be a nested loop, 100 times slower for 20,000 rows. A full join on a
merge-joinable clause is never a nested loop.
"""


def rows_of(operation: Operation, table: Qualified, row: str) -> Fragment:
    """Return the FROM item with the old or the new rows of a statement.

    :param operation: the operation.
    :param table: the table that the trigger is on, which a TRUNCATE will empty.
    :param row: ``"old"`` or ``"new"``.
    """
    if operation is Operation.TRUNCATE:
        return truncated_rows(table, may_be_left=False)
    rows = NEW_ROWS if row == "new" else OLD_ROWS
    return Raw(f"{rows} AS {row.upper()}")


def truncated_rows(table: Qualified, may_be_left: bool) -> Fragment:
    """Return the FROM item with the rows that a TRUNCATE removes.

    They are those of the table itself, of its partitions, and of tables that inherit
    from it, unless it is TRUNCATE ONLY.

    :param table: the table.
    :param may_be_left: whether rows count of which that is not known.
    """
    # A trigger is not told of ONLY. But PostgreSQL has locked all tables that it will
    # truncate before it fires one. A table that this transaction has created, or whose
    # definition it has changed, was locked by that: ONLY may leave its rows. pg_locks
    # is only read if there are rows of others.
    join, is_known = "", ""
    if not may_be_left:
        join = "\n          JOIN pg_class AS c ON c.oid = l.relation"
        is_known = (
            "\n            AND (c.relispartition"
            " OR c.xmin <> pg_current_xact_id()::xid)"
        )
    return Joined(
        (
            Raw("(SELECT * FROM "),
            table,
            Raw(" AS every\n      WHERE every.tableoid = "),
            RegClass(table),
            Raw(
                "\n        OR every.tableoid IN ("
                "\n          SELECT l.relation FROM pg_locks AS l"
                "\n          JOIN pg_database AS d ON d.oid = l.database"
                f"{join}"
                "\n          WHERE d.datname = current_database()"
                "\n            AND l.pid = pg_backend_pid() AND l.locktype = 'relation'"
                "\n            AND l.mode = 'AccessExclusiveLock' AND l.granted"
                f"{is_known}"
                "\n        )) AS OLD"
            ),
        )
    )


def refuse_hidden_rows(operation: Operation, indent: str) -> Fragment:
    """Return the statement that refuses a TRUNCATE some of whose rows may not be seen.

    A policy is for the owner of a table, too, by FORCE ROW LEVEL SECURITY, and for
    whoever else the function belongs to. It has no say about TRUNCATE itself, and none
    about transition tables.

    :param operation: the operation; the others read no table, and get nothing.
    :param indent: the spaces before each line.
    """
    if operation is not Operation.TRUNCATE:
        return Raw("")
    return Joined(
        (
            Raw(f"{indent}IF pg_catalog.row_security_active(TG_RELID) THEN\n"),
            refuse(
                Literal(
                    "% of %.% is refused: row-level security may hide rows from the "
                    "trigger %"
                ),
                (
                    Raw("TG_OP"),
                    Raw("TG_TABLE_SCHEMA"),
                    Raw("TG_TABLE_NAME"),
                    Raw("TG_NAME"),
                ),
                INSUFFICIENT_PRIVILEGE,
                Literal(
                    "DELETE the rows, or first give NO FORCE ROW LEVEL SECURITY to the "
                    "table, or BYPASSRLS to the owner of the trigger's function."
                ),
                indent=f"{indent}  ",
            ),
            Raw(f"{indent}END IF;\n"),
        )
    )


def holds_for_pair(condition: str) -> str:
    """Return a condition on :data:`PAIRS`, in a form that keeps the full join.

    CASE keeps the planner from seeing a strict condition, by which it would turn the
    full join back into an inner one. A row without its other half means that the rows
    after it are paired wrongly (a trigger of a partition left one out), so it counts:
    a trigger that records then writes a row without a key, and one that refuses does.
    """
    return (
        f"CASE WHEN ({condition}) OR NEW.{ROW_NUMBER} IS NULL"
        f" OR OLD.{ROW_NUMBER} IS NULL"
        " THEN true ELSE false END"
    )
