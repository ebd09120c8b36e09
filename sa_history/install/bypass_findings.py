"""What a check finds that triggers for each statement do not see.

They fire for the table that a statement names, and see what it does as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, MetaData

from sa_history._types import Operation
from sa_history.attachments.registry import attachments_of
from sa_history.ddl.catalog import read_children, read_foreign_keys, read_partitions
from sa_history.ddl.foreign_keys import may_update_and_delete
from sa_history.definition.row_order import CHANGES, MOVES, ROWS
from sa_history.install.drift import Problem
from sa_history.install.findings import Finding
from sa_history.sql.compose import Qualified, SchemaNames
from sa_history.tracking.registry import trackings_in
from sa_history.triggers.audit import Audit
from sa_history.triggers.refusing import RefusingTrigger


def bypass_findings(
    connection: Connection,
    metadatas: Sequence[MetaData],
    schemas: SchemaNames,
    looked_at: Sequence[str],
) -> list[Finding]:
    """Return what can be written so that no trigger sees it, or not rightly.

    :param metadatas: the models.
    :param schemas: gives the name in the database of a schema of the models.
    :param looked_at: the schemas of the models in the database.
    """
    by_statement = _recorded_by_statement(metadatas, schemas)
    refused = _refused_by_statement(metadatas, schemas)
    found = []
    partitioned: dict[Qualified, None] = {}
    for partition in read_partitions(connection, looked_at):
        name = partition.name.dotted
        found += [
            Finding(
                Problem.BYPASSED,
                "partition",
                name,
                advice=f"enable the trigger {trigger} on it",
            )
            for trigger in partition.disabled
        ]
        if any(by_statement.get(partition.table, ())):
            advice = (
                "PostgreSQL refuses to write it as a foreign table of "
                f"{partition.table.name}, which has transition tables; track "
                'that with level="row"'
                if partition.is_foreign
                else "a statement that names it leaves no event; write to "
                f'{partition.table.name}, or track that with level="row"'
            )
            found.append(Finding(Problem.BYPASSED, "partition", name, advice=advice))
        partitioned[partition.table] = None
    found += [
        Finding(
            Problem.BYPASSED,
            "table",
            table.dotted,
            advice=f"the trigger {trigger!r} does not see a row that MERGE moves "
            "to another partition; give the model postgresql_partition_by, or the "
            'trigger level="row"',
        )
        for table in partitioned
        for trigger, operations in refused.get(table, {}).items()
        if MOVES & operations
    ]
    for child in read_children(connection, looked_at):
        unseen = ROWS if child.is_partition else CHANGES
        if any(unseen & recorded for recorded in by_statement.get(child.name, ())):
            advice = (
                f"a statement that names {child.parent.name} leaves no event of "
                'it; give level="row"'
            )
            name = child.name.dotted
            found.append(Finding(Problem.BYPASSED, "table", name, advice=advice))
        found += [
            Finding(
                Problem.BYPASSED,
                "table",
                child.name.dotted,
                advice=f"the trigger {trigger!r} does not see a statement that "
                f'names {child.parent.name}; give it level="row"',
            )
            for trigger, operations in refused.get(child.name, {}).items()
            if unseen & operations
        ]
    return found + _unordered(connection, by_statement, looked_at)


def _unordered(
    connection: Connection,
    recorded: Mapping[Qualified, Sequence[frozenset[Operation]]],
    looked_at: Sequence[str],
) -> list[Finding]:
    """Return the tables whose foreign keys the models do not know well enough.

    :param recorded: what is recorded once for a statement of each table.
    """
    keys = read_foreign_keys(connection, looked_at)
    advice = (
        "by its foreign keys one statement can update a row and delete it, and not "
        'all of them are in the models; add them there, or give level="row"'
    )
    return [
        Finding(Problem.UNORDERED, "table", table.dotted, advice=advice)
        for table, operations in recorded.items()
        if any(each >= CHANGES for each in operations)
        and may_update_and_delete(table, keys)
    ]


def _recorded_by_statement(
    metadatas: Sequence[MetaData], schemas: SchemaNames
) -> dict[Qualified, list[frozenset[Operation]]]:
    """Return the operations on each table that are recorded once for a statement.

    They are those of each tracking and each Audit by itself.
    """
    tables = {table for metadata in metadatas for table in metadata.tables.values()}
    found: dict[Qualified, list[frozenset[Operation]]] = {}
    for metadata in metadatas:
        for tracking in trackings_in(metadata):
            name = Qualified.of(tracking.table, schemas)
            found.setdefault(name, []).append(tracking.statement_operations)
        for attachment in attachments_of(metadata):
            table, trigger = attachment.table, attachment.trigger
            if isinstance(trigger, Audit) and table in tables:
                operations = trigger.statement_operations(table)
                found.setdefault(Qualified.of(table, schemas), []).append(operations)
    return found


def _refused_by_statement(
    metadatas: Sequence[MetaData], schemas: SchemaNames
) -> dict[Qualified, dict[str, frozenset[Operation]]]:
    """Return what is refused once for a statement: of each table, by the trigger.

    A trigger is named as its definition names it.
    """
    found: dict[Qualified, dict[str, frozenset[Operation]]] = {}
    for metadata in metadatas:
        for attachment in attachments_of(metadata):
            table, trigger = attachment.table, attachment.trigger
            if isinstance(trigger, RefusingTrigger):
                operations = trigger.statement_operations(attachment.target)
                if operations:
                    of_table = found.setdefault(Qualified.of(table, schemas), {})
                    of_table[trigger.given_name] = operations
    return found
