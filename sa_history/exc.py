"""Every error that sa_history raises.

::

    HistoryError
     +-- DefinitionError        something is defined in a way that cannot work
     |    +-- ConditionError    a condition names or compares what is not there
     +-- ArchiveError           an archive cannot be written, or read, as asked
     +-- DialectError           the engine is not PostgreSQL
     +-- ContextError           a context cannot be entered, changed or sent
     +-- CommandError           a command was given what it cannot use
     +-- ErasureError           values cannot be erased as asked
     +-- EventsError            history cannot be asked for, or changed, like this
     +-- IgnoreError            triggers cannot be ignored as asked
     +-- InstallError           triggers cannot be installed, or read, as asked
     |    +-- DistributionError  Citus distributes a table in an unsupported way
     +-- PastError              the past cannot be seen, or written, as asked
     +-- SealError              events cannot be sealed, or verified, as asked
     +-- UndoError              what was changed cannot be undone as asked
     |    +-- ConflictError     it has been changed again since
     |    +-- EventsRemovedError    its events were removed; a PastError as well
     +-- RefusedError           a trigger refused the statement
          +-- AppendOnlyError
          +-- ContextRequiredError
          +-- EventOrderError
          +-- ProtectedError
          +-- ReadOnlyError
          +-- TransitionError

    HistoryWarning               something was asked for and had no effect

Mistakes in a definition are raised when the class is made. A
:class:`RefusedError` comes from the database, by the SQLSTATE of the trigger
that raised it, and is a :class:`sqlalchemy.exc.DBAPIError` as well, so handlers
written for SQLAlchemy's errors go on to catch it.
"""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy.exc import DBAPIError, DontWrapMixin


class HistoryError(Exception):
    """The base of every error of sa_history.

    Example::

        try:
            history.annotate(session, reason="import")
        except history.exc.HistoryError as error:
            print(error)
    """


class HistoryWarning(RuntimeWarning):
    """Something was asked for in a way that has no effect.

    Example::

        warnings.simplefilter("error", history.exc.HistoryWarning)
    """


class DefinitionError(HistoryError, ValueError):
    """A model is defined in a way that cannot work; raised as the class is made."""


class ConditionError(DefinitionError):
    """A condition names a column or row that is not there, or cannot be SQL."""


class DialectError(HistoryError):
    """The engine is not a PostgreSQL one; triggers are written for PostgreSQL."""


class ContextError(HistoryError):
    """A context cannot be entered, changed or sent as asked."""


class CommandError(HistoryError):
    """A command, or an option of a migration, was given what it cannot use."""


class _ReasonedError(HistoryError):
    """An error whose reason is also for people who write no code, such as on a page.

    :param reason: what was wrong, and why.
    :param advice: what to write instead, None if nothing else can be written.
    """

    def __init__(self, reason: str, advice: str | None = None) -> None:
        super().__init__(reason if advice is None else f"{reason}; {advice}")
        self.reason = reason


class EventsError(_ReasonedError):
    """History was asked for in a way that has no answer, or would be changed."""


class ErasureError(HistoryError):
    """Values cannot be erased from history as asked; nothing was erased."""


class SealError(HistoryError):
    """Events cannot be sealed, or verified, as asked."""


class IgnoreError(HistoryError):
    """Triggers cannot be ignored as asked."""


class InstallError(HistoryError):
    """What is installed cannot be read or changed as asked; nothing was done."""


class DistributionError(InstallError):
    """Citus distributes a table in a way in which its triggers would not be right."""


class ArchiveError(HistoryError):
    """An archive cannot be written, or is not what its manifest says."""


class PastError(HistoryError, DontWrapMixin):
    """The past cannot be seen, or is not to be written, as asked."""


class UndoError(_ReasonedError):
    """What was changed cannot be undone as asked; nothing was done."""


class ConflictError(UndoError):
    """What is to be undone has been changed again since; nothing was done."""


class EventsRemovedError(PastError, UndoError):
    """Events that the answer depends on were removed, with their partition."""


class RefusedError(HistoryError, DBAPIError):
    """A trigger of sa_history refused the statement; nothing was changed.

    ``orig`` is the driver's error, with the table, the trigger (as constraint
    name) and a hint in its diagnostics; with asyncpg ``orig.__cause__`` has them.
    Subclasses are found by ``sqlstate``.
    """

    sqlstate: ClassVar[str] = ""

    hint: str | None = None
    """What to do, as the trigger says it; None if it says nothing."""


class AppendOnlyError(RefusedError):
    """An append-only event table was updated, deleted from or truncated."""

    sqlstate = "SH001"


class ContextRequiredError(RefusedError):
    """A change was made outside a context that holds a required key."""

    sqlstate = "SH002"


class ProtectedError(RefusedError):
    """The operation is not allowed on the table, or not on such rows."""

    sqlstate = "SH003"


class ReadOnlyError(RefusedError):
    """A column, or a view, that may only be read was written."""

    sqlstate = "SH004"


class TransitionError(RefusedError):
    """A column may not go from the one state to the other, or begin with this one."""

    sqlstate = "SH005"


class EventOrderError(RefusedError):
    """The events of a statement would be recorded in another order than it had."""

    sqlstate = "SH006"


def refusal_for(sqlstate: str | None) -> type[RefusedError] | None:
    """Return the error class of a SQLSTATE, or None if it is not one of ours.

    Example::

        refusal_for("SH001")  # AppendOnlyError
    """
    return next(
        (c for c in RefusedError.__subclasses__() if c.sqlstate == sqlstate), None
    )
