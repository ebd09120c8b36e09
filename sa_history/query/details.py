"""The values and the context's id of events of several tables, as one FROM clause.

To make, compile and cache a statement takes SQLAlchemy a time that grows with its
elements, of which there are many for each table. They are the same each time, so the
SQL of a table's events is compiled once for each dialect, and joined as text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    ClauseElement,
    ColumnElement,
    DateTime,
    FromClause,
    Integer,
    Select,
    String,
    Text,
    Uuid,
    column,
    func,
    literal,
    literal_column,
    null,
    select,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import TableClause
from sqlalchemy.sql.visitors import InternalTraversal
from sqlalchemy.types import ARRAY

from sa_history.query.event_json import (
    NamedTable,
    event_alias,
    names_in_whole_row,
    stored_values,
)
from sa_history.tracking.event_keys import keys_of
from sa_history.tracking.registry import Tracking

# SQLAlchemy's compiler has no types.
# mypy: disable-error-code="no-untyped-call"

PAGE = "pgh_page"
"""The name of what has the ``pgh_id`` and the ``source`` of the events of a page.

An event table may be named ``page``, and a WITH query of that name would hide it.
"""

_VALUES: list[tuple[str, Any]] = [
    ("stored", JSONB()),
    ("before", JSONB()),
    ("names", ARRAY(Text)),
]
_COLUMNS: list[tuple[str, Any]] = [
    ("pgh_id", BigInteger()),
    ("source", Integer()),
    ("pgh_model", String()),
    ("pgh_obj_model", String()),
    ("pgh_obj_id", String()),
    ("pgh_label", String()),
    ("pgh_op", String()),
    ("pgh_created_at", DateTime(timezone=True)),
    ("pgh_xact_id", BigInteger()),
    ("pgh_context_id", Uuid()),
    ("inline_context", JSONB()),
]

SelectOf: TypeAlias = Callable[[Tracking, int, bool], Select[Any]]
"""Returns the SELECT of a table's events of the page.

It takes the tracking, its number, and whether events are converted as a whole.
"""


def numbered(trackings: Iterable[Tracking]) -> Iterator[tuple[int, Tracking]]:
    """Yield trackings of one MetaData with the ``source`` of their events.

    It is the same in each statement, so that SQL can be kept.
    """
    numbers: dict[Tracking, int] = {}
    for tracking in trackings:
        if not numbers:
            known = tracking.history.trackings.values()
            numbers = {other: number for number, other in enumerate(known)}
        yield numbers[tracking], tracking


def event_columns(
    tracking: Tracking, source: int, events: FromClause
) -> list[ColumnElement[Any]]:
    """Return what an event has beside its values.

    :param source: the number by which the events of the table are told.
    :param events: the event table, or an alias of it.
    """
    columns = events.c
    storage = tracking.context_storage
    return [
        columns.pgh_id,
        literal_column(str(source), Integer).label("source"),
        literal(tracking.event_class.__name__, String).label("pgh_model"),
        literal(tracking.subject, String).label("pgh_obj_model"),
        _object_id(tracking, events).label("pgh_obj_id"),
        columns.pgh_label,
        columns.pgh_op,
        columns.pgh_created_at,
        columns.pgh_xact_id,
        storage.id_of(events).label("pgh_context_id"),
        storage.inline_metadata_of(events).label("inline_context"),
    ]


def _object_id(tracking: Tracking, events: FromClause) -> ColumnElement[Any]:
    keys = keys_of(tracking, events)
    if not keys:
        return sql_cast(null(), Text)
    if len(keys) == 1:
        return sql_cast(keys[0], Text)
    return sql_cast(func.jsonb_build_array(*keys), Text)


def values_of_event(tracking: Tracking, source: int, as_whole: bool) -> Select[Any]:
    """Return the SELECT of the values of one event, for a LATERAL of the page.

    The criterion on ``source`` is constant for the event, so PostgreSQL does not run
    those of other tables.
    """
    names = names_in_whole_row(tracking) if as_whole else None
    event = event_alias(tracking, "event", names)
    return select(*stored_values(tracking, event, names)).where(
        *_is_on_page(event, source)
    )


def events_of_page(tracking: Tracking, source: int, as_whole: bool) -> Select[Any]:
    """Return the SELECT of all that the page shows of the events of a table."""
    names = names_in_whole_row(tracking) if as_whole else None
    event = event_alias(tracking, "event", names)
    columns = event_columns(tracking, source, event)
    return (
        select(*columns, *stored_values(tracking, event, names))
        .select_from(NamedTable(PAGE))
        .where(*_is_on_page(event, source))
    )


def _is_on_page(event: FromClause, source: int) -> list[ColumnElement[bool]]:
    """Return the criteria of an event of the page, whose columns are only named."""
    number: ColumnElement[int] = literal_column(f"{PAGE}.source", Integer)
    return [
        event.c.pgh_id == literal_column(f"{PAGE}.pgh_id", BigInteger),
        number == literal_column(str(source), Integer),
    ]


@dataclass(frozen=True)
class _Branch:
    """The events of one table.

    :param columns: how many columns the event table has; subclasses may add some.
    :param as_whole: whether events are converted as a whole.
    """

    tracking: Tracking
    source: int
    select_of: SelectOf
    columns: int
    as_whole: bool

    def sql(self, compiler: Any) -> str:
        """Return the SQL for the dialect of a compiler, and as it names schemas."""
        schemas = compiler.schema_translate_map
        key = (self, None if schemas is None else frozenset(schemas))
        known = self.tracking.history.compiled.setdefault(compiler.dialect, {})
        if key not in known:
            statement = self.select_of(self.tracking, self.source, self.as_whole)
            known[key] = str(
                statement.compile(
                    dialect=compiler.dialect,
                    schema_translate_map=schemas,
                    compile_kwargs={"literal_binds": True},
                )
            )
        sql: str = known[key]
        return sql


class Details(TableClause):
    """The events of the page of several tables.

    :param trackings: whose events they are, each with whether its events are converted
        as a whole.
    :param name: the name of the FROM clause.
    :param select_of: :func:`values_of_event` or :func:`events_of_page`.
    """

    __visit_name__ = "history_details"
    inherit_cache = True
    _traverse_internals = [
        *TableClause._traverse_internals,
        ("branches", InternalTraversal.dp_plain_obj),
        ("is_lateral", InternalTraversal.dp_boolean),
    ]

    def __init__(
        self,
        trackings: Mapping[Tracking, bool],
        name: str,
        select_of: SelectOf,
    ) -> None:
        self.branches = tuple(
            _Branch(t, source, select_of, len(t.event_table.c), trackings[t])
            for source, t in numbered(trackings)
        )
        self.is_lateral = select_of is values_of_event
        columns = _VALUES if self.is_lateral else [*_COLUMNS, *_VALUES]
        super().__init__(name, *(column(n, type_) for n, type_ in columns))

    def get_children(self, **_: Any) -> Iterable[ClauseElement]:
        """Return the event tables, by which a session of several databases chooses."""
        return [branch.tracking.event_table for branch in self.branches]


@compiles(Details)
def _compile(
    element: Details,
    compiler: Any,
    from_linter: Any = None,
    **_: Any,
) -> str:
    if from_linter:
        from_linter.froms[element] = element.name
    name: str = compiler.preparer.quote(element.name)
    events = " UNION ALL ".join(branch.sql(compiler) for branch in element.branches)
    if len(element.branches) == 1:
        # Else it is made a part of the outer SELECT, which computes each expression as
        # often as it refers to it.
        events += " OFFSET 0"
    return f"{'LATERAL ' if element.is_lateral else ''}({events}) AS {name}"
