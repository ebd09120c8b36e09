"""One look at a database: what the models expect of it, and what it has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from sqlalchemy import Connection, Engine, MetaData, Table
from sqlalchemy.exc import DBAPIError, OperationalError

from sa_history.capture.archive_table import archive_table_of
from sa_history.capture.seal_tables import seal_tables_of
from sa_history.ddl.advisory_lock import wait_for_turn
from sa_history.ddl.catalog import (
    Catalog,
    Installed,
    InstalledFunction,
    InstalledTrigger,
    read_catalog,
    read_columns,
    read_generated_columns,
    read_schemas,
)
from sa_history.ddl.citus import (
    Placements,
    read_placements,
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
from sa_history.ddl.partitions import read_range_partitions
from sa_history.definition.columns import kind_of_generated
from sa_history.exc import InstallError
from sa_history.install.bypass_findings import bypass_findings
from sa_history.install.citus_findings import distribution_findings, shard_findings
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
from sa_history.install.partition_findings import partition_findings
from sa_history.install.plan import Step, drop_step, plan_for
from sa_history.install.privileges import Hardening
from sa_history.install.sizes import EventTableSize, event_table_sizes
from sa_history.sql.compose import Qualified, Raw, SchemaNames
from sa_history.tracking.registry import history_of, trackings_in
from sa_history.util.arguments import metadata_of
from sa_history.util.postgresql import (
    INSUFFICIENT_PRIVILEGE,
    UNDEFINED_COLUMN,
    UNDEFINED_TABLE,
    sqlstate_of,
)

AllModels: TypeAlias = "MetaData | type[Any]"
"""All models of a MetaData, or of a declarative base."""


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

    def _guards_of_partitions(self) -> list[ExpectedObject]:
        """Return the triggers that each partition of an event table has to have."""
        return [
            ExpectedObject(guard, tracking.event_table)
            for tracking in trackings_in(*self._metadatas)
            for partitioning in [tracking.partitioning()]
            if partitioning is not None
            for partition in self._partitions.get(self._name(tracking.event_table), ())
            for guard in partitioning.guards(partition.name)
        ]

    def partition_findings(self) -> list[Finding]:
        """Return what is wrong with the partitions of event tables."""
        return partition_findings(
            self._connection,
            self._metadatas,
            self.schemas,
            self._partitions,
            self._columns,
        )

    @cached_property
    def _columns(self) -> dict[Qualified, set[str]]:
        """The tables that the database has, with the names of their columns."""
        return read_columns(self._connection, self._looked_at)

    def _name(self, table: Table) -> Qualified:
        return Qualified.of(table, self.schemas)

    def sizes(self, keep: str | None) -> list[EventTableSize]:
        """Return the sizes of the event tables.

        :param keep: for how long events would be kept; None to tell of no removal.
        """
        trackings = trackings_in(*self._metadatas)
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
        there = self._columns
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
        """Return what can be written so that no trigger sees it, or not rightly."""
        return bypass_findings(
            self._connection, self._metadatas, self.schemas, self._looked_at
        )

    def distributed(self) -> list[Finding]:
        """Return the tables that Citus distributes in a way that is not supported."""
        return distribution_findings(self._metadatas, self.schemas, self._placements)

    def bypassed_on_shards(self) -> list[Finding]:
        """Return the shards of distributed tables that can be written without an event.

        A trigger that the table does not have is reported as missing, and one that it
        has is compared with those of the shards, on whichever nodes they are.
        """
        return shard_findings(
            self._connection,
            self._metadatas,
            self.schemas,
            self._placements,
            self._catalog,
        )

    @cached_property
    def _placements(self) -> Placements:
        if not self._server.has_citus:
            return {}
        return read_placements(self._connection, self._looked_at)

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
    models: tuple[AllModels, ...],
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
