"""Models of a test, and what a revision and the database have of them."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Column, Engine, Integer, MetaData, Table, Text, select, text

from sa_history import AfterUpdate, Insert, Snapshot, Trigger, attach, new, track, view


def account(metadata: MetaData, *columns: Column[Any], **options: Any) -> Table:
    return Table(
        "account",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("name", Text),
        *columns,
        **options,
    )


def tracked(*trackers: Any, **options: Any) -> MetaData:
    metadata = MetaData()
    track(*trackers, **options)(account(metadata))
    return metadata


def untracked() -> MetaData:
    metadata = MetaData()
    account(metadata)
    return metadata


def migrate(migrations: Any, metadata: Any, *x: str) -> str:
    """Make a revision and run it; nothing is left to do."""
    migrations.metadata = metadata
    revision: str = migrations.revise(*x)
    migrations.upgrade()
    assert migrations.check() == []
    return revision


def run(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def scalars(engine: Engine, query: str) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.scalars(text(query)))


def what(revision: str) -> list[str]:
    """Return what the upgrade does, of ours, in words."""
    upgrade = revision.partition("def downgrade")[0]
    return re.findall(r"history_ddl\(\n\s+'([^']*)'", upgrade)


def found(migrations: Any) -> list[Any]:
    """Return what ``alembic check`` says of ours."""
    return [diff[1] for diff in migrations.check() if diff[0] == "history_ddl"]


ODD = "PERFORM '100% :x {} \t \\ ''', $a$\"$$\"$a$; RETURN NULL;"


def odd_models() -> MetaData:
    metadata = MetaData()
    table = account(metadata)
    track(
        Snapshot,
        AfterUpdate(new.name == "50%:x {} \t ' \" $$ \\", label="odd % :x"),
        level="row",
    )(table)
    attach(Trigger("odd", "after", Insert, body=ODD))(table)
    view(
        "odd_view",
        metadata,
        select(table.c.id).where(table.c.name.like("a%:x\t'{}\\")),
    )
    return metadata


NAMES = {
    "history_context_table": "crm_context",
    "history_sequence": "crm_id_seq",
    "history_event_table": "%(table_name)s_log",
    "history_function": "record_%(event_table_name)s",
    "history_trigger": "tr_%(event_table_name)s_%(operation)s",
}
