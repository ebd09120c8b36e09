"""A model's life in revisions, each made by autogenerate: up, down and up again.

At every step ``alembic check`` finds nothing, writes are recorded, and a dump of the
schema after a downgrade is the one from before the upgrade.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import (
    URL,
    BigInteger,
    Boolean,
    Column,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    select,
    text,
)

from sa_history import (
    AfterDelete,
    AfterInsert,
    AfterUpdate,
    Insert,
    Manual,
    Protect,
    ReadOnly,
    Referencing,
    Snapshot,
    Trigger,
    Versioned,
    attach,
    new,
    old,
    track,
    view,
)
from sa_history.definition.operations import Delete, Update

pytestmark = pytest.mark.long

FOREIGN = """
CREATE EXTENSION citext;
CREATE SCHEMA crm;
CREATE TABLE foreign_log (id int PRIMARY KEY, name citext);
CREATE FUNCTION foreign_stamp() RETURNS trigger LANGUAGE plpgsql
  AS 'BEGIN RETURN NEW; END';
COMMENT ON FUNCTION foreign_stamp() IS 'not of sa_history';
CREATE TRIGGER foreign_stamp BEFORE INSERT ON foreign_log
  FOR EACH ROW EXECUTE FUNCTION foreign_stamp();
CREATE TABLE foreign_part (id int, day date) PARTITION BY RANGE (day);
CREATE TABLE foreign_part_1 PARTITION OF foreign_part
  FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TRIGGER foreign_part BEFORE INSERT ON foreign_part
  FOR EACH ROW EXECUTE FUNCTION foreign_stamp();
CREATE VIEW foreign_view AS SELECT id FROM foreign_log;
CREATE SEQUENCE foreign_seq;
"""


@dataclass(frozen=True)
class Step:
    """One change of the models.

    :param models: adds the tables to a MetaData.
    :param writes: statements to run then.
    :param events: the labels that they leave.
    :param x: what autogenerate is told.
    :param mentions: what the revision has to have.
    """

    models: Callable[[MetaData], Any]
    writes: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    x: tuple[str, ...] = ()
    mentions: tuple[str, ...] = ()


def account(metadata: MetaData, *columns: Column[Any], **options: Any) -> Table:
    return Table(
        options.pop("name", "account"),
        metadata,
        Column("id", Integer, primary_key=True),
        *columns,
        **options,
    )


def name() -> Column[Any]:
    return Column("name", Text, nullable=False)


def balance(type_: Any = Integer) -> Column[Any]:
    return Column("balance", type_)


INSERT = "INSERT INTO account (id, name) VALUES (7, 'a')"
UPDATE = "UPDATE account SET name = 'b' WHERE id = 7"
DELETE = "DELETE FROM account WHERE id = 7"


def untracked(metadata: MetaData) -> None:
    account(metadata, name())


def tracked(metadata: MetaData) -> None:
    track(Snapshot)(account(metadata, name()))


def other_trackers(metadata: MetaData) -> None:
    track(AfterInsert, AfterDelete(label="gone"))(account(metadata, name()))


def with_condition(metadata: MetaData) -> None:
    track(AfterUpdate(old.name != new.name, label="renamed"), Manual("seen"))(
        account(metadata, name())
    )


def other_condition(metadata: MetaData) -> None:
    track(AfterUpdate(new.name == "b", label="named b"))(account(metadata, name()))


def by_row(metadata: MetaData) -> None:
    track(AfterUpdate(new.name == "b", label="named b"), level="row")(
        account(metadata, name())
    )


def more_columns(metadata: MetaData) -> None:
    track(
        AfterInsert,
        AfterUpdate(new.balance > 5, label="rich"),
        AfterDelete,
        level="row",
    )(account(metadata, name(), balance()))


def retyped(metadata: MetaData) -> None:
    track(
        AfterInsert,
        AfterUpdate(new.balance > 5, label="rich"),
        AfterDelete,
        level="row",
    )(account(metadata, name(), balance(BigInteger)))


def renamed_column(metadata: MetaData) -> None:
    rich = AfterUpdate(new.money > 5, label="rich")
    table = account(metadata, name(), Column("money", BigInteger))
    track(AfterInsert, rich, AfterDelete, level="row")(table)


def dropped_column(metadata: MetaData) -> None:
    track(Snapshot, level="row")(account(metadata, name()))


def excluding(metadata: MetaData) -> None:
    track(Snapshot, exclude=["name"], append_only=True)(account(metadata, name()))


# What is dropped comes back as the last column, so only one goes at a time.
def version() -> Column[Any]:
    return Column("version", Integer, nullable=False, server_default="1")


def active() -> Column[Any]:
    return Column("active", Boolean, nullable=False, server_default=text("true"))


def attached(metadata: MetaData) -> None:
    table = account(metadata, name(), version(), active())
    attach(Protect(Delete), ReadOnly("id"), Versioned("version"))(table)
    attach(
        Trigger(
            "count",
            "after",
            Insert,
            level="statement",
            referencing=Referencing(new="added"),
            body="PERFORM format('%s :x {} $$', count(*)) FROM added; RETURN NULL;",
        ),
        Trigger("late", "after", Update, deferrable="deferred", body="RETURN NULL;"),
    )(table)
    track(Snapshot, append_only=True)(table)


def changed_triggers(metadata: MetaData) -> None:
    table = account(metadata, name(), version(), active())
    attach(
        Protect(Delete, condition=old.active.is_(True)), Versioned("version"), DEFERRED
    )(table)
    view("active_account", metadata, select(table.c.id).where(table.c.active))
    track(Snapshot, append_only=True)(table)


DEFERRED = Trigger("late", "after", Update, deferrable="immediate", body="RETURN NULL;")


def changed_view(metadata: MetaData) -> None:
    table = account(metadata, name(), version())
    view(
        "active_account",
        metadata,
        select(table.c.id, table.c.name).where(table.c.name != "50%:x"),
    )
    track(Snapshot, append_only=True)(table)


def renamed_table(metadata: MetaData) -> None:
    track(Snapshot, append_only=True)(account(metadata, name(), name="customer"))


def moved(metadata: MetaData) -> None:
    table = account(metadata, name(), name="customer", schema="crm")
    track(Snapshot, append_only=True)(table)


def twice(metadata: MetaData) -> None:
    table = account(metadata, name(), name="customer", schema="crm")
    track(Snapshot, append_only=True)(table)
    track(
        AfterUpdate(new.name == "b", label="named b"),
        events="log",
        event_table="customer_log",
        context="inline",
        context_columns=[Column("reason", String)],
    )(table)


def back_to_none(metadata: MetaData) -> None:
    account(metadata, name(), name="customer", schema="crm")


CUSTOMER = (
    "INSERT INTO {0} (id, name) VALUES (8, 'a')",
    "UPDATE {0} SET name = 'b' WHERE id = 8",
    "DELETE FROM {0} WHERE id = 8",
)
MOVED = tuple(statement.format("crm.customer") for statement in CUSTOMER)

STEPS = [
    Step(untracked, (INSERT, UPDATE, DELETE)),
    Step(tracked, (INSERT, UPDATE, DELETE), ("snapshot", "snapshot")),
    Step(other_trackers, (INSERT, UPDATE, DELETE), ("insert", "gone")),
    Step(with_condition, (INSERT, UPDATE, UPDATE, DELETE), ("renamed",)),
    Step(other_condition, (INSERT, UPDATE, DELETE), ("named b",)),
    Step(by_row, (INSERT, UPDATE, DELETE), ("named b",)),
    Step(
        more_columns,
        (INSERT, "UPDATE account SET balance = 6", DELETE),
        ("insert", "rich", "delete"),
        mentions=("op.add_column('account'", "op.add_column('account_event'"),
    ),
    Step(
        retyped,
        (INSERT, "UPDATE account SET balance = 6", DELETE),
        ("insert", "rich", "delete"),
        mentions=("op.alter_column('account'", "op.alter_column('account_event'"),
    ),
    Step(
        renamed_column,
        (INSERT, "UPDATE account SET money = 6", DELETE),
        ("insert", "rich", "delete"),
        x=("rename_column=account.balance:money",),
        mentions=("rename column account_event.balance to money",),
    ),
    Step(
        dropped_column,
        (INSERT, UPDATE, DELETE),
        ("snapshot", "snapshot"),
        mentions=("op.drop_column('account', 'money'",),
    ),
    Step(excluding, (INSERT, "UPDATE account SET id = 9"), ("snapshot", "snapshot")),
    Step(untracked, ("DELETE FROM account", INSERT, DELETE)),
    Step(attached, (INSERT, UPDATE), ("snapshot", "snapshot")),
    Step(
        changed_triggers,
        ("UPDATE account SET active = false", DELETE),
        ("snapshot",),
    ),
    Step(changed_view, (INSERT, UPDATE, DELETE), ("snapshot", "snapshot")),
    Step(untracked, (INSERT, DELETE)),
    Step(tracked, (INSERT, UPDATE, DELETE), ("snapshot", "snapshot")),
    Step(
        renamed_table,
        tuple(statement.format("customer") for statement in CUSTOMER),
        ("snapshot", "snapshot"),
        x=("rename_table=account:customer",),
        mentions=("rename table account_event to customer_event",),
    ),
    Step(
        moved,
        MOVED,
        ("snapshot", "snapshot"),
        x=("rename_table=customer:crm.customer",),
        mentions=("rename table customer_event to crm.customer_event",),
    ),
    Step(twice, MOVED, ("snapshot", "snapshot", "named b")),
    Step(back_to_none, MOVED),
]

EVENTS = """
SELECT quote_ident(table_schema) || '.' || quote_ident(table_name)
FROM information_schema.columns WHERE column_name = 'pgh_label' ORDER BY table_name
"""


def events_since(engine: Engine, last: int) -> list[tuple[int, str]]:
    """Return the number and the label of the events of all tables after a number."""
    with engine.connect() as connection:
        found = [
            (row.pgh_id, row.pgh_label)
            for table in connection.scalars(text(EVENTS)).all()
            for row in connection.execute(
                text(f"SELECT pgh_id, pgh_label FROM {table} WHERE pgh_id > {last}")
            )
        ]
    return sorted(found)


@pytest.mark.contrib
def test_each_revision_of_a_models_life_goes_up_down_and_up_again(
    migrations: Any,
    pg_engine: Engine,
    pg_url: URL,
    dump: Callable[[URL], str],
) -> None:
    """Twenty-one revisions, with other objects beside, down to base and up again."""
    with pg_engine.begin() as connection:
        for statement in FOREIGN.split(";\n"):
            connection.exec_driver_sql(statement)
    migrations.options = {
        "include_schemas": True,
        "compare_server_default": True,
        "include_name": lambda name, type_, _: (
            not (type_ == "table" and name.startswith("foreign"))
        ),
    }
    dumps = [dump(pg_url)]
    last = 0
    for step in STEPS:
        migrations.metadata = MetaData()
        step.models(migrations.metadata)
        revision = migrations.revise(*step.x)
        assert "foreign" not in revision
        assert "citext" not in revision
        for mention in step.mentions:
            assert mention in revision
        migrations.upgrade()
        assert migrations.check() == []
        dumps.append(dump(pg_url))
        migrations.downgrade()
        assert dump(pg_url) == dumps[-2]
        migrations.upgrade()
        assert dump(pg_url) == dumps[-1]
        with pg_engine.begin() as connection:
            for statement in step.writes:
                connection.execute(text(statement))
        found = events_since(pg_engine, last)
        assert tuple(label for _, label in found) == step.events, step.models
        last = max([last, *(number for number, _ in found)])
    for expected in reversed(dumps[:-1]):
        migrations.downgrade()
        assert dump(pg_url) == expected
    for expected in dumps[1:]:
        migrations.upgrade("+1")
        assert dump(pg_url) == expected
