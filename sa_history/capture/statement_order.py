"""Changes that would be recorded in another order than the one they were made in.

PostgreSQL fires the triggers for each statement in the order in which the parts of a
statement end. The main part of ``WITH gone AS (DELETE ...) INSERT ... LIMIT 1`` ends
first, as it does not read the ``WITH`` to its end. The last event of a row that is
there would be its deletion.

A trigger of the user's may write a row that its statement has just written. Such a
nested statement ends, and is recorded, before the one around it. The last event of the
row would be a state that it has no more. So it is for each row, if the trigger fires
before the one that records: PostgreSQL fires them in the order of their names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sa_history._types import Op
from sa_history.exc import EventOrderError
from sa_history.sql.compose import (
    Fragment,
    Ident,
    Joined,
    Literal,
    Qualified,
    Raw,
    join,
)
from sa_history.sql.functions import refuse
from sa_history.sql.naming import DELETED_ROWS, NESTED_DEPTH

DECLARE_FOUND = "  pgh_found text;\n"
"""The variables of all statements below."""

DECLARE_DELETED = "  pgh_deleted text;\n"
"""The variables of :func:`remember_deleted_rows`."""

DECLARE_NESTED = "  pgh_depth integer;\n  pgh_nested boolean := false;\n"
"""The variables of :func:`notice_nested_writes`."""

# The counters of PostgreSQL's statistics are in memory, and an expression of PL/pgSQL
# without a table is no query: both cost less than a microsecond. A superuser can turn
# the counters off (track_counts); then nothing is refused.
_DELETED_ROWS = "pg_stat_get_xact_tuples_deleted(TG_RELID)"
_SETTING = f"'{DELETED_ROWS}' || TG_RELID"

COMES_AFTER_AN_INSERT = f"current_setting({_SETTING}, true) = {_DELETED_ROWS}::text"
"""Whether no row was deleted since an INSERT was recorded.

Then that INSERT came after the rows which are now to be recorded as deleted, or it was
part of the same statement.
"""

IS_AROUND_NESTED = "pgh_nested"
"""Whether a trigger's statement may be recorded that is nested in this one."""

_DEPTH = f"'{NESTED_DEPTH}' || TG_RELID"


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


def notice_nested_writes() -> Fragment:
    """Return the statement by which a function notices what is nested in what.

    The transaction remembers at which depth of triggers a change of the table was
    recorded, the greatest one. A change that is recorded later at a smaller depth may
    be one around it. Outside of triggers, and if no trigger has written the table, it
    costs half a microsecond.
    """
    return Raw(
        f"  IF pg_trigger_depth() > 1 OR current_setting({_DEPTH}, true) <> '' THEN\n"
        "    pgh_depth := COALESCE("
        f"NULLIF(current_setting({_DEPTH}, true), ''), '0');\n"
        "    IF pgh_depth > pg_trigger_depth() THEN\n"
        "      pgh_nested := true;\n"
        "    ELSIF pgh_depth < pg_trigger_depth() THEN\n"
        f"      pgh_found := set_config({_DEPTH}, pg_trigger_depth()::text, true);\n"
        "    END IF;\n"
        "  END IF;\n"
    )


@dataclass(frozen=True)
class OrderCheck:
    """How one operation refuses to record what would come too late.

    Events are compared with the rows that are there. The event of a row was written by
    a later command than the row, and an event from before the statement by an earlier
    one. A row may have been written once more since, which was no change to record;
    then it still has the values of its event.

    :param tracked: the tracked table.
    :param events: the event table.
    :param key: the columns of the key, one at least.
    :param by_row: whether the function is called for each row.
    :param source: the FROM clause with the rows; empty, if called for each row.
    :param stores_old_key: whether the event of an update stores the former key.
    :param columns: pairs of an event column and the tracked column that it stores.
    :param condition: SQL over ``OLD`` and ``NEW``, true of the rows that are recorded;
        None for all rows.
    """

    tracked: Qualified
    events: Qualified
    key: Sequence[KeyColumn]
    by_row: bool
    source: Fragment
    stores_old_key: bool
    columns: Sequence[tuple[str, str]]
    condition: str | None

    def refuse_late_deletion(self, suspicion: str) -> Fragment:
        """Return the statement by which the branch of DELETE refuses to come too late.

        It looks for a row under the key of a deleted one whose event is there.

        :param suspicion: SQL that is true if it may be too late.
        """
        again = self._exists(
            self.tracked, "again", "OLD", (_OF_TABLE, self._has_event("again"))
        )
        return self._refuse(
            suspicion,
            "OLD",
            again,
            "the row (%) is there again, and that is recorded before its deletion",
            _ROW_HINT if self.by_row else _DELETION_HINT,
        )

    def refuse_late_row(self, key_changes: str | None) -> Fragment:
        """Return the statement by which INSERT or UPDATE refuses to come too late.

        It looks for a row whose event is there already, and which is no more what is
        to be recorded; or which is gone, and so recorded. A row under the former key,
        whose event is there too, would look as if it was the one that left.

        :param key_changes: SQL over ``OLD`` and ``NEW`` that is true if an update
            changes the key, and the event stores the old one; None otherwise.
        """
        names = [name for _, name in self.columns]
        differs = Joined(
            (
                _row("again", names),
                Raw("::record OPERATOR(pg_catalog.*<>) "),
                _row("NEW", names),
                Raw("::record"),
            )
        )
        changed = self._exists(
            self.tracked,
            "again",
            "NEW",
            (_OF_TABLE, differs, self._has_event("again")),
        )
        there = self._exists(self.tracked, "again", "NEW", (_OF_TABLE,))
        left = [self._event("NEW", (Op.DELETE,))]
        if self.stores_old_key:
            left.append(self._moved_away())
        gone = Joined((Raw("NOT "), there, Raw(" AND ("), join(" OR ", left), Raw(")")))
        found = [changed, gone]
        if key_changes is not None:
            found.append(
                Joined(
                    (
                        Raw(f"({key_changes}) AND "),
                        self._exists(
                            self.tracked,
                            "again",
                            "OLD",
                            (
                                _OF_TABLE,
                                self._exists(
                                    self.tracked,
                                    "mine",
                                    "NEW",
                                    (_is_later("again", "mine"),),
                                ),
                                self._has_event("again"),
                            ),
                        ),
                    )
                )
            )
        return self._refuse(
            IS_AROUND_NESTED,
            "NEW",
            join("\n          OR ", found),
            "the row (%) was written again, and that is recorded before this change",
            _ROW_HINT if self.by_row else _STATEMENT_HINT,
        )

    def _refuse(
        self,
        suspicion: str,
        row: str,
        found: Fragment,
        message: str,
        hint: Fragment,
    ) -> Fragment:
        # As CASE keeps a full join of old and new rows; see holds_for_pair().
        recorded = "true" if self.condition is None else f"({self.condition})"
        return Joined(
            (
                Raw(f"    IF {suspicion} THEN\n      SELECT concat_ws(', ', "),
                join(", ", (_column(row, each.name) for each in self.key)),
                Raw(") INTO pgh_found"),
                self.source,
                Raw(f"\n        WHERE CASE WHEN {recorded} THEN\n          "),
                found,
                Raw(
                    "\n          ELSE false END\n"
                    "        LIMIT 1;\n"
                    "      IF FOUND THEN\n"
                ),
                refuse(
                    Literal(f"% of %.% is refused: {message}"),
                    (
                        Raw("TG_OP"),
                        Raw("TG_TABLE_SCHEMA"),
                        Raw("TG_TABLE_NAME"),
                        Raw("pgh_found"),
                    ),
                    EventOrderError.sqlstate,
                    hint,
                    indent="        ",
                ),
                Raw("      END IF;\n    END IF;\n"),
            )
        )

    def _has_event(self, row: str) -> Fragment:
        """Return whether an event tells that a row came or was changed."""
        is_of_row = Joined(
            (
                Raw("("),
                _is_later("event", row),
                Raw(f" OR {IS_AROUND_NESTED} AND "),
                # As text, which there is of any type, were it another than the event's.
                _row("event", [name for name, _ in self.columns]),
                Raw("::text OPERATOR(pg_catalog.=) "),
                _row(row, [name for _, name in self.columns]),
                Raw("::text)"),
            )
        )
        return self._event(row, (Op.INSERT, Op.UPDATE), (is_of_row,))

    def _event(
        self, row: str, ops: Iterable[str], conditions: Iterable[Fragment] = ()
    ) -> Fragment:
        listed = join(", ", map(Literal, ops))
        is_op = Joined((Raw("event.pgh_op IN ("), listed, Raw(")")))
        return self._exists(
            self.events, "event", row, (_IN_TRANSACTION, is_op, *conditions)
        )

    def _moved_away(self) -> Fragment:
        former = join(", ", (_column("NEW", each.name) for each in self.key))
        return Joined(
            (
                Raw("EXISTS (SELECT FROM "),
                self.events,
                Raw(
                    " AS event WHERE event.pgh_old_key OPERATOR(pg_catalog.=)"
                    " jsonb_build_array("
                ),
                former,
                Raw(") AND "),
                _IN_TRANSACTION,
                Raw(")"),
            )
        )

    def _exists(
        self,
        table: Qualified,
        alias: str,
        row: str,
        conditions: Iterable[Fragment],
    ) -> Fragment:
        """Return whether there is a row of a table under the key of another row."""
        is_event = alias == "event"
        key = (
            each.equals(
                _column(alias, each.event_name if is_event else each.name),
                _column(row, each.name),
            )
            for each in self.key
        )
        return Joined(
            (
                Raw("EXISTS (SELECT FROM "),
                table,
                Raw(f" AS {alias} WHERE "),
                join(" AND ", (*key, *conditions)),
                Raw(")"),
            )
        )


# A sum, so that the event is found by its key: a transaction may write many events.
_IN_TRANSACTION = Raw("event.pgh_xact_id + 0 = pg_current_xact_id()::text::bigint")

# A table that inherits from the tracked one may have a row of the same key.
_OF_TABLE = Raw(
    "(again.tableoid = TG_RELID"
    " OR (SELECT relispartition FROM pg_class WHERE oid = TG_RELID))"
)

_DELETION_HINT = Literal(
    "Let the statement read its WITH to the end, use two statements, "
    'or give track(level="row").'
)
_STATEMENT_HINT = Literal(
    "Set NEW in a BEFORE trigger, make the trigger that writes it DEFERRABLE INITIALLY "
    'DEFERRED, or give track(level="row").'
)
_ROW_HINT = Joined(
    (
        Raw("concat("),
        Literal(
            "Set NEW in a BEFORE trigger, make the trigger that writes it DEFERRABLE "
            "INITIALLY DEFERRED, or give it a name that sorts after "
        ),
        Raw(", TG_NAME, '.')"),
    )
)


def _is_later(one: str, other: str) -> Fragment:
    return Raw(f"{one}.cmin::text::bigint > {other}.cmin::text::bigint")


def _column(row: str, name: str) -> Fragment:
    return Raw(f"{row}.") + Ident(name)


def _row(row: str, names: Iterable[str]) -> Fragment:
    columns = join(", ", (_column(row, name) for name in names))
    return Joined((Raw("ROW("), columns, Raw(")")))
