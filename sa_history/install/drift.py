"""Drift: the differences between installed objects and those the models expect."""

from __future__ import annotations

import enum
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass

from sa_history._types import Level, Operation
from sa_history.ddl.catalog import (
    TRIGGER_TYPE_ROW,
    Catalog,
    Installed,
    InstalledFunction,
    InstalledTrigger,
    InstalledView,
    names_in,
)
from sa_history.ddl.elements import (
    DatabaseObject,
    PGFunction,
    PGSequence,
    PGTrigger,
    PGView,
)
from sa_history.ddl.fingerprint import fingerprint_of
from sa_history.install.expected import ExpectedObject
from sa_history.sql.compose import Qualified, SchemaNames


class Problem(str, enum.Enum):
    """What is wrong with an object."""

    MISSING = "missing"
    """It is not there."""
    OUTDATED = "outdated"
    """It is not as the models say."""
    DISABLED = "disabled"
    """A trigger does not fire."""
    ORPHANED = "orphaned"
    """The models do not have it any more, or it was detached."""
    DUPLICATED = "duplicated"
    """Another trigger calls the function as well."""
    NEWER = "newer"
    """A newer sa_history has installed it."""
    BYPASSED = "bypassed"
    """Rows can be written past a trigger."""
    UNORDERED = "unordered"
    """Foreign keys of the database disturb the order of events."""
    OVERDUE = "overdue"
    """A partition should have ended, or be gone."""
    DISTRIBUTED = "distributed"
    """Citus has the table in a way that is not supported."""

    __str__ = str.__str__


@dataclass(frozen=True, eq=False)
class Difference:
    """One object that is not as it should be.

    :param problem: what is wrong.
    :param kind: ``"function"``, ``"trigger"``, ``"view"`` or ``"sequence"``.
    :param name: how messages call it.
    :param expected: the object that the models expect, None if they expect none.
    :param installed: the object that is installed, None if none is.
    """

    problem: Problem
    kind: str
    name: str
    expected: ExpectedObject | None
    installed: Installed | None

    @property
    def is_mendable(self) -> bool:
        """True if it is the library's to mend.

        An object of a newer library is not, nor is a trigger of somebody else that
        calls a function of the library.
        """
        is_foreign = (
            self.expected is None
            and isinstance(self.installed, InstalledTrigger)
            and self.installed.fingerprint is None
        )
        return self.problem is not Problem.NEWER and not is_foreign


def differences(
    expected: Sequence[ExpectedObject],
    catalog: Catalog,
    tables: Container[Qualified],
    schemas: SchemaNames,
    going: Container[Qualified] = (),
) -> list[Difference]:
    """Return the differences, first those of objects that the models expect.

    What belongs to event tables that the models do not have any more makes no
    difference: history stays, protected as it was.

    :param tables: the tables of the models, by their names in the database.
    :param schemas: gives the name in the database of a schema of the models.
    :param going: tables that are dropped, with all that is there for them.
    """
    found: list[Difference] = []
    known: set[int] = set()
    for expected_object in expected:
        definition = expected_object.definition
        installed = find_installed(definition, catalog, schemas)
        problem = _problem(definition, installed, schemas)
        known.add(id(installed))
        if problem is not None:
            kind, name = kind_of(definition), name_of(definition, schemas)
            found.append(Difference(problem, kind, name, expected_object, installed))
    functions = {
        expected_object.definition.name.in_database(schemas)
        for expected_object in expected
        if isinstance(expected_object.definition, PGFunction)
    }
    kept = _kept(catalog, tables, going)
    for stray in catalog.all():
        if id(stray) in known or id(stray) in kept:
            continue
        again = isinstance(stray, InstalledTrigger) and stray.function in functions
        problem = Problem.DUPLICATED if again else Problem.ORPHANED
        name = name_of_installed(stray)
        found.append(Difference(problem, stray.kind, name, None, stray))
    return found


_KINDS: dict[type[DatabaseObject], str] = {
    PGFunction: "function",
    PGTrigger: "trigger",
    PGView: "view",
    PGSequence: "sequence",
}


def kind_of(definition: DatabaseObject) -> str:
    """Return the kind of an object, such as ``"trigger"``."""
    return _KINDS[type(definition)]


def name_of(definition: DatabaseObject, schemas: SchemaNames) -> str:
    """Return the name of an object in messages: a trigger's with its table."""
    if isinstance(definition, PGTrigger):
        return f"{definition.name} on {definition.table.in_database(schemas).dotted}"
    return definition.name.in_database(schemas).dotted


def name_of_installed(installed: Installed) -> str:
    """Return the name of an installed object in messages."""
    if isinstance(installed, InstalledTrigger):
        return f"{installed.name} on {installed.relation.dotted}"
    return installed.name.dotted


def _kept(
    catalog: Catalog, tables: Container[Qualified], going: Container[Qualified]
) -> set[int]:
    """Return the ids of objects that serve event tables the models do not have."""
    triggers = [
        trigger
        for trigger in catalog.triggers.values()
        if trigger.is_on_events
        and trigger.relation not in tables
        and trigger.relation not in going
    ]
    called = {trigger.function for trigger in triggers}
    functions = [f for f in catalog.functions.values() if f.name in called]
    sequences = [
        sequence
        for sequence in catalog.sequences.values()
        if any(table not in going for table in sequence.used_by)
    ]
    return {id(kept) for kept in (*triggers, *functions, *sequences)}


def needed_by(
    triggers: Sequence[InstalledTrigger], catalog: Catalog
) -> list[InstalledFunction]:
    """Return the functions that triggers need: theirs, and those that these call.

    PostgreSQL does not know which functions a function calls; those that others call
    are the library's fixed functions, which carry a version.
    """
    called = {trigger.function for trigger in triggers}
    return [
        function
        for function in catalog.functions.values()
        if function.name in called or (triggers and _version(function.source))
    ]


def find_installed(
    wanted: DatabaseObject, catalog: Catalog, schemas: SchemaNames
) -> Installed | None:
    """Return the installed object of the same kind and name, or None."""
    if isinstance(wanted, PGTrigger):
        return catalog.triggers.get((wanted.table.in_database(schemas), wanted.name))
    name = wanted.name.in_database(schemas)
    if isinstance(wanted, PGFunction):
        return catalog.functions.get((name, names_in(wanted.arguments)))
    if isinstance(wanted, PGView):
        return catalog.views.get(name)
    return catalog.sequences.get(name)


def _problem(
    wanted: DatabaseObject, installed: Installed | None, schemas: SchemaNames
) -> Problem | None:
    if installed is None:
        return Problem.MISSING
    if isinstance(wanted, PGFunction) and isinstance(installed, InstalledFunction):
        return _function_problem(wanted, installed, schemas)
    if isinstance(wanted, PGTrigger) and isinstance(installed, InstalledTrigger):
        if not _is_like(wanted, installed, schemas):
            return Problem.OUTDATED
        return Problem.DISABLED if installed.enabled == "D" else None
    if isinstance(wanted, PGView) and isinstance(installed, InstalledView):
        same = wanted.columns == installed.columns
        same = same and installed.fingerprint == fingerprint_of(wanted, schemas)
        return None if same else Problem.OUTDATED
    return None


def _function_problem(
    wanted: PGFunction, installed: InstalledFunction, schemas: SchemaNames
) -> Problem | None:
    body = wanted.body.render(schemas)
    if (
        body == installed.source
        and wanted.definer == installed.definer
        and wanted.path == installed.path
        and wanted.by_index == installed.by_index
        and wanted.settings == installed.settings
    ):
        return None
    is_newer = _version(installed.source) > _version(body)
    return Problem.NEWER if is_newer else Problem.OUTDATED


_VERSION = re.compile(r"^-- sa_history: version (\d+)$", re.MULTILINE)


def _version(body: str) -> int:
    """Return the version of one of the library's fixed functions; 0 of others."""
    found = _VERSION.search(body)
    return int(found[1]) if found else 0


# The bits of pg_trigger.tgtype; see src/include/catalog/pg_trigger.h of PostgreSQL.
_TIMING = {"AFTER": 0, "BEFORE": 2, "INSTEAD OF": 64}
_FIRES = {
    Operation.INSERT: 4,
    Operation.DELETE: 8,
    Operation.UPDATE: 16,
    Operation.TRUNCATE: 32,
}


def _is_like(wanted: PGTrigger, there: InstalledTrigger, schemas: SchemaNames) -> bool:
    bits = (TRIGGER_TYPE_ROW if wanted.level is Level.ROW else 0) | _TIMING[
        wanted.timing
    ]
    for operation in wanted.operations:
        bits |= _FIRES[operation]
    rows = wanted.referencing
    return (
        bits == there.type
        and wanted.function.in_database(schemas) == there.function
        and (wanted.when is not None) == there.has_condition
        and wanted.deferrable == there.deferrable
        and (rows.old if rows else None) == there.old_rows
        and (rows.new if rows else None) == there.new_rows
        and set(wanted.columns) == set(there.columns)
        # For the condition, which PostgreSQL gives back in words of its own.
        and fingerprint_of(wanted, schemas) == there.fingerprint
    )
