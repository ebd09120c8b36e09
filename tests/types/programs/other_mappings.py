"""A program with models that have no declarative base class, and with Core tables."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import Column, Engine, Integer, MetaData, Table
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    mapped_column,
    registry,
)
from typing_extensions import assert_type

import sa_history as history
from sa_history import AfterDelete, AggregateEvent, Event, Events, Snapshot, track

mappers = registry()


@track()
@mappers.mapped
class Plain:
    """Declares its events: type checkers do not know otherwise what it is."""

    __tablename__ = "plain"

    events: ClassVar[Events]
    id: Mapped[int] = mapped_column(primary_key=True)


class Base(MappedAsDataclass, DeclarativeBase):
    pass


@track()
class Data(Base):
    __tablename__ = "data"

    events: ClassVar[Events]
    id: Mapped[int] = mapped_column(primary_key=True)


members = Table("members", MetaData(), Column("id", Integer, primary_key=True))
assert_type(track(Snapshot, AfterDelete)(members), Table)


def events(session: Session, engine: Engine, plain: Plain, data: Data) -> None:
    assert_type(session.scalars(plain.events.select()).one(), Event)
    assert_type(session.scalars(data.events.select()).one(), Event)
    assert_type(history.events(plain), Events[Event])
    of_members = history.events(members)
    assert_type(session.scalars(of_members.select()).first(), Event | None)
    session.scalars(of_members.where(of_members.table.c.id == 7))
    session.execute(AggregateEvent.select(plain, data, members, (members, 7)))
    session.execute(history.changes(plain, "id"))
    session.execute(history.changes((members, 7), "id"))
    history.undo(session, Plain, members, mappers.metadata, transaction=7)
    history.baseline(engine, members)
    with history.ignore(session, members):
        pass
    Data(id="1")  # error
