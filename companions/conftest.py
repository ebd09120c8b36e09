"""What the companions share: a server, a database for each test, and their page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, NullPool, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from companions.pages import PAGE, Section
from companions.table import COMPANIONS
from sa_history import Snapshot, track


class Base(DeclarativeBase):
    """The models of walks."""


@track(Snapshot)
class Entry(Base):
    """What a walk of ``tests/attribution/test_savepoints.py`` writes."""

    __tablename__ = "entry"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int]


@pytest.fixture
def entry(pg_url: URL) -> Any:
    """A tracked model, each of whose writes has a version of its own."""
    engine = create_engine(pg_url, poolclass=NullPool)
    Base.metadata.create_all(engine)
    return Entry


pytest_plugins = ["sa_history.testing.plugin"]


@pytest.fixture
def documentation(
    request: pytest.FixtureRequest,
    pg_url: URL,
    tmp_path: Path,
) -> Callable[[], None]:
    """Run the blocks of the companion's section, and compare what they print."""
    section = Section(PAGE, None, pg_url, tmp_path / "page")
    section.title = COMPANIONS[request.path.stem.removeprefix("test_")].title
    return section.run
