"""Keys that are added to a context, and which changes have them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

import sa_history as history
from sa_history.exc import ContextError

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, Any]]]
Contexts = Callable[[], list[history.Context]]
InSession = Callable[[Callable[[Session], Any]], Any]


def test_annotation_before_the_first_change_is_stored_with_it(
    in_session: InSession, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with history.context(session, user=7):
            history.annotate(session, reason="r", user=8)
            add(session, "a")
            session.commit()

    in_session(work)
    assert seen() == [("a", {"user": 8, "reason": "r"})]


def test_annotation_reaches_earlier_events_of_the_transaction_with_the_next_change(
    in_session: InSession, add: Add, seen: Seen, contexts: Contexts
) -> None:
    def work(session: Session) -> None:
        with history.context(session, user=7):
            add(session, "a")
            history.annotate(session, reason="r")
            add(session, "b")
            session.commit()

    in_session(work)
    both = {"user": 7, "reason": "r"}
    assert seen() == [("a", both), ("b", both)]
    assert len(contexts()) == 1


@pytest.mark.parametrize(
    "more", [{"reason": "r"}, {"step": 2}, {"tags": ["x", "y"]}, {"step": 1.0}]
)
def test_annotation_does_not_change_what_an_earlier_transaction_has_stored(
    in_session: InSession, add: Add, seen: Seen, more: dict[str, Any]
) -> None:
    before: dict[str, Any] = {"user": 7, "step": 1, "tags": ["x"]}

    def work(session: Session) -> None:
        with history.context(session, **before):
            add(session, "a")
            session.commit()
            history.annotate(session, **more)
            add(session, "b")
            history.annotate(session, last=True)
            add(session, "c")
            session.commit()

    in_session(work)
    after = {**before, **more, "last": True}
    expected = [("a", before), ("b", after), ("c", after)]
    # 1 == 1.0 in Python, and they are not the same in JSON.
    assert json.dumps(seen(), sort_keys=True) == json.dumps(expected, sort_keys=True)


def test_each_later_transaction_of_an_annotated_block_has_a_copy_inside_of_the_first(
    in_session: InSession, add: Add, seen: Seen, contexts: Contexts
) -> None:
    ids = []

    def work(session: Session) -> None:
        with history.context(session, user=7) as frame:
            ids.append(frame.id)
            add(session, "a")
            session.commit()
            history.annotate(session, reason="r")
            for body in "bc":
                add(session, body)
                add(session, f"{body} again")
                session.commit()

    in_session(work)
    first, *copies = contexts()
    assert (first.id, first.parent_id, first.metadata) == (*ids, None, {"user": 7})
    both = {"user": 7, "reason": "r"}
    assert [(c.parent_id, c.metadata) for c in copies] == [(first.id, both)] * 2


def test_annotation_changes_what_this_transaction_has_stored(
    pg_session: Session, add: Add, seen: Seen, contexts: Contexts
) -> None:
    with history.context(pg_session, user=7, step=1) as frame:
        add(pg_session, "a")
        history.annotate(pg_session, step=2)
        add(pg_session, "b")
        pg_session.commit()
    assert seen() == [(body, {"user": 7, "step": 2}) for body in "ab"]
    assert [row.id for row in contexts()] == [frame.id]


def test_annotation_belongs_to_the_innermost_context(
    pg_session: Session, add: Add, seen: Seen
) -> None:
    with history.context(pg_session, a=1):
        with history.context(pg_session, b=2):
            history.annotate(pg_session, c=3)
            add(pg_session, "inner")
        add(pg_session, "outer")
        pg_session.commit()
    assert seen() == [("inner", {"a": 1, "b": 2, "c": 3}), ("outer", {"a": 1})]


def test_annotation_of_a_frame_reaches_the_blocks_inside(
    pg_session: Session, add: Add, seen: Seen
) -> None:
    with history.context(pg_session, a=1) as outer, history.context(pg_session, b=2):
        add(pg_session, "x")
        outer.annotate({"c": 3, "b": "outer"})
        add(pg_session, "y")
        pg_session.commit()
    assert seen() == [(body, {"a": 1, "b": 2, "c": 3}) for body in "xy"]


def test_annotation_of_the_thread_reaches_its_sessions(
    pg_session: Session, add: Add, seen: Seen, contexts: Contexts
) -> None:
    with history.context(a=1):
        history.annotate(b=2)
        with history.context(pg_session, c=3):
            add(pg_session, "x")
            history.annotate(d=4)
            add(pg_session, "y")
        pg_session.commit()
    both = {"a": 1, "b": 2, "c": 3, "d": 4}
    assert seen() == [("x", both), ("y", both)]
    assert len(contexts()) == 1


def test_annotation_of_a_block_of_the_thread_inside_one_of_the_session(
    pg_session: Session, add: Add, seen: Seen, contexts: Contexts
) -> None:
    with history.context(pg_session, a=1), history.context(b=2):
        add(pg_session, "x")
        history.annotate(c=3)
        add(pg_session, "y")
        pg_session.commit()
    both = {"a": 1, "b": 2, "c": 3}
    assert seen() == [("x", both), ("y", both)]
    assert len(contexts()) == 1


def test_annotation_of_a_session_does_not_reach_others_of_the_thread(
    pg_engine: Engine, pg_session: Session, add: Add, seen: Seen
) -> None:
    with history.context(pg_session, a=1), history.context(b=2):
        history.annotate(pg_session, c=3)
        history.annotate(d=4)
        add(pg_session, "this")
        pg_session.commit()
        with Session(pg_engine) as other:
            add(other, "other")
            other.commit()
    assert seen() == [
        ("this", {"a": 1, "b": 2, "c": 3, "d": 4}),
        ("other", {"b": 2, "d": 4}),
    ]


def test_annotation_in_a_decorated_function_ends_with_the_call(
    pg_session: Session, add: Add, seen: Seen
) -> None:
    @history.context(pg_session, job="interest")
    def work(body: str, **metadata: Any) -> None:
        history.annotate(pg_session, **metadata)
        add(pg_session, body)
        pg_session.flush()

    work("a", account=1)
    work("b")
    pg_session.commit()
    assert seen() == [
        ("a", {"job": "interest", "account": 1}),
        ("b", {"job": "interest"}),
    ]


def test_annotation_without_a_context_is_refused(pg_session: Session) -> None:
    with pytest.raises(ContextError, match="no context to annotate"):
        history.annotate(pg_session, a=1)
    with pytest.raises(ContextError, match="no context to annotate"):
        history.annotate(a=1)
    with (
        history.context(pg_session, a=1),
        pytest.raises(ContextError, match="no context to annotate"),
    ):
        history.annotate(b=2)


def test_refused_annotation_changes_nothing(
    pg_session: Session, add: Add, seen: Seen
) -> None:
    with history.context(pg_session, a=1):
        with pytest.raises(ContextError, match="'c' is"):
            history.annotate(pg_session, b=2, c=object())
        add(pg_session, "x")
        pg_session.commit()
    assert seen() == [("x", {"a": 1})]
