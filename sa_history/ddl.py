"""Functions and triggers as frozen values, and the statements that make them.

A value says what an object is; an element such as :class:`CreateTrigger` is a
SQLAlchemy DDL element that any connection executes, with the connection's
``schema_translate_map`` and default schema in force.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql.compiler import DDLCompiler

from sa_history._types import Level, Operation
from sa_history.sql.compose import (
    DollarQuoted,
    Fragment,
    Ident,
    Joined,
    Qualified,
    Raw,
    join,
)

DEFAULT_SCHEMA = "public"
"""Where a schema of None is, when SQL is made without a connection."""

OLD_ROWS = "old_rows"
"""The transition table of the rows before a statement."""

NEW_ROWS = "new_rows"
"""The transition table of the rows after a statement."""


@dataclass(frozen=True)
class Function:
    """A PL/pgSQL function.

    It is SECURITY DEFINER, so that a role that may write a tracked table needs no
    right on its history and cannot forge it; and its path is pinned, ``pg_temp``
    last, so that no caller's object is taken for one of PostgreSQL's.
    https://www.postgresql.org/docs/current/sql-createfunction.html

    :param name: with its schema.
    :param body: the text between the dollar quotes.
    :param arguments: as in CREATE FUNCTION, without the parentheses.
    :param returns: the name of the result's type.
    :param search_path: schemas to search for operators, between ``pg_catalog`` and
        ``pg_temp``.
    """

    name: Qualified
    body: Fragment
    arguments: str = ""
    returns: str = "trigger"
    search_path: tuple[str, ...] = ()

    def create(self) -> Fragment:
        """Return the CREATE statement."""
        path = join(
            ", ",
            [
                Raw("pg_catalog"),
                *(Ident(schema) for schema in self.search_path),
                Raw("pg_temp"),
            ],
        )
        return Joined(
            (
                Raw("CREATE OR REPLACE FUNCTION "),
                self.name,
                Raw(f"({self.arguments}) RETURNS {self.returns}\n"),
                Raw("LANGUAGE plpgsql SECURITY DEFINER SET search_path = "),
                path,
                Raw("\nAS "),
                DollarQuoted(self.body),
            )
        )

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
class Trigger:
    """A trigger on a table.

    :param name: unique on the table; triggers run in the order of their names.
    :param table: the table it stands on.
    :param function: what it runs.
    :param timing: ``"AFTER"`` or ``"BEFORE"``.
    :param operations: what fires it; exactly one, where it has transition tables.
    :param level: once for the statement or once for each row.
    :param transition_tables: whether the function reads old_rows and new_rows.
    :param when: the condition in WHEN.
    """

    name: str
    table: Qualified
    function: Qualified
    timing: str
    operations: tuple[Operation, ...]
    level: Level
    transition_tables: bool = False
    when: Fragment | None = None

    def create(self) -> Fragment:
        """Return the CREATE statement."""
        operations = " OR ".join(operation.value for operation in self.operations)
        parts: list[Fragment] = [
            Raw("CREATE OR REPLACE TRIGGER "),
            Ident(self.name),
            Raw(f" {self.timing} {operations} ON "),
            self.table,
            Raw("\n"),
        ]
        if self.transition_tables:
            (operation,) = self.operations
            old = f" OLD TABLE AS {OLD_ROWS}" if operation.has_old else ""
            new = f" NEW TABLE AS {NEW_ROWS}" if operation.has_new else ""
            parts.append(Raw(f"REFERENCING{old}{new} "))
        parts.append(Raw(f"FOR EACH {self.level.value.upper()} "))
        if self.when is not None:
            parts += [Raw("WHEN ("), self.when, Raw(")\n")]
        parts += [Raw("EXECUTE FUNCTION "), self.function, Raw("()")]
        return Joined(tuple(parts))


class _Statement(ExecutableDDLElement):
    """A statement made of one fragment.

    :param current_schema: where a schema of None is; without it, where the dialect
        found it when it connected first.
    """

    stringify_dialect = "postgresql"

    def __init__(self, fragment: Fragment, current_schema: str | None = None) -> None:
        self.fragment = fragment
        self.current_schema = current_schema


class CreateFunction(_Statement):
    """Creates a function, or replaces it.

    Example::

        connection.execute(CreateFunction(function))
    """

    def __init__(self, function: Function, current_schema: str | None = None) -> None:
        super().__init__(function.create(), current_schema)


class DropFunction(_Statement):
    """Drops a function and the triggers that call it, if it exists.

    Example::

        connection.execute(DropFunction(function))
    """

    def __init__(self, function: Function, current_schema: str | None = None) -> None:
        super().__init__(function.drop(), current_schema)


class CreateTrigger(_Statement):
    """Creates a trigger, or replaces it.

    Example::

        connection.execute(CreateTrigger(trigger))
    """

    def __init__(self, trigger: Trigger, current_schema: str | None = None) -> None:
        super().__init__(trigger.create(), current_schema)


@compiles(_Statement, "postgresql")
def _compile_statement(element: _Statement, compiler: DDLCompiler, **_: Any) -> str:
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
