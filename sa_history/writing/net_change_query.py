"""Net changes as a query: what events made of rows, summed up in the database.

It is for changes of so many rows that their values had better stay where they are. The
rows of :mod:`sa_history.writing.net_changes` can tell more: which row had which key
meanwhile, and what other events did in between. Where that matters, the query says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    FromClause,
    Select,
    Table,
    and_,
    case,
    distinct,
    false,
    func,
    not_,
    or_,
    select,
    true,
    tuple_,
    type_coerce,
    types,
)
from sqlalchemy.dialects.postgresql import array

from sa_history._types import Op
from sa_history.capture.event_table import OLD_KEY
from sa_history.capture.seal_tables import ERASED_COLUMN
from sa_history.sql.comparison import stored_differs, stored_equals
from sa_history.tracking.added_columns import AddedColumns
from sa_history.tracking.completeness import GONE, full_row_events, is_one_of
from sa_history.tracking.databases import ModelSession
from sa_history.tracking.event_keys import have_key, keys_of
from sa_history.tracking.registry import Tracking
from sa_history.tracking.stored_values import StoredRow, selected, stored_values
from sa_history.tracking.version_counters import version_counters
from sa_history.writing.net_changes import changes_of_whole_rows


@dataclass(frozen=True, eq=False)
class NetChangeCount:
    """How many rows have net changes of one kind.

    :param is_before: whether the rows were there before.
    :param is_after: whether they are there after.
    :param changed: the names of the columns that are different after.
    :param number: how many rows.
    """

    is_before: bool
    is_after: bool
    changed: tuple[str, ...]
    number: int

    @property
    def is_unchanged(self) -> bool:
        """Whether the rows are after what they were before."""
        return self.is_before and self.is_after and not self.changed


@dataclass(frozen=True, eq=False)
class EventSummary:
    """What the query has to know of events before it is made.

    :param last_event: the number of the newest one, None without any.
    :param have_moved: whether one of them changed the key of its row.
    :param are_several: whether a row has several of them.
    """

    last_event: int | None
    have_moved: bool
    are_several: bool


def event_summary(
    rows: ModelSession, tracking: Tracking, criterion: ColumnElement[bool]
) -> EventSummary:
    """Read what the query has to know of events.

    :param rows: the session that reads them.
    :param tracking: a tracking whose events store every change in full.
    :param criterion: the criterion of the events.
    """
    event = tracking.event_table
    keys = func.count(distinct(tuple_(*keys_of(tracking, event))))
    query = select(
        func.max(event.c.pgh_id),
        func.coalesce(func.bool_or(event.c[OLD_KEY].is_not(None)), false()),
        func.count() > keys,
    ).where(criterion, *changes_of_whole_rows(tracking, event))
    return EventSummary(*rows.execute(query).one())


@dataclass(frozen=True, eq=False)
class NetChangeSummary:
    """What there is to know of all net changes of a table.

    :param counts: how many rows there are of each kind.
    :param is_lost: whether no event says what some row was before.
    :param lacks_columns: whether a row that was there before only has columns that
        its event cannot know.
    :param is_erased: whether a value of some row was erased.
    """

    counts: Sequence[NetChangeCount]
    is_lost: bool
    lacks_columns: bool
    is_erased: bool


@dataclass(frozen=True, eq=False)
class FoundChange:
    """One row of the query.

    :param before: the row before its first event, None if there was none.
    :param after: the row after its last event, None if there is none.
    """

    before: StoredRow | None
    after: StoredRow | None


class NetChangeQuery:
    """A query with a row for each row of a table that some events changed.

    :param rows: the session that reads it.
    :param tracking: a tracking whose events store every change in full.
    :param criterion: the criterion of the events, none of which changed a key.
    :param are_several: whether a row has several of them.
    """

    def __init__(
        self,
        rows: ModelSession,
        tracking: Tracking,
        criterion: ColumnElement[bool],
        are_several: bool,
    ) -> None:
        self.tracking = tracking
        columns = tracking.tracked_columns
        stored = [columns.by_attribute[name] for name in columns.stored]
        self.key = columns.columns_of_key
        self.columns = [column for column in stored if column not in self.key]
        self._rows = rows
        self._added = AddedColumns(rows, tracking)
        counted = {counter.column for counter in version_counters(tracking)}
        self._compared = [c for c in self.columns if c not in counted]
        self.found = self._found(criterion, are_several).subquery("pgh_net_change")
        self._position = {c.name: n for n, c in enumerate(self.columns)}

    @property
    def table(self) -> Table:
        """The table of the rows."""
        return self.tracking.table

    @property
    def number(self) -> ColumnElement[int]:
        """The number of a row's last event, which no other row has."""
        return self.found.c.number

    @property
    def key_values(self) -> list[ColumnElement[Any]]:
        """The values of a row's key, in its order."""
        return [self.found.c[f"key_{n}"] for n in range(len(self.key))]

    def is_row(self, table: FromClause) -> ColumnElement[bool]:
        """Return whether a row of the table is the row.

        :param table: the table, or an alias of it.
        """
        columns = [table.c[column.key] for column in self.key]
        return and_(*(c == v for c, v in zip(columns, self.key_values, strict=True)))

    def before(self, name: str) -> ColumnElement[Any]:
        """Return the value of a column before the first event."""
        return self._value(name, "before")

    def after(self, name: str) -> ColumnElement[Any]:
        """Return the value of a column after the last event."""
        return self._value(name, "after")

    def differs_now(
        self, names: Iterable[str], table: FromClause
    ) -> ColumnElement[bool]:
        """Return whether columns of the table have other values than after the events.

        :param names: the names of the columns.
        :param table: the table, or an alias of it.
        """
        by_name = {column.name: column for column in self.columns}
        return or_(
            false(),
            *(
                and_(
                    stored_differs(table.c[by_name[name].key], self.after(name)),
                    self._is_known(by_name[name], "after"),
                )
                for name in names
            ),
        )

    @property
    def compared(self) -> list[str]:
        """The names of the columns that tell whether a row has changed."""
        return [column.name for column in self._compared]

    def are(
        self, is_before: bool, is_after: bool, changed: Iterable[str] = ()
    ) -> ColumnElement[bool]:
        """Return whether a net change is of a kind.

        :param is_before: whether the row was there before.
        :param is_after: whether it is there after.
        :param changed: the names of the columns that are different after.
        """
        there = [
            self._is_there(moment) if is_there else not_(self._is_there(moment))
            for moment, is_there in (("before", is_before), ("after", is_after))
        ]
        if not (is_before and is_after):
            return and_(*there)
        wanted = set(changed)
        return and_(
            *there,
            *(
                self._has_changed(c) if c.name in wanted else not_(self._has_changed(c))
                for c in self._compared
            ),
        )

    def summary(self) -> NetChangeSummary:
        """Read how many net changes there are of each kind."""
        is_before, is_after = map(self._is_there, ("before", "after"))
        changed = [and_(is_before, self._has_changed(c)) for c in self._compared]
        flags: ColumnElement[Any] = array(changed, type_=types.Boolean())
        kinds = [is_before, is_after, flags]
        lacks = [not_(self._is_known(c, "before")) for c in self.columns]
        query = select(
            *(kind.label(f"kind_{n}") for n, kind in enumerate(kinds)),
            func.count(),
            func.bool_or(self.found.c.is_lost),
            func.bool_or(and_(is_before, not_(is_after), or_(false(), *lacks))),
            func.bool_or(self.found.c.is_erased),
        )
        counts: list[NetChangeCount] = []
        is_lost = lacks_columns = is_erased = False
        for row in self._rows.execute(query.group_by("kind_0", "kind_1", "kind_2")):
            was, is_, of_columns, number, lost, lacking, erased = row
            names = tuple(
                column.name
                for column, differs in zip(self._compared, of_columns, strict=True)
                if was and is_ and differs
            )
            counts.append(NetChangeCount(was, is_, names, number))
            is_lost, lacks_columns = is_lost or lost, lacks_columns or lacking
            is_erased = is_erased or erased
        return NetChangeSummary(counts, is_lost, lacks_columns, is_erased)

    def values(self) -> Iterator[ColumnElement[Any]]:
        """Yield columns for a SELECT whose rows :meth:`change_of` reads."""
        found = self.found.c
        yield found.number
        yield found.before_number
        yield found.has_after
        for moment in ("before", "after"):
            labels = (
                self._value(column.name, moment).label(column.name)
                for column in [*self.key, *self.columns]
            )
            yield from selected(labels, moment)

    def change_of(self, found: Mapping[Any, Any]) -> FoundChange:
        """Return the net change of a row that :meth:`values` selected."""
        before, after = found["before_number"], found["number"]
        return FoundChange(
            before=None if before is None else self._row(found, before, "before"),
            after=self._row(found, after, "after") if found["has_after"] else None,
        )

    def _row(self, found: Mapping[Any, Any], number: int, moment: str) -> StoredRow:
        names = [column.name for column in [*self.key, *self.columns]]
        row = stored_values(found, names, moment)
        return row.without(self._added.unknown(number, row))

    def _value(self, name: str, moment: str) -> ColumnElement[Any]:
        for value, column in zip(self.key_values, self.key, strict=True):
            if column.name == name:
                return value
        return self.found.c[f"{moment}_{self._position[name]}"]

    def _is_there(self, moment: str) -> ColumnElement[bool]:
        found = self.found.c
        return found.had_before if moment == "before" else found.has_after

    def _is_known(self, column: Column[Any], moment: str) -> ColumnElement[bool]:
        """Return whether an event knows a column, so that NULL in it is a value."""
        value = self._value(column.name, moment)
        is_value = not_(stored_equals(value, None))
        first = self._added.first_known(column.name)
        if first is None:
            return is_value
        found = self.found.c
        number = found.number if moment == "after" else found.before_number
        return or_(is_value, number >= first)

    def _has_changed(self, column: Column[Any]) -> ColumnElement[bool]:
        return and_(
            stored_differs(self.before(column.name), self.after(column.name)),
            self._is_known(column, "before"),
            self._is_known(column, "after"),
        )

    def _found(self, criterion: ColumnElement[bool], are_several: bool) -> Select[Any]:
        tracking, event = self.tracking, self.tracking.event_table
        criteria = [criterion, *changes_of_whole_rows(tracking, event)]
        first: FromClause = event
        last: FromClause = event
        touched: FromClause = event
        if are_several:
            keys = keys_of(tracking, event)
            ends = (
                select(
                    func.min(event.c.pgh_id).label("first"),
                    func.max(event.c.pgh_id).label("last"),
                )
                .where(*criteria)
                .group_by(*keys)
                .subquery("pgh_ends")
            )
            criteria = []
            first, last = event.alias("pgh_first"), event.alias("pgh_last")
            touched = ends.join(first, first.c.pgh_id == ends.c.first).join(
                last, last.c.pgh_id == ends.c.last
            )
        previous = event.alias("pgh_previous")
        is_update = is_one_of(first.c.pgh_op, [Op.UPDATE.value])
        before = (
            select(previous)
            .where(
                is_update,
                *have_key(tracking, previous, keys_of(tracking, first)),
                previous.c.pgh_id < first.c.pgh_id,
                *full_row_events(tracking, previous),
            )
            .order_by(previous.c.pgh_id.desc())
            .limit(1)
            .lateral("pgh_before")
        )
        is_gone = is_one_of(first.c.pgh_op, GONE)
        number = case((is_gone, first.c.pgh_id), else_=before.c.pgh_id)
        erased = [
            rows.c[ERASED_COLUMN].is_not(None)
            for rows in (first, last, before)
            if tracking.options.erasable
        ]
        values: list[ColumnElement[Any]] = []
        for position, name in enumerate(column.name for column in self.columns):
            value = case((is_gone, first.c[name]), else_=before.c[name])
            typed = type_coerce(value, event.c[name].type)
            values.append(typed.label(f"before_{position}"))
            values.append(last.c[name].label(f"after_{position}"))
        return (
            select(
                last.c.pgh_id.label("number"),
                number.label("before_number"),
                number.is_not(None).label("had_before"),
                (~is_one_of(last.c.pgh_op, GONE)).label("has_after"),
                and_(is_update, before.c.pgh_id.is_(None)).label("is_lost"),
                or_(false(), *erased).label("is_erased"),
                *(k.label(f"key_{n}") for n, k in enumerate(keys_of(tracking, first))),
                *values,
            )
            .select_from(touched.outerjoin(before, true()))
            .where(*criteria)
        )
