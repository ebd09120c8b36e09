"""Tables without a history."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Column, Connection, Integer, MetaData, Table
from sqlalchemy.orm import DeclarativeBase, Session

from benchmarks.subject import Subject


def filled(metadata: MetaData) -> Table:
    """Return a table of which a trigger is to fill a column."""
    return Table(
        "filled",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("a", Integer),
        Column("b", Integer),
    )


class Base(DeclarativeBase):
    """The base of the models."""


class Untracked(Subject):
    """What everything else is compared with."""

    asynchronous = True
    drops_all = True

    def declare(self, name: str, attributes: dict[str, Any]) -> Any:
        """Return a mapped class."""
        return type(name.title(), (Base,), {"__tablename__": name, **attributes})

    def declare_filled(self) -> None:
        """Declare the table without its trigger."""
        filled(Base.metadata)

    @contextlib.contextmanager
    def told(self, target: Connection | Session) -> Iterator[None]:
        """Tell nobody."""
        yield
