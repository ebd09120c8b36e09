"""Values that the model's columns have, and those that they cannot."""

from __future__ import annotations

import enum
from typing import Any


class Status(enum.Enum):
    DRAFT = "draft"
    DONE = "done"


def kind_of(value: Any) -> str | None:
    """What a test is called after; values are not the same in each process."""
    return None if isinstance(value, str) else type(value).__name__


WAY = [("draft", "done")]
