"""What a test looks at in a database."""

from __future__ import annotations

from collections.abc import Callable

from sa_history.install import Finding

Run = Callable[..., None]
Objects = Callable[[], list[str]]


def briefly(findings: list[Finding]) -> list[tuple[str, str, str, str | None]]:
    return [(f.problem.value, f.kind, f.name, f.command) for f in findings]
