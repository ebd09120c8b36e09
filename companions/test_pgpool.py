"""Pgpool-II, which gives each client a connection that others have had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import URL, NullPool, create_engine, text
from sqlalchemy.orm import Session

import sa_history as history
from companions.pgpool import pgpool
from companions.poolers import walk_through
from tests.attribution.test_savepoints import DRIVERS


@pytest.fixture
def pooled_url(pg_url: URL) -> Iterator[URL]:
    with pgpool(pg_url) as url:
        yield url


@pytest.mark.parametrize("name", DRIVERS)
def test_savepoints_and_errors_change_nothing_in_who_has_written_what(
    name: str, pooled_url: URL, pg_url: URL, entry: Any
) -> None:
    walk_through(pooled_url, name, DRIVERS[name], pg_url, entry)


BACKEND = text("SELECT pg_backend_pid()")


def test_next_client_of_a_connection_has_no_context(
    pooled_url: URL, entry: Any
) -> None:
    backends = []
    engine = create_engine(pooled_url, poolclass=NullPool)
    with Session(engine) as session, history.context(session, user=1):
        session.add(entry(id=1, version=1))
        session.commit()
        backends.append(session.scalar(BACKEND))
        # It leaves in the middle of a transaction, with a context.
        session.add(entry(id=2, version=1))
        session.flush()
    for id_ in range(3, 12):
        with Session(engine) as session:
            session.add(entry(id=id_, version=1))
            session.commit()
            backends.append(session.scalar(BACKEND))
    assert len(set(backends)) < len(backends)
    with Session(engine) as session:
        events = session.scalars(entry.events.select()).all()
        assert [event.id for event in events] == [1, *range(3, 12)]
        assert [event.id for event in events if event.pgh_context] == [1]


def test_documentation(
    documentation: Callable[[], None],
    pooled_url: URL,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = pooled_url.render_as_string(hide_password=False)
    monkeypatch.setenv("PGPOOL_URL", url)
    documentation()
