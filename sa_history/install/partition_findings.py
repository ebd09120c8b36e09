"""What a check finds of the partitions of event tables and of contexts."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence

from sqlalchemy import Connection, MetaData, Table

from sa_history.capture.detached import Partitioning, read_detached
from sa_history.capture.partitioning import FIRST_ID, Horizon
from sa_history.ddl.catalog import read_readable
from sa_history.ddl.partitions import RangePartition
from sa_history.install.drift import Problem
from sa_history.install.findings import Finding
from sa_history.install.partition_plan import is_full, is_late
from sa_history.install.partition_state import PartitionState, sorted_out
from sa_history.install.partition_survey import PartitionSurvey
from sa_history.sql.compose import Qualified, SchemaNames
from sa_history.tracking.registry import Tracking, history_of, trackings_in


def partition_findings(
    connection: Connection,
    metadatas: Sequence[MetaData],
    schemas: SchemaNames,
    partitions: Mapping[Qualified, list[RangePartition]],
    tables: Collection[Qualified],
) -> list[Finding]:
    """Return what is wrong with the partitions of event tables and of contexts.

    :param metadatas: the models.
    :param schemas: gives the name in the database of a schema of the models.
    :param partitions: the partitions that the database has, by their tables, in the
        order of their bounds.
    :param tables: the tables that the database has.
    """
    histories = [*filter(None, map(history_of, metadatas))]
    trackings = trackings_in(*metadatas)
    partitioned = {t: p for t in trackings if (p := t.partitioning()) is not None}
    found: list[Finding] = []
    for table in dict.fromkeys(history.shared.context_table for history in histories):
        name = Qualified.of(table, schemas)
        found += _shared_findings(name, partitions[name]) if name in partitions else []
    states = {
        tracking: PartitionState(tracking, partitioning, schemas)
        for tracking, partitioning in partitioned.items()
        if Qualified.of(tracking.event_table, schemas) in partitions
    }
    overdue = _overdue(connection, partitions, states.values())
    for tracking in trackings:
        name = Qualified.of(tracking.event_table, schemas)
        state = states.get(tracking)
        if state is not None:
            found += _event_findings(state, partitions[name])
            found += overdue.get(state, ())
        elif name in tables and (tracking in partitioned or name in partitions):
            found.append(_unlike_the_model(tracking, name, name in partitions))
    partitionings: list[Partitioning] = [
        *partitioned.values(),
        *(c for h in histories if (c := h.shared.partitioning) is not None),
    ]
    return found + _detached_findings(connection, metadatas, partitionings, schemas)


def _shared_findings(
    table: Qualified, partitions: Sequence[RangePartition]
) -> list[Finding]:
    """Return what is wrong with partitions, be they of events or of contexts.

    :param table: the partitioned table.
    """
    foreign = [p for p in partitions if p.is_default or p.kind != "r"]
    found = [
        Finding(
            Problem.ORPHANED,
            "partition",
            partition.name.dotted,
            advice="sa_history has not made it; detach it",
        )
        for partition in foreign
    ]
    found += [
        Finding(Problem.OVERDUE, "partition", p.name.dotted, command="partitions")
        for p in partitions
        if p.is_going
    ]
    if not any(p.is_tail and not p.is_going for p in partitions):
        name = f"{table.dotted} without an end"
        found.append(Finding(Problem.MISSING, "partition", name, command="partitions"))
    return found


def _event_findings(
    state: PartitionState, partitions: list[RangePartition]
) -> list[Finding]:
    """Return what the bounds of an event table's partitions tell."""
    table = state.table.name
    kept, used = sorted_out(partitions)
    horizon = Horizon.of_comment(kept[0].comment) if kept else None
    begins = FIRST_ID if horizon is None else horizon.first_id
    lowest = used[0].lower if used else None
    first = [(begins, lowest)] if lowest is not None and lowest > begins else []
    pairs = ((a.upper, b.lower) for a, b in itertools.pairwise(used))
    return _shared_findings(table, partitions) + [
        Finding(
            Problem.MISSING,
            "partition",
            f"{table.dotted} from {lower} to {upper}",
            advice="events with such numbers are refused, and those that there were "
            "are not found; attach the partition",
        )
        for lower, upper in (*first, *pairs)
        if lower != upper
    ]


def _overdue(
    connection: Connection,
    partitions: Mapping[Qualified, list[RangePartition]],
    states: Iterable[PartitionState],
) -> dict[PartitionState, list[Finding]]:
    """Return the partitions of event tables that a run has something to do about.

    A table is left out if the user may not read it.
    """
    used = {state: sorted_out(partitions[state.table.name])[1] for state in states}
    needed = {
        state: {state.sequence, *(partition.name for partition in of_table)}
        for state, of_table in used.items()
    }
    if not needed:
        return {}
    readable = read_readable(connection, set[Qualified]().union(*needed.values()))
    known = [state for state in needed if needed[state] <= readable]
    survey = PartitionSurvey(connection, partitions, known)
    return {
        state: _overdue_of(connection, state, used[state], survey) for state in known
    }


def _overdue_of(
    connection: Connection,
    state: PartitionState,
    used: list[RangePartition],
    survey: PartitionSurvey,
) -> list[Finding]:
    next_id = survey.next_ids[state.sequence]
    staying = [p for p in used if not p.is_going]
    found = [
        Finding(Problem.OUTDATED, "partition", p.name.dotted, command="partitions")
        for p in staying
        if p.is_validated is not None and (not p.is_closed or not is_full(p, next_id))
    ]
    usage = state.usage(connection, staying, next_id, survey.now)
    if usage is not None and is_late(usage, state.partition_by):
        name = usage.partition.name.dotted
        found.append(Finding(Problem.OVERDUE, "partition", name, command="partitions"))
    return found


def _unlike_the_model(
    tracking: Tracking, name: Qualified, is_partitioned: bool
) -> Finding:
    """Return that a table has partitions and its model says none, or the reverse."""
    advice = (
        "it is partitioned, and the model does not say so; give "
        "track(..., partition_by=...), or make it one table by a migration"
        if is_partitioned
        else "it is not partitioned, and the model says partition_by="
        f"{tracking.options.partition_by!r}; run the command partitions with "
        "--convert, or a migration"
    )
    return Finding(Problem.OUTDATED, "table", name.dotted, advice=advice)


def _detached_findings(
    connection: Connection,
    metadatas: Sequence[MetaData],
    partitionings: Sequence[Partitioning],
    schemas: SchemaNames,
) -> list[Finding]:
    """Return the partitions that are tables of their own by now.

    Those are left out to which somebody has given another comment.
    """
    of_models = {
        Qualified.of(table, schemas)
        for metadata in metadatas
        for table in metadata.tables.values()
    }
    # By their names, since two event tables of one table have the same comment.
    found: dict[Qualified, Finding] = {}
    for detached in read_detached(connection, partitionings, schemas):
        if detached.name not in of_models and not detached.is_renounced:
            parent = None if detached.is_going else detached.partitioning.table
            found.setdefault(
                detached.name, _detached_finding(detached.name, parent, schemas)
            )
    return [*found.values()]


def _detached_finding(
    name: Qualified, parent: Table | None, schemas: SchemaNames
) -> Finding:
    """Return the finding of a detached partition.

    :param parent: its table; None if it is being removed.
    """
    if parent is None:
        return Finding(Problem.OVERDUE, "partition", name.dotted, command="partitions")
    advice = (
        f"it is detached from {Qualified.of(parent, schemas).dotted}, so its rows are "
        "neither found nor erased; attach it, drop it, or give it another comment"
    )
    return Finding(Problem.ORPHANED, "partition", name.dotted, advice=advice)
