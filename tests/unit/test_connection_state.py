"""The states of a connection's settings, and the events that change them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from psycopg.pq import TransactionStatus

from sa_history.contexts.connection_state import EMPTY, UNKNOWN, ConnectionState

OLD, NEW = ("1", "{}", "", ""), ("2", "{}", "", "")

EVENTS: dict[str, Callable[[ConnectionState], None]] = {
    "mark_sending": ConnectionState.mark_sending,
    "mark_sent": lambda state: state.mark_sent(NEW),
    "invalidate": ConnectionState.invalidate,
    "reset": ConnectionState.reset,
}


def state_in(sent: Any) -> ConnectionState:
    state = ConnectionState()
    state._sent = sent
    return state


@pytest.mark.parametrize("event", EVENTS)
def test_the_table_of_the_docstring_is_what_events_do(event: str) -> None:
    (line,) = [
        line
        for line in (ConnectionState.__doc__ or "").splitlines()
        if line.strip().startswith(f"``{event}(") and len(line.split()) == 4
    ]
    names = {"EMPTY": EMPTY, "UNKNOWN": UNKNOWN, "SENT(new)": NEW}
    documented = [names[word] for word in line.split()[1:]]
    found = []
    for before in (EMPTY, OLD, UNKNOWN):
        state = state_in(before)
        EVENTS[event](state)
        found.append(state._sent)
    assert found == documented


@pytest.mark.parametrize("sent", [OLD, UNKNOWN], ids=["sent", "unknown"])
def test_a_connection_that_is_found_idle_has_no_settings(sent: Any) -> None:
    state = state_in(sent)
    assert state.pending(TransactionStatus.IDLE) is None
    assert state._sent is EMPTY


@pytest.mark.parametrize("sent", [EMPTY, OLD, UNKNOWN], ids=["empty", "sent", "?"])
def test_nothing_is_sent_in_a_failed_transaction(sent: Any) -> None:
    state = state_in(sent)
    assert state.pending(TransactionStatus.INERROR) is None
    assert state.pending_before_commit(TransactionStatus.INERROR) is None


def test_settings_of_a_left_block_are_emptied() -> None:
    nothing = ("", "", "", "")
    assert state_in(EMPTY).pending(TransactionStatus.INTRANS) is None
    assert state_in(OLD).pending(TransactionStatus.INTRANS) == nothing
    assert state_in(UNKNOWN).pending(TransactionStatus.INTRANS) == nothing
    assert state_in(nothing).pending(TransactionStatus.INTRANS) is None
