"""Flask: each request is a context, the commands, and a timeline page.

Install it with ``pip install sa_history[flask]``.
"""

from __future__ import annotations

try:
    from sa_history.flask.blueprint import timeline
    from sa_history.flask.extension import History
    from sa_history.timeline.entries import Entry
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"sa_history.flask needs {error.name}, which is not installed; install "
        "sa_history with its extra: sa_history[flask]",
        name=error.name,
    ) from error

__all__ = ["Entry", "History", "timeline"]
