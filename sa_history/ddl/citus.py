"""Citus: how it distributes tables, and where triggers of ours are right on them.

Citus spreads the tables of a database over several servers. A trigger of a distributed
table runs on the servers that have its rows, where it may find no table to write to, or
one that it cannot reach; and what it finds can be wrong without an error. So everything
is refused that was not shown to be right.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ARRAY, Connection, Table, Text, bindparam, text

from sa_history.ddl.catalog import (
    InstalledTrigger,
    read_catalog,
    read_schemas,
    text_of_char,
)
from sa_history.ddl.elements import DEFAULT_SCHEMA
from sa_history.ddl.execution import server_in_run
from sa_history.exc import DistributionError
from sa_history.sql.catalog_queries import (
    CITUS_TABLES,
    COORDINATOR,
    LOCAL_NODE,
    SHARD_TRIGGERS,
    SIZE_ON_NODES,
)
from sa_history.sql.compose import (
    Fragment,
    Joined,
    Literal,
    Qualified,
    Raw,
    RegClass,
    join,
)


class Distribution(enum.Enum):
    """How Citus distributes a table; the values are for messages."""

    NONE = "a local table"
    MANAGED = "a local table that Citus manages"
    REFERENCE = "a reference table"
    SHARDS = "a distributed table"
    SINGLE_SHARD = "a table of a sharded schema"
    PARTITIONED = "a partitioned table of a sharded schema"


@dataclass(frozen=True)
class Placement:
    """Where the rows of a table are.

    :param distribution: how Citus distributes the table.
    :param colocation: the number that tables have in common whose shards are together
        on one node, and are moved together; 0 for none.
    :param column: the column whose hash says in which shard a row is; None if the table
        has no such column, has several copies of each shard, or is partitioned.
    """

    distribution: Distribution = Distribution.NONE
    colocation: int = 0
    column: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether the table is an ordinary one of the server that is connected to."""
        return self.distribution is Distribution.NONE

    @property
    def is_of_coordinator(self) -> bool:
        """Whether the rows are those of one server, and not distributed.

        Citus manages a local table by itself that has a foreign key to a reference
        table.
        """
        return self.is_local or self.distribution is Distribution.MANAGED


LOCAL = Placement()
"""The placement of every table that Citus does not manage."""

Placements = Mapping[Qualified, Placement]
"""The placements of the tables that Citus manages."""


def read_placements(connection: Connection, schemas: Iterable[str]) -> Placements:
    """Read how Citus distributes the tables of some schemas.

    :param connection: to a database that has Citus.
    :param schemas: the names of the schemas.
    """
    statement = text(CITUS_TABLES).bindparams(bindparam("schemas", type_=ARRAY(Text)))
    rows = connection.execute(statement, {"schemas": sorted(set(schemas))})
    return {
        Qualified(row.schema, row.name): Placement(
            _distribution(row), row.colocation, _column(row)
        )
        for row in rows
    }


def _distribution(row: Any) -> Distribution:
    """Return what a row of ``pg_dist_partition`` says."""
    if text_of_char(row.method) != "n":  # rows are spread by a column
        return Distribution.SHARDS
    if text_of_char(row.replication) == "t":  # each node has a copy
        return Distribution.REFERENCE
    if not row.colocation:
        return Distribution.MANAGED
    if row.is_partitioned:
        return Distribution.PARTITIONED
    return Distribution.SINGLE_SHARD


def _column(row: Any) -> str | None:
    """Return the column by whose hash rows are distributed, if that can be right.

    Where Citus itself keeps several copies of a shard, each would record its events.
    """
    is_hashed = text_of_char(row.method) == "h" and text_of_char(row.replication) == "s"
    found: str | None = row.column
    return found if is_hashed and not row.is_partitioned else None


def refuse_worker(connection: Connection) -> None:
    """Refuse to look at or to make objects on a worker, which has not all of them.

    :param connection: to a database that has Citus.
    :raises DistributionError: it is one of a worker.
    """
    node = connection.execute(text(LOCAL_NODE)).scalar()
    if node != COORDINATOR:
        raise DistributionError(
            f"this is node {node} of Citus, a worker; connect to the coordinator, "
            "where tables, functions and triggers are made and checked"
        )


def placements_in_run(
    connection: Connection, tables: Iterable[Table], memo: dict[str, Any]
) -> dict[Table, tuple[Qualified, Placement]]:
    """Return the names and the placements of tables, in a run of ``create_all``.

    :param tables: the tables.
    :param memo: the memo of the run.
    :return: an empty dictionary if the database has no Citus.
    """
    server = server_in_run(connection, memo)
    if not server.has_citus:
        return {}
    refuse_worker(connection)
    names = {
        table: Qualified(
            connection.schema_for_object(table) or server.schema or DEFAULT_SCHEMA,
            table.name,
        )
        for table in tables
    }
    found = read_placements(connection, [str(name.schema) for name in names.values()])
    return {table: (name, found.get(name, LOCAL)) for table, name in names.items()}


def attached_problem(name: Qualified, placement: Placement) -> str | None:
    """Return why a trigger that is attached to a table may not be right there.

    :param name: of the table, with its schema.
    :param placement: where its rows are.
    :return: the reason and the remedy; None if the table is a local one.
    """
    if placement.is_local:
        return None
    return (
        f"{name.dotted} is {placement.distribution.value} of Citus, on "
        "which only the triggers of track() are supported; take attach() off the "
        "model, or make it a local table by undistribute_table()"
    )


def trigger_problem(
    trigger: InstalledTrigger, placement: Placement, is_for_nodes: bool
) -> str | None:
    """Return why an installed trigger of ours cannot be right.

    Whether the table that it writes to is beside it is not known of the trigger.

    :param trigger: the trigger.
    :param placement: where the rows of its table are.
    :param is_for_nodes: whether its function is one for distributed tables.
    """
    is_in_schema = placement.distribution is Distribution.SINGLE_SHARD
    if is_for_nodes and (is_in_schema or placement.column is not None):
        return None
    remedy = "give track(distribute=True), and make the revision anew"
    if not is_in_schema:
        remedy = "make it a local table first, by undistribute_table()"
    return (
        f"the trigger {trigger.name} would be on {trigger.relation.schema}."
        f"{trigger.relation.name}, which is {placement.distribution.value} of Citus, "
        f"where it is not supported; {remedy}"
    )


def read_trigger_problems(connection: Connection) -> dict[tuple[Qualified, str], str]:
    """Read which installed triggers of ours cannot be right, in all schemas.

    :param connection: to a database that has Citus.
    :return: the problems, by the table and the name of the trigger.
    """
    schemas = read_schemas(connection)
    placements = read_placements(connection, schemas)
    catalog = read_catalog(connection, schemas, definitions=False)
    for_nodes = {f.name for f in catalog.functions.values() if CLOCK in f.source}
    return {
        key: problem
        for key, trigger in catalog.triggers.items()
        for placement in [placements.get(trigger.relation)]
        if placement is not None
        for problem in [
            trigger_problem(trigger, placement, trigger.function in for_nodes)
        ]
        if problem is not None
    }


CLOCK = "citus_get_node_clock()"
"""The clock of a node of Citus; the functions for distributed tables have it."""


def distribute(
    tracked: tuple[Qualified, Placement],
    events: tuple[Qualified, Placement],
    column: str,
) -> list[Fragment]:
    """Return the statements by which Citus distributes a table and its events.

    It copies rows that a table has into the shards, and triggers would record that; so
    it comes before the triggers are created.

    :param tracked: the name of the table, and where it is.
    :param events: the same of its event table.
    :param column: the column by which rows are distributed.
    :return: those that are needed; none if both tables are distributed.
    """
    statements = []
    beside = None if events[1].is_of_coordinator else events[0]
    for name, placement in (tracked, events):
        if placement.is_of_coordinator:
            of_table: list[Fragment] = [RegClass(name), Literal(column)]
            if beside is not None:
                of_table.append(
                    Raw("colocate_with => ") + RegClass(beside) + Raw("::text")
                )
            statements.append(
                Raw("SELECT create_distributed_table(")
                + join(", ", of_table)
                + Raw(")")
            )
        beside = name
    return statements


def distribution_problem(
    tables: Mapping[str, tuple[Qualified, Placement]], column: str
) -> str | None:
    """Return why the events of a distributed table may not be right.

    :param tables: as for :func:`recording_problem`.
    :param column: the column by which Citus has to distribute all of them.
    :return: the reason and the remedy; None if the events are right.
    """
    (tracked, placement), *_ = tables.values()
    for called, (name, found) in tables.items():
        if found.column != column or found.colocation != placement.colocation:
            by = "" if found.column is None else f" by {found.column!r}"
            return (
                f"the history of {tracked.dotted} is to be distributed "
                f"by {column!r}, but the {called} {name.dotted} is "
                f"{found.distribution.value}{by} of Citus, in the colocation group "
                f"{found.colocation}; distribute both by create_distributed_table(), "
                "before they have triggers, the event table with colocate_with; "
                "without partitions, and with citus.shard_replication_factor = 1"
            )
    return None


def sharded_schema_problem(
    tables: Mapping[str, tuple[Qualified, Placement]],
) -> str | None:
    """Return why events that are to be in a sharded schema are not right.

    :param tables: as for :func:`recording_problem`.
    :return: the reason and the remedy; None if the events are right.
    """
    (tracked, placement), *_ = tables.values()
    for called, (name, found) in tables.items():
        if (
            found.distribution is not Distribution.SINGLE_SHARD
            or found.colocation != placement.colocation
        ):
            return (
                f"the history of {tracked.dotted} is to be in a sharded "
                f"schema, but the {called} {name.dotted} is "
                f"{found.distribution.value} of Citus, in the colocation group "
                f"{found.colocation}, and not together with the others on one node; "
                "have all of them in one schema that is created while "
                "citus.enable_schema_based_sharding is on, by MetaData(schema=...) or "
                "a schema_translate_map, without partitions"
            )
    return None


def recording_problem(
    tables: Mapping[str, tuple[Qualified, Placement]],
) -> str | None:
    """Return why the events of a table that is thought to be local may not be right.

    Local tables have their history as on any server.

    :param tables: the tracked table first, then those that its triggers write to, each
        by what it is called in messages.
    :return: the reason and the remedy; None if the events are right.
    """
    (tracked, _), *_ = tables.values()
    for called, (name, found) in tables.items():
        if found.is_local:
            continue
        remedy = (
            "give track(distribute=True)"
            if found.distribution is Distribution.SINGLE_SHARD
            else "make it a local table by undistribute_table(), or have all of them "
            "in one schema of schema-based sharding, or give track(distribute=...)"
        )
        return (
            f"the history of {tracked.dotted} is not supported, as the "
            f"{called} {name.dotted} is {found.distribution.value} of "
            f"Citus; {remedy}"
        )
    return None


_FOR_ROWS = 4 | 8 | 16
"""The bits of ``pg_trigger.tgtype`` for INSERT, DELETE and UPDATE.

Citus gives no shard a trigger for TRUNCATE, but where it moves one to.
"""


def read_shards_unlike(
    connection: Connection,
    table: Qualified,
    function: Qualified,
    triggers: Iterable[InstalledTrigger],
) -> list[int]:
    """Read which shards of a distributed table have not the triggers that it has.

    :param connection: to a database that has Citus.
    :param table: the table.
    :param function: the function of the triggers that are compared.
    :param triggers: the triggers of the table, with other functions as well.
    :return: the numbers of the shards.
    """
    wanted = sorted(
        f"{each.type} {each.enabled}"
        for each in triggers
        if each.function == function and each.type & _FOR_ROWS
    )
    # Citus fills in the name of the shard, by format().
    command = Joined(
        (
            Raw(
                "SELECT string_agg(concat(t.tgtype, ' ', t.tgenabled), ',')"
                " FROM pg_trigger AS t JOIN pg_proc AS f ON f.oid = t.tgfoid"
                f" WHERE t.tgrelid = %L::regclass AND t.tgtype & {_FOR_ROWS} <> 0"
                " AND f.proname = "
            ),
            Literal(function.name.replace("%", "%%")),
        )
    )
    # The fragments have no schema to name.
    given = {"table": table.render(str), "command": command.render(str)}
    rows = connection.execute(text(SHARD_TRIGGERS), given)
    return [row.shardid for row in rows if sorted(_kinds(row)) != wanted]


def _kinds(row: Any) -> list[str]:
    """Return the triggers of a shard; none, if its node did not answer."""
    return row.result.split(",") if row.success and row.result else []


def read_bytes(connection: Connection, table: Qualified) -> int:
    """Read the size of a table on all nodes, with its indexes.

    :param connection: to a database that has Citus.
    :param table: a table that Citus manages; that of the node is an empty one.
    """
    given = {"table": table.render(str)}
    found: int = connection.execute(text(SIZE_ON_NODES), given).scalar_one()
    return found


def refuse(problem: str | None) -> None:
    """Raise an error for a problem.

    :raises DistributionError: there is one.
    """
    if problem is not None:
        raise DistributionError(f"nothing is installed: {problem}")
