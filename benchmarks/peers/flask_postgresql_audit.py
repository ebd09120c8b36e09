"""flask-postgresql-audit: one JSON table for all, by statement triggers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from flask import Flask
from flask_postgresql_audit import Audit, PostgreSQLAudit
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import configure_mappers

from benchmarks.subject import USER, Subject

db = SQLAlchemy()


class FlaskPostgresqlAudit(Subject):
    """Its transaction row, with the actor, is written by the flush of a session."""

    history = ("pga_activity", "pga_transaction")
    actor: str | None = None

    def declare(self, name: str, attributes: dict[str, Any]) -> Any:
        """Return a mapped class of which everything is recorded."""
        more = {"__tablename__": name, "__module__": __name__}
        return type(name.title(), (db.Model, Audit), more | attributes)

    def configure(self) -> None:
        """Initialize the extension, which wants to know the models."""
        app = Flask("benchmarks")
        app.config["SQLALCHEMY_DATABASE_URI"] = self.url
        db.init_app(app)
        self.audit = PostgreSQLAudit(
            actor_id_getter=lambda: self.actor,
            client_address_getter=lambda: None,
        )
        with app.app_context():
            configure_mappers()
            self.audit.init_app(app, db)

    def create(self) -> None:
        """Create what its migration would create, in the order of that."""
        extension, *others = self.audit.pg_audit_entities
        self._create(extension)
        super().create()
        self._create(*others)

    def _create(self, *entities: Any) -> None:
        with self.engine.begin() as connection:
            for entity in entities:
                connection.execute(entity.to_sql_statement_create())

    @contextlib.contextmanager
    def told(self, target: Any) -> Iterator[None]:
        """Name the actor, for the whole process."""
        self.actor = str(USER)
        yield
        self.actor = None

    def counts(self, table: str) -> str:
        """Return a SELECT of how many events there are, and how many with context."""
        return (
            "SELECT count(*), count(t.actor_id) FROM pga_activity AS a"
            " LEFT JOIN pga_transaction AS t ON t.id = a.transaction_id"
            f" WHERE a.table_name = '{table}'"
        )
