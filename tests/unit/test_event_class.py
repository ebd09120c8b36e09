"""Event classes, which are mapped when they are first used."""

from __future__ import annotations

import enum
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Enum, Integer, MetaData
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Mapper,
    configure_mappers,
    foreign,
    mapped_column,
    relationship,
    validates,
)

import sa_history as history
from sa_history import track
from sa_history.exc import DefinitionError, EventsError

MODELS = 10


@pytest.fixture
def models(base: type[DeclarativeBase]) -> Iterator[list[Any]]:
    """Tracked models."""
    yield [
        track()(
            type(
                f"Model{number}",
                (base,),
                {
                    "__tablename__": f"model_{number}",
                    "id": mapped_column(Integer, primary_key=True),
                },
            )
        )
        for number in range(MODELS)
    ]
    base.registry.dispose()


def mapped(base: type[DeclarativeBase]) -> list[str]:
    """Return the names of the event classes that are mapped."""
    names = (mapper.class_.__name__ for mapper in base.registry.mappers)
    return sorted(name for name in names if name.endswith("Event"))


def together(*functions: Callable[[], Any]) -> list[Any]:
    """Call each in a thread of its own, and return what they return."""
    found: list[Any] = [None] * len(functions)

    def call(number: int, function: Callable[[], Any]) -> None:
        found[number] = function()

    threads = [
        threading.Thread(target=call, args=item, daemon=True)
        for item in enumerate(functions)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    return found


def test_an_event_class_is_mapped_when_it_is_first_used(
    models: list[Any], base: type[DeclarativeBase]
) -> None:
    configure_mappers()
    models[3].events.select().compile()  # the statement has the class
    assert mapped(base) == ["Model3Event"]
    configure_mappers()
    assert mapped(base) == ["Model3Event"]
    assert models[5].events.model is models[5].events.model
    assert mapped(base) == ["Model3Event", "Model5Event"]


def test_threads_that_ask_at_once_get_the_same_class(
    models: list[Any], base: type[DeclarativeBase]
) -> None:
    begin = threading.Barrier(4)

    def ask() -> list[Any]:
        classes = []
        for model in models:
            begin.wait(10)
            event_class = model.events.model
            # Whoever has it can use it, also who did not map it.
            classes.append((event_class, event_class.pgh_id.key, event_class.id.key))
        return classes

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # in the middle of anything
    try:
        first, *others = together(ask, ask, ask, ask)
    finally:
        sys.setswitchinterval(interval)
    assert [found[1:] for found in first] == [("pgh_id", "id")] * MODELS
    assert others == [first] * 3
    assert mapped(base) == [f"Model{number}Event" for number in range(MODELS)]


def test_a_thread_may_map_one_while_another_configures_mappers_that_ask_for_it(
    models: list[Any], base: type[DeclarativeBase]
) -> None:
    """Neither waits for what the other has."""
    model = models[0]
    configuring, asking, mapped_it = (threading.Event() for _ in range(3))

    def events() -> Any:
        configuring.set()
        assert asking.wait(10)
        mapped_it.wait(0.1)  # time to get into each other's way
        return model.events.model

    class Report(base):  # type: ignore[misc, valid-type]
        __tablename__ = "report"
        id: Mapped[int] = mapped_column(primary_key=True)
        told = relationship(
            events,
            primaryjoin=lambda: foreign(events().id) == Report.id,
            viewonly=True,
            uselist=True,
        )

    def ask() -> Any:
        assert configuring.wait(10)
        asking.set()
        event_class = model.events.model
        mapped_it.set()
        return event_class

    _, event_class = together(configure_mappers, ask)
    assert Report.told.property.mapper.class_ is event_class
    assert mapped(base) == ["Model0Event"]


class Validated:
    """A base with two validators of one attribute."""

    @validates("id")
    def first(self, _: str, value: Any) -> Any:
        """Take any."""
        return value

    @validates("id")
    def second(self, _: str, value: Any) -> Any:
        """Take any."""
        return value


def test_a_base_that_cannot_be_mapped_is_refused_when_the_class_is_first_used(
    base: type[DeclarativeBase],
) -> None:
    @track(base=Validated)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    message = "Account: its events cannot be mapped to AccountEvent: "
    with pytest.raises(DefinitionError) as first:
        _ = Account.events.model
    assert str(first.value).startswith(f"{message}A validation function for mapped")
    with pytest.raises(DefinitionError, match=message):
        _ = Account.events.model
    base.registry.dispose()


def test_a_declarative_base_is_refused_as_base_of_an_event_class(
    base: type[DeclarativeBase],
) -> None:
    class Other(DeclarativeBase):
        metadata = MetaData()

    for wrong in (base, Other):
        with pytest.raises(DefinitionError, match="base is a plain class for the"):

            @track(base=wrong)
            class Account(base):  # type: ignore[misc, valid-type]
                __tablename__ = f"account_{wrong.__name__}"
                id: Mapped[int] = mapped_column(primary_key=True)

        base.registry.dispose()


def test_the_repr_of_events_and_contexts_shows_what_they_store(
    models: list[Any],
) -> None:
    event_class: Any = models[0].events.model
    event = event_class(pgh_id=7, pgh_label="snapshot")
    assert repr(event) == "<Model0Event pgh_id=7, pgh_label='snapshot'>"
    context_class: Any = event_class.pgh_context.property.mapper.class_
    assert issubclass(context_class, history.Context)
    assert repr(context_class(metadata={"user": 7})) == "<Context {'user': 7}>"


def test_an_event_class_is_disposed_of_with_the_registry_of_its_model(
    models: list[Any], base: type[DeclarativeBase]
) -> None:
    event_class: Any = models[0].events.model
    mapper: Mapper[Any] = event_class.__mapper__
    base.registry.dispose()
    assert mapper not in base.registry.mappers


@pytest.mark.parametrize("own", [object, AsyncAttrs, history.Event])
def test_events_of_a_model_with_awaitable_attributes_have_them_too(
    own: type[Any], base: type[DeclarativeBase]
) -> None:
    options = {} if own is object else {"base": own}

    @track(**options)
    class Account(AsyncAttrs, base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    event_class: Any = Account.events.model
    assert issubclass(event_class, AsyncAttrs)
    assert hasattr(event_class, "awaitable_attrs")
    base.registry.dispose()


def test_events_of_other_models_have_no_awaitable_attributes(
    models: list[Any],
) -> None:
    assert not issubclass(models[0].events.model, AsyncAttrs)


def test_a_key_of_text_is_no_number_and_an_enum_may_be_one(
    base: type[DeclarativeBase],
) -> None:
    class Size(enum.IntEnum):
        SMALL = 1

    @track()
    class Product(base):  # type: ignore[misc, valid-type]
        __tablename__ = "product"
        code: Mapped[str] = mapped_column(primary_key=True)
        size: Mapped[Any] = mapped_column(Enum(Size), primary_key=True)

    assert Product.events.of(("a", Size.SMALL)).select() is not None
    with pytest.raises(EventsError, match="code, of .* Product, is a text, got 7; con"):
        Product.events.of((7, Size.SMALL)).select()
    base.registry.dispose()
