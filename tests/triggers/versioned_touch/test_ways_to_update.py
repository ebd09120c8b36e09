"""Whatever updates rows counts them and touches them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import inspect, select, text, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from tests.triggers.versioned_touch.helpers import THEN

Stored = Callable[..., list[tuple[Any, ...]]]


def update_by_flush(session: Session, page: Any) -> None:
    for one in session.scalars(select(page)):
        one.text = "b"
    session.flush()


def update_by_orm(session: Session, page: Any) -> None:
    session.execute(update(page).values(text="b"))


def update_in_bulk(session: Session, page: Any) -> None:
    session.execute(update(page), [{"id": n, "text": "b"} for n in (1, 2)])


def update_by_bulk_mappings(session: Session, page: Any) -> None:
    session.bulk_update_mappings(page, [{"id": n, "text": "b"} for n in (1, 2)])


def update_by_core(session: Session, page: Any) -> None:
    session.connection().execute(update(page.__table__).values(text="b"))


def update_by_text(session: Session, page: Any) -> None:
    session.execute(text("UPDATE page SET text = 'b'"))


def update_many(session: Session, page: Any) -> None:
    statement = text("UPDATE page SET text = 'b' WHERE id = :id")
    session.connection().execute(statement, [{"id": 1}, {"id": 2}])


def update_from(session: Session, page: Any) -> None:
    statement = "UPDATE page SET text = t FROM (VALUES (1, 'b'), (2, 'b')) v (i, t)"
    session.execute(text(f"{statement} WHERE id = i"))


def update_on_conflict(session: Session, page: Any) -> None:
    statement = pg_insert(page.__table__).values(
        [{"id": n, "text": "b", "version": 5} for n in (1, 2)]
    )
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["id"], set_={"text": statement.excluded.text}
        )
    )


def update_by_merge(session: Session, page: Any) -> None:
    session.execute(
        text(
            "MERGE INTO page USING generate_series(1, 2) AS n ON id = n"
            " WHEN MATCHED THEN UPDATE SET text = 'b'"
        )
    )


def update_in_a_common_table_expression(session: Session, page: Any) -> None:
    session.execute(
        text(
            "WITH u AS (UPDATE page SET text = 'b' RETURNING 1) SELECT count(*) FROM u"
        )
    )


WAYS = [
    update_by_flush,
    update_by_orm,
    update_in_bulk,
    update_by_bulk_mappings,
    update_by_core,
    update_by_text,
    update_many,
    update_from,
    update_on_conflict,
    update_by_merge,
    update_in_a_common_table_expression,
]


@pytest.mark.parametrize("way", WAYS)
def test_whatever_updates_rows_counts_and_touches_them(
    pages: Any, pg_session: Session, stored: Stored, way: Callable[..., None]
) -> None:
    way(pg_session, pages)
    pg_session.commit()
    assert stored(pages) == [(1, "b", 1, THEN), (2, "b", 1, THEN)]
    # Once more nothing changes, and that is no change.
    way(pg_session, pages)
    pg_session.commit()
    assert stored(pages) == [(1, "b", 1, THEN), (2, "b", 1, THEN)]


def test_objects_of_a_session_see_a_bulk_update_when_they_are_read_again(
    pages: Any, pg_session: Session
) -> None:
    one = pg_session.get_one(pages, 1)
    pg_session.execute(update(pages).values(text="b"))
    assert inspect(one).unloaded == {"version", "touched_at"}
    assert (one.text, one.version) == ("b", 1)
    statement = update(pages).values(text="c").returning(pages)
    found = pg_session.scalars(statement, execution_options={"populate_existing": True})
    assert [p.version for p in found] == [2, 2]
    assert (one.text, one.version) == ("c", 2)


def test_returning_has_the_values(pages: Any, pg_session: Session) -> None:
    statement = (
        update(pages).values(text="b").returning(pages.version, pages.touched_at)
    )
    assert pg_session.execute(statement).all() == [(1, THEN), (1, THEN)]


def test_only_rows_that_change_count(
    pages: Any, pg_session: Session, stored: Stored
) -> None:
    pg_session.execute(text("UPDATE page SET text = 'b' WHERE id = 1"))
    pg_session.execute(text("UPDATE page SET text = 'b'"))
    pg_session.commit()
    assert stored(pages, "id", "version") == [(1, 1), (2, 1)]


def test_a_key_that_changes_takes_the_version_along(
    pages: Any, pg_session: Session, stored: Stored
) -> None:
    pg_session.execute(text("UPDATE page SET id = id + 10"))
    pg_session.commit()
    assert stored(pages, "id", "version") == [(11, 1), (12, 1)]


def test_an_insert_on_conflict_do_nothing_counts_nothing(
    pages: Any, pg_session: Session, stored: Stored
) -> None:
    statement = pg_insert(pages.__table__).values(id=1, text="b")
    pg_session.execute(statement.on_conflict_do_nothing())
    pg_session.commit()
    assert stored(pages, "id", "version") == [(1, 0), (2, 0)]


def test_a_rollback_takes_the_count_back(
    pages: Any, pg_session: Session, stored: Stored
) -> None:
    one = pg_session.get_one(pages, 1)
    with pg_session.begin_nested() as savepoint:
        one.text = "b"
        pg_session.flush()
        assert one.version == 1
        savepoint.rollback()
    assert (one.text, one.version) == ("a", 0)
    one.text = "c"
    pg_session.commit()
    assert stored(pages, "id", "version") == [(1, 1), (2, 0)]
