"""What the query of a view may have in it."""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Enum,
    ForeignKey,
    MetaData,
    Table,
    Text,
    case,
    cast,
    exists,
    func,
    insert,
    inspect,
    literal,
    select,
    text,
    types,
    union_all,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    mapped_column,
    relationship,
)

from sa_history import view
from tests.triggers.views.helpers import Color, objects, rows


def of_a_view(user: Any, base: Any) -> Any:
    first = view("first", base.metadata, select(user.id, user.email.label("mail")))
    return select(first.c.id, func.upper(first.c.mail).label("mail"))


def of_an_alias_of_a_view(user: Any, base: Any) -> Any:
    first = view("first", base.metadata, select(user.id, user.email)).alias("a")
    return select(first.c.id, func.upper(first.c.email).label("mail"))


def of_a_common_table_expression(user: Any, base: Any) -> Any:
    cte = select(user.id, func.upper(user.email).label("mail")).cte("upper mail")
    return select(cte.c.id, cte.c.mail)


def of_a_recursion(user: Any, base: Any) -> Any:
    n = select(literal(1).label("n")).cte("n", recursive=True)
    n = n.union_all(select(n.c.n + 1).where(n.c.n < 5))
    return select(user.id, func.upper(user.email).label("mail")).join(
        n, n.c.n == user.id
    )


def of_a_subquery(user: Any, base: Any) -> Any:
    sub = select(user.id, func.upper(user.email).label("mail")).subquery()
    return select(sub)


def of_a_union(user: Any, base: Any) -> Any:
    upper = func.upper(user.email).label("mail")
    both = union_all(
        select(user.id, upper).where(user.id == 1),
        select(user.id, upper).where(user.id > 1),
    ).subquery("both")
    return select(both)


def of_a_scalar_subquery(user: Any, base: Any) -> Any:
    inner = user.__table__.alias("inner")
    mail = select(func.upper(inner.c.email)).where(inner.c.id == user.id)
    return select(user.id, mail.scalar_subquery().label("mail"))


def with_exists(user: Any, base: Any) -> Any:
    inner = user.__table__.alias("inner")
    return select(user.id, func.upper(user.email).label("mail")).where(
        exists().where(inner.c.id == user.id)
    )


def of_a_core_table(user: Any, base: Any) -> Any:
    table = user.__table__
    return select(table.c.id, func.upper(table.c.email).label("mail"))


def with_a_limit_and_an_in(user: Any, base: Any) -> Any:
    return (
        select(user.id, func.upper(user.email).label("mail"))
        .where(user.id.in_([1, 2, 3]), user.email.like("%"))
        .order_by(user.id)
        .limit(10)
        .offset(0)
    )


@pytest.mark.parametrize(
    "make",
    [
        of_a_view,
        of_an_alias_of_a_view,
        of_a_common_table_expression,
        of_a_recursion,
        of_a_subquery,
        of_a_union,
        of_a_scalar_subquery,
        with_exists,
        of_a_core_table,
        with_a_limit_and_an_in,
    ],
)
def test_a_view_may_have_any_query(
    user: Any,
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_engine: Engine,
    make: Callable[..., Any],
) -> None:
    table = view("made", base.metadata, make(user, base), primary_key=["id"])
    create_all()
    create_all()
    with Session(pg_engine) as session:
        session.add_all([user(id=1, email="ann"), user(id=2, email="ben")])
        session.commit()
    assert rows(pg_engine, table) == [(1, "ANN"), (2, "BEN")]
    with pg_engine.begin() as connection:
        base.metadata.drop_all(connection)
        assert objects(connection) == []


def test_a_view_without_a_table_is_created_and_dropped_too(pg_engine: Engine) -> None:
    metadata = MetaData()
    one = view("one", metadata, select(literal(1).label("n")))
    two = view("two", metadata, select(one.c.n))
    metadata.create_all(pg_engine)
    assert rows(pg_engine, two) == [(1,)]
    metadata.drop_all(pg_engine)
    with pg_engine.connect() as connection:
        assert objects(connection) == []


@pytest.mark.parametrize(
    "value",
    ["it's", "100% %s %(x)s", ":a ::b", 'dou"ble', "back\\slash\\", "$$ $1 ?", "寸"],
)
def test_values_become_literals(pg_engine: Engine, value: str) -> None:
    metadata = MetaData()
    thing = Table("thing", metadata, Column("name", Text, primary_key=True))
    table = view(
        "made",
        metadata,
        select(
            thing.c.name,
            literal(value).label("same"),
            case((thing.c.name == value, "yes"), else_="no").label("found"),
        ).where(
            thing.c.name.in_([value]), text("name = :value").bindparams(value=value)
        ),
    )
    metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(insert(thing).values([(value,), ("other",)]))
    assert rows(pg_engine, table) == [(value, value, "yes")]


def test_values_of_any_type_become_literals(pg_engine: Engine) -> None:
    values: dict[str, Any] = {
        "day": datetime.date(2001, 2, 3),
        "at": datetime.datetime(2001, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc),
        "time": datetime.time(4, 5, 6),
        "long": datetime.timedelta(days=1, seconds=2),
        "who": uuid.UUID(int=7),
        "price": decimal.Decimal("1.50"),
        "share": 0.25,
        "n": 7,
        "yes": True,
        "data": b"\x00'\\%",
        "nothing": None,
    }
    metadata = MetaData()
    types_ = {"at": types.DateTime(timezone=True)}
    columns = [literal(v, types_.get(name)).label(name) for name, v in values.items()]
    table = view("made", metadata, select(*columns), primary_key=["n"])
    metadata.create_all(pg_engine)
    assert rows(pg_engine, table) == [tuple(values.values())]


def test_columns_keep_their_types_and_attribute_names(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    class Thing(base):  # type: ignore[misc, valid-type]
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
        color: Mapped[Color] = mapped_column("the % color")
        other: Mapped[Color] = mapped_column(Enum(Color, native_enum=False, length=9))

    class Red(base):  # type: ignore[misc, valid-type]
        __table__ = view(
            "red",
            base.metadata,
            select(
                Thing.id,
                Thing.color,
                Thing.other,
                literal(Color.BLUE, Thing.color.type).label("best"),
                cast("RED", Thing.color.type).label("worst"),
                case((Thing.id == 1, Thing.color), else_=Thing.color).label("mine"),
            ).where(Thing.color == Color.RED),
        )

    create_all()
    pg_session.add(Thing(id=1, color=Color.RED, other=Color.BLUE))
    pg_session.flush()
    one = pg_session.scalars(select(Red)).one()
    assert (one.id, one.color, one.other) == (1, Color.RED, Color.BLUE)
    assert (one.best, one.worst, one.mine) == (Color.BLUE, Color.RED, Color.RED)
    base.metadata.drop_all(pg_session.connection())
    left = "SELECT count(*) FROM pg_type WHERE typname = 'color'"
    assert pg_session.scalar(text(left)) == 0


def test_an_entity_stands_for_all_of_its_columns(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    class Thing(base):  # type: ignore[misc, valid-type]
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        large: Mapped[str] = mapped_column(default="x", deferred=True)
        parent_id: Mapped[int | None] = mapped_column(ForeignKey("thing.id"))
        last: Mapped[str] = mapped_column(default="z")
        twice: Mapped[int] = column_property(id * 2)
        parent = relationship("Thing", lazy="joined", remote_side=[id])

    table = view("made", base.metadata, select(Thing).where(Thing.id == 1))
    create_all()
    pg_session.add(Thing(id=1))
    pg_session.flush()
    connection = pg_session.connection()
    names = [column["name"] for column in inspect(connection).get_columns("made")]
    assert names == [column.name for column in table.columns]
    found = dict(connection.execute(select(table)).mappings().one())
    assert (
        found.items() >= {"id": 1, "large": "x", "parent_id": None, "last": "z"}.items()
    )


def test_the_class_of_a_subclass_reads_its_own_rows(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    class Animal(base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]

    class Cat(Animal):
        __mapper_args__ = {"polymorphic_identity": "cat"}

    class Dog(Animal):
        __tablename__ = "dog"
        __mapper_args__ = {"polymorphic_identity": "dog"}
        id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        bark: Mapped[str] = mapped_column(default="wow")

    cats = view("cats", base.metadata, select(Cat.id))
    dogs = view("dogs", base.metadata, select(Dog.id, Dog.kind, Dog.bark))
    create_all()
    pg_session.add_all([Animal(id=1), Cat(id=2), Dog(id=3)])
    pg_session.flush()
    assert pg_session.execute(select(cats)).all() == [(2,)]
    assert pg_session.execute(select(dogs)).all() == [(3, "dog", "wow")]
