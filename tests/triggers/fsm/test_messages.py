"""FSM: what the errors say."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Boolean, Date, Enum, Integer, Text, insert, update
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeEngine

from sa_history import FSM
from sa_history.exc import TransitionError
from tests.triggers.fsm.helpers import DAYS, WAY, Coded, Plain, values_of


@pytest.mark.parametrize(
    ("type_", "states", "message", "hint"),
    [
        (
            Text(),
            ["a", "it's {1} %"],
            "may not go from it's {1} % to a",
            "a to it's {1} %",
        ),
        (Boolean(), [False, True], "may not go from true to false", "false to true"),
        (Boolean(), [None, True], "may not go from true to NULL", "NULL to true"),
        (Integer(), [1, 2], "may not go from 2 to 1", "1 to 2"),
        (Enum(Plain), [Plain.ONE, "TWO"], "may not go from TWO to ONE", "ONE to TWO"),
        (
            Enum(Plain, values_callable=values_of, name="by_value"),
            [Plain.ONE, Plain.END],
            "may not go from end to the first",
            "the first to end",
        ),
        (Coded(), [Plain.ONE, Plain.END], "may not go from E to O", "O to E"),
        (Date(), DAYS[:2], "may not go from 2020-01-02 to 2020-01-01", None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, TypeEngine) else "",
)
def test_message_shows_states_as_they_are_stored(
    thing: Any,
    pg_session: Session,
    level: str,
    type_: Any,
    states: list[Any],
    message: str,
    hint: str | None,
) -> None:
    table = thing(type_, transitions=[states], level=level)
    pg_session.execute(insert(table).values(id=1, state=states[1]))
    with pytest.raises(TransitionError) as caught:
        pg_session.execute(update(table).values(state=states[0]))
    diag: Any = caught.value.orig.diag  # type: ignore[union-attr]
    assert diag.message_primary == f"UPDATE of public.thing is refused: state {message}"
    way = hint or "2020-01-01 to 2020-01-02"
    assert diag.message_hint.startswith(f"It goes from {way}. Where it is meant")
    assert (diag.sqlstate, diag.column_name) == ("SH005", "state")


def test_message_says_how_a_row_begins(
    article: Any, pg_session: Session, level: str
) -> None:
    model = article(
        FSM("status", transitions=WAY, initial=["draft", None], level=level)
    )
    with pytest.raises(TransitionError) as caught:
        pg_session.execute(insert(model).values(id=1, status="done"))
    diag: Any = caught.value.orig.diag  # type: ignore[union-attr]
    assert diag.message_primary == (
        "INSERT of public.article is refused: status may not begin as done"
    )
    assert diag.message_hint.startswith("It begins as draft, NULL. Where it is")
    assert diag.constraint_name == "article_fsm_status_insert"
