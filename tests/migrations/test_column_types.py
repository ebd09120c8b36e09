"""A revision runs without the application, whatever types its models have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    URL,
    Column,
    Engine,
    Enum,
    MetaData,
    String,
    Text,
    create_engine,
)

from sa_history import Snapshot, track
from sa_history.alembic import PGType
from tests.migrations.application_types import EXTENSIONS, TYPES, Box, Encrypted, Slug
from tests.migrations.models import account, migrate, run, scalars

# Of reflected tables.
pytestmark = pytest.mark.filterwarnings("ignore:Did not recognize type")

FORMAT = """
SELECT format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = 'account_event'::regclass AND attname = '{}'
"""


def with_columns(*columns: Column[Any], events: bool = True) -> MetaData:
    metadata = MetaData()
    table = account(metadata, *columns)
    if events:
        track(Snapshot)(table)
    return metadata


@pytest.mark.parametrize("name", TYPES)
def test_an_event_table_has_the_type_of_postgresql(
    migrations: Any, pg_engine: Engine, name: str
) -> None:
    type_, sql = TYPES[name]
    # As in an application that becomes tracked: its own table is there.
    with pg_engine.begin() as connection:
        with_columns(Column(name, type_), events=False).create_all(connection)
    revision = migrate(migrations, with_columns(Column(name, type_)))
    assert "application_types" not in revision
    assert scalars(pg_engine, FORMAT.format(name)) == [sql]


@pytest.mark.parametrize("prefix", ["", "shop.types."])
def test_types_of_postgresql_are_none_of_those_that_env_py_renders(
    migrations: Any, pg_engine: Engine, prefix: str
) -> None:
    def render_item(kind: str, item: Any, _: Any) -> str | bool:
        return (
            "sa.UnicodeText()" if kind == "type" and isinstance(item, Text) else False
        )

    migrations.options = {"user_module_prefix": prefix, "render_item": render_item}
    with_columns(Column("box", Box(4, "cm")), events=False).create_all(pg_engine)
    migrations.metadata = with_columns(Column("box", Box(4, "cm")))
    revision = migrations.revise()
    assert "sa.Column('box', sa_history.alembic.PGType('box')" in revision
    assert "sa.Column('pgh_label', sa.UnicodeText(), nullable=False" in revision
    assert "import sa_history.alembic" in revision


def test_a_revision_imports_no_more_than_it_needs(migrations: Any) -> None:
    migrations.metadata = with_columns(Column("secret", Encrypted("key")))
    assert {x for x in migrations.revise().splitlines() if "import " in x} == {
        "from alembic import op",
        "import sqlalchemy as sa",
        "from sqlalchemy import Text",
        "from sqlalchemy.dialects import postgresql",
        "import sa_history.alembic",  # of op.history_ddl
    }


@pytest.mark.contrib
@pytest.mark.parametrize("name", EXTENSIONS)
def test_an_event_table_has_a_type_of_an_extension(
    migrations: Any, pg_engine: Engine, name: str
) -> None:
    type_, sql = EXTENSIONS[name]
    run(pg_engine, f"CREATE EXTENSION {sql}")
    migrate(migrations, with_columns(Column(name, type_)))
    assert scalars(pg_engine, FORMAT.format(name)) == [sql]


def test_a_revision_builds_what_create_all_builds(
    migrations: Any, pg_engine: Engine, pg_url: URL, dump: Callable[[URL], str]
) -> None:
    def models(events: bool = True) -> MetaData:
        columns = (Column(name, type_) for name, (type_, _) in TYPES.items())
        return with_columns(*columns, events=events)

    metadata = models()
    metadata.create_all(pg_engine)
    created = dump(pg_url)
    metadata.drop_all(pg_engine)
    models(events=False).create_all(pg_engine)
    migrate(migrations, metadata)
    run(pg_engine, "DROP TABLE alembic_version")
    assert dump(pg_url) == created


def test_a_column_that_is_added_has_the_type_of_postgresql(
    migrations: Any, pg_engine: Engine
) -> None:
    migrate(migrations, with_columns())
    columns = [Column("box", Box(4, "cm")), Column("secret", Encrypted("key"))]
    run(pg_engine, "ALTER TABLE account ADD box box, ADD secret varchar(1000)")
    revision = migrate(migrations, with_columns(*columns))
    added = "add_column('account_event', sa.Column("
    assert f"{added}'box', sa_history.alembic.PGType('box')" in revision
    assert f"{added}'secret', sa.String(length=1000)" in revision
    migrations.downgrade()
    migrations.upgrade()


def test_a_column_gets_another_type_by_its_name_in_postgresql(
    migrations: Any, pg_engine: Engine
) -> None:
    migrate(migrations, with_columns(Column("code", String(5))))
    run(pg_engine, "ALTER TABLE account ALTER code TYPE varchar(30)")
    revision = migrate(migrations, with_columns(Column("code", Slug(3))))
    assert "type_=sa.String(length=30)" in revision
    assert scalars(pg_engine, FORMAT.format("code")) == ["character varying(30)"]
    migrations.downgrade()
    assert scalars(pg_engine, FORMAT.format("code")) == ["character varying(5)"]


def test_a_column_that_becomes_an_enum_is_one_in_the_revision(
    migrations: Any, pg_engine: Engine
) -> None:
    """For alembic_postgresql_enum, which writes how values are converted."""
    migrate(migrations, with_columns(Column("code", Text)))
    migrations.metadata = with_columns(Column("code", Enum("a", name="colour")))
    revision = migrations.revise()
    assert revision.count("type_=sa.Enum('a', name='colour')") == 2


class ReflectedBox(Box):
    """What a package registers, to be reflected."""

    def __init__(self) -> None:
        super().__init__(4, "cm")


def test_events_that_are_not_kept_come_back_by_their_types_in_postgresql(
    migrations: Any,
    pg_engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {**pg_engine.dialect.ischema_names, "box": ReflectedBox}
    monkeypatch.setattr(pg_engine.dialect, "ischema_names", known)
    migrations.options = {"history_keep": False}

    def models(*names: str, events: bool = True) -> MetaData:
        types = {"box": Box(4, "cm"), "colour": Enum("a", name="colour")}
        columns = (Column(name, types[name]) for name in names)
        return with_columns(*columns, events=events)

    models("box", "colour", events=False).create_all(pg_engine)
    migrate(migrations, models("box", "colour"))
    run(pg_engine, "ALTER TABLE account DROP box")
    migrate(migrations, models("colour"))
    migrate(migrations, models("colour", events=False))
    migrations.downgrade()
    migrations.downgrade()
    assert scalars(pg_engine, FORMAT.format("colour")) == ["colour"]
    assert scalars(pg_engine, FORMAT.format("box")) == ["box"]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
def test_a_type_is_written_as_it_is(driver: str) -> None:
    """With the percent signs that the driver takes for one."""
    engine = create_engine(f"postgresql+{driver}://")
    sql = str(PGType('"50%"').compile(dialect=engine.dialect))
    assert sql == ('"50%"' if driver == "asyncpg" else '"50%%"')
