"""What a seal is made of, computed again by other means: it stays what it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import SealDigest, seal, track, verify
from sa_history.exc import SealError
from sa_history.sealing.chain import (
    FORMAT,
    complete_seal,
    digest_of_ranges,
    marks_of,
    read_ranges,
    read_seals,
)
from sa_history.sealing.leaves import RangeDigest
from sa_history.sealing.sources import ledger_of


def test_a_seal_is_computed_again_without_the_library(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_engine: Engine
) -> None:
    @track(sealed=True, context=None)
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        line: Mapped[str]

    create_all()
    with Session(pg_engine) as session:
        session.add_all([Note(id=1, line="one"), Note(id=2, line='"zwö", two')])
        session.commit()
    head = seal(pg_engine, base).chains["pghistory_seal"]

    columns = [
        *("pgh_created_at", "pgh_xact_id", "pgh_obj_id", "pgh_op", "pgh_label"),
        *("pgh_old_key", "id", "line"),
    ]
    with pg_engine.connect() as connection:
        connection.execute(text("SET TimeZone = 'UTC'"))
        rows = connection.execute(
            text(
                f"SELECT pgh_id, ROW({', '.join(columns)})::text FROM note_event"
                " ORDER BY pgh_id"
            )
        ).all()
        sealed_at = connection.scalar(text("SELECT sealed_at FROM pghistory_seal"))
    leaves, contents, others = b"", b"", b""
    for number, values in rows:
        content = hashlib.sha256(values.encode()).digest()
        leaves += number.to_bytes(8, "big") + bytes(32) + content
        contents += content[:4]
        others += number.to_bytes(8, "big")[4:] + bytes(2)
    of_range = b"1 2 2 " + hashlib.sha256(leaves).digest() + contents + others
    assert sealed_at is not None
    told = [
        *(1, 1, "note_event", columns, [], [], 1, 2, 2),
        hashlib.sha256(of_range).hexdigest(),
        sealed_at.isoformat(),
    ]
    root = hashlib.sha256(json.dumps(told, separators=(",", ":")).encode())
    assert (head.number, head.root) == (1, root.hexdigest())


def _rewrite(
    engine: Engine, person: Any, form: int, range_of: Callable[[RangeDigest], Any]
) -> None:
    """Give all seals what another version would have given them.

    :param form: the number of the format.
    :param range_of: returns a range of events as that version has it.
    """
    root = b""
    with engine.begin() as connection:
        ledger = ledger_of(connection, person.metadata)
        of_ranges = ledger.tables.seal_range
        for one in read_seals(ledger):
            ranges = [range_of(found) for found in read_ranges(ledger, one)]
            for each in ranges:
                connection.execute(
                    update(of_ranges)
                    .where(of_ranges.c.seal_id == one.number)
                    .where(of_ranges.c.first_id == each.first_id)
                    .values(digest=each.digest, marks=each.marks)
                )
            made = replace(one, digest=digest_of_ranges(ranges))
            root = made.root_after(root, form)
            complete_seal(ledger, replace(made, root=root))


def test_the_seal_of_a_later_version_is_told_from_a_forged_one(
    person: Any, some_events: list[int], pg_engine: Engine
) -> None:
    seal(pg_engine, person)
    _rewrite(pg_engine, person, FORMAT + 1, lambda one: one)
    assert [str(one) for one in verify(pg_engine, person).discrepancies] == [
        "unreadable person_event 1 to 12 (seal 1 has the format 2, of a later version "
        "of sa_history; upgrade sa_history to verify it)"
    ]


def test_the_seal_of_a_build_with_another_form_of_marks_is_told_from_a_forged_one(
    person: Any, some_events: list[int], pg_engine: Engine
) -> None:
    def with_marks_side_by_side(one: RangeDigest) -> RangeDigest:
        marks = b"".join(
            (number % (1 << 32)).to_bytes(4, "big") + mark.content + mark.context
            for number, mark in marks_of(one)
        )
        return replace(one, digest=hashlib.sha256(marks).digest(), marks=marks)

    seal(pg_engine, person)
    _rewrite(pg_engine, person, FORMAT, with_marks_side_by_side)
    assert [str(one) for one in verify(pg_engine, person).discrepancies] == [
        "unreadable person_event 1 to 12 (seal 1 has digests of another form, as "
        "builds of sa_history from before 0.1.0 made them; verify it with that build)"
    ]


def test_a_digest_of_a_later_version_is_refused_as_such() -> None:
    of_later = json.dumps({"sa_history": FORMAT + 1, "chains": []})
    with pytest.raises(SealError, match="^the digest has the format 2, of a later"):
        SealDigest.from_json(of_later)
