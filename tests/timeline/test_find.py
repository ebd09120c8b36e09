"""What is looked for: text, periods, users; and what is wrong stays in the form."""

from __future__ import annotations

import datetime
import html
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import flask
import pytest
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import JSON, ForeignKey, LargeBinary, Numeric, text, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, Session, mapped_column
from sqlalchemy.types import Text

import sa_history
from sa_history import track
from sa_history.exc import DefinitionError
from sa_history.timeline import pages, queries
from sa_history.timeline.entries import Hidden
from sa_history.timeline.filters import FilterForm, Filters
from tests.timeline.visitor import JSON as ACCEPT_JSON
from tests.timeline.visitor import Looker, seen_by, words

UTC = datetime.timezone.utc


def found(look: Looker, **arguments: str) -> list[Any]:
    events = look.json(f"/?{urlencode(arguments)}")["events"]
    return [event["key"] for event in events]


def test_text_is_found_in_values_and_contexts(
    app: flask.Flask, db: SQLAlchemy, look: Looker
) -> None:
    @track()
    class Thing(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        words: Mapped[str | None]
        price = mapped_column(Numeric)
        jsonb = mapped_column(JSONB)
        json = mapped_column(JSON)
        many = mapped_column(ARRAY(Text))
        raw = mapped_column(LargeBinary)

    @track(context="inline")
    class Inline(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    @track(context=None)
    class Bare(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    with app.app_context():
        db.create_all()
        with sa_history.context(reason="Eviction", user="ada"):
            for thing in (
                Thing(id=1, words="An Apple_pie"),
                Thing(id=2, words="applexpie, 100%"),
                Thing(id=3, price="12345.60"),
                Thing(id=4, jsonb={"color": "ÖLIVE"}, json=["c:\\temp"]),
                Thing(id=5, many=["apple_pie"], raw=b"apple_pie"),
            ):
                db.session.add(thing)
                db.session.commit()
        db.session.add_all([Thing(id=6, raw=b"zzz"), Bare(id=7)])
        db.session.commit()
        with sa_history.context(reason="evict"):
            db.session.add(Inline(id=8))
            db.session.commit()
    for given, keys in {
        "apple_pie": ["5", "1"],
        "APPLEXPIE": ["2"],
        "100%": ["2"],
        "5.6": ["3"],
        "Ölive": ["4"],
        '"color"': ["4"],
        "c:\\\\temp": ["4"],
        "EVICT": ["8", "5", "4", "3", "2", "1"],
        "zzz": [],
        "7a7a": [],  # the bytes, as PostgreSQL writes them
        "' OR 1=1 --": [],
        "\\": ["4"],
        "%": ["2"],
    }.items():
        assert (given, found(look, text=given)) == (given, keys)
    assert found(look, text="apple", table="inline_event") == []
    assert found(look, text="evict", user="ada", since="2020-01-01") == [*"54321"]
    assert 'value="apple_pie"' in look.page("/?text=apple_pie")
    look.page("/?text=%00", 404)


def test_no_text_is_looked_for_in_masked_values(
    app: flask.Flask, db: SQLAlchemy
) -> None:
    @track()
    class Person(db.Model):  # type: ignore[name-defined, misc]
        number: Mapped[str] = mapped_column(primary_key=True)
        name: Mapped[str]
        boss: Mapped[str | None] = mapped_column(ForeignKey("person.number"))

    with app.app_context():
        db.create_all()
        db.session.add(Person(number="123-45", name="Ada", boss="123-45"))
        db.session.commit()
    look = Looker(seen_by(app, mask=["Person.number"]))
    for path in ("/?text={}", "/chart?text={}"):
        answers = [look.page(path.format(t)).replace(t, "") for t in ("123", "999")]
        assert answers[0] == answers[1]
    exports = [look.client.get(f"/history/export.csv?text={t}") for t in ("123", "999")]
    assert len({export.text for export in exports}) == 1
    assert len(look.json("/?text=ada")["events"]) == 1


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a page search five events."""
    monkeypatch.setattr(queries, "SEARCHED", 5)
    monkeypatch.setattr(pages, "SEARCHED", 5)


def test_a_search_ends_after_some_events_says_so_and_can_go_on(
    few: None, app: flask.Flask, db: SQLAlchemy, note: Any
) -> None:
    with app.app_context():
        for number in range(1, 18):
            body = "needle" if number in (2, 3, 15) else "hay"
            db.session.add(note(id=number, body=body))
            db.session.commit()
    look = Looker(seen_by(app, page_size=1))
    path, seen, empty = "/?text=needle", [], 0
    while path:
        assert empty < 5
        page = look.page(path.removeprefix("/history"))
        answer = look.json(path)
        seen += [e["key"] for e in answer["events"]]
        empty += not answer["events"]
        is_searching = "Search older events" in page
        assert is_searching == ("The text was looked for in 5 events." in page)
        if not answer["events"] and is_searching:
            assert "no such events among those that were searched" in page
        assert ("Newest events" in page) == ("before=" in path)
        path = answer["next"]
    assert seen == ["15", "3", "2"]
    assert empty
    # What is left after the text is not how many are searched.
    assert look.json("/?text=needle&key=2")["next"] is None


def test_a_search_does_not_go_on_where_all_has_been_searched(
    few: None, note: Any, write: Callable[..., None], look: Looker
) -> None:
    write(*(note(body="hay") for _ in range(4)))
    assert look.json("/?text=needle")["next"] is None
    page = look.page("/?text=needle")
    assert "There are no such events." in page
    assert "looked for" not in page


@pytest.mark.parametrize("path", ["/?text=x", "/chart", "/export.csv", "/export.jsonl"])
def test_what_takes_too_long_is_ended(
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    app: flask.Flask,
    db: SQLAlchemy,
    note: Any,
    write: Callable[..., None],
    look: Looker,
) -> None:
    write(note(body="a"))
    monkeypatch.setattr(queries, "TIME_LIMIT", 30)
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(text("LOCK TABLE note_event"))
        page = look.page(path, 503)
        look.json(path, 503)
    assert "Choose a model, a user or a shorter time." in page
    assert 'href="/history/"' in page
    look.page(path) if "export" not in path else look.client.get(f"/history{path}")


@pytest.mark.parametrize(
    ("before", "after"), [("0", "10s"), ("60s", "10s"), ("5s", "5s"), ("10s", "10s")]
)
def test_the_limit_of_time_is_no_longer_than_that_of_the_application(
    before: str, after: str, app: flask.Flask, db: SQLAlchemy, note: Any
) -> None:
    with app.app_context(), Session(db.engine) as session:
        session.execute(text(f"SET statement_timeout = '{before}'"))
        session.commit()
        timeline = queries.Timeline(session, db.metadata, Hidden(frozenset()))
        timeline.keys(Filters(), None, 1)
        show = text("SHOW statement_timeout")
        assert session.scalar(show) == after
        session.rollback()
        assert session.scalar(show) != "10s" or before == "10s"


@pytest.mark.parametrize(
    ("period", "since"),
    [
        ("today", "2026-03-10T00:00:00"),
        ("week", "2026-03-04T00:00:00"),
        ("month", "2026-03-01T00:00:00"),
    ],
)
def test_periods_begin_with_a_day_in_utc(period: str, since: str) -> None:
    class Request:
        def argument(self, name: str) -> str | None:
            return {"period": period}.get(name)

    request: Any = Request()
    zone = datetime.timezone(datetime.timedelta(hours=-5))
    now = datetime.datetime(2026, 3, 9, 23, 30, tzinfo=zone)
    form = FilterForm.of(request, [], now)
    assert form.filters.since == datetime.datetime.fromisoformat(f"{since}+00:00")
    assert (form.errors, form.times) == ({}, {})


def test_a_period_and_a_time_both_count(
    app: flask.Flask, db: SQLAlchemy, note: Any, look: Looker
) -> None:
    now = datetime.datetime.now(UTC)
    with app.app_context():
        db.session.add_all([note(id=n, body=f"{n}") for n in (1, 2, 3)])
        db.session.commit()
        events = sa_history.events(note).table
        for key, days in ((1, 40), (2, 3), (3, 0)):
            db.session.execute(
                update(events)
                .where(events.c.id == key)
                .values(pgh_created_at=now - datetime.timedelta(days=days))
            )
        db.session.commit()
    assert found(look, period="week") == ["3", "2"]
    assert found(look, period="today") == ["3"]
    earlier = f"{now - datetime.timedelta(days=100):%Y-%m-%d}"
    assert found(look, period="week", since=earlier) == ["3", "2"]
    later = f"{now - datetime.timedelta(days=1):%Y-%m-%d}"
    assert found(look, period="week", since=later) == ["3"]
    page = look.page(f"/?period=week&since={later}")
    assert '<option value="week" selected>' in page
    assert f'name="since" value="{later}T00:00:00"' in page


def test_times_are_shown_in_utc_as_they_are_read(look: Looker) -> None:
    page = look.page("/?since=2020-02-03T05:05:06%2B01:00")
    assert 'name="since" value="2020-02-03T04:05:06"' in page


WRONG = {
    "table": ("nothing", "There is no such model: 'nothing'", 404),
    "since": ("yesterday", "Write a time such as 2026-01-31 or", 400),
    "until": ("0001-01-01T00:00:00+14:00", "not '0001-01-01T00:00:00+14:00'", 400),
    "context": ("ip", "Write a key, = and its value, such as method=POST", 400),
    "period": ("decade", "There is no such period: 'decade'", 400),
}


@pytest.mark.parametrize("path", ["/", "/chart"])
@pytest.mark.parametrize("field", WRONG)
def test_a_wrong_filter_stays_with_the_others_and_is_explained_beside_its_field(
    field: str, path: str, note: Any, write: Callable[..., None], look: Looker
) -> None:
    write(note(body="a"))
    value, message, status = WRONG[field]
    query = urlencode({field: value, "user": "ada", "text": "b"})
    page = look.page(f"{path}?{query}", status)
    shown = html.unescape(page)
    assert f'aria-describedby="error-{field}"' in page
    (error,) = re.findall(r'<p class="error" id="([^"]*)">([^<]*)</p>', shown)
    assert error[0] == f"error-{field}"
    assert message in error[1]
    for kept in (value, "ada", "b"):
        assert f'value="{kept}"' in shown
    assert 'class="filters foldable open"' in page
    assert f'action="/history{path}"' in page
    assert 'href="/history/">Back to the history' in page
    assert "created Note" not in words(page)
    answer = look.client.get(f"/history{path}?{query}", headers=ACCEPT_JSON)
    assert (answer.status_code, [*answer.json["fields"]]) == (status, [field])
    assert message in answer.json["error"]
    export = look.client.get(f"/history/export.csv?{query}")
    assert export.status_code == 400
    assert f"{field}: " in export.text


def test_several_wrong_filters_are_all_explained(look: Looker) -> None:
    page = look.page("/?since=a&until=b&context=c&table=d", 404)
    assert page.count('class="error"') == 4
    assert page.count("aria-invalid") == 4


def test_a_wrong_time_stays_on_the_page_of_an_object(
    note: Any, write: Callable[..., None], look: Looker
) -> None:
    write(note(id=1, body="a"))
    page = look.page("/objects/note_event/1?at=then", 400)
    assert 'name="at" value="then"' in page
    assert "Write a time such as" in page
    assert "created Note 1" in words(page)
    answer = look.client.get("/history/objects/note_event/1?at=x", headers=ACCEPT_JSON)
    assert answer.status_code == 400
    assert [*answer.json] == ["error"]


@pytest.mark.parametrize(
    ("users", "options"),
    [
        (["ada", "ben"], [("ada", "ada"), ("ben", "ben")]),
        ({7: "Ada <b>", 8: "Ben"}, [("7", "Ada <b>"), ("8", "Ben")]),
    ],
)
def test_users_can_be_chosen(
    users: Any,
    options: list[tuple[str, str]],
    app: flask.Flask,
    note: Any,
    write: Callable[..., None],
) -> None:
    async def given() -> Any:
        return users

    look = Looker(seen_by(app, users=given))
    write(note(body="a"), user=options[0][0])
    for path in (f"/?user={options[0][0]}", f"/chart?user={options[0][0]}"):
        page = look.page(path)
        select = page.partition('<select name="user"')[2].partition("</select>")[0]
        found = re.findall(r'<option value="([^"]*)"( selected)?>([^<]*)<', select)
        assert [(v, html.unescape(t)) for v, _, t in found] == [("", "all"), *options]
        assert [v for v, selected, _ in found if selected] == [options[0][0]]
    # Somebody else may have done something once.
    assert '<option value="eve" selected>eve</option>' in look.page("/?user=eve")
    assert len(look.json(f"/?user={options[0][0]}")["events"]) == 1


def test_an_event_leads_into_the_application(
    app: flask.Flask, note: Any, write: Callable[..., None]
) -> None:
    def link(entry: Any) -> str | None:
        return f"/notes/{entry.key}?a&b" if entry.key == "1" else None

    look = Looker(seen_by(app, link=link))
    write(note(id=1, body="a"), note(id=2, body="a"))
    page = look.page("/")
    assert page.count('href="/notes/1?a&amp;b"') == 1
    assert page.count("in the application") == 1
    assert "Open Note 1 in the application" in words(page)


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "//elsewhere", "/\\elsewhere", "notes/1", ""]
)
def test_a_link_that_leads_to_no_page_is_refused(
    address: str, app: flask.Flask, note: Any, write: Callable[..., None]
) -> None:
    look = Looker(seen_by(app, link=lambda entry: address))
    write(note(id=1, body="a"))
    with pytest.raises(DefinitionError, match="link returns an address of http"):
        look.page("/")
    assert look.json("/")["events"]
