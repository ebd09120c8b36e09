"""Sessions of ``as_of``: what they refuse, and what becomes of connections."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    DDL,
    URL,
    Column,
    Connection,
    Engine,
    Integer,
    QueuePool,
    Table,
    column,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    table,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import (
    Session,
    scoped_session,
    selectinload,
    sessionmaker,
)
from sqlalchemy.schema import CreateTable

import sa_history as history
from sa_history.exc import PastError


def test_an_unclear_point_in_time_or_target_is_refused() -> None:
    engine = create_engine("postgresql+psycopg://")
    naive = datetime.datetime(2026, 1, 1)
    for arguments, words in [
        ({}, "as_of takes one moment"),
        ({"when": naive, "transaction": 1}, "as_of takes one moment"),
        ({"when": naive}, "another moment in each time zone"),
        ({"when": "yesterday"}, "as_of takes a datetime, an event"),
        ({"transaction": naive}, "transaction= with a number"),
    ]:
        with pytest.raises(PastError, match=words):
            history.as_of(engine, **arguments)
    with pytest.raises(PastError, match="allow takes mapped classes and tables, got 7"):
        history.as_of(engine, transaction=1, allow=[7])
    with (
        pytest.raises(PastError, match="several or none; give it an engine"),
        history.as_of(Session(), transaction=1),
    ):
        pass
    with (
        pytest.raises(
            history.exc.DialectError, match="as_of needs PostgreSQL, got .* sqlite"
        ),
        history.as_of(create_engine("sqlite://"), transaction=1),
    ):
        pass


WRITES: dict[str, Callable[[Session, Any], Any]] = {
    "a new object": lambda past, P: (past.add(P(name="x", price=1)), past.flush()),
    "a changed one": lambda past, P: (
        setattr(past.get_one(P, 1), "price", 7),
        past.commit(),
    ),
    "a deleted one": lambda past, P: (past.delete(past.get_one(P, 1)), past.flush()),
    "insert": lambda past, P: past.execute(insert(P).values(name="x", price=1)),
    "bulk insert": lambda past, P: past.execute(insert(P), [{"name": "x", "price": 1}]),
    "insert from select": lambda past, P: past.execute(
        insert(P).from_select(["name", "price"], select(P.name, P.price))
    ),
    "update": lambda past, P: past.execute(update(P).values(price=1)),
    "delete": lambda past, P: past.execute(delete(P)),
    "a writing CTE": lambda past, P: past.execute(
        select(delete(P).returning(P.id).cte("gone").c.id)
    ),
    "a new table": lambda past, P: past.execute(
        CreateTable(Table("x", P.metadata.__class__(), Column("id", Integer)))
    ),
    "ddl": lambda past, P: past.execute(DDL("DROP TABLE product")),
    "text": lambda past, P: past.execute(text("DELETE FROM product")),
    "text that reads": lambda past, P: past.execute(text("SELECT * FROM product")),
    "text with columns": lambda past, P: past.execute(
        text("SELECT id, name FROM product").columns(P.id, P.name)
    ),
    "from_statement": lambda past, P: past.execute(
        select(P).from_statement(text("SELECT * FROM product"))
    ),
    "driver sql": lambda past, P: past.connection().exec_driver_sql(
        "SELECT * FROM product"
    ),
    "a row lock": lambda past, P: past.get(P, 1, with_for_update=True),
    "a lightweight table": lambda past, P: past.execute(
        select(text("*")).select_from(lightweight("product"))
    ),
}


def lightweight(name: str) -> Any:
    return table(name, column("id"))


def test_writes_and_text_are_refused_before_they_are_sent(
    shop: SimpleNamespace, past: Session
) -> None:
    sent: list[str] = []
    event.listen(
        past.connection(),
        "before_cursor_execute",
        lambda *arguments: sent.append(arguments[2]),
    )
    for write in WRITES.values():
        with pytest.raises(PastError):
            write(past, shop.Product)
        past.rollback()
        assert past.get_one(shop.Product, 1).price == 5, "the session goes on"
    assert all(line.startswith("SELECT") for line in sent)
    assert not [line for line in sent if "INSERT" in line or "FOR UPDATE" in line]


def test_the_session_sees_the_past_after_commit_rollback_and_savepoint(
    shop: SimpleNamespace, past: Session
) -> None:
    Product = shop.Product
    for end in (past.commit, past.rollback, past.close):
        assert past.get_one(Product, 1).price == 5
        end()
    with past.begin_nested() as savepoint:
        assert past.get_one(Product, 2).name == "Cup"
        savepoint.rollback()
    assert past.scalar(select(func.sum(Product.price))) == 34
    with past.begin_nested():
        assert past.scalar(select(func.count(Product.id))) == 3
    assert past.scalar(select(func.count(Product.id))) == 3


def test_a_commit_by_others_is_seen_by_the_next_transaction(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    Product = shop.Product
    future = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
    pg_session.execute(update(Product).where(Product.id == 3).values(price=0))
    with history.as_of(pg_session, future) as past:
        prices = select(Product.price).order_by(Product.id)
        assert past.scalars(prices).all() == [6, 20, 1], "not what is uncommitted"
        pg_session.commit()
        assert past.scalars(prices).all() == [6, 20, 1]
        past.rollback()
        assert past.scalars(prices).all() == [6, 0, 1]


def test_an_event_that_is_not_committed_is_refused_as_a_point_in_time(
    shop: SimpleNamespace, pg_engine: Engine
) -> None:
    """Its change would be missing, as it often is where tests are rolled back."""
    with Session(pg_engine) as session:
        product = session.get_one(shop.Product, 1)
        product.price = 77
        session.flush()
        written = session.scalars(product.events.last()).one()
        with history.as_of(session, written) as past:
            with pytest.raises(PastError, match="not ended, .*; commit first"):
                past.get(shop.Product, 1)
            session.commit()
            with pytest.raises(PastError, match="commit first"):
                past.get(shop.Product, 1)
            past.rollback()
            assert past.get_one(shop.Product, 1).price == 77


def test_two_sessions_see_two_points_in_time_at_once(
    shop: SimpleNamespace, pg_session: Session, pg_engine: Engine
) -> None:
    Product = shop.Product
    now = pg_session.scalars(Product.events.last()).one()
    one, other = shop.moments["time"], {"when": now}
    with (
        history.as_of(pg_engine, **one) as before,
        history.as_of(pg_engine, **other) as after,
    ):
        for _ in range(2):
            assert before.get_one(Product, 1).price == 5
            assert after.get_one(Product, 1).price == 6
            before.expire_all()
            after.rollback()
        assert (before.get(Product, 2).name, after.get(Product, 2)) == ("Cup", None)
        assert before.get_one(Product, 1) is not after.get_one(Product, 1)


@pytest.mark.usefixtures("read_committed")
def test_the_connection_is_given_back_as_it_was(
    shop: SimpleNamespace, pg_url: URL
) -> None:
    engine = create_engine(pg_url, poolclass=QueuePool, pool_size=1, max_overflow=0)
    Product = shop.Product

    def state() -> tuple[Any, ...]:
        with engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            return (
                driver.info.backend_pid,
                connection.get_isolation_level(),
                connection.scalar(text("SHOW transaction_read_only")),
                connection.scalar(select(func.current_setting("pghistory.as_of", True)))
                or "",
                type(connection.dialect),
                connection.scalar(select(func.count(Product.id))),
            )

    try:
        before = state()
        assert before[1:4] == ("READ COMMITTED", "off", "")
        with history.as_of(engine, **shop.then) as past:
            assert past.scalar(select(func.count(Product.id))) == 3
            mode = past.connection().get_isolation_level()
            assert mode == "REPEATABLE READ"
        assert state() == before
        with pytest.raises(ZeroDivisionError), history.as_of(engine, **shop.then) as p:
            p.get_one(Product, 1).price // 0
        assert state() == before
        with Session(engine) as session:
            session.add(Product(id=5, name="Mug", price=2))
            session.commit()
        assert state()[-1] == before[-1] + 1
    finally:
        engine.dispose()


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_role_that_may_only_read_may_not_write_after_the_past(
    shop: SimpleNamespace, pg_url: URL, driver: str
) -> None:
    engine = create_engine(
        pg_url.set(drivername=f"postgresql+{driver}"),
        **{"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0},
        connect_args={"options": "-c default_transaction_read_only=on"},
    )
    try:
        with history.as_of(engine, **shop.then) as past:
            assert past.get_one(shop.Product, 1).price == 5
        with Session(engine) as session, pytest.raises(DBAPIError, match="read-only"):
            session.execute(update(shop.Product).values(price=1))
    finally:
        engine.dispose()


def test_the_past_is_read_only_to_statements_of_the_driver_too(
    shop: SimpleNamespace, past: Session
) -> None:
    for _ in range(2):
        cursor = past.connection().connection.cursor()
        with pytest.raises(Exception, match="read-only transaction"):
            cursor.execute("UPDATE product SET price = 1")
        cursor.close()
        past.rollback()


def test_one_statement_is_compiled_once_for_all_points_in_time(
    shop: SimpleNamespace, pg_session: Session
) -> None:
    Product = shop.Product
    statements = []
    later = datetime.datetime.now(datetime.timezone.utc)
    for when in (shop.then["when"], later):
        with history.as_of(pg_session, when) as past:
            event.listen(
                past.connection(),
                "before_cursor_execute",
                lambda *arguments: statements.append(
                    (arguments[2], arguments[4].cache_hit.name)
                ),
            )
            past.scalars(select(Product).where(Product.price > 3)).all()
    (first, _), (second, hit) = statements
    assert first == second
    assert hit == "CACHE_HIT"


def test_engines_connections_and_sessions_are_targets(
    shop: SimpleNamespace, pg_engine: Engine
) -> None:
    price = select(shop.Product.price).where(shop.Product.id == 1)
    scoped = scoped_session(sessionmaker(pg_engine))
    with pg_engine.connect() as connection, Session(connection) as bound:
        for target in (pg_engine, connection, bound, scoped, sessionmaker(pg_engine)()):
            with history.as_of(target, **shop.then) as past:
                assert past.scalar(price) == 5
    with (
        pytest.raises(PastError, match="as_of takes a session, a connection or an"),
        history.as_of(7, **shop.then),
    ):
        pass
    scoped.remove()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_async_engines_connections_and_sessions_are_targets(
    shop: SimpleNamespace, pg_url: URL, driver: str
) -> None:
    Maker, Product = shop.Maker, shop.Product

    async def look(target: Any, moment: dict[str, Any]) -> Any:
        async with history.as_of(target, **moment) as past:
            statement = select(Maker).options(selectinload(Maker.products))
            found = await past.scalars(statement.order_by(Maker.id))
            seen = [(m.name, [p.name for p in m.products]) for m in found]
            past.add(Product(name="x", price=1))
            with pytest.raises(PastError, match="the past is not written: INSERT"):
                await past.flush()
            await past.rollback()
            assert (await past.get_one(Product, 1)).price == 5
            return seen

    async def main() -> list[Any]:
        engine = create_async_engine(pg_url.set(drivername=f"postgresql+{driver}"))
        maker = async_sessionmaker(engine)
        scoped = async_scoped_session(maker, scopefunc=lambda: 1)
        found = []
        async with maker() as session, engine.connect() as connection:
            for target in (session, engine, connection, scoped):
                found.append(await look(target, shop.then))
            for moment in ("event", "transaction"):
                found.append(await look(engine, shop.moments[moment]))
            with pytest.raises(PastError, match="write 'async with' for it"):
                history.as_of(session, **shop.then).__enter__()
            price = await session.scalar(select(Product.price).where(Product.id == 1))
            assert price == 6
        await scoped.remove()
        await engine.dispose()
        return found

    expected = [("Ada", ["Tea", "Cup"]), ("Ben", ["Pot"])]
    assert asyncio.run(main()) == [expected] * 6


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_connection_that_cannot_see_the_past_is_given_back(
    shop: SimpleNamespace, pg_url: URL, kind: str
) -> None:
    """Such as one in which a listener has begun a transaction already."""
    options: dict[str, Any] = {"pool_size": 1, "max_overflow": 0}
    taken = "This connection has already initialized a SQLAlchemy Transaction"

    def begin(connection: Connection) -> None:
        connection.begin()

    def look() -> None:
        engine = create_engine(pg_url, poolclass=QueuePool, **options)
        event.listen(engine, "engine_connect", begin)
        with (
            pytest.raises(InvalidRequestError, match=taken),
            history.as_of(engine, **shop.then),
        ):
            pass
        event.remove(engine, "engine_connect", begin)
        with history.as_of(engine, **shop.then) as past:
            assert past.scalar(select(func.count(shop.Product.id))) == 3
        engine.dispose()

    async def look_async() -> None:
        engine = create_async_engine(pg_url, **options)
        event.listen(engine.sync_engine, "engine_connect", begin)
        with pytest.raises(InvalidRequestError, match=taken):
            async with history.as_of(engine, **shop.then):
                pass
        event.remove(engine.sync_engine, "engine_connect", begin)
        async with history.as_of(engine, **shop.then) as past:
            assert await past.scalar(select(func.count(shop.Product.id))) == 3
        with pytest.raises(PastError, match="write 'with' for it"):
            await history.as_of(engine.sync_engine, **shop.then).__aenter__()
        await engine.dispose()

    look() if kind == "sync" else asyncio.run(look_async())


def test_a_role_needs_no_more_than_to_read_events(
    shop: SimpleNamespace, pg_engine: Engine, pg_url: URL
) -> None:
    with pg_engine.begin() as connection:
        role = connection.scalar(text("SELECT 'reader_' || pg_backend_pid()"))
        connection.exec_driver_sql(f"CREATE ROLE {role}")
        connection.exec_driver_sql(f"GRANT SELECT ON product_event TO {role}")
    reader = create_engine(
        pg_url,
        connect_args={"options": f"-c role={role} -c default_transaction_read_only=on"},
    )
    try:
        with history.as_of(reader, **shop.then) as past:
            assert past.get_one(shop.Product, 1).price == 5
            with pytest.raises(DBAPIError, match="InsufficientPrivilege.* maker"):
                past.get(shop.Maker, 1)
    finally:
        reader.dispose()
        with pg_engine.begin() as connection:
            connection.exec_driver_sql(f"DROP OWNED BY {role}")
            connection.exec_driver_sql(f"DROP ROLE {role}")


@pytest.fixture
def tenants(shop: SimpleNamespace, pg_engine: Engine) -> Any:
    """The product 1 of the schema of a tenant, which is Soap, and is Tea elsewhere."""
    with pg_engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA tenant")
    tenant = pg_engine.execution_options(schema_translate_map={None: "tenant"})
    shop.Product.metadata.create_all(tenant)
    with Session(tenant) as session:
        session.add(shop.Product(id=1, name="Soap", price=1))
        session.commit()
    return shop.Product


NORTH: Any = {"schema_translate_map": {None: "tenant"}}
PATH = text("SET search_path = tenant")
LOCAL_PATH = text("SET LOCAL search_path = tenant")


def of_tenant(engine: Engine) -> Iterator[tuple[str, Any]]:
    """Yield sessions and connections that read the schema of a tenant."""
    with Session(engine) as session:
        session.connection(execution_options=NORTH)
        yield "options of the session's connection", session
    with Session(engine) as session:
        session.connection(execution_options=NORTH)
        with session.begin_nested():
            yield "in a savepoint", session
    with engine.connect() as connection:
        connection.execution_options(**NORTH)
        yield "options of a connection", connection
        with Session(connection) as session:
            yield "a session on it that has not begun", session
    with Session(engine) as session:
        session.execute(LOCAL_PATH)
        yield "search_path of the transaction", session
    with engine.connect() as connection:
        connection.execute(LOCAL_PATH)
        yield "search_path of a connection's transaction", connection
    with engine.connect() as connection:
        connection.execute(PATH)
        connection.commit()
        yield "search_path of a connection", connection
        connection.execute(text("RESET search_path"))
        connection.commit()
    if hasattr(Session, "execution_options"):  # in SQLAlchemy 2.1
        options: Any = {"execution_options": NORTH}
        with Session(engine, **options) as session:
            yield "options of a session", session
            session.connection()
            yield "options of a session that has begun", session


def test_the_past_is_that_of_the_tenant(tenants: Any, pg_engine: Engine) -> None:
    name = select(tenants.name).where(tenants.id == 1)
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
    for how, target in of_tenant(pg_engine):
        had_begun = target.in_transaction()
        with history.as_of(target, later) as past:
            for _ in range(2):
                assert past.scalar(name) == "Soap", how
                past.rollback()
            with history.as_of(past, later) as again:
                assert again.scalar(name) == "Soap", how
        assert target.in_transaction() == had_begun, how
        assert target.scalar(name) == "Soap"
    with Session(pg_engine) as session:
        session.connection(execution_options=NORTH)
        session.commit()
        with history.as_of(session, later) as past:
            assert past.scalar(name) == session.scalar(name) != "Soap"


def test_the_past_is_that_of_the_tenant_of_an_async_session(
    tenants: Any, pg_url: URL
) -> None:
    name = select(tenants.name).where(tenants.id == 1)
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)

    async def main() -> None:
        engine = create_async_engine(pg_url)
        async with AsyncSession(engine) as session:
            await session.execute(LOCAL_PATH)
            async with history.as_of(session, later) as past:
                assert await past.scalar(name) == "Soap"
            await session.rollback()
            await session.connection(execution_options=NORTH)
            async with history.as_of(session, later) as past:
                assert await past.scalar(name) == "Soap"
        async with engine.connect() as connection:
            await connection.execute(LOCAL_PATH)
            async with history.as_of(connection, later) as past:
                assert await past.scalar(name) == "Soap"
        await engine.dispose()

    asyncio.run(main())


def test_a_failed_transaction_is_to_be_rolled_back_first(
    shop: SimpleNamespace, pg_session: Session, pg_engine: Engine
) -> None:
    with pytest.raises(DBAPIError):
        pg_session.connection().execute(text("SELECT 1 / 0"))
    with (
        pytest.raises(PastError, match="for its search_path; roll back first"),
        history.as_of(pg_session, **shop.then),
    ):
        pass
    pg_session.rollback()
    connection = pg_engine.connect()
    connection.close()
    for target in (pg_session, connection):
        with history.as_of(target, **shop.then) as past:
            assert past.get_one(shop.Product, 1).price == 5
