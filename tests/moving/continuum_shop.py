"""A shop whose history SQLAlchemy-Continuum keeps; prints what it says of the past."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from sqlalchemy import Integer, create_engine, select, text
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    configure_mappers,
    mapped_column,
)
from sqlalchemy_continuum import make_versioned, versioning_manager
from sqlalchemy_continuum.plugins import (
    FlaskPlugin,
    NullDeletePlugin,
    TransactionMetaPlugin,
)

from tests.moving.shop import NAMES, Shop, define, rows, state

now: dict[str, Any] = {"user": None, "address": None}
plugins: list[Any] = [
    FlaskPlugin(lambda: now["user"], lambda: now["address"]),
    TransactionMetaPlugin(),
]
if "null-delete" in sys.argv:
    plugins.append(NullDeletePlugin())


class Base(DeclarativeBase):
    pass


make_versioned(user_cls="User", plugins=plugins)


class User(Base):
    __tablename__ = "user"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)


shop = Shop(*define(Base, {"__versioned__": {}}))
configure_mappers()
engine = create_engine(os.environ["DATABASE_URL"])
Base.metadata.create_all(engine)
with Session(engine) as session:
    session.add_all([User(id=7), User(id=8)])
    session.commit()

report: dict[str, Any] = {"transactions": [], "versions": []}
for user, do in shop.transactions():
    with Session(engine) as session:
        now["user"], now["address"] = user and int(user), user and "10.0.0.1"
        unit = versioning_manager.unit_of_work(session)
        transaction = unit.create_transaction(session)
        if user == "8":
            transaction.meta = {"reason": "stock-taking"}
        do(session)
        session.commit()
        told = {
            "number": transaction.id,
            "at": transaction.issued_at.isoformat() + "+00:00",
            "user": transaction.user_id,
            "state": state(session, Base.metadata),
        }
        report["transactions"].append(told)

with Session(engine) as session:
    for name in NAMES:
        table = Base.metadata.tables[name]
        versions = Base.metadata.tables[f"{name}_version"].c
        columns = [versions[c.name] for c in table.c]
        for told in report["transactions"]:
            # What it says of then is what was there then.
            key = [versions[c.name] for c in table.primary_key]
            number = versions.transaction_id
            last = (
                select(versions.operation_type, *columns)
                .where(number <= told["number"])
                .distinct(*key)
                .order_by(*key, number.desc())
                .subquery()
            )
            then = select(*(last.c[c.name] for c in columns))
            then = then.where(last.c.operation_type != 2)
            assert rows(session, then) == told["state"][name], name
        rows_then: dict[Any, list[Any]] = {}
        every = select(versions.transaction_id, versions.operation_type, *columns)
        for version in session.execute(every.order_by(versions.transaction_id)):
            number, operation, *values = version
            key_then = tuple(values[: len(table.primary_key)])
            if operation == 2:  # what was there; NullDeletePlugin keeps the key only
                values = rows_then[key_then]
            rows_then[key_then] = values
            report["versions"].append([number, name, "IUD"[operation], repr(values)])
    # It does not see this, whoever does it.
    session.execute(text("UPDATE product SET price = 9 WHERE id = 3"))
    session.execute(text("DELETE FROM review WHERE number = 1"))
    session.execute(text("INSERT INTO tag VALUES (5, 'raw')"))
    session.commit()
print(json.dumps(report))
