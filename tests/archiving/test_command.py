"""``sa-history archive``."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from sa_history.cli import main
from tests.archiving import worker
from tests.commands.conftest import Terminal


@pytest.fixture
def command(
    pg_url: URL,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folder: Path,
) -> Any:
    """Run the command, and return its exit status and what it prints."""
    url = pg_url.render_as_string(hide_password=False)
    monkeypatch.setenv("DATABASE_URL", url)
    worker.write(url)

    def run(*arguments: str) -> tuple[int, str]:
        models = f"{worker.__name__}:Base"
        status = main(["archive", models, "--to", str(folder), *arguments])
        return status, capsys.readouterr().out

    return run


def test_it_prints_what_was_archived_and_what_is_wrong(
    command: Any, folder: Path
) -> None:
    status, out = command("--open")
    events, contexts = out.split("public.pghistory_context\n")
    assert status == 0
    assert events.startswith(
        "public.account_event\n  pgh_part=1/events.parquet: 10 rows, "
    )
    assert events.splitlines()[-1].startswith("  pgh_part=open/events.parquet: ")
    assert contexts.startswith("  pgh_part=open/contexts.parquet: 0 rows, ")
    assert command()[1] == (
        "public.account_event\n  nothing to do\n"
        "public.pghistory_context\n  nothing to do\n"
    )
    events, contexts = command("--verify")[1].split("public.pghistory_context\n")
    told = r"public\.account_event\n  3 files, 30 rows: as they were written\n"
    assert re.fullmatch(told, events)
    assert contexts == "  nothing to do\n"
    (folder / "public.account_event/pgh_part=11/events.parquet").unlink()
    status, out = command("--verify", "--drop")
    assert status == 1
    assert "  drop public.account_event_p1\n" in out
    assert "  later: remove public.account_event_p11: it is not in the archive\n" in out
    assert "  wrong: " in out


def test_json_has_what_was_written(command: Any, folder: Path) -> None:
    _, out = command("--json", "--older-than", "1 day")
    assert [json.loads(line)["archived"] for line in out.splitlines()] == [[], []]
    _, out = command("--json", "--open")
    report = json.loads(out.splitlines()[0])
    assert report["folder"] == str(folder)
    assert report["archived"][0]["path"] == "pgh_part=1/events.parquet"
    assert report["archived"][0]["rows"] == 10
    assert report["open"]["upper"] is None
    assert report["problems"] == report["postponed"] == report["dropped"] == []
    assert report["verified"] == []
    _, out = command("--json", "--verify")
    assert "pgh_part=1/events.parquet" in json.loads(out.splitlines()[0])["verified"]


def test_a_terminal_shows_how_far_it_is(
    command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    command()
    first = terminal.getvalue().split("\r\x1b[K")[1]
    assert first.startswith("public.account_event: 10 rows, ")
    assert first.endswith(" left")
