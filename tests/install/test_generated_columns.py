"""A generated column of another kind than the model's: STORED or VIRTUAL."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Column, Computed, Engine, Integer, MetaData, Table

from sa_history import AnyChange, Protect, Snapshot, Update, attach, track
from sa_history.exc import InstallError
from sa_history.install import check, install


@pytest.fixture(autouse=True)
def _has_virtual_columns(pg_engine: Engine) -> None:
    with pg_engine.connect() as connection:
        version = connection.dialect.server_version_info or ()
    if version < (18,):
        pytest.skip("PostgreSQL has VIRTUAL columns since 18")


def tile(persisted: bool | None) -> Table:
    return Table(
        "tile",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("side", Integer),
        Column("area", Integer, Computed("side * side", persisted=persisted)),
    )


def tracked(persisted: bool | None) -> Table:
    return track(Snapshot)(tile(persisted))


def protected(persisted: bool | None) -> Table:
    return attach(Protect(Update, condition=AnyChange("side")))(tile(persisted))


def change_kind(engine: Engine, kind: str) -> None:
    """Renew the column by hand."""
    with engine.begin() as connection:
        for statement in (
            "ALTER TABLE tile DROP COLUMN area",
            "ALTER TABLE tile ADD COLUMN area integer"
            f" GENERATED ALWAYS AS (side * side) {kind}",
        ):
            connection.exec_driver_sql(statement)


@pytest.mark.parametrize("define", [tracked, protected])
@pytest.mark.parametrize(
    ("persisted", "kind", "advice"),
    [
        (True, "VIRTUAL", "it is VIRTUAL, and STORED in the model"),
        (False, "STORED", "it is STORED, and VIRTUAL in the model"),
    ],
)
def test_a_column_of_another_kind_is_found_and_nothing_is_installed(
    pg_engine: Engine,
    define: Callable[[bool], Table],
    persisted: bool,
    kind: str,
    advice: str,
) -> None:
    define(True).metadata.create_all(pg_engine)
    change_kind(pg_engine, kind)
    metadata = define(persisted).metadata
    (finding, *_) = [f for f in check(pg_engine, metadata) if f.kind == "column"]
    message = (
        f"outdated column public.tile.area: {advice}; drop it and add it again in a"
        " migration"
    )
    assert str(finding) == message
    with pytest.raises(InstallError, match=advice) as error:
        install(pg_engine, metadata)
    assert str(error.value).endswith(message)


@pytest.mark.parametrize("kind", ["STORED", "VIRTUAL"])
def test_a_kind_that_the_model_leaves_to_the_database_is_right(
    pg_engine: Engine, kind: str
) -> None:
    protected(True).metadata.create_all(pg_engine)
    change_kind(pg_engine, kind)
    assert check(pg_engine, protected(None).metadata) == []
    assert install(pg_engine, protected(None).metadata) == []
