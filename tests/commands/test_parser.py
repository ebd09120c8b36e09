"""``sa-history`` without a command: its version, and what completes its arguments."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from sa_history.cli.commands import COMMANDS, JSON

from .conftest import Main


def test_every_command_prints_json_for_programs() -> None:
    assert all(JSON in command.arguments for command in COMMANDS)


def test_the_version_is_that_of_the_package(run: Main) -> None:
    assert run("--version") == (0, f"sa-history {version('sa_history')}\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_completes_commands_and_options(shell: str, run: Main) -> None:
    status, printed, error = run(f"--completion {shell}")
    assert (status, error) == (0, "")
    for word in ("baseline", "as-of", "app-role", "without-tables", "bypassed"):
        assert word in printed


def test_bash_completes(run: Main, tmp_path: Path) -> None:
    script = tmp_path / "completion.bash"
    script.write_text(run("--completion bash")[1])

    def completed(*words: str) -> set[str]:
        quoted = " ".join(map(repr, words))
        program = (
            f"source {script}; COMP_WORDS=({quoted}); "
            f"COMP_CWORD={len(words) - 1}; "
            f"_shtab_sa_history; "
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(
            ["bash", "-c", program], capture_output=True, text=True, check=True
        )
        return set(done.stdout.split())

    assert completed("sa-history", "un") == {"uninstall"}
    assert completed("sa-history", "log", "--tr") == {"--transaction"}
    assert "orphaned" in completed("sa-history", "check", "shop:Base", "--allow", "")


def test_completion_says_what_it_needs(
    run: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    status, printed, error = run("--completion bash")
    assert (status, printed) == (2, "")
    assert error.endswith(
        "error: completion needs shtab, which is not installed; run pip install "
        '"sa_history[completion]"\n'
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "the following arguments are required: command"),
        ("--completion sh", "argument --completion: invalid choice: 'sh'"),
        ("chek shop:Base", "invalid choice: 'chek' (choose from"),
        ("check", "the following arguments are required: models"),
        ("check shop:Base --prune", "unrecognized arguments: --prune"),
        ("log shop:Base --limit 0", "argument --limit: a number from 1 on, got '0'"),
        ("diff shop:Account 7 --between 1", "--between: expected 2 arguments"),
        ("as-of shop:Account", "the following arguments are required: time"),
    ],
)
def test_wrong_arguments_are_told_with_the_usage(
    arguments: str, message: str, run: Main
) -> None:
    status, printed, error = run(*arguments.split())
    assert (status, printed) == (2, "")
    assert error.startswith("usage: sa-history")
    assert message in error
