"""Versioned and Touch beside other triggers, columns and search paths."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Computed, DateTime, Engine, literal, literal_column, text
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import Touch, Versioned, attach
from sa_history.exc import ReadOnlyError
from tests.triggers.statements import sent
from tests.triggers.versioned_touch.helpers import THEN


@pytest.mark.parametrize(("first", "seen"), [("versioned", 1), ("touch", 0)])
def test_triggers_run_in_the_order_of_their_names(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    first: str,
    seen: int,
) -> None:
    touch = "b" if first == "versioned" else "a"
    versioned = "a" if first == "versioned" else "b"

    @attach(
        Touch("seen", value=literal_column("NEW.version"), name=touch),
        Versioned("version", name=versioned),
    )
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(default="a")
        seen: Mapped[int | None]
        version: Mapped[int] = mapped_column(default=0)

    create_all()
    one = Page(id=1)
    pg_session.add(one)
    pg_session.flush()
    one.text = "b"
    pg_session.flush()
    assert (one.version, one.seen) == (1, seen)


def test_generated_columns_and_types_without_equality_are_no_obstacle(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @attach(Versioned("version"), Touch("at", value=literal(THEN)))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        data: Mapped[Any] = mapped_column(JSON)
        n: Mapped[int] = mapped_column(default=1)
        twice: Mapped[int] = mapped_column(Computed("n * 2", persisted=True))
        version: Mapped[int] = mapped_column(default=0)
        at: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))

    create_all()
    one = Page(id=1, data={"a": 1})
    pg_session.add(one)
    pg_session.flush()
    pg_session.execute(text("UPDATE page SET n = 1, data = data"))
    pg_session.refresh(one)
    assert (one.version, one.at) == (0, None)
    one.n = 2
    with sent(pg_session) as words:
        pg_session.flush()
        assert (one.version, one.at, one.twice) == (1, THEN, 4)
        one.data = {"a": 2}
        pg_session.flush()
        assert (one.version, one.twice) == (2, 4)
    assert words == ["UPDATE", "UPDATE"]


@pytest.mark.parametrize("path", ["''", "elsewhere", "elsewhere, pg_catalog"])
def test_no_search_path_of_the_caller_changes_what_they_do(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_engine: Engine,
    path: str,
) -> None:
    @attach(Versioned("version"), Touch("at"))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        version: Mapped[int] = mapped_column(default=0)
        at: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))

    create_all()
    statements = (
        "INSERT INTO page (id, version) VALUES (1, 0)",
        "CREATE SCHEMA elsewhere",
        "CREATE FUNCTION elsewhere.now() RETURNS timestamptz"
        " RETURN '1999-01-01'::timestamptz",
        "CREATE FUNCTION elsewhere.lie(integer, integer) RETURNS integer RETURN 40",
        "CREATE FUNCTION elsewhere.lie_b(integer, integer) RETURNS boolean RETURN true",
        "CREATE OPERATOR elsewhere.+"
        " (FUNCTION = elsewhere.lie, LEFTARG = integer, RIGHTARG = integer)",
        "CREATE OPERATOR elsewhere.="
        " (FUNCTION = elsewhere.lie_b, LEFTARG = integer, RIGHTARG = integer)",
        f"SET LOCAL search_path = {path}",
        "UPDATE public.page SET id = 2",
    )
    with pg_engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
        found = connection.execute(
            text(
                "SELECT version, at OPERATOR(pg_catalog.=) pg_catalog.now()"
                " FROM public.page"
            )
        )
        assert found.one() == (1, True)
        with pytest.raises(ReadOnlyError):
            connection.execute(text("UPDATE public.page SET version = 7"))
