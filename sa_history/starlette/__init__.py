"""Starlette and FastAPI: a timeline page, for sync and async engines.

Install it with ``pip install sa_history[starlette]``.
"""

from __future__ import annotations

from sa_history.starlette.application import timeline

__all__ = ["timeline"]
