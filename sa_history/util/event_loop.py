"""Whether an event loop runs, where tasks share what belongs to the thread."""

from __future__ import annotations

import asyncio


def is_event_loop_running() -> bool:
    """Return True if an event loop of asyncio runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
