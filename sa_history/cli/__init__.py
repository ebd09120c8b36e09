"""The command ``sa-history``: arguments are read here, and results are printed.

What the commands do to a database is in :mod:`sa_history.install`.
"""

from __future__ import annotations

from sa_history.cli.parser import main

__all__ = ["main"]
