"""A disk that is full, for the events or for their contexts."""

from __future__ import annotations

import resource
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import URL, Engine, insert, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

import sa_history as history
from sa_history.testing import PgServer

Story = Callable[[], list[tuple[str, int, int, Any]]]

FILL = {
    "account_event": """
        INSERT INTO account_event
          (pgh_created_at, pgh_obj_id, pgh_op, pgh_label, id)
        SELECT now(), 0, 'I', repeat('x', 1000), 0 FROM generate_series(1, 20000)
    """,
    "pghistory_context": """
        INSERT INTO pghistory_context (id, created_at, updated_at, metadata)
        SELECT gen_random_uuid(), now(), now(),
          jsonb_build_object('x', repeat('x', 1000)) FROM generate_series(1, 20000)
    """,
}
FULL = "could not (extend|write) file"


@pytest.fixture(scope="module")
def small_disk(survivor: Any) -> PgServer:
    """A server that has 16 MB for each table, which is what a file of its log needs.

    To the database it is an error like that of a full disk, and no privileges and no
    file system of our own are needed for it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024 * 1024, hard))
    try:
        survivor.kill_all()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    url = survivor.engine.url.render_as_string(hide_password=False)
    return PgServer.from_url(url, embedded=True)


@pytest.fixture
def pg_url(small_disk: PgServer) -> Iterator[URL]:
    """A database on the small disk."""
    name = f"small_{uuid.uuid4().hex[:8]}"
    yield small_disk.create_database(name)
    small_disk.drop_database(name)


@pytest.mark.parametrize(
    ("table", "length"),
    [("account_event", 1), ("pghistory_context", 1500)],
    ids=["events", "contexts"],
)
def test_a_write_that_there_is_no_space_to_record_did_not_happen(
    table: str, length: int, pg_engine: Engine, account: Any, story: Story
) -> None:
    add_one = update(account.__table__).values(balance=account.balance + 1)
    rows = range(1000)
    with Session(pg_engine) as session:
        session.execute(insert(account), [{"id": id_, "balance": 0} for id_ in rows])
        session.commit()
        session.execute(text(f"ALTER TABLE {table} SET (autovacuum_enabled = off)"))
        session.commit()
        with pytest.raises(DBAPIError, match=FULL):
            session.execute(text(FILL[table]))
        session.rollback()

        recorded = []

        def write(times: int) -> None:
            for number in range(times):
                with history.context(session, number=number, why="x" * length):
                    session.execute(add_one)
                    session.commit()
                recorded.append(number)

        with pytest.raises(DBAPIError, match=FULL):
            write(50)  # there is a last page
        session.rollback()
        with pg_engine.execution_options(
            isolation_level="AUTOCOMMIT"
        ).connect() as connection:
            connection.execute(text(f"VACUUM {table}"))
        write(1)
    events = [("I", id_, 0, None) for id_ in rows]
    for balance, number in enumerate(recorded, 1):
        told = {"number": number, "why": "x" * length}
        events += [("U", id_, balance, told) for id_ in rows]
    assert sorted(story(), key=str) == sorted(events, key=str)
