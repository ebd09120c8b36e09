"""sa_history, at both levels, and its event tables written by hand."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.orm import DeclarativeBase, Session

import sa_history as history
from benchmarks.subject import PAGE, TABLES, USER, Subject, Write
from benchmarks.untracked import filled
from sa_history import (
    AfterDelete,
    AfterUpdate,
    Insert,
    Snapshot,
    Trigger,
    Update,
    attach,
    new,
    track,
)
from sa_history.install import check

FILL = "NEW.b = NEW.a + 1; RETURN NEW;"


class Base(DeclarativeBase):
    """The base of the models."""


class Statement(Subject):
    """sa_history as it is by default."""

    level = "statement"
    storage = "reference"
    drops_all = True
    history = (*(f"{table}_event" for table in TABLES), "pghistory_context")
    asynchronous = True
    events = (
        "item_event",
        {
            "pgh_label": "'snapshot'",
            "pgh_op": "'U'",
            "pgh_xact_id": "context.n",
            "pgh_context_id": "context.id",
            "pgh_obj_id": "item.id",
        },
    )

    def declare(self, name: str, attributes: dict[str, Any]) -> Any:
        """Return a mapped class of which everything is recorded."""
        cls = type(name.title(), (Base,), {"__tablename__": name, **attributes})
        return track(Snapshot, AfterDelete, level=self.level, context=self.storage)(cls)

    def declare_rare(self, name: str, attributes: dict[str, Any]) -> Any:
        """Return a mapped class of which negative ``int_field`` are recorded."""
        cls = type(name.title(), (Base,), {"__tablename__": name, **attributes})
        return track(
            AfterUpdate(new.int_field < 0), level=self.level, context=self.storage
        )(cls)

    def declare_filled(self) -> None:
        """Declare the table, and attach the trigger."""
        trigger = Trigger("fill", "before", Insert | Update, body=FILL)
        attach(trigger)(filled(Base.metadata))

    def comparisons(self) -> dict[str, Callable[[], None]]:
        """Return autogenerate before and after it is told of history, and a check."""
        if importlib.util.find_spec("alembic") is None:
            return {}
        return {
            "autogenerate without sa_history": self._autogenerate,
            "autogenerate": self._autogenerate_history,
            "check": self._check,
        }

    def _autogenerate(self) -> None:
        from alembic.autogenerate import produce_migrations
        from alembic.migration import MigrationContext

        with self.engine.connect() as connection:
            context = MigrationContext.configure(connection)
            script = produce_migrations(context, Base.metadata)
        assert script.upgrade_ops is not None
        assert script.upgrade_ops.is_empty()

    def _autogenerate_history(self) -> None:
        import sa_history.alembic  # noqa: F401

        self._autogenerate()

    def _check(self) -> None:
        assert not check(self.engine, Base)

    def told(
        self, target: Connection | Session
    ) -> contextlib.AbstractContextManager[Any]:
        """Be in a context of this transaction's own, as a request is."""
        return history.context(target, user=USER, url=PAGE)

    def new_context_id(self) -> uuid.UUID:
        """Return the id of a context."""
        with history.context() as context:
            return context.id

    def counts(self, table: str) -> str:
        """Return a SELECT of how many events there are, and how many with context."""
        return f"SELECT count(*), count(pgh_context_id) FROM {table}_event"


class Row(Statement):
    """sa_history with row triggers."""

    level = "row"


class InlineStatement(Statement):
    """sa_history with the context in each event."""

    storage = "inline"
    history = tuple(f"{table}_event" for table in TABLES)

    def counts(self, table: str) -> str:
        """Return a SELECT of how many events there are, and how many with context."""
        return f"SELECT count(*), count(pgh_context) FROM {table}_event"


class InlineRow(InlineStatement):
    """sa_history with row triggers, and the context in each event."""

    level = "row"


class ByHand(Statement):
    """The same tables without triggers; their rows are written by INSERT ... SELECT.

    That is what cannot be undercut while the same is recorded.
    """

    asynchronous = False
    new_context_id = Subject.new_context_id

    def declare_filled(self) -> None:
        """Declare the table, of which `create` makes the trigger."""
        filled(Base.metadata)

    def create(self) -> None:
        """Create the tables, and take the triggers of history away."""
        super().create()
        self.admin(
            "CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql"
            f" AS $$ BEGIN {FILL} END $$"
        )
        self.admin(
            "CREATE TRIGGER fill BEFORE INSERT OR UPDATE ON filled"
            " FOR EACH ROW EXECUTE FUNCTION fill()"
        )
        for table in TABLES:
            self.admin(f"ALTER TABLE {table} DISABLE TRIGGER USER")

    @contextlib.contextmanager
    def told(self, target: Connection | Session) -> Iterator[None]:
        """Write a row of context in the transaction."""
        target.info["context"] = context = self.new_context_id()
        metadata = json.dumps({"user": USER, "url": PAGE})
        target.execute(
            text(
                "INSERT INTO pghistory_context (id, created_at, updated_at, metadata)"
                " VALUES (:id, now(), now(), CAST(:metadata AS jsonb))"
            ),
            {"id": context, "metadata": metadata},
        )
        try:
            yield
        finally:
            target.info.pop("context")

    def copy(self, target: Connection | Session, write: Write) -> None:
        """Write the events of what was written."""
        if write.where == "false":
            return
        names = {"item": self.item, "wide": self.wide, "rare": self.rare}
        columns = ", ".join(names[write.table].__table__.columns.keys())
        label = {"I": "snapshot", "U": "snapshot", "D": "delete"}[write.op]
        target.execute(
            text(
                f"INSERT INTO {write.table}_event (pgh_label, pgh_op, pgh_xact_id,"
                f" pgh_context_id, pgh_obj_id, {columns})"
                f" SELECT '{label}', '{write.op}',"
                " (SELECT pg_current_xact_id()::text::bigint),"
                f" CAST(:context AS uuid), id, {columns}"
                f" FROM {write.table} WHERE {write.where}"
            ),
            {"context": _context(target), **write.parameters},
        )


def _context(target: Connection | Session) -> uuid.UUID | None:
    if "context" not in target.info and isinstance(target, Session):
        target = target.connection()
    return target.info.get("context")
