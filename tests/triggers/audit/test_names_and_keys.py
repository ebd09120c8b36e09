"""Names and keys of audited tables."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    delete,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateSchema

from sa_history import Audit, attach, audit_table
from sa_history.exc import DefinitionError

Logged = Callable[..., list[Any]]
CreateAll = Callable[[], None]

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


def test_keys_of_many_columns_are_logged_whole(
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


def test_rows_without_a_key_are_logged_with_an_empty_one(
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
