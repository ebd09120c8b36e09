"""A model, and a view of those of its rows that are active."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import view


@pytest.fixture
def user(base: type[DeclarativeBase]) -> Any:
    """A model that views read."""

    class User(base):  # type: ignore[misc, valid-type]
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        email: Mapped[str]
        is_active: Mapped[bool] = mapped_column(default=True)

    return User


@pytest.fixture
def active(user: Any, base: type[DeclarativeBase]) -> Any:
    """A class that is mapped to a view."""

    class ActiveUser(base):  # type: ignore[misc, valid-type]
        __table__ = view(
            "active_user",
            base.metadata,
            select(user.id, user.email).where(user.is_active),
        )

    return ActiveUser


@pytest.fixture
def users(
    user: Any, active: Any, create_all: Callable[[], None], pg_engine: Engine
) -> Any:
    """The model, with committed rows."""
    create_all()
    with Session(pg_engine) as session:
        session.add_all(
            user(id=n, email=email, is_active=n < 3)
            for n, email in ((1, "ann"), (2, "ben"), (3, "cid"))
        )
        session.commit()
    return user
