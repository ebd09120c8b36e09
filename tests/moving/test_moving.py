"""What another library has kept is history here, as it was there.

Each library keeps the history of a shop in a program of its own, since it listens to
all mappers and sessions of a process.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, create_engine, func, select, text
from sqlalchemy.orm import Session

import sa_history as history
from tests.moving import inline_shop
from tests.moving.shop import NAMES, state
from tests.moving.tracked_shop import Base, shop

HERE = Path(__file__).parent
EXAMPLES = HERE.parent.parent / "examples" / "moving"

UNSEEN = 3
"""The number of rows that the programs change without their library."""


def run(url: URL, program: Path, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(program), *arguments],
        env={
            **os.environ,
            "DATABASE_URL": url.render_as_string(hide_password=False),
            **environment,
            "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), *sys.path]),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def track_tables(url: URL) -> None:
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    engine.dispose()


def move(url: URL, program: str, **environment: str) -> str:
    models = "tests.moving.tracked_shop:Base"
    # What the libraries store is in UTC, whatever time zone a session has.
    return run(url, EXAMPLES / program, models, PGTZ="Asia/Tokyo", **environment)


def all_events(session: Session) -> list[tuple[str, Any]]:
    events = [
        (name, event)
        for name in NAMES
        for event in session.scalars(
            history.events(Base.metadata.tables[name]).select()
        )
    ]
    return sorted(events, key=lambda pair: pair[1].pgh_id)


def values_of(name: str, event: Any) -> list[Any]:
    return [getattr(event, column.name) for column in Base.metadata.tables[name].c]


def as_python(session: Session, name: str, event: Any) -> str:
    """Return an event's values as the ORM has them."""
    return repr(values_of(name, event))


def as_json(session: Session, name: str, event: Any) -> str:
    """Return an event's values as postgresql-audit stores them."""
    row = text(f"SELECT to_jsonb(e) FROM {name}_event AS e WHERE pgh_id = :id")
    values = session.scalars(row, {"id": event.pgh_id}).one()
    of_row = {key: values[key] for key in values if not key.startswith("pgh_")}
    return json.dumps(of_row, sort_keys=True)


def assert_moved(
    url: URL,
    report: dict[str, Any],
    contexts: list[Any],
    told: Callable[[Session, str, Any], str],
) -> None:
    """Every version is an event, the past is what it was, and new events follow."""
    engine = create_engine(url)
    transactions = report["transactions"]
    with Session(engine) as session:
        events = all_events(session)
        moved, unseen = events[: len(report["versions"])], events[-UNSEEN:]
        assert len(events) == len(moved) + len(unseen)

        known = [
            [event.pgh_xact_id, name, event.pgh_op, told(session, name, event)]
            for name, event in moved
        ]
        assert sorted(known) == sorted(report["versions"])
        if told is as_json:  # its activities have an order over all tables
            assert known == report["versions"]
        assert [e.pgh_xact_id for _, e in moved] == sorted(
            e.pgh_xact_id for _, e in moved
        )
        labels = {(event.pgh_op, event.pgh_label) for _, event in moved}
        assert labels == {("I", "snapshot"), ("U", "snapshot"), ("D", "delete")}
        assert [
            {
                event.pgh_context and json.dumps(event.pgh_context.metadata)
                for _, event in moved
                if event.pgh_xact_id == transaction["number"]
            }
            for transaction in transactions
        ] == [{context and json.dumps(context)} for context in contexts]

        assert sorted(
            [name, event.pgh_op, str(values_of(name, event)[-1])]
            for name, event in unseen
            if name != "product"
        ) == [["review", "D", "better"], ["tag", "B", "raw"]]
        (changed,) = [event for name, event in unseen if name == "product"]
        assert (changed.pgh_op, changed.id, str(changed.price)) == ("B", 3, "9.0000")

        for transaction in transactions:
            last = [e for _, e in moved if e.pgh_xact_id == transaction["number"]][-1]
            for when in [
                {"when": datetime.datetime.fromisoformat(transaction["at"])},
                {"when": last},
                {"transaction": transaction["number"]},
            ]:
                with history.as_of(session, **when) as past:
                    assert state(past, Base.metadata) == transaction["state"], when
        now = session.scalar(select(func.clock_timestamp()))
        with history.as_of(session, now) as past:
            assert state(past, Base.metadata) == state(session, Base.metadata)

        tea = session.get_one(shop.product, 1)
        with history.context(session, user=9):
            tea.name = "green tea"
            session.commit()
        last = all_events(session)[-1][1]
        assert (last.name, last.pgh_context.metadata) == ("green tea", {"user": 9})
        assert dict(last.diff) == {"name": ("té", "green tea")}
        page = session.execute(history.feed(Base, limit=1000)).all()
        assert [row.pgh_id for row in page] == sorted(row.pgh_id for row in page)
    engine.dispose()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Continuum 2 needs Python 3.11")
@pytest.mark.parametrize("arguments", [[], ["null-delete"]])
def test_versions_of_continuum_are_events(pg_url: URL, arguments: list[str]) -> None:
    report = json.loads(run(pg_url, HERE / "continuum_shop.py", *arguments))
    track_tables(pg_url)
    printed = move(pg_url, "from_continuum.py")
    assert printed == (
        f"{len(report['versions'])} versions are events now\n"
        "3 rows were not as their last version\n"
    )
    contexts = [
        None,
        {"user": 7, "remote": "10.0.0.1"},
        {"user": 8, "reason": "stock-taking", "remote": "10.0.0.1"},
        {"user": 7, "remote": "10.0.0.1"},
    ]
    assert_moved(pg_url, report, contexts, as_python)


def test_activities_of_postgresql_audit_are_events(pg_url: URL) -> None:
    report = json.loads(run(pg_url, HERE / "postgresql_audit_shop.py"))
    track_tables(pg_url)
    printed = move(pg_url, "from_postgresql_audit.py")
    assert printed == (
        f"{len(report['versions'])} versions are events now\n"
        "3 rows were not as their last version\n"
    )
    contexts = [
        None,
        {"user": "7", "remote": "10.0.0.1"},
        {"user": "8", "remote": "10.0.0.1"},
        {"user": "7", "remote": "10.0.0.1"},
    ]
    assert_moved(pg_url, report, contexts, as_json)


def test_events_that_are_there_are_an_error(pg_url: URL) -> None:
    run(pg_url, HERE / "postgresql_audit_shop.py")
    track_tables(pg_url)
    move(pg_url, "from_postgresql_audit.py")
    with pytest.raises(AssertionError, match="has events already"):
        move(pg_url, "from_postgresql_audit.py")


def test_transactions_of_another_server_are_an_error(pg_url: URL) -> None:
    run(pg_url, HERE / "postgresql_audit_shop.py")
    engine = create_engine(pg_url)
    number = "UPDATE activity SET native_transaction_id = '99999999999'"
    with engine.begin() as connection:
        connection.exec_driver_sql(number)
    engine.dispose()
    track_tables(pg_url)
    with pytest.raises(AssertionError, match="greater numbers than this server"):
        move(pg_url, "from_postgresql_audit.py")


def test_writers_and_the_program_wait_for_each_other(pg_url: URL) -> None:
    run(pg_url, HERE / "postgresql_audit_shop.py")
    track_tables(pg_url)
    engine = create_engine(pg_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE product SET name = name")
        with pytest.raises(AssertionError, match="LockNotAvailable"):
            move(
                pg_url,
                "from_postgresql_audit.py",
                PGOPTIONS="-c lock_timeout=100ms",
            )
    engine.dispose()


def test_models_that_are_not_tracked_are_an_error(pg_url: URL) -> None:
    run(pg_url, HERE / "postgresql_audit_shop.py")
    with pytest.raises(AssertionError, match="there are no versions of tracked"):
        run(pg_url, EXAMPLES / "from_postgresql_audit.py", "tests.moving.shop:Empty")


def test_contexts_may_be_stored_in_the_events(pg_url: URL) -> None:
    run(pg_url, HERE / "postgresql_audit_shop.py")
    engine = create_engine(pg_url)
    inline_shop.Base.metadata.create_all(engine)
    models = "tests.moving.inline_shop:Base"
    run(pg_url, EXAMPLES / "from_postgresql_audit.py", models)
    with engine.connect() as connection:
        stored = connection.scalars(text("SELECT pgh_context FROM product_event"))
        users = Counter(context and context["user"] for context in stored)
    assert users == {None: 4, "7": 2, "8": 2}
    engine.dispose()
