"""Keys, names, schemas and search paths of tables whose rows are marked."""

from __future__ import annotations

import decimal
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
    types,
)
from sqlalchemy.dialects.postgresql import CITEXT
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateSchema

import sa_history as history
from sa_history import SoftDelete, attach
from tests.triggers.soft_delete.helpers import Cents

Stored = Callable[..., list[tuple[Any, ...]]]


def test_composite_and_renamed_keys_find_the_row(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    stored: Stored,
) -> None:
    @attach(SoftDelete("active"))
    class Seat(base):  # type: ignore[misc, valid-type]
        __tablename__ = "Seat %"
        price: Mapped[decimal.Decimal] = mapped_column("p 1", Cents, primary_key=True)
        row: Mapped[str] = mapped_column('ro"w', primary_key=True)
        active: Mapped[bool] = mapped_column("is active", default=True)

    create_all()
    half = decimal.Decimal("0.5")
    pg_session.add_all(Seat(price=half, row=row) for row in ("a'", "b"))
    pg_session.flush()
    pg_session.execute(delete(Seat).where(Seat.row == "a'"))
    pg_session.commit()
    assert stored(Seat) == [(half, "a'", False), (half, "b", True)]


@pytest.mark.contrib
def test_a_key_that_ignores_case_finds_the_row(
    pg_engine: Engine, stored: Stored
) -> None:
    thing = Table(
        "thing",
        MetaData(),
        Column("name", CITEXT, primary_key=True),
        Column("is_active", types.Boolean),
    )
    attach(SoftDelete("is_active"))(thing)
    with pg_engine.begin() as connection:
        connection.execute(text("CREATE EXTENSION citext"))
        thing.metadata.create_all(connection)
        connection.execute(insert(thing).values(name="Ann", is_active=True))
        connection.execute(delete(thing).where(thing.c.name == "ann"))
    assert stored(thing) == [("Ann", False)]


@pytest.mark.parametrize(
    "odd",
    [
        *("Mixed Case", "begin", 'dou"ble', "it's", "100% %s %(x)s", "a:b ::c"),
        "$$ $history$",
    ],
)
def test_odd_names_are_taken_as_they_are(pg_engine: Engine, odd: str) -> None:
    thing = Table(
        f"t{odd}",
        MetaData(schema=f"s{odd}"),
        Column(f"id{odd}", Integer, primary_key=True),
        Column(odd, Text),
    )
    attach(SoftDelete(odd, value=odd, name=f"n{odd}"))(thing)
    with pg_engine.begin() as connection:
        connection.execute(CreateSchema(f"s{odd}"))
        thing.metadata.create_all(connection)
        connection.execute(insert(thing).values([(1, "a"), (2, "a")]))
        connection.execute(delete(thing).where(thing.c[f"id{odd}"] == 1))
        with history.ignore(connection, thing, f"n{odd}"):
            connection.execute(delete(thing).where(thing.c[f"id{odd}"] == 2))
        assert connection.execute(select(thing)).all() == [(1, odd)]


def test_each_translated_schema_marks_its_own_rows(
    account: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    with pg_engine.begin() as connection:
        connection.execute(CreateSchema("tenant"))
    tenant = pg_engine.execution_options(schema_translate_map={None: "tenant"})
    base.metadata.create_all(tenant)
    found = {}
    for engine in (pg_engine, tenant):
        with Session(engine) as session:
            session.add(account(id=1))
            session.commit()
    with Session(tenant) as session:
        session.delete(session.get_one(account, 1))
        session.commit()
    for name, engine in (("public", pg_engine), ("tenant", tenant)):
        with Session(engine) as session:
            found[name] = session.scalars(select(account.is_active)).all()
    assert found == {"public": [True], "tenant": [False]}


@pytest.mark.parametrize("path", ["''", "elsewhere", "elsewhere, pg_catalog"])
def test_another_search_path_changes_nothing(
    accounts: Any, pg_engine: Engine, stored: Stored, path: str
) -> None:
    with pg_engine.begin() as connection:
        connection.execute(CreateSchema("elsewhere"))
        connection.execute(text("CREATE TABLE elsewhere.account ()"))
        for type_ in ("boolean", "integer"):
            connection.execute(
                text(
                    f"CREATE FUNCTION elsewhere.lie({type_}, {type_}) RETURNS boolean"
                    " LANGUAGE plpgsql AS 'BEGIN RETURN NOT $1 OPERATOR(pg_catalog.=)"
                    " $2; END'"
                )
            )
            connection.execute(
                text(
                    "CREATE OPERATOR elsewhere.= (FUNCTION = elsewhere.lie,"
                    f" LEFTARG = {type_}, RIGHTARG = {type_})"
                )
            )
        connection.execute(text(f"SET LOCAL search_path = {path}"))
        connection.execute(
            text("DELETE FROM public.account WHERE id OPERATOR(pg_catalog.=) 1")
        )
    assert stored(accounts, "id", "is_active") == [(1, False), (2, True), (3, True)]
