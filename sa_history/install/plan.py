"""The steps that mend differences, and their order.

PostgreSQL drops and retypes no column that a trigger or a view names, so those that
are in the way or will be made anew go first; then tables may change; last come the
functions, views and triggers as they shall be. What takes a step back restores what was
there, as it was.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from sa_history._types import Level
from sa_history.capture.append_only import append_only_trigger
from sa_history.ddl.catalog import Catalog, Installed, InstalledTrigger, InstalledView
from sa_history.ddl.elements import (
    DatabaseObject,
    PGFunction,
    PGSequence,
    PGTrigger,
    PGView,
)
from sa_history.ddl.fingerprint import SetComment, fingerprint_of
from sa_history.ddl.partitions import (
    create_trigger_of_partitions,
    drop_trigger_of_partitions,
)
from sa_history.install.drift import (
    Difference,
    Problem,
    kind_of,
    name_of,
    name_of_installed,
)
from sa_history.install.expected import ExpectedObject
from sa_history.sql.compose import Fragment, Qualified, Raw, SchemaNames


@dataclass(frozen=True)
class Step:
    """Statements that make one change, and those that take it back.

    :param what: what the statements do, in words.
    :param statements: final SQL.
    :param undo: what the other statements do, in words.
    :param undo_statements: final SQL that takes the step back.
    """

    what: str
    statements: tuple[str, ...]
    undo: str
    undo_statements: tuple[str, ...]


@dataclass(frozen=True)
class PlannedSteps:
    """The steps before tables change, and those after it."""

    first: tuple[Step, ...]
    last: tuple[Step, ...]


def plan_for(
    found: Sequence[Difference],
    expected: Sequence[ExpectedObject],
    catalog: Catalog,
    schemas: SchemaNames,
    changing: Mapping[Qualified, set[str]],
    partitioned: Container[Qualified] = (),
    guards: Mapping[Qualified, PGTrigger | None] = MappingProxyType({}),
) -> PlannedSteps:
    """Return the steps that make the database as the models say.

    :param found: the differences to mend.
    :param expected: all objects that the models expect.
    :param catalog: all objects that are installed.
    :param schemas: gives the name in the database of a schema of the models.
    :param changing: the columns, by table, that are dropped or get another type
        between the first and the last steps.
    :param partitioned: the event tables with partitions that ``found`` leaves out. The
        command that ends partitions has given each the triggers of its table, and they
        need their function as long as they are there.
    :param guards: those of them that the database has, by their names there, with the
        append-only trigger that each has to have; None for one that has none. Their
        partitions get it together with the table.
    """
    return _Planner(
        found, expected, catalog, schemas, changing, partitioned, guards
    ).plan()


def drop_step(installed: Installed, schemas: SchemaNames) -> Step:
    """Return the step that drops an object, and fails where others need it."""
    target = f"{installed.kind} {name_of_installed(installed)}"
    return Step(
        f"drop {target}",
        ((Raw("DROP ") + installed.target()).render(schemas),),
        f"create {target}",
        tuple(statement.render(schemas) for statement in installed.restore()),
    )


class _Planner:
    def __init__(
        self,
        found: Sequence[Difference],
        expected: Sequence[ExpectedObject],
        catalog: Catalog,
        schemas: SchemaNames,
        changing: Mapping[Qualified, set[str]],
        partitioned: Container[Qualified],
        guards: Mapping[Qualified, PGTrigger | None],
    ) -> None:
        self.found = found
        self.expected = expected
        self.catalog = catalog
        self.schemas = schemas
        self.changing = changing
        self.partitioned = partitioned
        self.guards = guards
        self._going = {
            id(d.installed) for d in found if d.problem is not Problem.DISABLED
        }

    def plan(self) -> PlannedSteps:
        views = self._views_to_renew()
        # A view comes after those that it reads, and goes before them.
        renewed: list[Installed] = [*self._triggers_to_renew(views), *reversed(views)]
        return PlannedSteps(
            first=(
                *map(self._drop, renewed),
                *map(self._create, self._missing_sequences()),
            ),
            last=(
                *self._functions(),
                *self._views_and_triggers(renewed),
                *self._enabled(),
                *map(self._drop, self._leftovers()),
            ),
        )

    def _goes(self, installed: Installed) -> bool:
        """Return True if an object is dropped, or made anew."""
        return id(installed) in self._going

    def _views_to_renew(self) -> list[InstalledView]:
        reads: dict[Qualified, set[Qualified]] = {
            expected_object.definition.name.in_database(self.schemas): {
                Qualified.of(table, self.schemas) for table in expected_object.reads
            }
            for expected_object in self.expected
            if isinstance(expected_object.definition, PGView)
        }
        going = set(self.changing)
        views = []
        for view in self.catalog.views.values():
            if self._goes(view) or not going.isdisjoint(reads.get(view.name, ())):
                views.append(view)
                going.add(view.name)
        return views

    def _triggers_to_renew(
        self, views: Sequence[InstalledView]
    ) -> list[InstalledTrigger]:
        names = {view.name for view in views}
        return [
            trigger
            for trigger in self.catalog.triggers.values()
            if self._goes(trigger)
            or (trigger.fingerprint is not None and trigger.relation in names)
            or not self.changing.get(trigger.relation, set()).isdisjoint(
                trigger.depends_on
            )
        ]

    def _missing_sequences(self) -> list[PGSequence]:
        missing = {
            # Two MetaData may have one together.
            difference.name: difference.expected.definition
            for difference in self.found
            if difference.problem is Problem.MISSING
            and difference.expected is not None
            and isinstance(difference.expected.definition, PGSequence)
        }
        return list(missing.values())

    def _functions(self) -> list[Step]:
        steps = []
        for difference in self.found:
            definition = difference.expected.definition if difference.expected else None
            if not isinstance(definition, PGFunction):
                continue
            before = difference.installed
            if before is None:
                steps.append(self._create(definition))
            else:
                steps.append(
                    Step(
                        f"replace function {difference.name}",
                        self._sql(definition.create(), SetComment(definition)),
                        f"restore function {difference.name}",
                        self._sql(*before.restore()),
                    )
                )
        return steps

    def _views_and_triggers(self, renewed: Sequence[Installed]) -> list[Step]:
        gone = {(gone.kind, name_of_installed(gone)): gone for gone in renewed}
        missing = {id(d.expected) for d in self.found if d.problem is Problem.MISSING}
        steps = []
        for kind in (PGView, PGTrigger):
            for expected_object in self.expected:
                if not isinstance(expected_object.definition, kind):
                    continue
                name = name_of(expected_object.definition, self.schemas)
                before = gone.get((kind_of(expected_object.definition), name))
                if before is not None or id(expected_object) in missing:
                    steps.append(self._create(expected_object.definition, before))
        return steps

    def _enabled(self) -> list[Step]:
        return [
            Step(
                f"enable trigger {difference.name}",
                self._sql(difference.installed.enable("O")),
                f"disable trigger {difference.name}",
                self._sql(difference.installed.enable("D")),
            )
            for difference in self.found
            if difference.problem is Problem.DISABLED
            and isinstance(difference.installed, InstalledTrigger)
        ]

    def _leftovers(self) -> list[Installed]:
        """Return the functions and sequences that nothing uses any more."""
        return [
            difference.installed
            for kind in ("function", "sequence")
            for difference in self.found
            if difference.expected is None
            and difference.installed is not None
            and difference.kind == kind
        ]

    def _create(
        self, definition: DatabaseObject, before: Installed | None = None
    ) -> Step:
        target = f"{kind_of(definition)} {name_of(definition, self.schemas)}"
        # Not OR REPLACE: what has the name and is not ours shall stay.
        statements: list[Fragment] = [
            definition.create(replace=False),
            SetComment(definition),
        ]
        if isinstance(before, InstalledTrigger) and before.enabled in ("A", "R"):
            # Whoever made it fire on a replica meant it.
            statements.append(before.enable(before.enabled))
        undo = [Raw("DROP ") + definition.target()]
        if isinstance(definition, PGTrigger) and definition.level is Level.STATEMENT:
            table = definition.table.in_database(self.schemas)
            undo[:0] = self._drop_of_partitions(table, definition.name)
            if definition == self.guards.get(table):
                statements.append(create_trigger_of_partitions(definition))
        return Step(
            f"create {target}",
            self._sql(*statements),
            f"drop {target}",
            self._sql(*undo),
        )

    def _drop(self, installed: Installed) -> Step:
        step = drop_step(installed, self.schemas)
        if isinstance(installed, InstalledTrigger) and not installed.is_for_rows:
            first = self._drop_of_partitions(installed.relation, installed.name)
            step = replace(
                step,
                statements=(*self._sql(*first), *step.statements),
                undo_statements=(
                    *step.undo_statements,
                    *self._sql(*self._create_of_partitions(installed)),
                ),
            )
        return step

    def _drop_of_partitions(self, table: Qualified, trigger: str) -> list[Fragment]:
        is_partitioned = table in self.partitioned
        return [drop_trigger_of_partitions(table, trigger)] if is_partitioned else []

    def _create_of_partitions(self, installed: InstalledTrigger) -> list[Fragment]:
        """Return what gives partitions a trigger again that their table has now."""
        if installed.relation not in self.guards:
            return []
        guard = append_only_trigger(
            installed.name, installed.relation, installed.function
        )
        is_guard = fingerprint_of(guard, self.schemas) == installed.fingerprint
        return [create_trigger_of_partitions(guard)] if is_guard else []

    def _sql(self, *statements: Fragment) -> tuple[str, ...]:
        return tuple(statement.render(self.schemas) for statement in statements)
