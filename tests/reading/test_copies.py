"""Events and contexts that are pickled, or copied, as objects of models can be."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.orm import Session, configure_mappers, joinedload

import sa_history as history

from .notes import Base, Comment, Note, link

COPIES: dict[str, Callable[[Any], Any]] = {
    "pickled": lambda thing: pickle.loads(pickle.dumps(thing)),
    "by an old protocol": lambda thing: pickle.loads(pickle.dumps(thing, 4)),
    "copied": copy.copy,
    "copied with all it has": copy.deepcopy,
}


@pytest.fixture(params=COPIES)
def copied(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """Return a function that copies an object."""
    return COPIES[request.param]


@pytest.fixture
def notes(pg_session: Session) -> Session:
    """A session with a note and a comment, which were written in a context."""
    configure_mappers()
    Base.metadata.create_all(pg_session.get_bind())
    with history.context(pg_session, user="ann"):
        note, comment = Note(id=1, words="a", data=1), Comment(id=1, words="x")
        pg_session.add_all([note, comment])
        pg_session.commit()
        note.words, note.data, comment.words = "b", True, "y"
        pg_session.commit()
    return pg_session


@pytest.mark.parametrize(
    "events", [Note.events, Note.rewrites, Comment.events], ids=str
)
def test_an_event_comes_back_with_its_context(
    notes: Session, copied: Callable[[Any], Any], events: Any
) -> None:
    statement = events.last().options(joinedload("*"))
    event = notes.scalars(statement).one()
    metadata = getattr(event.pgh_context, "metadata", event.pgh_context)
    again = copied(event)
    assert type(again) is type(event)
    assert (again.pgh_id, again.words) == (event.pgh_id, event.words)
    assert getattr(again.pgh_context, "metadata", again.pgh_context) == metadata


def test_events_that_come_back_are_compared(
    notes: Session, copied: Callable[[Any], Any]
) -> None:
    first, last = map(copied, notes.scalars(Note.events.select()))
    expected = {"words": ("a", "b"), "data": (1, True)}
    assert history.diff(first, last) == expected
    assert [diff for _, diff in history.steps([first, last])] == [None, expected]


def test_a_diff_comes_back(notes: Session, copied: Callable[[Any], Any]) -> None:
    changed = notes.scalars(Note.events.last()).one().diff
    assert copied(changed) == changed


def test_a_process_that_has_read_no_events_yet_reads_those_of_another(
    notes: Session,
) -> None:
    event = notes.scalars(Note.events.last().options(joinedload("*"))).one()
    program = (
        "import pickle, sys; event = pickle.loads(sys.stdin.buffer.read());"
        "print(event.words, event.pgh_context.metadata)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=pickle.dumps(event),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        check=True,
    )
    assert done.stdout.decode().strip() == "b {'user': 'ann'}"


def test_an_event_of_a_core_table_has_no_class_that_pickle_finds(
    notes: Session,
) -> None:
    notes.execute(insert(link).values(id=1))
    event = notes.scalars(history.events(link).last()).one()
    with pytest.raises(pickle.PicklingError, match="LinkEvent"):
        pickle.dumps(event)
    assert copy.deepcopy(event).pgh_id == event.pgh_id
