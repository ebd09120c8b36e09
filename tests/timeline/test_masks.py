"""Masked attributes: their values are in no answer, and no guess is confirmed."""

from __future__ import annotations

import datetime
from typing import Any

import flask
import pytest
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Column, DateTime, ForeignKey, Integer, MetaData, Table, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from sa_history import AfterDelete, Snapshot, track
from sa_history.exc import DefinitionError
from sa_history.timeline.entries import Masks
from sa_history.tracking.registry import trackings_in
from tests.timeline.visitor import Looker, change, restoring, seen_by


def test_masked_values_are_never_shown(app: flask.Flask, db: SQLAlchemy) -> None:
    @track(Snapshot, AfterDelete)
    class User(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        email: Mapped[str]
        password: Mapped[str | None]
        name: Mapped[str]

    @track()
    class Mail(db.Model):  # type: ignore[name-defined, misc]
        email: Mapped[str] = mapped_column(primary_key=True)

    with app.app_context():
        db.create_all()
        db.session.add(User(id=1, email="hidden@1", password="hidden", name="ada"))
        db.session.commit()
    change(app, db, User, 1, email="hidden@2", password=None, name="eve")
    with app.app_context():
        db.session.add(Mail(email="hidden@3"))
        db.session.commit()
    look = Looker(seen_by(app, mask=["password", "User.email", "Mail.email"]))
    _, newest, first = look.json("/")["events"]
    assert newest["diff"] == {
        "email": ["•••", "•••"],
        "password": ["•••", None],
        "name": ["ada", "eve"],
    }
    path = "/objects/user_event/1"
    compare = f"{path}?version={first['id']}&version={newest['id']}&at=2999-01-01"
    for shown in ("/", path, compare, f"/transactions/{first['transaction']}"):
        assert "•••" in look.page(shown)
        assert "hidden" not in look.page(shown)
        assert "hidden" not in str(look.json(shown))


def test_a_mask_that_hides_nothing_is_an_error(app: flask.Flask) -> None:
    client = seen_by(app, mask=["pasword", "Note.body"])
    with pytest.raises(DefinitionError, match="mask names pasword, which no tracked"):
        client.get("/history/")


@pytest.fixture
def person(app: flask.Flask, db: SQLAlchemy) -> Any:
    """A model whose key is private, what refers to it, and another model."""

    @track(Snapshot, AfterDelete)
    class Person(db.Model):  # type: ignore[name-defined, misc]
        number: Mapped[str] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)
        boss: Mapped[str | None] = mapped_column(ForeignKey("person.number"))

    @track(Snapshot)
    class Visit(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[str] = mapped_column(primary_key=True)
        who: Mapped[str] = mapped_column(ForeignKey(Person.number))

    with app.app_context():
        db.create_all()
        db.session.add(Person(number=SECRET, name="Ada", boss=SECRET))
        db.session.flush()
        db.session.add(Visit(id="1", who=SECRET))
        db.session.commit()
    return Person


SECRET, GUESS = "123-45-6789", "123-45-6780"
MASK = ["Person.number"]


def test_a_masked_key_is_nowhere_and_no_guess_of_it_is_confirmed(
    person: Any, app: flask.Flask
) -> None:
    client, _ = restoring(app, mask=MASK)
    look = Looker(client)
    assert SECRET not in look.page("/") + str(look.json("/"))
    answers: dict[str, set[str]] = {}
    for key in (SECRET, GUESS):
        for query in (f"key={key}", f"key={key}&table=person_event"):
            assert look.json(f"/?{query}")["events"] == []
            page = look.page(f"/?{query}").replace(key, "")
            answers.setdefault(query.replace(key, ""), set()).add(page)
        numbers = [e["id"] for e in look.json("/")["events"]]
        versions = f"version={numbers[-1]}&version={numbers[-1]}"
        for more in (
            "",
            f"&{versions}",
            "&at=2999-01-01",
            f"&{versions}&at=2999-01-01",
        ):
            for address in (f"{key}?", f"?key={key}"):
                path = f"/objects/person_event/{address}".replace("/?", "?")
                page = look.page(f"{path}{more}", 404).replace(key, "")
                answers.setdefault(address.replace(key, "") + more, set()).add(page)
    assert {len(pages) for pages in answers.values()} == {1}
    assert [e["model"] for e in look.json("/?key=1")["events"]] == ["Visit"]


def test_what_refers_to_a_masked_key_is_masked_as_well(
    person: Any, app: flask.Flask
) -> None:
    look = Looker(seen_by(app, mask=MASK))
    data = {e["model"]: e["data"] for e in look.json("/")["events"]}
    assert data["Visit"] == {"id": "1", "who": "•••"}
    assert data["Person"] == {"number": "•••", "name": "Ada", "boss": "•••"}
    look.json("/objects/visit_event/1")


def test_rows_of_a_subclass_hide_the_key_of_their_base(
    app: flask.Flask, db: SQLAlchemy
) -> None:
    @track()
    class Animal(db.Model):  # type: ignore[name-defined, misc]
        tag: Mapped[str] = mapped_column(primary_key=True)

    @track()
    class Cat(Animal):  # type: ignore[misc]
        mark: Mapped[str] = mapped_column(ForeignKey(Animal.tag), primary_key=True)

    with app.app_context():
        db.create_all()
        db.session.add(Cat(tag=SECRET))
        db.session.commit()
    look = Looker(seen_by(app, mask=["Animal.tag"]))
    assert SECRET not in str(look.json("/"))
    assert {e["key"] for e in look.json("/")["events"]} == {None}
    assert look.json(f"/?key={SECRET}")["events"] == []


def test_a_table_that_no_model_has_hides_nothing() -> None:
    metadata = MetaData()
    table = Table(
        "visit",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("place", ForeignKey("elsewhere.id")),
    )
    track()(table)
    trackings = trackings_in(metadata)
    hidden = Masks(frozenset({"id"})).of(trackings)
    assert hidden.attributes(trackings[0]) == {"id"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("NULL;", 303),
        (f"RAISE EXCEPTION 'number {SECRET} is taken';", 409),
        ("RAISE EXCEPTION 'not today';", 409),
    ],
    ids=["restored", "refused with the key", "refused"],
)
def test_the_answer_to_a_restore_does_not_have_the_masked_key(
    person: Any, app: flask.Flask, db: SQLAlchemy, body: str, status: int
) -> None:
    client, token = restoring(app, mask=MASK)
    number = Looker(client).json("/?table=person_event")["events"][0]["id"]
    with app.app_context():
        db.session.execute(
            text(
                "CREATE FUNCTION said() RETURNS trigger LANGUAGE plpgsql"
                f" AS $$BEGIN {body} RETURN NEW; END$$"
            )
        )
        db.session.execute(
            text(
                "CREATE TRIGGER said BEFORE UPDATE ON person"
                " FOR EACH ROW EXECUTE FUNCTION said()"
            )
        )
        db.session.commit()
    path = f"/history/restore/person_event/{number}"
    answer = client.post(path, data={"token": token})
    assert answer.status_code == status
    assert SECRET not in f"{answer.headers} {answer.text}"
    assert ("not today" in answer.text) == ("not today" in body)
    if status == 303:
        assert answer.location == "/history/"


@pytest.mark.parametrize("name", ["words", "times", "settings"])
def test_a_refused_restore_does_not_tell_what_is_masked_of_the_row(
    name: str, app: flask.Flask, db: SQLAlchemy
) -> None:
    """Neither as the row is now, nor as PostgreSQL writes it."""

    @track()
    class Safe(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        words: Mapped[str]
        times: Mapped[datetime.datetime] = mapped_column(DateTime(True))
        settings: Mapped[Any] = mapped_column(JSONB)

    before = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)
    first = {"words": "a", "times": before, "settings": {"pin": 1}}
    now = {
        "words": "swordfish",
        "times": before + datetime.timedelta(days=1),
        "settings": {"pin": 4711},
    }
    with app.app_context():
        db.create_all()
        db.session.add(Safe(id=1, **first))
        db.session.commit()
    change(app, db, Safe, 1, **now)
    with app.app_context():
        db.session.execute(
            text(
                "CREATE FUNCTION said() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN "
                f"RAISE EXCEPTION 'neither % nor %', OLD.{name}, NEW.{name}; END$$"
            )
        )
        db.session.execute(
            text(
                "CREATE TRIGGER said BEFORE UPDATE ON safe"
                " FOR EACH ROW EXECUTE FUNCTION said()"
            )
        )
        db.session.commit()
    client, _ = restoring(app, mask=[name])
    number = Looker(client).json("/")["events"][-1]["id"]
    told = Looker(client).page(f"/restore/safe_event/{number}", 409)
    assert "The database refused it" in told
    assert "neither" not in told


def test_a_row_without_a_key_is_refused_whatever_is_masked(
    app: flask.Flask, db: SQLAlchemy
) -> None:
    visits = Table("visit", db.metadata, Column("place", Integer))
    track()(visits)
    with app.app_context():
        db.create_all()
        db.session.execute(visits.insert(), [{"place": 1}, {"place": 2}])
        db.session.commit()
    look = Looker(restoring(app, mask=["place"])[0])
    number = look.json("/")["events"][0]["id"]
    assert "has no primary key" in look.page(f"/restore/visit_event/{number}", 400)
