"""The fixtures for the tests of the pages, which are in test_pages.py."""

from __future__ import annotations

pytest_plugins = ["sa_history.testing.plugin"]
