"""Foreign keys and their cascades, from and to rows that are marked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    Table,
    Text,
    delete,
    insert,
    select,
    text,
    types,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateSchema

import sa_history as history
from sa_history import SoftDelete, attach, old
from tests.triggers.soft_delete.helpers import add_family, family

Stored = Callable[..., list[tuple[Any, ...]]]


@pytest.mark.parametrize("ondelete", ["CASCADE", "cascade", None, "RESTRICT"])
def test_a_row_that_marked_rows_refer_to_cannot_be_deleted(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    stored: Stored,
    ondelete: str | None,
) -> None:
    parent, child = family(base, "child", ondelete)
    create_all()
    add_family(pg_session, parent, child)
    with pytest.raises(IntegrityError):
        pg_session.execute(text("DELETE FROM parent WHERE id = 1"))
    pg_session.rollback()
    assert stored(parent, "id") == [(1,), (2,)]
    assert stored(child) == [(1, 1, True), (2, 2, True), (3, None, True)]

    pg_session.execute(text("DELETE FROM child"))
    with pytest.raises(IntegrityError):
        pg_session.execute(text("DELETE FROM parent WHERE id = 1"))


def test_the_error_of_a_cascade_names_what_is_in_the_way(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    parent, child = family(base, "child", "CASCADE")
    create_all()
    add_family(pg_session, parent, child)
    with pytest.raises(IntegrityError) as caught:
        pg_session.execute(text("DELETE FROM parent WHERE id = 1"))
    error: Any = caught.value.orig
    assert error.sqlstate == "23503"
    assert error.diag.message_primary == (
        "DELETE of public.child is refused: its row in parent is deleted"
    )
    assert error.diag.message_hint == (
        "The row stays, marked; mark what it refers to as well."
    )
    assert (error.diag.schema_name, error.diag.table_name) == ("public", "child")


def test_ignored_a_cascade_goes_through(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    stored: Stored,
) -> None:
    parent, child = family(base, "child", "CASCADE")
    create_all()
    add_family(pg_session, parent, child)
    with history.ignore(pg_session, child, "soft_delete"):
        pg_session.execute(text("DELETE FROM parent WHERE id = 1"))
    pg_session.commit()
    assert stored(child, "id") == [(2,), (3,)]


def test_a_cascade_deletes_rows_that_the_condition_leaves_out(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    stored: Stored,
) -> None:
    parent, child = family(base, "child", "CASCADE", condition=old.id > 1)
    create_all()
    add_family(pg_session, parent, child)
    pg_session.execute(text("DELETE FROM parent WHERE id = 1"))
    pg_session.commit()
    assert stored(child, "id") == [(2,), (3,)]
    with pytest.raises(IntegrityError, match="its row in parent is deleted"):
        pg_session.execute(text("DELETE FROM parent WHERE id = 2"))


def test_set_null_leaves_rows_without_the_row_they_referred_to(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    stored: Stored,
) -> None:
    parent, child = family(base, "child", "SET NULL")
    create_all()
    add_family(pg_session, parent, child)
    pg_session.execute(text("DELETE FROM child WHERE id = 1"))
    pg_session.execute(text("DELETE FROM parent"))
    pg_session.commit()
    assert stored(child) == [(1, None, False), (2, None, True), (3, None, True)]


@pytest.mark.parametrize("ondelete", ["CASCADE", "SET NULL", "RESTRICT", None])
def test_nothing_happens_to_what_refers_to_a_row_that_is_marked(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    stored: Stored,
    ondelete: str | None,
) -> None:
    parent, child = family(base, "parent", ondelete)
    create_all()
    add_family(pg_session, parent, child)
    pg_session.execute(text("DELETE FROM parent WHERE id = 1"))
    pg_session.commit()
    assert stored(parent) == [(1, False), (2, True)]
    assert stored(child) == [(1, 1, True), (2, 2, True), (3, None, True)]


@pytest.fixture
def node(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    """A tree whose leaves are deleted and whose other rows are marked."""

    @attach(SoftDelete("is_active", condition=old.kind == "soft"))
    class Node(base):  # type: ignore[misc, valid-type]
        __tablename__ = "node"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int | None] = mapped_column(
            ForeignKey("node.id", ondelete="CASCADE")
        )
        kind: Mapped[str] = mapped_column(default="soft")
        is_active: Mapped[bool] = mapped_column(default=True)

    create_all()
    return Node


def test_a_tree_is_marked_row_by_row(
    node: Any, pg_session: Session, stored: Stored
) -> None:
    pg_session.add(node(id=1))
    pg_session.flush()
    pg_session.add_all([node(id=2, parent_id=1), node(id=3, parent_id=1)])
    pg_session.commit()
    pg_session.execute(text("DELETE FROM node WHERE id < 3"))
    pg_session.commit()
    assert stored(node, "id", "parent_id", "is_active") == [
        (1, None, False),
        (2, 1, False),
        (3, 1, True),
    ]


@pytest.mark.parametrize("which", ["id = 1", "true"])
def test_a_tree_whose_root_is_deleted_for_good_stays_whole(
    node: Any, pg_session: Session, stored: Stored, which: str
) -> None:
    pg_session.add(node(id=1, kind="hard"))
    pg_session.flush()
    pg_session.add(node(id=2, parent_id=1))
    pg_session.commit()
    with pytest.raises(IntegrityError, match="its row in node is deleted"):
        pg_session.execute(text(f"DELETE FROM node WHERE {which}"))
    pg_session.rollback()
    assert stored(node, "id", "is_active") == [(1, True), (2, True)]


def test_a_cascade_over_a_composite_key_in_another_schema_is_refused(
    pg_engine: Engine, stored: Stored
) -> None:
    metadata = MetaData()
    parent = Table(
        'par"ent',
        metadata,
        Column("a 1", Integer, primary_key=True),
        Column('b"%', Text, primary_key=True),
        schema="else where",
    )
    child = Table(
        "child",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("a", Integer),
        Column("B", Text),
        Column("is_active", types.Boolean),
        ForeignKeyConstraint(
            ["a", "B"], [parent.c["a 1"], parent.c['b"%']], ondelete="CASCADE"
        ),
    )
    attach(SoftDelete("is_active"))(child)
    engine = pg_engine.execution_options(
        schema_translate_map={"else where": 'ten"ant %', None: "other"}
    )
    with pg_engine.begin() as connection:
        connection.execute(CreateSchema('ten"ant %'))
        connection.execute(CreateSchema("other"))
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(parent).values([(1, "x"), (2, "x")]))
        connection.execute(
            insert(child).values([(1, 1, "x", True), (2, None, "x", True)])
        )
        connection.execute(delete(child).where(child.c.id == 2))
        connection.execute(delete(parent).where(parent.c["a 1"] == 2))
    with (
        pytest.raises(IntegrityError, match="is refused"),
        engine.begin() as connection,
    ):
        connection.execute(delete(parent))
    with engine.connect() as connection:
        assert connection.execute(select(child).order_by("id")).all() == [
            (1, 1, "x", True),
            (2, None, "x", False),
        ]


def test_a_cascade_from_a_table_that_is_defined_later_is_looked_at(
    pg_engine: Engine,
) -> None:
    metadata = MetaData()
    child = Table(
        "child",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("parent_id", ForeignKey("parent.id", ondelete="CASCADE")),
        Column("is_active", types.Boolean),
    )
    attach(SoftDelete("is_active"))(child)
    parent = Table("parent", metadata, Column("id", Integer, primary_key=True))
    metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(insert(parent).values(id=1))
        connection.execute(insert(child).values(id=1, parent_id=1, is_active=True))
    with (
        pytest.raises(IntegrityError, match="its row in parent is deleted"),
        pg_engine.begin() as connection,
    ):
        connection.execute(delete(parent))


def test_two_cascades_are_both_looked_at(pg_engine: Engine) -> None:
    metadata = MetaData()
    one = Table("one", metadata, Column("id", Integer, primary_key=True))
    two = Table("two", metadata, Column("id", Integer, primary_key=True))
    both = Table(
        "both",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("two_id", ForeignKey(two.c.id, ondelete="CASCADE")),
        Column("one_id", ForeignKey(one.c.id, ondelete="CASCADE")),
        Column("is_active", types.Boolean),
    )
    attach(SoftDelete("is_active"))(both)
    metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(insert(one).values(id=1))
        connection.execute(insert(two).values(id=1))
        connection.execute(insert(both).values(id=1, one_id=1, two_id=1))
    for table in (one, two):
        with (
            pytest.raises(IntegrityError, match=f"its row in {table.name} is deleted"),
            pg_engine.begin() as connection,
        ):
            connection.execute(delete(table))
