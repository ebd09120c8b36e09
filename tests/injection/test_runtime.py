"""Hostile contexts, labels and names to ignore, while a program runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import URL, Engine, NullPool, create_engine, event
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, joinedload, mapped_column

import sa_history as history
from sa_history import AfterDelete, Snapshot, track
from sa_history.contexts.json_values import MAX_DEPTH
from sa_history.exc import ContextError, IgnoreError

SCALE = int(os.environ.get("INJECTION_SCALE", "1"))


def examples(number: int) -> settings:
    return settings(
        deadline=None,
        derandomize=SCALE == 1,
        max_examples=number * SCALE,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture
def note(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    @track(Snapshot, AfterDelete)
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]

    create_all()
    return Note


def by_psycopg(url: URL) -> Engine:
    return create_engine(url)


def by_client_cursor(url: URL) -> Engine:
    return create_engine(url, connect_args={"cursor_factory": psycopg.ClientCursor})


OTHER_STRINGS = "-cstandard_conforming_strings=off -cescape_string_warning=off"


def by_psycopg_with_escapes(url: URL) -> Engine:
    return create_engine(url, connect_args={"options": OTHER_STRINGS})


def by_client_cursor_with_escapes(url: URL) -> Engine:
    arguments = {"cursor_factory": psycopg.ClientCursor, "options": OTHER_STRINGS}
    return create_engine(url, connect_args=arguments)


def by_latin_1(url: URL) -> Engine:
    return create_engine(url, connect_args={"options": "-cclient_encoding=latin1"})


def by_psycopg2(url: URL) -> Engine:
    return create_engine(url.set(drivername="postgresql+psycopg2"))


WAYS = [
    by_psycopg,
    by_client_cursor,
    by_psycopg_with_escapes,
    by_client_cursor_with_escapes,
    by_latin_1,
    by_psycopg2,
]


@pytest.fixture(
    params=[*WAYS, None], ids=lambda way: way.__name__ if way else "by_asyncpg"
)
def in_session(
    request: pytest.FixtureRequest, pg_url: URL
) -> Iterator[Callable[[Callable[[Session], None]], None]]:
    """Run a function with a session of any driver; None is asyncpg."""
    if request.param is None:
        url = pg_url.set(drivername="postgresql+asyncpg")
        async_engine = create_async_engine(url, poolclass=NullPool)

        async def main(function: Callable[[Session], None]) -> None:
            async with AsyncSession(async_engine) as session:
                await session.run_sync(function)

        yield lambda function: asyncio.run(main(function))
        return
    engine = request.param(pg_url)

    def run(function: Callable[[Session], None]) -> None:
        with Session(engine) as session:
            function(session)

    yield run
    engine.dispose()


def written(note: Any, engine: Engine) -> list[tuple[str, Any]]:
    """Return the body and the context of each event, by a plain connection."""
    statement = note.events.select().options(joinedload(note.events.model.pgh_context))
    with Session(engine) as session:
        return [
            (event.body, event.pgh_context and event.pgh_context.metadata)
            for event in session.scalars(statement)
        ]


@examples(10)
@given(data=st.data())
def test_contexts_are_stored_exactly_by_every_driver(
    data: st.DataObject,
    in_session: Callable[[Callable[[Session], None]], None],
    hostile: Any,
    note: Any,
    pg_engine: Engine,
) -> None:
    contexts = data.draw(
        st.lists(
            st.dictionaries(hostile.texts, hostile.values, max_size=3),
            min_size=1,
            max_size=3,
        )
    )
    before = len(written(note, pg_engine))

    def work(session: Session) -> None:
        for number, told in enumerate(contexts):
            with history.context(session, **told):
                session.add(note(body=str(number)))
                session.flush()
        session.commit()

    in_session(work)
    expected = [(str(number), told) for number, told in enumerate(contexts)]
    assert written(note, pg_engine)[before:] == expected


EVERY_PLANE = "".join(
    chr(point)
    for start in range(0, 0x110000, 0x10000)
    for point in (*range(start, start + 0x10000, 251), start + 0xFFFE, start + 0xFFFF)
    if point and not 0xD800 <= point < 0xE000
)


@pytest.mark.parametrize(
    "value", [EVERY_PLANE, "'\"\\%:{}$$" * 2**17], ids=["every plane", "1 MB"]
)
def test_much_text_is_stored_exactly_by_every_driver(
    in_session: Callable[[Callable[[Session], None]], None],
    note: Any,
    pg_engine: Engine,
    value: str,
) -> None:
    def work(session: Session) -> None:
        session.connection()
        with history.context(session, **{"value": value, value: "as a key"}):
            session.add(note(body="x"))
            session.commit()

    in_session(work)
    assert written(note, pg_engine) == [("x", {"value": value, value: "as a key"})]


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


def nested(depth: int) -> Any:
    value: Any = 1
    for number in range(depth):
        value = [value] if number % 2 else {"a": value}
    return value


BAD: dict[str, Any] = {
    "NUL": "a\0b",
    "high surrogate": "\ud800",
    "low surrogate": "\udfff",
    "two halves": "\ud83d\ude00",
    "nan": float("nan"),
    "infinity": float("-inf"),
    "bytes": b"a",
    "key": {(1, 2): 3},
    "NUL in a key": {"\0": 1},
    "surrogate in a key": {"\ud800": 1},
    "no repr": Unspeakable(),
    "too deep": nested(MAX_DEPTH + 1),
    "1,000 deep": nested(1_000),
    "too deep for Python": nested(100_000),
    "1 MB and NUL": "x" * 2**20 + "\0",
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@examples(2)
@given(data=st.data())
def test_what_cannot_be_stored_is_refused_on_entering_by_its_key(
    data: st.DataObject, bad: Any, hostile: Any, pg_engine: Engine, note: Any
) -> None:
    key = data.draw(hostile.texts)
    around = data.draw(st.dictionaries(hostile.texts, hostile.values, max_size=2))
    inside = data.draw(
        st.sampled_from([bad, [bad], {"a": bad}, [1, {"b": [bad, "c"]}]])
    )
    sent: list[str] = []
    with Session(pg_engine) as session, history.context(session, **around):
        session.connection()
        event.listen(
            pg_engine, "before_cursor_execute", lambda *args: sent.append(args[2])
        )
        block = history.context(session, **{**around, key: inside})
        with pytest.raises(ContextError) as error, block:
            pytest.fail("it was entered")
        with pytest.raises(ContextError):
            history.annotate(session, **{key: inside})
        assert sent == []
        # It is as if nobody had tried.
        session.add(note(body="after"))
        session.commit()
    assert repr(key) in str(error.value)
    assert len(str(error.value)) < 1_000
    assert written(note, pg_engine)[-1] == ("after", around)


@pytest.mark.parametrize("sign", [1, -1], ids=["positive", "negative"])
def test_numbers_of_many_digits_are_refused_or_stored(
    sign: int, pg_engine: Engine, note: Any
) -> None:
    number = sign * 10**4_000
    with Session(pg_engine) as session:
        with history.context(session, number=number):
            session.add(note(body="x"))
            session.commit()
        block = history.context(session, number=number * 10**1_000)
        with pytest.raises(ContextError, match="'number' is <int object"), block:
            pytest.fail("it was entered")
    assert written(note, pg_engine) == [("x", {"number": number})]


def test_what_is_nested_as_deep_as_may_be_is_stored_from_any_depth_of_the_stack(
    pg_engine: Engine, note: Any
) -> None:
    value = nested(MAX_DEPTH)

    def work(depth: int) -> None:
        if depth:
            return work(depth - 1)
        session.add(note(body="x"))
        session.flush()

    with Session(pg_engine) as session, history.context(session, value=value):
        work(500)
        session.commit()
    assert written(note, pg_engine) == [("x", {"value": value})]


@examples(20)
@given(data=st.data())
def test_any_name_can_be_ignored_or_is_refused(
    data: st.DataObject, hostile: Any, pg_engine: Engine, note: Any
) -> None:
    names = data.draw(st.lists(hostile.texts, min_size=1, max_size=3))
    bad = data.draw(st.sampled_from(["\0", "\ud800"]))
    before = len(written(note, pg_engine))
    with Session(pg_engine) as session:
        with history.ignore(session, *names):
            session.add(note(body="x"))
            session.commit()
        with pytest.raises(IgnoreError):
            history.ignore(session, names[0] + bad)
    assert written(note, pg_engine)[before:] == [("x", None)]
