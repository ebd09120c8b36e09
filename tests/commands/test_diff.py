"""``sa-history diff``: two versions of a row."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from sa_history import track

from .conftest import Main


def times_hidden(printed: str) -> list[str]:
    """Return the lines, the first two without time and number of an event."""
    before, after, *changes = printed.splitlines()
    return [before.partition(" event ")[0], after.partition(" event ")[0], *changes]


@pytest.fixture
def numbers(three_changes: datetime.datetime, session: Session) -> list[int]:
    """The numbers of the events: created, changed twice, and deleted."""
    query = text("SELECT pgh_id FROM account_event ORDER BY pgh_id")
    return list(session.scalars(query))


CHANGED = ["-owner: Ann", "+owner: Ann B.", "-balance: 100.00", "+balance: -10.50"]


def test_versions_are_named_by_numbers_of_events_and_by_times(
    run: Main, numbers: list[int], three_changes: datetime.datetime
) -> None:
    first, second = numbers[0], numbers[2]
    status, printed, _ = run(f"diff shop:Account 7 --between {first} {second}")
    assert status == 0
    assert times_hidden(printed) == ["--- 7", "+++ 7", *CHANGED]
    between = f"{first} {three_changes.isoformat()}"
    assert run(f"diff shop:Account 7 --between {between}")[1] == printed
    reverse = run(f"diff shop:Account 7 --between {second} {first}")[1]
    assert times_hidden(reverse)[2:4] == ["-owner: Ann B.", "+owner: Ann"]
    same = run(f"diff shop:Account 7 --between {first} {first}")[1]
    assert times_hidden(same) == ["--- 7", "+++ 7"]


def test_without_versions_it_is_the_first_and_the_last(
    run: Main, session: Session, shop: Any
) -> None:
    session.add(account := shop.Account(id=1, owner="a", balance=1))
    session.commit()
    account.balance = 2
    session.commit()
    account.owner = "b"
    session.commit()
    _, printed, _ = run("diff shop:Account 1")
    assert times_hidden(printed)[2:] == [
        "-owner: a",
        "+owner: b",
        "-balance: 1.00",
        "+balance: 2.00",
    ]
    _, printed, _ = run("diff shop:Account 1 --since 1h")
    assert times_hidden(printed)[0] == "--- 1 did not exist"
    assert times_hidden(printed)[2:] == ["+id: 1", "+owner: b", "+balance: 2.00"]


def test_since_a_time_it_is_the_version_of_then_and_the_last(
    run: Main, three_changes: datetime.datetime
) -> None:
    _, printed, _ = run(f"diff shop:Account 7 --since {three_changes.isoformat()}")
    assert times_hidden(printed) == [
        "--- 7",
        "+++ 7 deleted",
        "-id: 7",
        "-owner: Ann B.",
        "-balance: -10.50",
    ]


def test_json_has_an_attribute_on_each_line(run: Main, numbers: list[int]) -> None:
    between = f"{numbers[0]} {numbers[1]}"
    _, printed, _ = run(f"diff shop:Account 7 --json --between {between}")
    assert [json.loads(line) for line in printed.splitlines()] == [
        {"attribute": "owner", "before": "Ann", "after": "Ann B."},
        {"attribute": "balance", "before": 100.0, "after": -10.5},
    ]
    assert '"before": 100.00' in printed


def test_a_row_of_a_subclass_is_compared_in_all_of_its_tables(
    run: Main, session: Session, shop: Any
) -> None:
    session.add(cat := shop.Cat(id=3, name="Tom", lives=9))
    session.commit()
    cat.name, cat.lives = "Thomas", 8
    session.commit()
    _, printed, _ = run("diff shop:Cat 3")
    assert sorted(times_hidden(printed)[2:]) == [
        "+lives: 8",
        "+name: Thomas",
        "-lives: 9",
        "-name: Tom",
    ]


@pytest.mark.usefixtures("three_changes")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "shop:Account 8",
            "'8' has no event by then; sa-history log shows all of its events",
        ),
        (
            "shop:Account 7 --between 2000-01-01 2000-01-02",
            "'7' has no event by then; sa-history log shows all of its events",
        ),
        (
            "shop:Account",
            "the key of Account is (id), got (); give a value for each of its columns",
        ),
        (
            "shop:Account 7 --since 1h --between 1 2",
            "diff got both --between and --since; give one of them",
        ),
        (
            "shop:Base 7",
            "diff is about one model, got 'shop:Base'; write the module and the "
            "class, such as app.models:Account",
        ),
    ],
)
def test_what_names_no_version_is_an_error_in_one_line(
    arguments: str, message: str, run: Main
) -> None:
    assert run(f"diff {arguments}") == (2, "", f"sa-history: {message}\n")


def test_events_with_less_than_the_row_are_no_versions(
    run: Main, session: Session, shop: Any
) -> None:
    session.add(note := shop.Note(id=1, title="a", body="b"))
    session.commit()
    note.title, note.body = "c", "d"
    session.commit()
    last = session.scalar(text("SELECT pgh_label FROM note_event ORDER BY pgh_id DESC"))
    assert last == "brief"
    _, printed, _ = run("diff shop:Note 1")
    assert times_hidden(printed)[2:] == [
        "-title: a",
        "+title: c",
        "-body: b",
        "+body: d",
    ]


def test_an_event_that_a_condition_chose_is_a_version(
    run: Main, session: Session, shop: Any
) -> None:
    session.add(ware := shop.Ware(id=1, name="tea", price=5))
    session.commit()
    ware.price = 6
    session.commit()
    ware.name = "green tea"  # which leaves no event
    session.commit()
    numbers = session.scalars(text("SELECT pgh_id FROM ware_event ORDER BY 1")).all()
    assert len(numbers) == 2
    for versions in ("", f" --between {numbers[0]} {numbers[1]}"):
        _, printed, _ = run(f"diff shop:Ware 1{versions}")
        assert times_hidden(printed)[2:] == ["-price: 5", "+price: 6"]


def test_the_complete_history_of_a_table_is_read_where_it_has_two(
    run: Main, session: Session, shop: Any
) -> None:
    track(events="all", event_table="rate_all")(shop.Rate)
    shop.Base.metadata.create_all(session.connection())
    session.commit()
    session.add(rate := shop.Rate(id=1, percent=7, until=2025))
    session.commit()
    rate.percent, rate.until = 8, 2026
    session.commit()
    _, printed, _ = run("diff shop:Rate 1")
    assert times_hidden(printed)[2:] == [
        "-percent: 7",
        "+percent: 8",
        "-until: 2025",
        "+until: 2026",
    ]
    assert run("as-of shop:Rate 0s --csv")[1] == "id,percent,until\n1,8,2026\n"
