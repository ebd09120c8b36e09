"""A model that counts its versions and has the time of its last change."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import DateTime, literal
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import Touch, Versioned, attach
from tests.triggers.versioned_touch.helpers import THEN


@pytest.fixture
def page(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    """A model with both triggers."""

    @attach(Versioned("version"), Touch("touched_at", value=literal(THEN)))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(default="a")
        version: Mapped[int] = mapped_column(default=0)
        touched_at: Mapped[datetime.datetime | None] = mapped_column(
            DateTime(timezone=True)
        )

    create_all()
    return Page


@pytest.fixture
def pages(page: Any, pg_session: Session) -> Any:
    """The class, with two committed rows."""
    pg_session.add_all([page(id=1), page(id=2)])
    pg_session.commit()
    return page
