"""What a check finds of the tables that Citus distributes, and of their shards."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, MetaData, Table

from sa_history.attachments.registry import attachments_of
from sa_history.ddl.catalog import Catalog
from sa_history.ddl.citus import (
    LOCAL,
    Placement,
    Placements,
    attached_problem,
    read_shards_unlike,
)
from sa_history.install.drift import Problem
from sa_history.install.findings import Finding
from sa_history.sql.compose import Qualified, SchemaNames
from sa_history.tracking.distribution import problem_of, tables_written
from sa_history.tracking.registry import trackings_in


def distribution_findings(
    metadatas: Sequence[MetaData], schemas: SchemaNames, placements: Placements
) -> list[Finding]:
    """Return the tables that Citus distributes in a way that is not supported.

    :param metadatas: the models.
    :param schemas: gives the name in the database of a schema of the models.
    :param placements: those of the tables that Citus manages.
    """
    problems: dict[Qualified, str] = {}
    for metadata in metadatas:
        for tracking in trackings_in(metadata):
            tables = {
                called: _placed(table, schemas, placements)
                for called, table in tables_written(tracking).items()
            }
            problem = problem_of(tracking, tables)
            if problem is not None:
                problems[Qualified.of(tracking.table, schemas)] = problem
        for attachment in attachments_of(metadata):
            name, placement = _placed(attachment.table, schemas, placements)
            problem = attached_problem(name, placement)
            if problem is not None:
                problems.setdefault(name, problem)
    return [
        Finding(Problem.DISTRIBUTED, "table", name.dotted, advice=problem)
        for name, problem in problems.items()
    ]


def shard_findings(
    connection: Connection,
    metadatas: Sequence[MetaData],
    schemas: SchemaNames,
    placements: Placements,
    catalog: Catalog,
) -> list[Finding]:
    """Return the shards of distributed tables that can be written without an event.

    :param metadatas: the models.
    :param schemas: gives the name in the database of a schema of the models.
    :param placements: those of the tables that Citus manages.
    :param catalog: the triggers of the tables, with which those of the shards are
        compared, on whichever nodes they are.
    """
    found = []
    for tracking in trackings_in(*metadatas):
        name, placement = _placed(tracking.table, schemas, placements)
        function = tracking.function_name()
        if function is None or not tracking.is_distributed or placement.is_local:
            continue
        called = function.in_database(schemas)
        on_table = [
            trigger for trigger in catalog.triggers.values() if trigger.relation == name
        ]
        found += [
            Finding(
                Problem.BYPASSED,
                "shard",
                f"{name.dotted}_{shard}",
                advice="its triggers are not those of the table, or its node does "
                "not answer; uninstall and install them, or enable them there",
            )
            for shard in read_shards_unlike(connection, name, called, on_table)
        ]
    return found


def _placed(
    table: Table, schemas: SchemaNames, placements: Placements
) -> tuple[Qualified, Placement]:
    name = Qualified.of(table, schemas)
    return name, placements.get(name, LOCAL)
