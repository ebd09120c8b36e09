"""Refusals do not depend on the rights and the search path of the caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from sa_history import FSM, Delete, Insert, Protect, ReadOnly, new, old
from sa_history.exc import ProtectedError, ReadOnlyError, TransitionError
from tests.triggers.refusing.helpers import THREE

Account = Callable[..., Any]
Fill = Callable[..., None]


@pytest.fixture
def clerk(account: Account, fill: Fill, pg_session: Session, level: str) -> Session:
    """A session of a role that may change accounts, and nothing else.

    It has a schema with objects that are to be taken for those of PostgreSQL, in a
    transaction that is rolled back at the end: roles are of the cluster.
    """
    account(
        Protect(Insert, condition=new.balance < 0, level=level),
        Protect(Delete, condition=old.owner == "bob", level=level),
        ReadOnly("owner", level=level),
        FSM(
            "balance",
            transitions=[(0, 10), (None, 10)],
            initial=[-1, 0, 1],
            level=level,
        ),
    )
    fill(THREE)
    statements = [
        "CREATE ROLE the_clerk",
        "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON account TO the_clerk",
        "CREATE SCHEMA hers AUTHORIZATION the_clerk",
        "SET LOCAL ROLE the_clerk",
        "CREATE FUNCTION hers.now() RETURNS timestamptz LANGUAGE sql"
        " AS $$ SELECT 'epoch'::timestamptz $$",
        "CREATE FUNCTION hers.current_setting(text, boolean) RETURNS text"
        """ LANGUAGE sql AS $$ SELECT '["*:read_only"]' $$""",
        "CREATE FUNCTION hers.has(jsonb, text[]) RETURNS boolean LANGUAGE sql"
        " AS $$ SELECT true $$",
        "CREATE OPERATOR hers.?| (LEFTARG = jsonb, RIGHTARG = text[],"
        " FUNCTION = hers.has)",
        "CREATE DOMAIN hers.text AS integer",
    ]
    for type_ in ("integer", "pg_catalog.text", "name", "bigint", "record", "boolean"):
        for name, operator, result in (
            ("same", "=", True),
            ("other", "<>", False),
            ("less", "<", False),
            ("greater", ">", False),
            ("image", "*<>", False),
        ):
            statements += [
                f"CREATE FUNCTION hers.{name}({type_}, {type_}) RETURNS boolean"
                f" LANGUAGE plpgsql AS $$ BEGIN RETURN {result}; END $$",
                f"CREATE OPERATOR hers.{operator} (LEFTARG = {type_},"
                f" RIGHTARG = {type_}, FUNCTION = hers.{name})",
            ]
    for statement in statements:
        pg_session.execute(text(statement.replace(":", "\\:")))
    return pg_session


CHANGES = [
    ("INSERT INTO public.account VALUES (4, 'dan', -1)", ProtectedError, "such a row"),
    ("DELETE FROM public.account", ProtectedError, "such a row is protected"),
    ("TRUNCATE public.account", ProtectedError, "such a row is protected"),
    ("UPDATE public.account SET owner = 'x'", ReadOnlyError, "owner may only be read"),
    (
        "UPDATE public.account SET balance = 5",
        TransitionError,
        "may not go from 0 to 5",
    ),
    ("INSERT INTO public.account VALUES (4, '', 5)", TransitionError, "not begin as 5"),
]


@pytest.mark.parametrize("path", ["hers, pg_catalog, public", "hers, public", "''"])
def test_objects_of_the_caller_are_not_taken_for_those_of_postgresql(
    clerk: Session, path: str
) -> None:
    clerk.execute(text(f"SET LOCAL search_path = {path}"))
    if path.startswith("hers, pg_catalog"):
        assert clerk.scalar(text("SELECT 1 = 2 AND NOT 1 <> 2 AND now() = 'epoch'"))
    for table in ("old_rows", "new_rows", "account"):
        clerk.execute(text(f"CREATE TEMPORARY TABLE {table} ()"))
    for statement, error, message in CHANGES:
        with pytest.raises(error, match=message), clerk.begin_nested():
            clerk.execute(text(statement))
    clerk.execute(text("INSERT INTO public.account VALUES (4, 'dan', 1)"))
    clerk.execute(text("UPDATE public.account SET balance = 10 WHERE balance IS NULL"))


def test_a_role_needs_no_right_but_to_write_the_table(clerk: Session) -> None:
    for statement in (
        "RESET ROLE",
        "REVOKE SELECT ON account FROM the_clerk",
        "SET LOCAL ROLE the_clerk",
    ):
        clerk.execute(text(statement))
    for statement, error, message in CHANGES:
        with pytest.raises(error, match=message), clerk.begin_nested():
            clerk.execute(text(statement))
    clerk.execute(text("INSERT INTO account VALUES (4, 'dan', 1)"))


def test_rows_that_a_role_does_not_see_are_protected_from_its_truncate(
    clerk: Session,
) -> None:
    for statement in (
        "RESET ROLE",
        "ALTER TABLE account ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY of_ann ON account USING (owner = 'ann')",
        "SET LOCAL ROLE the_clerk",
    ):
        clerk.execute(text(statement))
    assert clerk.scalar(text("SELECT count(*) FROM account")) == 1
    with pytest.raises(ProtectedError), clerk.begin_nested():
        clerk.execute(text("TRUNCATE account"))
    clerk.execute(text("UPDATE account SET balance = 10"))


def test_truncate_of_rows_that_the_trigger_may_not_see_is_refused(
    clerk: Session,
) -> None:
    for statement in (
        "RESET ROLE",
        "DELETE FROM account WHERE owner <> 'bob'",
        "ALTER FUNCTION account_protect_delete OWNER TO the_clerk",
        "ALTER TABLE account ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY of_ann ON account USING (owner = 'ann')",
    ):
        clerk.execute(text(statement))
    refused = "TRUNCATE of public.account is refused: row-level security may hide"
    with pytest.raises(ProgrammingError, match=refused):
        clerk.execute(text("TRUNCATE account"))
