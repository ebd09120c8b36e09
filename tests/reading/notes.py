"""Models that a process can import, as pickle does, for tests that copy events."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ForeignKey, Integer, Table
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sa_history import AfterUpdate, track


class Base(DeclarativeBase):
    pass


@track(AfterUpdate, events="rewrites", event_table="note_rewrite")
@track()
class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    words: Mapped[str]
    data: Mapped[Any] = mapped_column(JSONB, nullable=True)


@track(context="inline")
class Comment(Base):
    __tablename__ = "comment"
    id: Mapped[int] = mapped_column(primary_key=True)
    words: Mapped[str]


link = track()(
    Table(
        "link",
        Base.metadata,
        Column("id", Integer, primary_key=True),
        Column("note_id", ForeignKey("note.id")),
    )
)
