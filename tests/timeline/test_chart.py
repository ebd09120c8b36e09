"""The chart of changes a day."""

from __future__ import annotations

import datetime
import html
import re
from collections.abc import Callable
from typing import Any

import flask
import pytest
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text, update
from sqlalchemy.orm import Mapped, Session, mapped_column

import sa_history
from sa_history import track
from sa_history.timeline import pages, queries
from sa_history.timeline.chart import DAYS, HEIGHT
from sa_history.timeline.entries import Hidden
from sa_history.timeline.filters import Filters
from tests.timeline.visitor import Looker, seen_by, words


@pytest.fixture
def filled(
    app: flask.Flask, db: SQLAlchemy, note: Any, write: Callable[..., None]
) -> None:
    """Events of two models on several days."""

    @track(context="inline")
    class Bill(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]

    with app.app_context():
        db.create_all()
    for model, key, time in (
        (Bill, 1, "2025-12-01T00:00:00+00:00"),
        (note, 1, "2026-01-30T23:59:59+00:00"),
        (note, 2, "2026-01-30T23:30:00-05:00"),
        (note, 3, "2026-01-31T12:00:00+00:00"),
        (note, 4, "2026-01-31T12:00:00+00:00"),
        (Bill, 2, "2026-01-31T12:00:00+00:00"),
    ):
        write(model(id=key, body=f"{key}"), user="ada" if key == 1 else "ben")
        with app.app_context():
            events = sa_history.events(model).table
            db.session.execute(
                update(events)
                .where(events.c.id == key)
                .values(pgh_created_at=datetime.datetime.fromisoformat(time))
            )
            db.session.commit()


def test_it_counts_the_changes_of_each_model_a_day(filled: None, look: Looker) -> None:
    answer = look.json("/chart")
    assert answer == {
        "days": [
            {"day": "2026-01-30", "model": "Note", "events": 1},
            {"day": "2026-01-31", "model": "Note", "events": 3},
            {"day": "2026-01-31", "model": "Bill", "events": 1},
        ],
        "is_whole": True,
    }
    page = look.page("/chart")
    shown = words(page)
    assert "Note: 4 changes" in shown
    assert "Bill: 1 change " in shown
    assert "Only the newest" not in shown
    assert "Model Day Changes Note 2026-01-30 1 change Note 2026-01-31 3 chang" in shown
    first = datetime.date(2026, 1, 31) - datetime.timedelta(days=DAYS - 1)
    assert f"{first} to 2026-01-31" in shown
    heights = re.findall(r'class="bar".*?height="([^"]*)"', page)
    assert [float(h) for h in heights] == [
        round(HEIGHT / 3, 2),
        float(HEIGHT),
        round(HEIGHT / 3, 2),
    ]


def test_each_bar_and_each_row_of_the_table_leads_to_its_events(
    filled: None, look: Looker
) -> None:
    page = look.page("/chart?user=ben&period=&text=&label=snapshot&until=2027-01-01")
    links = [html.unescape(link) for link in re.findall(r'<a href="([^"]*)"', page)]
    leading = [link for link in links if "since=" in link]
    assert len(leading) == 4  # two bars, and two rows
    assert leading[:2] == leading[2:]
    for link, keys in zip(leading[:2], (["4", "3", "2"], ["2"]), strict=True):
        assert "user=ben" in link
        assert "label=snapshot" in link
        assert [e["key"] for e in look.json(link)["events"]] == keys


@pytest.mark.parametrize(
    ("query", "days"),
    [
        ("user=ada", [("Note", 1)]),
        ("table=bill_event", [("Bill", 1)]),
        ("text=3", [("Note", 1)]),
        ("key=2&since=2026-01-01", [("Bill", 1), ("Note", 1)]),
        ("until=2025-12-02", [("Bill", 1)]),
        ("user=nobody", []),
    ],
)
def test_it_has_the_filters_of_the_list(
    query: str, days: list[tuple[str, int]], filled: None, look: Looker
) -> None:
    found = look.json(f"/chart?{query}")["days"]
    if query == "user=ada":  # Bill has one as well, long before
        assert [(d["model"], d["events"]) for d in found] == days
        return
    assert [(d["model"], d["events"]) for d in found] == days
    assert ("There are no such events." in look.page(f"/chart?{query}")) == (not days)


def test_it_counts_the_newest_events_only_and_says_so(
    filled: None, monkeypatch: pytest.MonkeyPatch, look: Looker
) -> None:
    for module in (queries, pages):
        monkeypatch.setattr(module, "SEARCHED", 4)
    answer = look.json("/chart")
    assert [(d["model"], d["events"]) for d in answer["days"]] == [
        ("Note", 3),
        ("Bill", 1),
    ]
    assert not answer["is_whole"]
    assert "Only the newest 4 events that the filters leave" in look.page("/chart")


def test_days_are_those_of_utc_whatever_the_session_has(
    filled: None, app: flask.Flask, db: SQLAlchemy
) -> None:
    with app.app_context(), Session(db.engine) as session:
        session.execute(text("SET LOCAL TIME ZONE 'America/New_York'"))
        timeline = queries.Timeline(session, db.metadata, Hidden(frozenset()))
        counted = timeline.counts(Filters()).counted
    days = {(t.subject, f"{day}"): events for day, t, events in counted}
    assert days["Note", "2026-01-30"] == 1
    assert days["Note", "2026-01-31"] == 3
    assert days["Bill", "2025-12-01"] == 1


def test_a_masked_key_is_not_counted(filled: None, app: flask.Flask, note: Any) -> None:
    look = Looker(seen_by(app, mask=["id"]))
    assert look.json("/chart?key=1") == {"days": [], "is_whole": True}
    assert look.json("/?key=1")["events"] == []
    assert look.json("/?key=1&text=a")["events"] == []
    assert look.client.get("/history/export.jsonl?key=1").text == ""


def test_a_list_does_not_pay_for_it(filled: None, look: Looker) -> None:
    assert "<svg" not in look.page("/")
    assert 'href="/history/chart?user=ada"' in look.page("/?user=ada")
