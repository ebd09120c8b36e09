"""Which rights soft deletion needs, and whose operators it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.orm import DeclarativeBase, Session

from tests.triggers.soft_delete.helpers import add_family, family

Stored = Callable[..., list[tuple[Any, ...]]]


def test_an_operator_of_who_deletes_is_not_run_by_the_owner_of_the_table(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    pg_engine: Engine,
) -> None:
    parent, child = family(base, "child", "CASCADE")
    create_all()
    add_family(pg_session, parent, child)
    statements = (
        "CREATE ROLE guest",
        "GRANT SELECT, DELETE ON parent TO guest",
        "CREATE SCHEMA guest AUTHORIZATION guest",
        "SET LOCAL ROLE guest",
        "CREATE FUNCTION guest.spy(integer, integer) RETURNS boolean LANGUAGE plpgsql"
        " AS 'BEGIN RAISE EXCEPTION ''ran as %'', current_user; END'",
        "CREATE OPERATOR guest.= (FUNCTION = guest.spy, LEFTARG = integer,"
        " RIGHTARG = integer)",
        "SET LOCAL search_path = guest, pg_catalog",
    )
    with pg_engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
        with pytest.raises(IntegrityError, match="its row in parent is deleted"):
            connection.execute(
                text("DELETE FROM public.parent WHERE id OPERATOR(pg_catalog.=) 1")
            )


def test_who_deletes_needs_the_right_to_update(
    accounts: Any, pg_engine: Engine, stored: Stored
) -> None:
    with pg_engine.connect() as connection:
        connection.execute(text("CREATE ROLE guest"))
        connection.execute(text("GRANT SELECT, DELETE ON account TO guest"))
        with connection.begin_nested() as savepoint:
            connection.execute(text("SET LOCAL ROLE guest"))
            with pytest.raises(ProgrammingError, match="InsufficientPrivilege"):
                connection.execute(text("DELETE FROM account WHERE id = 1"))
            savepoint.rollback()
        connection.execute(text("GRANT UPDATE (is_active) ON account TO guest"))
        connection.execute(text("SET LOCAL ROLE guest"))
        connection.execute(text("DELETE FROM account WHERE id = 1"))
        connection.execute(text("RESET ROLE"))
        active = connection.scalars(select(accounts.is_active).order_by(accounts.id))
        assert active.all() == [False, True, True]
        connection.rollback()


def test_rows_that_a_policy_hides_are_not_marked(
    accounts: Any, pg_engine: Engine
) -> None:
    statements = (
        "CREATE ROLE guest",
        "GRANT SELECT, UPDATE, DELETE ON account TO guest",
        "ALTER TABLE account ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON account USING (id = 1)",
        "SET LOCAL ROLE guest",
        "DELETE FROM account",
        "RESET ROLE",
    )
    with pg_engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
        active = connection.scalars(select(accounts.is_active).order_by(accounts.id))
        assert active.all() == [False, True, True]
        connection.rollback()
