"""Nine things that triggers are good for, one after the other.

Run it with ``nox -s idioms``, or with ``DATABASE_URL`` set to use a server of
your own; there it works in a schema of its own, which it drops at the end.
"""

from __future__ import annotations

import datetime
import enum

from sqlalchemy import String, func
from sqlalchemy.orm import Mapped, Session, mapped_column
from tracking.demo import Base, database, the_example

import sa_history as history
from sa_history import (
    FSM,
    Delete,
    Insert,
    Protect,
    ReadOnly,
    SoftDelete,
    Update,
    Versioned,
    attach,
)
from sa_history.exc import ProtectedError, ReadOnlyError, TransitionError


@attach(Protect(Delete))
class CannotDelete(Base):
    """Rows of this model cannot be deleted."""

    __tablename__ = "cannot_delete"

    id: Mapped[int] = mapped_column(primary_key=True)


@attach(Protect(Update | Delete, name="append_only"))
class AppendOnly(Base):
    """Rows of this model can only be added."""

    __tablename__ = "append_only"

    id: Mapped[int] = mapped_column(primary_key=True)
    int_field: Mapped[int]


@attach(ReadOnly("created_at"))
class ReadOnlyField(Base):
    """Of this model ``created_at`` cannot be changed; all else can."""

    __tablename__ = "read_only_field"

    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[datetime.datetime] = mapped_column(server_default=func.now())
    int_field: Mapped[int]


@attach(SoftDelete("is_active", value=False))
class SoftDeleted(Base):
    """A deletion sets ``is_active`` to false, and the row stays."""

    __tablename__ = "soft_deleted"

    id: Mapped[int] = mapped_column(primary_key=True)
    is_active: Mapped[bool] = mapped_column(default=True)


@attach(Versioned("version"))
class VersionedPage(Base):
    """Each change adds one to ``version``, which nobody can set."""

    __tablename__ = "versioned_page"

    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(default=0)
    char_field: Mapped[str] = mapped_column(String(32))


@attach(Protect(Insert))
class OfficialInterface(Base):
    """New rows are made by ``official_create`` only."""

    __tablename__ = "official_interface"

    id: Mapped[int] = mapped_column(primary_key=True)

    @classmethod
    def official_create(cls, session: Session) -> OfficialInterface:
        """Make a new row, the one way there is."""
        created = cls()
        with history.ignore(session, cls, "protect_insert"):
            session.add(created)
            session.flush()
        return created

    def __repr__(self) -> str:
        return f"{type(self).__name__} object ({self.id})"


class Status(enum.Enum):
    UNPUBLISHED = "unpublished"
    PUBLISHED = "published"
    INACTIVE = "inactive"


@attach(
    FSM(
        "status",
        transitions=[
            (Status.UNPUBLISHED, Status.PUBLISHED),
            (Status.UNPUBLISHED, Status.INACTIVE),
            (Status.PUBLISHED, Status.INACTIVE),
        ],
    )
)
class Article(Base):
    """The status of this model can only change as the transitions say."""

    __tablename__ = "article"

    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[Status] = mapped_column(default=Status.UNPUBLISHED)


def saved(session: Session, obj: Base) -> Base:
    """Commit a new object, so that what fails later leaves it there."""
    session.add(obj)
    session.commit()
    return obj


def protecting_deletions(session: Session) -> None:
    cannot_delete = saved(session, CannotDelete())
    session.delete(cannot_delete)
    try:
        session.commit()
    except ProtectedError as error:
        session.rollback()
        print(error.orig.diag.message_primary)


def append_only_models(session: Session) -> None:
    append_only = saved(session, AppendOnly(int_field=0))
    append_only.int_field = 1
    try:
        session.commit()
    except ProtectedError:
        session.rollback()
        print("Cannot update!")

    session.delete(append_only)
    try:
        session.commit()
    except ProtectedError:
        session.rollback()
        print("Cannot delete!")


def read_only_fields(session: Session) -> None:
    read_only_field = saved(session, ReadOnlyField(int_field=0))
    read_only_field.int_field = 1
    session.commit()

    read_only_field.created_at = datetime.datetime(2000, 1, 1)
    try:
        session.commit()
    except ReadOnlyError:
        session.rollback()
        print("Cannot update field!")


def soft_deletion(session: Session) -> None:
    soft_deleted = saved(session, SoftDeleted())
    soft_deleted_id = soft_deleted.id
    session.delete(soft_deleted)
    session.commit()

    soft_deleted = session.get_one(SoftDeleted, soft_deleted_id)
    print("is_active =", soft_deleted.is_active)


def versioning(session: Session) -> None:
    page = VersionedPage(char_field="hello")
    session.add(page)
    session.flush()
    print("initial version", page.version)

    # No refresh: the flush has returned what the trigger wrote.
    page.char_field = "hi"
    session.flush()
    print("version after first update", page.version)

    # The ORM sends no UPDATE where nothing changed; this one does.
    session.execute(
        VersionedPage.__table__.update().values(char_field=VersionedPage.char_field)
    )
    session.refresh(page)
    print("version after redundant update", page.version)

    page.char_field = "new field"
    session.commit()
    print("version after second update", page.version)

    page.version = 1
    try:
        session.commit()
    except ReadOnlyError:
        session.rollback()
        print("Cannot update version!")


def official_interfaces(session: Session) -> None:
    session.add(OfficialInterface())
    try:
        session.commit()
    except ProtectedError:
        session.rollback()
        print("No no no... Cannot use that interface!")

    created = OfficialInterface.official_create(session)
    session.commit()
    print("created", created)


def transitions(session: Session) -> None:
    article = saved(session, Article())
    article.status = Status.PUBLISHED
    session.commit()

    article.status = Status.INACTIVE
    session.commit()

    article.status = Status.PUBLISHED
    try:
        session.commit()
    except TransitionError:
        session.rollback()
        print("Cannot make that transition!")


def main() -> None:
    """Run the idioms; history and its context are the last two."""
    with database() as engine, Session(engine) as session:
        for idiom in (
            protecting_deletions,
            append_only_models,
            read_only_fields,
            soft_deletion,
            versioning,
            official_interfaces,
            transitions,
            the_example,
        ):
            idiom(session)
            print()


if __name__ == "__main__":
    main()
