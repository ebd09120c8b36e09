"""The programs that type checkers check can run: what they define is what they say."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import configure_mappers

PROGRAMS = sorted(Path(__file__).parent.glob("programs/*.py"))


def run(path: Path) -> dict[str, Any]:
    program = runpy.run_path(str(path))
    configure_mappers()
    return program


@pytest.mark.parametrize("path", PROGRAMS, ids=[path.stem for path in PROGRAMS])
def test_the_classes_of_a_program_can_be_made(path: Path) -> None:
    run(path)


def test_the_declared_events_are_those_of_the_tracking() -> None:
    program = run(Path(__file__).parent / "programs/own_event_base.py")
    for model, base in [
        ("Account", "AccountEvent"),
        ("Order", "OrderEvent"),
        ("Invoice", "AuditedEvent"),
    ]:
        assert issubclass(program[model].events.model, program[base])
