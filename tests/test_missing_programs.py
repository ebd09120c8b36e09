"""A run without Chromium and PgBouncer passes, and says what it has left out."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

TESTS = """
import pytest
from tests.programs import Program

HERE = Program("python3", ("no-such-python", "python"))
POOLER = Program("pooler", ("no-such-pooler",))
DRIVER = Program("driver", ("no-such-driver",))

def test_it_is_there(programs):
    (path,) = programs(HERE)
    assert path.endswith("python")

@pytest.mark.parametrize("number", range(3))
def test_pooler(programs, number):
    programs(POOLER)

def test_browser(programs):
    programs(HERE, POOLER, DRIVER)
"""


@pytest.fixture
def suite(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    """A suite of which some tests need programs that no system has."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(TESTS)
    return pytester


@pytest.mark.parametrize(
    "options", [[], pytest.param(["-n", "1"], marks=pytest.mark.full)]
)
def test_tests_without_their_program_are_skipped_and_counted_at_the_end(
    suite: pytest.Pytester, options: list[str]
) -> None:
    result = suite.runpytest_subprocess("-p", "tests.missing_programs", *options)
    result.assert_outcomes(passed=1, skipped=4)
    *_, told, _ = result.outlines
    assert told.startswith("Tests not run, by the program that is not installed: ")
    assert "pooler (3)" in told
    assert "pooler driver (1)" in told
    assert "'apt-get install driver pooler'" in told


def test_they_fail_where_programs_are_required(suite: pytest.Pytester) -> None:
    result = suite.runpytest_subprocess(
        "-p", "tests.missing_programs", "--require-programs"
    )
    result.assert_outcomes(passed=1, failed=4)
    result.stdout.fnmatch_lines(
        ["not installed: pooler; *'apt-get install pooler'*--require-programs"]
    )
    result.stdout.no_fnmatch_line("Tests not run*")
