"""Functions, triggers and views as frozen values, and their CREATE statements.

A value says what an object is; a :class:`Statement` is a SQLAlchemy DDL element that
any connection executes, with the connection's ``schema_translate_map`` and default
schema in force.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    Literal,
    Qualified,
    Raw,
    join,
)
from sa_history.sql.one_line import one_line
from sa_history.util.identifiers import MAX_BYTES, unstorable

DEFAULT_SCHEMA = "public"
"""The schema that None stands for when SQL is made without a connection."""

OLD_ROWS = "old_rows"
"""The transition table of the rows before a statement."""

NEW_ROWS = "new_rows"
"""The transition table of the rows after a statement."""


@dataclass(frozen=True)
class PGFunction:
    """A PL/pgSQL function.

    With SECURITY DEFINER, a role that may write a table needs no privilege on what the
    function writes, and cannot forge it. With a ``search_path`` of its own, ``pg_temp``
    last, the function never takes a caller's object for one of PostgreSQL's.
    https://www.postgresql.org/docs/current/sql-createfunction.html

    :param name: the name, with its schema.
    :param body: the text between the dollar quotes.
    :param arguments: as in CREATE FUNCTION, without the parentheses.
    :param returns: the name of the result's type.
    :param definer: True for SECURITY DEFINER: the rights of its owner instead of those
        of its caller.
    :param search_path: schemas to search for operators, between ``pg_catalog`` and
        ``pg_temp``; None for the caller's path, which makes a function that runs for
        each row faster.
    :param by_index: True to set ``enable_seqscan`` off in it. PL/pgSQL keeps a plan,
        and one that was made for an empty table reads the whole table, however many
        rows there are later.
    :param settings: more settings that hold while it runs, as pairs of a name and a
        value.
    """

    name: Qualified
    body: Fragment
    arguments: str = ""
    returns: str = "trigger"
    definer: bool = True
    search_path: tuple[str, ...] | None = ()
    by_index: bool = False
    settings: tuple[tuple[str, str], ...] = ()

    def create(self, replace: bool = True) -> Fragment:
        """Return the CREATE statement.

        :param replace: replace a function of the same name instead of failing.
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
                *(
                    Raw(f" SET {name} = ") + Literal(value)
                    for name, value in self.settings
                ),
                Raw("\nAS "),
                DollarQuoted(self.body),
            )
        )

    @property
    def path(self) -> tuple[str, ...] | None:
        """The whole ``search_path`` of the function; None for the caller's."""
        if self.search_path is None:
            return None
        return ("pg_catalog", *self.search_path, "pg_temp")

    def _path(self) -> Fragment:
        if self.path is None:
            return Raw("")
        return Raw(" SET search_path = ") + join(", ", map(Ident, self.path))

    def target(self) -> Fragment:
        """Return its name as DROP and COMMENT ON have it."""
        return Joined((Raw("FUNCTION "), self.name, Raw(f"({self.arguments})")))

    def drop(self) -> Fragment:
        """Return the DROP statement; triggers that call the function go with it."""
        return drop_function(self.name, self.arguments)


def drop_function(name: Qualified, arguments: str = "") -> Fragment:
    """Return the DROP statement of a function; triggers that call it go with it.

    :param arguments: as in CREATE FUNCTION, without the parentheses.
    """
    return Joined(
        (Raw("DROP FUNCTION IF EXISTS "), name, Raw(f"({arguments}) CASCADE"))
    )


@dataclass(frozen=True)
class Referencing:
    """The names of the transition tables, in the body of a statement-level trigger.

    :param old: the name for the rows before the statement; None for no such table.
    :param new: the name for the rows after the statement; None for no such table.
    :raises DefinitionError: a name is no name of PostgreSQL, or both are the same.

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

        :raises DefinitionError: a name is no name of PostgreSQL, or both are the same.
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
                    f"bytes, got {name!r}; rename it"
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


ENABLED = {"O": "ENABLE", "D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}
"""The words of ALTER TABLE for each value of ``pg_trigger.tgenabled``."""


def switch_trigger(table: Qualified, name: str, state: str) -> Fragment:
    """Return the statement that enables or disables a trigger.

    :param table: the table of the trigger.
    :param name: the trigger's name.
    :param state: a key of :data:`ENABLED`.
    """
    how = Raw(f" {ENABLED[state]} TRIGGER ")
    return Joined((Raw("ALTER TABLE "), table, how, Ident(name)))


def drop_trigger(table: Qualified, name: str) -> Fragment:
    """Return the statement that drops a trigger.

    :param table: the table of the trigger.
    :param name: the trigger's name.
    """
    return Joined((Raw("DROP TRIGGER "), Ident(name), Raw(" ON "), table))


def transition_tables(operation: Operation) -> Referencing:
    """Return the transition tables of an operation, ``old_rows`` and ``new_rows``."""
    return Referencing(
        old=OLD_ROWS if operation.has_old else None,
        new=NEW_ROWS if operation.has_new else None,
    )


@dataclass(frozen=True)
class PGTrigger:
    """A trigger on a table or a view.

    :param name: unique on the table; triggers run in the order of their names.
    :param table: the table or view that it is on.
    :param function: the function that it runs.
    :param timing: ``"AFTER"``, ``"BEFORE"`` or ``"INSTEAD OF"``.
    :param operations: the operations that fire it; exactly one if it has transition
        tables.
    :param level: whether it runs once for each row or once for the statement.
    :param columns: the columns of UPDATE OF; none for any update.
    :param referencing: the transition tables that the function reads; None for none.
    :param deferrable: ``"IMMEDIATE"`` or ``"DEFERRED"`` for a constraint trigger; None
        for a trigger that cannot be deferred.
    :param when: the condition in WHEN; None for none.
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

        :param replace: replace a trigger of the same name instead of failing;
            PostgreSQL cannot replace constraint triggers.
        """
        before, after = self.around_table(replace)
        return Joined((before, self.table, after))

    def around_table(self, replace: bool = True) -> tuple[Fragment, Fragment]:
        """Return what stands in the CREATE statement before its table, and after it.

        :param replace: as of :meth:`create`.
        """
        kind = "CREATE OR REPLACE TRIGGER " if replace else "CREATE TRIGGER "
        if self.deferrable is not None:
            kind = "CREATE CONSTRAINT TRIGGER "
        before: list[Fragment] = [
            Raw(kind),
            Ident(self.name),
            Raw(f" {self.timing} "),
            join(" OR ", (self._event(operation) for operation in self.operations)),
            Raw(" ON "),
        ]
        parts: list[Fragment] = [Raw("\n")]
        if self.deferrable is not None:
            parts.append(Raw(f"DEFERRABLE INITIALLY {self.deferrable} "))
        if self.referencing is not None:
            parts.append(self.referencing.clause())
        parts.append(Raw(f"FOR EACH {self.level.value.upper()} "))
        if self.when is not None:
            parts += [Raw("WHEN ("), self.when, Raw(")\n")]
        parts += [Raw("EXECUTE FUNCTION "), self.function, Raw("()")]
        return Joined(tuple(before)), Joined(tuple(parts))

    def on(self, table: Qualified) -> PGTrigger:
        """Return the same trigger on another table."""
        return replace(self, table=table)

    def target(self) -> Fragment:
        """Return its name as DROP and COMMENT ON have it."""
        return Raw("TRIGGER ") + self._name_on_table()

    def drop(self) -> Fragment:
        """Return the DROP statement."""
        return Raw("DROP TRIGGER IF EXISTS ") + self._name_on_table()

    def _name_on_table(self) -> Fragment:
        return Joined((Ident(self.name), Raw(" ON "), self.table))

    def _event(self, operation: Operation) -> Fragment:
        if operation is Operation.UPDATE and self.columns:
            return Raw("UPDATE OF ") + join(", ", map(Ident, self.columns))
        return Raw(operation.value)


@dataclass(frozen=True)
class PGView:
    """A view.

    :param name: with its schema.
    :param columns: the names of its columns, in order.
    :param definition: the query.
    """

    name: Qualified
    columns: tuple[str, ...]
    definition: Fragment

    def create(self, replace: bool = False) -> Fragment:
        """Return the CREATE statement.

        :param replace: has no effect: PostgreSQL replaces a view only by one with the
            same columns.
        """
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
        """Return its name as DROP and COMMENT ON have it."""
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

        :param replace: keep a sequence of the same name, and its numbers, instead of
            failing.
        """
        kind = "CREATE SEQUENCE IF NOT EXISTS " if replace else "CREATE SEQUENCE "
        return Raw(kind) + self.name + Raw(" AS bigint")

    def target(self) -> Fragment:
        """Return its name as DROP and COMMENT ON have it."""
        return Raw("SEQUENCE ") + self.name

    def drop(self) -> Fragment:
        """Return the DROP statement."""
        return Raw("DROP SEQUENCE IF EXISTS ") + self.name


DatabaseObject: TypeAlias = PGSequence | PGFunction | PGView | PGTrigger
"""An object in the database that is not a table."""


class Statement(ExecutableDDLElement):
    """A statement made of one fragment.

    :param fragment: the SQL of the statement.
    :param current_schema: the schema that None stands for; if None itself, the
        ``default_schema_name`` of the dialect, that of its first connection.
    :param in_one_line: True to write it without line breaks, for a program that may
        take them out of what it is given. A dialect with ``paramstyle="named"``, as a
        script for psql needs it, has the line breaks all the same.
    """

    stringify_dialect = "postgresql"

    def __init__(
        self,
        fragment: Fragment,
        current_schema: str | None = None,
        in_one_line: bool = False,
    ) -> None:
        self.fragment = fragment
        self.current_schema = current_schema
        self.in_one_line = in_one_line


class Script(ExecutableDDLElement):
    """Several DDL elements of SQLAlchemy's in one message.

    :param elements: the elements, in order.
    """

    stringify_dialect = "postgresql"

    def __init__(self, elements: Sequence[ExecutableDDLElement]) -> None:
        self.elements = elements


@compiles(Script, "postgresql")
def _compile_script(element: Script, compiler: DDLCompiler, **_: Any) -> str:
    return ";\n".join(compiler.process(part) for part in element.elements)


@compiles(Statement, "postgresql")
def _compile_statement(element: Statement, compiler: DDLCompiler, **_: Any) -> str:
    translate = compiler.schema_translate_map or {}
    default = (
        element.current_schema or compiler.dialect.default_schema_name or DEFAULT_SCHEMA
    )

    def schema_name(schema: str | None) -> str:
        return translate.get(schema, schema) or default

    text = element.fragment.render(schema_name)
    if element.in_one_line and compiler.dialect.paramstyle != "named":
        text = one_line(text)
    # Doubles the percent signs where the driver's parameter style needs it; DDL
    # elements have to ask for it, and must only once.
    processed: str = compiler.sql_compiler.post_process_text(text)  # type: ignore[no-untyped-call]
    return processed
