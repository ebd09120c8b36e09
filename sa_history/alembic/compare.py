"""Autogenerate: what differs between the models and the database, as operations.

The comparator runs after Alembic's own, so it sees what happens to the tables, and puts
its operations before and after them. Since Alembic 1.18 comparators of others run first
unless they say otherwise. For the downgrade Alembic takes the operations in reverse
order, each by its own ``reverse()``, as :meth:`HistoryOp.reverse`.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, ops
from alembic.util import PriorityDispatchResult
from sqlalchemy import Connection, MetaData

from sa_history.alembic.arguments import x_arguments
from sa_history.alembic.column_types import render_without_prefix
from sa_history.alembic.distribution import distributions, one_node_after_another
from sa_history.alembic.event_tables import arrange_tables, changed_columns
from sa_history.alembic.first_events import baselines
from sa_history.alembic.operations import HistoryOp
from sa_history.alembic.other_packages import warn_of_drops
from sa_history.alembic.partitions import (
    first_partitions,
    leave_partitions_alone,
    repartitions,
)
from sa_history.alembic.privileges import hardenings
from sa_history.alembic.renames import rename
from sa_history.ddl.catalog import Catalog, InstalledTrigger, read_catalog
from sa_history.ddl.elements import DEFAULT_SCHEMA, PGSequence, PGTrigger
from sa_history.ddl.execution import read_server
from sa_history.install.drift import (
    Difference,
    Problem,
    differences,
    needed_by,
)
from sa_history.install.expected import ExpectedObject, objects_of
from sa_history.install.plan import Step, plan_for
from sa_history.sql.compose import Qualified, SchemaNames
from sa_history.tracking.registry import trackings_in

log = logging.getLogger("alembic.sa_history")


def compare_history(
    autogen_context: AutogenContext,
    upgrade_ops: ops.UpgradeOps,
    schemas: Iterable[str | None],
) -> PriorityDispatchResult:
    """Add the operations on functions, triggers, views and the sequence.

    :param upgrade_ops: the operations of the revision, which are changed in place.
    :param schemas: the names of schemas that Alembic compares, None for the default.
    """
    connection, metadata = autogen_context.connection, autogen_context.metadata
    if connection is not None and connection.dialect.name == "postgresql":
        listed = metadata if isinstance(metadata, Sequence) else [metadata]
        metadatas = [m for m in listed if m is not None]
        _Comparison(autogen_context, connection, metadatas, schemas).add_to(upgrade_ops)
    return PriorityDispatchResult.CONTINUE


class _Comparison:
    """One comparison of the models with a database."""

    def __init__(
        self,
        autogen_context: AutogenContext,
        connection: Connection,
        metadatas: list[MetaData],
        schemas: Iterable[str | None],
    ) -> None:
        self.autogen_context = autogen_context
        self.connection = connection
        self.metadatas = metadatas
        self.default = read_server(connection).schema or DEFAULT_SCHEMA
        self.schemas: SchemaNames = lambda schema: schema or self.default
        self.expected: list[ExpectedObject] = [
            expected_object
            for metadata in metadatas
            for expected_object in objects_of(metadata)
        ]
        # Objects that the models expect are compared in any schema, as Alembic compares
        # tables. Objects that they do not expect are looked for in those schemas only
        # that Alembic compares.
        self.looked_at = {self.schemas(schema) for schema in schemas}
        of_models = {
            self.schemas(expected_object.table.schema)
            for expected_object in self.expected
        }
        self.partitions: dict[Qualified, set[Qualified]] = {}
        self.catalog: Catalog = read_catalog(
            connection, sorted(self.looked_at | of_models)
        )

    def add_to(self, upgrade_ops: ops.UpgradeOps) -> None:
        """Change the operations of the revision."""
        self.partitions = leave_partitions_alone(
            self.connection, upgrade_ops, self.metadatas, self.schemas
        )
        warn_of_drops(upgrade_ops.ops, (each.definition for each in self.expected))
        arguments = x_arguments(self.autogen_context)
        renames = rename(arguments, upgrade_ops, self.metadatas, self.schemas)
        first_events = (
            baselines(upgrade_ops, self.metadatas, self.schemas)
            if "baseline" in arguments
            else []
        )
        arrange_tables(self.autogen_context, upgrade_ops, self.metadatas, self.schemas)
        render_without_prefix(self.autogen_context)
        plan = plan_for(
            self._included(
                self._differences(upgrade_ops, renames.tables), renames.sequences
            ),
            self.expected,
            self.catalog,
            self.schemas,
            changed_columns(upgrade_ops, self.schemas),
            {*self.partitions, *self._partitioned()},
            self._guards(renames.tables),
        )
        before: list[MigrateOperation] = [
            *map(_operation, plan.first),
            *renames.operations,
        ]
        after: list[MigrateOperation] = [
            *distributions(self.connection, self.metadatas, self.schemas),
            *map(_operation, plan.last),
            *first_partitions(upgrade_ops, self.metadatas, self.schemas),
            *repartitions(
                self.connection,
                upgrade_ops,
                self.metadatas,
                self.schemas,
                self.partitions,
            ),
            *first_events,
            *hardenings(arguments, self.connection, self.metadatas, self.schemas),
        ]
        if upgrade_ops.ops and (before or after):
            before[:0] = one_node_after_another(self.connection, self.metadatas)
        for operation in (*before, *after):
            log.info("Detected %s", _words(operation))
        upgrade_ops.ops[:0] = before
        upgrade_ops.ops += after

    def _differences(
        self, upgrade_ops: ops.UpgradeOps, renamed: Mapping[Qualified, Qualified]
    ) -> list[Difference]:
        tables = renamed.keys() | {
            Qualified.of(table, self.schemas)
            for metadata in self.metadatas
            for table in metadata.tables.values()
        }
        going = {
            Qualified(self.schemas(operation.schema), operation.table_name)
            for operation in upgrade_ops.ops
            if isinstance(operation, ops.DropTableOp)
        }
        # The triggers of partitions go with them, and do not need their function then.
        going = going.union(*(self.partitions.get(table, ()) for table in going))
        found = differences(self.expected, self.catalog, tables, self.schemas, going)
        return [d for d in found if not self._is_on_partition(d)]

    def _partitioned(self) -> Iterator[Qualified]:
        """Yield the event tables that have partitions in the models."""
        for tracking in trackings_in(*self.metadatas):
            if tracking.options.partition_by is not None:
                table = tracking.event_table
                yield Qualified.of(table, self.schemas)

    def _guards(
        self, renamed: Mapping[Qualified, Qualified]
    ) -> dict[Qualified, PGTrigger | None]:
        """Return the append-only triggers of the tables that the database partitions.

        :param renamed: the names after the revision, by those before.
        :return: by the names of the tables, before and after; None for a table that has
            none in the models.
        """
        guards: dict[Qualified, PGTrigger | None] = {}
        for table in self.partitions:
            guards |= dict.fromkeys([table, renamed.get(table, table)])
        for tracking in trackings_in(*self.metadatas):
            events = tracking.event_table
            name = Qualified.of(events, self.schemas)
            if name in guards:
                guards[name] = tracking.append_only_trigger()
        return guards

    def _is_on_partition(self, difference: Difference) -> bool:
        installed = difference.installed
        return isinstance(installed, InstalledTrigger) and any(
            installed.relation in found for found in self.partitions.values()
        )

    def _included(
        self, found: list[Difference], renamed: Container[Qualified]
    ) -> list[Difference]:
        included = [d for d in found if self._is_included(d, renamed)]
        excluded = [d.installed for d in found if d.expected is None]
        mended = {id(d.installed) for d in included}
        staying = [
            stray
            for stray in excluded
            if isinstance(stray, InstalledTrigger) and id(stray) not in mended
        ]
        # Those of another application, whose tables the filters leave out.
        needed = {id(function) for function in needed_by(staying, self.catalog)}
        return [d for d in included if d.expected or id(d.installed) not in needed]

    def _is_included(
        self, difference: Difference, renamed: Container[Qualified]
    ) -> bool:
        """Return True if the filters of ``env.py`` take it, and it is ours to mend."""
        definition = difference.expected.definition if difference.expected else None
        if (
            isinstance(definition, PGSequence)
            and definition.name.in_database(self.schemas) in renamed
        ):
            return False
        if difference.problem is Problem.NEWER:
            log.warning(
                "%s %s was made by a newer sa_history, and stays; upgrade the library",
                difference.kind,
                difference.name,
            )
        return difference.is_mendable and self._is_wanted(difference)

    def _is_wanted(self, difference: Difference) -> bool:
        object_filters: Any = self.autogen_context.run_object_filters
        expected_object, installed = difference.expected, difference.installed
        if expected_object is None:
            return self._is_named(difference)
        definition, table = expected_object.definition, expected_object.table
        name = (
            definition.name
            if isinstance(definition, PGTrigger)
            else definition.name.name
        )
        reflected = installed is not None
        return bool(
            object_filters(table, table.name, "table", reflected, None)
            and object_filters(table, name, difference.kind, reflected, None)
        )

    def _is_named(self, difference: Difference) -> bool:
        name_filters: Any = self.autogen_context.run_name_filters
        installed = difference.installed
        assert installed is not None
        if isinstance(installed, InstalledTrigger):
            named, kinds = installed.relation, ["table"]
        else:
            named, kinds = installed.name, [installed.kind]
        if named.schema not in self.looked_at:
            return False
        if named in self.catalog.views:
            kinds = ["table", "view"]  # in the models it is a Table
        schema = None if named.schema == self.default else named.schema
        parents = {"schema_name": schema}
        if not all(name_filters(named.name, kind, {**parents}) for kind in kinds):
            return False
        of_table = {**parents, "table_name": named.name}
        return not isinstance(installed, InstalledTrigger) or bool(
            name_filters(installed.name, "trigger", of_table)
        )


def _words(operation: MigrateOperation) -> str:
    """Return what is shown of an operation, as Alembic shows "added table"."""
    if isinstance(operation, HistoryOp):
        return operation.what
    name, *about = operation.to_diff_tuple()
    return f"{name} {' '.join(map(str, about))}"


def _operation(step: Step) -> HistoryOp:
    undo = (step.undo, step.undo_statements)
    return HistoryOp(step.what, step.statements, undo)
