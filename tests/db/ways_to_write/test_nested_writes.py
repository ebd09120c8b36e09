"""Triggers of the user's that write the table whose row has just been written."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import JSON, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import as_of, track
from sa_history.exc import EventOrderError

Recorded = Callable[..., list[tuple[Any, ...]]]

BEFORE, AFTER = "aaa", "zzz"
"""Names that sort before and after those of the library's triggers."""


@pytest.fixture(params=["plain", "partitioned"])
def stock(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    level: str,
    request: pytest.FixtureRequest,
) -> Any:
    parted = request.param == "partitioned"

    @track(level=level)
    class Stock(base):  # type: ignore[misc, valid-type]
        __tablename__ = "stock"
        __table_args__ = {"postgresql_partition_by": "HASH (id)"} if parted else {}
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        amount: Mapped[int]
        details: Mapped[Any] = mapped_column(JSON, server_default="{}")

    create_all()
    for part in range(2 if parted else 0):
        pg_session.execute(
            text(
                f"CREATE TABLE stock_{part} PARTITION OF stock"
                f" FOR VALUES WITH (MODULUS 2, REMAINDER {part})"
            )
        )
    pg_session.commit()
    return Stock


@pytest.fixture
def by_row(stock: Any, level: str) -> bool:
    """Whether INSERT, UPDATE and DELETE are recorded row by row."""
    options = stock.__table__.dialect_options["postgresql"]
    return level == "row" or bool(options["partition_by"])


def add_trigger(
    session: Session,
    name: str,
    operation: str,
    body: str,
    *,
    timing: str = "AFTER",
    depth: int = 1,
    constraint: str = "",
    table: str = "stock",
) -> None:
    """Create a trigger for each row whose function has ``r``, the row's key."""
    row = "OLD" if operation == "DELETE" else "NEW"
    session.execute(
        text(
            f"CREATE OR REPLACE FUNCTION f_{name}() RETURNS trigger LANGUAGE plpgsql"
            f" AS $$ DECLARE r int := {row}.id; BEGIN {body}; RETURN {row}; END $$"
        )
    )
    deferred = "DEFERRABLE INITIALLY DEFERRED" if constraint else ""
    session.execute(
        text(
            f"CREATE {constraint} TRIGGER {name} {timing} {operation} ON {table}"
            f" {deferred} FOR EACH ROW WHEN (pg_trigger_depth() < {depth})"
            f" EXECUTE FUNCTION f_{name}()"
        )
    )
    session.commit()


def rows_now(session: Session, model: Any) -> list[tuple[Any, ...]]:
    found = session.execute(select(model.id, model.amount).order_by(model.id))
    return [tuple(row) for row in found]


def rows_past(session: Session, model: Any) -> list[tuple[Any, ...]]:
    with as_of(session, datetime.datetime.now(datetime.timezone.utc)) as past:
        return rows_now(past, model)


MORE = "UPDATE stock SET amount = amount + 1000 WHERE id = r"
"""The nested statement that writes the same row."""

NESTED = {
    "same": MORE,
    "all": "UPDATE stock SET amount = amount + 1000",
    "other": "UPDATE stock SET amount = amount + 1000 WHERE id <> r",
    "next": "UPDATE stock SET amount = amount + 1000 WHERE id = r % 3 + 1",
    "unchanged": "UPDATE stock SET amount = amount",
    "and-back": f"{MORE}; UPDATE stock SET amount = amount - 1000 WHERE id = r",
    "delete": "DELETE FROM stock WHERE id = r",
    "delete-other": "DELETE FROM stock WHERE id = r + 1",
    "delete-insert": (
        "DELETE FROM stock WHERE id = r; INSERT INTO stock VALUES (r, 5)"
    ),
    "insert": "INSERT INTO stock VALUES (r, 7) ON CONFLICT DO NOTHING",
    "insert-other": "INSERT INTO stock VALUES (r + 10, 7) ON CONFLICT DO NOTHING",
    "insert-all": (
        "INSERT INTO stock SELECT n, 8 FROM generate_series(1, 4) n"
        " ON CONFLICT DO NOTHING"
    ),
    "move": (
        "UPDATE stock SET id = r + 20 WHERE id = r"
        " AND NOT EXISTS (SELECT FROM stock WHERE id = r + 20)"
    ),
    "move-here": (
        "UPDATE stock SET id = r WHERE id = (SELECT max(id) FROM stock WHERE id <> r)"
        " AND NOT EXISTS (SELECT FROM stock WHERE id = r)"
    ),
    "fails": (
        f"BEGIN {MORE}; RAISE division_by_zero;"
        " EXCEPTION WHEN division_by_zero THEN NULL; END"
    ),
    "half": f"IF r % 2 = 0 THEN {MORE}; END IF",
}

OUTER = {
    "INSERT": [
        "INSERT INTO stock SELECT n, n FROM generate_series({a}, {b}) n"
        " ON CONFLICT DO NOTHING",
        "INSERT INTO stock SELECT n, n FROM generate_series({a}, {b}) n"
        " ON CONFLICT (id) DO UPDATE SET amount = stock.amount + 1",
    ],
    "UPDATE": [
        "UPDATE stock SET amount = amount + 1 WHERE id BETWEEN {a} AND {b}",
        "UPDATE stock SET id = id + 30, amount = 9 WHERE id BETWEEN {a} AND {b}",
        "UPDATE stock SET amount = amount WHERE id BETWEEN {a} AND {b}",
    ],
    "DELETE": ["DELETE FROM stock WHERE id BETWEEN {a} AND {b}"],
}


@pytest.mark.parametrize("seed", range(4))
def test_the_past_is_as_the_table_was_or_the_statement_is_refused(
    stock: Any, pg_session: Session, seed: int
) -> None:
    """With triggers of all kinds, whatever they write."""
    chance = random.Random(seed)
    refused, recorded = 0, 0
    for _ in range(15):
        names = chance.sample([BEFORE, AFTER], chance.choice([1, 1, 2]))
        for name in names:
            constraint = chance.choice(["", "", "", "CONSTRAINT"])
            add_trigger(
                pg_session,
                name,
                chance.choice(list(OUTER)),
                chance.choice(list(NESTED.values())),
                # What a deferred trigger writes would fire it again, without end.
                depth=1 if constraint else chance.choice([1, 1, 2]),
                constraint=constraint,
            )
        for _ in range(5):
            statements = []
            for _ in range(chance.choice([1, 1, 3])):
                a = chance.randint(1, 4)
                outer = chance.choice(OUTER[chance.choice(list(OUTER))])
                b = a + chance.choice([0, 0, 1, 3])
                statements.append(outer.format(a=a, b=b))
            try:
                for statement in statements:
                    pg_session.execute(text(statement))
                pg_session.commit()
                recorded += 1
            except EventOrderError:
                pg_session.rollback()
                refused += 1
            except IntegrityError:  # a row moves to a key that is taken
                pg_session.rollback()
            assert rows_past(pg_session, stock) == rows_now(pg_session, stock), (
                names,
                statements,
            )
            pg_session.commit()
        for name in names:
            pg_session.execute(text(f"DROP FUNCTION f_{name} CASCADE"))
        pg_session.execute(text("DELETE FROM stock WHERE id > 30"))
        pg_session.commit()
    assert refused > 0
    assert recorded > 30


@pytest.mark.parametrize("name", [BEFORE, AFTER])
@pytest.mark.parametrize(
    ("operation", "outer"),
    [
        ("INSERT", "INSERT INTO stock VALUES (5, 5), (6, 6)"),
        ("UPDATE", "UPDATE stock SET amount = amount + 1"),
        ("UPDATE", "UPDATE stock SET id = id + 10"),
    ],
)
@pytest.mark.parametrize("nested", ["same", "delete", "delete-insert", "move"])
def test_row_that_a_trigger_writes_again(
    stock: Any,
    pg_session: Session,
    by_row: bool,
    name: str,
    operation: str,
    outer: str,
    nested: str,
) -> None:
    """Its last event would be a state that it has no more."""
    pg_session.execute(text("INSERT INTO stock VALUES (1, 1), (2, 2)"))
    add_trigger(pg_session, name, operation, NESTED[nested])
    before = rows_now(pg_session, stock)
    if by_row and name == AFTER:
        pg_session.execute(text(outer))
        pg_session.commit()
    else:
        with pytest.raises(EventOrderError) as refused:
            pg_session.execute(text(outer))
        pg_session.rollback()
        message = str(refused.value.orig)
        assert f"{operation} of public.stock" in message.replace(
            "stock_0", "stock"
        ).replace("stock_1", "stock")
        assert "was written again, and that is recorded before this change" in message
        assert ('give track(level="row")' in message) is not by_row
        assert ("a name that sorts after stock_event_" in message) is by_row
        assert rows_now(pg_session, stock) == before
    assert rows_past(pg_session, stock) == rows_now(pg_session, stock)


@pytest.mark.parametrize("name", [BEFORE, AFTER])
def test_row_that_a_trigger_inserts_again_before_its_deletion_is_recorded(
    stock: Any, pg_session: Session, by_row: bool, name: str
) -> None:
    pg_session.execute(text("INSERT INTO stock VALUES (1, 1), (2, 2)"))
    add_trigger(pg_session, name, "DELETE", "INSERT INTO stock VALUES (r, 7)", depth=2)
    delete = text("DELETE FROM stock WHERE id = 1")
    if by_row and name == AFTER:
        pg_session.execute(delete)
        pg_session.commit()
    else:
        with pytest.raises(EventOrderError, match=r"row \(1\) is there again"):
            pg_session.execute(delete)
        pg_session.rollback()
    assert rows_past(pg_session, stock) == rows_now(pg_session, stock)


COUNT = "UPDATE stock SET amount = amount + 1 WHERE id = 0 AND r <> 0"
"""A row of the same table that counts what happens to the others."""

IGNORED = (
    "PERFORM set_config('pghistory.ignore', '[\"stock:events\"]', true);"
    " {}; PERFORM set_config('pghistory.ignore', '', true)"
)


@pytest.mark.parametrize("name", [BEFORE, AFTER])
@pytest.mark.parametrize(
    ("operation", "nested", "statements"),
    [
        ("INSERT", COUNT, ["INSERT INTO stock VALUES (5, 5), (6, 6)"]),
        ("UPDATE", COUNT, ["UPDATE stock SET amount = 9 WHERE id > 0"]),
        ("UPDATE", COUNT, ["UPDATE stock SET id = id + 10 WHERE id > 0"]),
        ("DELETE", COUNT, ["DELETE FROM stock WHERE id > 0"]),
        # Nothing of the statement is recorded that could come too late.
        ("UPDATE", MORE, ["UPDATE stock SET amount = amount"]),
        # What the trigger writes is as it was, or rolled back.
        ("UPDATE", NESTED["unchanged"], ["UPDATE stock SET amount = amount + 1"]),
        ("UPDATE", NESTED["and-back"], ["UPDATE stock SET amount = amount + 1"]),
        ("UPDATE", NESTED["fails"], ["UPDATE stock SET amount = amount + 1"]),
        # The same transaction has a nested statement, and keys go round later.
        (
            "INSERT",
            COUNT,
            [
                "INSERT INTO stock VALUES (5, 5)",
                "DELETE FROM stock WHERE id = 5",
                "INSERT INTO stock VALUES (5, 6)",
                "UPDATE stock SET id = CASE id WHEN 1 THEN 2 ELSE 1 END"
                " WHERE id IN (1, 2)",
                "UPDATE stock SET id = id + 1 WHERE id = 2",
                "INSERT INTO stock VALUES (2, 2)",
                "DELETE FROM stock WHERE id = 3",
                "INSERT INTO stock VALUES (3, 3)",
            ],
        ),
    ],
)
def test_what_a_trigger_writes_besides_is_not_refused(
    stock: Any,
    pg_session: Session,
    name: str,
    operation: str,
    nested: str,
    statements: list[str],
) -> None:
    pg_session.execute(text("ALTER TABLE stock DROP CONSTRAINT stock_pkey"))
    if len(statements) > 1:
        key = "CREATE INDEX ON stock (id)"
    else:
        key = "ALTER TABLE stock ADD PRIMARY KEY (id)"
    pg_session.execute(text(key))
    pg_session.execute(text("INSERT INTO stock VALUES (0, 0), (1, 1), (2, 2)"))
    add_trigger(pg_session, name, operation, nested)
    for statement in statements:
        pg_session.execute(text(statement))
    pg_session.commit()
    assert rows_past(pg_session, stock) == rows_now(pg_session, stock)


@pytest.mark.parametrize("name", [BEFORE, AFTER])
def test_what_a_trigger_writes_and_has_ignored_is_not_refused(
    stock: Any, pg_session: Session, recorded: Recorded, name: str
) -> None:
    """The event of the statement around it is the last one, as was wanted."""
    add_trigger(pg_session, name, "INSERT", IGNORED.format(MORE))
    pg_session.execute(text("INSERT INTO stock VALUES (1, 1)"))
    pg_session.commit()
    assert rows_now(pg_session, stock) == [(1, 1001)]
    assert [(op, amount) for _, op, amount, _ in recorded(stock, "amount")] == [
        ("I", 1)
    ]


def test_what_a_deferred_trigger_writes_is_recorded_after_the_statement(
    stock: Any, pg_session: Session, recorded: Recorded
) -> None:
    add_trigger(pg_session, BEFORE, "INSERT", MORE, constraint="CONSTRAINT")
    pg_session.execute(text("INSERT INTO stock VALUES (1, 1)"))
    pg_session.commit()
    assert [(op, amount) for _, op, amount, _ in recorded(stock, "amount")] == [
        ("I", 1),
        ("U", 1001),
    ]
    assert rows_past(pg_session, stock) == rows_now(pg_session, stock)


def test_row_of_the_same_key_in_a_table_that_inherits_is_another_one(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    recorded: Recorded,
    level: str,
) -> None:
    @track(level=level)
    class Stock(base):  # type: ignore[misc, valid-type]
        __tablename__ = "stock"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        amount: Mapped[int]

    create_all()
    pg_session.execute(text("INSERT INTO stock VALUES (0, 0)"))
    pg_session.execute(text("CREATE TABLE old_stock () INHERITS (stock)"))
    pg_session.execute(text("INSERT INTO old_stock VALUES (1, 9)"))
    add_trigger(pg_session, BEFORE, "INSERT", COUNT)
    for statement in (
        "INSERT INTO stock VALUES (1, 1)",
        "UPDATE ONLY stock SET amount = 2 WHERE id = 1",
        "DELETE FROM ONLY stock",
    ):
        pg_session.execute(text(statement))
    pg_session.commit()
    operations = [op for _, op, key, _ in recorded(Stock, "id") if key == 1]
    assert operations == ["I", "U", "D"]
