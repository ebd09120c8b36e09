"""``HistoryMixin.__triggers__`` protects subclasses."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Engine, ForeignKey, delete, insert, update
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    declared_attr,
    mapped_column,
)

from sa_history import Delete, HistoryMixin, Protect, ReadOnly, Update, Versioned
from sa_history.exc import ProtectedError, ReadOnlyError, RefusedError

Attempt = Callable[..., "type[RefusedError] | None"]
CreateAll = Callable[[], None]


def test_mixin_protects_subclasses_unless_they_say_otherwise(
    base: type[DeclarativeBase], create_all: CreateAll, attempt: Attempt, level: str
) -> None:
    class Kept(HistoryMixin):
        __history__ = None
        __triggers__ = (Protect(Delete, level=level),)

        @declared_attr
        def id(cls) -> Mapped[int]:
            return mapped_column(primary_key=True)

    class Plain(Kept, base):  # type: ignore[misc, valid-type]
        __tablename__ = "plain"

    class Other(Kept, base):  # type: ignore[misc, valid-type]
        __tablename__ = "other"
        __triggers__ = (Protect(Update, level=level),)

    class More(Kept, base):  # type: ignore[misc, valid-type]
        __tablename__ = "more"
        __triggers__ = [*Kept.__triggers__, Protect(Update, level=level)]

    class Free(Kept, base):  # type: ignore[misc, valid-type]
        __tablename__ = "free"
        __triggers__ = ()

    create_all()
    found = {}
    for model in (Plain, Other, More, Free):
        assert attempt(insert(model).values(id=1)) is None
        refused = [
            name
            for name, statement in (
                ("update", update(model).values(id=2)),
                ("delete", delete(model)),
            )
            if attempt(statement) is ProtectedError
        ]
        found[model.__name__] = refused
    assert found == {
        "Plain": ["delete"],
        "Other": ["update"],
        "More": ["update", "delete"],
        "Free": [],
    }


def test_mixin_gives_a_joined_table_the_triggers_that_it_has_columns_for(
    base: type[DeclarativeBase], create_all: CreateAll, attempt: Attempt
) -> None:
    class Person(HistoryMixin, base):  # type: ignore[misc, valid-type]
        __tablename__ = "person"
        __history__ = None
        __triggers__ = (Protect(Delete), ReadOnly("kind"), Versioned("version"))
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        version: Mapped[int] = mapped_column(server_default="1")
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    class Guard(Person):
        __tablename__ = "guard"
        id: Mapped[int] = mapped_column(ForeignKey(Person.id), primary_key=True)
        badge: Mapped[int]
        __mapper_args__ = {"polymorphic_identity": "guard"}

    create_all()
    assert attempt("INSERT INTO person (id, kind) VALUES (1, 'guard')") is None
    assert attempt("INSERT INTO guard (id, badge) VALUES (1, 7)") is None
    assert attempt("UPDATE guard SET badge = 8") is None
    assert attempt("DELETE FROM guard") is ProtectedError
    assert attempt("UPDATE person SET kind = 'person'") is ReadOnlyError


def test_mixin_protects_joined_tables_and_shared_ones_once(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_engine: Engine,
    attempt: Attempt,
    level: str,
) -> None:
    class Person(HistoryMixin, base):  # type: ignore[misc, valid-type]
        __tablename__ = "person"
        __triggers__ = (Protect(Delete, level=level),)
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    class Guard(Person):
        __tablename__ = "guard"
        id: Mapped[int] = mapped_column(ForeignKey(Person.id), primary_key=True)
        __mapper_args__ = {"polymorphic_identity": "guard"}

    class Guest(Person):
        __mapper_args__ = {"polymorphic_identity": "guest"}

    create_all()
    with Session(pg_engine) as session:
        session.add_all([Guard(id=1), Guest(id=2)])
        session.commit()
    assert attempt("DELETE FROM guard") is ProtectedError
    assert attempt("DELETE FROM person WHERE id = 2") is ProtectedError
    assert Guest.events is not None
