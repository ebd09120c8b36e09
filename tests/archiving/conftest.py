"""A model with partitions, its events, and the folder of an archive."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the archive, which is made by who writes it."""
    return tmp_path / "archive"
