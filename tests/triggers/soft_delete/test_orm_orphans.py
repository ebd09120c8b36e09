"""Orphans, and objects that move from one parent to another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

import sa_history as history
from sa_history import SoftDelete, attach
from tests.triggers.soft_delete.helpers import make_family, states

Stored = Callable[..., list[tuple[Any, ...]]]
InSession = Callable[[Callable[[Session], Any]], Any]


@pytest.mark.parametrize("back", [True, False])
@pytest.mark.parametrize("remove", ["remove", "replace", "clear"])
def test_an_orphan_is_marked_and_keeps_its_parent(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
    back: bool,
    remove: str,
) -> None:
    parent, child = make_family(base, "child", cascade="all, delete-orphan", back=back)
    create_all()

    def work(session: Session) -> None:
        one = parent(id=1, children=[child(id=1)])
        session.add(one)
        session.commit()
        orphan = one.children[0]
        if remove == "remove":
            one.children.remove(orphan)
        elif remove == "clear":
            one.children.clear()
        else:
            one.children = [child(id=2)]
        session.flush()
        assert states(orphan) == {"persistent"}
        assert (orphan.is_active, orphan.parent_id) == (False, 1)
        # It is no orphan now, as its row is none: it may be changed.
        orphan.name = one.name = "b"
        session.flush()
        assert states(orphan) == {"persistent"}
        session.commit()
        assert orphan in one.children

    in_session(work)
    assert stored(child)[:1] == [(1, "b", 1, False)]
    assert len(stored(child)) == (2 if remove == "replace" else 1)


def test_an_orphan_that_finds_another_parent_is_not_deleted(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    parent, child = make_family(base, "child", cascade="all, delete-orphan")
    create_all()

    def work(session: Session) -> None:
        one, two = parent(id=1, children=[child(id=1)]), parent(id=2)
        session.add_all([one, two])
        session.commit()
        two.children.append(one.children[0])
        session.commit()

    in_session(work)
    assert stored(child) == [(1, "a", 2, True)]


def test_ignored_it_deletes_an_orphan(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    stored: Stored,
) -> None:
    parent, child = make_family(base, "child", cascade="all, delete-orphan")
    create_all()
    one = parent(id=1, children=[child(id=1)])
    pg_session.add(one)
    pg_session.commit()
    orphan = one.children.pop()
    with history.ignore(pg_session, child):
        pg_session.flush()
    assert states(orphan) == {"deleted"}
    pg_session.commit()
    assert stored(child) == []


def test_an_object_that_is_moved_and_deleted_stays_where_it_was(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    parent, child = make_family(base, "child")
    create_all()

    def work(session: Session) -> None:
        one, two = parent(id=1, children=[child(id=1), child(id=2)]), parent(id=2)
        session.add_all([one, two])
        session.commit()
        first, second = one.children
        assert two.children == []
        first.parent = two
        two.children.append(second)
        session.delete(first)
        session.delete(second)
        session.flush()
        assert (first.parent, second.parent) == (one, one)
        assert two.children == []
        session.commit()

    in_session(work)
    assert stored(child) == [(1, "a", 1, False), (2, "a", 1, False)]


def test_an_object_that_is_moved_from_a_parent_nobody_has_read_stays_there(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    parent, child = make_family(base, "child")
    create_all()

    def work(session: Session) -> None:
        session.add_all([parent(id=1, children=[child(id=1)]), parent(id=2)])
        session.commit()
        session.expunge_all()
        one, two = session.get_one(child, 1), session.get_one(parent, 2)
        assert two.children == []
        one.parent = two
        session.delete(one)
        session.flush()
        assert two.children == []
        assert one.parent.id == 1
        session.commit()

    in_session(work)
    assert stored(child) == [(1, "a", 1, False)]


def test_a_child_that_is_added_to_a_deleted_parent_is_added(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    parent, child = make_family(base, "parent")
    create_all()

    def work(session: Session) -> None:
        one = parent(id=1)
        session.add(one)
        session.commit()
        one.children.append(child(id=1))
        session.delete(one)
        session.commit()

    in_session(work)
    assert stored(parent) == [(1, "a", False)]
    assert stored(child) == [(1, "a", 1, True)]


def test_an_only_child_that_is_replaced_is_marked(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    class User(base):  # type: ignore[misc, valid-type]
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        address = relationship(
            "Address",
            uselist=False,
            cascade="all, delete-orphan",
            primaryjoin="and_(User.id == Address.user_id, Address.is_active)",
        )

    @attach(SoftDelete("is_active"))
    class Address(base):  # type: ignore[misc, valid-type]
        __tablename__ = "address"
        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
        is_active: Mapped[bool] = mapped_column(default=True)

    create_all()

    def work(session: Session) -> None:
        user = User(id=1, address=Address(id=1))
        session.add(user)
        session.commit()
        user.address = Address(id=2)
        session.commit()
        assert user.address.id == 2
        user.address = None
        session.commit()
        assert user.address is None

    in_session(work)
    assert stored(Address) == [(1, 1, False), (2, 1, False)]
