"""Undo while other transactions write the same rows."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from psycopg.errors import SerializationFailure
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
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Session

import sa_history as history
from sa_history import track
from sa_history.exc import ConflictError


@pytest.mark.parametrize("isolation_level", ["READ COMMITTED", "REPEATABLE READ"])
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
    isolation_level: str,
    limit: int,
    write: str,
    conflict: str,
) -> None:
    """A row that refers to a deleted one would be deleted by ON DELETE CASCADE.

    At REPEATABLE READ an undo does not see what others write, and PostgreSQL refuses.
    """
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

    engine = pg_engine.execution_options(isolation_level=isolation_level)

    def undo() -> None:
        with Session(engine) as session:
            history.undo(session, maker, transaction=int(number))
            session.commit()

    with ThreadPoolExecutor(1) as thread:
        with pg_engine.begin() as other:
            other.execute(text(write))
            undone = thread.submit(undo)
            blocked()
        if isolation_level == "READ COMMITTED":
            with pytest.raises(ConflictError, match=conflict):
                undone.result()
        else:
            with pytest.raises(OperationalError) as refused:
                undone.result()
            assert isinstance(refused.value.orig, SerializationFailure)
