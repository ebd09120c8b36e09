"""Sealed events are verified, and what was done to them is found."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase

from sa_history.sealing.seal import seal
from sa_history.sealing.verify import verify

Base = type[DeclarativeBase]


def test_nothing_is_found_where_nothing_was_changed(
    base: Base, some_events: list[int], pg_engine: Engine
) -> None:
    digest = seal(pg_engine, base)
    found = verify(pg_engine, base, digest=digest)
    assert (found.discrepancies, found.events, found.seals) == ((), 12, 1)
    assert found.digest == digest


@pytest.mark.parametrize(
    ("statement", "problem", "ids"),
    [
        ("UPDATE person_event SET points = 9 WHERE pgh_id = 5", "changed", (5,)),
        ("UPDATE person_event SET name = 'x' WHERE pgh_id = 5", "changed", (5,)),
        ("UPDATE person_event SET pgh_label = 'x' WHERE pgh_id = 5", "changed", (5,)),
        ("DELETE FROM person_event WHERE pgh_id = 5", "missing", (5,)),
        (
            "UPDATE person_event SET pgh_id = CASE pgh_id WHEN 4 THEN -4 ELSE -7 END"
            " WHERE pgh_id IN (4, 7);"
            "UPDATE person_event SET pgh_id = CASE pgh_id WHEN -4 THEN 7 ELSE 4 END"
            " WHERE pgh_id < 0",
            "reordered",
            (4, 7),
        ),
        (
            "UPDATE pghistory_context SET metadata = metadata || '{\"user\": 9}'"
            " WHERE metadata ->> 'user' = '2'",
            "changed",
            (2,),
        ),
        (
            "INSERT INTO person_event (pgh_id, pgh_op, pgh_label, pgh_obj_id, id, name)"
            " VALUES (-1, 'I', 'snapshot', 1, 1, 'x')",
            "added",
            (-1,),
        ),
    ],
)
def test_what_is_done_to_events_is_found_by_its_word(
    base: Base,
    some_events: list[int],
    pg_engine: Engine,
    statement: str,
    problem: str,
    ids: tuple[int, ...],
) -> None:
    seal(pg_engine, base)
    with pg_engine.begin() as connection:
        for part in statement.split(";"):
            connection.execute(text(part))
    (found,) = verify(pg_engine, base).discrepancies
    assert (found.problem, found.table, found.ids) == (problem, "person_event", ids)
