"""The operations of revisions, which have final SQL and know no models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Column, Engine, Integer, MetaData, Table, insert, text

import sa_history.alembic  # noqa: F401 (it registers the operation)
from sa_history import track
from sa_history.ddl.elements import DatabaseObject
from sa_history.ddl.fingerprint import SetComment
from sa_history.exc import DistributionError
from sa_history.install import check, uninstall
from sa_history.install.expected import objects_of


def model(level: str) -> MetaData:
    metadata = MetaData()
    track(level=level)(
        Table("account", metadata, Column("id", Integer, primary_key=True))
    )
    return metadata


def run(engine: Engine, metadata: MetaData, schema: str) -> None:
    """Run the operations that make all objects which are missing."""

    def statements(definition: DatabaseObject) -> list[str]:
        made = (definition.create(), SetComment(definition))
        return [fragment.render(lambda name: name or schema) for fragment in made]

    with engine.begin() as connection:
        operations: Any = Operations(MigrationContext.configure(connection))
        for expected in objects_of(metadata):
            operations.history_ddl("make it", *statements(expected.definition))


def test_triggers_are_made_in_a_sharded_schema(tenant: Callable[[str], Engine]) -> None:
    metadata, engine = model("row"), tenant("migrated")
    metadata.create_all(engine)
    uninstall(engine, metadata)
    run(engine, metadata, "migrated")
    assert check(engine, metadata) == []
    with engine.begin() as connection:
        connection.execute(insert(metadata.tables["account"]).values(id=1))
        count = text("SELECT count(*) FROM migrated.account_event")
        assert connection.scalar(count) == 1


def test_triggers_that_read_transition_tables_are_refused(
    tenant: Callable[[str], Engine],
) -> None:
    metadata, engine = model("row"), tenant("refused")
    metadata.create_all(engine)
    uninstall(engine, metadata)
    with pytest.raises(DistributionError, match='give level="row"'):
        run(engine, model("statement"), "refused")
