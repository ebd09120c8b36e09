"""What older builds have made and written is read by this one, and brought up to date.

``older_builds`` has what they left; its module ``application`` says how it was made.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

import sa_history as history
from sa_history import AggregateEvent, SealDigest
from sa_history.install import check, install
from tests.migrations.models import scalars
from tests.migrations.older_builds.application import SEALS, models

FOLDER = Path(__file__).parent / "older_builds"

BUILDS = ["6feb6cd", "8cc72ac"]
"""The commits of the builds; the first one is from before seals and partitions."""


@pytest.fixture(autouse=True)
def _read_committed(read_committed: None) -> None:
    """Erasing and removing, which are sealed, refuse other levels of isolation."""


@pytest.fixture(params=BUILDS)
def build(request: pytest.FixtureRequest) -> str:
    """The name of an older build."""
    return str(request.param)


@pytest.fixture
def app(build: str, pg_engine: Engine) -> SimpleNamespace:
    """The models of an application whose database an older build has made."""
    dump = (FOLDER / f"{build}.sql").read_text()
    raw = pg_engine.raw_connection()
    raw.driver_connection.execute(dump)  # type: ignore[union-attr]
    raw.commit()
    # The dump has set what its statements need.
    raw.invalidate()
    raw.close()
    return models(SEALS if build == BUILDS[0] else ())


def events_of(engine: Engine) -> dict[str, list[str]]:
    """Return the rows of all event tables and contexts, as text."""
    tables = scalars(
        engine,
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relkind IN ('r', 'p') AND NOT relispartition"
        " AND relname ~ '_event$|^pghistory' ORDER BY 1",
    )
    return {
        name: scalars(engine, f"SELECT t::text FROM {name} AS t ORDER BY 1")
        for name in tables
    }


def functions(engine: Engine) -> list[Any]:
    """Return the functions with their comments, and the triggers."""
    return scalars(
        engine,
        "SELECT pg_get_functiondef(oid) || obj_description(oid, 'pg_proc')"
        " FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        " UNION ALL SELECT pg_get_triggerdef(oid) || obj_description(oid, 'pg_trigger')"
        " FROM pg_trigger WHERE NOT tgisinternal AND tgparentid = 0 ORDER BY 1",
    )


def write(engine: Engine, app: SimpleNamespace) -> None:
    """Change rows of an older build, and look at what was recorded."""
    with Session(engine) as session, history.context(session, user=9):
        account = session.get_one(app.Account, 1)
        account.balance = Decimal("-8.00")
        session.get_one(app.Dog, 1).breed = "mix"
        session.add(app.Line(order=2, sku="b", quantity=1))
        session.get_one(app.Reading, 1).value = 0
        session.get_one(app.Invoice, 1).is_active = False
        session.commit()
        event = session.scalars(account.events.last()).one()
        assert (event.pgh_label, event.user) == ("overdrawn", 9)
        rows = session.execute(AggregateEvent.select(*vars(app).values())).all()
        new = [row for row in rows if row.pgh_context == {"user": 9}]
        assert sorted((row.pgh_model, sorted(row.pgh_diff or ())) for row in new) == [
            ("AccountEvent", ["balance"]),
            ("AccountEvent", ["balance"]),
            ("DogEvent", ["breed"]),
            ("InvoiceEvent", ["is_active", "updated_at", "version"]),
            ("LineEvent", []),
            ("ReadingEvent", ["value"]),
        ]


def test_what_an_older_build_wrote_is_read_and_undone(
    app: SimpleNamespace, build: str, pg_engine: Engine
) -> None:
    with Session(pg_engine) as session:
        account = session.get_one(app.Account, 1)
        first, second, third = session.scalars(account.events.select())
        assert first.doc == {"a": [1, 2.5, None]}
        assert first.pgh_context.metadata == {"user": 1, "why": "é'\\"}
        assert (second.pgh_label, third.pgh_label) == ("snapshot", "overdrawn")
        assert (third.user, dict(second.diff)) == (
            2,
            {"balance": (Decimal("5.00"), Decimal("-3.00"))},
        )
        rows = session.execute(history.changes(account, "balance")).all()
        assert [tuple(row)[-2:] for row in rows] == [
            (None, Decimal("5.00")),
            (Decimal("5.00"), Decimal("-3.00")),
        ]
        with history.as_of(session, second) as past:
            assert past.get_one(app.Dog, 1).breed == "lab"
            assert past.get_one(app.Line, (1, "a")).quantity == 2
            assert past.scalar(select(func.sum(app.Reading.value))) == 28
        undone = history.undo(session, app.Base, transaction=second, dry_run=True)
        assert [str(step) for step in undone.steps][:3] == [
            "update account (1): balance = Decimal('5.00')",
            "update dog (1): breed = 'lab'",
            "update line (1, 'a'): quantity = 2",
        ]
        assert [str(one) for one in undone.conflicts] == ["line (1, 'a') is gone"]
        second.revert(session)


def test_objects_of_an_older_build_record_until_they_are_brought_up_to_date(
    app: SimpleNamespace, pg_engine: Engine
) -> None:
    found = check(pg_engine, app.Base)
    assert {str(finding.problem) for finding in found} == {"outdated"}
    write(pg_engine, app)


def test_an_installation_brings_an_older_build_up_to_date(
    app: SimpleNamespace, pg_engine: Engine
) -> None:
    events = events_of(pg_engine)
    install(pg_engine, app.Base)
    assert check(pg_engine, app.Base) == []
    assert events_of(pg_engine) == events
    write(pg_engine, app)


def test_a_revision_brings_an_older_build_up_to_date_and_back(
    app: SimpleNamespace, migrations: Any, pg_engine: Engine
) -> None:
    events, before = events_of(pg_engine), functions(pg_engine)
    migrations.metadata = app.Base.metadata
    migrations.revise()
    migrations.upgrade()
    assert migrations.check() == []
    assert check(pg_engine, app.Base) == []
    assert events_of(pg_engine) == events
    migrations.downgrade()
    assert functions(pg_engine) == before
    assert events_of(pg_engine) == events


@pytest.mark.parametrize("build", BUILDS[1:], indirect=True)
def test_seals_and_archives_of_an_older_build_are_verified_and_go_on(
    app: SimpleNamespace, build: str, pg_engine: Engine
) -> None:
    digest = SealDigest.from_json((FOLDER / f"{build}.json").read_text())
    verified = history.verify(pg_engine, app.Base, digest=digest)
    assert (verified.discrepancies, verified.seals) == ((), 3)
    with history.archived(FOLDER / build, app.Base, live=pg_engine) as archive:
        events = list(archive.events(app.Reading, 3))
        assert [(event.name, event.value) for event in events] == [
            (None, 3),  # its name was erased
            (None, 103),
        ]
    write(pg_engine, app)
    history.seal(pg_engine, app.Base)
    verified = history.verify(
        pg_engine, app.Base, digest=digest, archive=FOLDER / build
    )
    assert (verified.discrepancies, verified.seals) == ((), 5)
