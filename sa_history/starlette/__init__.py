"""Starlette and FastAPI: a timeline page, for sync and async engines.

Install it with ``pip install sa_history[starlette]``.
"""

from __future__ import annotations

from sa_history.starlette.application import timeline
from sa_history.timeline.entries import Entry

__all__ = ["Entry", "timeline"]
