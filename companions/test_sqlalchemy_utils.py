"""Types of SQLAlchemy-Utils, each in a column of a tracked model."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Integer, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column
from sqlalchemy_utils import (
    ChoiceType,
    EmailType,
    JSONType,
    ScalarListType,
    UUIDType,
)

from sa_history import track


def test_documentation(documentation: Callable[[], None]) -> None:
    documentation()


TYPES = [
    (ChoiceType([("a", "A"), ("b", "B")]), "a", "b"),
    (EmailType(), "a@example.com", "b@example.com"),
    (JSONType(), {"a": 1}, {"a": 2}),
    (ScalarListType(int), [1, 2], [3]),
    (UUIDType(), uuid.UUID(int=1), uuid.UUID(int=2)),
    (UUIDType(binary=False), uuid.UUID(int=1), uuid.UUID(int=2)),
]


@pytest.mark.parametrize(("type_", "first", "second"), TYPES, ids=repr)
def test_events_have_the_values_of_the_model(
    type_: Any, first: Any, second: Any, pg_url: URL
) -> None:
    class Base(DeclarativeBase):
        pass

    @track()
    class Thing(Base):
        __tablename__ = "thing"
        id = mapped_column(Integer, primary_key=True)
        value = mapped_column(type_)

    engine = create_engine(pg_url)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        thing = Thing(value=first)
        session.add(thing)
        session.commit()
        thing.value = second
        session.commit()
        thing.value = None
        session.commit()
        written = [event.value for event in session.scalars(thing.events.select())]
    engine.dispose()
    assert written == [first, second, None]
