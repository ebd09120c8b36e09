"""What all tests share: a PostgreSQL, new declarative bases, and readers of both."""

from __future__ import annotations

import contextlib
import gc
import re
import subprocess
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, Engine, MetaData, NullPool, create_engine, inspect
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session, joinedload

import sa_history as history
from sa_history.testing import PgServer
from sa_history.testing.binaries import find_bindir
from tests.pgbouncer import PgBouncer
from tests.programs import PGBOUNCER

pytest_plugins = [
    "sa_history.testing.plugin",
    "tests.fix_sessions",
    "tests.missing_programs",
    "pytester",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what the long run of the tests is told."""
    parser.addoption(
        "--both-levels",
        action="store_true",
        help="run all tests, each at statement and at row level, as nox -s full does",
    )
    parser.addoption(
        "--writes",
        type=int,
        default=500,
        help="how many writes a test of tests/attribution/test_workers.py commits",
    )
    parser.addoption(
        "--tamperings",
        type=int,
        default=50,
        help="how many random changes of sealed events tests/sealing has to find",
    )


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Begin with the long tests, and leave some to ``nox -s full``.

    A process that begins a long test at the end has the others wait for it. Tests at
    both levels run at one of them, half of them at each; those of the timeline run with
    Flask or with one of the other frameworks; of random tests of partitions one seed
    runs; of tests of most folders with several sets of parameters half run; and those
    with the mark "full" do not run at all.
    """
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    if config.getoption("--both-levels") or any("::" in arg for arg in config.args):
        return
    at_both = {_but_for_its_level(i) for i in items if _level_of(i) == "statement"}
    at_both &= {_but_for_its_level(i) for i in items if _level_of(i) == "row"}
    left_out = {item for item in items if _is_for_the_long_run(item, at_both)}
    left_out |= _half_of_many(item for item in items if item not in left_out)
    config.hook.pytest_deselected(items=[*left_out])
    items[:] = [item for item in items if item not in left_out]


def pytest_configure() -> None:
    """Look for garbage less often, as a process that imports much has much to look at.

    Tests make classes and engines by the thousands, whose objects refer to one
    another. With Python's own thresholds, to look for them took a sixth of the time.
    """
    gc.set_threshold(20_000, 10, 10)


_PARTITIONS = Path(__file__).with_name("partitions")
_TIMELINE = Path(__file__).with_name("timeline")
_STARLETTE = _TIMELINE / "test_starlette.py"


_WITH_LONG_SETS = {
    Path(__file__).with_name(name)
    for name in (
        *("archiving", "attribution", "commands", "context", "db", "faults", "flask"),
        *("install", "migrations", "moving", "partitions", "reading", "roles"),
        *("sealing", "testing", "timeline", "triggers"),
    )
}


def _half_of_many(items: Iterable[pytest.Item]) -> set[pytest.Item]:
    """Return about half of the tests of functions with several sets of parameters."""
    of_function: dict[str, list[pytest.Item]] = {}
    for item in items:
        if _WITH_LONG_SETS & set(item.path.parents):
            of_function.setdefault(item.nodeid.partition("[")[0], []).append(item)
    many = {name: found for name, found in of_function.items() if len(found) >= 2}
    # Every second one, so that some of each function run.
    return {i for name, found in many.items() for i in found[_number_of(name) % 2 :: 2]}


def _number_of(name: str) -> int:
    """Return a number that is the same in each run."""
    return zlib.crc32(name.encode())


def _params_of(item: pytest.Item) -> dict[str, Any]:
    params: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    return params


def _level_of(item: pytest.Item) -> Any:
    return _params_of(item).get("level")


def _but_for_its_level(item: pytest.Item) -> str:
    """Return what tells a test from all others but the same at another level."""
    return re.sub(r"(?<=[\[-])(statement|row)(?=[\]-])", "level", item.nodeid)


def _is_for_the_long_run(item: pytest.Item, at_both: set[str]) -> bool:
    """Return whether a test is left to ``nox -s full``.

    :param at_both: the tests at both levels, of which each runs at one of them.
    """
    if item.get_closest_marker("full"):
        return True
    params, folders = _params_of(item), set(item.path.parents)
    if params.get("seed") and _PARTITIONS in folders:
        return True
    test = _but_for_its_level(item)
    if test in at_both:
        choice = _number_of(test) % 2
        return bool(params["level"] != ("statement", "row")[choice])
    if "framework" in params and _TIMELINE in folders and item.path != _STARLETTE:
        name = getattr(item, "originalname", item.name)
        choice = ("flask", "flask", "starlette", "fastapi")[_number_of(name) % 4]
        return bool(params["framework"] != choice)
    return False


_LEFT = """
SELECT 'DROP SCHEMA ' || quote_ident(nspname) || ' CASCADE' FROM pg_namespace
WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
UNION ALL
SELECT 'DROP EXTENSION IF EXISTS ' || quote_ident(extname) || ' CASCADE'
FROM pg_extension WHERE extname <> 'plpgsql'
UNION ALL
SELECT 'DROP PUBLICATION ' || quote_ident(pubname) FROM pg_publication
UNION ALL
SELECT 'ROLLBACK PREPARED ' || quote_literal(gid) FROM pg_prepared_xacts
WHERE database = current_database()
"""
"""What a test has left in its database, as the statements that drop it."""

_PUBLIC = (
    "CREATE SCHEMA public AUTHORIZATION pg_database_owner",
    "GRANT USAGE ON SCHEMA public TO PUBLIC",
    "COMMENT ON SCHEMA public IS 'standard public schema'",
)

_ODD = """
SELECT EXISTS (SELECT FROM pg_db_role_setting WHERE setdatabase = d.oid)
  OR EXISTS (SELECT FROM pg_event_trigger) OR EXISTS (SELECT FROM pg_subscription)
  OR EXISTS (SELECT FROM pg_largeobject_metadata) OR datacl IS NOT NULL
FROM pg_database AS d WHERE datname = current_database()
"""
"""Whether it has left what only goes with the database."""

_LEAVE = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


def _connect(url: URL) -> psycopg.Connection:
    """Connect to a database without an engine, which asks for half a dozen things."""
    dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(dsn, autocommit=True)


def _empty(connection: psycopg.Connection) -> bool:
    """Empty a database, unless only its end would; return whether it is empty."""
    connection.execute(_LEAVE)
    ((is_odd,),) = connection.execute(_ODD)
    if not is_odd:
        left = [statement for (statement,) in connection.execute(_LEFT)]
        for statement in (*left, *_PUBLIC) if left else ():
            connection.execute(statement)
    return not is_odd


Reused = dict[str, tuple[URL, psycopg.Connection]]


@pytest.fixture(scope="session")
def reused(pg_server: PgServer) -> Iterator[Reused]:
    """The databases that tests of this process have one after the other, by a name.

    The connection that empties one stays: to connect takes longer than to empty it.
    """
    databases: Reused = {}
    yield databases
    for url, connection in databases.values():
        connection.close()
        pg_server.drop_database(str(url.database))


@contextlib.contextmanager
def _empty_database(
    name: str, pg_server: PgServer, pg_template: str, reused: Reused
) -> Iterator[URL]:
    """A database that is empty, as a new one is; to make one takes longer."""
    if name not in reused:
        unique = f"{pg_template}_{uuid.uuid4().hex[:8]}"
        url = pg_server.create_database(unique, template=pg_template)
        reused[name] = (url, _connect(url))
    url, connection = reused[name]
    yield url
    if not _empty(connection):
        del reused[name]
        connection.close()
        pg_server.drop_database(str(url.database))


@pytest.fixture
def pg_url(pg_server: PgServer, pg_template: str, reused: Reused) -> Iterator[URL]:
    """The test's own database."""
    with _empty_database("first", pg_server, pg_template, reused) as url:
        yield url


@pytest.fixture
def english(pg_url: URL) -> None:
    """Have PostgreSQL say in English what it says within a message of ours."""
    _set_default(pg_url, "lc_messages", "C", but_for=("C", ""))


@pytest.fixture
def read_committed(
    pg_url: URL, first_engines: dict[tuple[URL, bool], Engine]
) -> Iterator[None]:
    """Have transactions be READ COMMITTED, for what refuses all others."""
    name, level = "default_transaction_isolation", "read committed"
    was_other = _set_default(pg_url, name, level, but_for=(level,))
    known: dict[tuple[URL, bool], Engine] = {}
    if was_other:
        # An engine asks for its default when it connects first.
        keys = [key for key in first_engines if key[0] == pg_url]
        known = {key: first_engines.pop(key) for key in keys}
    yield
    if was_other:
        for key in [key for key in first_engines if key[0] == pg_url]:
            del first_engines[key]
        first_engines.update(known)
        # Other tests get the database, and are to have the server's default.
        _set_default(pg_url, name, None)


def _set_default(
    url: URL, setting: str, value: str | None, but_for: tuple[str, ...] = ()
) -> bool:
    """Set what connections to a database have, unless that is one of some values.

    :param value: None for what the server has.
    :return: whether it was set.
    """
    names = [psycopg.sql.Identifier(name) for name in (str(url.database), setting)]
    statement = psycopg.sql.SQL("ALTER DATABASE {} RESET {}").format(*names)
    if value is not None:
        set_ = psycopg.sql.SQL("ALTER DATABASE {} SET {} = {}")
        statement = set_.format(*names, psycopg.sql.Literal(value))
    with _connect(url) as connection:
        found = connection.execute("SELECT current_setting(%s)", [setting]).fetchone()
        if found is not None and found[0] in but_for:
            return False
        connection.execute(statement)
    return True


@pytest.fixture
def other_url(pg_server: PgServer, pg_template: str, reused: Reused) -> Iterator[URL]:
    """A second database of the test's own."""
    with _empty_database("second", pg_server, pg_template, reused) as url:
        yield url


@pytest.fixture(scope="session")
def first_engines() -> dict[tuple[URL, bool], Engine]:
    """The first engine on each database, and the first asynchronous one."""
    return {}


def _engine_like(first: Engine) -> Engine:
    """Return an engine with a pool of its own, that asks nothing when it connects.

    A new engine asks for the server's version and for half a dozen other things, which
    took as long as a short test. SQLAlchemy recreates pools in ``dispose()``, too.
    """
    return Engine(first.pool.recreate(), first.dialect, first.url)


@pytest.fixture
def pg_engine(
    pg_url: URL, first_engines: dict[tuple[URL, bool], Engine]
) -> Iterator[Engine]:
    """An engine on the test's own database."""
    key = (pg_url, False)
    if key not in first_engines:
        first_engines[key] = create_engine(pg_url)
    engine = _engine_like(first_engines[key])
    yield engine
    engine.dispose()


@pytest.fixture
def pg_async_engine(
    pg_url: URL, first_engines: dict[tuple[URL, bool], Engine]
) -> AsyncEngine:
    """An asynchronous engine on it, which keeps no connection beyond its use."""
    key = (pg_url, True)
    if key not in first_engines:
        engine = create_async_engine(pg_url, poolclass=NullPool)
        first_engines[key] = engine.sync_engine
    return AsyncEngine(_engine_like(first_engines[key]))


@pytest.fixture(scope="session")
def new_pgbouncer(programs: Callable[..., list[str]]) -> type[PgBouncer]:
    """Start a PgBouncer in transaction mode; without one the test does not run."""
    programs(PGBOUNCER)
    return PgBouncer


@pytest.fixture
def pgbouncer(new_pgbouncer: type[PgBouncer], pg_url: URL) -> Iterator[PgBouncer]:
    """A PgBouncer with four connections to the test's database."""
    with new_pgbouncer(pg_url, servers=4) as pgbouncer:
        yield pgbouncer


@pytest.fixture(params=["statement", "row"])
def level(request: pytest.FixtureRequest) -> str:
    """Both levels of triggers, for what has to be the same at either."""
    return str(request.param)


@pytest.fixture
def base() -> type[DeclarativeBase]:
    """A declarative base of the test's own."""

    class Base(DeclarativeBase):
        metadata = MetaData()

    return Base


@pytest.fixture
def create_all(
    base: type[DeclarativeBase], pg_engine: Engine
) -> Iterator[Callable[[], None]]:
    """Create the tables of ``base``; they go with the test's database."""
    yield lambda: base.metadata.create_all(pg_engine)
    base.registry.dispose()


@pytest.fixture
def recorded(pg_engine: Engine) -> Callable[..., list[tuple[Any, ...]]]:
    """Return a model's committed events as ``(label, op, *attributes, context)``."""

    def read(target: Any, *attributes: str) -> list[tuple[Any, ...]]:
        events = history.events(target)
        statement = events.select()
        if "pgh_context" in inspect(events.model).relationships:
            statement = statement.options(joinedload(events.model.pgh_context))
        with Session(pg_engine) as session:
            rows = []
            for event in session.scalars(statement):
                context = getattr(event, "pgh_context", None)
                if isinstance(context, history.Context):
                    context = context.metadata
                values = (getattr(event, name) for name in attributes)
                rows.append((event.pgh_label, event.pgh_op, *values, context))
            return rows

    return read


# Of what pg_dump prints: who wrote it, and a random token of newer versions.
_NOISE = re.compile(r"^(--.*|\\(un)?restrict .*|)\n", re.MULTILINE)


@pytest.fixture
def dump() -> Callable[[URL], str]:
    """Return the schema of a database, but for Alembic's own table."""

    def run(url: URL) -> str:
        printed = subprocess.run(
            [
                find_bindir() / "pg_dump",
                "--schema-only",
                "--no-owner",
                "--exclude-table=alembic_version",
                url.set(drivername="postgresql").render_as_string(hide_password=False),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        return _NOISE.sub("", printed.stdout)

    return run
