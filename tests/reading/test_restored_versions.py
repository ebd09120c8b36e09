"""Rows with a version counter that are restored: no version is used twice."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, Integer, Table, Text, delete, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.orm.exc import StaleDataError

import sa_history as history
from sa_history import Delete, Protect, Versioned, attach, track
from sa_history.exc import ConflictError

from .transactions import commit


def drawn(_: object) -> str:
    return uuid.uuid4().hex


KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "counted": (Integer, {}),
    "drawn": (Text, {"version_id_generator": drawn}),
    "counted by a trigger": (Integer, {"version_id_generator": False}),
}
"""The types of versions, with arguments of their mappers."""


@pytest.fixture(params=KINDS)
def make_page(
    request: pytest.FixtureRequest,
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
) -> Callable[..., Any]:
    """Return a function that makes a tracked class with a version, and its table."""
    type_, arguments = KINDS[request.param]
    is_set_by_trigger = request.param == "counted by a trigger"

    def make(**options: Any) -> Any:
        class Page(base):  # type: ignore[misc, valid-type]
            __table__ = Table(
                "page",
                base.metadata,
                Column("id", Integer, primary_key=True),
                Column("words", Integer),
                Column("note", Text),
                Column(
                    "edition",
                    type_,
                    nullable=False,
                    default=1 if is_set_by_trigger else None,
                ),
            )
            __mapper_args__ = {"version_id_col": __table__.c.edition, **arguments}

        if is_set_by_trigger:
            attach(Versioned("edition"))(Page)
        track(**options)(Page)
        create_all()
        return Page

    return make


def write_twice(session: Session, Page: Any) -> Any:
    page = Page(id=1, words=1)
    session.add(page)
    session.commit()
    page.words = 2
    session.commit()
    return page


@pytest.mark.usefixtures("undo_way")
@pytest.mark.parametrize("options", [{}, {"exclude": ["edition"]}], ids=["", "untold"])
@pytest.mark.parametrize("how", ["revert", "undo"])
def test_a_stale_write_of_a_row_that_was_restored_is_refused(
    make_page: Callable[..., Any],
    pg_session: Session,
    how: str,
    options: dict[str, Any],
) -> None:
    Page = make_page(**options)
    page = write_twice(pg_session, Page)
    with Session(pg_session.get_bind(), expire_on_commit=False) as slow:
        stale = slow.get_one(Page, 1)
        slow.commit()
        if how == "revert":
            pg_session.scalars(page.events.first()).one().revert(pg_session)
        else:
            last = pg_session.scalars(page.events.last()).one()
            history.undo(pg_session, Page, transaction=last)
        assert (page.words, page.edition) != (1, stale.edition)
        assert page.words == 1
        pg_session.commit()
        stale.words = 99
        with pytest.raises(StaleDataError):
            slow.commit()
    page.words = 3
    pg_session.commit()


@pytest.mark.usefixtures("undo_way")
@pytest.mark.parametrize("how", ["revert", "undo"])
def test_a_row_that_comes_back_has_none_of_the_versions_it_had(
    make_page: Callable[..., Any], pg_session: Session, how: str
) -> None:
    Page = make_page()
    page = write_twice(pg_session, Page)
    pg_session.delete(page)
    pg_session.commit()
    events = pg_session.scalars(Page.events.of(1).select()).all()
    had = {event.edition for event in events}
    if how == "revert":
        again = events[0].revert(pg_session)
    else:
        history.undo(pg_session, Page, transaction=events[-1])
        again = pg_session.get_one(Page, 1)
    assert len(had) == 2
    assert again.edition not in had
    again.words = 7
    pg_session.commit()


def test_a_row_comes_back_where_its_version_is_not_tracked(
    make_page: Callable[..., Any], pg_session: Session
) -> None:
    Page = make_page(exclude=["edition"])
    pg_session.delete(write_twice(pg_session, Page))
    pg_session.commit()
    again = pg_session.scalars(Page.events.of(1).last()).one().revert(pg_session)
    assert again.words == 2
    again.words = 3
    pg_session.commit()


def test_changes_are_undone_in_reverse_order_although_the_version_goes_on(
    make_page: Callable[..., Any], pg_session: Session
) -> None:
    Page = make_page()
    write_twice(pg_session, Page)
    noted = commit(
        pg_session, update(Page.__table__).values(note="n", edition=Page.edition)
    )
    first, second, _ = pg_session.scalars(Page.events.of(1).select()).all()
    plan = history.undo(pg_session, Page, transaction=second, dry_run=True)
    assert str(plan) == "update page (1): words = 1, edition = (the next)"
    history.undo(pg_session, Page, transaction=second)
    pg_session.commit()
    with pytest.raises(ConflictError, match="note is 'n' and was None"):
        history.undo(pg_session, Page, transaction=first)
    history.undo(pg_session, Page, transaction=noted)
    pg_session.commit()
    history.undo(pg_session, Page, transaction=first)
    assert pg_session.get(Page, 1) is None


@pytest.mark.usefixtures("undo_way")
def test_the_version_in_the_table_of_a_base_class_counts_on(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @track()
    class Animal(base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        edition: Mapped[int] = mapped_column()
        __mapper_args__ = {
            "polymorphic_on": "kind",
            "polymorphic_identity": "animal",
            "version_id_col": edition,
        }

    @track()
    class Dog(Animal):
        __tablename__ = "dog"
        dog_id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        tricks: Mapped[int]
        __mapper_args__ = {"polymorphic_identity": "dog"}

    create_all()
    rex = Dog(id=1, tricks=1)
    pg_session.add(rex)
    pg_session.commit()
    rex.tricks = 2
    pg_session.commit()
    first, last = pg_session.scalars(Dog.events.of(1).select()).all()
    versions = [rex.edition]
    first.revert(pg_session)
    versions.append(rex.edition)
    pg_session.rollback()
    done = history.undo(pg_session, base, transaction=last)
    assert sorted(map(str, done.steps)) == [
        "update animal (1): edition = (the next)",
        "update dog (1): tricks = 1",
    ]
    versions.append(rex.edition)
    assert versions[0] == 2
    assert min(versions[1:]) > 2
    pg_session.commit()
    rex.tricks = 3
    pg_session.commit()


def test_a_version_that_the_application_sets_is_left_to_it(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        words: Mapped[int]
        edition: Mapped[str] = mapped_column(server_default="new")
        __mapper_args__ = {"version_id_col": edition, "version_id_generator": False}

    track()(Page)
    create_all()
    pg_session.add(Page(id=1, words=1, edition="a"))
    pg_session.commit()
    commit(pg_session, update(Page.__table__).values(words=2, edition="b"))
    first = pg_session.scalars(Page.events.of(1).first()).one()
    page = first.revert(pg_session)
    assert (page.words, page.edition) == (1, "b")
    commit(pg_session, delete(Page.__table__))
    pg_session.expunge_all()
    page = pg_session.merge(first).revert(pg_session)
    assert (page.words, page.edition) == (1, "new")


def test_the_triggers_of_a_table_that_count_nothing_are_no_versions(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @track()
    @attach(Protect(Delete), Versioned("edition"))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        words: Mapped[int]
        edition: Mapped[int] = mapped_column(default=1)

    create_all()
    page = write_twice(pg_session, Page)
    last = pg_session.scalars(page.events.last()).one()
    done = history.undo(pg_session, Page, transaction=last)
    assert str(done) == "update page (1): words = 1, edition = (the next)"
    assert (page.words, page.edition) == (1, 3)
