"""The page of how large event tables are."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import flask
import html5lib
import pytest
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text
from sqlalchemy.orm import Mapped, mapped_column

import sa_history
from sa_history import track
from sa_history.timeline.chart import HEIGHT, WIDTH
from tests.timeline.visitor import Looker, seen_by, words


def look_at_sizes(app: flask.Flask, **options: Any) -> Looker:
    return Looker(seen_by(app, **{"authorize_size": lambda *request: True, **options}))


def sizes_of(look: Looker, table: str) -> Any:
    tables = look.json("/size?keep=2+years")["tables"]
    return next(sized for sized in tables if sized["name"] == table)


@pytest.fixture
def partitioned(app: flask.Flask, db: SQLAlchemy, note: Any) -> None:
    """A table with three partitions, of which one has old events only."""

    @track(partition_by=10)
    class Bill(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    with app.app_context():
        db.create_all()
        for number in range(12):
            db.session.add(Bill(id=number))
            db.session.commit()
        sa_history.partitions(db.engine, db.Model)
        with db.engine.begin() as connection:
            for statement in (
                "ALTER TABLE bill_event_p1 DROP CONSTRAINT IF EXISTS pgh_time_check",
                "UPDATE bill_event_p1 SET pgh_created_at = '2020-01-01 12:00:00+00'",
            ):
                connection.execute(text(statement))
        sa_history.partitions(db.engine, db.Model)


def test_without_its_option_there_is_no_such_page(
    app: flask.Flask, note: Any, write: Callable[..., None], look: Looker
) -> None:
    write(note(body="a"))
    look.page("/size", 404)
    assert "/size" not in look.page("/")


def test_it_is_shown_to_whom_the_application_says(
    app: flask.Flask, note: Any, write: Callable[..., None]
) -> None:
    write(note(body="a"))
    answers: Iterator[bool] = iter([False, False, True, True])
    look = look_at_sizes(app, authorize_size=lambda *request: next(answers))
    look.page("/size", 403)
    assert "/size" not in look.page("/")
    assert 'href="/history/size"' in look.page("/")
    look.page("/size")


def test_it_tells_what_the_command_does(
    app: flask.Flask, db: SQLAlchemy, partitioned: None
) -> None:
    look = look_at_sizes(app)
    answer = look.json("/size?keep=2+years")
    with app.app_context():
        sizes = sa_history.install.size(db.engine, db.Model, keep="2 years")
    assert answer == {"tables": [sized.as_json(True) for sized in sizes]}
    bill = sizes_of(look, "public.bill_event")
    first, *others = bill["partitions"]
    assert (first["removed"], first["rows"]) == (True, bill["removed_rows"])
    assert first["newest"] == "2020-01-01T12:00:00+00:00"
    assert not any(other["removed"] for other in others)
    assert look.json("/size")["tables"][0]["removed_rows"] is None


def test_a_bar_for_each_partition_and_a_table_with_the_same(
    app: flask.Flask, partitioned: None
) -> None:
    look = look_at_sizes(app)
    page = look.page("/size?keep=2+years")
    number = len(sizes_of(look, "public.bill_event")["partitions"])
    assert f'viewBox="0 0 {number * WIDTH} {HEIGHT}"' in page
    bars = re.findall(r'<rect class="(bar[^"]*)".*?height="([^"]*)"', page)
    assert [kind for kind, _ in bars] == ["bar removed"] + ["bar"] * (number - 1)
    assert max(float(height) for _, height in bars) == HEIGHT
    shown = words(page)
    assert "Older than 2 years" in shown
    assert re.search(
        r"public\.bill_event_p1 \d+ [\d.]+ KiB 2020-01-01 2020-01-01 goes", shown
    )
    assert "Partitions of public.note_event" not in shown
    assert "Older than" not in words(look.page("/size"))


def test_a_time_that_cannot_be_read_stays_in_the_form(
    app: flask.Flask, partitioned: None
) -> None:
    look = look_at_sizes(app)
    page = look.page("/size?keep=<b>", 400)
    tree = html5lib.parse(page, namespaceHTMLElements=False)
    (field,) = (e for e in tree.iter("input") if e.get("name") == "keep")
    assert (field.get("value"), field.get("aria-invalid")) == ("<b>", "true")
    assert "keep is a number of days, weeks, months or years" in words(page)
    assert "public.bill_event" in html.unescape(page)
    look.json("/size?keep=x", 400)


def test_growth_is_told_once_there_are_events_of_more_than_a_day(
    app: flask.Flask, db: SQLAlchemy, note: Any, write: Callable[..., None]
) -> None:
    write(note(id=1, body="a"))
    look = look_at_sizes(app)
    (sized,) = look.json("/size")["tables"]
    assert sized["bytes_a_month"] is None
    before = datetime.now(timezone.utc) - timedelta(days=60)
    with app.app_context():
        db.session.execute(
            text("UPDATE note_event SET pgh_created_at = :before"), {"before": before}
        )
        db.session.commit()
    write(note(id=2, body="b"))
    (sized,) = look.json("/size")["tables"]
    assert sized["rows_a_month"] == 1
    assert " KiB, 1 event" in words(look.page("/size"))


def test_who_may_only_read_the_event_tables_is_told_as_well(
    app: flask.Flask, db: SQLAlchemy, partitioned: None
) -> None:
    with app.app_context():
        role = f"sizes_of_{db.engine.url.database}"
        with db.engine.connect() as connection, connection.begin() as transaction:
            for statement in (
                f"CREATE ROLE {role}",
                f"GRANT SELECT ON bill_event, note_event TO {role}",
                f"SET LOCAL ROLE {role}",
            ):
                connection.execute(text(statement))
            sizes = sa_history.install.size(connection, db.Model, keep="2 years")
            transaction.rollback()
    (bill,) = (sized for sized in sizes if sized.name == "public.bill_event")
    assert bill.removed_rows == bill.relations[0].rows
