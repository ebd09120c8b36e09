"""Flask: each request is a context, the commands, and a timeline page.

Install it with ``pip install sa_history[flask]``.
"""

from __future__ import annotations

from sa_history.flask.blueprint import timeline
from sa_history.flask.extension import History
from sa_history.timeline.entries import Entry

__all__ = ["Entry", "History", "timeline"]
