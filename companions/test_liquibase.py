"""Liquibase deploys what ``sa-history ddl`` prints."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from companions.liquibase import install
from sa_history.testing import EmbeddedPostgres, PgServer


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def port() -> int:
    """The port of the server, since JDBC knows no Unix sockets."""
    return _free_port()


@pytest.fixture(scope="session")
def pg_server(port: int) -> Iterator[PgServer]:
    settings = {"listen_addresses": "127.0.0.1", "port": str(port)}
    with EmbeddedPostgres(**settings) as server:
        yield PgServer.from_url(server.url(), embedded=True)


def test_documentation(
    documentation: Callable[[], None],
    pg_url: URL,
    port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = install(tmp_path / "liquibase")
    monkeypatch.setenv("PATH", str(program), prepend=os.pathsep)
    url = f"jdbc:postgresql://127.0.0.1:{port}/{pg_url.database}"
    monkeypatch.setenv("LIQUIBASE_COMMAND_URL", url)
    monkeypatch.setenv("LIQUIBASE_COMMAND_USERNAME", "postgres")
    documentation()
