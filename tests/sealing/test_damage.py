"""What is done to the tables of a sealed history, and not to single rows, is found."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import DeclarativeBase, Session

import sa_history as history
from sa_history.exc import SealError
from sa_history.sealing.verify import verify_event

Base = type[DeclarativeBase]

NO_EVENT_KEY = "ALTER TABLE person_event DROP CONSTRAINT person_event_pkey"
NO_SEAL_REFERENCE = (
    "ALTER TABLE pghistory_seal_range DROP CONSTRAINT pghistory_seal_range_seal_id_fkey"
)
HIDDEN = [
    "ALTER TABLE {table} RENAME TO hidden",
    "CREATE VIEW {table} AS SELECT * FROM hidden",
]

SAID_TO_BE_ERASED = [
    "UPDATE pghistory_erased SET columns = {} WHERE table_name = 'person_event'",
    "UPDATE person_event SET pgh_erased = columns FROM pghistory_erased AS e"
    " WHERE e.table_name = 'person_event' AND e.id = pgh_id::text",
]

DAMAGES: dict[str, tuple[list[str], set[str]]] = {
    "column added": (["ALTER TABLE person_event ADD extra text DEFAULT 'x'"], set()),
    "column dropped": (["ALTER TABLE person_event DROP points"], {"unreadable"}),
    "column renamed": (
        ["ALTER TABLE person_event RENAME points TO score"],
        {"unreadable"},
    ),
    "other texts": (
        ["ALTER TABLE person_event ALTER points TYPE boolean USING points <> 0"],
        {"changed"},
    ),
    "type of the context": (
        ["ALTER TABLE person_event ALTER pgh_context_id TYPE text"],
        {"unreadable"},
    ),
    "type of contexts' ids": (
        ["ALTER TABLE pghistory_context ALTER id TYPE text"],
        {"unreadable"},
    ),
    "type of the number": (
        ["ALTER TABLE person_event ALTER pgh_id TYPE numeric"],
        {"unreadable"},
    ),
    "erased columns dropped": (
        ["ALTER TABLE person_event DROP pgh_erased"],
        {"unreadable"},
    ),
    "type of salts": (
        ["ALTER TABLE pghistory_salt ALTER salt TYPE text USING 'x'"],
        {"unreadable"},
    ),
    "contexts dropped": (["DROP TABLE pghistory_context CASCADE"], {"unreadable"}),
    "events as a view": (
        [one.format(table="person_event") for one in HIDDEN],
        {"unreadable"},
    ),
    "contexts as a view": (
        [one.format(table="pghistory_context") for one in HIDDEN],
        {"unreadable"},
    ),
    "type of seals": (
        ["ALTER TABLE pghistory_seal ALTER digest TYPE text USING 'x'"],
        {"unreadable"},
    ),
    "column of seals dropped": (
        ["ALTER TABLE pghistory_seal DROP erasable"],
        {"unreadable"},
    ),
    "no time": (["UPDATE pghistory_seal SET sealed_at = 'infinity'"], {"unreadable"}),
    "column of the log dropped": (
        ["ALTER TABLE pghistory_erasure DROP first_id"],
        {"unreadable"},
    ),
    "type of the log": (
        ["ALTER TABLE pghistory_erasure ALTER events TYPE text"],
        {"unreadable"},
    ),
    "column of ranges dropped": (
        ["ALTER TABLE pghistory_seal_range DROP marks"],
        {"unreadable"},
    ),
    "clock": (
        ["UPDATE pghistory_seal SET sealed_at = sealed_at - interval '1 year'"],
        {"resealed"},
    ),
    "seals twice": (
        [
            NO_SEAL_REFERENCE,
            "ALTER TABLE pghistory_seal DROP CONSTRAINT pghistory_seal_pkey",
            "INSERT INTO pghistory_seal SELECT * FROM pghistory_seal WHERE id = 1",
        ],
        {"resealed"},
    ),
    "seals exchanged": (
        [
            NO_SEAL_REFERENCE,
            "UPDATE pghistory_seal SET id = -id",
            "UPDATE pghistory_seal SET id = CASE WHEN id > -3 THEN 3 + id ELSE 3 END",
            "UPDATE pghistory_seal_range SET seal_id = 3 - seal_id WHERE seal_id < 3",
        ],
        {"resealed"},
    ),
    "ranges twice": (
        [
            "ALTER TABLE pghistory_seal_range"
            " DROP CONSTRAINT pghistory_seal_range_pkey",
            "INSERT INTO pghistory_seal_range SELECT * FROM pghistory_seal_range",
        ],
        {"resealed"},
    ),
    "event twice": (
        [
            NO_EVENT_KEY,
            "INSERT INTO person_event SELECT * FROM person_event WHERE pgh_id = 2",
        ],
        {"added"},
    ),
    "another event of the same number": (
        [
            NO_EVENT_KEY,
            "INSERT INTO person_event (pgh_id, pgh_op, pgh_label, pgh_obj_id, id)"
            " VALUES (2, 'U', 'snapshot', 1, 1)",
        ],
        {"added"},
    ),
    "erased by an erasure that is not there": (
        ["UPDATE pghistory_erased SET erasure_id = 7"],
        {"changed"},
    ),
    "a value said to be erased": (
        [one.format("columns || '{points}'::text[]") for one in SAID_TO_BE_ERASED],
        {"changed"},
    ),
    "an erased value said to be none": (
        [one.format("'{name}'") for one in SAID_TO_BE_ERASED],
        {"changed"},
    ),
    "erasure by hand": (
        [
            "INSERT INTO pghistory_erased SELECT 'person_event', e.pgh_id::text, 1,"
            " '{name,email}', sha256(salt || textsend(row(name, email)::text))"
            " FROM person_event AS e JOIN pghistory_salt ON pgh_obj_id::text = key"
            " WHERE table_name = 'person_event' AND id = 3",
            "UPDATE person_event SET name = NULL, email = NULL,"
            " pgh_erased = '{name,email}' WHERE id = 3",
            "DELETE FROM pghistory_salt WHERE key = '3'",
        ],
        {"changed"},
    ),
}


def test_what_is_done_to_tables_is_found(
    base: Base, person: Any, some_events: list[int], pg_engine: Engine
) -> None:
    history.seal(pg_engine, base)
    with Session(pg_engine) as session:
        session.get_one(person, 3).points = 9
        session.commit()
        history.erase(session, person, 2)
        session.commit()
    digest = history.seal(pg_engine, base)
    for name, (statements, words) in DAMAGES.items():
        with pg_engine.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))
            for known in (digest, None):
                found = history.verify(connection, base, digest=known).discrepancies
                told = {one.problem.value for one in found}
                assert told == words, (name, list(map(str, found)))
            connection.rollback()
    assert history.verify(pg_engine, base, digest=digest).discrepancies == ()


@pytest.mark.usefixtures("some_events")
@pytest.mark.parametrize("table", ["pghistory_seal", "person_event"])
def test_a_role_that_may_not_read_has_found_nothing(
    base: Base, pg_engine: Engine, table: str
) -> None:
    history.seal(pg_engine, base)
    role = f"auditor_{pg_engine.url.database}"
    with pg_engine.connect() as connection:
        connection.execute(text(f"CREATE ROLE {role}"))
        rights = f"SELECT ON ALL TABLES IN SCHEMA public TO {role}"
        connection.execute(text(f"GRANT {rights}"))
        connection.execute(text(f"REVOKE SELECT ON {table} FROM {role}"))
        connection.execute(text(f"SET LOCAL ROLE {role}"))
        with pytest.raises(ProgrammingError, match=table):
            history.verify(connection, base)


@pytest.mark.usefixtures("english", "some_events")
def test_a_page_of_one_event_is_told_that_seals_cannot_be_read(
    base: Base, pg_engine: Engine
) -> None:
    history.seal(pg_engine, base)
    with pg_engine.connect() as connection:
        connection.execute(text("ALTER TABLE pghistory_seal DROP erasable"))
        with pytest.raises(SealError, match="cannot be read: column"):
            verify_event(connection, base.metadata, "person_event", 1)
