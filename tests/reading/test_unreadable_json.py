"""JSON that PostgreSQL stores and Python cannot read is restored all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import ARRAY, JSON, Text, TypeDecorator, cast, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, defer, mapped_column

import sa_history as history
from sa_history import track
from sa_history.exc import EventsError

from .transactions import commit


class Document(TypeDecorator[Any]):
    """A type of an application, on top of jsonb."""

    impl = JSONB
    cache_ok = True


TYPES: dict[str, Any] = {
    "jsonb": JSONB(),
    "json": JSON(),
    "document": Document(),
    "array": ARRAY(JSONB),
}
VALUES = {
    "a number of many digits": "[" + "1" * 5000 + "]",
    "what is nested deep": "[" * 5000 + "]" * 5000,
}


@pytest.fixture(params=TYPES)
def odd(
    request: pytest.FixtureRequest,
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
) -> Any:
    @track()
    class Odd(base):  # type: ignore[misc, valid-type]
        __tablename__ = "odd"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        data = mapped_column(TYPES[request.param])

    create_all()
    return Odd


def write(session: Session, odd: Any, value: str) -> tuple[int, str]:
    """Change a row by SQL; return the transaction, and the value as it is stored."""
    type_ = odd.__table__.c.data.type
    is_array = isinstance(type_, ARRAY)
    sent = f"ARRAY['{value}']::jsonb[]" if is_array else f"'{value}'"
    number = commit(session, text(f"UPDATE odd SET data = {sent}"))
    return number, stored(session, odd)


def stored(session: Session, odd: Any) -> str:
    found: str = session.scalar(select(cast(odd.__table__.c.data, Text)))
    return found


@pytest.mark.parametrize("name", VALUES)
def test_what_python_cannot_read_is_undone_and_undeleted(
    odd: Any, in_session: Callable[[Callable[[Session], Any]], Any], name: str
) -> None:
    def act(session: Session) -> None:
        commit(session, text("INSERT INTO odd (id, name) VALUES (1, 'a')"))
        odd_written, odd_value = write(session, odd, VALUES[name])
        plain_written, plain_value = write(session, odd, "[1]")
        done = history.undo(session, odd, transaction=plain_written)
        session.commit()
        assert stored(session, odd) == odd_value
        plan = history.undo(session, odd, transaction=done.transaction, dry_run=True)
        assert plan.conflicts == ()
        assert "update odd (1): data = " in str(plan)
        history.undo(session, odd, transaction=done.transaction)
        session.commit()
        assert stored(session, odd) == plain_value
        history.undo(session, odd, transaction=plain_written)
        session.commit()
        gone = commit(session, text("DELETE FROM odd"))
        history.undo(session, odd, transaction=gone)
        assert stored(session, odd) == odd_value
        session.commit()
        plan = history.undo(session, odd, transaction=odd_written, dry_run=True)
        assert plan.conflicts == ()

    in_session(act)


@pytest.mark.parametrize("name", VALUES)
def test_a_revert_to_what_python_cannot_read_is_written_and_says_so(
    odd: Any, in_session: Callable[[Callable[[Session], Any]], Any], name: str
) -> None:
    def act(session: Session) -> None:
        commit(session, text("INSERT INTO odd (id, name) VALUES (1, 'a')"))
        _, odd_value = write(session, odd, VALUES[name])
        commit(session, text("UPDATE odd SET data = NULL, name = 'b'"))
        events = odd.events.select().options(defer(odd.events.data))
        before = session.scalars(events).all()[1]
        row = before.revert(session, columns=["name"])
        assert (row.name, row.data) == ("a", None)
        with pytest.raises(EventsError, match="is written, but Odd cannot be loaded"):
            before.revert(session)
        session.commit()
        assert stored(session, odd) == odd_value

    in_session(act)
