"""What a tracker writes for each operation, and which of its events store full rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table

from sa_history import (
    AfterDelete,
    AfterInsert,
    AfterUpdate,
    ConditionTracker,
    Manual,
    Snapshot,
    new,
    old,
)
from sa_history._types import Operation
from sa_history.capture.recording import Recording
from sa_history.capture.trackers import (
    Tracker,
    full_row_labels,
    record_full_rows,
    resolved,
)
from sa_history.definition.columns import TrackedColumns
from sa_history.exc import DefinitionError

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
        by_attribute={
            "id": table.c.id,
            "size": size,
            "title": table.c.title,
            "secret": table.c.secret,
        },
        virtual={},
        key=("id",),
        stored=("id", "size", "title"),
        object_id="pgh_obj_id",
    )


def written(operation: Operation, label: str, **options: Any) -> Recording:
    """Return the recording of a full row, changed by the options."""
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
                    reads_old_row=True,
                    watched_columns=3,
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
                    reads_old_row=True,
                    watched_columns=2,
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
                    reads_old_row=True,
                    watched_columns=4,
                    user_condition=LARGE,
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
                    reads_old_row=True,
                    watched_columns=3,
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
                ),
                written(
                    UPDATE,
                    "snapshot",
                    columns=(OBJECT, ID, SIZE),
                    condition=f"({LARGE}) AND ({ID_CHANGES} OR {SIZE_CHANGES})",
                    reads_old_row=True,
                    watched_columns=2,
                    user_condition=LARGE,
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
def test_a_tracker_has_a_recording_for_each_of_its_operations(
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


def test_names_of_columns_may_come_from_a_generator(columns: TrackedColumns) -> None:
    tracker = AfterInsert(columns=(name for name in ["title"]))  # type: ignore[arg-type]
    for _ in range(2):
        assert tracker.recordings(columns)[0].columns == (OBJECT, ID, TITLE)


@pytest.mark.parametrize(
    ("tracker", "stored"),
    [
        (Manual("seen"), ("id", "size", "title")),
        (Manual("seen", columns=["size"]), ("id", "size")),
        (Manual("seen", exclude=["size"]), ("id", "title")),
    ],
    ids=["all", "columns", "exclude"],
)
def test_a_manual_event_stores_the_columns_of_its_tracker(
    columns: TrackedColumns, tracker: Manual, stored: tuple[str, ...]
) -> None:
    assert tracker.event_label == "seen"
    assert tracker.stored(columns) == stored


def test_a_subclass_of_tracker_records_every_row_of_its_operations(
    columns: TrackedColumns,
) -> None:
    class Seen(Tracker):
        default_label = "seen"
        operations = (INSERT, DELETE)

    expected = [written(INSERT, "seen"), written(DELETE, "seen")]
    assert Seen().recordings(columns) == expected
    assert full_row_labels([Seen()], columns) == ["seen"]
    assert record_full_rows([Seen(exclude=["size"]), Seen()], columns, INSERT, DELETE)


class Written(ConditionTracker):
    """Records rows that are inserted or updated."""

    default_label = "written"
    operations = (INSERT, UPDATE)


@pytest.mark.parametrize(
    ("tracker", "recordings"),
    [
        pytest.param(
            Written(),
            [
                written(INSERT, "written"),
                written(
                    UPDATE,
                    "written",
                    condition=STORED_CHANGES,
                    reads_old_row=True,
                    watched_columns=3,
                ),
            ],
            id="all",
        ),
        pytest.param(
            Written(new.size > 1, label="large"),
            [
                written(INSERT, "large", condition=LARGE),
                written(
                    UPDATE,
                    "large",
                    condition=f"({LARGE}) AND ({STORED_CHANGES})",
                    reads_old_row=True,
                    watched_columns=3,
                    user_condition=LARGE,
                ),
            ],
            id="narrowed",
        ),
        pytest.param(
            Written(None),
            [written(INSERT, "written"), written(UPDATE, "written")],
            id="all_and_updates_that_change_nothing",
        ),
    ],
)
def test_a_subclass_of_condition_tracker_records_rows_that_meet_a_condition(
    columns: TrackedColumns, tracker: Tracker, recordings: list[Recording]
) -> None:
    assert tracker.recordings(columns) == recordings
    is_unconditional = recordings[0].condition is None
    assert bool(full_row_labels([tracker], columns)) is is_unconditional
    with pytest.raises(DefinitionError, match="INSERT has no old row; leave row out"):
        Written(row="old")


@pytest.mark.parametrize(
    ("trackers", "labels", "operations"),
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
def test_a_tracker_that_leaves_out_rows_or_columns_records_no_full_rows(
    columns: TrackedColumns,
    trackers: Sequence[Tracker],
    labels: list[str],
    operations: list[Operation],
) -> None:
    assert full_row_labels(trackers, columns) == labels
    assert [
        o for o in Operation if record_full_rows(trackers, columns, o)
    ] == operations
    assert record_full_rows(trackers, columns, *Operation) is (
        operations == list(Operation)
    )


@pytest.mark.parametrize("kind", [AfterInsert, AfterUpdate, AfterDelete, Snapshot])
def test_only_a_condition_is_given_by_its_place(kind: Any) -> None:
    assert kind(None).condition is None
    with pytest.raises(TypeError, match="positional argument"):
        kind(None, "new")
    with pytest.raises(TypeError, match="positional argument"):
        Tracker("label")  # type: ignore[misc]


@pytest.mark.parametrize(
    "kind", [AfterInsert, AfterUpdate, AfterDelete, Snapshot, Manual]
)
def test_a_tracker_equals_only_itself_and_is_frozen(kind: Any) -> None:
    """Conditions cannot be compared in Python, and many classes may have it."""
    tracker = kind(label="one")
    assert (tracker == kind(label="one")) is False
    assert {tracker} == {tracker}
    with pytest.raises(FrozenInstanceError):
        tracker.label = "other"


def test_the_repr_of_a_tracker_shows_its_arguments() -> None:
    assert repr(AfterUpdate(new.size > 1, columns=["id"], row="old")) == (
        "AfterUpdate(label=UNSET, columns=('id',), exclude=None,"
        " condition=gt(new.size, 1), row='old')"
    )
    assert repr(Manual("seen")) == "Manual(label='seen', columns=None, exclude=None)"


def test_a_tracker_class_stands_for_a_tracker_with_the_defaults() -> None:
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
        (ConditionTracker, "give a condition to a tracker"),
        (ConditionTracker(label="x"), "give trackers such as Snapshot or AfterUpdate"),
        ("update", "give trackers such as Snapshot or AfterUpdate"),
        (int, "give a condition to a tracker"),
        (type("Order", (), {"__mapper__": 1}), "it takes trackers: write @track\\(\\)"),
    ],
    ids=[
        "condition",
        "call",
        "base",
        "instance_of_the_base",
        "base_with_a_condition",
        "instance_of_the_base_with_a_condition",
        "text",
        "class",
        "mapped_class",
    ],
)
def test_what_is_not_a_tracker_is_refused(argument: Any, hint: str) -> None:
    with pytest.raises(DefinitionError, match=f"is not a tracker; {hint}"):
        resolved(argument)
