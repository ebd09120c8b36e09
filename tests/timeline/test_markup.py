"""The HTML of the pages."""

from __future__ import annotations

import html
import itertools
import re
import uuid
from typing import Any

import flask
import html5lib
import pytest
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

import sa_history
from sa_history import AfterDelete, Snapshot, track
from tests.timeline.visitor import Looker, restoring

NASTY = """<script>alert('x')</script><b onclick="y">&amp;"""


@pytest.fixture
def nasty(app: flask.Flask, db: SQLAlchemy) -> tuple[Any, uuid.UUID]:
    """Markup wherever text can stand."""

    @track(Snapshot(label=NASTY), AfterDelete)
    class Page(db.Model):  # type: ignore[name-defined, misc]
        key: Mapped[str] = mapped_column(primary_key=True)
        body: Mapped[str]

    with (
        app.app_context(),
        sa_history.context(
            user=NASTY, path=NASTY, method=NASTY, more={NASTY: NASTY}
        ) as context,
    ):
        db.create_all()
        db.session.add(page := Page(key=NASTY, body=NASTY))
        db.session.commit()
        page.body = NASTY * 9
        db.session.commit()
    return Page, context.id


def test_markup_is_escaped_everywhere(
    nasty: tuple[Any, uuid.UUID], app: flask.Flask
) -> None:
    client, _ = restoring(app, authorize_undo=lambda plan: True)
    look = Looker(client)
    number = look.json("/")["events"][0]["id"]
    link = html.unescape(
        re.findall(r'href="(/history/objects[^"]*)"', look.page("/"))[0]
    )
    object_page = link.removeprefix("/history")
    glue = "&" if "?" in object_page else "?"
    for path in (
        "/",
        f"/?user={NASTY.replace('&', '%26')}&context=a={NASTY.replace('&', '%26')}",
        object_page,
        f"{object_page}{glue}version={number}&version={number}&at=2999-01-01",
        f"/contexts/{nasty[1]}",
        f"/restore/page_event/{number}",
        f"/contexts/{nasty[1]}/undo",
    ):
        page = look.page(path)
        assert "alert" in page
        assert "<script" not in page
        assert "<b " not in page
        assert "&amp;amp;" in page
    assert look.json("/")["events"][0]["user"] == NASTY


def test_every_page_is_well_made(
    nasty: tuple[Any, uuid.UUID], app: flask.Flask
) -> None:
    """No errors, labels, headings in order, nothing inline or from elsewhere."""
    client, _ = restoring(
        app,
        page_size=1,
        authorize_undo=lambda plan: True,
        authorize_size=lambda *request: True,
    )
    look = Looker(client)
    event = look.json("/")["events"][0]
    link = html.unescape(
        re.findall(r'href="(/history/objects[^"]*)"', look.page("/"))[0]
    )
    link = link.removeprefix("/history")
    glue = "&" if "?" in link else "?"
    for path, *status in (
        ("/",),
        ("/?user=nobody",),
        ("/?since=x&context=x&period=x&until=x&user=a&table=x", 404),
        ("/chart",),
        ("/chart?user=nobody",),
        ("/chart?until=x", 400),
        ("/size",),
        ("/size?keep=1+year",),
        ("/size?keep=x", 400),
        ("/nowhere", 404),
        (f"/restore/page_event/{event['id']}",),
        (f"/contexts/{nasty[1]}/undo",),
        (f"/transactions/{event['transaction']}/undo",),
        (f"{link}{glue}at=x", 400),
        (link,),
        (f"{link}{glue}version={event['id']}&version={event['id']}&at=2999-01-01",),
        (f"{link}{glue}at=2001-01-01",),
        (f"/contexts/{nasty[1]}",),
        (f"/transactions/{event['transaction']}",),
    ):
        parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
        tree = parser.parse(look.page(path, *status))
        levels = [int(e.tag[1]) for e in tree.iter() if re.fullmatch("h[1-6]", e.tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
        labelled = {e for label in tree.iter("label") for e in label.iter()}
        ids = [e.get("id") for e in tree.iter() if e.get("id")]
        assert len(ids) == len(set(ids))
        for element in tree.iter():
            assert element.tag not in ("script", "style", "iframe", "img")
            assert not {n for n in element.attrib if n == "style" or n[:2] == "on"}
            if element.tag in ("select", "input") and element.get("type") != "hidden":
                assert element in labelled
            if element.tag in ("form", "section", "nav"):
                method = element.get("method")
                assert method == "post" or element.get("aria-label")
            for name in ("href", "src", "action"):
                assert element.get(name, "/")[0] in "/#"
                assert not element.get(name, "/").startswith("//")
