"""Undo while other transactions write the same rows."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Integer,
    Table,
    Text,
    func,
    select,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Session

import sa_history as history
from sa_history import track
from sa_history.exc import ConflictError


@pytest.mark.parametrize("limit", [1_000_000, 0], ids=["row by row", "by sets"])
@pytest.mark.parametrize(
    ("write", "conflict"),
    [
        ("INSERT INTO ware VALUES (1, 2)", r"maker \(2,\) is referred to by ware \(1,"),
        ("UPDATE maker SET a = 5 WHERE id = 2", r"maker \(2,\) has changed: a is 5"),
    ],
)
def test_what_is_written_meanwhile_is_a_conflict(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_engine: Engine,
    blocked: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
    write: str,
    conflict: str,
) -> None:
    """A row that refers to a deleted one would be deleted by ON DELETE CASCADE."""
    monkeypatch.setattr("sa_history.writing.undo.ROW_BY_ROW", limit)
    key = Column("id", Integer, primary_key=True)
    maker = track()(Table("maker", base.metadata, key, Column("a", Integer)))
    Table(
        "ware",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("maker_id", ForeignKey("maker.id", ondelete="CASCADE")),
    )
    create_all()
    with Session(pg_engine) as session:
        session.execute(text("INSERT INTO maker VALUES (1, 1), (2, 2)"))
        number = session.scalars(select(func.pg_current_xact_id().cast(Text))).one()
        session.commit()

    def undo() -> None:
        with Session(pg_engine) as session:
            history.undo(session, maker, transaction=int(number))
            session.commit()

    with ThreadPoolExecutor(1) as thread:
        with pg_engine.begin() as other:
            other.execute(text(write))
            undone = thread.submit(undo)
            blocked()
        with pytest.raises(ConflictError, match=conflict):
            undone.result()
