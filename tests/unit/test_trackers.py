"""A tracker says what is written for each operation, and what its events tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table

from sa_history import (
    AfterDelete,
    AfterInsert,
    AfterUpdate,
    Manual,
    Snapshot,
    new,
    old,
)
from sa_history._types import Operation
from sa_history.columns import TrackedColumns
from sa_history.exc import DefinitionError
from sa_history.trackers import Tracker, resolved, tell_all, whole_labels
from sa_history.triggers.record import Recording

INSERT, UPDATE, DELETE, TRUNCATE = Operation

OBJECT = ("pgh_obj_id", "id")
ID = ("id", "id")
SIZE = ("the size", "the size")
TITLE = ("title", "title")

ID_CHANGES = "OLD.id IS DISTINCT FROM NEW.id"
SIZE_CHANGES = 'OLD."the size" IS DISTINCT FROM NEW."the size"'
TITLE_CHANGES = "OLD.title IS DISTINCT FROM NEW.title"
SECRET_CHANGES = "OLD.secret IS DISTINCT FROM NEW.secret"
STORED_CHANGES = f"{ID_CHANGES} OR {SIZE_CHANGES} OR {TITLE_CHANGES}"
LARGE = 'NEW."the size" > 1'


@pytest.fixture
def columns() -> TrackedColumns:
    """A table of four columns, of which events store three."""
    table = Table(
        "note",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("the size", Integer),
        Column("title", String),
        Column("secret", Integer),
    )
    size = table.columns["the size"]
    return TrackedColumns(
        subject="Note",
        table=table,
        columns={
            "id": table.c.id,
            "size": size,
            "title": table.c.title,
            "secret": table.c.secret,
        },
        key=("id",),
        stored=("id", "size", "title"),
        object_id="pgh_obj_id",
    )


def written(operation: Operation, label: str, **options: Any) -> Recording:
    """Return what is written of a whole row, changed by the options."""
    has_new = operation.has_new
    return Recording(
        **{
            "operation": operation,
            "label": label,
            "row": "new" if has_new else "old",
            "columns": (OBJECT, ID, SIZE, TITLE),
            "key": ("id",),
            "key_changes": ID_CHANGES if operation is UPDATE else None,
            **options,
        }
    )


@pytest.mark.parametrize(
    ("tracker", "expected"),
    [
        pytest.param(AfterInsert(), [written(INSERT, "insert")], id="insert"),
        pytest.param(
            AfterInsert(new.size > 1, label="large", columns=["title"], row="new"),
            [
                written(
                    INSERT,
                    "large",
                    columns=(OBJECT, ID, TITLE),
                    condition=LARGE,
                    compares=True,
                )
            ],
            id="insert_narrowed",
        ),
        pytest.param(
            AfterUpdate(),
            [
                written(
                    UPDATE,
                    "update",
                    condition=STORED_CHANGES,
                    compares=True,
                    compared=3,
                )
            ],
            id="update",
        ),
        pytest.param(
            AfterUpdate(exclude=["size"], row="old"),
            [
                written(
                    UPDATE,
                    "update",
                    row="old",
                    columns=(OBJECT, ID, TITLE),
                    condition=f"{ID_CHANGES} OR {TITLE_CHANGES}",
                    compares=True,
                    compared=2,
                    key_changes=None,
                )
            ],
            id="update_of_what_is_stored",
        ),
        pytest.param(
            AfterUpdate(None, label="touched"),
            [written(UPDATE, "touched")],
            id="update_of_anything",
        ),
        pytest.param(
            AfterUpdate(new.size > 1, columns=["title"]),
            [
                written(
                    UPDATE,
                    "update",
                    columns=(OBJECT, ID, TITLE),
                    condition=f"({LARGE}) AND ({STORED_CHANGES} OR {SECRET_CHANGES})",
                    compares=True,
                    compared=4,
                    asked=LARGE,
                )
            ],
            id="update_with_a_condition",
        ),
        pytest.param(
            AfterDelete(old.size > 1),
            [
                written(
                    operation,
                    "delete",
                    condition='OLD."the size" > 1',
                    compares=True,
                )
                for operation in (DELETE, TRUNCATE)
            ],
            id="delete",
        ),
        pytest.param(
            Snapshot(),
            [
                written(INSERT, "snapshot"),
                written(
                    UPDATE,
                    "snapshot",
                    condition=STORED_CHANGES,
                    compares=True,
                    compared=3,
                ),
            ],
            id="snapshot",
        ),
        pytest.param(
            Snapshot(new.size > 1, columns=["size"]),
            [
                written(
                    INSERT,
                    "snapshot",
                    columns=(OBJECT, ID, SIZE),
                    condition=LARGE,
                    compares=True,
                ),
                written(
                    UPDATE,
                    "snapshot",
                    columns=(OBJECT, ID, SIZE),
                    condition=f"({LARGE}) AND ({ID_CHANGES} OR {SIZE_CHANGES})",
                    compares=True,
                    compared=2,
                    asked=LARGE,
                ),
            ],
            id="snapshot_narrowed",
        ),
        pytest.param(
            Snapshot(None),
            [written(INSERT, "snapshot"), written(UPDATE, "snapshot")],
            id="snapshot_of_anything",
        ),
        pytest.param(Manual("seen"), [], id="manual"),
    ],
)
def test_a_tracker_writes_what_it_is_told_to(
    columns: TrackedColumns, tracker: Tracker, expected: list[Recording]
) -> None:
    assert tracker.recordings(columns) == expected


def test_a_key_of_two_columns_is_not_repeated(columns: TrackedColumns) -> None:
    pair = replace(columns, key=("id", "size"), object_id=None)
    (recording,) = AfterUpdate(None).recordings(pair)
    assert recording.columns == (ID, SIZE, TITLE)
    assert recording.key == ("id", "the size")
    assert recording.key_changes == f"{ID_CHANGES} OR {SIZE_CHANGES}"


def test_without_a_key_no_change_of_it_is_followed(columns: TrackedColumns) -> None:
    (recording,) = AfterUpdate(None).recordings(
        replace(columns, key=(), object_id=None)
    )
    assert (recording.key, recording.key_changes) == ((), None)


@pytest.mark.parametrize(
    ("trackers", "labels", "told"),
    [
        ([Snapshot(), AfterDelete()], ["snapshot", "delete"], list(Operation)),
        ([Snapshot()], ["snapshot"], [INSERT, UPDATE]),
        ([AfterInsert(None), AfterUpdate()], ["insert", "update"], [INSERT, UPDATE]),
        ([AfterUpdate(None)], ["update"], [UPDATE]),
        ([AfterUpdate(row="old"), AfterUpdate(new.size > 1)], [], []),
        ([Snapshot(new.size > 1), AfterInsert(columns=["size"])], [], []),
        ([AfterDelete(exclude=["size"]), Manual("seen")], [], []),
        (
            [AfterDelete(exclude=["title"]), AfterDelete()],
            ["delete"],
            list(Operation)[2:],
        ),
    ],
    ids=str,
)
def test_trackers_tell_all_of_what_they_record_whole(
    columns: TrackedColumns,
    trackers: Sequence[Tracker],
    labels: list[str],
    told: list[Operation],
) -> None:
    assert whole_labels(trackers, columns) == labels
    assert [o for o in Operation if tell_all(trackers, columns, o)] == told
    assert tell_all(trackers, columns, *Operation) is (told == list(Operation))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label": 5}, "AfterUpdate needs a label, got 5"),
        ({"label": "a\0b"}, "AfterUpdate: label cannot contain NUL"),
        ({"exclude": "a"}, r"AfterUpdate: exclude is a list of names, got 'a'; write"),
    ],
    ids=["number", "nul", "exclude"],
)
def test_a_label_is_a_text_and_names_are_a_list(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):
        AfterUpdate(**arguments)


def test_a_class_of_trackers_is_one_with_the_defaults() -> None:
    assert isinstance(resolved(Snapshot), Snapshot)
    given = AfterUpdate(label="given")
    assert resolved(given) is given


@pytest.mark.parametrize(
    ("argument", "hint"),
    [
        (new.size > 1, "give a condition to a tracker, as in AfterUpdate"),
        (lambda old, new: True, "give a condition to a tracker, as in AfterUpdate"),
        (Tracker, "give a condition to a tracker"),
        (Tracker(label="x"), "give trackers such as Snapshot or AfterUpdate"),
        ("update", "give trackers such as Snapshot or AfterUpdate"),
        (int, "give a condition to a tracker"),
    ],
    ids=["condition", "call", "base", "instance_of_the_base", "text", "class"],
)
def test_what_is_not_a_tracker_is_refused(argument: Any, hint: str) -> None:
    with pytest.raises(DefinitionError, match=f"is not a tracker; {hint}"):
        resolved(argument)
