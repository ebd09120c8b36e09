"""An engine's first connection, on which SQLAlchemy asks what server it is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError


@pytest.fixture
def guest(pg_url: URL, pg_engine: Engine) -> Iterator[URL]:
    """The URL for a role that may not ask for the server's version."""
    role = f"guest_{pg_url.database}"[-63:]  # the server is shared by databases
    quoted = pg_engine.dialect.identifier_preparer.quote_identifier(role)
    with pg_engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {quoted} LOGIN"))
        connection.execute(text("REVOKE EXECUTE ON FUNCTION version() FROM PUBLIC"))
    yield pg_url.set(username=role)
    with pg_engine.begin() as connection:
        connection.execute(text("GRANT EXECUTE ON FUNCTION version() TO PUBLIC"))
        connection.execute(text(f"DROP ROLE {quoted}"))


PROGRAM = """
import sys
import sqlalchemy

engine = sqlalchemy.create_engine(sys.argv[1])
with engine.connect() as connection:
    import sa_history

    try:
        connection.execute(sqlalchemy.text("SELECT 1 / 0"))
    except sqlalchemy.exc.DataError as error:
        print(type(error.orig).__name__)
    connection.rollback()
    print(connection.scalar(sqlalchemy.text("SELECT 1")))
"""


def test_error_on_a_connection_that_was_made_before_the_import_is_that_of_the_server(
    pg_url: URL,
) -> None:
    url = pg_url.render_as_string(hide_password=False)
    printed = subprocess.check_output([sys.executable, "-c", PROGRAM, url], text=True)
    assert printed.split() == ["DivisionByZero", "1"]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_error_of_the_first_connection_is_the_one_of_the_server(
    driver: str, guest: URL
) -> None:
    engine = create_engine(guest.set(drivername=f"postgresql+{driver}"))
    for _ in range(2):
        with pytest.raises(DBAPIError, match="InsufficientPrivilege.* version"):
            engine.connect()
    engine.dispose()
