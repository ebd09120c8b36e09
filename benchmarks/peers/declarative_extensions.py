"""sqlalchemy-declarative-extensions: a typed table for each model, by row triggers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Column, Unicode
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy_declarative_extensions import (
    declarative_database,
    register_sqlalchemy_events,
)
from sqlalchemy_declarative_extensions.audit import audit, set_context_values

from benchmarks.subject import PAGE, TABLES, USER, Subject


@declarative_database
class Base(DeclarativeBase):
    """The base of the models."""

    __abstract__ = True


class DeclarativeExtensions(Subject):
    """Its ``@audit``, with two columns of context."""

    history = tuple(f"{table}_audit" for table in TABLES)

    def declare(self, name: str, attributes: dict[str, Any]) -> Any:
        """Return a mapped class of which everything is recorded."""
        cls = type(name.title(), (Base,), {"__tablename__": name, **attributes})
        return audit(
            context_columns=[
                Column("username", Unicode(), nullable=True),
                Column("url", Unicode(), nullable=True),
            ]
        )(cls)

    def configure(self) -> None:
        """Have it create functions and triggers; it wants to know the models."""
        super().configure()
        register_sqlalchemy_events(Base.metadata, functions=True, triggers=True)

    @contextlib.contextmanager
    def told(self, target: Any) -> Iterator[None]:
        """Set the columns, by statements in the transaction."""
        set_context_values(target, username=USER, url=PAGE)
        yield

    def counts(self, table: str) -> str:
        """Return a SELECT of how many events there are, and how many with context."""
        return f"SELECT count(*), count(nullif(audit_username, '')) FROM {table}_audit"
