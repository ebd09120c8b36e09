"""A model whose event table is partitioned, and what its database has of it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sa_history import AfterDelete, Snapshot, track
from sa_history.ddl.partitions import RangePartition, read_range_partitions
from sa_history.sql.compose import Qualified


@pytest.fixture
def account(base: type[DeclarativeBase], level: str) -> Any:
    """A tracked class, at both levels, that gets a partition every ten events."""

    @track(Snapshot, AfterDelete, level=level, append_only=True, partition_by=10)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int] = mapped_column(default=0)

    return Account


@pytest.fixture
def partitions(pg_engine: Engine) -> Any:
    """Return the partitions of the event table."""

    def read(name: str = "account_event") -> list[RangePartition]:
        with pg_engine.connect() as connection:
            return read_range_partitions(connection, ["public"])[
                Qualified("public", name)
            ]

    return read
