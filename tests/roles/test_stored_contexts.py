"""What a transaction has stored as its context stays, whatever others say."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import URL, Connection, Engine, Row, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sa_history import AfterDelete, Snapshot, track
from sa_history.install import harden
from sa_history.sql.compose import quote_ident


@pytest.fixture
def deed(
    base: type[DeclarativeBase], create_all: Callable[[], None], level: str
) -> Any:
    @track(Snapshot, AfterDelete, level=level, append_only=True, ignorable=False)
    class Deed(base):  # type: ignore[misc, valid-type]
        __tablename__ = "deed"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    return Deed


@pytest.fixture(params=["hardened", "ordinary"])
def writer(
    request: pytest.FixtureRequest, pg_engine: Engine, pg_url: URL, deed: Any
) -> Iterator[Engine]:
    """An engine of a role that may write the table."""
    name = f"writer {pg_url.database}"[-63:]
    role = quote_ident(name)
    with pg_engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {role} LOGIN"))
        connection.execute(text(f"GRANT SELECT, INSERT ON deed TO {role}"))
        connection.execute(text(f"GRANT USAGE ON SEQUENCE deed_id_seq TO {role}"))
    if request.param == "hardened":
        harden(pg_engine, deed, role=name)
    engine = create_engine(pg_url.set(username=name))
    yield engine
    engine.dispose()
    with pg_engine.begin() as connection:
        connection.execute(text(f"DROP OWNED BY {role}"))
        connection.execute(text(f"DROP ROLE {role}"))


@pytest.fixture
def stored(pg_engine: Engine) -> Callable[[], Sequence[Row[Any]]]:
    """Return the committed contexts, oldest first, as they are stored."""
    query = "SELECT id, metadata::text, parent_id, created_at, updated_at"
    query += " FROM pghistory_context ORDER BY created_at, id"

    def read() -> Sequence[Row[Any]]:
        with pg_engine.connect() as connection:
            return connection.execute(text(query)).all()

    return read


@pytest.fixture
def cited(pg_engine: Engine) -> Callable[[], list[uuid.UUID]]:
    """Return the id of the context of each committed event, oldest first."""
    query = text("SELECT pgh_context_id FROM deed_event ORDER BY pgh_id")

    def read() -> list[uuid.UUID]:
        with pg_engine.connect() as connection:
            return list(connection.scalars(query))

    return read


Stored = Callable[[], Sequence[Row[Any]]]
Cited = Callable[[], list[uuid.UUID]]


def say(connection: Connection, context: uuid.UUID, metadata: str) -> None:
    """Set the context, as any client of the database can, and write in it."""
    connection.execute(
        text(
            "SELECT set_config('pghistory.context_id', :id, true),"
            " set_config('pghistory.context_metadata', :metadata, true)"
        ),
        {"id": str(context), "metadata": metadata},
    )
    connection.execute(text("INSERT INTO deed DEFAULT VALUES"))


# What a transaction has stored, and what another one says under its id.
OTHERS = {
    "a key more": ('{"user": 7}', '{"user": 7, "reason": "r"}'),
    "a key less": ('{"user": 7, "reason": "r"}', '{"user": 7}'),
    "no keys": ('{"user": 7}', "{}"),
    "another value": ('{"user": 7}', '{"user": 8}'),
    "a number as a string": ('{"user": 7}', '{"user": "7"}'),
    "a number of another scale": ('{"amount": 1}', '{"amount": 1.0}'),
    "a nested number of another scale": ('{"a": [{"b": 1.50}]}', '{"a": [{"b": 1.5}]}'),
    "null where there was a value": ('{"user": 7}', '{"user": null}'),
    "null where there was no key": ('{"user": 7}', '{"user": 7, "acting": null}'),
    "a value where there was null": ('{"user": null}', '{"user": 7}'),
    "an element more": ('{"by": ["ann"]}', '{"by": ["ann", "eve"]}'),
    "an element less": ('{"by": ["ann", "eve"]}', '{"by": ["ann"]}'),
    "an element twice": ('{"by": ["ann"]}', '{"by": ["ann", "ann"]}'),
    "another order": ('{"by": ["ann", "bob"]}', '{"by": ["bob", "ann"]}'),
    "an element in front": ('{"by": ["ann"]}', '{"by": ["eve", "ann"]}'),
    "a list that was empty": ('{"roles": []}', '{"roles": ["admin"]}'),
    "an object that was empty": ('{"may": {}}', '{"may": {"all": true}}'),
    "a key more in an object": ('{"u": {"id": 7}}', '{"u": {"id": 7, "for": "x"}}'),
    "a key more in a list": ('{"u": [{"id": 7}]}', '{"u": [{"id": 7, "for": "x"}]}'),
    "a list of a value": ('["user"]', '["user", "admin"]'),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_transaction_has_a_copy_of_its_own_and_changes_nothing(
    writer: Engine, stored: Stored, cited: Cited, other: str
) -> None:
    said, forged = OTHERS[other]
    context = uuid.uuid4()
    with writer.begin() as connection:
        say(connection, context, said)
    before = stored()
    for _ in range(2):
        with writer.begin() as connection:
            say(connection, context, forged)
            say(connection, context, forged)
    first, *copies = stored()
    assert [first] == before
    with writer.connect() as connection:
        canonical = connection.scalar(
            text("SELECT CAST(:json AS jsonb)::text"), {"json": forged}
        )
    assert [row.metadata for row in copies] == [canonical] * 2
    assert [row.parent_id for row in copies] == [context] * 2
    assert cited() == [context, *(row.id for row in copies for _ in range(2))]


@pytest.mark.parametrize(
    "same", ['{"b": [1, {"d": null}], "a": 1.0}', '{"a":1.0,"b":[1,{"d":null}]}']
)
def test_a_transaction_that_says_the_same_shares_the_row(
    writer: Engine, stored: Stored, cited: Cited, same: str
) -> None:
    """The order of an object's keys, and spaces, are not stored."""
    context = uuid.uuid4()
    with writer.begin() as connection:
        say(connection, context, '{"a": 1.0, "b": [1, {"d": null}]}')
    before = stored()
    with writer.begin() as connection:
        say(connection, context, same)
    assert stored() == before
    assert cited() == [context] * 2


def test_the_id_of_a_copy_begins_with_the_time_and_cannot_be_foretold(
    writer: Engine, stored: Stored, cited: Cited
) -> None:
    context = uuid.uuid4()
    with writer.begin() as connection:
        say(connection, context, "{}")
    began = time.time()
    lost = []
    with writer.begin() as connection:
        for _ in range(2):
            point = connection.begin_nested()
            say(connection, context, '{"user": 8}')
            lost.append(
                connection.scalar(
                    text("SELECT current_setting('pghistory.context_copies')")
                )
            )
            point.rollback()
        say(connection, context, '{"user": 8}')
    # In one transaction of one context three copies have three ids.
    key, *no_more = json.loads(lost[0])
    assert no_more == []
    ids = [uuid.UUID(json.loads(copies)[key]) for copies in lost]
    ids.append(cited()[-1])
    assert len({id_.bytes[6:] for id_ in ids}) == 3
    assert {(id_.version, id_.variant) for id_ in ids} == {(7, uuid.RFC_4122)}
    times = [(id_.int >> 80) / 1000 for id_ in ids]
    assert times == sorted(times)
    assert began - 0.01 < times[0] <= times[-1] < time.time() + 0.01


def test_a_row_of_the_same_microsecond_is_not_taken_for_ones_own(
    writer: Engine, pg_engine: Engine, stored: Stored, cited: Cited
) -> None:
    """Whoever begins transactions all the time can meet that of another one."""
    context = uuid.uuid4()
    with writer.begin() as connection:
        say(connection, context, '{"user": 7}')
    with writer.begin() as first, writer.begin() as last:
        # One whose number is smaller than the row's, and one whose number is greater.
        began = first.scalar(text("SELECT now() FROM pg_current_xact_id()"))
        set_time = text("UPDATE pghistory_context SET created_at = :began")
        with pg_engine.begin() as connection:
            connection.execute(set_time, {"began": began})
        before = stored()
        say(first, context, '{"user": 8}')
        first.commit()
        began = last.scalar(text("SELECT now()"))
        with pg_engine.begin() as connection:
            where = text("UPDATE pghistory_context SET created_at = :b WHERE id = :id")
            connection.execute(where, {"b": began, "id": context})
        say(last, context, '{"user": 9}')
    rows = {row.id: json.loads(row.metadata) for row in stored()}
    assert before[0].id == context
    assert [rows[id_] for id_ in cited()] == [{"user": 7}, {"user": 8}, {"user": 9}]
    assert rows[context] == {"user": 7}


def test_its_own_context_is_changed_by_the_transaction_that_stores_it(
    writer: Engine, stored: Stored, cited: Cited
) -> None:
    """Whether it has stored it in a savepoint or not, and also of a copy."""
    context, other = uuid.uuid4(), uuid.uuid4()
    with writer.begin() as connection:
        say(connection, other, "{}")
    with writer.begin() as connection:
        with connection.begin_nested():
            say(connection, context, '{"step": 1}')
            say(connection, other, '{"step": 1}')
        with connection.begin_nested():
            say(connection, context, '{"step": 2}')
            say(connection, other, '{"step": 2}')
        say(connection, context, '{"step": 3}')
        say(connection, other, '{"step": 3}')
    rows = {row.id: row.metadata for row in stored()}
    (copy,) = rows.keys() - {context, other}
    assert rows == {context: '{"step": 3}', other: "{}", copy: '{"step": 3}'}
    assert cited() == [other, *[context, copy] * 3]


def test_a_rollback_to_a_savepoint_takes_back_what_was_stored_of_a_context(
    writer: Engine, stored: Stored, cited: Cited
) -> None:
    context = uuid.uuid4()
    with writer.begin() as connection:
        say(connection, context, "{}")
    with writer.begin() as connection:
        point = connection.begin_nested()
        say(connection, context, '{"lost": true}')
        point.rollback()
        say(connection, context, '{"step": 1}')
        point = connection.begin_nested()
        say(connection, context, '{"step": 2}')
        point.rollback()
        say(connection, context, '{"step": 1}')
    rows = {row.id: row.metadata for row in stored()}
    (copy,) = rows.keys() - {context}
    assert rows == {context: "{}", copy: '{"step": 1}'}
    assert cited() == [context, copy, copy]


def test_a_transaction_that_comes_back_to_a_context_finds_its_copy(
    writer: Engine, stored: Stored, cited: Cited
) -> None:
    one, other = uuid.uuid4(), uuid.uuid4()
    with writer.begin() as connection:
        say(connection, one, "{}")
        say(connection, other, "{}")
    with writer.begin() as connection:
        for _ in range(3):
            say(connection, one, '{"user": 1}')
            say(connection, other, '{"user": 2}')
    rows = {row.id: (row.metadata, row.parent_id) for row in stored()}
    assert len(rows) == 4
    first, second = cited()[2:4]
    assert cited() == [one, other, *[first, second] * 3]
    assert rows[first] == ('{"user": 1}', one)
    assert rows[second] == ('{"user": 2}', other)


def test_a_copy_of_what_is_stored_at_the_moment_stays_that_transactions(
    writer: Engine, stored: Stored, cited: Cited
) -> None:
    """Nobody waits, and when the other one is done, the copy is found again."""
    context, between = uuid.uuid4(), uuid.uuid4()
    with writer.connect() as one, writer.connect() as other:
        for connection in (one, other):
            connection.execute(text("SET LOCAL lock_timeout = '5s'"))
            say(connection, context, '{"user": 7}')
        say(other, between, "{}")
        one.commit()
        say(other, context, '{"user": 7}')
        other.commit()
    first, copy = (row for row in stored() if row.id != between)
    if first.id != context:
        first, copy = copy, first
    assert (first.id, first.parent_id) == (context, None)
    assert (copy.metadata, copy.parent_id) == (first.metadata, context)
    assert copy.id.version == 7
    assert cited() == [context, copy.id, between, copy.id]
