"""What a seal is made of, computed again by other means: it stays what it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import seal, track


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
