"""Whose rights a body has, and which search path."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import URL, Table, insert, text, update
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateSchema

from sa_history import Insert, Trigger, Update, attach

CreateAll = Callable[[], None]
Said = Callable[[], list[str]]


def test_security_definer_has_the_rights_of_the_owner(
    note: Table, said: Said, create_all: CreateAll, pg_url: URL, pg_session: Session
) -> None:
    body = "INSERT INTO said (word) VALUES (current_user); RETURN NULL;"
    attach(
        Trigger(
            "definer",
            "after",
            Insert,
            body=body,
            security_definer=True,
            search_path=["public"],
        ),
        Trigger("invoker", "after", Update, body=body),
    )(note)
    create_all()
    clerk = f"clerk of {pg_url.database}"
    for statement in (
        f'CREATE ROLE "{clerk}"',  # rolled back at the end: a role is of the cluster
        f'GRANT SELECT, INSERT, UPDATE ON note TO "{clerk}"',
        f'SET LOCAL ROLE "{clerk}"',
    ):
        pg_session.execute(text(statement))
    pg_session.execute(insert(note).values(id=1))
    point = pg_session.begin_nested()
    with pytest.raises(ProgrammingError, match="InsufficientPrivilege.* said"):
        pg_session.execute(update(note).values(body="a"))
    point.rollback()
    pg_session.execute(text("RESET ROLE"))
    (user,) = said()
    assert user == pg_session.scalar(text("SELECT current_user")) != clerk


def test_search_path_is_the_callers_or_that_of_the_definition(
    note: Table, said: Said, create_all: CreateAll, pg_session: Session
) -> None:
    body = "INSERT INTO public.said (word) VALUES (which()); RETURN NULL;"
    attach(
        Trigger("a_caller", "after", Insert, body=body),
        Trigger("b_own", "after", Insert, body=body, search_path=["it's", "two"]),
        Trigger(
            "c_none",
            "after",
            Insert,
            body="INSERT INTO public.said (word)"
            " VALUES (current_setting('search_path')); RETURN NULL;",
            search_path=[],
        ),
    )(note)
    create_all()
    for schema in ("one", "two", "it's"):
        pg_session.execute(CreateSchema(schema))
    for schema in ("one", "two"):
        pg_session.execute(
            text(
                f"CREATE FUNCTION {schema}.which() RETURNS text LANGUAGE sql"
                f" AS $$ SELECT '{schema}' $$"
            )
        )
    pg_session.execute(text("SET LOCAL search_path = one, public"))
    pg_session.execute(insert(note).values(id=1))
    assert said() == ["one", "two", "pg_catalog, pg_temp"]
