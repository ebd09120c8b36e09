"""An application whose database older builds of sa_history have made and written.

``freeze`` runs under such a build, and writes what it leaves: ``NAME.sql``, a dump of
the database; ``NAME.json``, the digest of its seals; ``NAME``, its archive. It needs a
server that is new, whose transactions have low numbers, and ``pg_dump`` in the path::

    python application.py postgresql+psycopg://localhost/empty 8cc72ac

The tests of ``test_older_builds.py`` load these and read them with the present build.
The name is the commit of the build. Options that it does not know are left out.
"""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Collection
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sqlalchemy import (
    Column,
    DateTime,
    ForeignKey,
    Integer,
    MetaData,
    Numeric,
    create_engine,
    func,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import (
    FSM,
    AfterDelete,
    AfterUpdate,
    Protect,
    Snapshot,
    SoftDelete,
    Touch,
    Truncate,
    Versioned,
    attach,
    new,
    track,
)

SEALS = {"sealed", "erasable", "partition_by"}
"""The options that builds from before seals do not know."""

_NOISE = re.compile(
    r"^(--( (Name|Data for|PostgreSQL|Dumped).*)?|\\.*|SET transaction_timeout.*)?\n",
    re.MULTILINE,
)
"""What psql alone understands, what older servers do not, and comments of pg_dump."""


def models(without: Collection[str] = ()) -> SimpleNamespace:
    """Return the models, anew.

    :param without: options of ``track`` that the build has not.
    """

    def options(**given: Any) -> dict[str, Any]:
        return {name: given[name] for name in given if name not in without}

    class Base(DeclarativeBase):
        metadata = MetaData()

    @track(
        Snapshot,
        AfterUpdate(new.balance < 0, label="overdrawn"),
        AfterDelete,
        append_only=True,
        context_columns=[Column("user", Integer)],
    )
    class Account(Base):
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[Decimal] = mapped_column(Numeric(10, 2))
        doc: Mapped[Any] = mapped_column(JSONB, default=None)

    @track(Snapshot, AfterDelete)
    class Animal(Base):
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        name: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    @track(Snapshot, AfterDelete)
    class Dog(Animal):
        __tablename__ = "dog"
        id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        breed: Mapped[str]
        __mapper_args__ = {"polymorphic_identity": "dog"}

    @track(Snapshot, AfterDelete, context="inline", level="row")
    class Line(Base):
        __tablename__ = "line"
        order: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        sku: Mapped[str] = mapped_column(primary_key=True)
        quantity: Mapped[int]

    @track(
        Snapshot, AfterDelete, **options(partition_by=5, sealed=True, erasable=["name"])
    )
    class Reading(Base):
        __tablename__ = "reading"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str | None]
        value: Mapped[int]

    @track(Snapshot, AfterDelete, **options(sealed=True))
    @attach(
        SoftDelete("is_active"),
        Touch("updated_at"),
        Versioned("version"),
        FSM("state", transitions=[("draft", "sent")], initial=["draft"]),
        Protect(Truncate),
    )
    class Invoice(Base):
        __tablename__ = "invoice"
        id: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[str] = mapped_column(default="draft")
        version: Mapped[int] = mapped_column(server_default="1")
        is_active: Mapped[bool] = mapped_column(server_default=text("true"))
        updated_at: Mapped[datetime] = mapped_column(
            DateTime(timezone=True), server_default=func.now()
        )

    return SimpleNamespace(
        Base=Base,
        Account=Account,
        Animal=Animal,
        Dog=Dog,
        Line=Line,
        Reading=Reading,
        Invoice=Invoice,
    )


def write(engine: Any, app: SimpleNamespace) -> None:
    """Write two transactions with contexts, and one without."""
    with Session(engine) as session:
        with history.context(session, user=1, why="é'\\"):
            doc = {"a": [1, 2.50, None]}
            session.add(app.Account(id=1, balance=Decimal("5.00"), doc=doc))
            session.add(app.Dog(id=1, name="Rex", breed="lab"))
            session.add(app.Line(order=1, sku="a", quantity=2))
            session.add(app.Invoice(id=1))
            session.add_all(
                app.Reading(id=number, name=f"r{number}", value=number)
                for number in range(1, 8)
            )
            session.commit()
        with history.context(session, user=2), history.context(session, url="/a"):
            session.get(app.Account, 1).balance = Decimal("-3.00")
            session.get(app.Dog, 1).breed = "poodle"
            session.get(app.Line, (1, "a")).quantity = 3
            session.get(app.Invoice, 1).state = "sent"
            session.execute(update(app.Reading).values(value=app.Reading.value + 100))
            session.commit()
        session.delete(session.get(app.Line, (1, "a")))
        session.commit()


def freeze(url: str, name: str) -> None:
    """Write what this build leaves in a database; see above."""
    folder = Path(__file__).parent
    known = set(inspect.signature(track).parameters)
    app = models(SEALS - known)
    engine = create_engine(url)
    app.Base.metadata.create_all(engine)
    write(engine, app)
    if known >= SEALS:
        with Session(engine) as session:
            history.seal(engine, app.Base)
            history.erase(session, app.Reading, 3, reason="asked")
            session.commit()
        history.partitions(engine, app.Base)
        (folder / f"{name}.json").write_text(history.seal(engine, app.Base).to_json())
        shutil.rmtree(folder / name, ignore_errors=True)
        history.archive(engine, app.Base, to=folder / name)
    options = ["--inserts", "--no-owner", "--no-privileges"]
    plain = url.replace("+psycopg", "")
    dump = subprocess.run(
        ["pg_dump", *options, plain], stdout=subprocess.PIPE, text=True, check=True
    )
    (folder / f"{name}.sql").write_text(_NOISE.sub("", dump.stdout))


if __name__ == "__main__":
    freeze(*sys.argv[1:])
