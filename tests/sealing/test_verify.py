"""Sealed events are verified, and what was done to them is found."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    URL,
    Engine,
    MetaData,
    create_engine,
    event,
    func,
    select,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import SealDigest, erase, seal, track, verify
from sa_history.exc import SealError
from sa_history.sealing.removal import record_removal

Base = type[DeclarativeBase]


def test_nothing_is_found_where_nothing_was_changed(
    base: Base, some_events: list[int], pg_engine: Engine
) -> None:
    digest = seal(pg_engine, base)
    found = verify(pg_engine, base, digest=digest)
    assert (found.discrepancies, found.events, found.seals) == ((), 12, 1)
    assert found.digest == digest


def test_each_seal_takes_few_statements(
    base: Base, some_events: list[int], person: Any, pg_engine: Engine
) -> None:
    """The settings of digests are made once, and not around each of them."""

    def statements() -> int:
        sent: list[str] = []

        def keep(_: Any, __: Any, statement: str, *___: Any) -> None:
            sent.append(statement)

        event.listen(pg_engine, "before_cursor_execute", keep)
        assert not verify(pg_engine, base).discrepancies
        event.remove(pg_engine, "before_cursor_execute", keep)
        assert sum("set_config" in statement for statement in sent) == 4
        return len(sent)

    seal(pg_engine, base)
    of_one = statements()
    for number in (4, 5, 6):
        with Session(pg_engine) as session:
            session.add(person(id=number, name="x"))
            session.commit()
        seal(pg_engine, base)
    assert statements() - of_one <= 3 * 12


@pytest.mark.parametrize(
    ("statement", "problem", "ids"),
    [
        ("UPDATE person_event SET points = 9 WHERE pgh_id = 5", "changed", (5,)),
        ("UPDATE person_event SET name = 'x' WHERE pgh_id = 5", "changed", (5,)),
        ("UPDATE person_event SET pgh_label = 'x' WHERE pgh_id = 5", "changed", (5,)),
        ("DELETE FROM person_event WHERE pgh_id = 5", "missing", (5,)),
        (
            "UPDATE person_event SET pgh_id = CASE pgh_id WHEN 4 THEN -4 ELSE -7 END"
            " WHERE pgh_id IN (4, 7);"
            "UPDATE person_event SET pgh_id = CASE pgh_id WHEN -4 THEN 7 ELSE 4 END"
            " WHERE pgh_id < 0",
            "reordered",
            (4, 7),
        ),
        (
            "UPDATE pghistory_context SET metadata = metadata || '{\"user\": 9}'"
            " WHERE metadata ->> 'user' = '2'",
            "changed",
            (2,),
        ),
        (
            "INSERT INTO person_event (pgh_id, pgh_op, pgh_label, pgh_obj_id, id, name)"
            " VALUES (-1, 'I', 'snapshot', 1, 1, 'x')",
            "added",
            (-1,),
        ),
    ],
)
def test_what_is_done_to_events_is_found_by_its_word(
    base: Base,
    some_events: list[int],
    pg_engine: Engine,
    statement: str,
    problem: str,
    ids: tuple[int, ...],
) -> None:
    seal(pg_engine, base)
    with pg_engine.begin() as connection:
        for part in statement.split(";"):
            connection.execute(text(part))
    (found,) = verify(pg_engine, base).discrepancies
    assert (found.problem, found.table, found.ids) == (problem, "person_event", ids)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE pghistory_seal SET sealed_at = now()",
        "UPDATE pghistory_seal SET root = sha256('x')",
        "UPDATE pghistory_seal SET digest = sha256('x')",
        "UPDATE pghistory_seal SET id = 2",
        "UPDATE pghistory_seal SET first_id = 2",
        "UPDATE pghistory_seal_range SET digest = sha256('x')",
        "UPDATE pghistory_seal_range SET marks = sha256(marks)",
        "UPDATE pghistory_seal_range SET events = 11",
        "UPDATE pghistory_seal_range SET last_id = 11",
        "DELETE FROM pghistory_seal_range",
    ],
)
def test_a_changed_seal_is_found(
    base: Base, some_events: list[int], pg_engine: Engine, statement: str
) -> None:
    seal(pg_engine, base)
    with pg_engine.begin() as connection:
        connection.execute(
            text(
                "ALTER TABLE pghistory_seal_range"
                " DROP CONSTRAINT pghistory_seal_range_seal_id_fkey"
            )
        )
        connection.execute(text(statement))
    found = verify(pg_engine, base).discrepancies
    assert "resealed" in {discrepancy.problem for discrepancy in found}


def test_seals_that_were_made_anew_are_found_by_a_digest_from_outside(
    base: Base, some_events: list[int], pg_engine: Engine
) -> None:
    digest = seal(pg_engine, base)
    with pg_engine.begin() as connection:
        connection.execute(text("DELETE FROM pghistory_seal_range"))
        connection.execute(text("DELETE FROM pghistory_seal"))
        connection.execute(text("UPDATE person_event SET points = 9 WHERE pgh_id = 5"))
    gone = verify(pg_engine, base, digest=digest).discrepancies
    assert [(d.problem, d.detail) for d in gone] == [
        ("resealed", "the digest knows 1 seal, of which there are 0")
    ]
    seal(pg_engine, base)
    assert verify(pg_engine, base).discrepancies == ()
    (found,) = verify(pg_engine, base, digest=digest).discrepancies
    assert (found.problem, found.table) == ("resealed", "pghistory_seal")
    assert str(found) == (
        "resealed pghistory_seal 1 to 1 (the root of seal 1 is not that of the digest)"
    )


def test_an_older_digest_goes_with_newer_seals(
    base: Base, person: Any, some_events: list[int], pg_engine: Engine
) -> None:
    digest = seal(pg_engine, base)
    with Session(pg_engine) as session:
        session.add(person(id=9, name="x"))
        session.commit()
    newer = seal(pg_engine, base)
    assert newer != digest == SealDigest.from_json(digest.to_json())
    for known in (digest, newer):
        assert verify(pg_engine, base, digest=known).discrepancies == ()


def test_a_column_that_is_added_changes_nothing_and_one_that_is_dropped_is_told(
    base: Base, some_events: list[int], pg_engine: Engine
) -> None:
    seal(pg_engine, base)
    with pg_engine.begin() as connection:
        connection.execute(text("ALTER TABLE person_event ADD more int DEFAULT 1"))
    assert verify(pg_engine, base).discrepancies == ()
    with pg_engine.begin() as connection:
        connection.execute(text("ALTER TABLE person_event DROP points"))
    (found,) = verify(pg_engine, base).discrepancies
    assert str(found) == "unreadable person_event 1 to 12 (the column points is gone)"


def test_a_column_that_the_models_do_not_have_any_more_is_sealed_too(
    base: Base, some_events: list[int], pg_engine: Engine
) -> None:
    with pg_engine.begin() as connection:
        connection.execute(text("ALTER TABLE person_event ADD more int DEFAULT 1"))
    seal(pg_engine, base)
    with pg_engine.begin() as connection:
        connection.execute(text("UPDATE person_event SET more = 2 WHERE pgh_id = 5"))
    (found,) = verify(pg_engine, base).discrepancies
    assert (found.problem, found.ids) == ("changed", (5,))


def test_settings_of_the_session_change_nothing_and_stay_as_they_are(
    base: Base, some_events: list[int], pg_engine: Engine
) -> None:
    seal(pg_engine, base)
    settings = {
        "TimeZone": "Asia/Tokyo",
        "DateStyle": "ISO, DMY",
        "extra_float_digits": "0",
        "bytea_output": "escape",
        "search_path": "public, pg_catalog",
    }
    with pg_engine.begin() as connection:
        for name, value in settings.items():
            connection.execute(select(func.set_config(name, value, True)))
        assert verify(connection, base).discrepancies == ()
        for name, value in settings.items():
            assert connection.scalar(select(func.current_setting(name))) == value


def test_a_vacuum_changes_nothing(
    base: Base, some_events: list[int], pg_engine: Engine
) -> None:
    seal(pg_engine, base)
    with pg_engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text("VACUUM FULL person_event"))
        connection.execute(text("CLUSTER person_event USING person_event_pkey"))
    assert verify(pg_engine, base).discrepancies == ()


def test_old_events_that_a_recorded_retention_has_removed_are_no_fault(
    base: Base, some_events: list[int], pg_engine: Engine
) -> None:
    seal(pg_engine, base)
    with pg_engine.begin() as connection:
        connection.execute(text("DELETE FROM person_event WHERE pgh_id <= 7"))
        record_removal(connection, base, "person_event", 1, 6, "old")
    found = verify(pg_engine, base)
    assert [(d.problem, d.ids) for d in found.discrepancies] == [("missing", (7,))]
    assert [str(d) for d in found.removed] == [
        "removed person_event 1 to 12: 1, 2, 3, 4, 5, 6"
    ]


def test_a_digest_that_is_none_is_refused(base: Base, pg_engine: Engine) -> None:
    other = '{"sa_history": 0, "chains": {}}'
    negative = '{"sa_history": 1, "chains": {"s": {"seal": -1, "root": ""}}}'
    for text_ in ("", "{}", "[]", other, '{"sa_history": 1}', negative):
        with pytest.raises(SealError, match="this is no digest of seals"):
            SealDigest.from_json(text_)


def test_a_digest_of_another_chain_is_refused(
    base: Base, person: Any, pg_engine: Engine
) -> None:
    with pytest.raises(SealError, match="the digest has no chain 'pghistory_seal'"):
        verify(pg_engine, base, digest=SealDigest({}))


def test_a_table_that_no_model_seals_any_more_is_told(
    base: Base, some_events: list[int], pg_engine: Engine
) -> None:
    seal(pg_engine, base)
    with pg_engine.begin() as connection:
        connection.execute(text("DROP TABLE person_event"))
    (found,) = verify(pg_engine, base).discrepancies
    assert (found.problem, found.detail) == ("unreadable", "the table is gone")

    class Other(DeclarativeBase):
        metadata = MetaData()

    @track(sealed=True)
    class Thing(Other):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)

    Other.metadata.create_all(pg_engine)
    (found,) = verify(pg_engine, Other).discrepancies
    assert found.detail == "none of the models given is sealed in this table"


def test_several_metadata_have_one_chain_in_one_schema(
    base: Base, some_events: list[int], pg_engine: Engine
) -> None:
    class Other(DeclarativeBase):
        metadata = MetaData()

    @track(sealed=True)
    class Thing(Other):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)

    Other.metadata.create_all(pg_engine)
    with Session(pg_engine) as session:
        session.add(Thing(id=1))
        session.commit()
    digest = seal(pg_engine, base, Other)
    found = verify(pg_engine, base, Other, digest=digest)
    assert (found.discrepancies, found.events, found.seals) == ((), 13, 2)


def test_what_a_retention_removes_is_told_as_one(
    base: Base, person: Any, pg_engine: Engine
) -> None:
    with pg_engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO person"
                " SELECT i, 'x', NULL, 0 FROM generate_series(1, 3500) AS i"
            )
        )
    seal(pg_engine, base)
    with pg_engine.begin() as connection:
        connection.execute(text("DELETE FROM person_event WHERE pgh_id <= 2000"))
        connection.execute(text("DELETE FROM person_event WHERE pgh_id = 3001"))
        record_removal(connection, base, "person_event", 1, 2000, "old")
        record_removal(connection, base, "person_event", 3001, 3001, "old")
    seal(pg_engine, base)
    found = verify(pg_engine, base)
    assert found.discrepancies == ()
    assert [str(d) for d in found.removed] == [
        "removed person_event 1 to 2000",
        "removed person_event 3001 to 3500: 3001",
    ]


def test_an_event_that_cannot_be_told_is_in_a_range_that_is(
    base: Base,
    some_events: list[int],
    pg_engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A seal keeps a few bytes of each event, which may be those of another one."""
    seal(pg_engine, base)
    with pg_engine.begin() as connection:
        connection.execute(text("UPDATE person_event SET points = 9 WHERE pgh_id = 5"))
    monkeypatch.setattr("sa_history.sealing.verify.marks_of", lambda _: {})
    (found,) = verify(pg_engine, base).discrepancies
    assert str(found) == "changed person_event 1 to 12"


def test_many_ids_are_not_all_shown(
    base: Base, some_events: list[int], pg_engine: Engine
) -> None:
    seal(pg_engine, base)
    with pg_engine.begin() as connection:
        connection.execute(text("DELETE FROM person_event"))
    (found,) = verify(pg_engine, base).discrepancies
    assert str(found).endswith("1 to 12: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more")


def test_a_model_that_was_removed_from_the_metadata_is_not_sealed(
    base: Base, some_events: list[int], pg_engine: Engine
) -> None:
    @track(sealed=True)
    class Other(base):  # type: ignore[misc, valid-type]
        __tablename__ = "other"
        id: Mapped[int] = mapped_column(primary_key=True)

    base.metadata.remove(Other.__table__)
    seal(pg_engine, base)
    assert verify(pg_engine, base).events == 12


@pytest.mark.parametrize("is_removed", [False, True])
def test_what_is_erased_or_removed_meanwhile_is_no_fault(
    base: Base,
    person: Any,
    some_events: list[int],
    pg_engine: Engine,
    pg_url: URL,
    is_removed: bool,
) -> None:
    """By another transaction, between the statements of a verification."""
    seal(pg_engine, base)
    engine = create_engine(pg_url)
    is_done: list[bool] = []

    def meanwhile(conn: Any, cursor: Any, statement: str, *more: Any) -> None:
        if "string_agg" not in statement or is_done:
            return
        is_done.append(True)
        with Session(pg_engine) as session:
            if is_removed:
                session.execute(text("DELETE FROM person_event WHERE pgh_id <= 4"))
                record_removal(session.connection(), base, "person_event", 1, 4, "old")
            else:
                erase(session, person, 2)
            session.commit()

    event.listen(engine, "before_cursor_execute", meanwhile)
    found = verify(engine, base)
    engine.dispose()
    assert is_done
    assert found.discrepancies == ()
    assert [str(d) for d in found.removed] == (
        ["removed person_event 1 to 12: 1, 2, 3, 4"] if is_removed else []
    )


def test_the_encoding_of_a_client_changes_nothing(
    base: Base, person: Any, pg_engine: Engine, pg_url: URL
) -> None:
    with Session(pg_engine) as session:
        session.add(person(id=1, name="Zoë", email="zoë@x.org"))
        session.commit()
    seal(pg_engine, base)
    engine = create_engine(pg_url.update_query_dict({"client_encoding": "LATIN1"}))
    assert verify(engine, base).discrepancies == ()
    engine.dispose()
