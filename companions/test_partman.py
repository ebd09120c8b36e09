from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from companions.debian import debian_server
from sa_history.testing import PgServer


@pytest.fixture(scope="session")
def pg_server() -> Iterator[PgServer]:
    with debian_server() as server:
        yield server


def test_documentation(documentation: Callable[[], None]) -> None:
    documentation()
