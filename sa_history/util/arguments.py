"""Checks of arguments that more than one definition takes."""

from __future__ import annotations

import datetime
import numbers
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, MetaData, select

from sa_history._types import Level
from sa_history.exc import DefinitionError, HistoryError
from sa_history.util.identifiers import check_text

Time: TypeAlias = datetime.datetime | ColumnElement[Any]
"""A time, or an expression of one, such as ``func.now() - timedelta(days=1)``."""


def as_names(argument: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return names as a tuple.

    :param argument: the argument that has the names, for messages.
    :raises DefinitionError: ``names`` is one string, or holds something else than
        strings.
    """
    if isinstance(names, str):
        raise DefinitionError(
            f"{argument} is a list of names, got {names!r}; write [{names!r}]"
        )
    result = tuple(names)
    for name in result:
        if not isinstance(name, str):
            raise DefinitionError(
                f"{argument} is a list of names, got {name!r} in it; write its name"
            )
        check_text(f"a name in {argument}", name)
    return result


def check_names(
    owner: str, columns: Sequence[str] | None, exclude: Sequence[str] | None
) -> None:
    """Refuse ``columns`` and ``exclude`` together.

    :param owner: the definition that has the arguments, for messages.
    :raises DefinitionError: both are given.
    """
    if columns is not None and exclude is not None:
        raise DefinitionError(
            f"{owner} got both columns and exclude, of which each says what the other "
            "leaves out; give one of them"
        )


def checked_level(owner: str, level: Level | str) -> Level:
    """Return a level that is given by its name, or as a ``Level``.

    :param owner: the definition that has the argument, for messages.
    :raises DefinitionError: there is no such level.
    """
    try:
        return Level(level)
    except ValueError:
        raise DefinitionError(
            f'{owner}: level is "statement" or "row", got {level!r}; write one of the '
            "two"
        ) from None


def metadata_of(models: Any, error: type[HistoryError]) -> MetaData:
    """Return the MetaData of a declarative base, or a MetaData itself.

    :param error: the class of the error.
    :raises HistoryError: of that class: ``models`` is neither.
    """
    metadata = getattr(models, "metadata", models)
    if not isinstance(metadata, MetaData):
        raise error(
            f"{models!r} is no declarative base and no MetaData; give the one that has "
            "the models"
        )
    return metadata


def checked_transaction(number: Any, error: type[HistoryError]) -> Any:
    """Return the number of a transaction, or None for none.

    :param number: an int, or what counts as one, such as numpy's.
    :param error: the class of the error.
    :raises HistoryError: it is no number.
    """
    what = "transaction is the number of a transaction, as in pgh_xact_id"
    return checked_number(what, number, error)


def checked_number(
    what: str, number: Any, error: type[HistoryError], least: int | None = None
) -> Any:
    """Return the number that an argument is, or None for none.

    PostgreSQL compares no text with a number, and its error does not name the argument.

    :param what: the name of the argument and what it is, for the error.
    :param number: an int, or what counts as one, such as numpy's.
    :param error: the class of the error.
    :param least: the least number; None for any.
    :raises HistoryError: it is no number, is less, or is too large for a ``bigint``.
    """
    if number is not None and not is_number(number, least):
        first = "" if least is None else f" from {least} on"
        raise error(f"{what}, got {number!r}; give an int{first}")
    return number


def require_number(
    what: str, number: Any, error: type[HistoryError], least: int
) -> None:
    """Refuse what is no number from the least one on, None as well.

    :param what: the name of the argument and what it is, for the error.
    :param error: the class of the error.
    :raises HistoryError: of that class: it is none.
    """
    if number is None:
        raise error(f"{what}, got None; give an int from {least} on")
    checked_number(what, number, error, least)


def checked_time(argument: str, time: Any, error: type[HistoryError]) -> Any:
    """Return a time as it is given. A date is the begin of a day.

    :param argument: the argument that has the time, for the error.
    :param time: a datetime, a date or an SQL expression.
    :param error: the class of the error.
    :raises HistoryError: it is neither, or an expression of the rows of a table.
    """
    if isinstance(time, ColumnElement):
        if not select(time).get_final_froms():
            return time
        # Each event would be found once for each of these rows.
        raise error(
            f"{argument} is one time, got {time}, which a table has for each of its "
            "rows; write select(...).scalar_subquery()"
        )
    if isinstance(time, datetime.date):
        return time
    raise error(
        f"{argument} is a datetime, got {time!r}; write datetime.fromisoformat(...) "
        "around a time that is text"
    )


def is_number(value: Any, least: int | None = None) -> bool:
    """Return whether a value is a number that a ``bigint`` can hold.

    :param value: any; numpy's integers are numbers, and True is none.
    :param least: the least number; None for any.
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        return False
    return (-(2**63) if least is None else least) <= int(value) < 2**63
