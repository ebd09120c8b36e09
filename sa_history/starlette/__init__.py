"""Starlette and FastAPI: a timeline page, for sync and async engines.

Install it with ``pip install sa_history[starlette]``.
"""

from __future__ import annotations

try:
    from sa_history.starlette.application import timeline
    from sa_history.timeline.entries import Entry
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"sa_history.starlette needs {error.name}, which is not installed; install "
        "sa_history with its extra: sa_history[starlette]",
        name=error.name,
    ) from error

__all__ = ["Entry", "timeline"]
