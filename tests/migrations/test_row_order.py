"""Foreign keys that come and go decide what is recorded row by row."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Engine, ForeignKeyConstraint, Integer, MetaData, Table

from sa_history import track
from tests.migrations.models import migrate, scalars

BY_ROW = """
SELECT tgname::text FROM pg_trigger
WHERE tgrelid = 'child'::regclass AND NOT tgisinternal AND tgtype & 1 = 1
ORDER BY tgname
"""


def family(*actions: str) -> MetaData:
    """Make a tracked table, with a foreign key for each action."""
    metadata = MetaData()
    Table("parent", metadata, Column("id", Integer, primary_key=True))
    child = Table(
        "child",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("first", Integer),
        Column("second", Integer),
        *(
            ForeignKeyConstraint([column], ["parent.id"], f"of_{column}", ondelete=each)
            for column, each in zip(("first", "second"), actions, strict=False)
        ),
    )
    track()(child)
    return metadata


def test_a_foreign_key_that_disturbs_the_order_replaces_the_triggers(
    migrations: Any, pg_engine: Engine
) -> None:
    migrate(migrations, family("CASCADE"))
    assert scalars(pg_engine, BY_ROW) == []
    by_row = ["child_event_delete", "child_event_update"]
    migrate(migrations, family("CASCADE", "SET NULL"))
    assert scalars(pg_engine, BY_ROW) == by_row
    assert migrations.check() == []
    migrations.downgrade()
    assert scalars(pg_engine, BY_ROW) == []
    migrations.upgrade()
    assert scalars(pg_engine, BY_ROW) == by_row
