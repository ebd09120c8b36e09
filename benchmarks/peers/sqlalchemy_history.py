"""sqlalchemy-history: a typed table for each model, written by the unit of work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy.orm import DeclarativeBase
from sqlalchemy_history import make_versioned
from sqlalchemy_history.plugins import Plugin

from benchmarks.subject import TABLES, Subject


class Address(Plugin):
    """Says where a transaction comes from."""

    remote_addr: str | None = None

    def transaction_args(self, uow: Any, session: Any) -> dict[str, Any]:
        """Return what to store with the transaction."""
        return {"remote_addr": self.remote_addr} if self.remote_addr else {}


address = Address()
make_versioned(user_cls=None, plugins=[address])


class Base(DeclarativeBase):
    """The base of the models."""


class SQLAlchemyHistory(Subject):
    """It does not see what is not written by a flush."""

    history = (*(f"{table}_version" for table in TABLES), "transaction")

    def declare(self, name: str, attributes: dict[str, Any]) -> Any:
        """Return a mapped class of which everything is recorded."""
        more = {"__tablename__": name, "__versioned__": {}}
        return type(name.title(), (Base,), more | attributes)

    @contextlib.contextmanager
    def told(self, target: Any) -> Iterator[None]:
        """Name the address, for the whole process."""
        address.remote_addr = "127.0.0.1"
        yield
        address.remote_addr = None

    def counts(self, table: str) -> str:
        """Return a SELECT of how many events there are, and how many with context."""
        return (
            f"SELECT count(*), count(t.remote_addr) FROM {table}_version AS v"
            " LEFT JOIN transaction AS t ON t.id = v.transaction_id"
        )
