"""Events that were archived and removed, in lists, at objects and in exports."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path
from typing import Any

import flask
import pytest
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import URL, NullPool, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Mapped, mapped_column
from starlette.applications import Starlette
from starlette.routing import Mount

import sa_history
from sa_history import track
from sa_history.archiving import packages
from sa_history.archiving.folder import ArchiveFolder
from sa_history.exc import ArchiveError
from sa_history.starlette import timeline
from sa_history.timeline import queries
from tests.timeline.visitor import (
    SECRET_KEY,
    AsgiClient,
    Looker,
    change,
    seen_by,
    words,
)

LATER = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=100)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "archive")


@pytest.fixture
def page(app: flask.Flask, db: SQLAlchemy, note: Any, folder: str) -> Any:
    """Two models, of which one has partitions; all but its last one are closed."""

    @track(partition_by=4, erasable=["secret"])
    class Page(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        secret: Mapped[str | None]

    with app.app_context():
        db.create_all()
        for number in range(1, 17):
            with sa_history.context(user="ada" if number % 2 else "ben", n=number):
                if number % 4 == 0:
                    db.session.add(note(id=number, body=f"note {number}"))
                elif number < 4:
                    db.session.add(
                        Page(id=number, body=f"page {number}", secret=f"s{number}")
                    )
                else:
                    db.session.get_one(Page, 1).body = f"page {number}"
                db.session.commit()
            sa_history.partitions(db.engine, db.Model)
        with sa_history.context(user="ada", n=17):
            db.session.get_one(Page, 1).body = "page 17"
            db.session.commit()
    return Page


@pytest.fixture
def drop(app: flask.Flask, db: SQLAlchemy, page: Any, folder: str) -> Any:
    """Archive what is closed, and remove it."""

    def run(now: datetime.datetime = LATER, **options: Any) -> None:
        with app.app_context():
            sa_history.archive(
                db.engine, db.Model, to=folder, drop=True, now=now, **options
            )

    return run


def walk(look: Looker, path: str) -> list[dict[str, Any]]:
    """Return the events of all pages of a list."""
    found = []
    following: str | None = path
    while following is not None:
        answer = look.json(following)
        found += answer["events"]
        following = answer["next"]
    return found


def plain(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**event, "archived": None} for event in events]


PATHS = [
    "/",
    "/?table=page_event",
    "/?user=ada",
    "/?context=n=2",
    "/?text=AGE+1",
    "/?text=%22ben%22",
    "/?text=%25",
    "/?key=1",
    "/objects/page_event/1",
    "/?until=2020-01-01",
]


@pytest.mark.parametrize("contexts", ["archived", "live"])
def test_lists_go_on_with_archived_events(
    app: flask.Flask, drop: Any, folder: str, contexts: str, db: SQLAlchemy
) -> None:
    look = Looker(seen_by(app, archive=folder, page_size=3))
    before = {path: walk(look, path) for path in PATHS}
    assert [e["id"] for e in before["/"]] == [*range(17, 0, -1)]
    assert not any("archived" in event for event in before["/"])
    # The contexts of a period are archived after the next one.
    now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=3)
    drop(LATER if contexts == "archived" else now)
    with app.app_context():
        left = db.session.execute(text("SELECT count(*) FROM pghistory_context"))
        assert bool(left.scalar()) or contexts == "archived"
    after = {path: walk(look, path) for path in PATHS}
    assert {p: plain(e) for p, e in after.items()} == {
        p: plain(e) for p, e in before.items()
    }
    archived = [e["id"] for e in after["/"] if e.get("archived")]
    assert archived == [n for n in range(15, 0, -1) if n % 4]
    assert walk(look, f"/transactions/{after['/'][-1]['transaction']}") == [
        after["/"][-1]
    ]
    context = after["/"][-1]["context_id"]
    assert walk(look, f"/contexts/{context}") == [after["/"][-1]]


def test_contexts_since_the_archive_are_looked_for_beside_its_own(
    app: flask.Flask, drop: Any, folder: str, db: SQLAlchemy, page: Any
) -> None:
    drop()
    with app.app_context(), sa_history.context(user="ada", n=18):
        db.session.get_one(page, 1).body = "page 18"
        db.session.commit()
    look = Looker(seen_by(app, archive=folder, page_size=3))
    found = [event["id"] for event in walk(look, "/?user=ada")]
    assert found == [18, *range(17, 0, -2)]


def test_archived_events_are_marked_and_neither_restored_nor_undone(
    app: flask.Flask, drop: Any, folder: str
) -> None:
    drop()
    options: dict[str, Any] = {
        "authorize_restore": lambda event: True,
        "authorize_undo": lambda undo: True,
    }
    look = Looker(seen_by(app, archive=folder, mask=["Page.body"], **options))
    events = {event["id"]: event for event in look.json("/")["events"]}
    assert events[1]["archived"]
    assert events[1]["data"]["body"] == "•••"
    shown = look.page("/")
    first = shown[shown.index('data-event="1"') :]
    assert "archived" in first
    assert "/restore" not in first
    assert "Undo" not in first
    newest = shown[shown.index('data-event="17"') : shown.index('data-event="15"')]
    assert "archived" not in newest
    assert "Undo" in newest


def test_an_object_is_known_as_of_archived_times(
    app: flask.Flask, drop: Any, folder: str
) -> None:
    look = Looker(seen_by(app, archive=folder))
    events = walk(look, "/objects/page_event/1")
    drop()
    for event in events:
        at = event["time"].replace("+00:00", "Z")
        answer = look.json(f"/objects/page_event/1?at={at}")
        assert answer["state"]["data"] == event["data"]
    for path in ("page_event/1", "note_event/4"):
        assert look.json(f"/objects/{path}?at=2020-01-01")["state"] is None
    first, last = events[-1]["id"], events[0]["id"]
    compared = look.json(f"/objects/page_event/1?version={first}&version={last}")
    assert compared["compared"] == {"body": ["page 1", "page 17"]}
    assert "archived" in words(look.page("/objects/page_event/1"))


def test_what_was_removed_and_not_archived_is_not_known(
    app: flask.Flask, db: SQLAlchemy, page: Any, drop: Any, folder: str
) -> None:
    with app.app_context():
        db.session.execute(text("SELECT 1"))
        sa_history.partitions(db.engine, db.Model, keep="1 day", now=LATER)
        for number in range(20, 32):
            db.session.get_one(page, 2).body = f"page {number}"
            db.session.commit()
            sa_history.partitions(db.engine, db.Model)
    drop()
    look = Looker(seen_by(app, archive=folder, page_size=1))
    events = [event for event in walk(look, "/") if event["model"] == "Page"]
    # The last event of a row that nobody changed since was kept, and is in no archive.
    assert [e["key"] for e in events if e["id"] < 0] == ["3"]
    assert events[-1]["key"] == "3"
    assert [e["data"]["body"] for e in events][:2] == ["page 31", "page 30"]
    look.json("/objects/page_event/1?at=2020-01-01", status=400)


def test_exports_have_archived_events(app: flask.Flask, drop: Any, folder: str) -> None:
    client = seen_by(app, archive=folder)
    before = client.get("/history/export.csv").text
    drop()
    after = client.get("/history/export.csv").text
    assert after == before


@pytest.mark.usefixtures("read_committed")
def test_erased_values_are_shown_as_erased(
    app: flask.Flask, db: SQLAlchemy, page: Any, drop: Any, folder: str
) -> None:
    drop()
    with app.app_context():
        sa_history.erase(db.session, page, 2, archive=folder)
        db.session.commit()
    look = Looker(seen_by(app, archive=folder))
    (event,) = walk(look, "/objects/page_event/2")
    assert event["archived"]
    assert event["data"]["secret"] == {"erased": True}


def test_the_chart_counts_archived_events(
    app: flask.Flask, drop: Any, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = Looker(seen_by(app, archive=folder))
    paths = ["/chart", "/chart?user=ada", "/chart?text=AGE+1", "/chart?key=1"]
    paths += ["/chart?user=nobody"]
    before = {path: look.json(path) for path in paths}
    assert sum(day["events"] for day in before["/chart"]["days"]) == 17
    drop()
    assert {path: look.json(path) for path in paths} == before
    monkeypatch.setattr(queries, "SEARCHED", 6)
    some = look.json("/chart")
    assert sum(day["events"] for day in some["days"]) == 6
    assert not some["is_whole"]


def test_files_are_read_while_the_event_loop_goes_on(
    db: SQLAlchemy,
    drop: Any,
    folder: str,
    pg_url: URL,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drop()
    loops: list[asyncio.AbstractEventLoop] = []

    async def authorize(request: Any) -> bool:
        loops.append(asyncio.get_running_loop())
        return True

    read = ArchiveFolder.read_manifest

    def read_manifest(self: ArchiveFolder, path: str) -> Any:
        # What another request does meanwhile.
        other = asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "went on"), loops[-1])
        assert other.result(timeout=5) == "went on"
        return read(self, path)

    monkeypatch.setattr(ArchiveFolder, "read_manifest", read_manifest)
    pages = timeline(
        create_async_engine(pg_url, poolclass=NullPool),
        models=db.Model,
        authorize=authorize,
        secret_key=SECRET_KEY,
        archive=folder,
    )
    look = Looker(AsgiClient(Starlette(routes=[Mount("/history", pages)])))
    assert len(look.json("/")["events"]) == 17
    assert look.json("/chart")["days"]
    at = "at=2020-01-01"
    assert look.json(f"/objects/page_event/1?{at}")["state"] is None
    assert "page 1" in look.client.get("/history/export.csv").text


def test_a_text_is_looked_for_in_some_events_at_a_time(
    app: flask.Flask, drop: Any, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "SEARCHED", 3)
    look = Looker(seen_by(app, archive=folder, page_size=2))
    before = walk(look, "/?text=AGE+1")
    drop()
    assert plain(walk(look, "/?text=AGE+1")) == plain(before)
    assert {event["model"] for event in before} == {"Page"}
    assert len(before) > 3


def test_a_page_of_live_events_opens_no_file_and_what_cannot_be_read_is_told(
    app: flask.Flask, db: SQLAlchemy, page: Any, drop: Any, folder: str
) -> None:
    drop()
    for body in ("later", "last"):
        change(app, db, page, 1, body=body)
    manifest = Path(folder, "public.page_event", "_manifest.json")
    manifest.write_text("{}")
    look = Looker(seen_by(app, archive=folder, page_size=2))
    assert look.json("/?table=note_event")["events"]
    assert look.bodies("/?table=page_event") == ["last", "later"]
    assert "is no manifest of an archive" in look.page("/?user=ada", 503)


@pytest.mark.parametrize("path", ["/", "/?table=page_event", "/chart", "/?user=ben"])
def test_the_archive_of_another_database_is_refused(
    app: flask.Flask, db: SQLAlchemy, drop: Any, folder: str, path: str
) -> None:
    drop()
    look = Looker(seen_by(app, archive=folder))
    look.page(path)
    with app.app_context():
        db.session.execute(text("DELETE FROM pghistory_archive"))
        db.session.commit()
    assert "it may be the archive of another database" in words(look.page(path, 503))


def test_an_archive_that_lacks_what_was_dropped_is_refused(
    app: flask.Flask, drop: Any, folder: str, tmp_path: Path
) -> None:
    drop()
    (tmp_path / "empty").mkdir()
    look = Looker(seen_by(app, archive=str(tmp_path / "empty")))
    said = words(look.page("/", 503))
    assert "which was archived to" in said
    assert "give that folder, or move all of it" in said


def test_who_may_not_read_what_was_archived_is_not_told_of_another_database(
    app: flask.Flask, db: SQLAlchemy, drop: Any, folder: str
) -> None:
    drop()
    with app.app_context():
        db.session.execute(text("DROP TABLE pghistory_archive"))
        db.session.commit()
    look = Looker(seen_by(app, archive=folder))
    assert len(look.json("/")["events"]) == 17


def test_a_timeline_says_at_once_what_is_not_installed(
    app: flask.Flask, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(packages.importlib, "import_module", missing)
    with pytest.raises(ArchiveError, match=r"needs duckdb, .* \"sa_history\[archive\]"):
        seen_by(app, archive=folder)
