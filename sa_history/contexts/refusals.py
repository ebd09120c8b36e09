"""Refusals of triggers become errors of their own classes, by a listener of SQLAlchemy.

The listener is for the whole process, since a model does not know its engines.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

from sa_history.exc import refusal_for
from sa_history.util.postgresql import hint_of, sqlstate_of


@event.listens_for(Engine, "handle_error", retval=True)
def _as_refusal(error: ExceptionContext) -> BaseException | None:
    if error.dialect.name != "postgresql":
        return None
    original: Any = error.original_exception
    refusal = refusal_for(sqlstate_of(original))
    if refusal is None:
        return None
    refused = refusal(
        error.statement,
        error.parameters,
        original,
        hide_parameters=bool(error.engine and error.engine.hide_parameters),
    )
    refused.hint = hint_of(original)
    if refused.hint is not None and refused.hint not in str(original):
        refused.add_detail(f"HINT: {refused.hint}")  # asyncpg's text has none
    return refused
