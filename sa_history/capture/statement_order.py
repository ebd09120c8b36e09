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

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sa_history._types import Op
from sa_history.capture.distributed_events import Shards
from sa_history.exc import EventOrderError
from sa_history.sql.compose import (
    DollarQuoted,
    Fragment,
    Idents,
    Joined,
    Literal,
    Qualified,
    Raw,
    RowIdents,
    join,
)
from sa_history.sql.functions import refuse
from sa_history.sql.naming import DELETED_ROWS, HAS_NESTED, NESTED_DEPTH

DECLARE_FOUND = "  pgh_found text;\n"
"""The variables of all statements below."""

DECLARE_DELETED = "  pgh_deleted text;\n"
"""The variables of :func:`remember_deleted_rows`."""

DECLARE_NESTED = "  pgh_depth integer;\n  pgh_nested boolean;\n"
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
"""Whether a trigger's statement may be recorded that is nested in this one.

NULL, if not: PL/pgSQL prepares each expression anew in each transaction, ``:= false``
too.
"""

_DEPTH = f"'{NESTED_DEPTH}' || TG_RELID"

CURRENT_TRANSACTION = Raw("pg_current_xact_id()::text::bigint")
"""The number of the transaction, as events have it."""


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

    def equals(self, one: str, name: str, other: str) -> Fragment:
        """Return whether the column of a row has the value of another row.

        :param one: the name of a row, whose column is called ``name``.
        :param other: the name of a row of the tracked table.
        """
        to_text = "" if self.equal_by_pg_catalog else "::text"
        return Joined(
            (
                RowIdents(one, (name,)),
                Raw(f"{to_text} OPERATOR(pg_catalog.=) "),
                RowIdents(other, (self.name,)),
                Raw(to_text),
            )
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
    be one around it. If no trigger has written such a table in the transaction, one
    setting without a table's OID in its name is read, which is cheap.
    """
    return Raw(
        "  IF pg_trigger_depth() > 1"
        f" OR current_setting('{HAS_NESTED}', true) <> '' THEN\n"
        "    pgh_depth := COALESCE("
        f"NULLIF(current_setting({_DEPTH}, true), ''), '0');\n"
        "    IF pgh_depth > pg_trigger_depth() THEN\n"
        "      pgh_nested := true;\n"
        "    ELSIF pgh_depth < pg_trigger_depth() THEN\n"
        f"      pgh_found := set_config({_DEPTH}, pg_trigger_depth()::text, true)\n"
        f"        || set_config('{HAS_NESTED}', 'on', true);\n"
        "    END IF;\n"
        "  END IF;\n"
    )


@dataclass(frozen=True)
class OrderCheck:
    """How one operation refuses to record what would come too late.

    :param tracked: the tracked table.
    :param events: the event table.
    :param key: the columns of the key, one at least.
    :param by_row: whether the function is called for each row.
    :param source: the FROM clause with the rows; empty, if called for each row.
    :param columns: the tracked columns that the event stores.
    :param condition: SQL over ``OLD`` and ``NEW``, true of the rows that are recorded;
        None for all rows.
    :param transaction: the number that the events of the transaction have.
    :param shards: where the events are, if the table is a shard of Citus; the variable
        ``pgh_shard`` names the shard of the events. Citus cannot read transition tables
        together with the tables of these shards.
    """

    tracked: Qualified
    events: Qualified
    key: Sequence[KeyColumn]
    by_row: bool
    source: Fragment
    columns: Sequence[str]
    condition: str | None
    transaction: Fragment = CURRENT_TRANSACTION
    shards: Shards | None = None

    def refuse_late_deletion(self, suspicion: str) -> Fragment:
        """Return the statement by which the branch of DELETE refuses to come too late.

        It looks for a row under the key of a deleted one whose event is there. The
        event of a row was written by a later command than the row, and an event from
        before the statement by an earlier one.

        :param suspicion: SQL that is true if it may be too late.
        """
        is_there = (each.equals("again", each.name, "OLD") for each in self.key)
        is_of_row = (
            each.equals("event", each.event_name, "again") for each in self.key
        )
        again = Joined(
            (
                Raw("EXISTS (\n          SELECT FROM "),
                self._tracked,
                Raw(" AS again JOIN "),
                self._events,
                Raw(" AS event ON "),
                join(" AND ", is_of_row),
                Raw("\n          WHERE "),
                join(" AND ", is_there),
                self._is_recorded,
                Raw("\n        )"),
            )
        )
        return self._refuse(
            suspicion,
            "OLD",
            again,
            "the row (%) is there again, and that is recorded before its deletion",
            _ROW_HINT if self.by_row else _DELETION_HINT,
        )

    def refuse_late_row(self) -> Fragment:
        """Return the statement by which INSERT or UPDATE refuses to come too late.

        A row that the table does not have as it is to be recorded was written, or
        deleted, once more.
        """
        is_there = (each.equals("now", each.name, "NEW") for each in self.key)
        as_it_is = Joined(
            (
                Raw("NOT EXISTS (\n          SELECT FROM "),
                self._tracked,
                Raw(" AS now WHERE "),
                join(" AND ", is_there),
                Raw("\n            AND ROW("),
                RowIdents("now", tuple(self.columns)),
                Raw(")::record OPERATOR(pg_catalog.*=) ROW("),
                RowIdents("NEW", tuple(self.columns)),
                Raw(")::record\n        )"),
            )
        )
        return self._refuse(
            IS_AROUND_NESTED,
            "NEW",
            as_it_is,
            "the row (%) was written again, and that is recorded before this change",
            _ROW_HINT if self.by_row else _STATEMENT_HINT,
        )

    @property
    def _tracked(self) -> Fragment:
        return Raw("pgh_tracked") if self.shards else self.tracked

    @property
    def _events(self) -> Fragment:
        return Raw("pgh_events") if self.shards else self.events

    @property
    def _is_recorded(self) -> Fragment:
        """Whether the row that is there has an event, of a later command than its own.

        A sum, so that the event is found by its key: a transaction may write many
        events.
        """
        is_of_table, number, cmin = _IS_OF_TABLE, self.transaction, _CMIN
        if self.shards:
            is_of_table, number, cmin = Raw(""), Raw("$1"), _PGH_CMIN
        return Joined(
            (
                is_of_table,
                Raw("\n            AND event.pgh_xact_id + 0 = "),
                number,
                Raw(
                    f"\n            AND event.pgh_op IN ('{Op.INSERT}', '{Op.UPDATE}')"
                ),
                cmin,
            )
        )

    def _refuse(
        self,
        suspicion: str,
        row: str,
        found: Fragment,
        message: str,
        hint: Fragment,
    ) -> Fragment:
        wrong = Joined(
            (
                Raw("concat_ws(', ', "),
                RowIdents(row, tuple(each.name for each in self.key)),
                Raw(")"),
            )
        )
        find = (
            self._find
            if self.shards is None
            else partial(self._find_in_shards, self.shards)
        )
        return Joined(
            (
                find(suspicion, row, wrong, found),
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

    def _find(
        self, suspicion: str, row: str, wrong: Fragment, found: Fragment
    ) -> Fragment:
        """Return the statement that looks for a wrong row, and the IF that it is found.

        :param suspicion: SQL that is true if there may be one.
        :param row: the row that is looked at.
        :param wrong: what is selected.
        :param found: whether the row is wrong.
        """
        return Joined(
            (
                Raw(f"    IF {suspicion} THEN\n      SELECT "),
                wrong,
                Raw(" INTO pgh_found"),
                self.source,
                Raw("\n        WHERE "),
                self._if_recorded(found),
                Raw("\n        LIMIT 1;\n      IF FOUND THEN\n"),
            )
        )

    def _find_in_shards(
        self,
        shards: Shards,
        suspicion: str,
        row: str,
        wrong: Fragment,
        found: Fragment,
    ) -> Fragment:
        """Return the same where the tables are shards, named when it is executed."""
        source, where = self.source, self._if_recorded(found)
        given = [self.transaction]
        if not self.by_row:
            suspicion = f"pgh_rows > 0 AND ({suspicion})"
            find = shards.find_for_rows("old" if row == "OLD" else "new")
        else:
            find = shards.find(row)
            # The text has no variables, and Citus would not have it as it is.
            if self.condition is not None:
                suspicion = f"({suspicion}) AND ({self.condition})"
            names = dict.fromkeys([*(each.name for each in self.key), *self.columns])
            columns = [Idents((name,)) for name in names]
            source = Joined(
                (
                    Raw(" FROM (SELECT "),
                    join(
                        ", ",
                        (
                            Joined((Raw(f"${n} AS "), column))
                            for n, column in enumerate(columns, 2)
                        ),
                    ),
                    Raw(f") AS {row}"),
                )
            )
            where = found
            given.append(RowIdents(row, tuple(names)))
        query = Joined(
            (
                Raw(" SELECT "),
                wrong,
                source,
                Raw("\n        WHERE "),
                where,
                Raw("\n        LIMIT 1"),
            )
        )
        return Joined(
            (
                Raw(f"    IF {suspicion} THEN\n"),
                find,
                Raw(
                    "      EXECUTE 'WITH pgh_tracked AS"
                    " (SELECT *, cmin::text::bigint AS pgh_cmin FROM '"
                    " || TG_RELID::regclass || '),\n        pgh_events AS"
                    " (SELECT *, cmin::text::bigint AS pgh_cmin FROM '"
                    " || pgh_shard || ')'\n        || "
                ),
                DollarQuoted(query),
                Raw("\n        INTO pgh_found USING "),
                join(", ", given),
                Raw(";\n      IF pgh_found IS NOT NULL THEN\n"),
            )
        )

    def _if_recorded(self, found: Fragment) -> Fragment:
        """Return whether a row is wrong, of those that are recorded."""
        if self.condition is None:
            return found
        # As CASE keeps a full join of old and new rows; see holds_for_pair().
        return Joined((Raw(f"CASE WHEN {self.condition} THEN "), found, Raw(" END")))


# A table that inherits from the tracked one may have a row of the same key.
_IS_OF_TABLE = Raw(
    "\n            AND (again.tableoid = TG_RELID"
    " OR (SELECT relispartition FROM pg_class WHERE oid = TG_RELID))"
)

_CMIN = Raw("\n            AND event.cmin::text::bigint > again.cmin::text::bigint")
_PGH_CMIN = Raw("\n            AND event.pgh_cmin > again.pgh_cmin")

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
