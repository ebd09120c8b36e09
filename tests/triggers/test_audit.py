"""One log for the changes of many tables."""

from __future__ import annotations

import datetime
import enum
import time
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    JSON,
    URL,
    BigInteger,
    Column,
    Computed,
    Connection,
    Engine,
    Enum,
    ForeignKey,
    Identity,
    Integer,
    MetaData,
    NullPool,
    Table,
    Text,
    create_engine,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateSchema

import sa_history as history
from sa_history import (
    AnyChange,
    Audit,
    Delete,
    Insert,
    Truncate,
    Update,
    UpdateOf,
    attach,
    audit_table,
    new,
    old,
    track,
)
from sa_history.exc import ConditionError, DefinitionError

Logged = Callable[..., list[Any]]
CreateAll = Callable[[], None]
Door = Callable[[Session, Any], object]


@pytest.fixture
def log(base: type[DeclarativeBase]) -> Table:
    """A log as the library makes it."""
    return audit_table("audit_log", base.metadata)


@pytest.fixture
def logged(log: Table, pg_engine: Engine) -> Logged:
    """Return columns of the committed rows of the log, oldest first."""

    def read(*names: str) -> list[Any]:
        names = names or ("operation", "key", "old_row", "new_row")
        rows = select(*(log.c[name] for name in names)).order_by(log.c.id)
        with pg_engine.connect() as connection:
            found = [tuple(row) for row in connection.execute(rows)]
        return found if len(names) > 1 else [value for (value,) in found]

    return read


@pytest.fixture
def make(base: type[DeclarativeBase], log: Table, level: str) -> Callable[..., Any]:
    """Make a model with the columns id, owner and balance whose changes are logged."""

    def audited(**options: Any) -> Any:
        @attach(Audit(into=log, level=level, **options))
        class Account(base):  # type: ignore[misc, valid-type]
            __tablename__ = "account"
            id: Mapped[int] = mapped_column(primary_key=True)
            owner: Mapped[str]
            balance: Mapped[int]

        return Account

    return audited


@pytest.fixture
def account(make: Callable[..., Any], create_all: CreateAll) -> Any:
    """The model, created; all of its changes are logged."""
    model = make()
    create_all()
    return model


@pytest.fixture
def accounts(account: Any, pg_session: Session) -> Any:
    """The model, with two committed rows that are not in the log."""
    with history.ignore(pg_session, account):
        pg_session.add_all(account(id=n, owner="ann", balance=n) for n in (1, 2))
        pg_session.commit()
    return account


def row(id: int, balance: int, owner: str = "ann") -> dict[str, Any]:
    return {"id": id, "owner": owner, "balance": balance}


# What is written.


def test_each_change_has_its_operation_key_and_rows(
    account: Any, pg_session: Session, logged: Logged
) -> None:
    ann = account(id=1, owner="ann", balance=10)
    pg_session.add(ann)
    pg_session.flush()
    ann.balance = 5
    pg_session.flush()
    pg_session.delete(ann)
    pg_session.commit()
    assert logged() == [
        ("INSERT", {"id": 1}, None, row(1, 10)),
        ("UPDATE", {"id": 1}, row(1, 10), row(1, 5)),
        ("DELETE", {"id": 1}, row(1, 5), None),
    ]
    assert set(logged("table_schema", "table_name")) == {("public", "account")}


def test_rows_tell_when_and_in_which_transaction(
    account: Any, pg_session: Session, logged: Logged
) -> None:
    pg_session.add(account(id=1, owner="ann", balance=10))
    pg_session.flush()
    begun, number = pg_session.execute(
        text("SELECT now(), pg_current_xact_id()::text::bigint")
    ).one()
    pg_session.commit()
    assert logged("created_at", "xact_id", "id") == [(begun, number, 1)]


def test_what_is_rolled_back_is_not_logged(
    accounts: Any, pg_session: Session, logged: Logged
) -> None:
    point = pg_session.begin_nested()
    pg_session.execute(delete(accounts))
    point.rollback()
    pg_session.execute(update(accounts).where(accounts.id == 2).values(balance=3))
    pg_session.commit()
    pg_session.execute(delete(accounts))
    pg_session.rollback()
    assert logged() == [("UPDATE", {"id": 2}, row(2, 2), row(2, 3))]


# Each door changes the balance of 2, and adds 3.


def by_flush(session: Session, account: Any) -> None:
    session.get(account, 2).balance = 20
    session.flush()
    session.add(account(id=3, owner="bob", balance=30))
    session.flush()


def by_upsert(session: Session, account: Any) -> None:
    rows = [row(2, 20), row(3, 30, "bob")]
    statement = pg.insert(account).values(rows)
    changes = {"balance": statement.excluded.balance}
    session.execute(
        statement.on_conflict_do_update(index_elements=["id"], set_=changes)
    )


def by_merge(session: Session, account: Any) -> None:
    session.execute(
        text(
            "MERGE INTO account a USING (VALUES (1, 1), (2, 20), (3, 30)) v (id, b)"
            " ON a.id = v.id WHEN MATCHED AND a.balance <> v.b THEN"
            " UPDATE SET balance = v.b"
            " WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'bob', v.b)"
        )
    )


def by_executemany(session: Session, account: Any) -> None:
    connection = session.connection()
    statement = "UPDATE account SET balance = %s WHERE id = %s"
    connection.exec_driver_sql(statement, [(20, 2), (1, 1)])
    statement = "INSERT INTO account VALUES (%s, %s, %s)"
    connection.exec_driver_sql(statement, [(3, "bob", 30)])


def by_copy(session: Session, account: Any) -> None:
    driver: Any = session.connection().connection.driver_connection
    driver.execute("UPDATE account SET balance = id * 10 WHERE id = 2")
    with driver.cursor().copy("COPY account FROM STDIN") as copy:
        copy.write_row((3, "bob", 30))


def by_one_statement(session: Session, account: Any) -> None:
    session.execute(
        text(
            "WITH changed AS (UPDATE account SET balance = 20 WHERE id = 2)"
            " INSERT INTO account VALUES (3, 'bob', 30)"
        )
    )


@pytest.mark.parametrize(
    "door", [by_flush, by_upsert, by_merge, by_executemany, by_copy, by_one_statement]
)
def test_whatever_writes_is_logged(
    door: Door, accounts: Any, pg_session: Session, logged: Logged
) -> None:
    door(pg_session, accounts)
    pg_session.commit()
    # A statement that does both tells of them in an order of PostgreSQL's own.
    assert sorted(logged(), key=str) == [
        ("INSERT", {"id": 3}, None, row(3, 30, "bob")),
        ("UPDATE", {"id": 2}, row(2, 2), row(2, 20)),
    ]


def test_rows_of_a_statement_are_logged_in_their_order(
    account: Any, pg_session: Session, logged: Logged
) -> None:
    numbers = "SELECT n, 'ann', n FROM generate_series(1, 500) AS n ORDER BY n"
    pg_session.execute(text(f"INSERT INTO account {numbers}"))
    pg_session.commit()
    assert [key["id"] for key in logged("key")] == [*range(1, 501)]


def test_update_that_changes_nothing_leaves_no_row(
    accounts: Any, pg_session: Session, logged: Logged
) -> None:
    pg_session.execute(update(accounts).values(balance=accounts.balance))
    pg_session.execute(update(accounts).where(accounts.id == 0).values(balance=0))
    pg_session.execute(delete(accounts).where(accounts.id == 0))
    pg_session.execute(update(accounts).values(balance=2))
    pg_session.commit()
    assert logged() == [("UPDATE", {"id": 1}, row(1, 1), row(1, 2))]


def test_changed_keys_keep_the_old_and_the_new_row_together(
    accounts: Any, pg_session: Session, logged: Logged
) -> None:
    pg_session.execute(text("UPDATE account SET id = 30 - id * 10"))
    pg_session.commit()
    assert logged() == [
        ("UPDATE", {"id": 20}, row(1, 1), row(20, 1)),
        ("UPDATE", {"id": 10}, row(2, 2), row(10, 2)),
    ]


def test_truncate_leaves_a_row_for_each(
    accounts: Any, pg_session: Session, logged: Logged
) -> None:
    pg_session.execute(text("TRUNCATE account"))
    pg_session.commit()
    assert logged() == [
        ("TRUNCATE", {"id": 1}, row(1, 1), None),
        ("TRUNCATE", {"id": 2}, row(2, 2), None),
    ]


def test_cascades_are_logged(
    base: type[DeclarativeBase],
    log: Table,
    level: str,
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    parent = Table("parent", base.metadata, Column("id", Integer, primary_key=True))
    reference = ForeignKey("parent.id", ondelete="CASCADE", onupdate="CASCADE")
    child = Table(
        "child",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("parent_id", reference),
    )
    attach(Audit(into=log, level=level, operation=Update | Delete))(child)
    create_all()
    pg_session.execute(insert(parent).values(id=1))
    pg_session.execute(insert(child).values(id=1, parent_id=1))
    pg_session.execute(update(parent).values(id=2))
    pg_session.execute(delete(parent))
    pg_session.commit()
    first, second = {"id": 1, "parent_id": 1}, {"id": 1, "parent_id": 2}
    assert logged() == [
        ("UPDATE", {"id": 1}, first, second),
        ("DELETE", {"id": 1}, second, None),
    ]


# Which columns.


SECRET = "hunter2"


@pytest.mark.parametrize(
    "options",
    [
        {"exclude": ["password"]},
        {"columns": ["name"]},
        {"columns": ["id", "name"]},
    ],
    ids=str,
)
def test_what_is_left_out_is_never_in_the_log(
    options: dict[str, Any],
    base: type[DeclarativeBase],
    log: Table,
    level: str,
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    @attach(Audit(into=log, level=level, **options))
    class User(base):  # type: ignore[misc, valid-type]
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        password: Mapped[str] = mapped_column("pass phrase")

    create_all()
    user = User(id=1, name="ann", password=SECRET)
    pg_session.add(user)
    pg_session.flush()
    user.password = f"{SECRET}!"
    pg_session.flush()
    user.name = "eve"
    pg_session.flush()
    pg_session.delete(user)
    pg_session.flush()
    pg_session.add(User(id=2, name="bob", password=SECRET))
    pg_session.flush()
    pg_session.execute(text('TRUNCATE "user"'))
    pg_session.commit()
    ann, eve, bob = (
        {"id": id_, "name": name} for id_, name in ((1, "ann"), (1, "eve"), (2, "bob"))
    )
    assert logged() == [
        ("INSERT", {"id": 1}, None, ann),
        ("UPDATE", {"id": 1}, ann, eve),  # and none where only the password changed
        ("DELETE", {"id": 1}, eve, None),
        ("INSERT", {"id": 2}, None, bob),
        ("TRUNCATE", {"id": 2}, bob, None),
    ]
    everything = pg_session.scalars(text("SELECT l::text FROM audit_log l")).all()
    assert not any(SECRET in line for line in everything)


def test_columns_that_the_model_does_not_know_are_not_in_a_list_of_columns(
    make: Callable[..., Any],
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    account = make(columns=["owner"])
    create_all()
    pg_session.execute(text(f"ALTER TABLE account ADD pin text DEFAULT '{SECRET}'"))
    pg_session.add(account(id=1, owner="ann", balance=1))
    pg_session.flush()
    pg_session.execute(update(account).values(owner="bob", balance=2))
    pg_session.commit()
    ann, bob = {"id": 1, "owner": "ann"}, {"id": 1, "owner": "bob"}
    assert logged("old_row", "new_row") == [(None, ann), (ann, bob)]


def test_key_is_logged_with_any_columns_and_so_are_its_changes(
    make: Callable[..., Any],
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    account = make(columns=["owner"], operation=Update)
    create_all()
    pg_session.add(account(id=1, owner="ann", balance=1))
    pg_session.flush()
    pg_session.execute(text("UPDATE account SET id = 5"))
    pg_session.commit()
    before, after = {"id": 1, "owner": "ann"}, {"id": 5, "owner": "ann"}
    assert logged() == [("UPDATE", {"id": 5}, before, after)]


def test_key_cannot_be_left_out(make: Callable[..., Any]) -> None:
    with pytest.raises(DefinitionError, match="leaves out 'id', which is of the pri"):
        make(exclude=["id"])


@pytest.mark.parametrize("count", [48, 49, 50, 99, 160])
def test_any_number_of_columns_can_be_chosen(
    count: int,
    base: type[DeclarativeBase],
    log: Table,
    level: str,
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    names = [f"c{number}" for number in range(count)]
    wide = Table(
        "wide",
        base.metadata,
        Column("id", Integer, primary_key=True),
        *(Column(name, Integer) for name in names),
        Column("left_out", Integer),
    )
    attach(Audit(into=log, level=level, columns=names))(wide)
    create_all()
    values = {"id": 0, **{name: n for n, name in enumerate(names)}}
    pg_session.execute(insert(wide).values(values))
    pg_session.execute(update(wide).values({names[-1]: -1, "left_out": 1}))
    pg_session.commit()
    after = {**values, names[-1]: -1}
    assert logged("old_row", "new_row") == [(None, values), (values, after)]


def test_generated_columns(
    base: type[DeclarativeBase],
    log: Table,
    level: str,
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    @attach(Audit(into=log, level=level))
    class Order(base):  # type: ignore[misc, valid-type]
        __tablename__ = "order"
        id: Mapped[int] = mapped_column(primary_key=True)
        price: Mapped[int]
        double: Mapped[int] = mapped_column(Computed("price * 2", persisted=True))

    create_all()
    pg_session.execute(insert(Order).values(id=1, price=2))
    pg_session.execute(update(Order).values(price=3))
    pg_session.commit()
    before, after = (
        {"id": 1, "price": 2, "double": 4},
        {"id": 1, "price": 3, "double": 6},
    )
    assert logged("old_row", "new_row") == [(None, before), (before, after)]


# Which operations, and which rows.


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (Insert, ["INSERT"]),
        (Update, ["UPDATE"]),
        (Delete, ["DELETE", "TRUNCATE"]),
        (Truncate, ["TRUNCATE"]),
        (Insert | Update, ["INSERT", "UPDATE"]),
        (Update | Delete, ["UPDATE", "DELETE", "TRUNCATE"]),
    ],
    ids=repr,
)
def test_only_the_chosen_operations_are_logged(
    operation: Any,
    expected: list[str],
    make: Callable[..., Any],
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    account = make(operation=operation)
    create_all()
    pg_session.add_all(account(id=n, owner="ann", balance=1) for n in (1, 2))
    pg_session.flush()
    pg_session.execute(update(account).where(account.id == 1).values(balance=2))
    pg_session.execute(delete(account).where(account.id == 1))
    pg_session.execute(text("TRUNCATE account"))
    pg_session.commit()
    assert list(dict.fromkeys(logged("operation"))) == expected


@pytest.mark.parametrize(
    "condition",
    [
        new.balance < 0,
        lambda old, new: new.balance < 0,
        text("NEW.balance < 0"),
        text("NEW.balance < 0 -- overdrawn"),
    ],
    ids=["expression", "function", "text", "text with a comment"],
)
def test_condition_says_which_rows(
    condition: Any,
    make: Callable[..., Any],
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    account = make(operation=Insert | Update, condition=condition)
    create_all()
    pg_session.add_all(account(id=n, owner="ann", balance=n) for n in (-1, 1))
    pg_session.flush()
    pg_session.execute(update(account).values(balance=account.balance - 1))
    pg_session.execute(update(account).values(owner="ann"))  # changes nothing
    pg_session.execute(delete(account))
    pg_session.commit()
    assert logged() == [
        ("INSERT", {"id": -1}, None, row(-1, -1)),
        ("UPDATE", {"id": -1}, row(-1, -1), row(-1, -2)),
    ]


def test_condition_may_look_at_a_column_that_is_left_out(
    make: Callable[..., Any],
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    account = make(
        operation=Update,
        columns=["owner"],
        condition=(old.balance > 0) & AnyChange("owner"),
    )
    create_all()
    pg_session.add_all(account(id=n, owner="ann", balance=n) for n in (0, 1))
    pg_session.flush()
    pg_session.execute(update(account).values(owner="bob"))
    pg_session.commit()
    ann, bob = {"id": 1, "owner": "ann"}, {"id": 1, "owner": "bob"}
    assert logged() == [("UPDATE", {"id": 1}, ann, bob)]


# The context.


def test_context_is_logged_with_its_id(
    accounts: Any, pg_session: Session, logged: Logged
) -> None:
    with history.context(pg_session, user="O'Reilly %s") as context:
        pg_session.execute(update(accounts).where(accounts.id == 1).values(balance=3))
        pg_session.flush()
    pg_session.execute(delete(accounts).where(accounts.id == 1))
    pg_session.commit()
    with history.context(pg_session):
        pg_session.execute(delete(accounts))
        pg_session.commit()
    assert logged("operation", "context") == [
        ("UPDATE", {"user": "O'Reilly %s"}),
        ("DELETE", None),
        ("DELETE", {}),
    ]
    assert logged("context_id")[:2] == [context.id, None]


def test_context_id_is_that_of_the_events_of_the_same_change(
    base: type[DeclarativeBase],
    log: Table,
    level: str,
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    @attach(Audit(into=log, level=level))
    @track(level=level)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    with history.context(pg_session, user=7):
        pg_session.add(Account(id=1))
        pg_session.commit()
    pg_session.execute(delete(Account))
    pg_session.commit()
    events = select(Account.events.pgh_context_id).order_by(Account.events.pgh_id)
    inserted, deleted = pg_session.scalars(events)
    assert isinstance(inserted, uuid.UUID)
    assert logged("operation", "context_id") == [
        ("INSERT", inserted),
        ("DELETE", None),
    ]
    assert deleted is None


def test_audit_can_be_ignored_by_its_name_and_tracking_goes_on(
    base: type[DeclarativeBase],
    log: Table,
    level: str,
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
    recorded: Callable[..., list[Any]],
) -> None:
    @attach(Audit(into=log, level=level))
    @track(level=level, context=None)
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    pg_session.add(Account(id=1))
    pg_session.flush()
    with history.ignore(pg_session, Account, "audit"):
        pg_session.add(Account(id=2))
        pg_session.flush()
    with history.ignore(pg_session, Account, "events"):
        pg_session.add(Account(id=3))
        pg_session.flush()
    pg_session.commit()
    assert [key["id"] for key in logged("key")] == [1, 3]
    assert [event[2] for event in recorded(Account, "id")] == [1, 2]


# The log.


def test_one_log_for_many_tables_of_many_schemas(
    pg_engine: Engine, pg_session: Session, level: str
) -> None:
    class Base(DeclarativeBase):
        metadata = MetaData(schema="app")

    class Log(Base):
        __table__ = audit_table("log", Base.metadata, schema="audit")

    tables = [
        Table(
            "thing",
            Base.metadata,
            Column("id", Integer, primary_key=True),
            schema=schema,
        )
        for schema in (None, "other")
    ]
    for table in tables:
        attach(Audit(into=Log, level=level))(table)
    with pg_engine.begin() as connection:
        for schema in ("app", "other", "audit"):
            connection.execute(CreateSchema(schema))
        Base.metadata.create_all(connection)
        for table in tables:
            connection.execute(insert(table).values(id=1))
    rows = pg_session.scalars(select(Log).order_by(Log.id)).all()
    assert [(row.table_schema, row.table_name, row.key) for row in rows] == [
        ("app", "thing", {"id": 1}),
        ("other", "thing", {"id": 1}),
    ]


def test_log_and_table_are_where_the_connection_has_them(
    base: type[DeclarativeBase], account: Any, log: Table, pg_engine: Engine
) -> None:
    with pg_engine.begin() as connection:
        connection.execute(CreateSchema("tenant"))
    tenant = pg_engine.execution_options(schema_translate_map={None: "tenant"})
    base.metadata.create_all(tenant)
    schemas = select(log.c.table_schema)
    with tenant.begin() as connection:
        connection.execute(insert(account).values(id=1, owner="ann", balance=1))
        assert connection.scalars(schemas).all() == ["tenant"]
    with pg_engine.connect() as connection:
        assert connection.scalars(schemas).all() == []


def test_log_of_ones_own_needs_five_columns(
    base: type[DeclarativeBase],
    level: str,
    create_all: CreateAll,
    pg_session: Session,
) -> None:
    class Kind(enum.Enum):
        INSERT = 1
        UPDATE = 2
        DELETE = 3

    log = Table(
        'my "log"',
        base.metadata,
        Column("number", Integer, primary_key=True),
        Column("operation", Text, key="op"),
        Column("table_name", pg.VARCHAR(63)),
        Column("key", JSON, nullable=False, key="of"),
        Column("old_row", Text),
        Column("new_row", JSON),
        Column("colour", Text, server_default="red", nullable=False),
        Column("note", Text),
    )

    @attach(Audit(into=log, level=level))
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    with history.context(pg_session, user=7):
        pg_session.add(Account(id=1))
        pg_session.flush()
    pg_session.execute(delete(Account))
    assert pg_session.execute(select(log)).all() == [
        (1, "INSERT", "account", {"id": 1}, None, {"id": 1}, "red", None),
        (2, "DELETE", "account", {"id": 1}, '{"id": 1}', None, "red", None),
    ]


def test_log_may_have_more_columns(
    base: type[DeclarativeBase],
    level: str,
    create_all: CreateAll,
    pg_session: Session,
) -> None:
    log = audit_table(
        "log",
        base.metadata,
        Column("role", Text, nullable=False, server_default=func.current_user()),
        Column("twice", Text, Computed("operation || operation", persisted=True)),
        Column("number", BigInteger, Identity()),
    )
    attach(Audit(into=log, level=level))(
        account := Table(
            "account", base.metadata, Column("id", Integer, primary_key=True)
        )
    )
    create_all()
    pg_session.execute(insert(account).values(id=1))
    columns = (log.c.twice, log.c.number, log.c.role == func.current_user())
    assert pg_session.execute(select(*columns)).all() == [("INSERTINSERT", 1, True)]


def test_two_logs_of_one_table(
    base: type[DeclarativeBase],
    log: Table,
    level: str,
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    second = audit_table("second_log", base.metadata)
    account = Table("account", base.metadata, Column("id", Integer, primary_key=True))
    attach(
        Audit(into=log, level=level),
        Audit(into=second, level=level, name="audit_twice", operation=Delete),
    )(account)
    create_all()
    pg_session.execute(insert(account).values(id=1))
    pg_session.execute(delete(account))
    pg_session.commit()
    assert logged("operation") == ["INSERT", "DELETE"]
    assert pg_session.scalars(select(second.c.operation)).all() == ["DELETE"]


def without(*names: str) -> list[Column[Any]]:
    required: dict[str, Any] = {
        "operation": Text,
        "table_name": Text,
        "key": pg.JSONB,
        "old_row": pg.JSONB,
        "new_row": pg.JSONB,
    }
    return [
        Column(name, type_, nullable=name != "key")
        for name, type_ in required.items()
        if name not in names
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (without("key", "old_row"), "'log' has no column key, old_row; it needs oper"),
        (
            [*without("key"), Column("key", pg.JSONB)],
            "'log'.key is nullable; make it NOT NULL",
        ),
        (
            [*without(), Column("id", pg.UUID, primary_key=True, default=uuid.uuid4)],
            "'log'.id is NOT NULL without a server default",
        ),
        (
            [*without(), Column("who", Text, nullable=False)],
            "'log'.who is NOT NULL without a server default",
        ),
    ],
)
def test_log_that_cannot_be_written_is_refused(
    columns: list[Column[Any]], message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):
        Audit(into=Table("log", MetaData(), *columns))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"into": "audit_log"}, r"into is a table .*audit_table\(\"audit_log\""),
        ({"into": int}, "into is a table or a mapped class, got <class 'int'>"),
        ({"operation": UpdateOf("a")}, "takes no UpdateOf; give Update, and"),
        ({"operation": "update"}, "takes operations such as Update | Delete"),
        ({"columns": ["a"], "exclude": ["b"]}, "both columns and exclude"),
        ({"columns": "balance"}, r"list of names, got 'balance'; write \['balance'\]"),
        ({"exclude": [5]}, "list of names, got 5"),
        ({"search_path": "public"}, "search_path is a list of names"),
        ({"level": "rows"}, 'level is "statement" or "row"'),
        ({"name": ""}, "needs a name"),
        ({"condition": "balance > 0"}, "got the string"),
    ],
)
def test_definition_that_cannot_be_is_refused(
    options: dict[str, Any], message: str, log: Table
) -> None:
    with pytest.raises(DefinitionError, match=message):
        Audit(**{"into": log, **options})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"columns": ["balanse"]}, DefinitionError, "did you mean 'balance'"),
        ({"exclude": ["nope"]}, DefinitionError, "Account.*'nope'.*it has id, owner"),
        ({"condition": old.balance > 0}, ConditionError, "INSERT uses old.balance"),
        ({"condition": new.balance > 0}, ConditionError, "DELETE uses new.balance"),
        ({"condition": new.nope > 0}, ConditionError, "no column attribute 'nope'"),
    ],
)
def test_definition_that_does_not_fit_the_model_is_refused(
    options: dict[str, Any],
    error: type[Exception],
    message: str,
    make: Callable[..., Any],
) -> None:
    with pytest.raises(error, match=message):
        make(**options)


def test_log_does_not_log_itself(log: Table) -> None:
    with pytest.raises(DefinitionError, match="needs a table, other than the log"):
        attach(Audit(into=log))(log)


def test_view_is_not_logged(base: type[DeclarativeBase], log: Table) -> None:
    numbers = select(log.c.id)
    view = history.view("numbers", base.metadata, numbers)
    with pytest.raises(DefinitionError, match="needs a table"):
        attach(Audit(into=log))(view)


# Rights.


def test_role_without_rights_on_the_log_is_logged_and_cannot_forge(
    accounts: Any, log: Table, pg_url: URL, pg_session: Session
) -> None:
    clerk = f'"clerk of {pg_url.database}"'
    for statement in (
        f"CREATE ROLE {clerk}",  # rolled back at the end: a role is of the cluster
        f"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON account TO {clerk}",
        "CREATE SCHEMA evil",
        "CREATE FUNCTION evil.to_jsonb(anyelement) RETURNS jsonb LANGUAGE sql AS"
        " $$ SELECT '{}'::jsonb $$",
        f"GRANT USAGE ON SCHEMA evil TO {clerk}",
        f"SET LOCAL ROLE {clerk}",
        "SET LOCAL search_path = evil, pg_catalog, public",
        "CREATE TEMPORARY TABLE audit_log (id int)",
        "INSERT INTO public.account VALUES (3, 'eve', 3)",
        "UPDATE public.account SET balance = 30 WHERE id = 3",
        "DELETE FROM public.account WHERE id = 3",
        "TRUNCATE public.account",
    ):
        pg_session.execute(text(statement))
    for forgery in (
        "INSERT INTO public.audit_log (operation) VALUES ('INSERT')",
        "UPDATE public.audit_log SET new_row = NULL",
        "DELETE FROM public.audit_log",
    ):
        point = pg_session.begin_nested()
        with pytest.raises(ProgrammingError, match="permission denied for table"):
            pg_session.execute(text(forgery))
        point.rollback()
    pg_session.execute(text("RESET ROLE"))
    found = pg_session.execute(
        text("SELECT operation, new_row FROM public.audit_log ORDER BY id")
    ).all()
    assert found == [
        ("INSERT", row(3, 3, "eve")),
        ("UPDATE", row(3, 30, "eve")),
        ("DELETE", None),
        ("TRUNCATE", None),
        ("TRUNCATE", None),
    ]


# Tables of all kinds.


ODD = {
    "mixed_case": "Mixed Case",
    "quotes": 'it\'s "so"',
    "percent": "100% %s %(x)s %%",
    "colon": "a:b ::c",
    "braces": "{a} {0}",
    "backslash": "a\\b\\",
    "dollar": "$$ $history$ $1",
    "comment": "--a /* b",
    "multi_byte": "Größe 寸",
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_odd_names_are_taken_as_they_are(
    odd: str, pg_engine: Engine, pg_session: Session, level: str
) -> None:
    metadata = MetaData(schema=f"s{odd}")
    log = audit_table(f"l{odd}", metadata, schema=f"log{odd}")
    table = Table(
        f"t{odd}",
        metadata,
        Column(f"id{odd}", Integer, primary_key=True),
        Column(odd, Text),
        Column("left out", Text),
    )
    attach(Audit(into=log, level=level, name=odd, columns=[f"id{odd}", odd]))(table)
    other = Table(
        f"o{odd}",
        metadata,
        Column("id", Integer, primary_key=True),
        Column(odd, Text),
    )
    attach(Audit(into=log, level=level, name=odd, exclude=[odd]))(other)
    with pg_engine.begin() as connection:
        connection.execute(CreateSchema(f"s{odd}"))
        connection.execute(CreateSchema(f"log{odd}"))
        metadata.create_all(connection)
        connection.execute(insert(table).values({f"id{odd}": 1, odd: odd}))
        connection.execute(update(table).values({odd: "changed"}))
        connection.execute(insert(other).values({"id": 1, odd: odd}))
    rows = pg_session.execute(
        select(
            log.c.table_schema,
            log.c.table_name,
            log.c.key,
            log.c.old_row,
            log.c.new_row,
        ).order_by(log.c.id)
    ).all()
    key = {f"id{odd}": 1}
    first, second = {**key, odd: odd}, {**key, odd: "changed"}
    assert rows == [
        (f"s{odd}", f"t{odd}", key, None, first),
        (f"s{odd}", f"t{odd}", key, first, second),
        (f"s{odd}", f"o{odd}", {"id": 1}, None, {"id": 1}),
    ]
    pg_session.rollback()
    metadata.drop_all(pg_engine)
    functions = text(
        "SELECT count(*) FROM pg_proc"
        " WHERE pronamespace::regnamespace::text NOT IN"
        " ('pg_catalog', 'information_schema')"
    )
    assert pg_session.scalar(functions) == 0


NAMES_OF_OURS = [
    *("old", "new", "OLD", "NEW", "key", "operation", "old_row", "new_row"),
    *("table_name", "table_schema", "context", "context_id", "xact_id", "created_at"),
    *("tg_op", "tg_table_name", "tg_table_schema", "tg_name", "old_rows", "new_rows"),
    *("jsonb", "audit_log", "account", "log"),
]


@pytest.mark.parametrize("options", [{}, {"exclude": ["note"]}, {"columns": None}])
def test_columns_may_have_the_names_of_what_the_trigger_uses(
    options: dict[str, Any],
    base: type[DeclarativeBase],
    log: Table,
    level: str,
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    if "columns" in options:
        options = {"columns": NAMES_OF_OURS}
    account = Table(
        "account",
        base.metadata,
        Column("id", Integer, primary_key=True),
        *(Column(name, Text) for name in NAMES_OF_OURS),
        Column("note", Text),
    )
    attach(Audit(into=log, level=level, **options))(account)
    create_all()
    values: dict[str, Any] = dict.fromkeys(NAMES_OF_OURS, "before")
    pg_session.execute(insert(account).values(id=1, **values))
    pg_session.execute(update(account).values(dict.fromkeys(values, "after")))
    pg_session.execute(delete(account))
    pg_session.execute(insert(account).values(id=2))
    pg_session.execute(text("TRUNCATE account"))
    pg_session.commit()
    note = {} if options else {"note": None}
    before, after, empty = (
        {"id": id_, **dict.fromkeys(values, value), **note}
        for id_, value in ((1, "before"), (1, "after"), (2, None))
    )
    assert logged("operation", "table_name", "old_row", "new_row") == [
        ("INSERT", "account", None, before),
        ("UPDATE", "account", before, after),
        ("DELETE", "account", after, None),
        ("INSERT", "account", None, empty),
        ("TRUNCATE", "account", empty, None),
    ]


def test_column_named_as_the_number_of_a_pair(
    base: type[DeclarativeBase],
    log: Table,
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    account = Table(
        "account",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("pgh_row", Integer),
    )
    with pytest.raises(DefinitionError, match="'pgh_row' has a name .* level=\"row\""):
        attach(Audit(into=log))(account)
    attach(Audit(into=log, level="row"))(account)
    create_all()
    pg_session.execute(insert(account).values(id=1, pgh_row=1))
    pg_session.execute(update(account).values(pgh_row=2))
    pg_session.commit()
    first, second = {"id": 1, "pgh_row": 1}, {"id": 1, "pgh_row": 2}
    assert logged("old_row", "new_row") == [(None, first), (first, second)]


def test_keys_of_many_columns(
    base: type[DeclarativeBase],
    log: Table,
    level: str,
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    @attach(Audit(into=log, level=level))
    class Seat(base):  # type: ignore[misc, valid-type]
        __tablename__ = "seat"
        hall: Mapped[str] = mapped_column(primary_key=True)
        number: Mapped[int] = mapped_column("Seat No", primary_key=True)
        day: Mapped[datetime.date] = mapped_column(primary_key=True)
        guest: Mapped[str]

    create_all()
    day = datetime.date(2024, 2, 29)
    pg_session.add(Seat(hall="A", number=7, day=day, guest="ann"))
    pg_session.flush()
    pg_session.execute(update(Seat).values(guest="bob"))
    pg_session.commit()
    key = {"hall": "A", "Seat No": 7, "day": "2024-02-29"}
    assert logged("key", "new_row") == [
        (key, {**key, "guest": "ann"}),
        (key, {**key, "guest": "bob"}),
    ]


def test_table_without_a_key(
    base: type[DeclarativeBase],
    log: Table,
    level: str,
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    line = Table("line", base.metadata, Column("value", Integer))
    attach(Audit(into=log, level=level))(line)
    create_all()
    pg_session.execute(insert(line), [{"value": 1}, {"value": 1}])
    pg_session.execute(update(line).values(value=2))
    pg_session.execute(delete(line))
    pg_session.commit()
    first, second = {"value": 1}, {"value": 2}
    assert logged() == [
        *[("INSERT", {}, None, first)] * 2,
        *[("UPDATE", {}, first, second)] * 2,
        *[("DELETE", {}, second, None)] * 2,
    ]


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


MOMENT = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone.utc)
TYPES: dict[str, tuple[Any, Any, Any, Any]] = {
    "json": (JSON, {"b": 1, "a": [None]}, {"a": 1}, {"a": 1}),
    "jsonb": (pg.JSONB, [1], {"a": "ü%s"}, {"a": "ü%s"}),
    "bytea": (pg.BYTEA, b"\x00'\\", b"\xff", "\\xff"),
    "array": (ARRAY(Text), ["a"], ["it's", None], ["it's", None]),
    "enum": (Enum(Mood), Mood.GOOD, Mood.BAD, "BAD"),
    "citext": (pg.CITEXT, "ann", "Ann", "Ann"),
    "numeric": (pg.NUMERIC, Decimal("1.0"), Decimal("1.00"), 1.0),
    "double": (pg.DOUBLE_PRECISION, 1.5, float("inf"), "Infinity"),
    "boolean": (pg.BOOLEAN, True, None, None),
    "uuid": (pg.UUID, None, uuid.UUID(int=1), str(uuid.UUID(int=1))),
    "date": (pg.DATE, None, MOMENT.date(), "2024-02-29"),
    "timestamp": (pg.TIMESTAMP, None, MOMENT.replace(tzinfo=None), MOMENT.isoformat()),
    "interval": (pg.INTERVAL, None, datetime.timedelta(days=1), "1 day"),
    "range": (pg.INT4RANGE, None, pg.Range(1, 3), "[1,3)"),
    "hstore": (pg.HSTORE, {"a": None}, {"a": "1"}, {"a": "1"}),
}


@pytest.mark.contrib
@pytest.mark.parametrize("name", TYPES)
def test_values_of_every_type(
    name: str,
    base: type[DeclarativeBase],
    log: Table,
    level: str,
    create_all: CreateAll,
    pg_engine: Engine,
    pg_session: Session,
    logged: Logged,
) -> None:
    type_, before, after, expected = TYPES[name]
    if name == "timestamp":
        expected = expected.removesuffix("+00:00")
    thing = Table(
        "thing",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("value", type_),
    )
    attach(Audit(into=log, level=level))(thing)
    attach(Audit(into=log, level=level, name="chosen", columns=["value"]))(thing)
    if name in ("citext", "hstore"):
        with pg_engine.begin() as connection:
            connection.execute(text(f"CREATE EXTENSION {name}"))
    create_all()
    pg_engine.dispose()  # what SQLAlchemy knows of hstore, it asks when it connects
    with pg_engine.begin() as connection:
        connection.execute(insert(thing).values(id=1, value=before))
        connection.execute(update(thing).values(value=after))
        connection.execute(update(thing).values(value=after))
    found = logged("operation", "new_row")
    assert [operation for operation, _ in found] == ["INSERT"] * 2 + ["UPDATE"] * 2
    assert [row for _, row in found[2:]] == [{"id": 1, "value": expected}] * 2


@pytest.mark.parametrize("chosen", [None, ["place", "value"]], ids=["all", "columns"])
def test_partitioned_table_has_its_own_name_in_the_log(
    chosen: list[str] | None,
    base: type[DeclarativeBase],
    log: Table,
    level: str,
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    @attach(Audit(into=log, level=level, columns=chosen))
    class Reading(base):  # type: ignore[misc, valid-type]
        __tablename__ = "reading"
        __table_args__ = {"postgresql_partition_by": "LIST (place)"}
        id: Mapped[int] = mapped_column(primary_key=True)
        place: Mapped[str] = mapped_column(primary_key=True)
        value: Mapped[int]

    create_all()
    for place in ("here", "there"):
        pg_session.execute(
            text(f"CREATE TABLE {place} PARTITION OF reading FOR VALUES IN ('{place}')")
        )
    pg_session.add_all(
        Reading(id=n, place=place, value=n) for n, place in ((1, "here"), (2, "there"))
    )
    pg_session.flush()
    pg_session.execute(update(Reading).values(value=Reading.value + 10))
    pg_session.execute(text("UPDATE reading SET place = 'there' WHERE id = 1"))
    pg_session.commit()
    assert {*logged("table_name")} == {"reading"}
    here, there = (
        {"id": n, "place": place, "value": 10 + n}
        for n, place in ((1, "here"), (2, "there"))
    )
    moved = {**here, "place": "there"}
    found = logged("operation", "old_row", "new_row")
    assert found[:4] == [
        ("INSERT", None, {**here, "value": 1}),
        ("INSERT", None, {**there, "value": 2}),
        ("UPDATE", {**here, "value": 1}, here),
        ("UPDATE", {**there, "value": 2}, there),
    ]
    # At row level a move is what PostgreSQL makes of it.
    assert found[4:] == (
        [("UPDATE", here, moved)]
        if level == "statement"
        else [("DELETE", here, None), ("INSERT", None, moved)]
    )


def test_rows_that_cannot_be_paired_fail_the_statement(
    base: type[DeclarativeBase],
    log: Table,
    create_all: CreateAll,
    pg_session: Session,
) -> None:
    reading = Table(
        "reading",
        base.metadata,
        Column("id", Integer),
        Column("place", Text),
        postgresql_partition_by="LIST (place)",
    )
    attach(Audit(into=log))(reading)
    create_all()
    for statement in (
        "CREATE TABLE here PARTITION OF reading FOR VALUES IN ('here')",
        "CREATE TABLE there PARTITION OF reading FOR VALUES IN ('there')",
        "CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN NULL; END $$",
        "CREATE TRIGGER leave_out BEFORE INSERT ON there FOR EACH ROW"
        " EXECUTE FUNCTION leave_out()",
        "INSERT INTO reading VALUES (1, 'here'), (2, 'here'), (3, 'here')",
    ):
        pg_session.execute(text(statement))
    move = (
        "UPDATE reading SET id = -id,"
        " place = CASE id WHEN 2 THEN 'there' ELSE place END"
    )
    with pytest.raises(IntegrityError, match='null value in column "key"'):
        pg_session.execute(text(move))


def test_each_table_of_an_inheritance_logs_its_own_columns(
    base: type[DeclarativeBase],
    log: Table,
    level: str,
    create_all: CreateAll,
    pg_session: Session,
    logged: Logged,
) -> None:
    @attach(Audit(into=log, level=level))
    class Pet(base):  # type: ignore[misc, valid-type]
        __tablename__ = "pet"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "pet"}
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]

    @attach(Audit(into=log, level=level))
    class Cat(Pet):
        __tablename__ = "cat"
        __mapper_args__ = {"polymorphic_identity": "cat"}
        id: Mapped[int] = mapped_column(ForeignKey("pet.id"), primary_key=True)
        lives: Mapped[int]

    class Dog(Pet):
        __mapper_args__ = {"polymorphic_identity": "dog"}
        tricks: Mapped[int] = mapped_column(nullable=True)

    create_all()
    pg_session.add_all([Cat(id=1, lives=9), Dog(id=2, tricks=3)])
    pg_session.commit()
    found = logged("table_name", "new_row")
    assert sorted(found, key=str) == [
        ("cat", {"id": 1, "lives": 9}),
        ("pet", {"id": 1, "kind": "cat", "tricks": None}),
        ("pet", {"id": 2, "kind": "dog", "tricks": 3}),
    ]


# Time.

ROWS = 20_000


@pytest.fixture
def connect(
    make: Callable[..., Any], create_all: CreateAll, pg_url: URL
) -> Callable[[], Connection]:
    """Open new connections to a database with an audited table of many rows."""
    account = make(operation=Update, condition=new.balance < old.balance)
    create_all()
    engine = create_engine(pg_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, history.ignore(connection, account):
        numbers = f"SELECT n, 'x', n FROM generate_series(1, {ROWS}) n"
        connection.execute(text(f"INSERT INTO account {numbers}"))
    return engine.connect


def test_bulk_update_is_as_fast_after_single_rows_as_on_a_fresh_connection(
    connect: Callable[[], Connection],
) -> None:
    """As in tests/db/test_plan_cliff.py."""
    fresh: list[float] = []
    warmed: list[float] = []
    for _ in range(2):
        for seconds in (fresh, warmed):
            with connect() as connection:
                connection.execute(text("TRUNCATE audit_log"))
                connection.execute(text("VACUUM ANALYZE account"))
            with connect() as connection:
                driver: Any = connection.connection.driver_connection
                for number in range(50 if seconds is warmed else 0):
                    driver.execute(
                        "UPDATE account SET balance = balance + 1 WHERE id = %s",
                        (number + 1,),
                        prepare=True,
                    )
                connection.execute(text("SET statement_timeout = '10s'"))
                start = time.perf_counter()
                connection.execute(text("UPDATE account SET balance = balance - 1"))
                seconds.append(time.perf_counter() - start)
    assert min(warmed) <= 3 * min(fresh)
