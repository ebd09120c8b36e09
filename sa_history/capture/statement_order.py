"""A deletion that would be recorded after the row that came in its place.

PostgreSQL fires the triggers for each statement in the order in which the parts of a
statement end. The main part of ``WITH gone AS (DELETE ...) INSERT ... LIMIT 1`` ends
first, as it does not read the ``WITH`` to its end. The last event of a row that is
there would be its deletion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sa_history._types import Op
from sa_history.ddl.elements import OLD_ROWS
from sa_history.exc import EventOrderError
from sa_history.sql.compose import (
    Fragment,
    Joined,
    Literal,
    Qualified,
    Raw,
    RowColumns,
    join,
)
from sa_history.sql.functions import refuse
from sa_history.sql.naming import DELETED_ROWS

DECLARATIONS = "DECLARE\n  pgh_deleted text;\n  pgh_found text;\n"
"""The variables of the statements below."""

# The counters of PostgreSQL's statistics are in memory, and an expression of PL/pgSQL
# without a table is no query: both cost less than a microsecond. A superuser can turn
# the counters off (track_counts); then nothing is refused.
_DELETED_ROWS = "pg_stat_get_xact_tuples_deleted(TG_RELID)"
_SETTING = f"'{DELETED_ROWS}' || TG_RELID"


@dataclass(frozen=True)
class KeyColumn:
    """A column of the key of a tracked table.

    :param name: the name of the column.
    :param event_name: the name of the event column that events are found by.
    :param equal_by_pg_catalog: whether ``=`` of its type is an operator of
        ``pg_catalog``; if not, its text is compared.
    """

    name: str
    event_name: str
    equal_by_pg_catalog: bool

    def equals(self, left: Fragment, right: Fragment) -> Fragment:
        """Return whether two values of the column are equal."""
        to_text = "" if self.equal_by_pg_catalog else "::text"
        return Joined(
            (left, Raw(f"{to_text} OPERATOR(pg_catalog.=) "), right, Raw(to_text))
        )


def remember_deleted_rows() -> Fragment:
    """Return the statement by which the branch of INSERT counts the deleted rows.

    The transaction remembers how many rows it had deleted from the table. It costs a
    setting only if it may have deleted some.
    """
    return Raw(
        f"    IF {_DELETED_ROWS} > 0 THEN\n"
        f"      pgh_deleted := set_config({_SETTING}, {_DELETED_ROWS}::text, true);\n"
        "    END IF;\n"
    )


def refuse_late_deletion(
    tracked: Qualified, events: Qualified, key: Sequence[KeyColumn]
) -> Fragment:
    """Return the statement by which the branch of DELETE refuses to come too late.

    If no row was deleted since an INSERT was recorded, then that INSERT came after the
    rows which are now to be recorded, or it was part of the same statement. Only then
    the function looks for a row under the key of a deleted one whose event is there.
    The event was written by a later command than the row; an event from before the
    statement was written by an earlier one.

    :param tracked: the tracked table.
    :param events: the event table.
    :param key: the columns of the key, one at least.
    """

    def column(row: str, name: str) -> Fragment:
        return RowColumns(row, (name,))

    deleted = RowColumns("OLD", tuple(each.name for each in key))
    is_there = (
        each.equals(column("again", each.name), column("OLD", each.name))
        for each in key
    )
    is_of_row = (
        each.equals(column("event", each.event_name), column("again", each.name))
        for each in key
    )
    return Joined(
        (
            Raw(
                f"    IF current_setting({_SETTING}, true)"
                f" = {_DELETED_ROWS}::text THEN\n"
                "      SELECT concat_ws(', ', "
            ),
            deleted,
            Raw(f") INTO pgh_found\n        FROM {OLD_ROWS} AS OLD\n        JOIN "),
            tracked,
            Raw(" AS again ON "),
            join(" AND ", is_there),
            Raw("\n        JOIN "),
            events,
            Raw(" AS event ON "),
            join(" AND ", is_of_row),
            Raw(
                "\n        WHERE event.pgh_xact_id = pg_current_xact_id()::text::bigint"
                f"\n          AND event.pgh_op IN ('{Op.INSERT}', '{Op.UPDATE}')"
                "\n          AND event.cmin::text::bigint > again.cmin::text::bigint"
                "\n        LIMIT 1;\n"
                "      IF FOUND THEN\n"
            ),
            refuse(
                Literal(
                    "% of %.% is refused: the row (%) is there again, and that is "
                    "recorded before its deletion"
                ),
                (
                    Raw("TG_OP"),
                    Raw("TG_TABLE_SCHEMA"),
                    Raw("TG_TABLE_NAME"),
                    Raw("pgh_found"),
                ),
                EventOrderError.sqlstate,
                Literal(
                    "Let the statement read its WITH to the end, use two statements, "
                    'or give track(level="row").'
                ),
                indent="        ",
            ),
            Raw("      END IF;\n    END IF;\n"),
        )
    )
