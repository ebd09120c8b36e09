"""Deletions that the ORM cascades along relationships."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, Table
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sa_history import SoftDelete, attach
from tests.triggers.soft_delete.helpers import make_family, states

Stored = Callable[..., list[tuple[Any, ...]]]
InSession = Callable[[Callable[[Session], Any]], Any]


@pytest.mark.parametrize("loaded", [True, False])
def test_children_of_a_marked_parent_keep_it(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
    loaded: bool,
) -> None:
    parent, child = make_family(base, "parent")
    create_all()

    def work(session: Session) -> None:
        one = parent(id=1, children=[child(id=1), child(id=2)])
        session.add(one)
        session.commit()
        assert not loaded or len(one.children) == 2
        session.delete(one)
        session.flush()
        assert [c.parent_id for c in one.children] == [1, 1]
        assert all(c.parent is one for c in one.children)
        one.name = "b"
        one.children[0].name = "b"
        session.commit()

    in_session(work)
    assert stored(parent) == [(1, "b", False)]
    assert stored(child) == [(1, "b", 1, True), (2, "a", 1, True)]


def test_children_without_the_cascade_of_a_deleted_parent_lose_it_marked_or_not(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    parent, child = make_family(base, "child")
    create_all()

    def work(session: Session) -> None:
        one = parent(id=1, children=[child(id=1), child(id=2)])
        session.add(one)
        session.flush()
        session.delete(one.children[0])
        session.flush()
        session.delete(one)
        session.commit()

    in_session(work)
    assert stored(parent) == []
    assert stored(child) == [(1, "a", None, False), (2, "a", None, True)]


@pytest.mark.parametrize("cascade", ["all", "all, delete-orphan"])
@pytest.mark.parametrize("back", [True, False])
def test_a_cascade_of_the_orm_marks_children_that_are_marked(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
    cascade: str,
    back: bool,
) -> None:
    parent, child = make_family(base, "parent", "child", cascade=cascade, back=back)
    create_all()

    def work(session: Session) -> None:
        one = parent(id=1, children=[child(id=1), child(id=2)])
        session.add(one)
        session.commit()
        session.delete(one)
        session.flush()
        children = list(one.children)
        assert [states(c) for c in children] == [{"persistent"}] * 2
        assert [(c.is_active, c.parent_id) for c in children] == [(False, 1)] * 2
        one.name = children[0].name = "b"
        session.commit()
        assert len(one.children) == 2

    in_session(work)
    assert stored(parent) == [(1, "b", False)]
    assert stored(child) == [(1, "b", 1, False), (2, "a", 1, False)]


@pytest.mark.parametrize("cascade", ["all", "all, delete-orphan"])
@pytest.mark.parametrize("back", [True, False])
def test_a_cascade_of_the_orm_deletes_children_that_are_not(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
    cascade: str,
    back: bool,
) -> None:
    parent, child = make_family(base, "parent", cascade=cascade, back=back)
    create_all()

    def work(session: Session) -> None:
        one = parent(id=1, children=[child(id=1), child(id=2)])
        session.add(one)
        session.commit()
        children = list(one.children)
        session.delete(one)
        session.flush()
        assert [states(c) for c in children] == [{"deleted"}] * 2
        assert one.is_active is False
        one.name = "b"
        session.flush()
        session.commit()
        assert one.children == []

    in_session(work)
    assert stored(parent) == [(1, "b", False)]
    assert stored(child) == []


@pytest.mark.parametrize("ondelete", [None, "CASCADE", "RESTRICT"])
def test_a_parent_that_is_deleted_for_good_cannot_leave_marked_children(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
    ondelete: str | None,
) -> None:
    parent, child = make_family(base, "child", cascade="all", ondelete=ondelete)
    create_all()

    def work(session: Session) -> None:
        one = parent(id=1, children=[child(id=1)])
        session.add(one)
        session.commit()
        session.delete(one)
        with pytest.raises(IntegrityError):
            session.flush()
        session.rollback()
        assert states(one) == states(one.children[0]) == {"persistent"}
        assert one.children[0].is_active is True
        session.commit()

    in_session(work)
    assert stored(child) == [(1, "a", 1, True)]


@pytest.mark.parametrize("end", ["delete", "orphan"])
def test_what_hangs_on_a_marked_object_goes_by_its_own_cascade(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
    end: str,
) -> None:
    class Shelf(base):  # type: ignore[misc, valid-type]
        __tablename__ = "shelf"
        id: Mapped[int] = mapped_column(primary_key=True)
        books = relationship("Book", cascade="all, delete-orphan")

    @attach(SoftDelete("is_active"))
    class Book(base):  # type: ignore[misc, valid-type]
        __tablename__ = "book"
        id: Mapped[int] = mapped_column(primary_key=True)
        shelf_id: Mapped[int | None] = mapped_column(ForeignKey("shelf.id"))
        is_active: Mapped[bool] = mapped_column(default=True)
        pages = relationship("Page", cascade="all, delete-orphan")
        notes = relationship("Note")

    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        book_id: Mapped[int] = mapped_column(ForeignKey("book.id"))

    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        book_id: Mapped[int | None] = mapped_column(ForeignKey("book.id"))

    create_all()

    def work(session: Session) -> None:
        book = Book(id=1, pages=[Page(id=1)], notes=[Note(id=1)])
        shelf = Shelf(id=1, books=[book])
        session.add(shelf)
        session.commit()
        if end == "delete":
            session.delete(book)
        else:
            shelf.books.remove(book)
        session.commit()

    in_session(work)
    assert stored(Book) == [(1, 1, False)]
    assert stored(Page) == []
    assert stored(Note) == [(1, 1)]


def test_rows_of_an_association_stay(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    link = Table(
        "link",
        base.metadata,
        Column("post_id", ForeignKey("post.id"), primary_key=True),
        Column("tag_id", ForeignKey("tag.id"), primary_key=True),
    )

    @attach(SoftDelete("is_active"))
    class Post(base):  # type: ignore[misc, valid-type]
        __tablename__ = "post"
        id: Mapped[int] = mapped_column(primary_key=True)
        is_active: Mapped[bool] = mapped_column(default=True)
        tags = relationship("Tag", secondary=link, back_populates="posts")

    class Tag(base):  # type: ignore[misc, valid-type]
        __tablename__ = "tag"
        id: Mapped[int] = mapped_column(primary_key=True)
        posts = relationship("Post", secondary=link, back_populates="tags")

    create_all()

    def work(session: Session) -> None:
        post = Post(id=1, tags=[Tag(id=1), Tag(id=2)])
        session.add(post)
        session.commit()
        session.delete(post)
        session.flush()
        assert len(post.tags) == 2
        session.commit()
        # A tag is deleted as ever.
        session.delete(post.tags[0])
        session.commit()

    in_session(work)
    assert stored(Post) == [(1, False)]
    assert stored(link) == [(1, 2)]


def test_a_tree_is_marked_by_the_cascade(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    @attach(SoftDelete("is_active"))
    class Node(base):  # type: ignore[misc, valid-type]
        __tablename__ = "node"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int | None] = mapped_column(
            ForeignKey("node.id", ondelete="CASCADE")
        )
        is_active: Mapped[bool] = mapped_column(default=True)
        children = relationship("Node", cascade="all, delete-orphan")

    create_all()

    def work(session: Session) -> None:
        leaf = Node(id=3)
        root = Node(id=1, children=[Node(id=2, children=[leaf]), Node(id=4)])
        session.add(root)
        session.commit()
        session.delete(root.children[0])
        session.commit()
        assert (leaf.is_active, root.is_active) == (False, True)

    in_session(work)
    assert stored(Node) == [
        (1, None, True),
        (2, 1, False),
        (3, 2, False),
        (4, 1, True),
    ]
