"""The command ``sa-history``."""

from __future__ import annotations

from sa_history.cli.parser import main

__all__ = ["main"]
