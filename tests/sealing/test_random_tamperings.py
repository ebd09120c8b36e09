"""Whatever is done to sealed events is found, in its range and by its word."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import SealDigest, seal, track, verify
from sa_history.sealing.seal import _seal_batch
from sa_history.sealing.sources import ledger_of

pytestmark = pytest.mark.long

Base = type[DeclarativeBase]
Tampering = Callable[[Connection, random.Random], "int | None"]
"""What changes something, and returns the number of an event whose range it is in."""


def _ids(connection: Connection) -> list[int]:
    return list(connection.scalars(text("SELECT pgh_id FROM person_event ORDER BY 1")))


def _change(column: str, value: str) -> Tampering:
    def change(connection: Connection, chance: random.Random) -> int:
        number = chance.choice(_ids(connection))
        connection.execute(
            text(f"UPDATE person_event SET {column} = {value} WHERE pgh_id = :id"),
            {"id": number},
        )
        return number

    return change


def _delete(connection: Connection, chance: random.Random) -> int:
    number = chance.choice(_ids(connection))
    statement = text("DELETE FROM person_event WHERE pgh_id = :id")
    connection.execute(statement, {"id": number})
    return number


def _insert(connection: Connection, chance: random.Random) -> int:
    known = set(_ids(connection))
    free = [n for n in range(1, max(known)) if n not in known]
    number = chance.choice([*free, 0, -chance.randrange(1, 1 << 60)])
    connection.execute(
        text(
            "INSERT INTO person_event (pgh_id, pgh_op, pgh_label, pgh_obj_id, id)"
            " VALUES (:id, 'I', 'snapshot', 1, 1)"
        ),
        {"id": number},
    )
    return number


def _exchange(connection: Connection, chance: random.Random) -> int:
    one, other = chance.sample(_ids(connection), 2)
    for before, after in ((one, -one), (other, one), (-one, other)):
        connection.execute(
            text("UPDATE person_event SET pgh_id = :after WHERE pgh_id = :before"),
            {"before": before, "after": after},
        )
    return one


def _context(connection: Connection, chance: random.Random) -> int:
    found = connection.execute(
        text("SELECT id FROM pghistory_context ORDER BY created_at")
    ).scalars()
    context = chance.choice(list(found))
    what = chance.choice(
        [
            "metadata = metadata || '{\"user\": -1}'",
            'metadata = metadata || \'{"ip": "::1"}\'',
            "created_at = created_at - interval '1 microsecond'",
            "parent_id = gen_random_uuid()",
        ]
    )
    connection.execute(
        text(f"UPDATE pghistory_context SET {what} WHERE id = :id"), {"id": context}
    )
    number = connection.scalar(
        text("SELECT min(pgh_id) FROM person_event WHERE pgh_context_id = :id"),
        {"id": context},
    )
    assert number is not None
    return int(number)


def _reseal(connection: Connection, chance: random.Random) -> None:
    of_events = "SELECT id FROM pghistory_seal WHERE table_name = 'person_event'"
    seals = list(connection.scalars(text(f"{of_events} ORDER BY id")))
    column, value = chance.choice(
        [
            ("root", "sha256(root)"),
            ("digest", "sha256(digest)"),
            ("sealed_at", "sealed_at + interval '1 second'"),
            ("events", "events + 1"),
            ("columns", "columns[2:]"),
            ("erasable", "'{}'"),
        ]
    )
    connection.execute(
        text(f"UPDATE pghistory_seal SET {column} = {value} WHERE id = :id"),
        {"id": chance.choice(seals)},
    )


def _change_range(connection: Connection, chance: random.Random) -> int:
    column, value = chance.choice(
        [
            ("digest", "sha256(digest)"),
            ("marks", "overlay(marks placing '\\x00000000' from 5)"),
            ("events", "events + 1"),
        ]
    )
    number = connection.scalar(
        text(
            f"UPDATE pghistory_seal_range SET {column} = {value}"
            " WHERE (seal_id, first_id) = (SELECT seal_id, first_id FROM"
            " pghistory_seal_range ORDER BY seal_id, first_id OFFSET :n LIMIT 1)"
            " RETURNING first_id"
        ),
        {"n": chance.randrange(3)},
    )
    assert number is not None
    return int(number)


TAMPERINGS: list[tuple[str, Tampering]] = [
    ("changed", _change("points", "coalesce(points, 0) + 1")),
    ("changed", _change("name", "coalesce(name, '') || 'x'")),
    ("changed", _change("email", "coalesce(email, '') || 'x'")),
    ("changed", _change("pgh_created_at", "pgh_created_at + interval '1 ms'")),
    ("changed", _change("pgh_xact_id", "pgh_xact_id + 1")),
    ("changed", _change("pgh_label", "pgh_label || 'x'")),
    ("changed", _change("pgh_context_id", "gen_random_uuid()")),
    ("changed", _change("pgh_erased", "'{name}'")),
    ("missing", _delete),
    ("added", _insert),
    ("reordered", _exchange),
    ("changed", _context),
    ("resealed", _reseal),
    ("resealed", _change_range),
]


@pytest.fixture
def history_of_many(person: Any, base: Base, pg_engine: Engine) -> SealDigest:
    """Some 3,300 events with gaps, in contexts, sealed in two runs."""
    with Session(pg_engine) as session:
        for part in range(22):
            with history.context(session, user=part, ip=f"10.0.0.{part}"):
                session.execute(
                    text(
                        "INSERT INTO person SELECT i, 'Name' || i, i || '@x.org', i"
                        " FROM generate_series(CAST(:first AS int), :last) AS i"
                    ),
                    {"first": part * 160, "last": part * 160 + 149},
                )
                if part % 5 == 3:
                    session.rollback()
                    continue
                session.commit()
            session.execute(text("UPDATE person SET points = -1 WHERE id % 37 = 5"))
            session.commit()
            if part == 10:
                seal(pg_engine, base)
        history.erase(session, person, *range(0, 40, 3))
        session.commit()
    return seal(pg_engine, base)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have many tamperings in several tests, which processes can share."""
    if "seeds" in metafunc.fixturenames:
        count, size = metafunc.config.getoption("--tamperings"), 100
        parts = [range(n, min(n + size, count)) for n in range(0, count, size)]
        metafunc.parametrize("seeds", parts, ids=lambda p: f"{p.start}-{p.stop - 1}")


def test_whatever_is_done_to_sealed_events_is_found(
    base: Base, history_of_many: SealDigest, pg_engine: Engine, seeds: range
) -> None:
    assert verify(pg_engine, base, digest=history_of_many).discrepancies == ()
    for seed in seeds:
        chance = random.Random(seed)
        word, tamper = TAMPERINGS[seed % len(TAMPERINGS)]
        with pg_engine.connect() as connection:
            number = tamper(connection, chance)
            found = verify(connection, base, digest=history_of_many).discrepancies
            words = {discrepancy.problem.value for discrepancy in found}
            connection.rollback()
        message = f"seed {seed}: {list(map(str, found))}"
        assert word in words, message
        assert words <= {word, "changed"}, message
        if word != "resealed":
            assert words == {word}, message
        if number is not None:
            assert any(
                number in d.ids or d.first_id <= number <= d.last_id for d in found
            ), message
        for d in found:
            with pg_engine.connect() as connection:
                events = connection.scalar(
                    text(
                        "SELECT count(*) FROM person_event"
                        " WHERE pgh_id BETWEEN :first AND :last"
                    ),
                    {"first": d.first_id, "last": d.last_id},
                )
            assert word == "resealed" or (events or 0) <= 1000, message
    assert verify(pg_engine, base, digest=history_of_many).discrepancies == ()


def test_all_seals_that_are_made_anew_are_found_by_the_digest(
    base: Base, history_of_many: SealDigest, pg_engine: Engine
) -> None:
    """Also by who does it with the library's own functions."""
    for seed in range(3):
        with pg_engine.connect() as connection:
            ledger = ledger_of(connection, base.metadata)
            _change("points", "coalesce(points, 0) + 1")(
                connection, random.Random(seed)
            )
            connection.execute(text("DELETE FROM pghistory_seal_range"))
            connection.execute(text("DELETE FROM pghistory_seal"))
            for sealed in ledger.sealed_tables():
                _seal_batch(connection, ledger, sealed, 1 << 40, 100_000, False)
            assert verify(connection, base).discrepancies == ()
            found = verify(connection, base, digest=history_of_many).discrepancies
            assert [d.problem for d in found] == ["resealed"]
            connection.rollback()


Change = Callable[[Any, int, random.Random], Any]
"""What changes a row of a file, given all of its rows, and returns them."""


def _set(column: str) -> Change:
    def change(rows: Any, place: int, chance: random.Random) -> Any:
        values = rows.column(column).to_pylist()
        values[place] = values[place] + 1 if column == "points" else "forged"
        position = rows.schema.get_field_index(column)
        field = rows.schema.field(column)
        return rows.set_column(position, field, pa.array(values, field.type))

    return change


def _without(rows: Any, place: int, chance: random.Random) -> Any:
    return pa.concat_tables([rows.slice(0, place), rows.slice(place + 1)])


def _exchanged(rows: Any, place: int, chance: random.Random) -> Any:
    other = chance.choice([n for n in range(rows.num_rows) if n != place])
    numbers = rows.column("pgh_id").to_pylist()
    numbers[place], numbers[other] = numbers[other], numbers[place]
    position = rows.schema.get_field_index("pgh_id")
    field = rows.schema.field("pgh_id")
    return rows.set_column(position, field, pa.array(numbers, field.type))


CHANGES: list[tuple[str, Change]] = [
    ("changed", _set("points")),
    ("changed", _set("name")),
    ("changed", _set("pgh_label")),
    ("missing", _without),
    ("reordered", _exchanged),
]


def test_whatever_is_done_to_an_archive_is_found(
    base: Base,
    pg_engine: Engine,
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> None:
    """Also if the digest of the file, which a manifest has, is changed with it."""

    @track(sealed=True, erasable=["name"], partition_by=1_500)
    class Guest(base):  # type: ignore[misc, valid-type]
        __tablename__ = "guest"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str | None]
        points: Mapped[int]

    base.metadata.create_all(pg_engine)
    fill = text(
        "INSERT INTO guest SELECT i, 'Name' || i, i"
        " FROM generate_series(:a, CAST(:b AS int)) AS i"
    )
    for first in (1, 1_501, 3_001):
        with pg_engine.begin() as connection:
            connection.execute(fill, {"a": first, "b": first + 1_499})
        history.partitions(pg_engine, base)
    with pg_engine.begin() as connection:
        connection.execute(fill, {"a": 9_000, "b": 9_001})
    digest = seal(pg_engine, base)
    folder = tmp_path / "archive"
    history.archive(pg_engine, base, to=folder, drop=True)
    files = sorted(folder.rglob("events.parquet"))
    assert len(files) >= 2
    manifest = folder / "public.guest_event" / "_manifest.json"
    known = manifest.read_text()
    for seed in range(pytestconfig.getoption("--tamperings") // 10 or 5):
        chance = random.Random(seed)
        word, change = CHANGES[seed % len(CHANGES)]
        file = chance.choice(files)
        before = file.read_bytes()
        rows = parquet.read_table(file)
        place = chance.randrange(rows.num_rows)
        number = rows.column("pgh_id")[place].as_py()
        parquet.write_table(change(rows, place, chance), file)
        old, new = (hashlib.sha256(b).hexdigest() for b in (before, file.read_bytes()))
        manifest.write_text(known.replace(old, new))
        found = verify(pg_engine, base, digest=digest, archive=folder).discrepancies
        of_events = [d for d in found if d.ids]
        message = f"seed {seed}: {list(map(str, found))}"
        assert {d.problem.value for d in of_events} == {word}, message
        assert any(number in d.ids for d in of_events), message
        assert all(d.last_id - d.first_id <= 1_000 for d in of_events), message
        assert len(found) > len(of_events), message  # and the file is another one
        file.write_bytes(before)
        manifest.write_text(known)
    assert verify(pg_engine, base, digest=digest, archive=folder).discrepancies == ()
