"""postgresql-audit: one JSON table for all, by statement triggers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from postgresql_audit import VersioningManager
from sqlalchemy.orm import DeclarativeBase

from benchmarks.subject import USER, Subject


class Base(DeclarativeBase):
    """The base of the models."""


manager = VersioningManager(actor_cls=None)
manager.init(Base)


class PostgresqlAudit(Subject):
    """Its transaction row, with the actor, is written by the flush of a session."""

    history = ("activity", "transaction")

    def declare(self, name: str, attributes: dict[str, Any]) -> Any:
        """Return a mapped class of which everything is recorded."""
        more = {"__tablename__": name, "__versioned__": {}}
        return type(name.title(), (Base,), more | attributes)

    def create(self) -> None:
        """Create its own tables first: the listeners of the others call into them."""
        manager.transaction_cls.__table__.create(self.engine)
        manager.activity_cls.__table__.create(self.engine)
        super().create()

    @contextlib.contextmanager
    def told(self, target: Any) -> Iterator[None]:
        """Name the actor, for the whole process."""
        manager.values.update(actor_id=str(USER), client_addr="127.0.0.1")
        yield
        manager.values.clear()

    def counts(self, table: str) -> str:
        """Return a SELECT of how many events there are, and how many with context."""
        return (
            "SELECT count(*), count(t.actor_id) FROM activity AS a"
            " LEFT JOIN transaction AS t ON t.id = a.transaction_id"
            f" WHERE a.table_name = '{table}'"
        )
