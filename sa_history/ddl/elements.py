"""Functions, triggers and views as frozen values, and the statements that make them.

A value says what an object is; a :class:`Statement` is a SQLAlchemy DDL element that
any connection executes, with the connection's ``schema_translate_map`` and default
schema in force.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql.compiler import DDLCompiler

from sa_history._types import Level, Operation
from sa_history.exc import DefinitionError
from sa_history.sql.compose import (
    DollarQuoted,
    Fragment,
    Ident,
    Joined,
    Qualified,
    Raw,
    join,
)
from sa_history.util.identifiers import MAX_BYTES, unstorable

DEFAULT_SCHEMA = "public"
"""Where a schema of None is, when SQL is made without a connection."""

OLD_ROWS = "old_rows"
"""The transition table of the rows before a statement."""

NEW_ROWS = "new_rows"
"""The transition table of the rows after a statement."""


@dataclass(frozen=True)
class PGFunction:
    """A PL/pgSQL function.

    Where it is SECURITY DEFINER, a role that may write a table needs no right on what
    the function writes, and cannot forge it. Where its path is pinned, ``pg_temp``
    last, no caller's object is taken for one of PostgreSQL's.
    https://www.postgresql.org/docs/current/sql-createfunction.html

    :param name: with its schema.
    :param body: the text between the dollar quotes.
    :param arguments: as in CREATE FUNCTION, without the parentheses.
    :param returns: the name of the result's type.
    :param definer: whether it has the rights of its owner, and not of its caller.
    :param search_path: schemas to search for operators, between ``pg_catalog`` and
        ``pg_temp``; None leaves the path as the caller has it, which a function that
        runs for each row is faster with.
    :param by_index: whether its statements always look rows up by an index. PL/pgSQL
        keeps a plan, and one that was made for a table of no rows reads the whole
        table, however many there are later.
    """

    name: Qualified
    body: Fragment
    arguments: str = ""
    returns: str = "trigger"
    definer: bool = True
    search_path: tuple[str, ...] | None = ()
    by_index: bool = False

    def create(self, replace: bool = True) -> Fragment:
        """Return the CREATE statement.

        :param replace: what has its name already.
        """
        return Joined(
            (
                Raw("CREATE OR REPLACE FUNCTION " if replace else "CREATE FUNCTION "),
                self.name,
                Raw(f"({self.arguments}) RETURNS {self.returns}\n"),
                Raw("LANGUAGE plpgsql"),
                Raw(" SECURITY DEFINER" if self.definer else ""),
                self._path(),
                Raw(" SET enable_seqscan = off" if self.by_index else ""),
                Raw("\nAS "),
                DollarQuoted(self.body),
            )
        )

    @property
    def path(self) -> tuple[str, ...] | None:
        """The schemas that it searches, None where the caller's path stays."""
        if self.search_path is None:
            return None
        return ("pg_catalog", *self.search_path, "pg_temp")

    def _path(self) -> Fragment:
        if self.path is None:
            return Raw("")
        return Raw(" SET search_path = ") + join(", ", map(Ident, self.path))

    def target(self) -> Fragment:
        """Return how DROP and COMMENT ON call it."""
        return Joined((Raw("FUNCTION "), self.name, Raw(f"({self.arguments})")))

    def drop(self) -> Fragment:
        """Return the DROP statement; triggers that call the function go with it."""
        return Joined(
            (
                Raw("DROP FUNCTION IF EXISTS "),
                self.name,
                Raw(f"({self.arguments}) CASCADE"),
            )
        )


@dataclass(frozen=True)
class Referencing:
    """The names of the transition tables, in the body of a statement-level trigger.

    :param old: the table of the rows before the statement.
    :param new: the table of the rows after it.
    :raises DefinitionError: they cannot have the names.

    Example::

        Trigger(
            "count",
            "after",
            Insert,
            level="statement",
            referencing=Referencing(new="added"),
            body="PERFORM count(*) FROM added; RETURN NULL;",
        )
    """

    old: str | None = None
    new: str | None = None

    def __post_init__(self) -> None:
        """Check the names.

        :raises DefinitionError: they are none, or the same.
        """
        for name in (self.old, self.new):
            if name is None:
                continue
            if isinstance(name, str) and (wrong := unstorable(name)):
                raise DefinitionError(
                    f"Referencing: PostgreSQL names cannot contain {wrong}, got "
                    f"{name!r}; rename it"
                )
            if not isinstance(name, str) or not 0 < len(name.encode()) <= MAX_BYTES:
                raise DefinitionError(
                    f"Referencing: a transition table has a name of up to {MAX_BYTES} "
                    f"bytes, got {name!r}"
                )
        if self.old is not None and self.old == self.new:
            raise DefinitionError(
                f"Referencing: both transition tables are named {self.old!r}; rename "
                "one of them"
            )

    def clause(self) -> Fragment:
        """Return the REFERENCING clause."""
        tables = [
            Raw(f" {row} TABLE AS ") + Ident(name)
            for row, name in (("OLD", self.old), ("NEW", self.new))
            if name is not None
        ]
        return Joined((Raw("REFERENCING"), *tables, Raw(" ")))


def transition_tables(operation: Operation) -> Referencing:
    """Return all transition tables of an operation, with our names for them."""
    return Referencing(
        old=OLD_ROWS if operation.has_old else None,
        new=NEW_ROWS if operation.has_new else None,
    )


@dataclass(frozen=True)
class PGTrigger:
    """A trigger on a table or a view.

    :param name: unique on the table; triggers run in the order of their names.
    :param table: the table it stands on.
    :param function: what it runs.
    :param timing: ``"AFTER"``, ``"BEFORE"`` or ``"INSTEAD OF"``.
    :param operations: what fires it; exactly one, where it has transition tables.
    :param level: once for the statement or once for each row.
    :param columns: those that an update has to set, all if there are none.
    :param referencing: the transition tables that the function reads.
    :param deferrable: ``"IMMEDIATE"`` or ``"DEFERRED"``, where it is a constraint
        trigger, which can be deferred.
    :param when: the condition in WHEN.
    """

    name: str
    table: Qualified
    function: Qualified
    timing: str
    operations: tuple[Operation, ...]
    level: Level
    columns: tuple[str, ...] = ()
    referencing: Referencing | None = None
    deferrable: str | None = None
    when: Fragment | None = None

    def create(self, replace: bool = True) -> Fragment:
        """Return the CREATE statement.

        :param replace: what has its name already; PostgreSQL replaces no constraint
            triggers.
        """
        kind = "CREATE OR REPLACE TRIGGER " if replace else "CREATE TRIGGER "
        if self.deferrable is not None:
            kind = "CREATE CONSTRAINT TRIGGER "
        parts: list[Fragment] = [
            Raw(kind),
            Ident(self.name),
            Raw(f" {self.timing} "),
            join(" OR ", (self._event(operation) for operation in self.operations)),
            Raw(" ON "),
            self.table,
            Raw("\n"),
        ]
        if self.deferrable is not None:
            parts.append(Raw(f"DEFERRABLE INITIALLY {self.deferrable} "))
        if self.referencing is not None:
            parts.append(self.referencing.clause())
        parts.append(Raw(f"FOR EACH {self.level.value.upper()} "))
        if self.when is not None:
            parts += [Raw("WHEN ("), self.when, Raw(")\n")]
        parts += [Raw("EXECUTE FUNCTION "), self.function, Raw("()")]
        return Joined(tuple(parts))

    def target(self) -> Fragment:
        """Return how DROP and COMMENT ON call it."""
        return Joined((Raw("TRIGGER "), Ident(self.name), Raw(" ON "), self.table))

    def drop(self) -> Fragment:
        """Return the DROP statement."""
        return (
            Raw("DROP TRIGGER IF EXISTS ")
            + Ident(self.name)
            + Raw(" ON ")
            + (self.table)
        )

    def _event(self, operation: Operation) -> Fragment:
        if operation is Operation.UPDATE and self.columns:
            return Raw("UPDATE OF ") + join(", ", map(Ident, self.columns))
        return Raw(operation.value)


@dataclass(frozen=True)
class PGView:
    """A view.

    :param name: with its schema.
    :param columns: their names, in order.
    :param definition: the query.
    """

    name: Qualified
    columns: tuple[str, ...]
    definition: Fragment

    def create(self, replace: bool = False) -> Fragment:
        """Return the CREATE statement; PostgreSQL replaces no view by just any."""
        return Joined(
            (
                Raw("CREATE VIEW "),
                self.name,
                Raw(" ("),
                join(", ", map(Ident, self.columns)),
                Raw(") AS\n"),
                self.definition,
            )
        )

    def target(self) -> Fragment:
        """Return how DROP and COMMENT ON call it."""
        return Raw("VIEW ") + self.name

    def drop(self) -> Fragment:
        """Return the DROP statement; triggers on the view go with it."""
        return Raw("DROP VIEW IF EXISTS ") + self.name


@dataclass(frozen=True)
class PGSequence:
    """A sequence of big integers.

    :param name: with its schema.
    """

    name: Qualified

    def create(self, replace: bool = True) -> Fragment:
        """Return the CREATE statement.

        :param replace: take what has its name already, which goes on counting.
        """
        kind = "CREATE SEQUENCE IF NOT EXISTS " if replace else "CREATE SEQUENCE "
        return Raw(kind) + self.name + Raw(" AS bigint")

    def target(self) -> Fragment:
        """Return how DROP and COMMENT ON call it."""
        return Raw("SEQUENCE ") + self.name

    def drop(self) -> Fragment:
        """Return the DROP statement."""
        return Raw("DROP SEQUENCE IF EXISTS ") + self.name


DatabaseObject: TypeAlias = PGSequence | PGFunction | PGView | PGTrigger
"""What is made in the database beside tables."""


class Statement(ExecutableDDLElement):
    """A statement made of one fragment.

    :param current_schema: where a schema of None is; without it, where the dialect
        found it when it connected first.
    """

    stringify_dialect = "postgresql"

    def __init__(self, fragment: Fragment, current_schema: str | None = None) -> None:
        self.fragment = fragment
        self.current_schema = current_schema


@compiles(Statement, "postgresql")
def _compile_statement(element: Statement, compiler: DDLCompiler, **_: Any) -> str:
    translate = compiler.schema_translate_map or {}
    default = (
        element.current_schema or compiler.dialect.default_schema_name or DEFAULT_SCHEMA
    )

    def schema_name(schema: str | None) -> str:
        return translate.get(schema, schema) or default

    text = element.fragment.render(schema_name)
    # Doubles the percent signs where the driver's parameter style needs it; DDL
    # elements have to ask for it, and must only once.
    processed: str = compiler.sql_compiler.post_process_text(text)  # type: ignore[no-untyped-call]
    return processed
