"""Exports: CSV and JSON lines of what is filtered."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from typing import Any

import flask
import pytest
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Numeric, text
from sqlalchemy.orm import Mapped, mapped_column

import sa_history
from sa_history import track
from sa_history.exc import DefinitionError
from sa_history.flask import timeline
from sa_history.timeline import pages, queries
from tests.timeline.visitor import Looker, seen_by


def rows_of(answer: Any) -> list[dict[str, str]]:
    return [*csv.DictReader(io.StringIO(answer.text, newline=""))]


def next_of(answer: Any) -> str | None:
    link = re.fullmatch(r'<(.*)>; rel="next"', answer.headers.get("Link", ""))
    return link[1] if link else None


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an export come in parts of two events."""
    monkeypatch.setattr(pages, "PART", 2)


def test_csv_has_a_row_for_each_event(
    parts: None,
    app: flask.Flask,
    db: SQLAlchemy,
    note: Any,
    write: Callable[..., None],
    look: Looker,
) -> None:
    for number in range(1, 6):
        write(note(id=number, body=f'a "b",\r\n{number}'), user="ada", n=number)
    answer = look.client.get("/history/export.csv")
    assert answer.status_code == 200
    assert answer.content_type == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="history.csv"'
    assert answer.headers["Cache-Control"] == "no-store"
    assert next_of(answer) is None
    rows, events = rows_of(answer), look.json("/")["events"]
    assert [row["key"] for row in rows] == ["5", "4", "3", "2", "1"]
    first, event = rows[0], events[0]
    assert {*first} == {*event}
    assert first["time"] == event["time"]
    assert first["user"] == "ada"
    assert json.loads(first["context"]) == {"user": "ada", "n": 5}
    assert json.loads(first["data"]) == event["data"]
    assert first["diff"] == ""


def test_json_lines_are_what_lists_have_as_json(
    parts: None, note: Any, write: Callable[..., None], look: Looker
) -> None:
    for number in range(1, 6):
        write(note(id=number, body=f"a\n\u2028{number}"), user="ada")
    answer = look.client.get("/history/export.jsonl")
    assert answer.content_type == "application/x-ndjson"
    assert [json.loads(line) for line in answer.text.splitlines() if line] == look.json(
        "/"
    )["events"]
    assert answer.text.count("\n") == 5


def test_numbers_have_the_digits_that_are_stored(
    app: flask.Flask, db: SQLAlchemy, look: Looker
) -> None:
    @track()
    class Bill(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        total = mapped_column(Numeric)

    with app.app_context():
        db.create_all()
        db.session.add(Bill(id=1, total="12345678901234567890.10"))
        db.session.commit()
    for kind in ("csv", "jsonl"):
        exported = look.client.get(f"/history/export.{kind}").text
        assert "12345678901234567890.10" in exported


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_export_has_what_is_filtered_and_nothing_masked(
    kind: str, app: flask.Flask, note: Any, write: Callable[..., None]
) -> None:
    look = Looker(seen_by(app, mask=["Note.body"]))
    write(note(id=1, body="secret"), user="zoe")
    write(note(id=2, body="secret"), user="ben")
    answer = look.client.get(f"/history/export.{kind}?user=ben&since=2020-01-01")
    assert "secret" not in answer.text
    assert "•••" in answer.text or "\\u2022\\u2022\\u2022" in answer.text
    assert "ben" in answer.text
    # A name that is no part of an id.
    assert "zoe" not in answer.text


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_export_that_is_cut_says_where_it_goes_on(
    kind: str, parts: None, app: flask.Flask, note: Any, write: Callable[..., None]
) -> None:
    look = Looker(seen_by(app, export_limit=3))
    for number in range(1, 8):
        write(note(id=number, body="a"), user="ada")
    write(note(id=9, body="a"), user="ben")
    path, keys = f"/history/export.{kind}?user=ada", []
    sizes, names = [], []
    while path:
        answer = look.client.get(path)
        found = (
            [row["key"] for row in rows_of(answer)]
            if kind == "csv"
            else [json.loads(line)["key"] for line in answer.text.splitlines()]
        )
        keys += found
        sizes.append(len(found))
        names.append(answer.headers["Content-Disposition"].partition("=")[2])
        path = next_of(answer) or ""
    assert keys == [str(n) for n in range(7, 0, -1)]
    assert sizes == [3, 3, 1]
    newest, whole = f'"history-newest.{kind}"', f'"history.{kind}"'
    assert names == [newest, newest, whole]
    assert "Up to 3 events as a file" in look.page("/")


def test_an_export_of_a_search_goes_on_as_the_search_does(
    monkeypatch: pytest.MonkeyPatch,
    note: Any,
    write: Callable[..., None],
    look: Looker,
) -> None:
    monkeypatch.setattr(queries, "SEARCHED", 2)
    for number in range(1, 6):
        write(note(id=number, body="needle" if number in (1, 4) else "hay"))
    path, keys = "/history/export.csv?text=needle", []
    while path:
        assert len(keys) < 9
        answer = look.client.get(path)
        keys += [row["key"] for row in rows_of(answer)]
        path = next_of(answer) or ""
    assert keys == ["4", "1"]


FORMULAS = [
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "=",
    "-",
    "\uff1d1",
]
PLAIN = ["a=1", "1+1", "-5", "-5.25", "5", "a", "'=1"]


def test_no_cell_is_a_formula(
    app: flask.Flask, db: SQLAlchemy, look: Looker, write: Callable[..., None]
) -> None:
    @track()
    class Word(db.Model):  # type: ignore[name-defined, misc]
        name: Mapped[str] = mapped_column(primary_key=True)

    with app.app_context():
        db.create_all()
    for value in (*FORMULAS, *PLAIN):
        write(Word(name=value), user=value)
    shown = {
        row["key"]: row["user"]
        for row in rows_of(look.client.get("/history/export.csv"))
    }
    assert shown == {f"'{v}": f"'{v}" for v in FORMULAS} | {v: v for v in PLAIN}
    for row in rows_of(look.client.get("/history/export.csv")):
        assert not any(cell.startswith(("=", "+", "@", "\t")) for cell in row.values())


def test_an_export_without_events_has_a_header(look: Looker) -> None:
    answer = look.client.get("/history/export.csv?user=nobody")
    assert answer.text.startswith("id,time,user,")
    assert rows_of(answer) == []
    assert look.client.get("/history/export.jsonl").text == ""


def test_events_that_are_deleted_meanwhile_are_left_out(
    parts: None,
    app: flask.Flask,
    db: SQLAlchemy,
    note: Any,
    write: Callable[..., None],
) -> None:
    """And while the client is slow no connection is kept."""
    write(*(note(id=n, body="a") for n in range(1, 6)))
    app.register_blueprint(timeline("own", authorize=lambda: True), url_prefix="/own")
    answer = app.test_client().get("/own/export.csv", buffered=False)
    received = iter(answer.response)
    text_of_parts = [next(received), next(received)]
    with app.app_context():
        assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        with sa_history.editing_events(db.session):
            db.session.execute(text("DELETE FROM note_event WHERE id IN (1, 3)"))
            db.session.commit()
    text_of_parts += received
    exported = b"".join(
        part if isinstance(part, bytes) else part.encode() for part in text_of_parts
    ).decode()
    rows = csv.DictReader(io.StringIO(exported))
    assert [row["key"] for row in rows] == ["5", "4", "2"]
    answer.close()


def test_a_limit_is_a_number_of_events() -> None:
    with pytest.raises(DefinitionError, match="export_limit is a number of events"):
        timeline(authorize=lambda: True, export_limit=0)
