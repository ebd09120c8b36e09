"""Whatever writes has the current context, also what another program sets."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, Connection

import sa_history as history

from .ways import WAYS, Way

Seen = Callable[[], list[tuple[str, Any]]]
InConnection = Callable[[Callable[[Connection], Any]], Any]
USER = {"user": 7}


@pytest.mark.usefixtures("writing_function")
@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_write_has_the_current_context(
    way: Way, in_connection: InConnection, note: Any, seen: Seen
) -> None:
    def work(connection: Connection) -> None:
        with history.context(connection, user=7):
            way(connection, note)
            with history.context(connection, inner=True):
                way(connection, note)
            way(connection, note)
            way(connection, note)
        way(connection, note)
        connection.commit()

    in_connection(work)
    assert seen() == [
        *[("a", USER), ("b", USER)],
        *[("a", {**USER, "inner": True}), ("b", {**USER, "inner": True})],
        *[("a", USER), ("b", USER)] * 2,
        *[("a", None), ("b", None)],
    ]


def test_program_that_sets_the_id_alone_has_an_empty_context(
    pg_url: URL, note: Any, seen: Seen
) -> None:
    url = pg_url.set(drivername="postgresql").render_as_string(hide_password=False)
    told = "SELECT set_config('pghistory.context_' || %s, %s, true)"
    with psycopg.connect(url) as connection:
        for body, metadata in (("a", None), ("b", '{"user": 7}'), ("c", None)):
            connection.execute(told, ["id", str(uuid.uuid4())])
            if metadata is not None:
                connection.execute(told, ["metadata", metadata])
            connection.execute("INSERT INTO note (body) VALUES (%s)", [body])
            connection.commit()
    assert seen() == [("a", {}), ("b", USER), ("c", {})]
