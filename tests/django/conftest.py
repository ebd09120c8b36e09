"""Django and django-pghistory as they are, on the tables that the tests make."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any

import django
import pytest
from django.conf import settings
from django.db import connection
from sqlalchemy import URL, Engine, ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sa_history import AfterDelete, Manual, Snapshot, track

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["django.contrib.contenttypes", "pgtrigger", "pghistory", "till"],
    LOGGING_CONFIG=None,
    USE_TZ=True,
)
django.setup()


@pytest.fixture
def models(
    base: type[DeclarativeBase], create_all: Callable[[], None], level: str
) -> Any:
    """The models of SQLAlchemy, whose tables Django finds in its database."""

    @track(Snapshot, AfterDelete, level=level, context="inline")
    class Owner(base):  # type: ignore[misc, valid-type]
        __tablename__ = "owner"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    @track(Snapshot, AfterDelete, Manual("by hand"), level=level)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        owner_id: Mapped[int] = mapped_column(ForeignKey(Owner.id))
        balance: Mapped[int | None]
        owner: Mapped[Any] = relationship(Owner)

    create_all()
    return types.SimpleNamespace(Base=base, Owner=Owner, Account=Account)


@pytest.fixture
def till(pg_url: URL, pg_engine: Engine, models: Any) -> Iterator[types.ModuleType]:
    """Django's models, on a connection to the test's database."""
    import till.models

    connection.settings_dict.update(
        NAME=pg_url.database,
        USER=pg_url.username or "",
        PASSWORD=pg_url.password or "",
        HOST=pg_url.host or pg_url.query.get("host", ""),
        PORT=pg_url.port or pg_url.query.get("port", ""),
    )
    yield till.models
    connection.close()
