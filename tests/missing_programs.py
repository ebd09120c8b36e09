"""Leave out the tests whose program is missing, and say so at the end of the run.

A test asks for its programs by the fixture ``programs``. With ``--require-programs`` it
fails where one is missing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import pytest

from tests.programs import Program

Find = Callable[..., list[str]]

MISSING = "not installed: "


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that CI sets."""
    parser.addoption(
        "--require-programs",
        action="store_true",
        help="fail where Chromium or PgBouncer is missing; otherwise the tests that"
        " need them are skipped",
    )


@pytest.fixture(scope="session")
def programs(request: pytest.FixtureRequest) -> Find:
    """Find the paths of programs; a test that lacks one does not run."""

    def find(*wanted: Program) -> list[str]:
        found = {program.package: program.find() for program in wanted}
        missing = " ".join(package for package, path in found.items() if path is None)
        if missing and request.config.getoption("--require-programs"):
            pytest.fail(
                f"{MISSING}{missing}; install it, on Debian by"
                f" 'apt-get install {missing}', or leave out --require-programs",
                pytrace=False,
            )
        if missing:
            pytest.skip(f"{MISSING}{missing}")
        return [path for path in found.values() if path]

    return find


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which tests were left out because a program is missing, and what to do."""
    left_out: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", ()):
        if found := re.fullmatch(f"Skipped: {MISSING}(.*)", report.longrepr[2]):
            left_out[found[1]] += 1
    if left_out:
        counts = ", ".join(f"{what} ({count})" for what, count in left_out.items())
        packages = sorted({name for what in left_out for name in what.split()})
        terminalreporter.write_line(
            f"Tests not run, by the program that is not installed: {counts}; on Debian,"
            f" 'apt-get install {' '.join(packages)}' brings it.",
            yellow=True,
        )
