"""Functions, triggers and views in a live database: what is there, and making it right.

All of it looks at what is marked as sa_history's own and at nothing else. Changes are
made in one transaction, by one process at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from sqlalchemy import Connection, Engine, MetaData, Table
from sqlalchemy.exc import DBAPIError, OperationalError

from sa_history._types import Level
from sa_history.ddl.advisory_lock import wait_for_turn
from sa_history.ddl.catalog import (
    Catalog,
    Installed,
    InstalledFunction,
    InstalledTrigger,
    read_catalog,
    read_columns,
    read_partitions,
    read_schemas,
)
from sa_history.ddl.elements import DEFAULT_SCHEMA, Statement
from sa_history.ddl.execution import begin, current_schema, require_postgresql
from sa_history.ddl.fingerprint import PREFIX
from sa_history.ddl.grants import role_problem, still_granted
from sa_history.exc import InstallError
from sa_history.install.drift import (
    Difference,
    Problem,
    differences,
    installed_as,
    kind_of,
    name_of,
)
from sa_history.install.expected import Owned, objects_of, trackings_in
from sa_history.install.plan import Step, drop_step, plan_for
from sa_history.install.privileges import (
    forbidden_past_triggers,
    guarded_in,
    harden_statements,
    ignorable,
)
from sa_history.sql.compose import Qualified, Raw, SchemaNames
from sa_history.tracking.registry import history_of

Models: TypeAlias = "MetaData | type[Any]"
"""A MetaData, or a declarative base."""


@dataclass(frozen=True)
class Finding:
    """Something in the database that is not as the models say.

    :param problem: such as ``Problem.MISSING``.
    :param kind: such as ``"trigger"``.
    :param name: of the object, with its schema or its table.
    :param command: the ``sa-history`` command that mends it, None if none does.
    :param advice: what to do, where no command mends it.

    Example::

        for finding in check(engine, Base):
            print(finding)
    """

    problem: Problem
    kind: str
    name: str
    command: str | None = None
    advice: str = ""

    def __str__(self) -> str:
        return self.told("sa-history {}")

    def told(self, command: str) -> str:
        """Return it in words.

        :param command: how a command is called, with braces for its name.
        """
        remedy = f"run {command.format(self.command)}" if self.command else self.advice
        return f"{self.problem} {self.kind} {self.name}: {remedy}"


@dataclass(frozen=True)
class State:
    """An object and its state.

    :param kind: such as ``"trigger"``.
    :param name: of the object, with its schema or its table.
    :param problem: what is wrong, None where nothing is.
    """

    kind: str
    name: str
    problem: Problem | None

    def __str__(self) -> str:
        return f"{self.problem or 'installed':10} {self.kind:8} {self.name}"


def status(bind: Engine | Connection, *models: Models) -> list[State]:
    """Return the state of each function, trigger, view and sequence.

    :param bind: an engine, or a connection; of an async one, ``await
        connection.run_sync(status, Base)``.
    :param models: declarative bases, or MetaData.
    :raises InstallError: the database cannot be read.

    Example::

        for state in status(engine, Base):
            print(state)
    """
    with _survey(bind, models) as survey:
        wrong = {(d.kind, d.name): d.problem for d in survey.differences()}
        states: dict[tuple[str, str], Problem | None] = dict.fromkeys(
            (kind_of(o.made), name_of(o.made, survey.schemas)) for o in survey.expected
        )
        return [State(*key, problem) for key, problem in {**states, **wrong}.items()]


def check(bind: Engine | Connection, *models: Models) -> list[Finding]:
    """Return what is not as the models say; it reads only, and locks nothing.

    :param bind: as for :func:`status`.
    :param models: declarative bases, or MetaData.
    :return: nothing, where all is well.
    :raises InstallError: the database cannot be read.

    Example::

        assert not check(engine, Base)
    """
    with _survey(bind, models) as survey:
        missing = survey.missing()
        found = [_finding(difference) for difference in survey.differences()]
        if missing:
            # They come with the tables, and cannot be installed before.
            found = [
                replace(finding, command=None, advice=_MIGRATE)
                if finding.problem is Problem.MISSING
                else finding
                for finding in found
            ]
        return [*missing, *found, *survey.bypassed()]


def install(
    bind: Engine | Connection, *models: Models, prune: bool = False
) -> list[str]:
    """Create what is missing, renew what is outdated, enable what is disabled.

    It is done in one transaction, or not at all. The tables have to be there.

    :param bind: as for :func:`status`; a connection's transaction stays open.
    :param models: declarative bases, or MetaData.
    :param prune: drop what the models do not have any more, as well.
    :return: what was done.
    :raises InstallError: a table is missing, or a right.

    Example::

        install(engine, Base)
    """
    with _survey(bind, models, write=True) as survey:
        missing = survey.missing()
        if missing:
            raise InstallError(
                "nothing is installed, since the database has no "
                f"{', '.join(f'{m.kind} {m.name}' for m in missing)}; {_MIGRATE}"
            )
        return survey.install(prune)


def uninstall(bind: Engine | Connection, *models: Models) -> list[str]:
    """Drop the triggers and their functions; tables, events and views stay.

    Shared functions stay as well, as long as other models call them.

    :param bind: as for :func:`status`; a connection's transaction stays open.
    :param models: declarative bases, or MetaData.
    :return: what was done.
    :raises InstallError: a right is missing.

    Example::

        uninstall(engine, Base)
    """
    with _survey(bind, models, write=True) as survey:
        return survey.uninstall()


def harden(
    bind: Engine | Connection, *models: Models, role: str, dry_run: bool = False
) -> list[str]:
    """Leave the application's role no way to its history but to read it.

    The role keeps its rights to write tracked tables, and what it writes is recorded.
    It can neither write events nor contexts, nor disable a trigger. The owner of the
    tables and superusers can still do anything.

    :param bind: as for :func:`status`; of the owner of the tables.
    :param models: declarative bases, or MetaData.
    :param role: the application's role.
    :param dry_run: change nothing.
    :return: the statements, for a migration or a DBA.
    :raises InstallError: the role owns a table or its schema, is a superuser, or does
        not exist; it has a right that the owner has not granted; the tracking of a
        table can be ignored by any client.

    Example::

        harden(engine, Base, role="app")
    """
    with _survey(bind, models, write=not dry_run) as survey:
        return survey.harden(role, dry_run)


_MIGRATE = "run the migrations, or create_all()"

_COMMANDS = {
    Problem.MISSING: "install",
    Problem.OUTDATED: "install",
    Problem.DISABLED: "install",
    Problem.ORPHANED: "install --prune",
    Problem.DUPLICATED: "install --prune",
}


def _finding(difference: Difference) -> Finding:
    command, advice = _COMMANDS.get(difference.problem), ""
    if difference.problem is Problem.NEWER:
        advice = "upgrade sa_history; a newer version has installed it"
    elif not difference.is_mendable:
        command, advice = None, "drop it yourself; sa_history has not made it"
    return Finding(
        difference.problem, difference.kind, difference.name, command, advice
    )


class _Survey:
    """What the models say, beside what a database has."""

    def __init__(
        self, connection: Connection, metadatas: list[MetaData], write: bool
    ) -> None:
        self._connection = connection
        self._metadatas = metadatas
        default = current_schema(connection) or DEFAULT_SCHEMA
        options = connection.get_execution_options()
        translate = options.get("schema_translate_map") or {}
        self.schemas: SchemaNames = lambda s: translate.get(s, s) or default
        # By their names, since several MetaData may share functions.
        expected = {
            (kind_of(o.made), name_of(o.made, self.schemas)): o
            for m in metadatas
            for o in objects_of(m)
        }
        self.expected: list[Owned] = list(expected.values())
        histories = filter(None, map(history_of, metadatas))
        self._contexts = {history.shared.context_table for history in histories}
        tables = {t: None for m in metadatas for t in m.tables.values()}
        self._tables = {self._name(table): table for table in tables}
        views = {owned.table: None for owned in self.expected}
        self._looked_at = sorted({self.schemas(t.schema) for t in (*tables, *views)})
        self._catalog: Catalog = read_catalog(
            connection, self._looked_at, definitions=write
        )

    def _name(self, table: Table) -> Qualified:
        return Qualified(self.schemas(table.schema), table.name)

    def differences(self) -> list[Difference]:
        """Return how both differ."""
        return differences(self.expected, self._catalog, self._tables, self.schemas)

    def missing(self) -> list[Finding]:
        """Return the tables and columns without which nothing works."""
        there = read_columns(self._connection, self._looked_at)
        found: list[Finding] = []
        for table in self._needed():
            qualified = self._name(table)
            name = f"{qualified.schema}.{qualified.name}"
            if qualified not in there:
                found.append(Finding(Problem.MISSING, "table", name, advice=_MIGRATE))
                continue
            found += [
                Finding(
                    Problem.MISSING, "column", f"{name}.{column.name}", advice=_MIGRATE
                )
                for column in table.columns
                if column.name not in there[qualified]
            ]
        return found

    def _needed(self) -> list[Table]:
        """Return the tables that triggers stand on, and those that they write."""
        needed = {
            owned.table: None
            for owned in self.expected
            if owned.table in self._tables.values()
        }
        for metadata in self._metadatas:
            for tracking in trackings_in(metadata):
                needed[tracking.event_table] = None
        return list(needed)

    def bypassed(self) -> list[Finding]:
        """Return the partitions that can be written without an event."""
        by_statement = {
            self._name(tracking.table)
            for metadata in self._metadatas
            for tracking in trackings_in(metadata)
            if tracking.options.level is Level.STATEMENT and tracking.recordings()
        }
        found = []
        for partition in read_partitions(self._connection, self._looked_at):
            name = f"{partition.name.schema}.{partition.name.name}"
            found += [
                Finding(
                    Problem.BYPASSED,
                    "partition",
                    name,
                    advice=f"enable the trigger {trigger} on it",
                )
                for trigger in partition.disabled
            ]
            if partition.table in by_statement:
                advice = (
                    f"a statement that names it leaves no event; write to "
                    f'{partition.table.name}, or track that with level="row"'
                )
                found.append(
                    Finding(Problem.BYPASSED, "partition", name, advice=advice)
                )
        return found

    def install(self, prune: bool) -> list[str]:
        """Make it right, and return what was done."""
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
        shared: list[InstalledFunction] = []
        functions: list[InstalledFunction] = []
        known: set[int] = set()
        for owned in self.expected:
            found = installed_as(owned.made, catalog, self.schemas)
            known.add(id(found))
            if isinstance(found, InstalledFunction):
                (shared if owned.table in self._contexts else functions).append(found)
        called = {function.name for function in functions}
        triggers: list[InstalledTrigger] = []
        other_triggers: list[InstalledTrigger] = []
        for trigger in catalog.triggers.values():
            if trigger.fingerprint is not None:
                ours = id(trigger) in known or trigger.function in called
                (triggers if ours else other_triggers).append(trigger)
        others = [f for f in catalog.functions.values() if id(f) not in known]
        # Other models, and tables that are no longer tracked, go on working.
        if not any(
            function.name.render(self.schemas) in other.source
            for function in shared
            for other in others
        ) and {function.name for function in shared}.isdisjoint(
            trigger.function for trigger in other_triggers
        ):
            functions += shared
        going: list[Installed] = [*triggers, *functions]
        steps = [drop_step(found, self.schemas) for found in going]
        self._run(steps)
        return [step.what for step in steps]

    def harden(self, role: str, dry_run: bool) -> list[str]:
        """Revoke what a role does not need, and return the statements."""
        loose = [name for m in self._metadatas for name in ignorable(m)]
        if loose:
            raise InstallError(
                f"any client may have the tracking of {', '.join(loose)} ignored; give "
                "track(..., ignorable=False), and migrate"
            )
        guarded = [each for m in self._metadatas for each in guarded_in(m)]
        named = [each.key(self.schemas) for each in guarded]
        problem = role_problem(self._connection, role, named)
        if problem is not None:
            raise InstallError(f"role {role!r} {problem}")
        statements = [
            statement.render(self.schemas)
            for statement in harden_statements(guarded, role)
        ]
        if not dry_run:
            for statement in statements:
                self._connection.execute(Statement(Raw(statement)))
            forbidden = [
                (each.key(self.schemas), privilege)
                for each in guarded
                for privilege in each.privileges
            ]
            for metadata in self._metadatas:
                forbidden += forbidden_past_triggers(metadata, self.schemas)
            still = still_granted(self._connection, role, forbidden)
            if still:
                raise InstallError(
                    f"nothing was changed: role {role!r} would still have "
                    f"{', '.join(still)}; revoke that as whoever has granted it, or "
                    "take the role out of the others"
                )
        return statements

    def _run(self, steps: Iterable[Step]) -> None:
        for step in steps:
            for statement in step.statements:
                self._connection.execute(Statement(Raw(statement)))


@contextmanager
def _survey(
    bind: Engine | Connection, models: tuple[Models, ...], write: bool = False
) -> Iterator[_Survey]:
    metadatas = [_metadata(model) for model in models]
    if not metadatas:
        raise InstallError("no models; give a declarative base, or a MetaData")
    try:
        with _transaction(bind) as connection:
            if write:
                wait_for_turn(connection)
            yield _Survey(connection, metadatas, write)
    except DBAPIError as error:
        done = "nothing was changed: " if write else ""
        raise InstallError(done + explained(error)) from error


_INSUFFICIENT_PRIVILEGE = "42501"

# A function, a trigger, and a view or a table.
_TAKEN = ("42723", "42710", "42P07")


def explained(error: DBAPIError) -> str:
    """Return what the database or the driver said, and what to do about it."""
    # Not where in our functions it was raised.
    said = str(error.orig).partition("\nCONTEXT:")[0].strip()
    # psycopg2 has another name for it.
    code = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    if code == _INSUFFICIENT_PRIVILEGE:
        return f"{said}; do it as the role that owns the tables"
    if code in _TAKEN:
        return (
            f"{said}; it has no comment of sa_history, so it may be somebody else's: "
            f"rename or drop it, or give it the comment {PREFIX!r}"
        )
    if isinstance(error, OperationalError) and error.statement is None:
        return f"the database cannot be reached: {said}; check its URL"
    return said


def _metadata(model: Any) -> MetaData:
    metadata = getattr(model, "metadata", model)
    if not isinstance(metadata, MetaData):
        raise InstallError(f"models are declarative bases or MetaData, got {model!r}")
    return metadata


@contextmanager
def _transaction(bind: Engine | Connection) -> Iterator[Connection]:
    if isinstance(bind, Engine):
        with begin(bind) as connection:
            yield connection
    elif isinstance(bind, Connection):
        # So that a failure takes back what was done, and nothing else.
        require_postgresql(bind)
        with bind.begin_nested():
            yield bind
    else:
        raise InstallError(
            f"bind is an engine or a connection, got {bind!r}; of an async engine, "
            "await connection.run_sync(...)"
        )
