"""The values of a context: how they are stored, and which are refused."""

from __future__ import annotations

import datetime
import decimal
import enum
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session

import sa_history as history
from sa_history.exc import ContextError

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, Any]]]
InSession = Callable[[Callable[[Session], Any]], Any]


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    BIG = 3


MOMENT = datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.timezone.utc)


ID = uuid.UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (None, None),
        (True, True),
        (-1.5, -1.5),
        (10**30, 10**30),
        (ID, str(ID)),
        (MOMENT, "2024-02-29T12:30:00+00:00"),
        (MOMENT.date(), "2024-02-29"),
        (MOMENT.time(), "12:30:00"),
        (decimal.Decimal("1.10"), "1.10"),
        (Colour.RED, "red"),
        (Size.BIG, 3),
        ({"ids": [ID, (Colour.RED,)]}, {"ids": [str(ID), ["red"]]}),
        ([], []),
    ],
)
def test_values_are_stored_as_json(
    value: Any, stored: Any, pg_session: Session, add: Add, seen: Seen
) -> None:
    with history.context(pg_session, key=value):
        add(pg_session, "x")
        pg_session.commit()
    assert seen() == [("x", {"key": stored})]


@pytest.mark.parametrize(
    "value",
    [
        "",
        'O\'Reilly said "no"',
        "100 % %s %(user)s %%",
        ":user ::text {user} $1 $$ ;--",
        r"back\slash \n \\ \' \u0041",
        r"not a NUL: \u0000",
        "line\nbreak\ttab\x01\x7f",
        "[{" * 200 + "\n",
        "häß 日本 \U0001f600 \u2028",
        "x" * 1_000_000,
    ],
    ids=lambda value: ascii(value[:20]),
)
def test_strings_survive_exactly(
    value: str, in_session: InSession, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with history.context(session, **{"key": value, value[:99]: "as a key"}):
            add(session, "x")
            session.commit()

    in_session(work)
    assert seen() == [("x", {"key": value, value[:99]: "as a key"})]


@pytest.mark.parametrize(
    "value",
    [
        object(),
        float("nan"),
        float("inf"),
        "NUL \0",
        "half a pair \ud800",
        {1, 2},
        b"bytes",
        {"deep": [{"er": object()}]},
        {"NUL in a key \0": 1},
        {(1, 2): 3},
    ],
    ids=[
        *("object", "nan", "infinity", "NUL", "surrogate", "set", "bytes"),
        *("nested", "NUL in a key", "tuple as a key"),
    ],
)
def test_other_values_are_refused_on_entering_by_their_key(
    value: Any, pg_session: Session, add: Add, seen: Seen
) -> None:
    block = history.context(pg_session, fine=1, wrong=value)
    with pytest.raises(ContextError, match="'wrong' is"), block:
        pytest.fail("it was entered")
    add(pg_session, "after")
    pg_session.commit()
    assert seen() == [("after", None)]


@pytest.mark.parametrize("key", ["NUL \0", "half a pair \ud800"], ids=ascii)
def test_keys_that_json_cannot_hold_are_refused_on_entering(
    key: str, pg_session: Session
) -> None:
    with pytest.raises(ContextError), history.context(pg_session, **{key: 1}):
        pytest.fail("it was entered")


def test_ids_are_uuids_that_begin_with_the_time(pg_session: Session) -> None:
    began = time.time_ns() // 1_000_000
    ids = []
    for _ in range(1000):
        with history.context(pg_session) as frame:
            ids.append(frame.id)
    ended = time.time_ns() // 1_000_000
    assert len(set(ids)) == len(ids)  # many of them in the same millisecond
    assert {(id_.version, id_.variant) for id_ in ids} == {(7, uuid.RFC_4122)}
    assert all(began <= id_.int >> 80 <= ended for id_ in ids)


@pytest.mark.parametrize("value", [["a"], {"a": 1}], ids=["list", "dict"])
def test_values_are_those_at_entering(
    value: Any, pg_session: Session, add: Add, seen: Seen
) -> None:
    entered = value.copy()
    with history.context(pg_session, key=value):
        value.clear()
        add(pg_session, "x")
        pg_session.flush()
        with history.context(pg_session, user=7):
            add(pg_session, "y")
            pg_session.flush()
        pg_session.commit()
    assert seen() == [("x", {"key": entered}), ("y", {"key": entered, "user": 7})]
