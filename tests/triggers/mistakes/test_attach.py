"""What ``attach`` and ``__triggers__`` take."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, join, literal, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import sa_history as history
from sa_history import (
    FSM,
    Audit,
    Delete,
    HistoryMixin,
    Protect,
    ReadOnly,
    SoftDelete,
    Touch,
    Update,
    Versioned,
    attach,
    audit_table,
    view,
)
from sa_history.exc import DefinitionError
from tests.triggers.mistakes.helpers import WAY, kind_of


@pytest.mark.parametrize(
    "triggers",
    [
        (),
        (Protect,),
        (Versioned,),
        ("protect_delete",),
        (Delete,),
        ([Protect(Delete)],),
        (Protect(Delete), None),
    ],
    ids=kind_of,
)
def test_something_that_is_not_a_trigger(triggers: Any) -> None:
    with pytest.raises(
        DefinitionError, match=r"attach takes triggers such as Protect\(Delete\), got"
    ):
        attach(*triggers)


def test_attach_without_parentheses_is_refused(base: type[DeclarativeBase]) -> None:
    with pytest.raises(DefinitionError, match="attach takes triggers such as"):

        @attach
        class Thing(base):  # type: ignore[misc, valid-type]
            __tablename__ = "thing"
            id: Mapped[int] = mapped_column(primary_key=True)


@pytest.mark.parametrize(
    "target", [int, object(), "account", None, MetaData()], ids=kind_of
)
def test_what_is_not_mapped_is_refused(target: Any) -> None:
    with pytest.raises(DefinitionError, match="attach takes a mapped class or a Table"):
        attach(Protect(Delete))(target)


def test_a_class_without_a_table_is_refused(base: type[DeclarativeBase]) -> None:
    with pytest.raises(DefinitionError, match="Abstract is abstract, and has no table"):

        @attach(Protect(Delete))
        class Abstract(base):  # type: ignore[misc, valid-type]
            __abstract__ = True


def test_a_class_that_is_mapped_to_a_join_is_refused(
    base: type[DeclarativeBase],
) -> None:
    one, two = (
        Table(name, base.metadata, Column(f"{name}_id", Integer, primary_key=True))
        for name in ("one", "two")
    )

    class Both(base):  # type: ignore[misc, valid-type]
        __table__ = join(one, two, one.c.one_id == two.c.two_id)

    with pytest.raises(DefinitionError, match="attach the tables it is made of"):
        attach(Protect(Delete))(Both)


def test_a_subclass_without_a_table_is_refused(base: type[DeclarativeBase]) -> None:
    class Animal(base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class Dog(Animal):
        __mapper_args__ = {"polymorphic_identity": "dog"}

    message = "Dog has no table of its own: .*'animal'; attach Animal, with a condition"
    with pytest.raises(DefinitionError, match=message):
        attach(Protect(Delete))(Dog)


def test_triggers_of_a_mixin_subclass_without_a_table_are_refused(
    base: type[DeclarativeBase],
) -> None:
    class Animal(HistoryMixin, base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        __history__ = None
        __triggers__ = (Protect(Delete),)
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    with pytest.raises(DefinitionError, match="Dog has no table of its own"):

        class Dog(Animal):
            __triggers__ = (Protect(Update),)
            __mapper_args__ = {"polymorphic_identity": "dog"}


@pytest.mark.parametrize("value", [Protect(Delete), {Protect(Delete)}], ids=kind_of)
def test_triggers_of_the_mixin_are_a_tuple(
    base: type[DeclarativeBase], value: Any
) -> None:
    with pytest.raises(DefinitionError, match="Thing: __triggers__ is a tuple, got"):

        class Thing(HistoryMixin, base):  # type: ignore[misc, valid-type]
            __tablename__ = "thing"
            __triggers__ = value
            id: Mapped[int] = mapped_column(primary_key=True)


def test_triggers_of_the_mixin_that_do_not_fit(base: type[DeclarativeBase]) -> None:
    with pytest.raises(DefinitionError, match="Thing: ReadOnly names 'nope'"):

        class Thing(HistoryMixin, base):  # type: ignore[misc, valid-type]
            __tablename__ = "thing"
            __triggers__ = (ReadOnly("nope"),)
            id: Mapped[int] = mapped_column(primary_key=True)


@pytest.mark.parametrize(
    "trigger",
    [
        Protect(Delete),
        ReadOnly("size"),
        FSM("size", transitions=[(1, 2)]),
        SoftDelete("size", value=1),
        Versioned("size"),
        Touch("size", value=literal(1)),
        Audit(into=audit_table("log", MetaData())),
    ],
    ids=kind_of,
)
def test_a_view_takes_no_trigger_for_tables(
    base: type[DeclarativeBase], trigger: Any
) -> None:
    key = Column("id", Integer, primary_key=True)
    table = Table("t", base.metadata, key, Column("size", Integer))

    class Seen(base):  # type: ignore[misc, valid-type]
        __table__ = view("seen", base.metadata, select(table))

    kind = type(trigger).__name__
    with pytest.raises(DefinitionError, match=f"Seen: .*{kind} needs a table"):
        attach(trigger)(Seen)


def test_a_mistake_leaves_nothing_attached(base: type[DeclarativeBase]) -> None:
    table = Table("t", base.metadata, Column("id", Integer, primary_key=True))
    for trigger in (ReadOnly("nope"), FSM("id", transitions=WAY)):
        with pytest.raises(DefinitionError):
            attach(Protect(Delete), trigger)(table)
    with pytest.raises(history.exc.IgnoreError, match="has no trigger"):
        history.ignore(table)
