"""When a context is stored, and which changes and transactions share its row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, select, text
from sqlalchemy.orm import Session

import sa_history as history

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, Any]]]
Contexts = Callable[[], list[history.Context]]
InSession = Callable[[Callable[[Session], Any]], Any]


def test_block_without_changes_leaves_no_row(
    in_session: InSession, note: Any, contexts: Contexts
) -> None:
    def work(session: Session) -> None:
        with history.context(session, user=7):
            session.execute(text("SELECT 1"))
            session.commit()

    in_session(work)
    assert contexts() == []


def test_change_that_makes_no_event_leaves_no_row(
    pg_session: Session, note: Any, contexts: Contexts
) -> None:
    with history.context(pg_session, user=7):
        pg_session.execute(text("UPDATE note SET body = 'x' WHERE id = 0"))
        pg_session.execute(text("DELETE FROM note"))
        pg_session.commit()
    assert contexts() == []


def test_events_and_transactions_of_one_block_share_one_row(
    in_session: InSession, add: Add, seen: Seen, contexts: Contexts
) -> None:
    def work(session: Session) -> None:
        with history.context(session, user=7):
            for transaction in range(3):
                for change in range(3):
                    add(session, f"{transaction}.{change}")
                session.commit()

    in_session(work)
    assert [context for _, context in seen()] == [{"user": 7}] * 9
    assert len(contexts()) == 1


def test_context_that_is_rolled_back_comes_again_with_the_next_change(
    in_session: InSession, add: Add, seen: Seen
) -> None:
    def work(session: Session) -> None:
        with history.context(session, user=7):
            add(session, "a")
            session.rollback()
            add(session, "b")
            session.commit()

    in_session(work)
    assert seen() == [("b", {"user": 7})]


def test_empty_context_is_stored(
    pg_session: Session, add: Add, seen: Seen, contexts: Contexts
) -> None:
    with history.context(pg_session):
        add(pg_session, "a")
        pg_session.commit()
    assert seen() == [("a", {})]
    assert len(contexts()) == 1


def test_transactions_that_share_a_block_do_not_wait_for_each_other(
    pg_engine: Engine, add: Add, seen: Seen, contexts: Contexts
) -> None:
    with (
        Session(pg_engine) as one,
        Session(pg_engine) as other,
        history.context(user=7),
    ):
        for body in "ab":
            add(one, body)
            add(other, body)
        history.annotate(reason="r")
        add(one, "c")
        add(other, "c")
        one.commit()
        add(one, "d")
        other.commit()
        add(other, "d")
        one.commit()
        other.commit()
    assert [context for _, context in seen()] == [{"user": 7, "reason": "r"}] * 8
    assert len(contexts()) <= 3


def test_transactions_that_store_a_context_at_once_have_a_copy_each(
    pg_engine: Engine, note: Any, add: Add, contexts: Contexts
) -> None:
    options = {"options": "-c lock_timeout=5s"}
    engine = create_engine(pg_engine.url, connect_args=options)
    sessions = [Session(engine) for _ in range(3)]
    own = []
    with history.context(a=1) as outer:
        for session in sessions:
            add(session, "outer")
            add(session, "outer again")
        with history.context(b=2) as inner:
            for session in sessions:
                add(session, "inner")
                with history.context(session, c=3) as frame:
                    add(session, "own")
                    add(session, "own again")
                    own.append(frame.id)
                add(session, "inner again")
        for session in sessions:
            session.commit()
    engine.dispose()
    rows = contexts()
    first = {row.id: row.parent_id for row in rows if row.id in (outer.id, inner.id)}
    assert first == {outer.id: None, inner.id: outer.id}
    # A copy is inside of what it is a copy of. What nobody else stores has none.
    copies = [row for row in rows if row.id not in {*first, *own}]
    assert [(row.metadata, row.parent_id) for row in copies] == [
        *[({"a": 1}, outer.id)] * 2,
        *[({"a": 1, "b": 2}, inner.id)] * 2,
    ]
    alone = [(row.id, row.parent_id) for row in rows if row.id in own]
    assert alone == [(id_, inner.id) for id_ in own]
    assert all(row.updated_at == row.created_at for row in rows)
    with Session(pg_engine) as session:
        events = history.events(note)
        used = Counter(session.scalars(select(events.model.pgh_context_id)))
    assert used == {row.id: 2 for row in rows}


def test_transactions_that_meet_a_context_that_is_stored_share_its_row(
    pg_engine: Engine, add: Add, seen: Seen, contexts: Contexts
) -> None:
    with (
        Session(pg_engine) as one,
        Session(pg_engine) as other,
        history.context(user=7) as frame,
    ):
        add(one, "a")
        one.commit()
        add(one, "b")
        add(other, "c")
        one.commit()
        other.commit()
        (stored,) = contexts()
        assert stored.updated_at == stored.created_at  # it is not written again
        add(one, "d")  # in the stored context, and its transaction goes on
        history.annotate(reason="r")
        add(other, "e")
        other.commit()
        one.commit()
    with history.context(one, user=8) as after:
        add(one, "f")
        one.commit()
    assert seen() == [
        *((body, {"user": 7}) for body in "abcd"),
        ("e", {"user": 7, "reason": "r"}),
        ("f", {"user": 8}),
    ]
    rows = [(row.id, row.parent_id) for row in contexts()]
    (copy_id, _) = rows[1]
    assert rows == [(frame.id, None), (copy_id, frame.id), (after.id, None)]


@pytest.mark.parametrize("isolation_level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_transactions_of_other_isolation_levels_share_a_block(
    isolation_level: Any, pg_url: URL, add: Add, seen: Seen
) -> None:
    engine = create_engine(pg_url, isolation_level=isolation_level)
    with Session(engine) as session, history.context(user=7):
        for body in "abc":
            add(session, body)
            session.commit()
    engine.dispose()
    assert seen() == [(body, {"user": 7}) for body in "abc"]
