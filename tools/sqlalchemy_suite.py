"""Run SQLAlchemy's own tests with and without sa_history, and compare what passes.

``import sa_history`` registers listeners for the whole process, so that it must change
nothing for a program that uses nothing of it. SQLAlchemy's tests are such a program.
They run three times: as they are, with the import, and with the import and a context
that is in force all the time. The three have to end alike, test by test.

    python tools/sqlalchemy_suite.py DIRECTORY [TEST ...]

``DIRECTORY`` has an unpacked source distribution of the SQLAlchemy that is installed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import psycopg

from sa_history.testing import EmbeddedPostgres, PgServer

SUITES = ["test/engine", "test/dialect/postgresql"]

# Modules that pytest loads by -p, which stand in a folder of their own. Each imports
# SQLAlchemy, or the conftest.py of its tests would take the package beside them, which
# has no compiled modules.
PLUGINS = {
    "without": "import sqlalchemy\n",
    "with_import": "import sa_history\n",
    "with_context": (
        "import sa_history\n\n\n"
        "def pytest_configure():\n"
        '    sa_history.context(job="suite").__enter__()\n'
    ),
}

# What the tests of SQLAlchemy expect of a database.
PREPARATION = ["CREATE SCHEMA test_schema", "CREATE SCHEMA test_schema_2"]


def run(
    directory: Path, server: PgServer, name: str, folder: Path, tests: list[str]
) -> dict[str, str]:
    """Run the tests once, and return the outcome of each by its name.

    :param directory: the unpacked source distribution.
    :param name: of the plugin.
    :param folder: where the plugins are, and the report is written.
    :raises SystemExit: pytest could not run them.
    """
    server.drop_database(f"suite_{name}")
    url = server.create_database(f"suite_{name}")
    with psycopg.connect(
        url.set(drivername="postgresql").render_as_string(hide_password=False),
        autocommit=True,
    ) as connection:
        for statement in PREPARATION:
            connection.execute(statement)
    plugin = f"suite_{name}"
    dburi = url.set(drivername="postgresql+psycopg")
    (folder / f"{plugin}.py").write_text(PLUGINS[name])
    report = folder / f"{name}.xml"
    process = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", plugin, "-p", "no:xdist"),
            *("-p", "no:cacheprovider", "--tb=line", f"--junitxml={report}"),
            *("--dburi", dburi.render_as_string(hide_password=False)),
            *tests,
        ],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    if process.returncode not in (0, 1) or not report.exists():
        sys.exit(process.stdout)
    outcomes = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name_of_test = f"{case.get('classname')}::{case.get('name')}"
        ends = {child.tag for child in case} & {"failure", "error", "skipped"}
        outcomes[name_of_test] = ", ".join(sorted(ends)) or "passed"
    return outcomes


def main() -> None:
    """Run the tests three times, and exit with 1 unless they end alike."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("tests", nargs="*", default=SUITES)
    options = parser.parse_args()
    # One test prepares transactions, and many look at what a server has by default.
    with (
        EmbeddedPostgres(max_prepared_transactions="10") as embedded,
        tempfile.TemporaryDirectory() as folder,
    ):
        server = PgServer.from_url(embedded.url(), embedded=True)
        outcomes = {
            name: run(options.directory, server, name, Path(folder), options.tests)
            for name in PLUGINS
        }
    for name, ends in outcomes.items():
        counts = Counter(ends.values())
        print(name, *(f"{counts[end]} {end}" for end in sorted(counts)), sep=", ")
    reference = outcomes["without"]
    different = 0
    for name, ends in outcomes.items():
        for test in sorted({*reference, *ends}):
            before, after = reference.get(test, "absent"), ends.get(test, "absent")
            if before != after:
                different += 1
                print(f"{test}: {before} without sa_history, {after} {name}")
    print(f"{len(reference)} tests, {different} end otherwise with sa_history")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
