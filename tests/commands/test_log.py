"""``sa-history log``: events in the terminal."""

from __future__ import annotations

import datetime
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

import sa_history as history
from sa_history.query import event_search

from .conftest import Main

ODD = """
import datetime
import decimal
import uuid

from sqlalchemy import CHAR, Date, Enum, Numeric, String, TypeDecorator, Uuid
from sqlalchemy.orm import DeclarativeBase, mapped_column

from sa_history import track


class Upper(TypeDecorator):
    impl = String(3)
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return value.upper()


class Base(DeclarativeBase):
    pass


def model(name, kind):
    attributes = {
        "__module__": __name__,
        "__tablename__": name.lower(),
        "key": mapped_column(kind, primary_key=True),
    }
    return track()(type(name, (Base,), attributes))


Ticket = model("Ticket", Enum("A", "B", name="seat"))
Coin = model("Coin", Numeric(10, 2))
Day = model("Day", Date)
Token = model("Token", Uuid)
Level = model("Level", Enum("low", "high", native_enum=False))
Code = model("Code", CHAR(4))
Loud = model("Loud", Upper)
rows = [
    Ticket(key="B"), Ticket(key="A"), Coin(key=decimal.Decimal("11.90")),
    Day(key=datetime.date(2026, 11, 28)), Level(key="low"), Code(key="ab"),
    Token(key=uuid.UUID("12345678-1234-5678-1234-567812345678")), Loud(key="hey"),
]
"""


@pytest.fixture
def odd_keys(
    session: Session, database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module with models whose keys are of many types, with a row of each."""
    (tmp_path / "odd.py").write_text(ODD)
    monkeypatch.delitem(sys.modules, "odd", raising=False)
    odd: Any = importlib.import_module("odd")
    odd.Base.metadata.create_all(database)
    session.add_all(odd.rows)
    session.commit()


pytestmark = pytest.mark.usefixtures("three_changes")


def heads(printed: str) -> list[str]:
    """Return what happened in each event, without its number."""
    lines = printed.splitlines()
    return [x.split(" ", 2)[2] for x in lines if x.startswith("event ")]


def test_the_history_of_a_row_is_told_with_the_newest_change_first(
    run: Main, session: Session, shop: Any
) -> None:
    status, printed, _ = run("log shop:Account 7")
    assert status == 0
    deleted, overdrawn, changed, created = printed.split("\n\nevent ")
    number, time, transaction = (
        session.execute(
            text("SELECT pgh_id, pgh_created_at, pgh_xact_id FROM account_event")
        ).first()
        or ()
    )
    assert f"event {created}" == (
        f"event {number} Account 7 created\n"
        "User:        ada\n"
        f"Date:        {time.astimezone().isoformat(sep=' ')}\n"
        "Label:       snapshot\n"
        f"Transaction: {transaction}\n"
        "Context:     url=/new\n"
        "\n"
        "    +id: 7\n"
        "    +owner: Ann\n"
        "    +balance: 100.00\n"
        "\n"
    )
    difference = (
        "\n"
        "\n"
        "    -owner: Ann\n"
        "    +owner: Ann B.\n"
        "    -balance: 100.00\n"
        "    +balance: -10.50"
    )
    for told, label in ((changed, "snapshot"), (overdrawn, "overdrawn")):
        assert "Account 7 changed\nUser:        8\n" in told
        assert f"Label:       {label}" in told
        assert told.endswith(difference)
    assert "User:" not in deleted
    assert deleted.endswith("\n\n    -id: 7\n    -owner: Ann B.\n    -balance: -10.50")


def test_what_is_not_tracked_is_not_told(run: Main) -> None:
    assert "secret" not in "".join(map(str, run("log shop:Base")))
    assert "password" not in "".join(map(str, run("log shop:Base --json")))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--user ada", ["Account 7 created"]),
        ("--user 8", ["Account 7 changed"] * 2),
        ("--user eve", []),
        ("--context url=/new", ["Account 7 created"]),
        ("--context url=/new --user 8", []),
        ("--limit 1", ["Account 7 deleted"]),
        ("--limit 3", ["Account 7 deleted"] + ["Account 7 changed"] * 2),
        ("--since 1h --limit 1", ["Account 7 deleted"]),
        ("--until 1h", []),
        ("--since 24_months --limit 1", ["Account 7 deleted"]),
        ("--until 1_day", []),
        ("--until 2999-01-01 --limit 1", ["Account 7 deleted"]),
        ("--since 2999-01-01T00:00Z", []),
    ],
)
def test_events_are_found_by(options: str, expected: list[str], run: Main) -> None:
    arguments = [each.replace("_", " ") for each in options.split()]
    status, printed, error = run("log", *arguments, "shop:Base")
    assert (status, heads(printed)) == (0, expected)
    assert error == ("" if expected else "shop:Base: no event was found\n")


def test_what_a_transaction_changed_is_told_over_all_models(
    run: Main, session: Session, shop: Any
) -> None:
    session.add(shop.Item(number=1, tag="red", amount=2))
    session.add(shop.Cat(id=3, name="Tom", lives=9))
    session.flush()
    number = session.scalar(text("SELECT pg_current_xact_id()::text"))
    session.commit()
    _, printed, _ = run(f"log shop:Base --transaction {number}")
    assert sorted(heads(printed)) == [
        "Animal 3 created",
        "Cat 3 created",
        "Item 1 red created",
    ]
    _, printed, _ = run(f"log shop:Item --transaction {number}")
    assert heads(printed) == ["Item 1 red created"]


def test_a_row_is_named_by_all_columns_of_its_key(
    run: Main, session: Session, shop: Any
) -> None:
    session.add_all(shop.Item(number=1, tag=t, amount=2) for t in ("black", "blue"))
    session.commit()
    assert heads(run("log shop:Item 1 blue")[1]) == ["Item 1 blue created"]
    for other in ("green", "blackbird"):  # a tag has five characters
        found = run(f"log shop:Item 1 {other}")
        assert found == (0, "", "shop:Item: no event was found\n")


@pytest.mark.parametrize(
    ("model", "key", "wrong", "reason"),
    [
        ("Ticket", "B", "C", 'invalid input value for enum seat: "C"'),
        ("Ticket", "B", "", 'invalid input value for enum seat: ""'),
        ("Coin", "11.90", "x", 'invalid input syntax for type numeric: "x"'),
        ("Day", "2026-11-28", "28.11.", "invalid input syntax for type date"),
        ("Token", "{12345678-1234-5678-1234-567812345678}", "1", "invalid input syn"),
        ("Level", "low", None, ""),
        ("Code", "ab", None, ""),
        ("Loud", "HEY", None, ""),
    ],
)
@pytest.mark.usefixtures("english")
def test_a_key_may_be_of_any_type(
    model: str, key: str, wrong: str | None, reason: str, run: Main, odd_keys: Any
) -> None:
    status, printed, error = run("log", f"odd:{model}", key)
    assert (status, error) == (0, "")
    assert [head.split()[0] for head in heads(printed)] == [model]
    if wrong is None:
        error = f"odd:{model}: no event was found\n"
        assert run("log", f"odd:{model}", f"{key}x") == (0, "", error)
    else:
        status, _, error = run("log", f"odd:{model}", wrong)
        assert status == 2
        assert error.startswith(f"sa-history: {wrong!r} is no key of {model}: {reason}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["shop:Item", "1"],
            "the key of Item is (number, tag), got ('1',); give a value for each of "
            "its columns",
        ),
        (
            ["shop:Item", "x", "red"],
            "'x red' is no key of Item: invalid input syntax for type integer: "
            '"x"; give a value for number, tag',
        ),
        (
            ["shop:Account", "99999999999"],
            "'99999999999' is no key of Account: value \"99999999999\" is out of "
            "range for type integer; give a value for id",
        ),
        (
            ["shop:Base", "7"],
            "'7' is the key of a row, of which the model is not given; name the class "
            "in place of the base",
        ),
        (
            ["shop:Account,shop:Item"],
            "log is about one model, got 'shop:Account,shop:Item'; write the module "
            "and the class, such as app.models:Account",
        ),
        (
            ["shop:Base", "--since", "noon"],
            "'noon' is no time; write it as 2026-11-28T12:00, with +02:00 or Z for "
            "another time zone, or as an age, such as 90m, 2h, 7d or 4w",
        ),
        (
            ["shop:Base", "--until", "99999999999w"],
            "'99999999999w' is no time; write it as 2026-11-28T12:00, with +02:00 or "
            "Z for another time zone, or as an age, such as 90m, 2h, 7d or 4w",
        ),
        (
            ["shop:Base", "--context", "url"],
            "--context takes a key and its value, got 'url'; write --context url=value",
        ),
    ],
)
@pytest.mark.usefixtures("english")
def test_what_names_no_row_is_an_error_in_one_line(
    arguments: list[str], message: str, run: Main
) -> None:
    assert run("log", *arguments) == (2, "", f"sa-history: {message}\n")


def test_a_model_that_is_not_tracked_has_no_history(run: Main) -> None:
    status, _, error = run("log shop:Plain")
    assert status == 2
    assert error == (
        "sa-history: <class 'shop.Plain'> is not tracked; put @track(...) on its "
        "class\n"
    )


def test_json_has_an_event_on_each_line(run: Main, session: Session) -> None:
    _, printed, error = run("log shop:Account 7 --json --user 8")
    assert error == ""
    first, second = (json.loads(line) for line in printed.splitlines())
    (number, time, transaction, context), *_ = session.execute(
        text(
            "SELECT pgh_id, pgh_created_at, pgh_xact_id, pgh_context_id "
            "FROM account_event WHERE pgh_label = 'overdrawn'"
        )
    )
    assert {first["label"], second["label"]} == {"overdrawn", "snapshot"}
    told = first if first["label"] == "overdrawn" else second
    assert told == {
        "id": number,
        "model": "Account",
        "key": "7",
        "label": "overdrawn",
        "operation": "changed",
        "time": time.astimezone(datetime.timezone.utc).isoformat(),
        "user": "8",
        "transaction": transaction,
        "context_id": str(context),
        "context": {"user": 8},
        "data": {"id": 7, "owner": "Ann B.", "balance": -10.5, "details": None},
        "diff": {"owner": ["Ann", "Ann B."], "balance": [100.0, -10.5]},
    }
    assert '"balance": [100.00, -10.50]' in printed


def test_without_events_json_has_no_line(run: Main) -> None:
    assert run("log shop:Account 8 --json") == (0, "", "")


def test_events_are_read_a_page_at_a_time(
    run: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run("log shop:Account")[1]
    monkeypatch.setattr(event_search, "PAGE_SIZE", 2)
    assert run("log shop:Account")[1] == whole
    assert len(heads(run("log shop:Account --limit 3")[1])) == 3
    assert len(heads(run("log shop:Account --limit 4")[1])) == 4


def test_a_note_and_a_baseline_are_told_as_such(
    run: Main, session: Session, shop: Any
) -> None:
    session.add(shop.Account(id=8, owner="Bo", balance=1))
    session.commit()
    account = session.get_one(shop.Account, 8)
    history.create_event(session, account, label="seen")
    session.commit()
    session.execute(text("ALTER TABLE item DISABLE TRIGGER USER"))
    session.execute(text("INSERT INTO item VALUES (1, 'old', 5)"))
    session.commit()
    history.baseline(session.connection(), shop.Item)
    session.commit()
    noted = run("log shop:Account 8 --limit 1")[1]
    assert heads(noted) == ["Account 8 noted"]
    assert noted.endswith(f"Transaction: {noted.split()[-1]}\n\n")
    began = run("log shop:Item")[1]
    assert heads(began) == ["Item 1 old began"]
    assert began.endswith("\n\n    +number: 1\n    +tag: old\n    +amount: 5\n\n")


def test_models_of_several_metadata_are_told_one_after_the_other(
    run: Main, session: Session
) -> None:
    session.execute(text("INSERT INTO visit VALUES (1)"))
    session.commit()
    _, printed, _ = run("log shop:Base,shop:other --limit 1")
    assert heads(printed) == ["Account 7 deleted", "visit 1 created"]
    assert heads(run("log shop:visit 1")[1]) == ["visit 1 created"]


def test_what_would_control_the_terminal_is_written_out(
    run: Main, session: Session, shop: Any
) -> None:
    with history.context(session, user="\x1b[2J", **{"a\nUser": "x"}):
        owner = "two\nlines \x1b[31m \x9b \u202e"
        session.add(shop.Account(id=9, owner=owner, balance=1))
        session.commit()
    printed = run("log shop:Account 9")[1]
    assert "\x1b" not in printed
    assert "User:        \\x1b[2J\n" in printed
    assert "Context:     a\\nUser=x\n" in printed
    assert "+owner: two⏎lines \\x1b[31m \\x9b \\u202e\n" in printed


def test_a_context_that_is_no_object_is_told(run: Main, session: Session) -> None:
    session.execute(text("UPDATE pghistory_context SET metadata = '[1]'"))
    session.commit()
    assert "Context:     metadata=[1]\n" in run("log shop:Account")[1]
    told = json.loads(run("log shop:Account --json")[1].splitlines()[-1])
    assert (told["context"], told["user"]) == ({"metadata": [1]}, None)
