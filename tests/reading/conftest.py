"""A shop whose rows have been changed since a moment, for tests that read history."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Column, Engine, ForeignKey, Table, event, func, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    mapped_column,
    relationship,
)
from sqlalchemy.orm.attributes import InstrumentedAttribute

import sa_history as history
from sa_history import track


@pytest.fixture
def clock(pg_engine: Engine) -> Callable[[], datetime.datetime]:
    """Return the database's time now."""

    def read() -> datetime.datetime:
        with pg_engine.connect() as connection:
            found: Any = connection.scalar(select(func.clock_timestamp()))
            return found

    return read


@pytest.fixture
def undo_by_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo any number of rows by a statement for many, where that is possible."""
    monkeypatch.setattr("sa_history.writing.undo.ROW_BY_ROW", 0)


@pytest.fixture
def undo_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo any number of rows one by one."""
    monkeypatch.setattr("sa_history.writing.undo.ROW_BY_ROW", 1_000_000)


@pytest.fixture(params=["undo_row_by_row", "undo_by_sets"])
def undo_way(request: pytest.FixtureRequest) -> None:
    """Undo any number of rows in one way, and in the other."""
    request.getfixturevalue(request.param)


@pytest.fixture
def models(base: type[DeclarativeBase]) -> SimpleNamespace:
    """Makers with products, and products with tags."""

    @track()
    class Maker(base):  # type: ignore[misc, valid-type]
        __tablename__ = "maker"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        products: Mapped[list[Any]] = relationship(
            "Product", back_populates="maker", order_by="Product.id"
        )

    tagged = Table(
        "tagged",
        base.metadata,
        Column("product_id", ForeignKey("product.id"), primary_key=True),
        Column("tag_id", ForeignKey("tag.id"), primary_key=True),
    )
    track()(tagged)

    @track(index=["maker_id"])
    class Product(base):  # type: ignore[misc, valid-type]
        __tablename__ = "product"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        price: Mapped[int]
        note: Mapped[str | None] = mapped_column(deferred=True)
        maker_id: Mapped[int | None] = mapped_column(ForeignKey("maker.id"))
        maker: Mapped[Any] = relationship("Maker", back_populates="products")
        tags: Mapped[list[Any]] = relationship(
            "Tag", secondary=tagged, back_populates="products", order_by="Tag.id"
        )

    @track()
    class Tag(base):  # type: ignore[misc, valid-type]
        __tablename__ = "tag"
        id: Mapped[int] = mapped_column(primary_key=True)
        word: Mapped[str]
        products: Mapped[list[Any]] = relationship(
            "Product", secondary=tagged, back_populates="tags", order_by="Product.id"
        )

    price: InstrumentedAttribute[int] = Product.price
    Maker.worth = column_property(
        select(func.sum(price))
        .where(Product.maker_id == Maker.id)
        .correlate_except(Product)
        .scalar_subquery(),
        deferred=True,
    )
    return SimpleNamespace(Maker=Maker, Product=Product, Tag=Tag, tagged=tagged)


@pytest.fixture
def shop(
    models: SimpleNamespace,
    create_all: Callable[[], None],
    pg_engine: Engine,
    clock: Callable[[], datetime.datetime],
) -> SimpleNamespace:
    """The models, their rows changed since a moment that it has three names of."""
    create_all()
    Maker, Product, Tag = models.Maker, models.Product, models.Tag
    with Session(pg_engine) as session:
        hot, old = Tag(id=1, word="hot"), Tag(id=2, word="old")
        ada, ben = Maker(id=1, name="Ada"), Maker(id=2, name="Ben")
        tea = Product(id=1, name="Tea", price=5, maker=ada, tags=[hot, old], note="n")
        cup = Product(id=2, name="Cup", price=9, maker=ada, tags=[old])
        pot = Product(id=3, name="Pot", price=20, maker=ben)
        session.add_all([hot, old, ada, ben, tea, cup, pot])
        session.commit()
        last = history.AggregateEvent.select(
            Product.metadata, newest_first=True, limit=1
        )
        transaction = session.execute(last).one().pgh_xact_id
        # The association's events come last; any of them is after all of these.
        newest = session.scalars(history.events(models.tagged).last()).one()
        session.expunge(newest)
        time = clock()
        session.commit()
        with session.no_autoflush:
            tea.price, tea.note, tea.tags, tea.maker = 6, "m", [hot], ben
            ada.name = "Eve"
        session.flush()
        cup.tags = []
        session.flush()
        session.delete(cup)
        session.add(Product(id=4, name="Jug", price=1, maker=ben))
        session.commit()
    models.moments = {
        "time": {"when": time},
        "event": {"when": newest},
        "transaction": {"transaction": transaction},
    }
    models.then = models.moments["time"]
    return models


@pytest.fixture
def statements(pg_engine: Engine) -> list[tuple[str, Any]]:
    """What is sent to the database, with its parameters."""
    sent: list[tuple[str, Any]] = []

    @event.listens_for(pg_engine, "before_cursor_execute")
    def note(*arguments: Any) -> None:
        sent.append((arguments[2], arguments[3]))

    return sent


@pytest.fixture
def past(shop: SimpleNamespace, pg_engine: Engine) -> Iterator[Session]:
    """A session that sees the shop as it was."""
    with history.as_of(pg_engine, **shop.then) as session:
        yield session


@pytest.fixture
def thing(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    """Make a model with these trackers, and its table."""

    def make(*trackers: Any, **options: Any) -> Any:
        @track(*trackers, **options)
        class Thing(base):  # type: ignore[misc, valid-type]
            __tablename__ = "thing"
            id: Mapped[int] = mapped_column(primary_key=True)
            a: Mapped[int | None]
            b: Mapped[int | None]

        create_all()
        return Thing

    return make
