"""Classes that share tables or join them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import ForeignKey, case, event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import SoftDelete, attach, old
from tests.triggers.soft_delete.helpers import states
from tests.triggers.statements import sent

Stored = Callable[..., list[tuple[Any, ...]]]
InSession = Callable[[Callable[[Session], Any]], Any]


def make_animals(base: type[DeclarativeBase], *soft: str) -> tuple[Any, Any]:
    """Dogs have their rows in two tables, of which one or both mark."""

    class Animal(base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        is_active: Mapped[bool] = mapped_column(default=True)

    class Dog(Animal):
        __tablename__ = "dog"
        __mapper_args__ = {"polymorphic_identity": "dog"}
        dog_id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        is_good: Mapped[bool] = mapped_column(default=True)

    if "animal" in soft:
        attach(SoftDelete("is_active"))(Animal)
    if "dog" in soft:
        attach(SoftDelete("is_good"))(Dog)
    return Animal, Dog


@pytest.mark.parametrize("soft", [("animal",), ("dog",), ("animal", "dog")])
def test_rows_in_joined_tables_stay_together(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
    soft: tuple[str, ...],
) -> None:
    animal, dog = make_animals(base, *soft)
    create_all()

    def work(session: Session) -> None:
        rex = dog(id=1)
        session.add(rex)
        session.commit()
        session.expunge_all()
        rex = session.get_one(animal, 1)
        session.delete(rex)
        session.flush()
        assert states(rex) == {"persistent"}
        with sent(session) as words:
            found = (rex.id, rex.dog_id, rex.is_active, rex.is_good)
        assert found == (1, 1, "animal" not in soft, "dog" not in soft)
        assert words == []
        session.commit()

    in_session(work)
    assert stored(animal, "id", "is_active") == [(1, "animal" not in soft)]
    assert stored(dog) == [(1, "dog" not in soft)]


def test_the_own_table_of_three_is_marked_first(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
) -> None:
    _, dog = make_animals(base, "animal", "dog")

    @attach(SoftDelete("is_small"))
    class Puppy(dog):  # type: ignore[misc]
        __tablename__ = "puppy"
        __mapper_args__ = {"polymorphic_identity": "puppy"}
        puppy_id: Mapped[int] = mapped_column(
            ForeignKey("dog.dog_id"), primary_key=True
        )
        is_small: Mapped[bool] = mapped_column(default=True)

    create_all()
    statements: list[str] = []

    def work(session: Session) -> None:
        rex = Puppy(id=1)
        session.add(rex)
        session.commit()

        @event.listens_for(session.connection(), "before_cursor_execute")
        def note(_: Any, __: Any, statement: str, *___: Any) -> None:
            statements.append(statement)

        session.delete(rex)
        session.commit()
        assert (rex.is_active, rex.is_good, rex.is_small) == (False, False, False)

    in_session(work)
    deletes = [words[2] for s in statements if (words := s.split())[0] == "DELETE"]
    assert deletes == ["puppy", "dog", "animal"]


def test_an_object_of_the_base_is_deleted_where_only_the_subclass_marks(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    animal, _ = make_animals(base, "dog")
    create_all()

    def work(session: Session) -> None:
        cat = animal(id=1)
        session.add(cat)
        session.commit()
        session.delete(cat)
        session.commit()
        assert states(cat) == {"detached"}

    in_session(work)
    assert stored(animal) == []


def test_an_object_whose_class_an_expression_tells_is_marked(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    @attach(SoftDelete("is_active"))
    class Animal(base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        legs: Mapped[int] = mapped_column()
        is_active: Mapped[bool] = mapped_column(default=True)
        __mapper_args__ = {
            "polymorphic_on": case((legs == 4, "dog"), else_="animal"),
            "polymorphic_identity": "animal",
        }

    class Dog(Animal):
        __mapper_args__ = {"polymorphic_identity": "dog"}

    create_all()

    def work(session: Session) -> None:
        rex = Dog(id=1, legs=4)
        session.add(rex)
        session.commit()
        session.delete(rex)
        session.commit()
        assert states(rex) == {"persistent"}
        assert rex.is_active is False

    in_session(work)
    assert stored(Animal, "id", "is_active") == [(1, False)]


def test_classes_that_share_a_table_share_its_marks(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    @attach(SoftDelete("is_active", condition=old.kind == "dog"))
    class Animal(base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        is_active: Mapped[bool] = mapped_column(default=True)

    class Dog(Animal):
        __mapper_args__ = {"polymorphic_identity": "dog"}

    create_all()

    def work(session: Session) -> None:
        rex, cat = Dog(id=1), Animal(id=2)
        session.add_all([rex, cat])
        session.commit()
        session.delete(rex)
        session.delete(cat)
        session.commit()
        assert (states(rex), states(cat)) == ({"persistent"}, {"detached"})

    in_session(work)
    assert stored(Animal) == [(1, "dog", False)]
