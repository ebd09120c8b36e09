"""Types of columns that are NOT NULL in one table and may be NULL in another.

A type of an application need not expect NULL from a column that has none. Its event
column has some: where a tracker stores other columns only, in events from before the
column, and beside an event that is the row's first one.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

from sqlalchemy.types import ExternalType, TypeDecorator, TypeEngine


class _ReadsNull(TypeEngine[Any]):
    """Reads NULL as None, which the type that it is mixed into does not see."""

    def result_processor(
        self, dialect: Any, coltype: object
    ) -> Callable[[Any], Any] | None:
        process = super().result_processor(dialect, coltype)
        if process is None:
            return None
        return lambda value: None if value is None else process(value)


@functools.cache
def _reading_null(class_: Any) -> Any:
    """Return a subclass of a type: all that asks what type it is finds that one."""
    # SQLAlchemy looks for it in the class itself.
    own = {"cache_ok": class_.__dict__.get("cache_ok"), "__module__": class_.__module__}
    return type(class_.__name__, (_ReadsNull, class_), own)


def nullable_type(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return a type that reads NULL as None, whatever the type of a column does.

    :param type_: the type of a column. If it leaves values as the driver or SQLAlchemy
        reads them, it is returned as it is.
    """
    variant = type_._variant_mapping.get("postgresql")
    if isinstance(variant, ExternalType):
        with_variant = copy.copy(type_)
        nullable = {"postgresql": nullable_type(variant)}
        with_variant._variant_mapping = type_._variant_mapping.union(nullable)
        return with_variant
    if not _reads_values(type_):
        return type_
    own: Any = type(type_)
    class_ = _reading_null(own)
    # As TypeDecorator.copy() does, without the constructor of the application.
    made: TypeEngine[Any] = class_.__new__(class_)
    made.__dict__.update(type_.__dict__)
    return made


def _reads_values(type_: TypeEngine[Any]) -> bool:
    """Return whether a type has code of its own that makes something of each value."""
    class_ = type(type_)
    if class_.__module__.partition(".")[0] == "sqlalchemy":
        return False
    if not isinstance(type_, TypeDecorator):
        return class_.result_processor is not TypeEngine.result_processor
    return (
        _overrides(class_, "process_result_value")
        or _overrides(class_, "result_processor")
        or _reads_values(type_.impl_instance)
    )


def _overrides(class_: type[Any], name: str) -> bool:
    return getattr(class_, name) is not getattr(TypeDecorator, name)
