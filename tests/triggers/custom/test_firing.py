"""What fires a trigger, and when it runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Table, delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import (
    AnyChange,
    Delete,
    Insert,
    Referencing,
    Trigger,
    Truncate,
    Update,
    UpdateOf,
    attach,
    new,
    track,
)
from tests.triggers.custom.helpers import say

CreateAll = Callable[[], None]
Said = Callable[[], list[str]]


def test_before_and_after_for_rows_and_statements(
    note: Table, said: Said, create_all: CreateAll, pg_session: Session
) -> None:
    every = Insert | Update | Delete
    for when, level in itertools.product(("before", "after"), ("row", "statement")):
        attach(say(f"{when} {level}", when, every, level=level))(note)
    attach(say("truncate", "after", Truncate, level="statement"))(note)
    create_all()
    pg_session.execute(insert(note).values([{"id": 1}, {"id": 2}]))
    pg_session.execute(update(note).values(body="a"))
    pg_session.execute(delete(note))
    pg_session.execute(text("TRUNCATE note"))
    expected = []
    for operation in ("INSERT", "UPDATE", "DELETE"):
        rows = [f"{when} row {operation}" for when in ("before", "after")]
        expected += [
            f"before statement {operation}",
            *[rows[0]] * 2,
            *[rows[1]] * 2,
            f"after statement {operation}",
        ]
    assert said() == [*expected, "truncate TRUNCATE"]


def test_triggers_run_in_the_order_of_their_names(
    note: Table, create_all: CreateAll, pg_session: Session
) -> None:
    body = "NEW.body := concat(NEW.body, TG_NAME, ' '); RETURN NEW;"
    names = ["b", "a", "d", "c"]
    attach(*(Trigger(name, "before", Insert, body=body) for name in names))(note)
    create_all()
    pg_session.execute(insert(note).values(id=1))
    assert pg_session.scalar(select(note.c.body)) == "note_a note_b note_c note_d "


def test_returning_null_skips_the_row(
    note: Table, create_all: CreateAll, pg_session: Session
) -> None:
    attach(
        Trigger("skip", "before", Insert, body="RETURN NULL;", condition=new.id == 2)
    )(note)
    create_all()
    pg_session.execute(insert(note), [{"id": n} for n in (1, 2, 3)])
    assert pg_session.scalars(select(note.c.id)).all() == [1, 3]


def test_update_of_a_column_that_has_another_name_in_the_table(
    base: type[DeclarativeBase],
    said: Said,
    create_all: CreateAll,
    pg_session: Session,
) -> None:
    overwrite = 'NEW."the size" := 5; RETURN NEW;'

    @attach(
        Trigger("overwrite", "before", Update, body=overwrite),
        say("row", "after", UpdateOf("size", "body", "size")),
        say("row or deletion", "after", UpdateOf("size") | Delete),
        say("any", "after", UpdateOf("size") | Update),
        say("statement", "after", UpdateOf("size"), level="statement"),
    )
    class Thing(base):  # type: ignore[misc, valid-type]
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        size: Mapped[int] = mapped_column("the size")
        body: Mapped[str] = mapped_column("the body", nullable=True)
        other: Mapped[str] = mapped_column(nullable=True)

    create_all()
    pg_session.execute(insert(Thing).values(id=1, size=5))
    pg_session.execute(update(Thing).values(other="a"))  # and a trigger sets size
    assert said() == ["any UPDATE"]
    pg_session.execute(update(Thing).values(size=Thing.size))
    pg_session.execute(delete(Thing))
    assert said()[1:] == [
        "any UPDATE",
        "row UPDATE",
        "row or deletion UPDATE",
        "statement UPDATE",
        "row or deletion DELETE",
    ]


def test_condition_over_the_rows_holds_for_each_operation(
    note: Table, said: Said, create_all: CreateAll, pg_session: Session
) -> None:
    attach(
        say("new", "before", Insert | Update, condition=new.size > 10),
        say("old", "after", Update | Delete, condition=lambda old, new: old.size > 10),
        say("changed", "after", Update, condition=AnyChange("body") & (new.size > 0)),
        say("text", "after", Insert | Update, condition=text("NEW.id = 2 -- the 2nd")),
    )(note)
    create_all()
    pg_session.execute(insert(note), [{"id": 1, "size": 5}, {"id": 2, "size": 15}])
    assert said() == ["new INSERT", "text INSERT"]
    pg_session.execute(update(note).values(size=note.c.size + 10))
    assert said()[2:] == ["new UPDATE", "new UPDATE", "old UPDATE", "text UPDATE"]
    pg_session.execute(update(note).where(note.c.id == 1).values(body="a", size=1))
    assert said()[6:] == ["changed UPDATE", "old UPDATE"]
    pg_session.execute(delete(note))
    assert said()[8:] == ["old DELETE"]


def test_condition_on_a_statement_is_text(
    note: Table, said: Said, create_all: CreateAll, pg_session: Session
) -> None:
    on = text(
        "current_setting('app.said', true) = '100% on' -- as the application says"
    )
    attach(
        say("say", "after", Insert | Update | Delete, level="statement", condition=on)
    )(note)
    create_all()
    pg_session.execute(insert(note).values(id=1))
    pg_session.execute(text("SET LOCAL app.said = '100% on'"))
    pg_session.execute(update(note).values(id=2))
    pg_session.execute(text("SET LOCAL app.said = 'off'"))
    pg_session.execute(delete(note))
    assert said() == ["say UPDATE"]


NAMES = [
    "added",
    "Mixed Case",
    'dou"ble',
    "it's",
    "select",
    "new",
    "NEW",
    "100% :x {}",
    "a\\b",
    "$$",
    "Größe",
    "x" * 63,
]


@pytest.mark.parametrize("name", NAMES)
def test_transition_tables_may_have_any_name(
    name: str, note: Table, said: Said, create_all: CreateAll, pg_session: Session
) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    both = (
        "INSERT INTO said (word) SELECT string_agg(o.id || '>' || n.id, ' ')"
        f' FROM {quoted} n JOIN "old %s" o ON o.body = n.body; RETURN NULL;'
    )
    only = (
        f"INSERT INTO said (word) SELECT max(id) || TG_LEVEL FROM {quoted};"
        " RETURN NULL;"
    )
    attach(
        Trigger(
            "both",
            "after",
            Update,
            level="statement",
            referencing=Referencing(old="old %s", new=name),
            body=both,
        ),
        Trigger(
            "new",
            "after",
            Insert,
            level="statement",
            referencing=Referencing(new=name),
            body=only,
        ),
        Trigger("old", "after", Delete, referencing=Referencing(old=name), body=only),
    )(note)
    create_all()
    rows = [{"id": 1, "body": "a"}, {"id": 2, "body": "b"}]
    pg_session.execute(insert(note).values(rows))
    pg_session.execute(text("UPDATE note SET id = id * 10"))
    pg_session.execute(delete(note))
    assert said() == ["2STATEMENT", "1>10 2>20", "20ROW", "20ROW"]


def test_deferrable_trigger_runs_when_it_is_told_to(
    note: Table, said: Said, create_all: CreateAll, pg_session: Session
) -> None:
    attach(
        say("now", "after", Insert, deferrable="immediate"),
        say("later", "after", Insert, deferrable="deferred"),
    )(note)
    create_all()
    pg_session.execute(insert(note).values(id=1))
    assert said() == ["now INSERT"]
    pg_session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    assert said() == ["now INSERT", "later INSERT"]
    pg_session.execute(insert(note).values(id=2))
    assert said()[2:] == ["later INSERT", "now INSERT"]
    pg_session.execute(text("SET CONSTRAINTS note_now DEFERRED"))
    pg_session.execute(insert(note).values(id=3))
    assert said()[4:] == ["later INSERT"]
    pg_session.commit()
    assert said()[5:] == ["now INSERT"]


def test_deferred_trigger_sees_the_end_of_the_transaction(
    note: Table, create_all: CreateAll, pg_session: Session
) -> None:
    """Such as a balance that has to be even in the end."""
    attach(
        Trigger(
            "even",
            "after",
            Insert | Update,
            deferrable="deferred",
            declare="total bigint;",
            body='SELECT sum("the size") INTO total FROM note;\n'
            "IF total <> 0 THEN\n"
            "  RAISE EXCEPTION 'total is %', total USING ERRCODE = '23514';\n"
            "END IF;\n"
            "RETURN NULL;",
        )
    )(note)
    create_all()
    pg_session.execute(insert(note).values(id=1, size=5))
    pg_session.execute(insert(note).values(id=2, size=-5))
    pg_session.commit()
    pg_session.execute(update(note).where(note.c.id == 1).values(size=6))
    with pytest.raises(IntegrityError, match="total is 1"):
        pg_session.commit()
    pg_session.rollback()
    assert pg_session.scalar(select(func.sum(note.c.size))) == 0


def test_deferred_trigger_that_runs_early_writes_in_the_context_of_that_moment(
    note: Table,
    base: type[DeclarativeBase],
    create_all: CreateAll,
    pg_session: Session,
    recorded: Callable[..., list[Any]],
) -> None:
    @track()
    class Copied(base):  # type: ignore[misc, valid-type]
        __tablename__ = "copied"
        id: Mapped[int] = mapped_column(primary_key=True)

    body = "INSERT INTO copied VALUES (NEW.id); RETURN NULL;"
    attach(Trigger("copy", "after", Insert, deferrable="deferred", body=body))(note)
    create_all()
    with history.context(pg_session, statement=1):
        pg_session.execute(insert(note).values(id=1))
    with history.context(pg_session, moment=2):
        pg_session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    pg_session.commit()
    assert [event[2:] for event in recorded(Copied, "id")] == [(1, {"moment": 2})]
