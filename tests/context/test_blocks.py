"""Blocks: what holds inside, what holds after, and what they can be bound to."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
import threading
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, event, insert, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

import sa_history as history
from sa_history.exc import ContextError, DialectError

Add = Callable[[Session, str], None]
Seen = Callable[[], list[tuple[str, Any]]]
Contexts = Callable[[], list[history.Context]]
InSession = Callable[[Callable[[Session], Any]], Any]


# Nesting, and leaving.


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


# What is stored, and when.


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


def test_empty_context_is_one(
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
    both = {"user": 7, "reason": "r"}
    assert seen() == [*((body, both) for body in "abcde"), ("f", {"user": 8})]
    assert [row.id for row in contexts()] == [frame.id, after.id]


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


# Decorators.


def test_decorated_function_runs_in_a_block_of_its_own(
    pg_session: Session, add: Add, seen: Seen, contexts: Contexts
) -> None:
    @history.context(pg_session, job="interest")
    def work(body: str, *, end: str) -> str:
        """Do it."""
        add(pg_session, body + end)
        return body

    assert (work.__name__, work.__doc__) == ("work", "Do it.")
    assert work("a", end="!") == "a"
    add(pg_session, "between")
    work("b", end="!")
    pg_session.commit()
    assert seen() == [
        ("a!", {"job": "interest"}),
        ("between", None),
        ("b!", {"job": "interest"}),
    ]
    assert len(contexts()) == 2


def test_decorated_function_that_fails_leaves_its_context(
    pg_session: Session, add: Add, seen: Seen
) -> None:
    @history.context(job="interest")
    def work() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        work()
    add(pg_session, "after")
    pg_session.commit()
    assert seen() == [("after", None)]


def test_decorated_function_may_call_itself(
    pg_session: Session, add: Add, contexts: Contexts
) -> None:
    @history.context(pg_session, job="interest")
    def work(depth: int) -> None:
        add(pg_session, str(depth))
        if depth:
            work(depth - 1)
            add(pg_session, f"{depth} again")

    work(2)
    pg_session.commit()
    first, second, third = contexts()
    assert (first.id, second.id) == (second.parent_id, third.parent_id)


def test_decorated_coroutine_function_is_in_its_block_while_it_runs(
    pg_async_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    async def main() -> None:
        async with AsyncSession(pg_async_engine) as session:

            @history.context(session, job="interest")
            async def work() -> str:
                session.add(note("inside"))
                await session.flush()
                return "done"

            coroutine = work()
            session.add(note("before it runs"))
            await session.flush()
            assert await coroutine == "done"
            session.add(note("after"))
            await session.commit()

    asyncio.run(main())
    assert seen() == [
        ("before it runs", None),
        ("inside", {"job": "interest"}),
        ("after", None),
    ]


def test_generators_cannot_be_decorated() -> None:
    def rows() -> Iterator[int]:
        yield 1

    async def async_rows() -> AsyncIterator[int]:
        yield 1

    for function in (rows, async_rows):
        with pytest.raises(ContextError, match=f"{function.__name__}: its body runs"):
            history.context(a=1)(function)


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


# Annotating.


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


def test_annotation_reaches_earlier_events_of_the_context_with_the_next_change(
    in_session: InSession, add: Add, seen: Seen, contexts: Contexts
) -> None:
    def work(session: Session) -> None:
        with history.context(session, user=7):
            add(session, "a")
            session.commit()
            history.annotate(session, reason="r")
            add(session, "b")
            session.commit()

    in_session(work)
    both = {"user": 7, "reason": "r"}
    assert seen() == [("a", both), ("b", both)]
    (context,) = contexts()
    assert context.updated_at > context.created_at


def test_annotation_does_not_change_what_an_earlier_transaction_has_stored(
    pg_session: Session, note: Any, seen: Seen
) -> None:
    with history.context(pg_session, user=7, step=1):
        pg_session.add(note(body="a"))
        pg_session.commit()
        history.annotate(pg_session, step=2)
        pg_session.add(note(body="b"))
        pg_session.flush()
        history.annotate(pg_session, step=3)
        pg_session.add(note(body="c"))
        pg_session.commit()
    assert seen() == [
        ("a", {"user": 7, "step": 1}),
        ("b", {"user": 7, "step": 3}),
        ("c", {"user": 7, "step": 3}),
    ]


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


# Targets.


def test_session_target(pg_session: Session, add: Add, seen: Seen) -> None:
    with history.context(pg_session, a=1):
        add(pg_session, "x")
        pg_session.commit()
    assert seen() == [("x", {"a": 1})]


def test_scoped_session_target(pg_engine: Engine, note: Any, seen: Seen) -> None:
    scoped = scoped_session(sessionmaker(pg_engine))
    with history.context(scoped, a=1):
        history.annotate(scoped, b=2)
        scoped.add(note("x"))
        scoped.commit()
    scoped.remove()
    scoped.add(note("y"))
    scoped.commit()
    scoped.remove()
    assert seen() == [("x", {"a": 1, "b": 2}), ("y", None)]


def test_scoped_session_may_be_removed_in_the_block(
    pg_engine: Engine, note: Any, seen: Seen
) -> None:
    scoped = scoped_session(sessionmaker(pg_engine))
    with history.context(scoped, a=1):
        scoped.remove()
        scoped.add(note("x"))  # through another session
        scoped.commit()
    scoped.remove()
    assert seen() == [("x", None)]


def test_async_session_target(
    pg_async_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    async def main() -> None:
        async with AsyncSession(pg_async_engine) as session:
            async with history.context(session, a=1):
                history.annotate(session, b=2)
                session.add(note("x"))
                await session.flush()
            session.add(note("y"))
            await session.commit()

    asyncio.run(main())
    assert seen() == [("x", {"a": 1, "b": 2}), ("y", None)]


def test_async_scoped_session_target(
    pg_async_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    async def main() -> None:
        scoped = async_scoped_session(
            async_sessionmaker(pg_async_engine), scopefunc=asyncio.current_task
        )
        async with history.context(scoped, a=1):
            scoped.add(note("x"))
            await scoped.commit()
        await scoped.remove()

    asyncio.run(main())
    assert seen() == [("x", {"a": 1})]


def test_connection_target(pg_engine: Engine, note: Any, seen: Seen) -> None:
    with pg_engine.connect() as connection:
        with history.context(connection, a=1):
            history.annotate(connection, b=2)
            connection.execute(insert(note).values(body="x"))
        connection.execute(insert(note).values(body="y"))
        connection.commit()
        with history.context(connection, c=3):
            connection.execute(insert(note).values(body="z"))
            connection.commit()
    assert seen() == [("x", {"a": 1, "b": 2}), ("y", None), ("z", {"c": 3})]


def test_async_connection_target(
    pg_async_engine: AsyncEngine, note: Any, seen: Seen
) -> None:
    async def main() -> None:
        async with pg_async_engine.connect() as connection:
            async with history.context(connection, a=1):
                await connection.execute(insert(note).values(body="x"))
            await connection.execute(insert(note).values(body="y"))
            await connection.commit()

    asyncio.run(main())
    assert seen() == [("x", {"a": 1}), ("y", None)]


def test_context_of_a_connection_is_that_of_the_sessions_bound_to_it(
    pg_engine: Engine, add: Add, seen: Seen
) -> None:
    with pg_engine.begin() as connection, history.context(connection, a=1):
        with Session(connection) as first:
            with history.context(first, b=2):
                add(first, "x")
            first.commit()
        with Session(connection) as second:
            add(second, "y")
            second.commit()
    with pg_engine.begin() as connection:
        with history.context(connection, a=1):
            pass
        with Session(connection) as third, history.context(third, c=3):
            add(third, "z")
            third.commit()
    assert seen() == [("x", {"a": 1, "b": 2}), ("y", {"a": 1}), ("z", {"c": 3})]


def test_session_on_two_engines_has_its_context_on_both(
    pg_engine: Engine, note: Any, seen: Seen
) -> None:
    other = create_engine(pg_engine.url)
    with Session() as session, history.context(session, a=1):
        for engine in (pg_engine, other):
            session.execute(
                insert(note).values(body="x"), bind_arguments={"bind": engine}
            )
        session.commit()
    other.dispose()
    assert seen() == [("x", {"a": 1})] * 2


@pytest.mark.parametrize("target", [None, 7, "session", sessionmaker()])
def test_other_targets_are_refused(target: Any) -> None:
    with (
        pytest.raises(ContextError, match="bound to a session or a connection, got"),
        history.context(target, a=1),
    ):
        pass


def test_engine_is_refused_as_a_target(pg_engine: Engine) -> None:
    with pytest.raises(ContextError, match="got Engine"):
        history.context(pg_engine, a=1).__enter__()  # type: ignore[arg-type]


def test_async_connection_that_is_not_open_is_refused(
    pg_async_engine: AsyncEngine,
) -> None:
    with pytest.raises(ContextError):
        history.context(pg_async_engine.connect(), a=1).__enter__()


def test_connection_to_another_database_is_refused() -> None:
    engine = create_engine("sqlite://")
    with (
        engine.connect() as connection,
        pytest.raises(DialectError, match="sqlite"),
        history.context(connection, a=1),
    ):
        pass
    engine.dispose()


def test_other_databases_are_left_alone_in_a_block() -> None:
    engine = create_engine("sqlite://")
    with history.context(a=1), Session(engine) as session:
        assert session.scalar(text("SELECT 1")) == 1
        session.commit()
        with pytest.raises(OperationalError, match="no such table"):
            session.execute(text("SELECT * FROM note"))
    engine.dispose()


def test_frame_tells_the_keys_it_has() -> None:
    with history.context(a=1), history.context(b="x") as frame:
        assert repr(frame) == "<context {'a': 1, 'b': 'x'}>"


# Values.


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
