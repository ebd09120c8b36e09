"""Event tables: what becomes of them as the models change."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    URL,
    Column,
    Engine,
    Enum,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.exc import DBAPIError

from sa_history import AfterDelete, Snapshot, seal, track, verify
from tests.migrations.models import (
    NAMES,
    account,
    migrate,
    run,
    scalars,
    tracked,
    untracked,
)


def test_untracking_keeps_events_protected_and_tracking_again_goes_on(
    migrations: Any, pg_engine: Engine, pg_url: URL, dump: Callable[[URL], str]
) -> None:
    migrate(migrations, tracked(Snapshot, append_only=True))
    first = dump(pg_url)
    run(pg_engine, "INSERT INTO account VALUES (1)")
    migrate(migrations, untracked())
    run(pg_engine, "INSERT INTO account VALUES (2)")
    with pytest.raises(DBAPIError, match="append-only"):
        run(pg_engine, "DELETE FROM account_event")
    migrations.downgrade()
    assert dump(pg_url) == first
    migrations.upgrade()
    revision = migrate(migrations, tracked(Snapshot, append_only=True))
    assert "create_table" not in revision
    assert dump(pg_url) == first
    run(pg_engine, "INSERT INTO account VALUES (3)")
    query = "SELECT ARRAY[pgh_id, id] FROM account_event ORDER BY pgh_id"
    assert scalars(pg_engine, query) == [[1, 1], [2, 3]]


def test_untracking_drops_all_where_history_is_not_kept(
    migrations: Any, pg_engine: Engine, pg_url: URL, dump: Callable[[URL], str]
) -> None:
    migrate(migrations, untracked())
    before = dump(pg_url)
    migrate(migrations, tracked(Snapshot, append_only=True))
    with_history = dump(pg_url)
    migrations.options = {"history_keep": False}
    migrate(migrations, untracked())
    assert dump(pg_url) == before
    migrations.downgrade()
    assert dump(pg_url) == with_history
    run(pg_engine, "INSERT INTO account VALUES (1)")
    assert scalars(pg_engine, "SELECT id FROM account_event") == [1]


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "dropped"])
def test_the_past_of_a_dropped_column_stays_where_history_is_kept(
    migrations: Any, pg_engine: Engine, keep: bool
) -> None:
    migrations.options = {} if keep else {"history_keep": False}
    metadata = MetaData()
    track()(account(metadata, Column("age", Integer)))
    migrate(migrations, metadata)
    run(pg_engine, "INSERT INTO account VALUES (1, 'a', 3)")
    migrate(migrations, tracked())
    run(pg_engine, "INSERT INTO account VALUES (2, 'a')")
    ages = scalars(
        pg_engine,
        "SELECT to_jsonb(e) ->> 'age' FROM account_event AS e ORDER BY pgh_id",
    )
    assert ages == (["3", None] if keep else [None, None])


def test_the_model_goes_and_its_events_stay(
    migrations: Any, pg_engine: Engine, pg_url: URL, dump: Callable[[URL], str]
) -> None:
    migrate(migrations, tracked(Snapshot, append_only=True))
    before = dump(pg_url)
    run(pg_engine, "INSERT INTO account VALUES (1)")
    assert "op.drop_table('account')" in migrate(migrations, MetaData())
    assert scalars(pg_engine, "SELECT id FROM account_event") == [1]
    migrations.downgrade()
    assert dump(pg_url) == before


def test_an_event_keeps_the_key_that_its_row_had(
    migrations: Any, pg_engine: Engine
) -> None:
    """New events have no value for it, so it may be NULL from then on."""

    def keyed(*names: str) -> MetaData:
        metadata = MetaData()
        columns = (Column(name, Integer, primary_key=True) for name in names)
        track(Snapshot)(Table("badge", metadata, *columns))
        return metadata

    migrate(migrations, keyed("number", "part", "page"))
    run(pg_engine, "INSERT INTO badge VALUES (7, 1, 2)")
    migrate(migrations, keyed("number", "part"))
    run(pg_engine, "INSERT INTO badge VALUES (8, 1)")
    query = "SELECT ROW(number, part, page)::text FROM badge_event ORDER BY pgh_id"
    assert scalars(pg_engine, query) == ["(7,1,2)", "(8,1,)"]


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Letter(TypeDecorator[Any]):
    impl = Enum("a", "b", name="letter")
    cache_ok = True


def test_types_of_its_own_come_with_the_tracked_table(
    migrations: Any, pg_engine: Engine
) -> None:
    metadata = MetaData()
    migrations.options = {"user_module_prefix": ""}
    track(Snapshot, context_columns=[Column("why", Enum("p", "q", name="why"))])(
        account(
            metadata,
            Column("colour", Enum(Colour, name="colour")),
            Column("flags", ARRAY(Enum("x", "y", name="flag"))),
            Column("letter", Letter),
            Column("size", Enum("s", "m", native_enum=False)),
            Column("age", DOMAIN("age", Integer, check="VALUE > 0")),
        )
    )
    template = migrations.directory / "script.py.mako"
    # Integer, because SQLAlchemy 2.0 names a domain's type without its module.
    header = f"from sqlalchemy import Integer\nfrom {__name__} import Letter\n"
    template.write_text(header + template.read_text())
    migrate(migrations, metadata)
    values = "(1, 'n', 'RED', '{x,y}', 'b', 's', 7)"
    run(pg_engine, f"INSERT INTO account VALUES {values}")
    assert scalars(
        pg_engine,
        "SELECT ROW(colour, flags, letter, size, age)::text FROM account_event",
    ) == ['(RED,"{x,y}",b,s,7)']


def test_a_table_may_refer_to_events(migrations: Any, pg_engine: Engine) -> None:
    metadata = tracked()
    Table(
        "comment",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("event_id", ForeignKey("account_event.pgh_id")),
    )
    Table("reply", metadata, Column("id", ForeignKey("comment.id"), primary_key=True))
    migrate(migrations, metadata)


def test_names_that_the_models_give_are_used(
    migrations: Any, pg_engine: Engine
) -> None:
    metadata = MetaData(naming_convention=NAMES)
    table = account(metadata)
    track(event_table="Account's log")(table)
    track(AfterDelete, events="gone")(table)
    migrate(migrations, metadata)
    run(pg_engine, "INSERT INTO account VALUES (1)", "DELETE FROM account")
    assert scalars(pg_engine, 'SELECT pgh_label FROM "Account\'s log"') == [
        "snapshot",
        "delete",
    ]
    assert scalars(pg_engine, "SELECT pgh_label FROM account_log") == ["delete"]


def boxes(*key: Column[Any], **options: Any) -> MetaData:
    metadata = MetaData()
    table = Table(
        "box",
        metadata,
        *key,
        Column("id", Integer, primary_key=True),
        Column("n", Integer),
    )
    track(Snapshot, **options)(table)
    return metadata


# The server default of a column that comes to the key, what it is in the table, and
# what it is in the event from before.
DEFAULTS: dict[str, tuple[Any, str, Any]] = {
    "a value": ("1", "1", 1),
    "an expression that is a value": (text("-7"), "-7", -7),
    "a quoted value": (text("'12'"), "12", 12),
    "another value in each row": (text("ceil(random() * 9)::int"), "5", None),
    "a function": (func.pg_backend_pid(), "5", None),
    "none": (None, "5", None),
}


@pytest.mark.parametrize("default", DEFAULTS)
def test_a_key_may_get_a_second_column(
    migrations: Any, pg_engine: Engine, default: str
) -> None:
    """An event from before gets the value that all rows get, or none."""
    server_default, value, past = DEFAULTS[default]
    migrate(migrations, boxes(append_only=True))
    run(pg_engine, "INSERT INTO box VALUES (7, 1)")
    # By hand: what the rows have there, and the key, which Alembic does not compare.
    run(
        pg_engine,
        f"ALTER TABLE box ADD tenant int NOT NULL DEFAULT {value}",
        "ALTER TABLE box DROP CONSTRAINT box_pkey, ADD PRIMARY KEY (tenant, id)",
    )
    tenant = Column("tenant", Integer, primary_key=True, server_default=server_default)
    migrate(migrations, boxes(tenant, append_only=True))
    run(pg_engine, "INSERT INTO box (tenant, id, n) VALUES (2, 7, 9)")
    query = "SELECT tenant FROM box_event ORDER BY pgh_id"
    assert scalars(pg_engine, query) == [past, 2]
    query = "SELECT column_default FROM information_schema.columns " + (
        "WHERE table_name = 'box_event' AND column_name = 'tenant'"
    )
    assert scalars(pg_engine, query) == [None]
    migrations.downgrade()
    assert scalars(pg_engine, "SELECT n FROM box_event ORDER BY pgh_id") == [1, 9]
    migrations.upgrade()


def test_a_key_may_lose_its_second_column_and_get_it_back(
    migrations: Any, pg_engine: Engine
) -> None:
    def tenant() -> Column[Any]:
        return Column("tenant", Integer, primary_key=True)

    migrate(migrations, boxes(tenant()))
    run(pg_engine, "INSERT INTO box VALUES (1, 1, 1)")
    run(pg_engine, "ALTER TABLE box DROP tenant, ADD PRIMARY KEY (id)")
    migrate(migrations, boxes())
    run(pg_engine, "INSERT INTO box VALUES (2, 2)")
    run(pg_engine, "ALTER TABLE box ADD tenant int NOT NULL DEFAULT 3")
    migrate(migrations, boxes(tenant()))
    run(pg_engine, "INSERT INTO box (id, n, tenant) VALUES (3, 3, 4)")
    query = "SELECT ROW(pgh_obj_id, tenant, id)::text FROM box_event ORDER BY pgh_id"
    assert scalars(pg_engine, query) == ["(,1,1)", "(2,,2)", "(,4,3)"]


def test_a_context_that_becomes_required_is_required_of_new_events(
    migrations: Any, pg_engine: Engine
) -> None:
    migrate(migrations, boxes())
    run(pg_engine, "INSERT INTO box VALUES (1, 1)")
    user = Column("user", Text, nullable=False)
    migrate(migrations, boxes(context_columns=[user]))
    with pytest.raises(DBAPIError, match='needs a context with the key "user"'):
        run(pg_engine, "INSERT INTO box VALUES (2, 1)")
    assert scalars(pg_engine, 'SELECT "user" FROM box_event') == [None]
    # As a context column that may be NULL, and then may not.
    migrate(migrations, boxes(context_columns=[Column("user", Text)]))
    run(pg_engine, "INSERT INTO box VALUES (2, 1)")
    migrate(migrations, boxes(context_columns=[Column("user", Text, nullable=False)]))
    with pytest.raises(DBAPIError, match='needs a context with the key "user"'):
        run(pg_engine, "INSERT INTO box VALUES (3, 1)")


def test_seals_come_with_a_revision_and_stay_when_no_model_asks_for_them(
    migrations: Any, pg_engine: Engine, pg_url: URL, dump: Callable[[URL], str]
) -> None:
    migrate(migrations, tracked(Snapshot))
    before = dump(pg_url)
    run(pg_engine, "INSERT INTO account VALUES (1)")
    sealed = tracked(Snapshot, sealed=True, erasable_context=["ip"])
    revision = migrate(migrations, sealed)
    assert "op.create_table('pghistory_seal'" in revision
    assert "pgh_erased" in revision
    assert seal(pg_engine, sealed).chains["pghistory_seal"].number == 1
    assert verify(pg_engine, sealed).events == 1
    assert "op.drop_table" not in migrate(migrations, tracked(Snapshot))
    assert verify(pg_engine, sealed).discrepancies == ()
    migrations.downgrade()
    migrations.downgrade()
    assert dump(pg_url) == before
