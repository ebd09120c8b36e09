"""The pytest plugin: one server for a run, an own database for each test."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import Session

from sa_history.testing import EmbeddedPostgresError, PgServer

# The suite of a user of the plugin.
CONFTEST = """
import pytest
import sqlalchemy as sa

pytest_plugins = ["sa_history.testing.plugin"]

@pytest.fixture(scope="session")
def pg_setup():
    def setup(engine):
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE prepared (id int)"))
    return setup
"""

SUITE = """
import pytest
import sqlalchemy as sa

@pytest.mark.parametrize("number", range(4))
def test_own_database(pg_server, pg_session, number):
    count = pg_session.execute(sa.text("SELECT count(*) FROM prepared"))
    assert count.scalar_one() == 0
    pg_session.execute(sa.text("INSERT INTO prepared VALUES (1)"))
    pg_session.commit()
    print(f"ran in {pg_server.url}, {pg_session.connection().engine.url.database}.")
"""


ASYNC_SUITE = """
import asyncio

import sqlalchemy as sa

def test_own_database(pg_session, pg_async_engine):
    pg_session.execute(sa.text("INSERT INTO prepared VALUES (1)"))
    pg_session.commit()

    async def count():
        async with pg_async_engine.connect() as connection:
            return await connection.scalar(sa.text("SELECT count(*) FROM prepared"))

    assert asyncio.run(count()) == 1
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    # Importing hypothesis anew takes longer than the suite itself.
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(SUITE)


@pytest.fixture
def named_database(
    pg_server: PgServer, monkeypatch: pytest.MonkeyPatch, suite: None
) -> Iterator[sa.URL]:
    """A database of someone's that DATABASE_URL names."""
    name = f"named_{uuid.uuid4().hex[:8]}"
    url = pg_server.create_database(name)
    monkeypatch.setenv(
        "DATABASE_URL",
        url.set(drivername="postgres").render_as_string(hide_password=False),
    )
    yield url
    pg_server.drop_database(name)


def places(result: pytest.RunResult) -> tuple[set[str], list[str]]:
    """Return the servers and the databases that the tests of SUITE ran in."""
    lines = [
        line.removeprefix("ran in ").removesuffix(".").split(", ")
        for line in result.outlines
        if line.startswith("ran in ")
    ]
    return {server for server, _ in lines}, [database for _, database in lines]


def test_each_test_has_its_own_prepared_database(
    pytester: pytest.Pytester, suite: None
) -> None:
    result = pytester.runpytest("-rP")
    result.assert_outcomes(passed=4)
    servers, databases = places(result)
    assert len(servers) == 1
    assert len(set(databases)) == 4


def test_workers_share_one_server(pytester: pytest.Pytester, suite: None) -> None:
    result = pytester.runpytest("-rP", "-n", "2", "--dist", "each")
    result.assert_outcomes(passed=8)
    servers, databases = places(result)
    assert len(servers) == 1
    assert len(set(databases)) == 8


@pytest.mark.parametrize("args", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_database_url_wins_and_is_not_written_to(
    pytester: pytest.Pytester,
    named_database: sa.URL,
    monkeypatch: pytest.MonkeyPatch,
    args: tuple[str, ...],
) -> None:
    monkeypatch.setenv("PG_BINDIR", "/nonexistent")
    result = pytester.runpytest("-rP", *args)
    result.assert_outcomes(passed=4)
    servers, databases = places(result)
    assert servers == {str(named_database)}
    assert len(set(databases)) == 4
    assert named_database.database not in databases

    engine = sa.create_engine(named_database, poolclass=sa.NullPool)
    assert sa.inspect(engine).get_table_names() == []
    with engine.connect() as connection:
        left = set(connection.scalars(sa.text("SELECT datname FROM pg_database")))
    assert left.isdisjoint(databases)
    assert left.isdisjoint(name.rpartition("_")[0] for name in databases)


def test_an_asynchronous_engine_leads_to_the_test_s_own_database(
    pytester: pytest.Pytester, named_database: sa.URL
) -> None:
    path = pytester.makepyfile(test_async=ASYNC_SUITE)
    pytester.runpytest(path).assert_outcomes(passed=1)


@pytest.mark.parametrize("args", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_a_server_that_cannot_start_fails_the_tests_that_need_it(
    pytester: pytest.Pytester,
    suite: None,
    monkeypatch: pytest.MonkeyPatch,
    args: tuple[str, ...],
) -> None:
    monkeypatch.setenv("PG_BINDIR", "/nonexistent")
    pytester.makepyfile(test_other="def test_without_a_database(): pass")
    result = pytester.runpytest(*args)
    result.assert_outcomes(passed=1, errors=4)
    result.stdout.fnmatch_lines(["PG_BINDIR is '/nonexistent', which has no initdb*"])


@pytest.mark.parametrize("args", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_to_collect_tests_starts_no_server(
    pytester: pytest.Pytester,
    suite: None,
    monkeypatch: pytest.MonkeyPatch,
    args: tuple[str, ...],
) -> None:
    started: list[object] = []
    monkeypatch.setattr(
        "sa_history.testing.EmbeddedPostgres.start", lambda self: started.append(self)
    )
    result = pytester.runpytest("--collect-only", *args)
    result.assert_outcomes()
    result.stdout.fnmatch_lines(["*4 tests collected*"])
    assert started == []


def test_tests_without_a_database_start_no_server(
    pytester: pytest.Pytester, suite: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PG_BINDIR", "/nonexistent")
    path = pytester.makepyfile(test_other="def test_without_a_database(): pass")
    pytester.runpytest(path).assert_outcomes(passed=1)


def test_a_database_url_of_another_system_is_refused(
    pytester: pytest.Pytester, suite: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://me:secret@localhost/app")
    result = pytester.runpytest()
    result.assert_outcomes(errors=4)
    result.stdout.fnmatch_lines(["*'mysql://me:?*?@localhost/app' does not name a*"])
    assert "secret" not in result.stdout.str()


def test_a_database_url_that_cannot_be_read_is_not_shown() -> None:
    with pytest.raises(EmbeddedPostgresError, match="URL cannot be parsed") as caught:
        PgServer.from_url("postgresql//me:secret@localhost/app")
    assert "secret" not in str(caught.value)
    # That of SQLAlchemy has the URL.
    assert caught.value.__suppress_context__
    assert caught.value.__cause__ is None


def test_a_suite_that_cannot_be_configured_says_just_that(
    pytester: pytest.Pytester, suite: None
) -> None:
    pytester.makeconftest(
        CONFTEST
        + """
@pytest.hookimpl(tryfirst=True)
def pytest_configure():
    raise pytest.UsageError("out of order")
"""
    )
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.errlines if line] == ["ERROR: out of order"]


def test_an_unreachable_server_is_a_clear_error() -> None:
    server = PgServer.from_url("postgresql+asyncpg://me:secret@/app?host=/nonexistent")
    with pytest.raises(EmbeddedPostgresError, match="cannot connect") as caught:
        server.create_database("scratch")
    assert "secret" not in str(caught.value)


def test_variables_that_lead_elsewhere_are_named(
    pg_server: PgServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    monkeypatch.setenv("PGPASSFILE", "/none")
    monkeypatch.setenv("PG_BINDIR", "/none")
    url = pg_server.url.set(query={"host": "/nonexistent", "port": "1"})
    with pytest.raises(EmbeddedPostgresError) as caught:
        PgServer(url, embedded=True).drop_database("scratch")
    assert "obeys, which are ['PGHOSTADDR', 'PGPASSFILE']" in str(caught.value)


def test_databases_of_any_name_can_be_created_and_dropped(pg_server: PgServer) -> None:
    name = f'odd "name" 100% {uuid.uuid4().hex[:8]}'
    copy = f"copy of {name}"
    engine = sa.create_engine(pg_server.create_database(name), poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE kept (id int)"))
    copied = sa.create_engine(pg_server.create_database(copy, template=name))
    assert sa.inspect(copied).get_table_names() == ["kept"]

    pg_server.drop_database(copy)  # though the pool of the engine is in it
    pg_server.drop_database(name)
    pg_server.drop_database(name)
    copied.dispose()


def test_the_fixtures_all_lead_to_the_same_database(
    pg_url: sa.URL,
    pg_engine: sa.Engine,
    pg_session: Session,
    pg_async_engine: AsyncEngine,
) -> None:
    assert pg_engine.url == pg_async_engine.url == pg_url
    pg_session.execute(sa.text("CREATE TABLE noted (word text)"))
    pg_session.execute(sa.text("INSERT INTO noted VALUES ('committed')"))
    pg_session.commit()

    async def read() -> str:
        async with pg_async_engine.connect() as connection:
            result = await connection.execute(sa.text("SELECT word FROM noted"))
            return str(result.scalar_one())

    # Twice, each time in another loop.
    assert asyncio.run(read()) == "committed"
    assert asyncio.run(read()) == "committed"


def test_a_setup_that_was_called_and_not_returned_is_named(
    pytester: pytest.Pytester, suite: None
) -> None:
    pytester.makeconftest(
        """
import pytest

pytest_plugins = ["sa_history.testing.plugin"]

@pytest.fixture(scope="session")
def pg_setup():
    print("as if it had prepared something")
"""
    )
    result = pytester.runpytest()
    result.stdout.fnmatch_lines(
        [
            "the fixture pg_setup returned None; it returns a callable that gets an "
            "engine: return Base.metadata.create_all, without calling it"
        ]
    )
