"""A shop whose history the commands show, and the commands."""

from __future__ import annotations

import datetime
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import URL, Engine, text, update
from sqlalchemy.orm import Session

import sa_history as history
from sa_history.cli import main

MODELS = """
import datetime
from decimal import Decimal

from sqlalchemy import Column, ForeignKey, Integer, MetaData, Numeric, String, Table
from sqlalchemy import Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sa_history import AfterDelete, AfterInsert, AfterUpdate, AnyChange, Manual
from sa_history import Snapshot, new, track


class Base(DeclarativeBase):
    pass


@track(Snapshot, AfterDelete, AfterUpdate(new.balance < 0, label="overdrawn"),
       Manual("seen"), exclude=["password"])
class Account(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column("name", Text)
    balance: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    details: Mapped[dict | None] = mapped_column(JSONB)
    password: Mapped[str | None]


@track(Snapshot, AfterDelete)
class Item(Base):
    __tablename__ = "item"
    number: Mapped[int] = mapped_column(primary_key=True)
    tag: Mapped[str] = mapped_column(String(5), primary_key=True)
    amount: Mapped[int]


@track(Snapshot, AfterDelete)
class Animal(Base):
    __tablename__ = "animal"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]


@track(Snapshot, AfterDelete)
class Cat(Animal):
    __tablename__ = "cat"
    __mapper_args__ = {"polymorphic_identity": "cat"}
    id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
    lives: Mapped[int]


class Plain(Base):
    __tablename__ = "plain"
    id: Mapped[int] = mapped_column(primary_key=True)


@track(Snapshot, AfterDelete, AfterUpdate(columns=["title"], label="brief"))
class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    body: Mapped[str]


@track(AfterInsert, AfterUpdate(AnyChange("price")), AfterDelete)
class Ware(Base):
    __tablename__ = "ware"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[int]


@track(AfterUpdate(columns=["percent"]))
class Rate(Base):
    __tablename__ = "rate"
    id: Mapped[int] = mapped_column(primary_key=True)
    percent: Mapped[int]
    until: Mapped[int]


other = MetaData()
visit = track(Snapshot, AfterDelete)(
    Table("visit", other, Column("id", Integer, primary_key=True, key="number"))
)

nothing = MetaData()
Table("plain", nothing, Column("id", Integer, primary_key=True))
"""

Main = Callable[..., tuple[int, str, str]]
"""Runs ``sa-history`` and returns the exit status, and what it has printed."""


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what whoever runs the tests has set for terminals."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module with the models, in the directory of the commands."""
    (tmp_path / "shop.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    import shop

    yield shop
    sys.modules.pop("shop", None)


@pytest.fixture
def database(
    shop: Any, pg_engine: Engine, pg_url: URL, monkeypatch: pytest.MonkeyPatch
) -> Engine:
    """A database with the tables of the shop, which the environment names."""
    shop.Base.metadata.create_all(pg_engine)
    shop.other.create_all(pg_engine)
    monkeypatch.setenv("DATABASE_URL", pg_url.render_as_string(hide_password=False))
    return pg_engine


@pytest.fixture
def session(database: Engine) -> Iterator[Session]:
    """A session of the application."""
    with Session(database) as session:
        yield session


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Main:
    """Run a command, with all arguments in one text, or one by one."""

    def execute(*arguments: str) -> tuple[int, str, str]:
        if len(arguments) == 1:
            arguments = tuple(arguments[0].split())
        capsys.readouterr()
        try:
            status = main(arguments)
        except SystemExit as ended:
            status = int(ended.code or 0)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return execute


@pytest.fixture
def three_changes(session: Session, shop: Any) -> datetime.datetime:
    """Have ada create an account, and bob change and delete it.

    :return: a time after the account was changed, and before it was deleted.
    """
    with history.context(session, user="ada", url="/new"):
        account = shop.Account(id=7, owner="Ann", balance=100, password="secret")
        session.add(account)
        session.commit()
    with history.context(session, user=8):
        session.execute(update(shop.Account).values(balance="-10.50", owner="Ann B."))
        session.commit()
    time: datetime.datetime = session.execute(
        text("SELECT clock_timestamp()")
    ).scalar_one()
    session.rollback()
    session.delete(account)
    session.commit()
    return time
