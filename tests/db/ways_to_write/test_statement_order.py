"""The order of the events of one statement that deletes rows and inserts them again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Numeric, String, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import AfterDelete, AfterInsert, Manual, Snapshot, track
from sa_history.exc import EventOrderError

Recorded = Callable[..., list[tuple[Any, ...]]]

GONE = "WITH gone AS (DELETE FROM stock WHERE {} RETURNING *) "
HALF = GONE + "INSERT INTO stock SELECT id, amount + 100 FROM gone LIMIT 1"
ALL = GONE + "INSERT INTO stock SELECT id, amount + 100 FROM gone"
"""The main statement ends after its WITH, as it reads all of it."""

COUNTED_ANEW = [
    ALL.format("id = 1"),
    "TRUNCATE stock",
    "INSERT INTO stock VALUES (1, 1)",
    ALL.format("id = 1"),
]
"""PostgreSQL counts anew after TRUNCATE, and comes to the same number again."""


@pytest.fixture
def stock(
    base: type[DeclarativeBase], create_all: Callable[[], None], level: str
) -> Any:
    @track(Snapshot, AfterDelete, Manual("seen"), level=level)
    class Stock(base):  # type: ignore[misc, valid-type]
        __tablename__ = "stock"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        amount: Mapped[int]

    create_all()
    return Stock


@pytest.fixture
def run(stock: Any, pg_session: Session) -> Callable[..., None]:
    """Run statements in one transaction, upon rows of an earlier one."""
    pg_session.add_all([stock(id=n, amount=n) for n in (1, 2, 3)])
    pg_session.commit()
    pg_session.execute(text("TRUNCATE stock_event"))
    pg_session.commit()

    def run(*statements: str) -> None:
        for statement in statements:
            pg_session.execute(text(statement))
        pg_session.commit()

    return run


@pytest.mark.parametrize(
    "statements",
    [
        (HALF.format("id <= 2"),),
        (HALF.format("id = 3"),),
        ("DELETE FROM stock WHERE id = 3", HALF.format("id <= 2")),
        ("INSERT INTO stock VALUES (9, 9)", HALF.format("id >= 9 OR id = 1")),
        (
            "INSERT INTO stock VALUES (9, 9)",
            "SAVEPOINT a",
            ALL.format("id = 9"),
            "RELEASE a",
            HALF.format("id = 1 OR id = 2"),
        ),
    ],
    ids=["alone", "one-row", "after-delete", "after-insert", "after-savepoint"],
)
def test_row_that_is_deleted_by_a_with_that_is_not_read_to_its_end(
    run: Any,
    stock: Any,
    pg_session: Session,
    recorded: Recorded,
    level: str,
    statements: tuple[str, ...],
) -> None:
    """Its deletion would be recorded after the row that came in its place."""
    if level == "row":
        run(*statements)
        there = set(pg_session.scalars(select(stock.id)))
        last = {key: op for _, op, key, _ in recorded(stock, "id")}
        assert {key: op != "D" for key, op in last.items()} == {
            key: key in there for key in last
        }
        return
    with pytest.raises(EventOrderError) as refused:
        run(*statements)
    pg_session.rollback()
    message = str(refused.value.orig)
    assert "DELETE of public.stock is refused: the row (" in message
    assert "is there again, and that is recorded before its deletion" in message
    assert 'give track(level="row")' in message
    assert recorded(stock, "id") == []


@pytest.mark.parametrize(
    ("statements", "operations"),
    [
        ([ALL.format("id = 1")], "DI"),
        (["DELETE FROM stock WHERE id = 1", "INSERT INTO stock VALUES (1, 5)"], "DI"),
        (
            [
                "DELETE FROM stock WHERE id = 1",
                "INSERT INTO stock VALUES (1, 5)",
                "DELETE FROM stock WHERE id = 1",
                "INSERT INTO stock VALUES (1, 6)",
            ],
            "DIDI",
        ),
        ([ALL.format("id = 1"), ALL.format("id = 1")], "DIDI"),
        (
            [ALL.format("id = 1"), "SAVEPOINT a", ALL.format("id = 1"), "RELEASE a"],
            "DIDI",
        ),
        (
            [
                ALL.format("id = 1"),
                "SAVEPOINT a",
                "DELETE FROM stock",
                "ROLLBACK TO a",
                ALL.format("id = 1"),
            ],
            "DIDI",
        ),
        (COUNTED_ANEW, "DITIDI"),
        # The row that comes has another key.
        (
            [
                "WITH gone AS (DELETE FROM stock WHERE id <= 2 RETURNING *)"
                " INSERT INTO stock SELECT id + 10, amount FROM gone LIMIT 1"
            ],
            "D",
        ),
        (
            [
                "MERGE INTO stock USING (VALUES (1, true), (2, false)) AS v(k, gone)"
                " ON stock.id = v.k AND v.gone WHEN MATCHED THEN DELETE"
                " WHEN NOT MATCHED THEN INSERT VALUES (1, 5)"
            ],
            "DI",
        ),
    ],
)
def test_row_that_is_deleted_and_comes_again_has_its_events_in_this_order(
    run: Any,
    stock: Any,
    pg_session: Session,
    recorded: Recorded,
    statements: list[str],
    operations: str,
) -> None:
    merges = statements[0].startswith("MERGE")
    version = pg_session.connection().dialect.server_version_info or (0,)
    if merges and version < (15,):
        pytest.skip("MERGE is new in PostgreSQL 15")
    run(*statements)
    assert "".join(op for _, op, key, _ in recorded(stock, "id") if key == 1) == (
        operations
    )


def test_event_by_hand_of_a_row_that_comes_again_says_nothing_of_the_order(
    run: Any, stock: Any, recorded: Recorded
) -> None:
    """It is written for the row before the deletion is recorded, and no row comes."""
    run(
        "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO stock_event (pgh_label, pgh_op, pgh_xact_id, pgh_obj_id, id,"
        " amount) VALUES ('seen', 'M', pg_current_xact_id()::text::bigint, NEW.id,"
        " NEW.id, NEW.amount); RETURN NULL; END $$",
        "CREATE TRIGGER see AFTER INSERT ON stock FOR EACH ROW EXECUTE FUNCTION see()",
        *COUNTED_ANEW,
        "DROP FUNCTION see CASCADE",
    )
    found = [op for _, op, key, _ in recorded(stock, "id") if key == 1]
    assert "".join(op for op in found if op != "M") == "DITIDI"
    assert found.count("M") == 3


def test_event_of_an_earlier_transaction_says_nothing_of_the_order(
    run: Any, stock: Any, recorded: Recorded
) -> None:
    """The numbers of its commands are those of another transaction."""
    run(*["UPDATE stock SET amount = amount + 1 WHERE id = 1"] * 30)
    run(*COUNTED_ANEW)
    found = "".join(op for _, op, key, _ in recorded(stock, "id") if key == 1)
    assert found == "U" * 30 + "DITIDI"


def test_row_that_a_trigger_inserts_again_before_its_deletion_is_recorded(
    run: Any, stock: Any, pg_session: Session, recorded: Recorded, level: str
) -> None:
    """A trigger for each row comes before those for the statement."""
    back = (
        "CREATE FUNCTION back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO stock VALUES (OLD.id, 0); RETURN NULL; END $$",
        "CREATE TRIGGER zz AFTER DELETE ON stock FOR EACH ROW EXECUTE FUNCTION back()",
        "DELETE FROM stock WHERE id = 1",
    )
    if level == "row":
        run(*back)
        assert [op for _, op, *_ in recorded(stock, "id")] == ["D", "I"]
        return
    with pytest.raises(EventOrderError, match=r"the row \(1\) is there again"):
        run(*back)


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        (String, ("'a'", "'b'")),
        (Numeric, ("1.0", "2.0")),
        (ARRAY(String), ("'{a}'", "'{b}'")),
    ],
    ids=["text", "numeric", "array"],
)
def test_late_deletion_is_found_by_a_key_of_any_type(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    type_: Any,
    values: tuple[str, str],
) -> None:
    @track()
    class Stock(base):  # type: ignore[misc, valid-type]
        __tablename__ = "stock"
        id: Mapped[Any] = mapped_column(type_, primary_key=True)
        shelf: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    first, second = values
    pg_session.execute(
        text(f"INSERT INTO stock VALUES ({first}, 1), ({second}, 1), ({second}, 2)")
    )
    pg_session.commit()
    other_shelf = (
        "WITH gone AS (DELETE FROM stock WHERE shelf = 1 RETURNING *)"
        " INSERT INTO stock SELECT id, 7 FROM gone LIMIT 1"
    )
    pg_session.execute(text(other_shelf))
    with pytest.raises(EventOrderError):
        pg_session.execute(
            text(
                "WITH gone AS (DELETE FROM stock RETURNING *)"
                " INSERT INTO stock SELECT * FROM gone LIMIT 1"
            )
        )


@pytest.mark.parametrize("trackers", [(AfterDelete,), (AfterInsert,)])
def test_what_records_one_of_both_only_has_no_order_to_keep(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    recorded: Recorded,
    trackers: Any,
) -> None:
    @track(*trackers)
    class Stock(base):  # type: ignore[misc, valid-type]
        __tablename__ = "stock"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        amount: Mapped[int]

    create_all()
    pg_session.execute(text("INSERT INTO stock VALUES (1, 1), (2, 2)"))
    pg_session.execute(text(HALF.format("true")))
    pg_session.commit()
    assert {op for _, op, *_ in recorded(Stock)} == {
        "D" if trackers == (AfterDelete,) else "I"
    }
