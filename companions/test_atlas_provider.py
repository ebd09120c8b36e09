from __future__ import annotations

from collections.abc import Callable


def test_documentation(documentation: Callable[[], None]) -> None:
    documentation()
