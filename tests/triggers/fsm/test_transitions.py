"""FSM: which changes of the state, and which first states, it lets through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import delete, insert, update
from sqlalchemy.dialects.postgresql import insert as pg_insert

from sa_history import FSM, new, old
from sa_history.exc import RefusedError, TransitionError
from tests.triggers.fsm.helpers import WAY

Attempt = Callable[..., "type[RefusedError] | None"]
Rows = Callable[[Any], list[tuple[Any, ...]]]


def test_states_go_the_way_they_are_given(
    article: Any, attempt: Attempt, rows: Rows, level: str
) -> None:
    model = article(FSM("status", transitions=WAY, level=level))
    allowed = set()
    states = ["draft", "published", "archived", "unknown"]
    for number, start in enumerate(states):
        for end in states:
            assert attempt(insert(model).values(id=number, status=start)) is None
            change = update(model).where(model.id == number).values(status=end)
            if attempt(change) is None:
                allowed.add((start, end))
                assert rows(model)[-1][1] == end
            else:
                assert rows(model)[-1][1] == start
            attempt(delete(model))
    # A state that stays as it is goes nowhere.
    assert allowed == {*WAY, *((state, state) for state in states)}


def test_other_columns_change_in_every_state(
    article: Any, attempt: Attempt, level: str
) -> None:
    model = article(FSM("status", transitions=WAY, level=level))
    for number, state in enumerate(("draft", "archived", "unknown", None)):
        assert attempt(insert(model).values(id=number, status=state)) is None
    assert attempt(update(model).values(words=1)) is None
    assert attempt(update(model).values(status=model.status, words=2)) is None


def test_rows_go_their_own_ways_in_one_statement(
    article: Any, attempt: Attempt, rows: Rows, level: str
) -> None:
    model = article(FSM("status", transitions=WAY, level=level))
    states = ["draft", "published", "archived"]
    values = [{"id": n, "status": state} for n, state in enumerate(states)]
    assert attempt(insert(model), values) is None
    forward = "UPDATE article SET id = id + 1, status = CASE status"
    forward += " WHEN 'draft' THEN 'published' WHEN 'published' THEN '{}'"
    forward += " ELSE status END"
    # With the wrong partner, each of these changes would be another.
    forward = forward.replace("id + 1", "-id - 1")
    assert attempt(forward.format("unknown")) is TransitionError
    assert [row[1] for row in rows(model)] == states
    assert attempt(forward.format("archived")) is None
    found = {row[0]: row[1] for row in rows(model)}
    assert found == {-1: "published", -2: "archived", -3: "archived"}


def test_keys_that_change_do_not_mix_up_the_states(
    article: Any, attempt: Attempt, level: str
) -> None:
    model = article(FSM("status", transitions=[("a", "b"), ("b", "c")], level=level))
    values = [{"id": n, "status": "ab"[n % 2]} for n in range(1, 8)]
    assert attempt(insert(model), values) is None
    assert attempt("UPDATE article SET id = 1000 - id") is None
    # Where a goes to b and b to a: by key it would seem that they stay.
    swap = "UPDATE article SET id = CASE status WHEN 'a' THEN -id ELSE 2000 - id END,"
    swap += " status = CASE status WHEN 'a' THEN 'b' ELSE 'a' END"
    assert attempt(swap) is TransitionError
    assert attempt(swap.replace("ELSE 'a'", "ELSE 'c'")) is None


def test_bulk_change_is_refused_for_one_row_of_many(
    article: Any, attempt: Attempt, level: str
) -> None:
    article(FSM("status", transitions=WAY, initial=["draft"], level=level))
    many = "INSERT INTO article (id, status, words) SELECT n, {}, n"
    many += " FROM generate_series(1, 20000) AS n"
    wrong = "CASE n WHEN 19999 THEN 'published' ELSE 'draft' END"
    assert attempt(many.format(wrong)) is TransitionError
    assert attempt(many.format("'draft'")) is None
    change = "UPDATE article SET status = CASE id WHEN 19999 THEN '{}'"
    change += " ELSE 'published' END"
    assert attempt(change.format("archived")) is TransitionError
    assert attempt(change.format("draft")) is None


def test_a_row_begins_with_one_of_the_initial_states(
    article: Any, attempt: Attempt, level: str
) -> None:
    model = article(
        FSM("status", transitions=WAY, initial=["draft", "published"], level=level)
    )
    assert attempt(insert(model).values(id=1, status="published")) is None
    assert attempt(insert(model).values(id=2)) is None  # the column's default
    assert attempt(insert(model).values(id=3, status="archived")) is TransitionError
    assert attempt(insert(model).values(id=3, status=None)) is TransitionError
    values = [{"id": 3, "status": "draft"}, {"id": 4, "status": "archived"}]
    assert attempt(insert(model), values) is TransitionError
    assert attempt(update(model).where(model.id == 1).values(status="archived")) is None


def test_null_is_a_state(article: Any, attempt: Attempt, level: str) -> None:
    model = article(
        FSM(
            "status",
            transitions=[(None, "draft"), ("draft", "done"), ("draft", None)],
            initial=[None, "draft"],
            level=level,
        )
    )
    assert attempt(insert(model).values(id=1, status="done")) is TransitionError
    assert attempt(insert(model).values(id=1, status=None)) is None
    assert attempt(update(model).values(status=None)) is None
    assert attempt(update(model).values(status="done")) is TransitionError
    assert attempt(update(model).values(status="draft")) is None
    assert attempt(update(model).values(status=None)) is None
    assert attempt(update(model).values(status="draft")) is None
    assert attempt(update(model).values(status="done")) is None
    assert attempt(update(model).values(status=None)) is TransitionError


def test_null_is_no_state_where_it_is_not_given(
    article: Any, attempt: Attempt, level: str
) -> None:
    model = article(FSM("status", transitions=WAY, initial=["draft"], level=level))
    assert attempt(insert(model).values(id=1, status=None)) is TransitionError
    assert attempt(insert(model).values(id=1, status="draft")) is None
    assert attempt(update(model).values(status=None)) is TransitionError


def test_a_row_that_is_upserted_goes_or_begins(
    article: Any, attempt: Attempt, rows: Rows, level: str
) -> None:
    model = article(
        FSM("status", transitions=WAY, initial=["draft", "published"], level=level)
    )

    def upsert(id: int, status: str) -> Any:
        statement = pg_insert(model).values(id=id, status=status)
        changes = {"status": statement.excluded.status}
        return statement.on_conflict_do_update(index_elements=["id"], set_=changes)

    assert attempt(upsert(1, "draft")) is None
    assert attempt(upsert(1, "published")) is None
    assert attempt(upsert(1, "published")) is None
    assert attempt(upsert(2, "archived")) is TransitionError
    # At row level PostgreSQL asks for the first state before it looks for the row.
    goes = attempt(upsert(1, "archived"))
    assert goes is (TransitionError if level == "row" else None)
    state = "published" if level == "row" else "archived"
    assert [row[1] for row in rows(model)] == [state]


def test_merge_is_refused_by_what_it_does_to_each_row(
    article: Any, attempt: Attempt, rows: Rows, level: str
) -> None:
    model = article(FSM("status", transitions=WAY, initial=["draft"], level=level))
    assert attempt(insert(model).values(id=1)) is None
    merge = (
        "MERGE INTO article AS a USING (VALUES {}) AS s (id, status) ON a.id = s.id"
        " WHEN MATCHED THEN UPDATE SET status = s.status"
        " WHEN NOT MATCHED THEN INSERT (id, status, words) VALUES (s.id, s.status, 0)"
    )
    assert attempt(merge.format("(1, 'archived'), (2, 'draft')")) is TransitionError
    assert attempt(merge.format("(1, 'draft'), (2, 'archived')")) is TransitionError
    assert attempt(merge.format("(1, 'published'), (2, 'draft')")) is None
    assert [row[1] for row in rows(model)] == ["published", "draft"]


def test_condition_narrows_the_changes_it_looks_at(
    article: Any, attempt: Attempt, level: str
) -> None:
    model = article(
        FSM("status", transitions=WAY, condition=old.words > 100, level=level)
    )
    assert attempt(insert(model).values(id=1, words=100)) is None
    assert attempt(update(model).values(status="archived")) is None
    assert attempt(update(model).values(words=101, status="draft")) is None
    assert attempt(update(model).values(status="archived")) is TransitionError
    assert attempt(update(model).values(words=1, status="archived")) is TransitionError


def test_condition_over_new_is_for_the_beginning_too(
    article: Any, attempt: Attempt, level: str
) -> None:
    model = article(
        FSM(
            "status",
            transitions=WAY,
            initial=["draft"],
            condition=lambda old, new: new.words > 100,
            level=level,
        )
    )
    assert attempt(insert(model).values(id=1, status="archived")) is None
    long = {"status": "archived", "words": 101}
    assert attempt(insert(model).values(id=2, **long)) is TransitionError
    assert attempt(update(model).values(status="draft", words=101)) is TransitionError
    assert attempt(update(model).values(status="draft", words=100)) is None


def test_two_machines_on_one_column_are_a_condition_each(
    article: Any, attempt: Attempt, level: str
) -> None:
    model = article(
        FSM(
            "status",
            transitions=[("draft", "published")],
            condition=new.words <= 100,
            level=level,
        ),
        FSM(
            "status",
            transitions=[("draft", "review"), ("review", "published")],
            condition=new.words > 100,
            level=level,
            name="long",
        ),
    )
    assert attempt(insert(model), [{"id": 1}, {"id": 2, "words": 200}]) is None
    publish = update(model).values(status="published")
    assert attempt(publish) is TransitionError
    assert attempt(publish.where(model.id == 1)) is None
    assert attempt(update(model).values(status="review").where(model.id == 2)) is None
    assert attempt(publish) is None
