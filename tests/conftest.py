"""What all tests share: a PostgreSQL, new declarative bases, and readers of both."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import URL, Engine, MetaData, inspect
from sqlalchemy.orm import DeclarativeBase, Session, joinedload

import sa_history as history
from sa_history.testing.binaries import find_bindir

pytest_plugins = ["sa_history.testing.plugin", "pytester"]


@pytest.fixture(params=["statement", "row"])
def level(request: pytest.FixtureRequest) -> str:
    """Both levels of triggers, for what has to be the same at either."""
    return str(request.param)


@pytest.fixture
def base() -> type[DeclarativeBase]:
    """A declarative base of the test's own."""

    class Base(DeclarativeBase):
        metadata = MetaData()

    return Base


@pytest.fixture
def create_all(
    base: type[DeclarativeBase], pg_engine: Engine
) -> Iterator[Callable[[], None]]:
    """Create the tables of ``base``; they go with the test's database."""
    yield lambda: base.metadata.create_all(pg_engine)
    base.registry.dispose()


@pytest.fixture
def recorded(pg_engine: Engine) -> Callable[..., list[tuple[Any, ...]]]:
    """Return a model's committed events as ``(label, op, *attributes, context)``."""

    def read(target: Any, *attributes: str) -> list[tuple[Any, ...]]:
        events = history.events(target)
        statement = events.select()
        if "pgh_context" in inspect(events.model).relationships:
            statement = statement.options(joinedload(events.model.pgh_context))
        with Session(pg_engine) as session:
            rows = []
            for event in session.scalars(statement):
                context = getattr(event, "pgh_context", None)
                if isinstance(context, history.Context):
                    context = context.metadata
                values = (getattr(event, name) for name in attributes)
                rows.append((event.pgh_label, event.pgh_op, *values, context))
            return rows

    return read


# Of what pg_dump prints: who wrote it, and a random token of newer versions.
_NOISE = re.compile(r"^(--.*|\\(un)?restrict .*|)\n", re.MULTILINE)


@pytest.fixture
def dump() -> Callable[[URL], str]:
    """Return the schema of a database, but for Alembic's own table."""

    def run(url: URL) -> str:
        printed = subprocess.run(
            [
                find_bindir() / "pg_dump",
                "--schema-only",
                "--no-owner",
                "--exclude-table=alembic_version",
                url.set(drivername="postgresql").render_as_string(hide_password=False),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        return _NOISE.sub("", printed.stdout)

    return run
