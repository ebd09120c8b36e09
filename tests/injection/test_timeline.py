"""What a browser may send to the timeline, and what it is shown of hostile data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import flask
import html5lib
import pytest
from flask_sqlalchemy import SQLAlchemy
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    URL,
    Boolean,
    Column,
    Date,
    DateTime,
    Engine,
    Enum,
    Integer,
    Numeric,
    Table,
    Text,
    Uuid,
    insert,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Session

import sa_history
from sa_history import AfterDelete, Snapshot, track
from sa_history.flask import History, timeline

SCALE = int(os.environ.get("INJECTION_SCALE", "1"))


def examples(number: int) -> settings:
    return settings(
        deadline=None,
        derandomize=SCALE == 1,
        max_examples=number * SCALE,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


KEYS = {
    "number": Integer(),
    "words": Text(),
    "uuid": Uuid(),
    "exact": Numeric(),
    "day": Date(),
    "moment": DateTime(),
    "yes": Boolean(),
    "choice": Enum("a", "b", name="kind"),
    "json": JSONB(),
}

PARAMETERS = ("table", "key", "label", "user", "since", "until", "context", "before")
PARAMETERS += ("at", "version", "nothing", "text", "period")

BROKEN = (
    *("\0", "a\0b", "a\0=b", "user=\0", "=", "9" * 30, "-1", "1e999999999", "NaN"),
    *("sNaN", "-infinity", "now", "0x10", "1_0", "٣", "[" * 2_000, '["\\u0000"]'),
    *('["\\ud800"]', '[1,"a\\u0000"]', "2024-13-01", "0001-01-01T00:00:00+14:00"),
    *("9999-12-31T23:59:59-14:00", "{1}", "x" * 20_000, "1" * 5_000, " 1 ", "true"),
)

MARKUP = """<script>alert('x')</script><b onclick="y">&amp;{{ 7*7 }}{% raw %}"""


@pytest.fixture
def app(
    base: type[DeclarativeBase], pg_url: URL, pg_engine: Engine
) -> Iterator[flask.Flask]:
    """An application with a tracked table for each kind of key."""
    db = SQLAlchemy(model_class=base)
    for name, type_ in KEYS.items():
        key, body = Column("id", type_, primary_key=True), Column("body", Text)
        track(Snapshot, AfterDelete)(Table(name, base.metadata, key, body))
    two = [Column(name, Text, primary_key=True) for name in "ab"]
    track(Snapshot)(Table("two", base.metadata, *two))
    app = flask.Flask("shop", root_path="/")
    app.config.update(SECRET_KEY="secret", SQLALCHEMY_DATABASE_URI=pg_url)
    for extension in (db, History(db)):
        extension.init_app(app)
    pages = timeline(authorize=lambda: True, authorize_restore=lambda event: True)
    app.register_blueprint(pages, url_prefix="/history")

    @app.route("/write/<path:name>")
    def write(name: str) -> str:
        key = name.replace("\0", "")  # which a table cannot hold
        db.session.execute(insert(base.metadata.tables["words"]).values(id=key))
        db.session.commit()
        return "written"

    base.metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(insert(base.metadata.tables["number"]).values(id=1))
        connection.execute(insert(base.metadata.tables["two"]).values(a="x", b="y"))
    yield app
    with app.app_context():
        db.engine.dispose()
    base.registry.dispose()


@examples(20)
@given(data=st.data())
def test_no_address_is_an_error_of_the_server(
    data: st.DataObject, hostile: Any, app: flask.Flask
) -> None:
    client = app.test_client()
    parts = st.one_of(hostile.texts, st.sampled_from(BROKEN))
    encoded = parts.map(lambda text: quote(text, safe=""))
    key, other = data.draw(encoded), data.draw(encoded)
    given = data.draw(
        st.lists(st.tuples(st.sampled_from(PARAMETERS), encoded), max_size=4)
    )
    query = "&".join(f"{name}={value}" for name, value in given)
    paths = ["/", "/objects/number_event/1", f"/objects/{other}/{key}"]
    paths += [f"/contexts/{key}", f"/transactions/{key}", f"/{key}"]
    paths += [f"/objects/{name}_event/{key}" for name in (*KEYS, "two")]
    paths += [f"/?table={name}_event&key={key}" for name in KEYS]
    paths += [f"/?key={key}", f"/?context={other}%3D{key}", f"/?text={key}"]
    paths += [f"/chart?text={other}", f"/export.csv?key={key}", "/export.jsonl"]
    for path in paths:
        accept = data.draw(st.sampled_from(["text/html", "application/json"]))
        glue = "&" if "?" in path else "?"
        answer = client.get(f"/history{path}{glue}{query}", headers={"Accept": accept})
        assert answer.status_code in (200, 400, 404, 308), (path, query)
        for said in ("psycopg", "SELECT ", "Traceback", "DETAIL"):
            assert said not in answer.text
    answer = client.post(f"/history/restore/{key}/1", data={"token": other})
    assert answer.status_code in (308, 400, 404, 405)


@examples(6)
@given(data=st.data())
def test_a_request_with_any_path_writes_and_is_recorded(
    data: st.DataObject,
    hostile: Any,
    app: flask.Flask,
    base: type[DeclarativeBase],
    pg_engine: Engine,
) -> None:
    words = base.metadata.tables["words"]
    name = data.draw(hostile.texts) + data.draw(st.sampled_from(["a", "\0", "a\0b"]))
    name = f"{name}/{data.draw(st.uuids())}"
    with pg_engine.begin() as connection:
        connection.execute(words.delete())
    answer = app.test_client().get(f"/write/{quote(name, safe='/')}")
    if answer.status_code != 200:
        # Werkzeug wants it without double slashes, and routes nothing past a new line.
        assert answer.status_code == 308 or "\n" in name
        return
    events = sa_history.events(words)
    with Session(pg_engine) as session:
        last = session.scalars(events.select()).all()[-1]
        assert last.pgh_context.metadata["path"] == f"/write/{name}".replace(
            "\0", "\ufffd"
        )


def tags_of(page: str) -> set[tuple[str, frozenset[str]]]:
    """Return the elements of a page with the names of their attributes."""
    tree = html5lib.parse(page, namespaceHTMLElements=False)
    return {(e.tag, frozenset(e.attrib)) for e in tree.iter() if isinstance(e.tag, str)}


@examples(6)
@given(data=st.data())
def test_what_is_shown_of_hostile_data_is_text(
    data: st.DataObject,
    hostile: Any,
    app: flask.Flask,
    base: type[DeclarativeBase],
    pg_engine: Engine,
) -> None:
    words = base.metadata.tables["words"]
    client = app.test_client()

    def shown(key: str, value: str, told: dict[str, Any]) -> tuple[Any, Any]:
        with (
            pg_engine.begin() as connection,
            sa_history.context(connection, **told),
        ):
            connection.execute(words.delete())
            connection.execute(insert(words).values(id=key, body=value))
        address = "/history/?table=words_event&label=snapshot"
        page = client.get(address)
        found = client.get(address, headers={"Accept": "application/json"})
        assert (page.status_code, found.status_code) == (200, 200)
        return tags_of(page.text), found.json["events"][0]

    value = data.draw(hostile.texts) + MARKUP + data.draw(hostile.texts)
    key = data.draw(hostile.texts) + MARKUP
    plain, _ = shown("k", "v", {"user": "u", "path": "p", "method": "m"})
    told = dict.fromkeys(("user", "path", "method"), value)
    tags, event = shown(key, value, {**told, value: value})
    assert tags <= plain | ALLOWED
    assert event["data"] == {"id": key, "body": value}
    assert event["user"] == value


ALLOWED = {
    # Of a long value, and of the address of an object with slashes in its key.
    ("details", frozenset()),
    ("summary", frozenset()),
    ("span", frozenset({"class"})),
}
