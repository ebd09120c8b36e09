"""Blocks inside of one another: what holds inside, and what holds after."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

import sa_history as history
from sa_history.exc import ContextError

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, Any]]]
Contexts = Callable[[], list[history.Context]]
InSession = Callable[[Callable[[Session], Any]], Any]


def test_changes_in_a_block_are_linked_to_its_keys(
    in_session: InSession, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with history.context(session, user=7, url="/x"):
            add(session, "a")
            session.commit()

    in_session(work)
    assert seen() == [("a", {"user": 7, "url": "/x"})]


def test_inner_block_has_the_keys_of_both_and_its_own_win(
    in_session: InSession, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with (
            history.context(session, user=7, url="/x"),
            history.context(session, user=8, job="j"),
        ):
            add(session, "a")
            session.commit()

    in_session(work)
    assert seen() == [("a", {"user": 8, "url": "/x", "job": "j"})]


def test_inner_block_has_a_context_of_its_own_that_names_the_outer_one(
    pg_session: Session, add: Add, contexts: Contexts
) -> None:
    with history.context(pg_session, a=1) as outer:
        add(pg_session, "a")
        with history.context(pg_session, b=2) as inner:
            add(pg_session, "b")
        pg_session.commit()
    first, second = contexts()
    assert (first.id, first.parent_id) == (outer.id, None)
    assert (second.id, second.parent_id) == (inner.id, outer.id)


def test_parent_without_changes_is_named_though_it_has_no_row(
    pg_session: Session, add: Add, contexts: Contexts
) -> None:
    with history.context(pg_session, a=1) as outer, history.context(pg_session, b=2):
        add(pg_session, "b")
        pg_session.commit()
    (only,) = contexts()
    assert only.parent_id == outer.id
    assert only.metadata == {"a": 1, "b": 2}


def test_leaving_restores_what_was_there_before_in_the_same_transaction(
    in_session: InSession, add: Add, seen: Seen, contexts: Contexts
) -> None:
    def work(session: Session) -> None:
        add(session, "before")
        with history.context(session, a=1):
            add(session, "outer")
            with history.context(session, b=2):
                add(session, "inner")
            add(session, "outer again")
        add(session, "after")
        session.commit()

    in_session(work)
    assert seen() == [
        ("before", None),
        ("outer", {"a": 1}),
        ("inner", {"a": 1, "b": 2}),
        ("outer again", {"a": 1}),
        ("after", None),
    ]
    assert len(contexts()) == 2


def test_exception_that_leaves_a_block_leaves_its_context(
    in_session: InSession, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with history.context(session, a=1):
            with pytest.raises(KeyError), history.context(session, b=2):
                raise KeyError
            add(session, "outer")

        @history.context(session, c=3)
        def fail() -> None:
            add(session, "failing")
            raise KeyError

        with pytest.raises(KeyError):
            fail()
        add(session, "after")
        session.commit()

    in_session(work)
    assert seen() == [("outer", {"a": 1}), ("failing", {"c": 3}), ("after", None)]


def test_blocks_that_are_left_in_another_order_end_their_own_context_only(
    pg_session: Session, add: Add, seen: Seen
) -> None:
    first, second = history.context(pg_session, a=1), history.context(pg_session, b=2)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    add(pg_session, "second goes on")
    second.__exit__(None, None, None)
    add(pg_session, "none")
    pg_session.commit()
    # What it was entered inside of stays a part of it.
    assert seen() == [("second goes on", {"a": 1, "b": 2}), ("none", None)]


def test_block_can_be_entered_again_once_it_is_left(
    pg_session: Session, add: Add, contexts: Contexts
) -> None:
    block = history.context(pg_session, a=1)
    for body in "bc":
        with block:
            add(pg_session, body)
    pg_session.commit()
    first, second = contexts()
    assert first.id != second.id
    assert first.metadata == second.metadata == {"a": 1}


def test_block_that_is_entered_is_not_entered_again(
    pg_session: Session, add: Add, seen: Seen
) -> None:
    block = history.context(a=1)
    with block:
        with pytest.raises(ContextError, match="entered already"), block:
            pytest.fail("it was entered twice")
        refused: list[bool] = []

        def elsewhere() -> None:
            with pytest.raises(ContextError, match="by another thread"):
                block.__enter__()
            refused.append(True)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert refused
        add(pg_session, "inside")
    add(pg_session, "after")
    pg_session.commit()
    assert seen() == [("inside", {"a": 1}), ("after", None)]


# Blocks with and without a target together: each combination is one word, in which a
# letter is a block, of the session (s) or of the thread (t), from the outside in.


@pytest.mark.parametrize(
    "blocks",
    ["t", "st", "ts", "sts", "tst", "stt", "tss", "sst", "tts", "stst", "tstst"],
)
def test_bound_and_ambient_blocks_nest_in_any_order(
    blocks: str, pg_session: Session, add: Add, seen: Seen, contexts: Contexts
) -> None:
    expected: list[tuple[str, Any]] = []
    merged: dict[str, Any] = {}

    def enter(depth: int) -> None:
        if depth == len(blocks):
            return
        nonlocal merged
        around = merged
        target = (pg_session,) if blocks[depth] == "s" else ()
        with history.context(*target, innermost=depth, **{f"key{depth}": True}):
            merged = {**around, "innermost": depth, f"key{depth}": True}
            for body in (f"{depth} in", f"{depth} in again"):
                add(pg_session, body)
                expected.append((body, merged))
            enter(depth + 1)
            add(pg_session, f"{depth} out")
            expected.append((f"{depth} out", merged))
        merged = around

    enter(0)
    add(pg_session, "after")
    pg_session.commit()
    assert seen() == [*expected, ("after", None)]
    rows = contexts()
    assert len(rows) == len(blocks)
    assert [row.parent_id for row in rows] == [None, *(row.id for row in rows[:-1])]


@pytest.mark.parametrize("blocks", ["cs", "sc", "csc", "scc", "tcs", "cts", "scst"])
def test_blocks_of_a_session_and_of_its_connection_nest_in_any_order(
    blocks: str, pg_session: Session, add: Add, seen: Seen
) -> None:
    targets = {"s": (pg_session,), "c": (pg_session.connection(),), "t": ()}
    entered = []
    for depth, letter in enumerate(blocks):
        block = history.context(
            *targets[letter], innermost=depth, **{f"key{depth}": True}
        )
        block.__enter__()
        entered.append(block)
    add(pg_session, "inside")
    for block in reversed(entered):
        block.__exit__(None, None, None)
    pg_session.commit()
    keys = {f"key{depth}": True for depth in range(len(blocks))}
    assert seen() == [("inside", {**keys, "innermost": len(blocks) - 1})]


def test_frame_tells_the_keys_it_has() -> None:
    with history.context(a=1), history.context(b="x") as frame:
        assert repr(frame) == "<context {'a': 1, 'b': 'x'}>"


def test_nothing_is_sent_by_entering_and_leaving(
    pg_engine: Engine, pg_session: Session
) -> None:
    statements: list[str] = []
    event.listen(
        pg_engine, "before_cursor_execute", lambda *args: statements.append(args[2])
    )
    with history.context(pg_session, a=1), history.context(b=2):
        history.annotate(pg_session, c=3)
    assert statements == []
    assert not pg_session.in_transaction()
