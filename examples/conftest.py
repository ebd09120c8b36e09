"""The fixtures for the tests of the examples."""

from __future__ import annotations

pytest_plugins = ["sa_history.testing.plugin"]
