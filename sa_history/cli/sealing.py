"""The commands for proof and erasure: seal, verify, erase, and all of one subject."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import MetaData, exists, null, select
from sqlalchemy.orm import Session

from sa_history.archiving.erasure import erase as erase_objects
from sa_history.archiving.verification import verify as verify_seals
from sa_history.capture.seal_tables import seal_tables_of
from sa_history.cli.command import FOUND, Database
from sa_history.cli.keys import texts_of_keys, texts_of_one_key
from sa_history.cli.output import GREEN, RED, YELLOW, colored, printable
from sa_history.exc import CommandError
from sa_history.query.event_search import key_from_texts
from sa_history.sealing.chain import SealDigest, write_digest
from sa_history.sealing.discrepancies import Discrepancy
from sa_history.sealing.erasure_log import erasures_of
from sa_history.sealing.seal import seal as seal_events
from sa_history.sealing.subject import subject as all_of_subject
from sa_history.tracking.databases import ModelSession
from sa_history.tracking.event_keys import have_key
from sa_history.tracking.events import trackings_of
from sa_history.util.messages import counted


def seal(database: Database, to: str | None, timeout: int, json: bool) -> int:
    """Seal the events that are committed, and print the root of the chain.

    :param to: a file for the digest, None for none.
    :param timeout: milliseconds to wait for open transactions.
    """
    digest = seal_events(database.engine, *_sealed(database), timeout=timeout)
    if to is not None:
        try:
            write_digest(Path(to), digest)
        except OSError as error:
            raise CommandError(f"the digest cannot be written: {error}") from None
    for name, head in digest.chains.items():
        if json:
            database.print_json(table=name, seal=head.number, root=head.root)
        elif head.number:
            print(f"{printable(name)}: seal {head.number}, root {head.root}")
        else:
            print(f"{printable(name)}: no event to seal yet")
    return 0


def verify(
    database: Database, digest: str | None, archive: str | None, json: bool
) -> int:
    """Verify what is sealed, and print what is not as it was.

    :param digest: a file that ``seal --to`` has written, None for none.
    :param archive: the folder of an archive, None for none.
    """
    known = None
    if digest is not None:
        try:
            known = SealDigest.from_json(Path(digest).read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"the digest cannot be read: {error}") from None
    found = verify_seals(
        database.engine, *_sealed(database), digest=known, archive=archive
    )
    for discrepancy in (*found.discrepancies, *found.removed):
        if json:
            database.print_json(**_as_json(discrepancy))
            continue
        is_fault = discrepancy in found.discrepancies
        problem, _, rest = printable(str(discrepancy)).partition(" ")
        print(f"{colored(problem, RED if is_fault else YELLOW)} {rest}")
    if not found.seals and not found.discrepancies:
        raise CommandError(
            "nothing is sealed, so nothing can be verified; run sa-history seal, and "
            "keep its digest"
        )
    if not json and not found.discrepancies:
        events, seals = counted(found.events, "event"), counted(found.seals, "seal")
        verb = "is as it was" if found.events == 1 else "are as they were"
        what = f"{events} in {seals} {verb} sealed"
        print(colored(what, GREEN))
    return FOUND if found.discrepancies else 0


def _as_json(discrepancy: Discrepancy) -> dict[str, Any]:
    return {
        "problem": discrepancy.problem.value,
        "table": discrepancy.table,
        "first_id": discrepancy.first_id,
        "last_id": discrepancy.last_id,
        "ids": list(discrepancy.ids),
        "detail": discrepancy.detail or None,
        "in_archive": discrepancy.in_archive,
    }


def has_seals(metadata: MetaData) -> bool:
    """Return True if a model of a MetaData asks for seals."""
    return seal_tables_of(metadata) is not None


def _sealed(database: Database) -> Sequence[MetaData]:
    """Return the MetaData that have seals; all, if none has."""
    sealed = [m for m in database.metadatas if has_seals(m)]
    return sealed or database.metadatas


def erase(
    database: Database,
    key: Sequence[str],
    id: Sequence[str],
    reason: str | None,
    archive: str | None,
    dry_run: bool,
    json: bool,
) -> int:
    """Erase personal data of objects from their history, and print how much.

    :param key: the values of an object's key; none, if ``id`` has the keys.
    :param id: the keys of the objects.
    :param reason: why, for the log.
    :param archive: the folder of an archive, None for none.
    """
    model: Any = database.model
    # An erasure has to see what others have committed meanwhile.
    with Session(database.engine) as session:
        session.connection(execution_options={"isolation_level": "READ COMMITTED"})
        keys = [_key(session, model, texts) for texts in texts_of_keys(model, key, id)]
        done = erase_objects(
            session, model, *keys, reason=reason, dry_run=dry_run, archive=archive
        )
        session.commit()
        notes = [n for key in keys for n in _notes(session, model, key, done.number)]
    if json:
        database.print_json(
            erasure=done.number, events=done.events, contexts=done.contexts
        )
    elif done.events or done.contexts:
        verb = "erases" if dry_run else "erased"
        events = counted(done.events, "event")
        print(f"{verb} values of {events} and {counted(done.contexts, 'context')}")
    else:
        print("nothing is left to erase")
    for note in notes:
        print(printable(note), file=sys.stderr)
    return 0


def _notes(
    session: Session, model: Any, key: tuple[Any, ...], number: int | None
) -> Iterator[str]:
    """Yield what whoever erases an object should know.

    It has no event, or was erased before, or its row is still there.

    :param number: that of the erasure in the log, None if nothing was erased.
    """
    for tracking in (t for t in trackings_of(model) if t.options.is_erasable):
        reader = ModelSession(session, tracking)
        columns = tracking.tracked_columns
        name = f"{columns.subject} {','.join(map(str, key))}"
        events = tracking.event_table
        is_known = exists().where(*have_key(tracking, events, key))
        if not reader.execute(select(is_known)).scalar_one():
            yield f"{name}: the database has no event of it"
        connection = session.connection(reader.bind_arguments)
        for known in erasures_of(connection, tracking, key):
            if known.number != number:
                day = known.erased_at.astimezone(datetime.timezone.utc).date()
                verb = "was" if known.events == 1 else "were"
                yield (
                    f"{name}: {counted(known.events, 'event')} {verb} erased before, "
                    f"by erasure {known.number} of {day}"
                )
        found = columns.by_attribute
        erasable = [each for each in found if each in tracking.options.erasable]
        is_row = [found[k] == v for k, v in zip(columns.key, key, strict=True)]
        asked = select(null(), *(found[each] for each in erasable)).where(*is_row)
        _, *values = reader.execute(asked).first() or (None,)
        pairs = zip(erasable, values, strict=False)
        left = [attribute for attribute, value in pairs if value is not None]
        if left:
            yield f"{name}: the row still has {', '.join(left)}, which erase leaves"


def subject(
    database: Database,
    key: Sequence[str],
    id: Sequence[str],
    user: str | None,
    json: bool,
) -> int:
    """Print all that history has of one object, as JSON.

    :param key: the values of the object's key; none, if ``id`` has the key.
    :param id: the key of the object.
    :param user: what contexts have as ``user`` of this person, None to leave it out.
    :param json: changes nothing; it is JSON anyway.
    """
    model: Any = database.model
    texts = texts_of_one_key("subject", model, key, id)
    with Session(database.engine) as session:
        made_by: Any = int(user) if user is not None and user.isdecimal() else user
        own = _key(session, model, texts)
        database.print_json(**all_of_subject(session, model, own, user=made_by))
    return 0


def _key(session: Session, model: Any, texts: Sequence[str]) -> tuple[Any, ...]:
    """Return a key from the texts of its values."""
    selected = select(key_from_texts(session, model, texts).subquery())
    return tuple(session.execute(selected).one())
