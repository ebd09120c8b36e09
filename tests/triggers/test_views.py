"""Views that come and go with the tables they read."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Enum,
    ForeignKey,
    Identity,
    Integer,
    MetaData,
    Table,
    Text,
    bindparam,
    case,
    cast,
    create_mock_engine,
    delete,
    exists,
    func,
    insert,
    inspect,
    literal,
    select,
    text,
    types,
    union_all,
    update,
)
from sqlalchemy.exc import InternalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    foreign,
    mapped_column,
    relationship,
)
from sqlalchemy.schema import CreateSchema

import sa_history as history
from sa_history import (
    Audit,
    Delete,
    Insert,
    Operations,
    Protect,
    ReadOnly,
    SoftDelete,
    Touch,
    Trigger,
    Truncate,
    Update,
    UpdateOf,
    Versioned,
    attach,
    audit_table,
    new,
    track,
    view,
)
from sa_history.exc import DefinitionError, DialectError, ReadOnlyError


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@pytest.fixture
def user(base: type[DeclarativeBase]) -> Any:
    """A model that views read."""

    class User(base):  # type: ignore[misc, valid-type]
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        email: Mapped[str]
        is_active: Mapped[bool] = mapped_column(default=True)

    return User


@pytest.fixture
def active(user: Any, base: type[DeclarativeBase]) -> Any:
    """A class that is mapped to a view."""

    class ActiveUser(base):  # type: ignore[misc, valid-type]
        __table__ = view(
            "active_user",
            base.metadata,
            select(user.id, user.email).where(user.is_active),
        )

    return ActiveUser


@pytest.fixture
def users(
    user: Any, active: Any, create_all: Callable[[], None], pg_engine: Engine
) -> Any:
    """The model, with committed rows."""
    create_all()
    with Session(pg_engine) as session:
        session.add_all(
            user(id=n, email=email, is_active=n < 3)
            for n, email in ((1, "ann"), (2, "ben"), (3, "cid"))
        )
        session.commit()
    return user


def objects(connection: Connection) -> list[str]:
    """The views, functions and triggers in the database."""
    found = connection.scalars(
        text(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'v'"
            " AND relnamespace <> ALL (ARRAY['pg_catalog', 'information_schema']"
            "::regnamespace[])"
            " UNION ALL SELECT oid::regprocedure::text FROM pg_proc"
            " WHERE pronamespace <> ALL (ARRAY['pg_catalog', 'information_schema']"
            "::regnamespace[])"
            " UNION ALL SELECT tgrelid::regclass || ': ' || tgname FROM pg_trigger"
            " WHERE NOT tgisinternal ORDER BY 1"
        )
    )
    return list(found)


THE_OBJECTS = [
    "active_user",
    "active_user: active_user_read_only",
    "active_user_read_only()",
]


# Reading


def test_a_class_is_mapped_to_a_view(
    users: Any, active: Any, pg_session: Session
) -> None:
    found = pg_session.scalars(select(active).order_by(active.id)).all()
    assert [(a.id, a.email) for a in found] == [(1, "ann"), (2, "ben")]
    one = pg_session.get_one(active, 1)
    assert one is found[0]
    assert pg_session.get(active, 3) is None
    pg_session.get_one(users, 1).email = "eve"
    pg_session.flush()
    pg_session.refresh(one)
    assert one.email == "eve"


def test_a_table_stands_for_a_view(
    users: Any, base: type[DeclarativeBase], active: Any, pg_engine: Engine
) -> None:
    table = active.__table__
    assert table.name == "active_user"
    assert list(table.primary_key) == [table.c.id]
    assert table.key not in base.metadata.tables
    with pg_engine.connect() as connection:
        found = connection.execute(select(table.c.email).order_by(table.c.id))
        assert found.scalars().all() == ["ann", "ben"]


def test_an_async_session_reads_it(
    users: Any, active: Any, pg_async_engine: AsyncEngine
) -> None:
    async def main() -> None:
        async with AsyncSession(pg_async_engine) as session:
            one = await session.get_one(active, 1)
            assert one.email == "ann"

    asyncio.run(main())


def test_a_relationship_leads_to_a_view(
    user: Any,
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
) -> None:
    class Initial(base):  # type: ignore[misc, valid-type]
        __table__ = view(
            "initial",
            base.metadata,
            select(user.id.label("user_id"), func.left(user.email, 1).label("letter")),
            primary_key=["user_id"],
        )
        who = relationship(
            user,
            primaryjoin=lambda: foreign(Initial.user_id) == user.id,
            viewonly=True,
        )

    create_all()
    pg_session.add(user(id=1, email="ann"))
    pg_session.flush()
    one = pg_session.scalars(select(Initial)).one()
    assert (one.letter, one.who.email) == ("a", "ann")
    pg_session.delete(one)
    with pytest.raises(ReadOnlyError):
        pg_session.flush()


# What a definition may have in it


def rows(engine: Engine, table: Table) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [
            tuple(row) for row in connection.execute(select(table).order_by(*table.c))
        ]


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


# Definitions that cannot work


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: select(t.c.id, t.c.id + 1), r"has no name.*\.label"),
        (lambda t: select(t.c.id, text("name")), "has no name"),
        (lambda t: select(t.c.id, t.alias().c.id), "has the name of another"),
        (lambda t: select(t.c.id, t.c.name.label("id")), "has the name of another"),
        (lambda t: t, r"is a select\(...\)"),
        (lambda t: "SELECT 1", r"is a select\(...\)"),
        (lambda t: union_all(select(t.c.id), select(t.c.id)), r"is a select\(...\)"),
        (
            lambda t: select(t.c.id).where(t.c.name == bindparam("x")),
            "parameter.*x",
        ),
        (lambda t: select(t.c.id, literal(object()).label("o")), "cannot be written"),
    ],
)
def test_definitions_that_cannot_work_are_refused_at_once(
    make: Callable[[Table], Any], message: str
) -> None:
    metadata = MetaData()
    thing = Table("thing", metadata, Column("id", Integer), Column("name", Text))
    with pytest.raises(DefinitionError, match=message):
        view("made", metadata, make(thing), primary_key=["id"])
    assert view("made", metadata, select(thing.c.id), primary_key=["id"]).name == "made"


def test_the_primary_key_names_columns_of_the_view() -> None:
    metadata = MetaData()
    thing = Table("thing", metadata, Column("id", Integer), Column("name", Text))
    with pytest.raises(DefinitionError, match="names 'idd'.*did you mean 'id'"):
        view("made", metadata, select(thing.c.id), primary_key=["idd"])
    with pytest.raises(DefinitionError, match="list of names"):
        view("made", metadata, select(thing.c.id), primary_key="id")
    made = view("made", metadata, select(thing), primary_key=["name", "id"])
    assert {column.name for column in made.primary_key} == {"id", "name"}


@pytest.mark.parametrize("schema", [None, "app"])
def test_a_view_needs_a_name_of_its_own(schema: str | None) -> None:
    metadata = MetaData(schema=schema)
    thing = Table("thing", metadata, Column("id", Integer, primary_key=True))
    view("made", metadata, select(thing))
    with pytest.raises(DefinitionError, match="made'"):
        view("made", metadata, select(thing))
    with pytest.raises(DefinitionError, match="thing'"):
        view("thing", metadata, select(thing))
    view("made", metadata, select(thing), schema="elsewhere")
    view("made", MetaData(), select(thing))
    Table("made", metadata, Column("id", Integer, primary_key=True))
    engine = create_mock_engine("postgresql+psycopg://", lambda *_, **__: None)
    with pytest.raises(DefinitionError, match="has a table of this name as well"):
        metadata.create_all(engine, checkfirst=False)


def test_another_dialect_is_refused() -> None:
    metadata = MetaData()
    view("one", metadata, select(literal(1).label("n")))
    engine = create_mock_engine("sqlite://", lambda *_: None)
    for make in (metadata.create_all, metadata.drop_all):
        with pytest.raises(DialectError, match="got an engine for sqlite"):
            make(engine, checkfirst=False)


# Coming and going


def test_it_comes_and_goes_with_the_tables(
    users: Any, active: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    with pg_engine.begin() as connection:
        assert objects(connection) == THE_OBJECTS
        base.metadata.create_all(connection)
        base.metadata.create_all(connection, checkfirst=True)
        assert objects(connection) == THE_OBJECTS
        base.metadata.drop_all(connection)
        assert objects(connection) == []
        base.metadata.drop_all(connection)
        base.metadata.create_all(connection, checkfirst=False)
        assert objects(connection) == THE_OBJECTS
        base.metadata.drop_all(connection, checkfirst=False)
        assert objects(connection) == []


def test_an_async_connection_creates_and_drops_it(
    users: Any, base: type[DeclarativeBase], pg_async_engine: AsyncEngine
) -> None:
    async def main() -> None:
        async with pg_async_engine.begin() as connection:
            await connection.run_sync(base.metadata.drop_all)
            assert await connection.run_sync(objects) == []
            await connection.run_sync(base.metadata.create_all)
            assert await connection.run_sync(objects) == THE_OBJECTS

    asyncio.run(main())


@pytest.fixture
def three(pg_engine: Engine) -> tuple[MetaData, dict[str, Table]]:
    """Three tables, a view of the first, one of the second, and one of that view."""
    metadata = MetaData()
    a, b, c = (
        Table(name, metadata, Column("id", Integer, primary_key=True)) for name in "abc"
    )
    of_a = view("of_a", metadata, select(a.c.id))
    of_b = view("of_b", metadata, select(b.c.id))
    of_of_a = view("of_of_a", metadata, select(of_a.c.id, c.c.id.label("c_id")))
    tables = {t.name: t for t in (a, b, c, of_a, of_b, of_of_a)}
    return metadata, tables


def views_of(engine: Engine) -> list[str]:
    return sorted(inspect(engine).get_view_names())


def test_only_views_whose_tables_are_dropped_are_dropped(
    three: Any, pg_engine: Engine
) -> None:
    metadata, tables = three
    metadata.create_all(pg_engine)
    assert views_of(pg_engine) == ["of_a", "of_b", "of_of_a"]
    metadata.drop_all(pg_engine, tables=[tables["b"]])
    assert views_of(pg_engine) == ["of_a", "of_of_a"]
    metadata.drop_all(pg_engine, tables=[tables["c"]])
    assert views_of(pg_engine) == ["of_a"]
    metadata.create_all(pg_engine)
    assert views_of(pg_engine) == ["of_a", "of_b", "of_of_a"]
    metadata.drop_all(pg_engine, tables=[tables["a"]])
    assert views_of(pg_engine) == ["of_b"]
    metadata.drop_all(pg_engine)
    assert views_of(pg_engine) == []


def test_a_view_is_created_when_all_that_it_reads_is_there(
    three: Any, pg_engine: Engine
) -> None:
    metadata, tables = three
    metadata.create_all(pg_engine, tables=[tables["a"], tables["b"]])
    assert views_of(pg_engine) == ["of_a", "of_b"]
    tables["c"].create(pg_engine)
    assert views_of(pg_engine) == ["of_a", "of_b"]
    metadata.create_all(pg_engine)
    assert views_of(pg_engine) == ["of_a", "of_b", "of_of_a"]


def test_a_table_cannot_be_dropped_by_itself_under_a_view(
    three: Any, pg_engine: Engine
) -> None:
    metadata, tables = three
    metadata.create_all(pg_engine)
    with pytest.raises(InternalError, match="view of_b depends on table b"):
        tables["b"].drop(pg_engine)
    assert views_of(pg_engine) == ["of_a", "of_b", "of_of_a"]


def test_a_view_that_others_depend_on_is_not_dropped_with_them(
    three: Any, pg_engine: Engine
) -> None:
    metadata, _ = three
    metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(text("CREATE VIEW mine AS SELECT * FROM of_b"))
    with pytest.raises(InternalError, match="view mine depends on view of_b"):
        metadata.drop_all(pg_engine)
    assert views_of(pg_engine) == ["mine", "of_a", "of_b", "of_of_a"]


def test_a_view_may_read_tables_of_another_metadata(pg_engine: Engine) -> None:
    metadata, other = MetaData(), MetaData()
    mine = Table("mine", metadata, Column("id", Integer, primary_key=True))
    theirs = Table("theirs", other, Column("id", Integer, primary_key=True))
    view(
        "both",
        metadata,
        select(mine.c.id, theirs.c.id.label("other")).join(
            theirs, theirs.c.id == mine.c.id
        ),
    )
    view("only_theirs", metadata, select(theirs.c.id))
    metadata.create_all(pg_engine)
    assert views_of(pg_engine) == []
    other.create_all(pg_engine)
    metadata.create_all(pg_engine)
    assert views_of(pg_engine) == ["both", "only_theirs"]
    metadata.drop_all(pg_engine)
    assert views_of(pg_engine) == []
    other.drop_all(pg_engine)


def test_a_view_may_read_the_events_of_a_model(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @track()
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    event = Note.events.model
    changes = view(
        "changes",
        base.metadata,
        select(event.pgh_id, event.id.label("note_id"), event.pgh_op),
    )
    create_all()
    pg_session.add(Note(id=7))
    pg_session.flush()
    found = pg_session.execute(select(changes.c.note_id, changes.c.pgh_op))
    assert found.all() == [(7, "I")]
    base.metadata.drop_all(pg_session.connection())
    assert objects(pg_session.connection()) == []


def test_a_part_is_printed_with_its_own_views(three: Any) -> None:
    metadata, tables = three
    printed: list[str] = []
    engine = create_mock_engine(
        "postgresql+psycopg://",
        lambda sql, *_: printed.append(str(sql.compile(dialect=engine.dialect))),
    )
    metadata.drop_all(engine, tables=[tables["b"]], checkfirst=False)
    assert [statement.strip() for statement in printed] == [
        'DROP VIEW IF EXISTS "public"."of_b"',
        'DROP FUNCTION IF EXISTS "public"."of_b_read_only"() CASCADE',
        "DROP TABLE b",
    ]


def test_statements_are_printed_in_order(
    active: Any, user: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    attach(Trigger("no", "before", Insert, level="statement", body="RETURN NULL;"))(
        active
    )
    view("again", base.metadata, select(active.id, literal("50%").label("share")))
    printed: list[str] = []

    def print_(element: Any, *_: Any, **__: Any) -> None:
        printed.append(str(element.compile(dialect=engine.dialect)).strip())

    engine = create_mock_engine("postgresql+psycopg://", print_)
    base.metadata.create_all(engine, checkfirst=False)
    starts = [
        re.split(r" \(|\n|\(\)", statement)[0]
        for statement in printed
        if not statement.startswith("COMMENT ON ")
    ]
    assert starts == [
        'CREATE TABLE "user"',
        'CREATE VIEW "public"."active_user"',
        'CREATE OR REPLACE FUNCTION "public"."active_user_read_only"',
        'CREATE OR REPLACE TRIGGER "active_user_read_only" INSTEAD OF INSERT OR UPDATE'
        ' OR DELETE ON "public"."active_user"',
        'CREATE OR REPLACE FUNCTION "public"."active_user_no"',
        'CREATE OR REPLACE TRIGGER "active_user_no" BEFORE INSERT ON'
        ' "public"."active_user"',
        'CREATE VIEW "public"."again"',
        'CREATE OR REPLACE FUNCTION "public"."again_read_only"',
        'CREATE OR REPLACE TRIGGER "again_read_only" INSTEAD OF INSERT OR UPDATE OR'
        ' DELETE ON "public"."again"',
    ]
    with pg_engine.begin() as connection:
        for statement in printed:
            connection.exec_driver_sql(statement, ())
    printed.clear()
    base.metadata.drop_all(engine, checkfirst=False)
    assert [statement.split("()")[0] for statement in printed] == [
        'DROP VIEW IF EXISTS "public"."again"',
        'DROP FUNCTION IF EXISTS "public"."again_read_only"',
        'DROP VIEW IF EXISTS "public"."active_user"',
        'DROP FUNCTION IF EXISTS "public"."active_user_read_only"',
        'DROP FUNCTION IF EXISTS "public"."active_user_no"',
        'DROP TABLE "user"',
    ]
    with pg_engine.begin() as connection:
        for statement in printed:
            connection.exec_driver_sql(statement)
        assert objects(connection) == []


def test_reflection_sees_a_view_as_one(
    users: Any, active: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    inspector = inspect(pg_engine)
    assert inspector.get_table_names() == ["user"]
    assert inspector.get_view_names() == ["active_user"]
    assert list(base.metadata.tables) == ["user"]
    assert [table.name for table in base.metadata.sorted_tables] == ["user"]
    reflected = MetaData()
    reflected.reflect(pg_engine, views=True)
    assert sorted(reflected.tables) == ["active_user", "user"]
    loaded = Table("active_user", MetaData(), autoload_with=pg_engine)
    assert [c.name for c in loaded.c] == ["id", "email"]
    assert loaded.metadata.tables


def test_a_copy_of_it_in_another_metadata_is_a_plain_table(
    users: Any, active: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    copy = active.__table__.to_metadata(MetaData(), schema="copies")
    users.__table__.to_metadata(copy.metadata, schema="copies")
    with pg_engine.begin() as connection:
        connection.execute(CreateSchema("copies"))
        copy.metadata.create_all(connection)
        connection.execute(insert(copy).values(id=1, email="x"))
        assert connection.execute(select(copy)).all() == [(1, "x")]
        copy.metadata.drop_all(connection)
        assert objects(connection) == THE_OBJECTS


# Schemas and names


@pytest.mark.parametrize("where", ["metadata", "view"])
def test_a_view_stands_in_a_schema(pg_engine: Engine, where: str) -> None:
    metadata = MetaData(schema="app" if where == "metadata" else None)
    color = Enum(Color, name="color", metadata=metadata, schema="app")
    thing = Table(
        "thing",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("color", color),
    )
    table = view(
        "made",
        metadata,
        select(thing.c.id, thing.c.color, literal(Color.RED, color).label("red")).where(
            thing.c.color == Color.RED
        ),
        schema=None if where == "metadata" else "app",
    )
    again = view("again", metadata, select(table.c.id), schema="other")
    assert (table.schema, again.schema) == ("app", "other")
    with pg_engine.begin() as connection:
        for schema in ("app", "other", "tenant"):
            connection.execute(CreateSchema(schema))
    metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(text("SET LOCAL search_path = tenant"))
        connection.execute(
            insert(
                thing
                if where == "metadata"
                else thing.to_metadata(MetaData(), schema="public")
            ),
            {"id": 1, "color": Color.RED},
        )
        assert connection.execute(select(table)).one() == (1, Color.RED, Color.RED)
        assert connection.execute(select(again)).one() == (1,)
        with pytest.raises(ReadOnlyError, match="INSERT of other.again is refused"):
            connection.execute(insert(again).values(id=2))
    metadata.drop_all(pg_engine)
    with pg_engine.connect() as connection:
        assert objects(connection) == []


def test_each_translated_schema_has_its_own(
    user: Any, active: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    names = ["tenant_1", 'Tenant "2%_']
    for name in names:
        with pg_engine.begin() as connection:
            connection.execute(CreateSchema(name))
        engine = pg_engine.execution_options(schema_translate_map={None: name})
        base.metadata.create_all(engine)
        base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add(user(id=1, email=name))
            session.commit()
    for name in names:
        engine = pg_engine.execution_options(schema_translate_map={None: name})
        with Session(engine) as session:
            assert session.scalars(select(active)).one().email == name
        base.metadata.drop_all(engine)
    with pg_engine.connect() as connection:
        assert objects(connection) == []


def test_it_is_made_in_the_first_schema_of_the_search_path(
    user: Any, active: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    base.metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(CreateSchema("tenant"))
        connection.execute(text("SET LOCAL search_path = tenant"))
        base.metadata.create_all(connection)
        connection.execute(insert(user).values(id=1, email="a"))
        assert connection.scalar(text("SELECT email FROM tenant.active_user")) == "a"
        assert connection.scalar(text("SELECT count(*) FROM public.active_user")) == 0
        base.metadata.drop_all(connection)
        connection.execute(text("SET LOCAL search_path = public"))
        assert objects(connection) == THE_OBJECTS


@pytest.mark.parametrize(
    "odd",
    [
        "Mixed Case",
        "select",
        'dou"ble',
        "it's",
        "100% %s %(x)s %%",
        "a:b ::c",
        "back\\slash",
        "$$ $history$",
        "a.b",
        "Größe 寸",
        "x" * 60,
    ],
)
def test_odd_names_are_taken_as_they_are(pg_engine: Engine, odd: str) -> None:
    metadata = MetaData(schema=odd[:50] + "S")
    thing = Table(odd[:50] + "t", metadata, Column(odd, Integer, primary_key=True))
    table = view(
        odd,
        metadata,
        select(thing.c[odd], literal(odd).label(odd[:50] + "l")).where(
            thing.c[odd] == 1
        ),
    )
    again = view(odd[:50] + "a", metadata, select(table))
    with pg_engine.begin() as connection:
        connection.execute(CreateSchema(odd[:50] + "S"))
        metadata.create_all(connection)
        connection.execute(insert(thing).values({odd: 1}))
        assert connection.execute(select(again)).all() == [(1, odd)]
        with (
            pytest.raises(ReadOnlyError) as caught,
            connection.begin_nested(),
        ):
            connection.execute(delete(again))
        diagnostics: Any = caught.value.orig
        assert diagnostics.diag.table_name == odd[:50] + "a"
        metadata.drop_all(connection)
        assert objects(connection) == []


# Writing


def insert_one(table: Table) -> Any:
    return insert(table).values(id=9, email="x")


def update_one(table: Table) -> Any:
    return update(table).where(table.c.id == 1).values(email="x")


def delete_one(table: Table) -> Any:
    return delete(table).where(table.c.id == 1)


WRITES = {"INSERT": insert_one, "UPDATE": update_one, "DELETE": delete_one}


@pytest.mark.parametrize("operation", WRITES)
def test_it_may_only_be_read(
    users: Any, active: Any, pg_engine: Engine, operation: str
) -> None:
    with pytest.raises(ReadOnlyError) as caught, pg_engine.begin() as connection:
        connection.execute(WRITES[operation](active.__table__))
    error: Any = caught.value.orig
    assert error.sqlstate == "SH004"
    assert error.diag.message_primary == (
        f"{operation} of public.active_user is refused: the view may only be read"
    )
    assert error.diag.message_hint == "Write the tables that it reads."
    assert error.diag.table_name == "active_user"
    assert error.diag.constraint_name == "active_user_read_only"


def test_a_write_that_meets_no_row_is_none(
    users: Any, active: Any, pg_engine: Engine
) -> None:
    with pg_engine.begin() as connection:
        found = connection.execute(delete(active.__table__).where(active.id == 9))
        assert found.rowcount == 0


def test_nothing_ignores_that_it_may_only_be_read(
    users: Any, active: Any, pg_session: Session
) -> None:
    with (
        history.ignore("read_only"),
        pytest.raises(ReadOnlyError),
    ):
        pg_session.execute(delete(active))


@pytest.mark.parametrize("operation", WRITES)
def test_a_flush_is_refused(
    users: Any, active: Any, pg_session: Session, operation: str
) -> None:
    one = pg_session.get_one(active, 1)
    if operation == "INSERT":
        pg_session.add(active(id=9, email="x"))
    elif operation == "UPDATE":
        one.email = "x"
    else:
        pg_session.delete(one)
    with pytest.raises(ReadOnlyError, match=f"{operation} of public.active_user"):
        pg_session.flush()


BODIES = {
    "INSERT": 'INSERT INTO "user" VALUES (NEW.id, upper(NEW.email), true);'
    " NEW.email = upper(NEW.email); RETURN NEW;",
    "UPDATE": 'UPDATE "user" SET email = NEW.email WHERE id = OLD.id; RETURN NEW;',
    "DELETE": 'UPDATE "user" SET is_active = false WHERE id = OLD.id; RETURN OLD;',
}
OPERATIONS = {"INSERT": Insert, "UPDATE": Update, "DELETE": Delete}


@pytest.mark.parametrize("operation", WRITES)
def test_a_trigger_takes_one_operation_while_others_are_refused(
    user: Any,
    active: Any,
    create_all: Callable[[], None],
    pg_session: Session,
    operation: str,
) -> None:
    attach(
        Trigger("take", "instead of", OPERATIONS[operation], body=BODIES[operation])
    )(active)
    create_all()
    pg_session.add(user(id=1, email="ann"))
    pg_session.commit()
    table = active.__table__
    for other, make in WRITES.items():
        if other != operation:
            with pytest.raises(ReadOnlyError), pg_session.begin_nested():
                pg_session.execute(make(table))
    pg_session.execute(WRITES[operation](table))
    rows = pg_session.execute(select(user.id, user.email, user.is_active))
    assert (
        sorted(rows.all())
        == {
            "INSERT": [(1, "ann", True), (9, "X", True)],
            "UPDATE": [(1, "x", True)],
            "DELETE": [(1, "ann", False)],
        }[operation]
    )


def test_the_orm_writes_through_it(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_engine: Engine,
    pg_async_engine: AsyncEngine,
) -> None:
    class User(base):  # type: ignore[misc, valid-type]
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
        email: Mapped[str]
        made: Mapped[str] = mapped_column(server_default="by default")
        is_active: Mapped[bool] = mapped_column(default=True)

    @attach(
        Trigger(
            "write",
            "instead of",
            Insert | Update | Delete,
            body="IF TG_OP = 'INSERT' THEN"
            ' INSERT INTO "user" (email, is_active) VALUES (NEW.email, true)'
            " RETURNING id, made INTO NEW.id, NEW.made; RETURN NEW;"
            " ELSIF TG_OP = 'UPDATE' THEN"
            ' UPDATE "user" SET email = NEW.email WHERE id = OLD.id; RETURN NEW;'
            " ELSE"
            ' UPDATE "user" SET is_active = false WHERE id = OLD.id; RETURN OLD;'
            " END IF;",
        )
    )
    class ActiveUser(base):  # type: ignore[misc, valid-type]
        __table__ = view(
            "active_user",
            base.metadata,
            select(User.id, User.email, User.made).where(User.is_active),
        )

    create_all()

    def work(session: Session) -> list[Any]:
        users = [ActiveUser(email=email) for email in ("ann", "ben", "cid")]
        session.add_all(users)
        session.flush()
        first = users[0].id
        assert [u.id for u in users] == [first, first + 1, first + 2]
        assert {u.made for u in users} == {"by default"}
        users[0].email = "eve"
        session.delete(users[1])
        session.commit()
        assert users[0].email == "eve"
        found = session.scalars(select(ActiveUser.email).order_by(ActiveUser.id)).all()
        session.execute(delete(ActiveUser))
        session.commit()
        return list(found)

    with Session(pg_engine) as session:
        assert work(session) == ["eve", "cid"]

    async def main() -> None:
        async with AsyncSession(pg_async_engine) as session:
            assert await session.run_sync(work) == ["eve", "cid"]

    asyncio.run(main())


def test_an_instead_of_trigger_is_dropped_with_the_view(
    user: Any,
    active: Any,
    base: type[DeclarativeBase],
    pg_engine: Engine,
) -> None:
    attach(Trigger("all", "instead of", Insert | Update | Delete, body="RETURN NULL;"))(
        active
    )
    with pg_engine.begin() as connection:
        base.metadata.create_all(connection)
        assert objects(connection) == [
            "active_user",
            "active_user: active_user_all",
            "active_user_all()",
        ]
        base.metadata.drop_all(connection)
        assert objects(connection) == []


def test_a_trigger_of_statement_level_runs_on_a_view(
    user: Any, active: Any, create_all: Callable[[], None], pg_session: Session
) -> None:
    attach(
        Trigger(
            "count",
            "after",
            Update,
            level="statement",
            body="UPDATE \"user\" SET email = email || '!'; RETURN NULL;",
        ),
        Trigger("take", "instead of", Update, body=BODIES["UPDATE"]),
    )(active)
    create_all()
    pg_session.add_all([user(id=1, email="a"), user(id=2, email="b")])
    pg_session.commit()
    pg_session.execute(update(active).values(email="x"))
    with history.ignore(pg_session, active, "count"):
        pg_session.execute(update(active).values(email=active.email + "?"))
    found = pg_session.scalars(select(user.email))
    assert found.all() == ["x!?", "x!?"]


@pytest.mark.parametrize(
    ("trigger", "message"),
    [
        (Protect(Delete), "Protect needs a table"),
        (ReadOnly("email"), "ReadOnly needs a table"),
        (SoftDelete("id", value=1), "SoftDelete needs a table"),
        (Touch("email", value=literal("x")), "Touch needs a table"),
        (Versioned("id"), "Versioned needs a table"),
        (Audit(into=audit_table("log", MetaData())), "Audit needs a table"),
        (
            Trigger("x", "before", Insert, body="RETURN NEW;"),
            'give when="instead of"',
        ),
        (
            Trigger("x", "after", Insert, body="RETURN NEW;"),
            'give when="instead of"',
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_triggers_for_tables_are_refused_on_a_view(
    active: Any, trigger: Any, message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):
        attach(trigger)(active)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"operation": UpdateOf("email")}, "instead of an operation is for whole rows"),
        ({"level": "statement"}, "instead of an operation is for whole rows"),
        ({"condition": new.id > 1}, "a trigger on a view has no condition"),
        ({"operation": Truncate}, "TRUNCATE"),
    ],
)
def test_bad_triggers_for_views_are_refused_at_once(
    arguments: dict[str, Any], message: str
) -> None:
    operation: Operations = arguments.pop("operation", Update)
    with pytest.raises(DefinitionError, match=message):
        Trigger("x", "instead of", operation, body="RETURN NEW;", **arguments)


def test_an_instead_of_trigger_is_refused_on_a_table(user: Any) -> None:
    with pytest.raises(DefinitionError, match="runs on a view only"):
        attach(Trigger("x", "instead of", Insert, body="RETURN NEW;"))(user)


def test_a_view_cannot_be_tracked(active: Any) -> None:
    with pytest.raises(DefinitionError, match="view"):
        track()(active)


def test_two_triggers_on_a_view_need_two_names(active: Any) -> None:
    with pytest.raises(DefinitionError, match="'x'"):
        attach(
            Trigger("x", "instead of", Insert, body="RETURN NEW;"),
            Trigger("x", "instead of", Update, body="RETURN NEW;"),
        )(active)
    with pytest.raises(DefinitionError, match="read_only"):
        attach(Trigger("read_only", "instead of", Insert, body="RETURN NEW;"))(active)


def test_a_view_may_be_defined_before_the_models_are_complete(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    class First(base):  # type: ignore[misc, valid-type]
        __tablename__ = "first"
        id: Mapped[int] = mapped_column(primary_key=True)
        second_id: Mapped[int | None] = mapped_column(ForeignKey("second.id"))
        second = relationship("Second", lazy="joined")

    # An entity, select(First), would have SQLAlchemy look for the other class.
    made = view("made", base.metadata, select(First.id, First.second_id))

    class Second(base):  # type: ignore[misc, valid-type]
        __tablename__ = "second"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    pg_session.add(First(id=1))
    pg_session.flush()
    assert pg_session.execute(select(made)).all() == [(1, None)]
