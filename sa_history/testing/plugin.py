"""pytest fixtures: one PostgreSQL for the run, an own database for each test.

Turn them on in the top-level ``conftest.py``, and say once what a fresh database is
to contain::

    pytest_plugins = ["sa_history.testing.plugin"]


    @pytest.fixture(scope="session")
    def pg_setup():
        return Base.metadata.create_all

    def test_update_is_recorded(pg_session):
        ...

The server is a throw-away one, started by the first test that needs it, or, under
pytest-xdist, by the controller for all workers. If ``DATABASE_URL`` is set, scratch
databases are created and dropped on that server instead; its role needs CREATEDB,
and the database that the URL names is not written to.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from sqlalchemy import URL, Engine, NullPool, create_engine
from sqlalchemy.orm import Session

from sa_history.testing.errors import EmbeddedPostgresError
from sa_history.testing.postgres import EmbeddedPostgres
from sa_history.testing.server import PgServer

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_WORKERINPUT = "sa_history_pg"
_NOT_TOLD = {
    "error": "the pytest controller has not loaded sa_history.testing.plugin;"
    " name it in the pytest_plugins of the top-level conftest.py"
}


class _Source(Protocol):
    """Where a pytest process has its server from."""

    def server(self) -> PgServer: ...

    def close(self) -> None: ...


class _Controller:
    """The process that starts the server, when it is first asked for one."""

    def __init__(self) -> None:
        self._embedded = EmbeddedPostgres()
        self._server: PgServer | None = None

    def server(self) -> PgServer:
        if self._server is None:
            if url := os.environ.get("DATABASE_URL"):
                self._server = PgServer.from_url(url)
            else:
                url = self._embedded.start().url()
                self._server = PgServer.from_url(url, embedded=True)
        return self._server

    def close(self) -> None:
        self._embedded.stop()

    def workerinput(self) -> dict[str, Any]:
        try:
            server = self.server()
        except EmbeddedPostgresError as error:
            # For the tests that need a server to report; others may well pass.
            return {"error": str(error)}
        url = server.url.render_as_string(hide_password=False)
        return {"url": url, "embedded": server.embedded}


class _Worker:
    """A worker of pytest-xdist, which uses the server of the controller."""

    def __init__(self, server: dict[str, Any]) -> None:
        self._server = server

    def server(self) -> PgServer:
        if error := self._server.get("error"):
            raise EmbeddedPostgresError(error)
        return PgServer.from_url(self._server["url"], embedded=self._server["embedded"])

    def close(self) -> None:
        pass


_SOURCE = pytest.StashKey[_Source]()


def pytest_configure(config: pytest.Config) -> None:
    """Remember where this process is to have its server from."""
    workerinput = getattr(config, "workerinput", None)
    if workerinput is None:
        config.stash[_SOURCE] = _Controller()
    else:
        config.stash[_SOURCE] = _Worker(workerinput.get(_WORKERINPUT, _NOT_TOLD))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist about the server, which all workers share."""
    controller = node.config.stash[_SOURCE]
    node.workerinput[_WORKERINPUT] = controller.workerinput()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the server if this process has started one."""
    if source := config.stash.get(_SOURCE, None):
        source.close()


@pytest.fixture(scope="session")
def pg_server(request: pytest.FixtureRequest) -> PgServer:
    """The PostgreSQL of this run, to create and drop databases on."""
    try:
        return request.config.stash[_SOURCE].server()
    except EmbeddedPostgresError as error:
        problem = str(error)
    # Out of the handler, or each report would tell the story twice.
    pytest.fail(problem, pytrace=False)


@pytest.fixture(scope="session")
def pg_setup() -> Callable[[Engine], object]:
    """What prepares a fresh database: a callable that gets an engine on it.

    Override it; by default, databases are empty.
    """
    return lambda engine: None


@pytest.fixture(scope="session")
def pg_template(
    pg_server: PgServer, pg_setup: Callable[[Engine], object]
) -> Iterator[str]:
    """The name of a database that *pg_setup* has prepared, once for each worker."""
    if not callable(pg_setup):
        pytest.fail(
            f"the fixture pg_setup returned {pg_setup!r}; it returns a callable that "
            "gets an engine: return Base.metadata.create_all, without calling it",
            pytrace=False,
        )
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    name = f"sa_history_{worker}_{uuid.uuid4().hex[:8]}"
    url = pg_server.create_database(name)
    try:
        # Without a pool, so that nobody is connected when it is copied.
        pg_setup(create_engine(url, poolclass=NullPool))
        yield name
    finally:
        pg_server.drop_database(name)


@pytest.fixture
def pg_url(pg_server: PgServer, pg_template: str) -> Iterator[URL]:
    """The URL of the test's own database, a copy of the template.

    What a test commits is committed, and goes away with the database.
    """
    name = f"{pg_template}_{uuid.uuid4().hex[:8]}"
    url = pg_server.create_database(name, template=pg_template)
    try:
        yield url
    finally:
        pg_server.drop_database(name)


@pytest.fixture
def pg_engine(pg_url: URL) -> Iterator[Engine]:
    """An engine on the test's own database."""
    engine = create_engine(pg_url)
    yield engine
    engine.dispose()


@pytest.fixture
def pg_session(pg_engine: Engine) -> Iterator[Session]:
    """A session on the test's own database."""
    with Session(pg_engine) as session:
        yield session


@pytest.fixture
def pg_async_engine(pg_url: URL) -> AsyncEngine:
    """An asynchronous engine on the test's own database.

    It keeps no connection beyond its use, hence belongs to no event loop and needs
    no ``dispose()``: use it inside of ``asyncio.run()`` or of any pytest plugin.
    """
    # Here, because it needs greenlet, which not every suite has.
    from sqlalchemy.ext.asyncio import create_async_engine

    return create_async_engine(pg_url, poolclass=NullPool)
