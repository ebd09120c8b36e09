"""auditrum: one partitioned JSON table for all, by row triggers."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from typing import Any

from auditrum.integrations.sqlalchemy import bootstrap_schema, sync, track_table
from sqlalchemy import func, select
from sqlalchemy.orm import DeclarativeBase

from benchmarks.subject import PAGE, USER, Subject


class Base(DeclarativeBase):
    """The base of the models."""


class Auditrum(Subject):
    """Its bridge to SQLAlchemy, with the context set by hand, for which it has none."""

    history = ("auditlog", "audit_context")

    def declare(self, name: str, attributes: dict[str, Any]) -> Any:
        """Return a mapped class of which everything is recorded."""
        cls = type(name.title(), (Base,), {"__tablename__": name, **attributes})
        track_table(cls.__table__)
        return cls

    def declare_rare(self, name: str, attributes: dict[str, Any]) -> Any:
        """Return a mapped class of which negative ``int_field`` are recorded."""
        cls = type(name.title(), (Base,), {"__tablename__": name, **attributes})
        track_table(cls.__table__, log_condition="NEW.int_field < 0")
        return cls

    def create(self) -> None:
        """Create the tables, its own, and the triggers."""
        super().create()
        bootstrap_schema(self.engine)
        sync(self.engine)

    @contextlib.contextmanager
    def told(self, target: Any) -> Iterator[None]:
        """Set its settings, by a statement in the transaction."""
        metadata = json.dumps({"user_id": USER, "url": PAGE})
        target.execute(
            select(
                func.set_config("auditrum.context_id", str(uuid.uuid4()), True),
                func.set_config("auditrum.context_metadata", metadata, True),
            )
        )
        yield

    def counts(self, table: str) -> str:
        """Return a SELECT of how many events there are, and how many with context."""
        return (
            "SELECT count(*), count(context_id) FROM auditlog"
            f" WHERE table_name = '{table}'"
        )
