"""The time that triggers of these tests set."""

from __future__ import annotations

import datetime

THEN = datetime.datetime(2001, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc)
"""A time that triggers of the tests set."""
