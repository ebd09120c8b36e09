"""``sa-history as-of``: rows as they were."""

from __future__ import annotations

import csv
import datetime
import io
import json
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session

from sa_history import track
from sa_history.cli.times import local

from .conftest import Main


@pytest.fixture
def then(three_changes: datetime.datetime) -> str:
    """A time after the account was changed, and before it was deleted."""
    return three_changes.isoformat()


def test_rows_are_a_table(run: Main, then: str) -> None:
    assert run(f"as-of shop:Account {then}") == (
        0,
        " id | owner  | balance | details\n"
        "----+--------+---------+---------\n"
        " 7  | Ann B. | -10.50  | —\n",
        "",
    )
    assert run("as-of shop:Account 0s")[1] == (
        " id | owner | balance | details\n----+-------+---------+---------\n"
    )


def test_rows_are_csv_and_json(run: Main, session: Session, shop: Any) -> None:
    details = {"a": [1, "x\ny"]}
    session.add(shop.Account(id=1, owner="a,b\nc", balance="1.50", details=details))
    session.add(shop.Account(id=2, owner="d", balance=2))
    session.commit()
    printed = run("as-of shop:Account 0s --csv")[1]
    assert list(csv.reader(io.StringIO(printed))) == [
        ["id", "owner", "balance", "details"],
        ["1", "a,b\nc", "1.50", json.dumps(details)],
        ["2", "d", "2.00", ""],
    ]
    printed = run("as-of shop:Account 0s --json --limit 1")[1]
    assert [json.loads(line) for line in printed.splitlines()] == [
        {"id": 1, "owner": "a,b\nc", "balance": "1.50", "details": details}
    ]


def test_a_row_is_found_by_its_key(run: Main, session: Session, shop: Any) -> None:
    session.add_all(shop.Item(number=n, tag=t, amount=n) for n in (1, 2) for t in "ab")
    session.commit()
    table = run("as-of shop:Item 0s 2 a")[1]
    assert table.splitlines()[2:] == [" 2      | a   | 2"]
    whole = run("as-of shop:Item 0s")[1]
    assert [line.split()[::2] for line in whole.splitlines()[2:]] == [
        ["1", "a", "1"],
        ["1", "b", "1"],
        ["2", "a", "2"],
        ["2", "b", "2"],
    ]


def test_rows_of_a_subclass_and_of_a_table(
    run: Main, session: Session, shop: Any
) -> None:
    session.add(shop.Cat(id=3, name="Tom", lives=9))
    session.add(shop.Animal(id=4, name="Rex"))
    session.execute(text("INSERT INTO visit VALUES (5)"))
    session.commit()
    cats = run("as-of shop:Cat 0s --json")[1]
    assert json.loads(cats) == {"id": 3, "kind": "cat", "name": "Tom", "lives": 9}
    assert json.loads(run("as-of shop:Animal 0s 4 --json")[1])["name"] == "Rex"
    assert json.loads(run("as-of shop:visit 0s --json")[1]) == {"number": 5}


def test_what_is_not_tracked_is_not_told(run: Main, then: str) -> None:
    for option in ("--json", "--csv", "--limit=5"):
        printed = run(f"as-of shop:Account {then} {option}")[1]
        assert "Ann B." in printed
        assert "secret" not in printed
        assert "password" not in printed


def test_no_rows_of_a_time_before_all_events_are_explained(
    run: Main, session: Session, shop: Any, then: str
) -> None:
    sent: list[str] = []

    @event.listens_for(Engine, "before_cursor_execute")
    def sends(*given: Any) -> None:
        sent.append(given[2])

    status, printed, told = run("as-of shop:Account 1d")
    event.remove(Engine, "before_cursor_execute", sends)
    # Times have no index, and events may be millions.
    assert "ORDER BY account_event.pgh_id" in sent[-1]
    first = session.scalar(text("SELECT min(pgh_created_at) FROM account_event"))
    assert (status, printed.count("\n")) == (0, 2)
    assert told == (
        f"the first event of Account is of {local(first)}; what rows there were before "
        "is not known\n"
    )
    assert run("as-of shop:Item 1d --json") == (
        0,
        "",
        "Item has no events, so what rows there were is not known\n",
    )
    # It has events of that time, which say that there was nothing.
    assert run("as-of shop:Account 0s")[2] == ""


def test_what_would_control_the_terminal_is_written_out(
    run: Main, session: Session, shop: Any
) -> None:
    session.add(shop.Account(id=9, owner="\x1b[2J\n|", balance=1))
    session.commit()
    assert "\\x1b[2J⏎|" in run("as-of shop:Account 0s")[1]


def test_what_the_complete_history_leaves_out_is_not_told_as_null(
    run: Main, session: Session, shop: Any
) -> None:
    track(events="all", event_table="rate_all", exclude=["until"])(shop.Rate)
    shop.Base.metadata.create_all(session.connection())
    session.add(shop.Rate(id=1, percent=7, until=2025))
    session.commit()
    assert run("as-of shop:Rate 0s --csv")[1] == "id,percent\n1,7\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("shop:Account 0s --csv --json", "as-of got both --csv and --json; give one"),
        ("shop:Account yesterday", "'yesterday' is no time; write it as 2026-"),
        ("shop:Account 0s x", "'x' is no key of Account: invalid input syntax for"),
        ("shop:Base 0s", "as-of is about one model, got 'shop:Base'; write the mod"),
        ("shop:Plain 0s", "<class 'shop.Plain'> is not tracked; put @track(...) on"),
        (
            "shop:Rate 0s",
            "the events of 'rate' do not record every INSERT, every UPDATE, every "
            "DELETE, so its past is not known; track it with @track()",
        ),
    ],
)
@pytest.mark.usefixtures("database", "english")
def test_what_has_no_past_is_an_error_in_one_line(
    arguments: str, message: str, run: Main
) -> None:
    status, printed, error = run(f"as-of {arguments}")
    assert (status, printed) == (2, "")
    assert error.startswith(f"sa-history: {message}")
    assert len(error.splitlines()) == 1
