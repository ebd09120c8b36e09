"""Touch: which times it sets, where and when."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Computed,
    DateTime,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    func,
    insert,
    literal,
    select,
    text,
    types,
    update,
)
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import (
    AnyChange,
    Delete,
    Insert,
    Touch,
    Update,
    UpdateOf,
    attach,
    new,
    old,
)
from sa_history.exc import ConditionError, DefinitionError
from tests.triggers.statements import sent
from tests.triggers.versioned_touch.helpers import THEN

Stored = Callable[..., list[tuple[Any, ...]]]
InSession = Callable[[Callable[[Session], Any]], Any]


def test_touch_says_when_the_transaction_began(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @attach(Touch("at"), Touch("clock", value=func.clock_timestamp()))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        n: Mapped[int] = mapped_column(default=0)
        at: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))
        clock: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))

    create_all()
    one = Page(id=1)
    pg_session.add(one)
    pg_session.flush()
    assert (one.at, one.clock) == (None, None)
    began = pg_session.scalar(select(func.now()))
    times = []
    for n in (1, 2):
        one.n = n
        pg_session.flush()
        assert one.at == began
        times.append(one.clock)
    assert began < times[0] < times[1]


@pytest.mark.parametrize(
    ("operation", "inserted"),
    [(Update, None), (Insert, THEN), (Insert | Update, THEN)],
)
def test_touch_is_for_new_rows_for_changed_ones_or_for_both(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    operation: Any,
    inserted: Any,
) -> None:
    @attach(Touch("at", value=literal(THEN), operation=operation))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        n: Mapped[int] = mapped_column(default=0)
        at: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))

    create_all()

    def work(session: Session) -> None:
        pages = [Page(id=1), Page(id=2)]
        session.add_all(pages)
        with sent(session) as words:
            session.flush()
            assert [p.at for p in pages] == [inserted, inserted]
            one = pages[0]
            one.n = 1
            session.flush()
            assert one.at == THEN or operation is Insert
        assert words == ["INSERT", "UPDATE"]
        session.execute(text("UPDATE page SET at = NULL"))
        session.refresh(one)
        assert one.at == (None if operation is Insert else THEN)

    in_session(work)


def test_on_conflict_touches_new_and_changed_rows(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    stored: Stored,
) -> None:
    @attach(
        Touch("made", value=literal(1), operation=Insert),
        Touch("changed", value=literal(1)),
    )
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        n: Mapped[int] = mapped_column(default=0)
        made: Mapped[int | None]
        changed: Mapped[int | None]

    create_all()
    pg_session.add(Page(id=1))
    pg_session.flush()
    pg_session.execute(text("UPDATE page SET made = 0"))
    statement = pg_insert(Page.__table__).values([{"id": 1, "n": 1}, {"id": 2, "n": 1}])
    pg_session.execute(
        statement.on_conflict_do_update(
            index_elements=["id"], set_={"n": statement.excluded.n}
        )
    )
    pg_session.commit()
    assert stored(Page) == [(1, 1, 0, 1), (2, 1, 1, None)]


@pytest.mark.parametrize(
    "condition",
    [
        AnyChange(exclude=["seen", "at"]),
        AnyChange("text"),
        old.text != new.text,
        lambda old, new: old.text.is_distinct_from(new.text),
        text("OLD.text IS DISTINCT FROM NEW.text -- and no more"),
    ],
)
def test_only_changes_that_meet_the_condition_touch(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    condition: Any,
) -> None:
    @attach(Touch("at", value=literal(THEN), condition=condition))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(default="a")
        seen: Mapped[int] = mapped_column(default=0)
        at: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))

    create_all()
    one = Page(id=1)
    pg_session.add(one)
    pg_session.flush()
    one.seen = 1
    pg_session.flush()
    assert one.at is None
    one.text = "b"
    pg_session.flush()
    assert one.at == THEN


def test_a_condition_on_both_fits_both() -> None:
    thing = Table(
        "thing",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("at", DateTime),
    )
    with pytest.raises(ConditionError, match=r"INSERT uses old\.id"):
        attach(Touch("at", operation=Insert | Update, condition=old.id > 1))(thing)
    attach(Touch("at", operation=Insert | Update, condition=new.id > 1))(thing)


@pytest.mark.parametrize(
    ("type_", "sql"),
    [
        (types.Date(), "CURRENT_DATE"),
        (types.Time(), "LOCALTIME"),
        (types.DateTime(), "LOCALTIMESTAMP"),
        (types.DateTime(timezone=True), "now()"),
    ],
)
def test_any_column_of_a_time_is_touched(
    pg_engine: Engine, type_: Any, sql: str
) -> None:
    thing = Table(
        "thing",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("at", type_),
    )
    attach(Touch("at"))(thing)
    thing.metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(insert(thing).values(id=1))
        connection.execute(update(thing).values(id=2))
        assert connection.scalar(text(f"SELECT at = {sql} FROM thing")) is True


@pytest.mark.parametrize(
    ("arguments", "column", "message"),
    [
        ({}, Column("at", Integer), "Touch sets a time"),
        ({}, Column("at", DateTime, Computed("1", persisted=True)), "is generated"),
        ({}, Column("at", DateTime, primary_key=True), "of the primary key"),
        ({"value": literal(object())}, Column("at", DateTime), "cannot be written"),
        ({"value": THEN}, Column("at", DateTime), "value is an SQL expression"),
        ({"operation": Delete}, Column("at", DateTime), "operation is Update"),
        ({"operation": UpdateOf("id")}, Column("at", DateTime), "operation is Update"),
        ({"operation": "update"}, Column("at", DateTime), "operation is Update"),
    ],
)
def test_bad_touches_are_refused_at_once(
    arguments: dict[str, Any], column: Column[Any], message: str
) -> None:
    thing = Table("thing", MetaData(), Column("id", Integer, primary_key=True), column)
    with pytest.raises(DefinitionError, match=message):
        attach(Touch("at", **arguments))(thing)


def test_a_new_row_may_have_a_time_in_its_key(
    pg_engine: Engine, stored: Stored
) -> None:
    thing = Table(
        "thing",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("at", DateTime(timezone=True), primary_key=True),
    )
    attach(Touch("at", value=literal(THEN), operation=Insert))(thing)
    thing.metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(insert(thing).values(id=1))
    assert stored(thing) == [(1, THEN)]


def test_rows_of_a_cascade_are_changed_by_the_owner_of_their_table(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_engine: Engine,
    pg_session: Session,
) -> None:
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)

    @attach(Touch("changed_by", value=func.current_user()))
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        page_id: Mapped[int] = mapped_column(ForeignKey(Page.id, onupdate="CASCADE"))
        changed_by: Mapped[str | None]

    create_all()
    owner = pg_session.scalar(select(func.current_user()))
    clerk = f"clerk of {pg_engine.url.database}"
    for statement in (
        f'CREATE ROLE "{clerk}"',  # rolled back at the end: a role is of the cluster
        f'GRANT ALL ON page, note TO "{clerk}"',
        f'SET LOCAL ROLE "{clerk}"',
    ):
        pg_session.execute(text(statement))
    pg_session.add_all([Page(id=1), Page(id=2)])
    pg_session.flush()
    pg_session.add_all([Note(id=1, page_id=1), Note(id=2, page_id=1)])
    pg_session.flush()
    pg_session.execute(update(Note).where(Note.id == 2).values(page_id=2))
    pg_session.execute(update(Page).where(Page.id == 1).values(id=3))
    roles = pg_session.execute(select(Note.id, Note.changed_by).order_by(Note.id))
    assert [tuple(row) for row in roles] == [(1, owner), (2, clerk)]
