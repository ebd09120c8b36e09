"""Track a model, change it in several ways, and read its history.

Run it with ``nox -s demo``, or with ``DATABASE_URL`` set to use a server of your own;
there it works in a schema of its own, which it drops at the end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pprint import pprint

from sqlalchemy import (
    Engine,
    MetaData,
    String,
    create_engine,
    func,
    make_url,
    select,
    text,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateSchema, DropSchema

import sa_history as history
from sa_history import AfterInsert, AfterUpdate, AggregateEvent, Snapshot, new, track
from sa_history.testing import EmbeddedPostgres

SCHEMA = "sa_history_demo"


class Base(DeclarativeBase):
    metadata = MetaData(schema=SCHEMA)


@track(
    # A "snapshot" event for every insert, and every update that changes something.
    Snapshot,
    # A "create" event when a row is created.
    AfterInsert(label="create"),
    # A "low_int" event for every update that leaves int_field below 0.
    AfterUpdate(new.int_field < 0, label="low_int"),
)
class Tracked(Base):
    __tablename__ = "tracked"

    id: Mapped[int] = mapped_column(primary_key=True)
    int_field: Mapped[int]
    char_field: Mapped[str] = mapped_column(String(64))


@contextmanager
def database() -> Iterator[Engine]:
    """Give an engine for a database with the tables, functions and triggers."""
    if url := os.environ.get("DATABASE_URL"):
        engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
        with installed(engine):
            yield engine
    else:
        with EmbeddedPostgres() as server, installed(create_engine(server.url())) as e:
            yield e


@contextmanager
def installed(engine: Engine) -> Iterator[Engine]:
    """Create the schema and all that belongs to the models, and drop it after."""
    with engine.begin() as connection:
        connection.execute(DropSchema(SCHEMA, cascade=True, if_exists=True))
        connection.execute(CreateSchema(SCHEMA))
    try:
        Base.metadata.create_all(engine)
        yield engine
    finally:
        with engine.begin() as connection:
            connection.execute(DropSchema(SCHEMA, cascade=True, if_exists=True))
        engine.dispose()


def the_example(session: Session) -> None:
    """Make four changes, the last two in a context, and look at what is left."""
    tracked = Tracked(int_field=1, char_field="hello")
    session.add(tracked)
    session.commit()

    tracked.char_field = "hi"
    tracked.int_field = 0
    session.commit()

    tracked.char_field = "bye"
    session.commit()

    with history.context(session, misc="context"):
        # int_field is below 0 from here on, so "low_int" events are recorded too.
        tracked.int_field = -1
        tracked.char_field = "foo"
        session.commit()

        tracked.char_field = "bar"
        session.commit()

    print("snapshots")
    events = session.scalars(
        tracked.events.where(Tracked.events.pgh_label == "snapshot")
    )
    pprint([snapshot(event) for event in events])
    print()

    print("diffs")
    diffs = session.execute(AggregateEvent.select(tracked, labels=["snapshot"]))
    pprint([{"pgh_diff": row.pgh_diff} for row in diffs])
    print()

    print("create events", count(session, "create"))
    print("low_int events", count(session, "low_int"))


def snapshot(event: history.Event) -> dict[str, object]:
    """Return what the example prints of an event."""
    context = event.pgh_context
    return {
        "int_field": event.int_field,
        "char_field": event.char_field,
        "pgh_context": context and context.metadata,
    }


def count(session: Session, label: str) -> int | None:
    """Return how many events have a label."""
    events = Tracked.events.where(Tracked.events.pgh_label == label).subquery()
    return session.scalar(select(func.count()).select_from(events))


def the_tour(session: Session) -> None:
    """Change rows by a bulk update, by raw SQL and by COPY."""
    seen = session.scalar(select(func.max(Tracked.events.pgh_id)))

    with history.context(session, user="ada", why="import"):
        # COPY is the driver's own, below SQLAlchemy.
        driver = session.connection().connection.driver_connection
        with driver.cursor().copy(
            f"COPY {SCHEMA}.tracked (int_field, char_field) FROM STDIN"
        ) as copy:
            for number in range(3):
                copy.write_row((number, f"row {number}"))
        session.commit()

    with history.context(session, user="ada", why="inventory"):
        session.execute(
            update(Tracked)
            .where(Tracked.char_field.startswith("row"))
            .values(int_field=Tracked.int_field + 10)
        )
        session.commit()

    with history.context(session, user="sql"):
        session.execute(
            text(
                f"UPDATE {SCHEMA}.tracked SET int_field = -5 WHERE char_field = 'row 2'"
            )
        )
        session.commit()

    print("a COPY, a bulk update and raw SQL")
    for row in session.execute(
        AggregateEvent.select(Base).where(AggregateEvent.pgh_id > seen)
    ):
        print(f"{row.pgh_label:9}{row.pgh_op} {row.pgh_context} {row.pgh_diff}")


def main() -> None:
    """Run the example and the tour."""
    with database() as engine, Session(engine) as session:
        the_example(session)
        print()
        the_tour(session)


if __name__ == "__main__":
    main()
