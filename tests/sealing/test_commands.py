"""``sa-history seal``, ``verify``, ``erase`` and ``subject``."""

from __future__ import annotations

import datetime
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, text
from sqlalchemy.orm import Session

from sa_history.cli import main

MODELS = """
from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sa_history import track


class Base(DeclarativeBase):
    metadata = MetaData()


@track(sealed=True, erasable=["name"])
class Person(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@track(erasable=["note"])
class Visit(Base):
    __tablename__ = "visit"
    person: Mapped[int] = mapped_column(primary_key=True)
    day: Mapped[str] = mapped_column(primary_key=True)
    note: Mapped[str]


class Plain(DeclarativeBase):
    metadata = MetaData()


@track()
class Thing(Plain):
    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True)
"""

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pg_engine: Engine, pg_url: URL
) -> Any:
    """A module of models, with two persons and a visit in the database."""
    (tmp_path / "people.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("DATABASE_URL", pg_url.render_as_string(hide_password=False))
    monkeypatch.delitem(sys.modules, "people", raising=False)
    people: Any = importlib.import_module("people")
    people.Base.metadata.create_all(pg_engine)
    with Session(pg_engine) as session:
        session.add_all([people.Person(id=n, name=f"Name{n}") for n in (1, 2)])
        session.add(people.Visit(person=1, day="mo,di", note="a note"))
        session.commit()
    yield people
    people.Base.registry.dispose()
    people.Plain.registry.dispose()


def told(capsys: Capture) -> list[Any]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_events_are_sealed_and_verified(pg_engine: Engine, capsys: Capture) -> None:
    assert main(["seal", "people:Base,people:Plain", "--to", "digest.json"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("pghistory_seal: seal 1, root ")
    assert main(["seal", "people:Base", "--json"]) == 0
    assert [one["seal"] for one in told(capsys)] == [1]
    assert main(["verify", "people:Base", "--digest", "digest.json"]) == 0
    assert capsys.readouterr().out == "2 events in 1 seal are as they were sealed\n"
    assert main(["verify", "people:Base", "--json"]) == 0
    assert told(capsys) == []
    with pg_engine.begin() as connection:
        connection.execute(text("DELETE FROM person_event WHERE pgh_id = 2"))
    assert main(["verify", "people:Base"]) == 1
    assert capsys.readouterr().out == "missing person_event 1 to 3: 2\n"
    assert main(["verify", "people:Base", "--json"]) == 1
    assert told(capsys) == [
        {
            "problem": "missing",
            "table": "person_event",
            "first_id": 1,
            "last_id": 3,
            "ids": [2],
            "detail": None,
            "in_archive": False,
        }
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seal", "people:Base", "--to", "no/where.json"], "cannot be written"),
        (["verify", "people:Base", "--digest", "none.json"], "cannot be read"),
        (["verify", "people:Base", "--digest", "people.py"], "is no digest of seals"),
        (["seal", "people:Plain"], "no model asks for seals"),
        (
            ["erase", "people:Thing", "--id", "1"],
            "nothing of Thing can be erased",
        ),
        (["erase", "people:Person"], "erase got no key"),
        (["erase", "people:Person", "--id", "x"], "'x' is no key of Person"),
        (["subject", "people:Person"], "the key of Person is (id), got ()"),
    ],
)
def test_what_cannot_be_done_is_told(
    people: Any, capsys: Capture, arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_objects_are_erased_by_their_keys(pg_engine: Engine, capsys: Capture) -> None:
    command = ["erase", "people:Person", "--id", "1", "--id", "2", "--reason", "law"]
    assert main([*command, "--dry-run"]) == 0
    assert capsys.readouterr().out == "erases values of 2 events and 0 contexts\n"
    assert main(command) == 0
    told_of = capsys.readouterr()
    assert told_of.out == "erased values of 2 events and 0 contexts\n"
    assert told_of.err.splitlines() == [
        f"Person {number}: the row still has name, which erase leaves"
        for number in (1, 2)
    ]
    now = datetime.datetime.now(datetime.timezone.utc).isoformat()
    as_of = ["as-of", "people:Person", now]
    assert main([*as_of, "--json"]) == 0
    assert [row["name"] for row in told(capsys)] == [{"erased": True}] * 2
    for option in ([], ["--csv"]):
        assert main([*as_of, *option]) == 0
        assert "erased" in capsys.readouterr().out
    assert main(["erase", "people:Visit", "--id", "1,mo,di", "--json"]) == 2
    capsys.readouterr()
    with pg_engine.begin() as connection:
        assert set(connection.scalars(text("SELECT name FROM person_event"))) == {None}
        log = text("SELECT table_name, keys, events, reason FROM pghistory_erasure")
        assert connection.execute(log).all() == [("person", ["1", "2"], 2, "law")]
    assert main(["erase", "people:Person", "1"]) == 0
    said = capsys.readouterr()
    assert said.out == "nothing is left to erase\n"
    today = datetime.datetime.now(datetime.timezone.utc).date()
    assert said.err.splitlines() == [
        f"Person 1: 1 event was erased before, by erasure 1 of {today}",
        "Person 1: the row still has name, which erase leaves",
    ]
    with pg_engine.begin() as connection:
        connection.execute(text("UPDATE visit SET day = 'mo'"))
    assert main(["erase", "people:Visit", "--id", "1,mo", "--json"]) == 0
    assert told(capsys) == [{"erasure": 2, "events": 2, "contexts": 0}]
    assert main(["erase", "people:Visit", "--id", "1,mo", "--json"]) == 0
    assert told(capsys) == [{"erasure": None, "events": 0, "contexts": 0}]
    with pg_engine.begin() as connection:
        connection.execute(text("UPDATE person SET name = 'Ann' WHERE id = 1"))
    assert main(["log", "people:Person", "1"]) == 0
    shown = capsys.readouterr().out
    assert "-name: erased" in shown
    assert "+name: Ann" in shown


def test_nothing_sealed_is_no_success(pg_engine: Engine, capsys: Capture) -> None:
    """Whoever deletes all seals would have silenced every verification else."""
    for option in ([], ["--json"]):
        assert main(["verify", "people:Base", *option]) == 2
        assert "nothing is sealed" in capsys.readouterr().err
    assert main(["seal", "people:Base", "--to", "digest.json"]) == 0
    with pg_engine.begin() as connection:
        connection.execute(text("TRUNCATE pghistory_seal CASCADE"))
    assert main(["verify", "people:Base", "--digest", "digest.json"]) == 1
    assert "the digest knows 1 seal, of" in capsys.readouterr().out


def test_seals_without_events_are_told(pg_engine: Engine, capsys: Capture) -> None:
    with pg_engine.begin() as connection:
        connection.execute(text("DELETE FROM person_event WHERE pgh_id > 1"))
        connection.execute(text("DELETE FROM person_event"))
    assert main(["seal", "people:Base"]) == 0
    assert capsys.readouterr().out == "pghistory_seal: no event to seal yet\n"
    assert main(["seal", "people:Base", "--json"]) == 0
    assert [one["seal"] for one in told(capsys)] == [0]


@pytest.mark.parametrize("command", ["log", "diff", "subject", "erase"])
def test_a_key_is_given_as_words_or_by_an_option(capsys: Capture, command: str) -> None:
    options = ["--dry-run"] if command == "erase" else []
    assert main([command, "people:Person", "1", *options]) == 0
    said = capsys.readouterr().out
    assert "1" in said
    assert main([command, "people:Person", "--id", "1", *options]) == 0
    assert capsys.readouterr().out == said


def test_a_command_about_one_row_takes_one_key(capsys: Capture) -> None:
    several = ["people:Person", "--id", "1", "--id", "2"]
    assert main(["log", *several, "--json"]) == 0
    assert [event["key"] for event in told(capsys)] == ["2", "1"]
    assert main(["log", "people:Visit", "--id", "1,mo"]) == 0
    assert "no event was found" in capsys.readouterr().err
    now = datetime.datetime.now(datetime.timezone.utc).isoformat()
    assert main(["as-of", "people:Person", now, "--id", "2", "--json"]) == 0
    assert [row["id"] for row in told(capsys)] == [2]
    assert main(["log", "people:Base", "--id", "2"]) == 2
    assert "'2' is the key of a row" in capsys.readouterr().err
    for command in (["diff"], ["subject"]):
        assert main([*command, *several]) == 2
        assert "is about one row, got 2 keys" in capsys.readouterr().err
    assert main(["as-of", "people:Person", now, "1", "--id", "2"]) == 2
    assert "as-of is about one row, got 2 keys" in capsys.readouterr().err


@pytest.mark.parametrize("user", ["1", "ann"])
def test_all_of_a_subject_is_printed(user: str, capsys: Capture) -> None:
    assert main(["subject", "people:Person", "--id", "1", "--user", user]) == 0
    (found,) = told(capsys)
    assert main(["subject", "people:Person", "1", "--user", user]) == 0
    assert told(capsys) == [found]
    assert found["row"] == {"id": 1, "name": "Name1"}
    assert [event["data"]["name"] for event in found["events"]] == ["Name1"]


def test_an_object_is_erased_by_the_values_of_its_key(
    pg_engine: Engine, capsys: Capture
) -> None:
    with pg_engine.begin() as connection:
        connection.execute(text("DELETE FROM visit"))
    assert main(["erase", "people:Visit", "1", "mo,di"]) == 0
    said = capsys.readouterr()
    assert said == ("erased values of 2 events and 0 contexts\n", "")
    assert main(["erase", "people:Visit", "9", "mo"]) == 0
    said = capsys.readouterr()
    assert said.err == "Visit 9,mo: the database has no event of it\n"
    assert said.out == "nothing is left to erase\n"
