"""The databases of a session that has several, and which of them a model's rows are in.

A session chooses by the model: by ``Session(binds=...)``, by Flask-SQLAlchemy's
``__bind_key__``, or by a ``get_bind`` of its own. It knows neither event classes nor
event tables, so each statement about events goes where the session sends statements
about the tracked model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ClauseElement, Connection, Engine, Table, update
from sqlalchemy.orm import Session
from sqlalchemy.sql import visitors

from sa_history.exc import HistoryError
from sa_history.tracking.registry import Tracking

ASKED = "sa_history_asked"
"""The key in ``Session.info`` of another session, which is asked for the databases."""


@dataclass(frozen=True, eq=False)
class ModelSession:
    """A session, for statements about the rows of a tracked table and their events.

    :param session: the session, of one database or several.
    :param tracking: the tracking whose table's database is meant; None for the one
        that the session has by default.
    """

    session: Session
    tracking: Tracking | None

    @property
    def bind_arguments(self) -> dict[str, Any]:
        """The arguments of ``get_bind`` that lead to where the rows are written."""
        return {} if self.tracking is None else written_by(self.tracking)

    def execute(self, statement: Any) -> Any:
        """Execute a statement of Core."""
        return self.session.execute(statement, bind_arguments=self.bind_arguments)

    def scalar(self, statement: Any) -> Any:
        """Execute a statement of Core, and return the first value of its result."""
        return self.session.scalar(statement, bind_arguments=self.bind_arguments)


def may_have_several(session: Session) -> bool:
    """Return whether a session may send statements to several databases."""
    known: Any = session
    # SQLAlchemy 2.0 keeps them under a private name.
    binds = getattr(known, "binds", None) or getattr(known, "_Session__binds", None)
    return bool(binds) or type(session).get_bind is not Session.get_bind


def database_of(session: Session, bind_arguments: Mapping[str, Any]) -> Engine:
    """Return the engine of the database that a session writes some rows to.

    A session that reads from any of several copies writes to one.

    :param bind_arguments: the arguments of ``get_bind``.
    :raises sqlalchemy.exc.UnboundExecutionError: the session has no such database.
    """
    bind: Engine | Connection = session.info.get(ASKED, session).get_bind(
        **bind_arguments
    )
    return bind.engine


def tables_in(clause: Any) -> Iterator[Table]:
    """Yield the tables that a statement, or a part of one, is about.

    :param clause: any that ``Session.execute`` takes; a sequence has no tables.
    """
    if isinstance(clause, ClauseElement):
        for element in visitors.iterate(clause):
            if isinstance(element, Table):
                yield element


def is_same_database(one: Engine, other: Engine) -> bool:
    """Return whether two engines are one, but for their options."""
    return one.pool is other.pool


def require_one_database(
    session: Session,
    trackings: Iterable[Tracking],
    what: str,
    error: type[HistoryError],
) -> None:
    """Refuse tables that a session has in several databases.

    :param what: what was called, for the error.
    :param error: the class of the error.
    """
    if not may_have_several(session.info.get(ASKED, session)):
        return
    first: tuple[Tracking, Engine] | None = None
    for tracking in trackings:
        database = database_of(session, written_by(tracking))
        if first is None:
            first = tracking, database
        elif not is_same_database(first[1], database):
            names = f"{first[0].subject} and {tracking.subject}"
            raise error(
                f"{what} got {names}, which the session has in two databases; give "
                "those of one"
            )


def _model_of(tracking: Tracking) -> type[Any] | None:
    """Return the class whose database a tracked table is in, None if none is known.

    That of a table without a class, such as an association table, is the class of a
    table that it refers to: no foreign key leads to another database.
    """
    if tracking.model is not None:
        return tracking.model
    seen = {tracking.table}
    following = [tracking]
    for one in following:
        if one.model is not None:
            return one.model
        referred = {key.column.table for key in one.table.foreign_keys} - seen
        seen |= referred
        following += [
            t for t in tracking.history.trackings.values() if t.table in referred
        ]
    return None


def read_by(tracking: Tracking) -> dict[str, Any]:
    """Return the arguments of ``get_bind`` to read the rows of a tracked table."""
    model = _model_of(tracking)
    return {"clause": tracking.table} if model is None else {"mapper": model.__mapper__}


def written_by(tracking: Tracking) -> dict[str, Any]:
    """Return the arguments of ``get_bind`` to write the rows of a tracked table."""
    return {**read_by(tracking), "clause": update(tracking.table)}
