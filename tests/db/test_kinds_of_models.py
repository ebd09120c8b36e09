"""Tracking of models of other kinds: dataclasses, Core tables, partitioned tables."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    Uuid,
    delete,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    mapped_column,
    relationship,
)

import sa_history as history
from sa_history import (
    AfterDelete,
    AfterInsert,
    AfterUpdate,
    Audit,
    Delete,
    HistoryMixin,
    Manual,
    Snapshot,
    attach,
    audit_table,
    new,
    track,
)
from tests.db.helpers import BY

Recorded = Callable[..., list[tuple[Any, ...]]]
CreateAll = Callable[[], None]


def test_dataclasses_are_tracked_by_decorator_and_by_mixin(
    pg_engine: Engine, level: str, recorded: Recorded
) -> None:
    class Base(MappedAsDataclass, DeclarativeBase, kw_only=True):
        pass

    @track(Snapshot, Manual("seen"), level=level)
    class Account(Base):
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        balance: Mapped[int] = mapped_column(default=5)

    class Owner(HistoryMixin, Base):
        __tablename__ = "owner"
        __history_options__ = {"level": level}
        id: Mapped[int] = mapped_column(primary_key=True)

    Base.metadata.create_all(pg_engine)
    with Session(pg_engine) as session:
        account = Account()
        session.add_all([account, Owner(id=1)])
        history.create_event(session, account, label="seen")
        session.commit()
    assert recorded(Account, "id", "balance") == [
        ("snapshot", "I", 1, 5, None),
        ("seen", "M", 1, 5, None),
    ]
    assert recorded(Owner, "id") == [("snapshot", "I", 1, None)]


def test_table_without_a_key_is_tracked(
    pg_engine: Engine, level: str, recorded: Recorded
) -> None:
    readings = Table(
        "readings",
        MetaData(),
        Column("at", Integer),
        Column("Value", Integer, key="value"),
    )
    track(Snapshot, AfterUpdate(new.value > 5, label="high"), AfterDelete, level=level)(
        readings
    )
    readings.metadata.create_all(pg_engine)
    with pg_engine.begin() as connection, history.context(connection, **BY):
        # Rows that nothing tells apart.
        connection.execute(insert(readings), [{"at": 1, "value": 1}] * 2)
        connection.execute(update(readings).values(value=readings.c.value + 5))
        connection.execute(delete(readings))
    assert recorded(readings, "at", "value") == [
        *[("snapshot", "I", 1, 1, BY)] * 2,
        *(
            [("snapshot", "U", 1, 6, BY)] * 2 + [("high", "U", 1, 6, BY)] * 2
            if level == "statement"
            else [("snapshot", "U", 1, 6, BY), ("high", "U", 1, 6, BY)] * 2
        ),
        *[("delete", "D", 1, 6, BY)] * 2,
    ]
    table = history.events(readings).table
    assert "pgh_obj_id" not in table.c


def test_association_table_records_who_is_in_and_out(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    level: str,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    members = Table(
        "members",
        base.metadata,
        Column("group_id", ForeignKey("group.id"), primary_key=True),
        Column("user_id", ForeignKey("user.id"), primary_key=True),
    )
    track(AfterInsert(label="joined"), AfterDelete(label="left"), level=level)(members)

    class User(base):  # type: ignore[misc, valid-type]
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Group(base):  # type: ignore[misc, valid-type]
        __tablename__ = "group"
        id: Mapped[int] = mapped_column(primary_key=True)
        users: Mapped[list[User]] = relationship(secondary=members)

    create_all()
    ann, bob = User(id=1), User(id=2)
    group = Group(id=3, users=[ann, bob])
    pg_session.add(group)
    with history.context(pg_session, **BY):
        pg_session.flush()
        group.users.remove(ann)
        pg_session.commit()
    assert recorded(members, "group_id", "user_id") == [
        ("joined", "I", 3, 1, BY),
        ("joined", "I", 3, 2, BY),
        ("left", "D", 3, 1, BY),
    ]


def test_column_with_the_type_of_its_foreign_key_is_tracked_before_that_exists(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    level: str,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    @track(Snapshot, AfterDelete, Manual("seen"), level=level)
    class Profile(base):  # type: ignore[misc, valid-type]
        __tablename__ = "profile"
        user_id: Mapped[uuid.UUID] = mapped_column(
            ForeignKey("user.id"), primary_key=True
        )
        friend_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user.id"))

    class User(base):  # type: ignore[misc, valid-type]
        __tablename__ = "user"
        id: Mapped[uuid.UUID] = mapped_column(primary_key=True)

    columns = Profile.events.table.c
    for name in ("pgh_obj_id", "user_id", "friend_id"):
        assert isinstance(columns[name].type, Uuid)
        assert not columns[name].foreign_keys
    create_all()
    ann, bob = uuid.UUID(int=1), uuid.UUID(int=2)
    pg_session.add_all([User(id=ann), User(id=bob)])
    pg_session.flush()
    profile = Profile(user_id=ann)
    pg_session.add(profile)
    pg_session.flush()
    profile.friend_id = bob
    pg_session.flush()
    history.create_event(pg_session, profile, label="seen")
    pg_session.commit()
    assert recorded(Profile, "pgh_obj_id", "user_id", "friend_id") == [
        ("snapshot", "I", ann, ann, None, None),
        ("snapshot", "U", ann, ann, bob, None),
        ("seen", "M", ann, ann, bob, None),
    ]
    of_bob = Profile.events.where(Profile.events.friend_id == bob)
    assert len(pg_session.scalars(of_bob).all()) == 2
    copied = Profile.events.table.to_metadata(MetaData())
    assert isinstance(copied.c.friend_id.type, Uuid)


@pytest.fixture
def partitioned(
    base: type[DeclarativeBase], create_all: CreateAll, level: str, pg_engine: Engine
) -> Any:
    """A table in two parts, for days below 10 and above."""

    @track(
        Snapshot,
        AfterUpdate(new.value > 100, label="high"),
        AfterDelete,
        level=level,
    )
    class Reading(base):  # type: ignore[misc, valid-type]
        __tablename__ = "reading"
        __table_args__ = {"postgresql_partition_by": "RANGE (day)"}
        day: Mapped[int] = mapped_column(primary_key=True)
        value: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    with pg_engine.begin() as connection:
        part = "CREATE TABLE {} PARTITION OF reading FOR VALUES FROM ({}) TO ({})"
        connection.execute(text(part.format("early", 0, 10)))
        connection.execute(text(part.format("late", 10, 20)))
    return Reading


def test_partitioned_table_is_recorded_through_the_parent(
    partitioned: Any, pg_session: Session, recorded: Recorded
) -> None:
    with history.context(pg_session, **BY):
        rows = [{"day": day, "value": 1} for day in (5, 15)]
        pg_session.execute(insert(partitioned), rows)
        pg_session.execute(text("UPDATE reading SET value = 101 WHERE day = 15"))
        pg_session.execute(text("DELETE FROM reading WHERE day = 5"))
        pg_session.execute(text("TRUNCATE reading"))
        pg_session.commit()
    assert recorded(partitioned, "day", "value") == [
        ("snapshot", "I", 5, 1, BY),
        ("snapshot", "I", 15, 1, BY),
        ("snapshot", "U", 15, 101, BY),
        ("high", "U", 15, 101, BY),
        ("delete", "D", 5, 1, BY),
        ("delete", "T", 15, 101, BY),
    ]


def test_row_that_moves_to_another_partition_is_recorded(
    partitioned: Any, pg_session: Session, recorded: Recorded
) -> None:
    pg_session.execute(text("INSERT INTO reading VALUES (5, 1), (6, 2), (15, 3)"))
    pg_session.execute(text("UPDATE reading SET day = day + 4, value = value * 100"))
    pg_session.commit()
    found = sorted(recorded(partitioned, "day", "value")[3:], key=lambda e: e[3])
    # For PostgreSQL's row triggers a move is a DELETE and an INSERT.
    assert found == [
        ("delete", "D", 6, 2, None),
        ("snapshot", "U", 9, 100, None),
        ("snapshot", "I", 10, 200, None),
        ("snapshot", "U", 19, 300, None),
        ("high", "U", 19, 300, None),
    ]


def test_row_that_merge_moves_to_another_partition_is_recorded(
    partitioned: Any, pg_session: Session, recorded: Recorded
) -> None:
    """PostgreSQL tells triggers for each statement nothing of such a row."""
    pg_session.execute(text("INSERT INTO reading VALUES (5, 1), (6, 2)"))
    pg_session.execute(
        text(
            "MERGE INTO reading AS r USING (VALUES (5)) AS v (day) ON r.day = v.day"
            " WHEN MATCHED THEN UPDATE SET day = 15"
        )
    )
    pg_session.commit()
    assert recorded(partitioned, "day", "value")[2:] == [
        ("delete", "D", 5, 1, None),
        ("snapshot", "I", 15, 1, None),
    ]


def test_write_to_a_partition_itself_is_recorded(
    partitioned: Any, pg_session: Session, recorded: Recorded
) -> None:
    pg_session.execute(text("INSERT INTO early VALUES (5, 1)"))
    pg_session.execute(text("UPDATE early SET value = 101"))
    pg_session.commit()
    assert recorded(partitioned, "day", "value") == [
        ("snapshot", "I", 5, 1, None),
        ("snapshot", "U", 5, 101, None),
        ("high", "U", 5, 101, None),
    ]


def test_partition_that_only_the_database_has_is_written_without_an_event_by_statement(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    level: str,
    pg_session: Session,
    recorded: Recorded,
) -> None:
    @track(Snapshot, AfterDelete, level=level)
    class Reading(base):  # type: ignore[misc, valid-type]
        __tablename__ = "reading"
        id: Mapped[int] = mapped_column(primary_key=True)

    for statement in (
        "CREATE TABLE reading (id integer PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE early PARTITION OF reading FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE late PARTITION OF reading DEFAULT",
    ):
        pg_session.execute(text(statement))
    pg_session.commit()
    create_all()
    pg_session.execute(text("INSERT INTO early VALUES (1)"))
    pg_session.execute(text("UPDATE reading SET id = 11"))
    pg_session.commit()
    # The trigger of a statement is the named table's, which is not tracked.
    assert recorded(Reading, "id") == (
        [("snapshot", "U", 11, None)]
        if level == "statement"
        else [
            ("snapshot", "I", 1, None),
            ("delete", "D", 1, None),
            ("snapshot", "I", 11, None),
        ]
    )


def test_table_that_inherits_is_recorded_through_the_parent(
    pg_engine: Engine, level: str, recorded: Recorded
) -> None:
    metadata = MetaData()
    Table("account", metadata, Column("id", Integer, primary_key=True))
    saving = Table(
        "saving",
        metadata,
        Column("id", Integer, primary_key=True),
        postgresql_inherits="account",
    )
    track(level=level)(saving)
    metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(insert(saving), [{"id": 1}, {"id": 2}])
        connection.execute(text("INSERT INTO account VALUES (3)"))
        connection.execute(text("UPDATE account SET id = id + 10 WHERE id <> 2"))
        connection.execute(text("DELETE FROM account WHERE id = 2"))
        connection.execute(text("TRUNCATE account"))
    assert recorded(saving, "id") == [
        ("snapshot", "I", 1, None),
        ("snapshot", "I", 2, None),
        ("snapshot", "U", 11, None),
        ("delete", "D", 2, None),
        ("delete", "T", 11, None),
    ]


@pytest.fixture
def with_children(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    level: str,
    pg_session: Session,
) -> tuple[Any, Table]:
    """A table, from which two others inherit, and a log of its deletions.

    Each of the three has one row.
    """
    log = audit_table("audit_log", base.metadata)

    @track(AfterDelete, level=level)
    @attach(Audit(into=log, operation=Delete, level=level))
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    for statement in (
        "CREATE TABLE saving () INHERITS (account)",
        "CREATE TABLE bond () INHERITS (saving)",
        "INSERT INTO account VALUES (1)",
        "INSERT INTO saving VALUES (2)",
        "INSERT INTO bond VALUES (3)",
    ):
        pg_session.execute(text(statement))
    pg_session.commit()
    return Account, log


@pytest.mark.parametrize(
    ("truncate", "ids"),
    [
        ("TRUNCATE account", [1, 2, 3]),
        ("TRUNCATE ONLY account", [1]),
        ("TRUNCATE ONLY account, bond", [1, 3]),
        ("TRUNCATE saving", []),
    ],
)
def test_truncate_is_recorded_of_rows_that_go_and_of_no_others(
    with_children: tuple[Any, Table],
    truncate: str,
    ids: list[int],
    pg_session: Session,
    recorded: Recorded,
) -> None:
    account, log = with_children
    pg_session.execute(text(truncate))
    pg_session.commit()
    assert recorded(account, "id") == [("delete", "T", id_, None) for id_ in ids]
    assert pg_session.scalars(select(log.c.key)).all() == [{"id": id_} for id_ in ids]
