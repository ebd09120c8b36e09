"""One look at a database: what the models expect of it, and what it has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Connection, Engine, MetaData, Table
from sqlalchemy.exc import DBAPIError, OperationalError

from sa_history._types import Operation
from sa_history.attachments.registry import attachments_of
from sa_history.capture.archive_table import archive_table_of
from sa_history.capture.detached import Partitioning, read_detached
from sa_history.capture.partitioning import EventPartitioning
from sa_history.capture.seal_tables import seal_tables_of
from sa_history.ddl.advisory_lock import wait_for_turn
from sa_history.ddl.catalog import (
    Catalog,
    Installed,
    InstalledFunction,
    InstalledTrigger,
    read_catalog,
    read_children,
    read_columns,
    read_foreign_keys,
    read_generated_columns,
    read_partitions,
    read_schemas,
)
from sa_history.ddl.citus import (
    LOCAL,
    Placement,
    Placements,
    attached_problem,
    read_placements,
    read_shards_unlike,
    refuse_worker,
)
from sa_history.ddl.elements import DEFAULT_SCHEMA, Statement
from sa_history.ddl.execution import (
    CITUS_SETTINGS,
    connection_of,
    read_server,
    require_new_snapshots,
)
from sa_history.ddl.fingerprint import PREFIX
from sa_history.ddl.foreign_keys import may_update_and_delete
from sa_history.ddl.partitions import read_range_partitions
from sa_history.definition.columns import kind_of_generated
from sa_history.definition.row_order import CHANGES, MOVES, ROWS
from sa_history.exc import InstallError
from sa_history.install.drift import (
    Difference,
    Problem,
    differences,
    find_installed,
    kind_of,
    name_of,
    name_of_installed,
)
from sa_history.install.expected import (
    ExpectedObject,
    has_objects,
    objects_of,
)
from sa_history.install.findings import MIGRATE, Finding
from sa_history.install.narrow_columns import read_narrow_columns
from sa_history.install.partition_state import (
    PartitionState,
    any_findings,
    partition_findings,
)
from sa_history.install.plan import Step, drop_step, plan_for
from sa_history.install.privileges import Hardening
from sa_history.install.sizes import EventTableSize, event_table_sizes
from sa_history.sql.compose import Qualified, Raw, SchemaNames
from sa_history.tracking.distribution import problem_of, tables_written
from sa_history.tracking.registry import Tracking, history_of, trackings_in
from sa_history.triggers.audit import Audit
from sa_history.triggers.refusing import RefusingTrigger
from sa_history.util.arguments import metadata_of
from sa_history.util.postgresql import (
    INSUFFICIENT_PRIVILEGE,
    UNDEFINED_COLUMN,
    UNDEFINED_TABLE,
    sqlstate_of,
)

Models: TypeAlias = "MetaData | type[Any]"
"""A MetaData, or a declarative base."""


class Survey:
    """What some models expect, beside what a database has.

    :param connection: the connection to the database, in a transaction.
    :param metadatas: the models.
    :param write: True to read how triggers and views are made, so as to restore them;
        that locks them.
    """

    def __init__(
        self, connection: Connection, metadatas: list[MetaData], write: bool
    ) -> None:
        self._connection = connection
        self._metadatas = metadatas
        self._server = read_server(connection)
        if self._server.has_citus:
            refuse_worker(connection)
        default = self._server.schema or DEFAULT_SCHEMA
        options = connection.get_execution_options()
        translate = options.get("schema_translate_map") or {}
        self.schemas: SchemaNames = lambda s: translate.get(s, s) or default
        self.expected = self._expected_objects()
        histories = filter(None, map(history_of, metadatas))
        self._contexts = {history.shared.context_table for history in histories}
        tables = {t: None for m in metadatas for t in m.tables.values()}
        self._tables = {self._name(table): table for table in tables}
        views = {expected.table: None for expected in self.expected}
        self._looked_at = sorted({self.schemas(t.schema) for t in (*tables, *views)})
        self._catalog: Catalog = read_catalog(
            connection, self._looked_at, definitions=write
        )
        self._partitions = read_range_partitions(connection, self._looked_at)
        self.expected += self._guards_of_partitions()

    def _expected_objects(self) -> list[ExpectedObject]:
        # By their names, since several MetaData may share functions.
        by_name = {
            (kind_of(o.definition), name_of(o.definition, self.schemas)): o
            for metadata in self._metadatas
            for o in objects_of(metadata)
        }
        return list(by_name.values())

    def _partitioned(self) -> list[tuple[Tracking, EventPartitioning]]:
        return [
            (tracking, partitioning)
            for metadata in self._metadatas
            for tracking in trackings_in(metadata)
            for partitioning in [tracking.partitioning()]
            if partitioning is not None
        ]

    def _guards_of_partitions(self) -> list[ExpectedObject]:
        """Return the triggers that each partition of an event table has to have."""
        return [
            ExpectedObject(guard, tracking.event_table)
            for tracking, partitioning in self._partitioned()
            for partition in self._partitions.get(self._name(tracking.event_table), ())
            for guard in partitioning.guards(partition.name)
        ]

    def partition_findings(self) -> list[Finding]:
        """Return what is wrong with the partitions of event tables."""
        there = read_columns(self._connection, self._looked_at)
        partitioned = dict(self._partitioned())
        found: list[Finding] = []
        for contexts in self._contexts:
            table = self._name(contexts)
            if table in self._partitions:
                found += any_findings(table, self._partitions[table])
        for metadata in self._metadatas:
            for tracking in trackings_in(metadata):
                table = self._name(tracking.event_table)
                partitioning, is_there = partitioned.get(tracking), table in there
                is_partitioned = table in self._partitions
                if is_there and (partitioning is not None) is not is_partitioned:
                    advice = (
                        "it is partitioned, and the model does not say so; give "
                        "track(..., partition_by=...), or make it one table by a "
                        "migration"
                        if is_partitioned
                        else "it is not partitioned, and the model says partition_by="
                        f"{tracking.options.partition_by!r}; run the command "
                        "partitions with --convert, or a migration"
                    )
                    found.append(
                        Finding(Problem.OUTDATED, "table", table.dotted, advice=advice)
                    )
                elif partitioning is not None and is_partitioned:
                    state = PartitionState(tracking, partitioning, self.schemas)
                    found += partition_findings(
                        self._connection, state, self._partitions[table]
                    )
        return found + self._detached_partitions()

    def _detached_partitions(self) -> list[Finding]:
        """Return the partitions that are tables of their own by now.

        Those are left out to which somebody has given another comment.
        """
        partitionings: list[Partitioning] = [
            *(partitioning for _, partitioning in self._partitioned()),
            *(
                contexts
                for history in filter(None, map(history_of, self._metadatas))
                if (contexts := history.shared.partitioning) is not None
            ),
        ]
        # By their names, since two event tables of one table have the same comment.
        found: dict[Qualified, Finding] = {}
        for detached in read_detached(self._connection, partitionings, self.schemas):
            name = detached.name
            if name not in self._tables and not detached.is_renounced:
                parent = None if detached.is_going else detached.partitioning.table
                found.setdefault(name, self._detached(name, parent))
        return [*found.values()]

    def _detached(self, name: Qualified, parent: Table | None) -> Finding:
        """Return the finding of a detached partition.

        :param parent: its table; None if it is being removed.
        """
        if parent is None:
            return Finding(
                Problem.OVERDUE, "partition", name.dotted, command="partitions"
            )
        advice = (
            f"it is detached from {self._name(parent).dotted}, so its rows are neither "
            "found nor erased; attach it, drop it, or give it another comment"
        )
        return Finding(Problem.ORPHANED, "partition", name.dotted, advice=advice)

    def _name(self, table: Table) -> Qualified:
        return Qualified.of(table, self.schemas)

    def sizes(self, keep: str | None) -> list[EventTableSize]:
        """Return the sizes of the event tables.

        :param keep: for how long events would be kept; None to tell of no removal.
        """
        trackings = [t for m in self._metadatas for t in trackings_in(m)]
        return event_table_sizes(self._connection, trackings, self.schemas, keep)

    def differences(self) -> list[Difference]:
        """Return the objects that are not as the models expect."""
        return differences(self.expected, self._catalog, self._tables, self.schemas)

    def unclaimed(self) -> list[Finding]:
        """Return the objects in any schema that the models do not expect."""
        # Not by differences(), which keeps what serves event tables of other models.
        catalog = read_catalog(
            self._connection, read_schemas(self._connection), definitions=False
        )
        known = {
            id(find_installed(expected.definition, catalog, self.schemas))
            for expected in self.expected
        }
        advice = "import the models that have it"
        return [
            Finding(Problem.ORPHANED, o.kind, name_of_installed(o), advice=advice)
            for o in catalog.all()
            if id(o) not in known
        ]

    def missing(self) -> list[Finding]:
        """Return the tables and columns that triggers need and that do not exist."""
        there = read_columns(self._connection, self._looked_at)
        found: list[Finding] = []
        for table in self._needed():
            qualified = self._name(table)
            name = qualified.dotted
            if qualified not in there:
                found.append(Finding(Problem.MISSING, "table", name, advice=MIGRATE))
                continue
            found += [
                Finding(
                    Problem.MISSING, "column", f"{name}.{column.name}", advice=MIGRATE
                )
                for column in table.columns
                if column.name not in there[qualified]
            ]
        return found

    def changed_kinds(self) -> list[Finding]:
        """Return the generated columns whose kind is not that of the model."""
        installed = read_generated_columns(self._connection, self._looked_at)
        return [
            Finding(
                Problem.OUTDATED,
                "column",
                f"{qualified.dotted}.{column.name}",
                advice=f"it is {found}, and {wanted} in the model; drop it and add it "
                "again in a migration",
            )
            for table in self._needed()
            for qualified in [self._name(table)]
            for column in table.columns
            for wanted in [kind_of_generated(column)]
            for found in [installed.get((qualified, column.name))]
            if wanted is not None and found not in (None, wanted)
        ]

    def narrow_columns(self) -> list[Finding]:
        """Return the event columns that cannot hold each value of a tracked column."""
        trackings = [t for m in self._metadatas for t in trackings_in(m)]
        pairs = [(self._name(t.table), self._name(t.event_table)) for t in trackings]
        return [
            Finding(
                Problem.OUTDATED,
                "column",
                f"{events.dotted}.{column.name}",
                advice=f"it is {column.event.sql}, which does not hold each "
                f"{column.tracked.sql} of {tracked.dotted}; give it that type by a "
                "migration, and in the model",
            )
            for column in read_narrow_columns(self._connection, pairs)
            for tracked, events in [pairs[column.pair]]
            if column.name in {c.name for c in trackings[column.pair].event_table.c}
        ]

    def _needed(self) -> list[Table]:
        """Return the tables that triggers stand on, and those that they write."""
        needed = {
            expected.table: None
            for expected in self.expected
            if expected.table in self._tables.values()
        }
        for metadata in self._metadatas:
            for tracking in trackings_in(metadata):
                needed[tracking.event_table] = None
            seals = seal_tables_of(metadata)
            needed |= dict.fromkeys(seals.all() if seals else ())
            archived = archive_table_of(metadata)
            needed |= {} if archived is None else {archived: None}
        return list(needed)

    def bypassed(self) -> list[Finding]:
        """Return what can be written without an event through another table."""
        by_statement = self._recorded_by_statement()
        refused = self._refused_by_statement()
        found = []
        partitioned: dict[Qualified, None] = {}
        for partition in read_partitions(self._connection, self._looked_at):
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
                found.append(
                    Finding(Problem.BYPASSED, "partition", name, advice=advice)
                )
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
        for child in read_children(self._connection, self._looked_at):
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
        return found

    def distributed(self) -> list[Finding]:
        """Return the tables that Citus distributes in a way that is not supported."""
        placements = self._placements()
        problems: dict[Qualified, str] = {}
        for metadata in self._metadatas:
            for tracking in trackings_in(metadata):
                tables = {
                    called: self._placed(table, placements)
                    for called, table in tables_written(tracking).items()
                }
                problem = problem_of(tracking, tables)
                if problem is not None:
                    problems[self._name(tracking.table)] = problem
            for attachment in attachments_of(metadata):
                name, placement = self._placed(attachment.table, placements)
                problem = attached_problem(name, placement)
                if problem is not None:
                    problems.setdefault(name, problem)
        return [
            Finding(Problem.DISTRIBUTED, "table", name.dotted, advice=problem)
            for name, problem in problems.items()
        ]

    def bypassed_on_shards(self) -> list[Finding]:
        """Return the shards of distributed tables that can be written without an event.

        A trigger that the table does not have is reported as missing, and one that it
        has is compared with those of the shards, on whichever nodes they are.
        """
        placements = self._placements()
        found = []
        for tracking in (t for m in self._metadatas for t in trackings_in(m)):
            name, placement = self._placed(tracking.table, placements)
            function = tracking.function_name()
            if function is None or not tracking.is_distributed or placement.is_local:
                continue
            called = function.in_database(self.schemas)
            on_table = [
                trigger
                for trigger in self._catalog.triggers.values()
                if trigger.relation == name
            ]
            found += [
                Finding(
                    Problem.BYPASSED,
                    "shard",
                    f"{name.dotted}_{shard}",
                    advice="its triggers are not those of the table, or its node does "
                    "not answer; uninstall and install them, or enable them there",
                )
                for shard in read_shards_unlike(
                    self._connection, name, called, on_table
                )
            ]
        return found

    def _placements(self) -> Placements:
        if not self._server.has_citus:
            return {}
        return read_placements(self._connection, self._looked_at)

    def _placed(
        self, table: Table, placements: Placements
    ) -> tuple[Qualified, Placement]:
        name = self._name(table)
        return name, placements.get(name, LOCAL)

    def unordered(self) -> list[Finding]:
        """Return the tables whose foreign keys the models do not know well enough."""
        keys = read_foreign_keys(self._connection, self._looked_at)
        advice = (
            "by its foreign keys one statement can update a row and delete it, and not "
            'all of them are in the models; add them there, or give level="row"'
        )
        return [
            Finding(Problem.UNORDERED, "table", table.dotted, advice=advice)
            for table, recorded in self._recorded_by_statement().items()
            if any(operations >= CHANGES for operations in recorded)
            and may_update_and_delete(table, keys)
        ]

    def _recorded_by_statement(self) -> dict[Qualified, list[frozenset[Operation]]]:
        """Return the operations on each table that are recorded once for a statement.

        They are those of each tracking and each Audit by itself.
        """
        found: dict[Qualified, list[frozenset[Operation]]] = {}
        for metadata in self._metadatas:
            for tracking in trackings_in(metadata):
                operations = tracking.statement_operations
                found.setdefault(self._name(tracking.table), []).append(operations)
            for attachment in attachments_of(metadata):
                table, trigger = attachment.table, attachment.trigger
                if isinstance(trigger, Audit) and table in self._tables.values():
                    operations = trigger.statement_operations(table)
                    found.setdefault(self._name(table), []).append(operations)
        return found

    def _refused_by_statement(self) -> dict[Qualified, dict[str, frozenset[Operation]]]:
        """Return what is refused once for a statement: of each table, by the trigger.

        A trigger is named as its definition names it.
        """
        found: dict[Qualified, dict[str, frozenset[Operation]]] = {}
        for metadata in self._metadatas:
            for attachment in attachments_of(metadata):
                table, trigger = attachment.table, attachment.trigger
                if isinstance(trigger, RefusingTrigger):
                    operations = trigger.statement_operations(attachment.target)
                    if operations:
                        of_table = found.setdefault(self._name(table), {})
                        of_table[trigger.given_name] = operations
        return found

    def install(self, prune: bool) -> list[str]:
        """Mend the differences, and return what was done.

        :param prune: True to drop also what the models do not have.
        """
        found = [
            difference
            for difference in self.differences()
            if difference.is_mendable and (prune or difference.expected is not None)
        ]
        plan = plan_for(found, self.expected, self._catalog, self.schemas, {})
        steps = (*plan.first, *plan.last)
        self._run(steps)
        return [step.what for step in steps]

    def uninstall(self) -> list[str]:
        """Drop triggers and functions, and return what was done."""
        # In all schemas, since shared functions may be called from any.
        catalog = read_catalog(self._connection, read_schemas(self._connection))
        installed = self._sort(catalog)
        going: list[Installed] = [*installed.triggers, *installed.functions]
        if not installed.is_shared_used(self.schemas):
            going += installed.shared
        steps = [drop_step(found, self.schemas) for found in going]
        self._run(steps)
        return [step.what for step in steps]

    def _sort(self, catalog: Catalog) -> _Installed:
        """Sort the installed objects into those of these models and those of others."""
        shared: list[InstalledFunction] = []
        functions: list[InstalledFunction] = []
        known: set[int] = set()
        for expected in self.expected:
            found = find_installed(expected.definition, catalog, self.schemas)
            known.add(id(found))
            if isinstance(found, InstalledFunction):
                is_shared = expected.table in self._contexts
                (shared if is_shared else functions).append(found)
        called = {function.name for function in functions}
        ours_by_name = called | {function.name for function in shared}
        marked = [t for t in catalog.triggers.values() if t.fingerprint is not None]
        triggers = [t for t in marked if id(t) in known or t.function in called]
        # Citus forgets the comments of triggers whose tables it makes anew.
        triggers += [
            trigger
            for trigger in catalog.triggers.values()
            if trigger.fingerprint is None
            and id(trigger) in known
            and trigger.function in ours_by_name
        ]
        ours = {id(trigger) for trigger in triggers}
        return _Installed(
            triggers=triggers,
            functions=functions,
            shared=shared,
            other_triggers=[t for t in marked if id(t) not in ours],
            other_functions=[
                f for f in catalog.functions.values() if id(f) not in known
            ],
        )

    def harden(self, role: str, dry_run: bool) -> list[str]:
        """Revoke what a role does not need, and return the statements.

        :param role: the application's role.
        :param dry_run: True to only return them.
        """
        hardening = Hardening(self._metadatas, role, self.schemas)
        problem = hardening.problem(self._connection)
        if problem is not None:
            raise InstallError(problem)
        statements = hardening.statements()
        if not dry_run:
            self._execute(statements)
        remaining = hardening.remaining(self._connection, is_done=not dry_run)
        if remaining:
            raise InstallError(
                f"nothing was changed: {hardening.advice}role {role!r} would still "
                f"have {', '.join(remaining)}; revoke that as whoever has granted it, "
                "or take the role out of the others"
            )
        return statements

    def _run(self, steps: Iterable[Step]) -> None:
        if self._server.has_citus:
            self._execute(CITUS_SETTINGS)
        for step in steps:
            self._execute(step.statements)

    def _execute(self, statements: Iterable[str]) -> None:
        for statement in statements:
            self._connection.execute(Statement(Raw(statement)))


@dataclass(frozen=True)
class _Installed:
    """What is installed, by whom it serves.

    :param triggers: the triggers of the models.
    :param functions: the functions of the models.
    :param shared: the functions that all models with the same context table call.
    :param other_triggers: the triggers of other models, and of tables that are not
        tracked any more.
    :param other_functions: the functions of these.
    """

    triggers: list[InstalledTrigger]
    functions: list[InstalledFunction]
    shared: list[InstalledFunction]
    other_triggers: list[InstalledTrigger]
    other_functions: list[InstalledFunction]

    def is_shared_used(self, schemas: SchemaNames) -> bool:
        """Return True if something of others needs a shared function.

        PostgreSQL does not know what a function calls, so its source is searched.
        """
        called = {trigger.function for trigger in self.other_triggers}
        return any(
            function.name in called
            or any(
                function.name.render(schemas) in other.source
                for other in self.other_functions
            )
            for function in self.shared
        )


@contextmanager
def open_survey(
    bind: Engine | Connection,
    models: tuple[Models, ...],
    write: bool = False,
    may_track_nothing: bool = False,
) -> Iterator[Survey]:
    """Open a survey in a transaction; what fails in the block changes nothing.

    :param bind: an engine, or a connection whose transaction stays open.
    :param models: declarative bases or MetaData.
    :param write: True to wait for other processes that install.
    :param may_track_nothing: False to refuse models of which none is tracked, has
        triggers or is a view; all would seem to be well where they were not imported.
    :raises InstallError: there are no models, or none with objects; the connection's
        transaction cannot see what others install, or the database refuses something.
    """
    metadatas = [metadata_of(model, InstallError) for model in models]
    if not metadatas:
        raise InstallError("no models; give a declarative base, or a MetaData")
    try:
        with connection_of(bind, InstallError, savepoint=True) as connection:
            if not may_track_nothing and not any(map(has_objects, metadatas)):
                raise InstallError(
                    f"{', '.join(map(repr, models))} tracks nothing; import the models "
                    "first"
                )
            if write:
                require_new_snapshots(
                    connection,
                    InstallError,
                    "give an engine, or a connection with isolation_level="
                    '"READ COMMITTED"',
                )
                wait_for_turn(connection)
            yield Survey(connection, metadatas, write)
    except DBAPIError as error:
        done = "nothing was changed: " if write else ""
        raise InstallError(done + explained(error)) from error


# A function, a trigger, and a view or a table.
_TAKEN = ("42723", "42710", "42P07")


def explained(error: DBAPIError) -> str:
    """Return the message of the database or the driver, with what to do about it.

    :param error: the error, as SQLAlchemy raises it.
    """
    # Not where in our functions it was raised.
    said = str(error.orig).partition("\nCONTEXT:")[0].strip()
    code = sqlstate_of(error.orig)
    if code == INSUFFICIENT_PRIVILEGE:
        return f"{said}; do it as the role that owns the tables"
    if code in (UNDEFINED_TABLE, UNDEFINED_COLUMN):
        missing, *_ = said.splitlines()  # and then the statement
        return f"{missing}; {MIGRATE}"
    if code in _TAKEN:
        return (
            f"{said}; it has no comment of sa_history, so it may be somebody else's: "
            f"rename or drop it, or give it the comment {PREFIX!r}"
        )
    if isinstance(error, OperationalError) and error.statement is None:
        # What libpq says of several addresses has a line for each.
        return (
            f"the database cannot be reached: {' '.join(said.split())}; check its URL"
        )
    return said
