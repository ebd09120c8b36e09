"""One stored value, whatever it is, does not put the others out of sight."""

from __future__ import annotations

import uuid
from typing import Any

import flask
import pytest
from flask_sqlalchemy import SQLAlchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import ARRAY, JSON, Float, Numeric, TypeDecorator, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapped, mapped_column

from sa_history import AggregateEvent, track
from sa_history.flask import timeline
from sa_history.timeline.pages import TOKEN
from tests.timeline.visitor import Looker

pytestmark = pytest.mark.long


@pytest.fixture
def framework() -> str:
    """One of them, as this is about what is read."""
    return "flask"


class Document(TypeDecorator[Any]):
    """A type of an application, on top of json."""

    impl = JSON
    cache_ok = True


@pytest.fixture
def odd(app: flask.Flask, db: SQLAlchemy) -> Any:
    """A model with a column of each type that holds values of any size."""

    @track()
    class Odd(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        numeric = mapped_column(Numeric)
        float8 = mapped_column(Float)
        jsonb = mapped_column(JSONB)
        json = mapped_column(JSON)
        jsons = mapped_column(ARRAY(JSON))
        document = mapped_column(Document)

    with app.app_context():
        db.create_all()
    return Odd


COLUMNS = {
    "numeric": "CAST(:value AS numeric)",
    "float8": "CAST(:value AS float8)",
    "jsonb": "CAST(:value AS jsonb)",
    "json": "CAST(:value AS json)",
    "jsons": "ARRAY[CAST(:value AS json)]",
    "document": "CAST(:value AS json)",
}


def write(db: SQLAlchemy, column: str, value: str) -> bool:
    """Write a row, and return whether PostgreSQL takes it."""
    try:
        db.session.execute(
            text(f"INSERT INTO odd (id, {column}) VALUES (2, {COLUMNS[column]})"),
            {"value": value},
        )
        db.session.commit()
    except DBAPIError:
        db.session.rollback()
        return False
    return True


def write_in_context(db: SQLAlchemy, metadata: str) -> bool:
    """Write a row in a context that somebody's own SQL has told."""
    db.session.execute(
        text(
            "SELECT set_config('pghistory.context_id', :id, true),"
            " set_config('pghistory.context_metadata', :metadata, true)"
        ),
        {"id": str(uuid.uuid4()), "metadata": metadata},
    )
    return write(db, "numeric", "1")


def see_all(db: SQLAlchemy, odd: Any, look: Looker) -> list[Any]:
    """Return the rows as JSON has them, newest first; every way answers."""
    listed = look.json("/")["events"]
    number, transaction = listed[0]["id"], listed[0]["transaction"]
    compared = f"?version={number}&version={number}&at=2999-01-01"
    for path in (
        "/",
        f"/objects/odd_event/2{compared}",
        f"/transactions/{transaction}",
    ):
        look.page(path)
        look.json(path)
    if listed[0]["context_id"] is not None:
        look.page(f"/contexts/{listed[0]['context_id']}")
    rows = db.session.execute(AggregateEvent.select(odd, newest_first=True)).all()
    assert [row.pgh_id for row in rows] == [e["id"] for e in listed]
    return listed


def start(db: SQLAlchemy) -> None:
    db.session.execute(text("TRUNCATE odd, odd_event"))
    db.session.execute(text("INSERT INTO odd (id, numeric) VALUES (1, 1)"))
    db.session.commit()


NUMBERS = [
    "1" * 131072 + "." + "2" * 16383,
    "1" * 4301,
    "-" + "1" * 400 + ".5",
    "1e-16383",
    "NaN",
    "Infinity",
    "-Infinity",
]
DOCUMENTS = [
    "[" * 5000 + "]" * 5000,
    '{"a": ' * 3000 + "1" + "}" * 3000,
    "[" * 102 + "1" * 5000 + "]" * 102,
    "1" * 5000,
    "1e200000",
    "1e-20000",
    '"\\u0000"',
    '"\\ud800"',
    '"\\ud83d\\ude00"',
    '{"\\\\\\u0000": 1}',
    '"\\\\u0000"',
    "null",
    "[1, 1.5, true, {}]",
]


@pytest.mark.parametrize("column", COLUMNS)
def test_a_value_of_any_size_is_shown_beside_the_others(
    column: str, app: flask.Flask, db: SQLAlchemy, odd: Any, look: Looker
) -> None:
    taken = 0
    with app.app_context():
        for value in NUMBERS if column in ("numeric", "float8") else DOCUMENTS:
            start(db)
            if write(db, column, value):
                taken += 1
                newest, first = see_all(db, odd, look)
                assert first["data"]["id"] == 1
                assert column in newest["data"]
    assert taken >= 3


def test_numbers_have_the_digits_that_are_stored(
    app: flask.Flask, db: SQLAlchemy, odd: Any, look: Looker
) -> None:
    close = ["12345678901234567890.10", "12345678901234567890.20"]
    with app.app_context():
        start(db)
        for value in close:
            db.session.execute(text(f"UPDATE odd SET numeric = {value}, float8 = 11.9"))
            db.session.commit()
    path = "/objects/odd_event/1"
    numbers = [e["id"] for e in look.json(path)["events"][:2]]
    compared = f"{path}?version={numbers[0]}&version={numbers[1]}"
    # The digits that differ are marked.
    page = look.page(compared).replace("<mark>", "").replace("</mark>", "")
    for value in close:
        assert page.count(f"<del>{value}</del>") + page.count(f"<ins>{value}</ins>") > 1
    visit = app.test_client().get(
        f"/history{compared}", headers={"Accept": "application/json"}
    )
    assert f'"numeric": [{close[0]}, {close[1]}]' in visit.text
    assert '"float8": 11.9,' in visit.text
    assert visit.content_type == "application/json"


def test_json_that_jsonb_does_not_take_is_shown_as_its_text(
    app: flask.Flask, db: SQLAlchemy, odd: Any, look: Looker
) -> None:
    shown = {}
    with app.app_context():
        for value in DOCUMENTS[4:]:
            start(db)
            assert write(db, "json", value)
            shown[value] = see_all(db, odd, look)[0]["data"]["json"]
    assert shown == {
        "1e200000": "1e200000",
        "1e-20000": "1e-20000",
        '"\\u0000"': '"\\u0000"',
        '"\\ud800"': '"\\ud800"',
        '{"\\\\\\u0000": 1}': '{"\\\\\\u0000": 1}',
        '"\\ud83d\\ude00"': "😀",
        '"\\\\u0000"': "\\u0000",
        "null": None,
        "[1, 1.5, true, {}]": [1, 1.5, True, {}],
    }


@pytest.mark.parametrize(
    ("metadata", "shown"),
    [
        ("[1]", {"metadata": [1]}),
        ('"word"', {"metadata": "word"}),
        ("7", {"metadata": 7}),
        ("null", {}),
        ("[]", {}),
        ('{"user": {"id": 7}, "path": [1]}', {"user": {"id": 7}, "path": [1]}),
    ],
)
def test_a_context_that_is_no_object_is_shown(
    metadata: str,
    shown: Any,
    app: flask.Flask,
    db: SQLAlchemy,
    odd: Any,
    look: Looker,
) -> None:
    with app.app_context():
        start(db)
        assert write_in_context(db, metadata)
        newest, first = see_all(db, odd, look)
    assert newest["context"] == shown
    assert first["context"] == {}


NUMBER = st.one_of(
    st.decimals().map(str),
    st.builds(
        lambda sign, digits, fraction: f"{sign}{'7' * digits}.{'3' * fraction}",
        st.sampled_from(["", "-"]),
        st.integers(1, 140_000),
        st.integers(1, 17_000),
    ),
    st.builds("{}e{}".format, st.integers(-9, 9), st.integers(-20_000, 140_000)),
)
ESCAPES = ["\\\\", "\\u0000", "\\ud83d", "\\ude00", "e", "12345"]
LEAF = st.one_of(
    NUMBER.filter(lambda number: "N" not in number and "I" not in number),
    st.sampled_from(DOCUMENTS),
    st.text().map(flask.json.dumps),
    st.lists(
        st.sampled_from(["\\\\", "\\u0000", "\\ud83d", "\\ude00", "e", "12345"])
    ).map(lambda parts: f'"{"".join(parts)}"'),
)
DOCUMENT = st.builds(
    lambda pair, depth, leaf: pair[0] * depth + leaf + pair[1] * depth,
    st.sampled_from([("[", "]"), ('{"a": ', "}")]),
    st.integers(0, 7000),
    LEAF,
)


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_whatever_postgresql_takes_every_page_answers(
    data: st.DataObject, app: flask.Flask, db: SQLAlchemy, odd: Any, look: Looker
) -> None:
    place = data.draw(st.sampled_from([*COLUMNS, "context"]))
    value = data.draw(NUMBER if place in ("numeric", "float8") else DOCUMENT)
    with app.app_context():
        start(db)
        if place == "context":
            is_taken = write_in_context(db, value)
        else:
            is_taken = write(db, place, value)
        if is_taken:
            assert len(see_all(db, odd, look)) == 2


@pytest.mark.parametrize("column", ["jsonb", "json", "jsons", "document"])
def test_a_value_that_python_cannot_read_is_restored(
    column: str, app: flask.Flask, db: SQLAlchemy, odd: Any
) -> None:
    app.register_blueprint(
        timeline("all", authorize=lambda: True, authorize_restore=lambda event: True),
        url_prefix="/all",
    )
    with app.app_context():
        start(db)
        assert write(db, column, DOCUMENTS[0])
        number = db.session.execute(
            AggregateEvent.select(odd, newest_first=True, limit=1)
        ).scalar_one()
        of_row = text(f"SELECT {column}::text FROM odd WHERE id = 2")
        value = db.session.scalar(of_row)
        db.session.execute(text("DELETE FROM odd WHERE id = 2"))
        db.session.commit()
        client = app.test_client()
        with client.session_transaction() as session:
            session[TOKEN] = "t"
        path = f"/all/restore/odd_event/{number}"
        answer = client.post(path, data={"token": "t"})
        assert answer.status_code == 303
        assert db.session.scalar(of_row) == value
