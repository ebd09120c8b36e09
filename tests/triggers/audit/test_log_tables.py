"""Which tables may be a log, and what Audit may be attached to."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Computed,
    Engine,
    Identity,
    Integer,
    MetaData,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
)
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateSchema

import sa_history as history
from sa_history import Audit, Delete, UpdateOf, attach, audit_table, new, old
from sa_history.exc import ConditionError, DefinitionError

Logged = Callable[..., list[Any]]
CreateAll = Callable[[], None]


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


def test_one_table_may_have_two_logs(
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
