"""What all tests share: a PostgreSQL, and pytest's means to test pytest plugins."""

from __future__ import annotations

pytest_plugins = ["sa_history.testing.plugin", "pytester"]
