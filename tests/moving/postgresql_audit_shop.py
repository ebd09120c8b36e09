"""A shop whose history postgresql-audit keeps; prints what it says of the past."""

from __future__ import annotations

import json
import os
from typing import Any

from postgresql_audit import VersioningManager
from sqlalchemy import create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Session, configure_mappers

from tests.moving.shop import NAMES, Shop, define, state


class Base(DeclarativeBase):
    pass


manager = VersioningManager(actor_cls=None)
manager.init(Base)
shop = Shop(*define(Base, {"__versioned__": {}}))
manager.audit_table(Base.metadata.tables["product_tag"])
configure_mappers()
engine = create_engine(os.environ["DATABASE_URL"])
# Its triggers look for these two when the other tables are created.
manager.transaction_cls.__table__.create(engine)
manager.activity_cls.__table__.create(engine)
Base.metadata.create_all(engine)

report: dict[str, Any] = {"transactions": [], "versions": []}
for user, do in shop.transactions():
    with Session(engine) as session:
        manager.values = {"actor_id": user, "client_addr": "10.0.0.1"} if user else {}
        do(session)
        session.flush()
        if do == shop.reopen:  # with another key, and not by the ORM
            session.execute(text("UPDATE review SET number = 5 WHERE number = 1"))
        number = session.scalar(text("SELECT pg_current_xact_id()::text::bigint"))
        session.commit()
        after = text("SELECT clock_timestamp()")
        told = {
            "number": number,
            "at": session.scalar(after).isoformat(),
            "user": user,
            "state": state(session, Base.metadata),
        }
        report["transactions"].append(told)

with Session(engine) as session:
    activity = manager.activity_cls
    for one in session.scalars(select(activity).order_by(activity.id)):
        values = one.old_data if one.verb == "delete" else one.data
        assert one.table_name in NAMES
        row = [one.table_name, one.verb[0].upper(), json.dumps(values, sort_keys=True)]
        report["versions"].append([int(one.native_transaction_id), *row])
    session.execute(text("ALTER TABLE product DISABLE TRIGGER USER"))
    session.execute(text("ALTER TABLE review DISABLE TRIGGER USER"))
    session.execute(text("ALTER TABLE tag DISABLE TRIGGER USER"))
    session.execute(text("UPDATE product SET price = 9 WHERE id = 3"))
    session.execute(text("DELETE FROM review"))
    session.execute(text("INSERT INTO tag VALUES (5, 'raw')"))
    session.commit()
print(json.dumps(report))
