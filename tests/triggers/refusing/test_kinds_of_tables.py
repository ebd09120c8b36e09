"""Partitioned tables, inheritance and tables of Core are protected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Integer,
    String,
    Table,
    delete,
    insert,
    text,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import (
    FSM,
    Delete,
    Insert,
    Protect,
    ReadOnly,
    Update,
    attach,
    new,
    old,
)
from sa_history.exc import (
    ProtectedError,
    ReadOnlyError,
    RefusedError,
    TransitionError,
)
from sa_history.install import check, install

Attempt = Callable[..., "type[RefusedError] | None"]
CreateAll = Callable[[], None]


@pytest.fixture
def reading(
    base: type[DeclarativeBase], create_all: CreateAll, pg_engine: Engine
) -> Callable[..., Any]:
    """Make a table in two parts, for days below 10 and above, with these triggers."""

    def make(*triggers: Any, is_known: bool = True) -> Any:
        @attach(*triggers)
        class Reading(base):  # type: ignore[misc, valid-type]
            __tablename__ = "reading"
            __table_args__ = {
                "postgresql_partition_by": "RANGE (day)" if is_known else None
            }
            day: Mapped[int] = mapped_column(primary_key=True)
            value: Mapped[int]
            place: Mapped[str] = mapped_column(default="here")

        if not is_known:
            with pg_engine.begin() as connection:
                connection.execute(
                    text(
                        "CREATE TABLE reading (day int PRIMARY KEY, value int NOT NULL,"
                        " place varchar NOT NULL) PARTITION BY RANGE (day)"
                    )
                )
        create_all()
        install(pg_engine, base)
        with pg_engine.begin() as connection:
            part = "CREATE TABLE {} PARTITION OF reading FOR VALUES FROM ({}) TO ({})"
            connection.execute(text(part.format("early", 0, 10)))
            connection.execute(text(part.format("late", 10, 20)))
            rows = "(1, 1, 'here'), (5, 2, 'here'), (12, 3, 'here')"
            connection.execute(text(f"INSERT INTO reading VALUES {rows}"))
        return Reading

    return make


def test_partitioned_table_is_protected_through_the_parent(
    reading: Any, attempt: Attempt, level: str
) -> None:
    reading(
        Protect(Insert, condition=new.value < 0, level=level),
        Protect(Delete, condition=old.value == 3, level=level),
        ReadOnly("place", level=level),
    )
    assert attempt("INSERT INTO reading VALUES (3, 1, ''), (13, -1, '')") is (
        ProtectedError
    )
    assert attempt("UPDATE reading SET place = 'x' WHERE day = 12") is ReadOnlyError
    assert attempt("DELETE FROM reading") is ProtectedError
    assert attempt("TRUNCATE reading") is ProtectedError
    assert attempt("DELETE FROM reading WHERE value = 1") is None
    assert attempt("UPDATE reading SET value = 4") is None
    assert attempt("TRUNCATE reading") is None


def test_row_that_moves_to_another_partition_is_looked_at(
    reading: Any, attempt: Attempt, level: str
) -> None:
    reading(
        ReadOnly("place", level=level),
        Protect(Update, condition=new.value < old.value, level=level),
    )
    move = "UPDATE reading SET day = day + 5"  # the second of three moves
    assert attempt(f"{move}, place = CASE day WHEN 5 THEN 'x' ELSE place END") is (
        ReadOnlyError
    )
    assert attempt(f"{move}, value = 2") is ProtectedError
    assert attempt(f"{move}, value = value + 1") is None


def test_move_to_another_partition_is_a_deletion_at_row_level_only(
    reading: Any, attempt: Attempt, level: str
) -> None:
    """For PostgreSQL's row triggers a move is a DELETE and an INSERT."""
    reading(Protect(Delete, level=level))
    assert attempt("UPDATE reading SET day = day + 1") is None
    moved = attempt("UPDATE reading SET day = day + 5")
    assert moved is (ProtectedError if level == "row" else None)


def test_deletion_from_a_partition_itself_is_refused_at_row_level_only(
    reading: Any, attempt: Attempt, level: str
) -> None:
    """The trigger of a statement is the named table's, which has none."""
    reading(Protect(Delete, level=level), ReadOnly("place", level=level))
    assert attempt("UPDATE early SET place = 'x'") is ReadOnlyError
    assert attempt("DELETE FROM early") is (ProtectedError if level == "row" else None)


@pytest.mark.parametrize("is_known", [True, False], ids=["known", "unknown"])
def test_row_that_merge_moves_to_another_partition_is_looked_at(
    reading: Any, attempt: Attempt, pg_engine: Engine, level: str, is_known: bool
) -> None:
    """PostgreSQL tells a trigger for each statement nothing of it."""
    model = reading(
        ReadOnly("place", level=level),
        Protect(Update, condition=new.value < old.value, name="falls", level=level),
        Protect(Delete, level=level),
        is_known=is_known,
    )
    merge = (
        "MERGE INTO reading AS r USING (VALUES (1), (5)) AS v (day) ON r.day = v.day"
        " WHEN MATCHED THEN UPDATE SET day = r.day + 10, {}"
    )
    seen = level == "row" or is_known
    assert attempt(merge.format("place = 'x'")) is (ReadOnlyError if seen else None)
    assert attempt(merge.format("value = 0")) is (ProtectedError if seen else None)
    moved = attempt(merge.format("value = 9"))
    assert moved is (ProtectedError if level == "row" else None)
    found = [(f.problem, f.kind, f.name) for f in check(pg_engine, model.metadata)]
    bypassed = ("bypassed", "table", "public.reading")
    assert found == ([] if seen else [bypassed, bypassed])


def test_triggers_of_an_older_version_on_a_partitioned_table_are_found(
    reading: Any, attempt: Attempt, pg_engine: Engine, pg_session: Session
) -> None:
    """They looked at updates once for each statement."""
    model = reading(ReadOnly("place", level="statement"))
    assert check(pg_engine, model.metadata) == []
    for statement in (
        "DROP TRIGGER reading_read_only ON reading",
        "CREATE TRIGGER reading_read_only AFTER UPDATE ON reading"
        " REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows"
        " FOR EACH STATEMENT EXECUTE FUNCTION reading_read_only()",
        "COMMENT ON TRIGGER reading_read_only ON reading IS 'sa_history:0123456789'",
    ):
        pg_session.execute(text(statement))
    pg_session.commit()
    (found,) = check(pg_engine, model.metadata)
    assert (found.problem, found.kind) == ("outdated", "trigger")
    install(pg_engine, model.metadata)
    assert check(pg_engine, model.metadata) == []
    assert attempt("UPDATE reading SET place = 'x'") is ReadOnlyError


def test_row_of_a_table_that_inherits_is_looked_at_through_the_parent(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_engine: Engine,
    pg_session: Session,
    attempt: Attempt,
    level: str,
) -> None:
    """PostgreSQL fires the triggers for each statement of the table it names only."""
    pg_session.execute(
        text("CREATE TABLE every (id int PRIMARY KEY, name varchar, state varchar)")
    )
    pg_session.commit()

    @attach(
        Protect(Delete, condition=old.name == "a", level=level),
        Protect(Insert, condition=new.name == "x", level=level),
        ReadOnly("name", level=level),
        FSM("state", transitions=[("new", "old")], initial=["new"], level=level),
    )
    class Piece(base):  # type: ignore[misc, valid-type]
        __tablename__ = "piece"
        __table_args__ = {"postgresql_inherits": "every"}
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        state: Mapped[str]

    create_all()
    pg_session.execute(
        text("INSERT INTO piece VALUES (1, 'a', 'new'), (2, 'b', 'new')")
    )
    pg_session.commit()
    assert check(pg_engine, base) == []
    assert attempt("DELETE FROM every") is ProtectedError
    assert attempt("UPDATE every SET name = 'c'") is ReadOnlyError
    assert attempt("UPDATE every SET state = 'lost'") is TransitionError
    assert attempt("INSERT INTO piece VALUES (3, 'x', 'new')") is ProtectedError
    assert attempt("INSERT INTO piece VALUES (3, 'c', 'old')") is TransitionError
    assert attempt("UPDATE every SET state = 'old'") is None
    assert attempt("DELETE FROM every WHERE id = 2") is None


def test_table_that_inherits_in_the_database_only_is_found(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_engine: Engine,
    pg_session: Session,
) -> None:
    @attach(Protect(Delete, level="statement"), Protect(Insert, level="statement"))
    class Piece(base):  # type: ignore[misc, valid-type]
        __tablename__ = "piece"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    for statement in (
        "CREATE TABLE every (id int NOT NULL)",
        "ALTER TABLE piece INHERIT every",
    ):
        pg_session.execute(text(statement))
    pg_session.commit()
    (found,) = check(pg_engine, base)
    assert (found.problem, found.kind, found.name) == (
        "bypassed",
        "table",
        "public.piece",
    )
    assert found.advice == (
        "the trigger 'protect_delete' does not see a statement that names every; give "
        'it level="row"'
    )


def test_truncate_only_leaves_protected_rows_of_a_table_that_inherits(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_session: Session,
    attempt: Attempt,
    level: str,
) -> None:
    @attach(Protect(Delete, condition=old.name == "a", level=level))
    class Every(base):  # type: ignore[misc, valid-type]
        __tablename__ = "every"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    create_all()
    for statement in (
        "CREATE TABLE piece () INHERITS (every)",
        "INSERT INTO every VALUES (1, 'b')",
        "INSERT INTO piece VALUES (2, 'a')",
    ):
        pg_session.execute(text(statement))
    pg_session.commit()
    assert attempt("TRUNCATE every") is ProtectedError
    assert attempt("TRUNCATE ONLY every") is None
    # Whoever has changed a table in the same transaction has locked it already.
    pg_session.execute(text("ALTER TABLE piece ADD COLUMN more int"))
    with pytest.raises(ProtectedError):
        pg_session.execute(text("TRUNCATE every"))
    pg_session.rollback()
    pg_session.execute(text("DROP TABLE piece"))
    pg_session.commit()


@pytest.mark.parametrize(
    ("trigger", "error"),
    [
        (ReadOnly("place", level="statement"), ReadOnlyError),
        (Protect(Update, condition=new.value < 0, level="statement"), ProtectedError),
        (Protect(Update, condition=old.value < 0, level="statement"), ProtectedError),
    ],
    ids=["both rows", "new", "old"],
)
def test_rows_that_cannot_be_paired_are_refused(
    reading: Any,
    attempt: Attempt,
    pg_session: Session,
    trigger: Any,
    error: type[RefusedError],
) -> None:
    """A trigger of a partition leaves out a row that an UPDATE moves there."""
    reading(trigger, is_known=False)
    for statement in (
        "CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN NULL; END $$",
        "CREATE TRIGGER leave_out BEFORE INSERT ON late FOR EACH ROW"
        " EXECUTE FUNCTION leave_out()",
    ):
        pg_session.execute(text(statement))
    pg_session.commit()
    assert attempt("UPDATE reading SET value = 0") is None
    assert attempt("UPDATE reading SET day = day + 5") is error


def test_joined_tables_are_protected_each_by_its_own(
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_session: Session,
    attempt: Attempt,
    level: str,
) -> None:
    @attach(ReadOnly("name", level=level))
    class Person(base):  # type: ignore[misc, valid-type]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        name: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    @attach(
        ReadOnly("badge", level=level),
        Protect(Delete, condition=old.badge == "gold", level=level),
    )
    class Guard(Person):
        __tablename__ = "guard"
        id: Mapped[int] = mapped_column(ForeignKey(Person.id), primary_key=True)
        badge: Mapped[str]
        note: Mapped[str] = mapped_column(default="")
        __mapper_args__ = {"polymorphic_identity": "guard"}

    create_all()
    guard = Guard(id=1, name="a", badge="gold")
    pg_session.add(guard)
    pg_session.commit()
    for attribute in ("name", "badge"):
        setattr(guard, attribute, "x")
        with pytest.raises(ReadOnlyError):
            pg_session.commit()
        pg_session.rollback()
    pg_session.delete(guard)
    with pytest.raises(ProtectedError):
        pg_session.commit()
    pg_session.rollback()
    guard.note = "x"
    pg_session.commit()


def test_single_table_is_protected_with_the_columns_of_its_subclasses(
    base: type[DeclarativeBase], create_all: CreateAll, attempt: Attempt, level: str
) -> None:
    class Animal(base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class Dog(Animal):
        tag: Mapped[str | None]
        __mapper_args__ = {"polymorphic_identity": "dog"}

    class Cat(Animal):
        lives: Mapped[int | None]
        __mapper_args__ = {"polymorphic_identity": "cat"}

    attach(
        ReadOnly("tag", level=level),
        Protect(Delete, condition=(old.kind == "cat") & (old.lives > 0), level=level),
    )(Animal)
    create_all()
    assert attempt(insert(Dog).values(id=1, kind="dog", tag="rex")) is None
    assert attempt(insert(Cat).values(id=2, kind="cat", lives=9)) is None
    assert attempt(update(Dog).values(tag="max")) is ReadOnlyError
    assert attempt(delete(Animal)) is ProtectedError
    assert attempt(update(Cat).values(lives=0)) is None
    assert attempt(delete(Animal)) is None


def test_everything_is_read_only_also_what_a_subclass_adds_later(
    base: type[DeclarativeBase], create_all: CreateAll, attempt: Attempt, level: str
) -> None:
    @attach(ReadOnly(level=level))
    class Animal(base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class Dog(Animal):
        tag: Mapped[str | None]
        __mapper_args__ = {"polymorphic_identity": "dog"}

    create_all()
    assert attempt(insert(Dog).values(id=1, kind="dog", tag="rex")) is None
    assert attempt(update(Dog).values(tag="max")) is ReadOnlyError


def test_core_table_is_protected(
    base: type[DeclarativeBase], create_all: CreateAll, attempt: Attempt, level: str
) -> None:
    """It needs no key, and columns go by the key they have in the table."""
    ledger = Table(
        "ledger",
        base.metadata,
        Column("amount", Integer, key="cents"),
        Column("note", String),
    )
    decorated = attach(
        Protect(Delete, condition=old.cents > 0, level=level),
        ReadOnly("cents", level=level),
    )(ledger)
    assert decorated is ledger
    create_all()
    assert attempt(insert(ledger), [{"cents": 1}, {"cents": 0}]) is None
    assert attempt(update(ledger).values(cents=2)) is ReadOnlyError
    assert attempt(update(ledger).values(note="x")) is None
    assert attempt(delete(ledger)) is ProtectedError
    assert attempt(delete(ledger).where(ledger.c.cents == 0)) is None
