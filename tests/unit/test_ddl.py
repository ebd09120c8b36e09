"""Functions, triggers, views and sequences become the statements that make them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from sqlalchemy.dialects.postgresql import psycopg

from sa_history._types import Level, Operation
from sa_history.ddl.elements import (
    DatabaseObject,
    PGFunction,
    PGSequence,
    PGTrigger,
    PGView,
    Referencing,
    Statement,
    transition_tables,
)
from sa_history.sql.compose import Fragment, Qualified, Raw

NAME = Qualified("app", "f")
HEAD = 'CREATE OR REPLACE FUNCTION "app"."f"'


def sql(fragment: Fragment) -> str:
    return fragment.render(lambda schema: schema or "public")


def trigger(**options: Any) -> PGTrigger:
    """Return a trigger after INSERT for each statement, changed by the options."""
    return PGTrigger(
        **{
            "name": "t",
            "table": Qualified(None, "note"),
            "function": NAME,
            "timing": "AFTER",
            "operations": (Operation.INSERT,),
            "level": Level.STATEMENT,
            **options,
        }
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param(
            {},
            "() RETURNS trigger\nLANGUAGE plpgsql SECURITY DEFINER"
            ' SET search_path = "pg_catalog", "pg_temp"\nAS $history$BEGIN$history$',
            id="of_a_trigger",
        ),
        pytest.param(
            {"search_path": ("s", "T"), "definer": False},
            "() RETURNS trigger\nLANGUAGE plpgsql"
            ' SET search_path = "pg_catalog", "s", "T", "pg_temp"\n'
            "AS $history$BEGIN$history$",
            id="of_the_caller_with_a_path",
        ),
        pytest.param(
            {"search_path": None, "arguments": "n int", "returns": "bigint"},
            "(n int) RETURNS bigint\nLANGUAGE plpgsql SECURITY DEFINER\n"
            "AS $history$BEGIN$history$",
            id="with_the_path_of_the_caller",
        ),
    ],
)
def test_a_function_is_its_owners_and_searches_a_path_of_its_own(
    options: dict[str, Any], expected: str
) -> None:
    assert sql(PGFunction(NAME, Raw("BEGIN"), **options).create()) == HEAD + expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param(
            {},
            'AFTER INSERT ON "public"."note"\nFOR EACH STATEMENT ',
            id="statement",
        ),
        pytest.param(
            {"referencing": Referencing(old="o", new='n"')},
            'AFTER INSERT ON "public"."note"\n'
            'REFERENCING OLD TABLE AS "o" NEW TABLE AS "n""" FOR EACH STATEMENT ',
            id="transition_tables",
        ),
        pytest.param(
            {
                "timing": "BEFORE",
                "operations": (Operation.INSERT, Operation.UPDATE, Operation.DELETE),
                "level": Level.ROW,
                "columns": ("a", "B"),
                "when": Raw("NEW.a > 0"),
            },
            'BEFORE INSERT OR UPDATE OF "a", "B" OR DELETE ON "public"."note"\n'
            "FOR EACH ROW WHEN (NEW.a > 0)\n",
            id="row_with_a_condition",
        ),
        pytest.param(
            {"operations": (Operation.UPDATE,)},
            'AFTER UPDATE ON "public"."note"\nFOR EACH STATEMENT ',
            id="any_column",
        ),
    ],
)
def test_a_trigger_is_made_or_replaced(options: dict[str, Any], expected: str) -> None:
    made = trigger(**options)
    rest = f'TRIGGER "t" {expected}EXECUTE FUNCTION "app"."f"()'
    assert sql(made.create()) == f"CREATE OR REPLACE {rest}"
    assert sql(made.create(replace=False)) == f"CREATE {rest}"


@pytest.mark.parametrize("replace", [True, False])
def test_a_constraint_trigger_is_never_replaced(replace: bool) -> None:
    made = trigger(level=Level.ROW, deferrable="DEFERRED")
    assert sql(made.create(replace=replace)) == (
        'CREATE CONSTRAINT TRIGGER "t" AFTER INSERT ON "public"."note"\n'
        "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW "
        'EXECUTE FUNCTION "app"."f"()'
    )


@pytest.mark.parametrize(
    ("made", "replaced", "created"),
    [
        pytest.param(
            PGFunction(NAME, Raw(""), search_path=None, definer=False),
            f"{HEAD}() RETURNS trigger\nLANGUAGE plpgsql\nAS $history$$history$",
            'CREATE FUNCTION "app"."f"() RETURNS trigger\nLANGUAGE plpgsql\n'
            "AS $history$$history$",
            id="function",
        ),
        pytest.param(
            PGSequence(NAME),
            'CREATE SEQUENCE IF NOT EXISTS "app"."f" AS bigint',
            'CREATE SEQUENCE "app"."f" AS bigint',
            id="sequence",
        ),
        pytest.param(
            PGView(NAME, ("a", "B"), Raw("SELECT 1, 2")),
            'CREATE VIEW "app"."f" ("a", "B") AS\nSELECT 1, 2',
            'CREATE VIEW "app"."f" ("a", "B") AS\nSELECT 1, 2',
            id="view",
        ),
    ],
)
def test_an_object_takes_the_place_of_what_has_its_name_if_it_is_told_to(
    made: DatabaseObject, replaced: str, created: str
) -> None:
    assert sql(made.create(replace=True)) == replaced
    assert sql(made.create(replace=False)) == created
    assert sql(made.create()) == (created if isinstance(made, PGView) else replaced)


@pytest.mark.parametrize(
    ("made", "target", "drop"),
    [
        (
            PGFunction(NAME, Raw(""), arguments="n int"),
            'FUNCTION "app"."f"(n int)',
            'DROP FUNCTION IF EXISTS "app"."f"(n int) CASCADE',
        ),
        (
            trigger(),
            'TRIGGER "t" ON "public"."note"',
            'DROP TRIGGER IF EXISTS "t" ON "public"."note"',
        ),
        (
            PGView(NAME, ("a",), Raw("SELECT 1")),
            'VIEW "app"."f"',
            'DROP VIEW IF EXISTS "app"."f"',
        ),
        (
            PGSequence(NAME),
            'SEQUENCE "app"."f"',
            'DROP SEQUENCE IF EXISTS "app"."f"',
        ),
    ],
    ids=["function", "trigger", "view", "sequence"],
)
def test_an_object_is_called_and_dropped_by_its_name(
    made: DatabaseObject, target: str, drop: str
) -> None:
    assert sql(made.target()) == target
    assert sql(made.drop()) == drop


@pytest.mark.parametrize(
    "made",
    [
        PGFunction(NAME, Raw("BEGIN")),
        trigger(referencing=Referencing(new="n")),
        PGView(NAME, ("a",), Raw("SELECT 1")),
        PGSequence(NAME),
    ],
    ids=["function", "trigger", "view", "sequence"],
)
def test_an_object_is_the_same_as_another_that_says_the_same(
    made: DatabaseObject,
) -> None:
    assert {made, copy.deepcopy(made)} == {made}


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (Operation.INSERT, Referencing(new="new_rows")),
        (Operation.UPDATE, Referencing(old="old_rows", new="new_rows")),
        (Operation.DELETE, Referencing(old="old_rows")),
    ],
    ids=["insert", "update", "delete"],
)
def test_an_operation_has_the_transition_tables_of_its_rows(
    operation: Operation, expected: Referencing
) -> None:
    assert transition_tables(operation) == expected


def test_a_statement_names_the_default_schema_where_there_is_no_connection() -> None:
    fragment = Raw("DROP TABLE ") + Qualified(None, "note")
    assert str(Statement(fragment)) == 'DROP TABLE "public"."note"'
    assert str(Statement(fragment, "app")) == 'DROP TABLE "app"."note"'


@pytest.mark.parametrize(
    ("translated", "expected"),
    [
        ({}, '"app"."a" "s"."b"'),
        ({"s": "t"}, '"app"."a" "t"."b"'),
        ({None: "t%", "s": None}, '"t%%"."a" "app"."b"'),
    ],
    ids=["none", "a_schema", "the_default"],
)
def test_a_statement_names_the_schemas_of_its_connection(
    translated: dict[str | None, str | None], expected: str
) -> None:
    dialect = psycopg.dialect()
    dialect.default_schema_name = "app"
    made = Statement(Qualified(None, "a") + Raw(" ") + Qualified("s", "b"))
    compiled = made.compile(dialect=dialect, schema_translate_map=translated)
    assert str(compiled) == expected


def test_names_of_transition_tables_may_be_as_short_and_long_as_any() -> None:
    long = "é" * 31 + "a"
    assert sql(Referencing(old="a", new=long).clause()) == (
        f'REFERENCING OLD TABLE AS "a" NEW TABLE AS "{long}" '
    )
    assert sql(Referencing(new="a").clause()) == 'REFERENCING NEW TABLE AS "a" '
