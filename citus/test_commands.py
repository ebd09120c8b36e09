"""The commands on tables of Citus: each of them works, or says why it does not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, func, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

import sa_history as history
from sa_history.cli import main
from sa_history.install import harden

from .conftest import Cluster
from .distributed_oracle import TENANTS
from .models import Account, Distributed, Order, Sharded
from .test_migrations import ledger


@dataclass(frozen=True)
class Shop:
    """A database with rows of all tenants that ada has made, and one that ben changed.

    :param time: when all this had been done.
    """

    base: Any
    model: Any
    engine: Engine
    time: str = ""

    def run(self, command: str, *arguments: str, model: bool = False) -> int:
        """Run a command for the model, or for all."""
        models = f"citus.models:{(self.model if model else self.base).__name__}"
        url = self.engine.url.render_as_string(hide_password=False)
        return main([command, models, *arguments, "--url", url])


@pytest.fixture(scope="module", params=["distributed", "sharded"])
def shop(request: Any, cluster: Cluster, engine: Engine) -> Iterator[Shop]:
    if request.param == "distributed":
        made = Shop(Distributed, Account, engine)
    else:
        cluster.create_tenant("north")
        path = {"options": "-csearch_path=north"}
        north = create_engine(engine.url.update_query_dict(path))
        made = Shop(Sharded, Order, north)
    model = made.model
    made.base.metadata.create_all(made.engine)
    with Session(made.engine) as session:
        with history.context(session, user="ada"):
            session.add_all([model(tenant=t, id=1, balance=0) for t in TENANTS])
            session.commit()
        with history.context(session, user="ben"):
            session.execute(update(model).where(model.tenant == "t1").values(balance=7))
            session.commit()
        now = session.scalar(select(func.clock_timestamp()))
    yield Shop(made.base, model, made.engine, now.isoformat())
    made.base.metadata.drop_all(made.engine)
    if made.engine is not engine:
        made.engine.dispose()
        with cluster.connect() as connection:
            connection.execute("DROP SCHEMA north CASCADE")


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[Any]]:
    """Return what was printed as JSON, line by line."""

    def read() -> list[Any]:
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return read


def test_log_shows_events(shop: Shop, printed: Callable[[], list[Any]]) -> None:
    for arguments, count in {
        (): 1 + len(TENANTS),
        ("--limit", "2"): 2,
        ("--user", "ben"): 1,
        ("--context", "user=ada"): len(TENANTS),
        ("--since", "1h"): 1 + len(TENANTS),
        ("--until", "1h"): 0,
    }.items():
        assert shop.run("log", *arguments, "--json") == 0
        assert len(printed()) == count, arguments
    assert shop.run("log", "t1", "1", "--json", model=True) == 0
    changed, created = printed()
    assert (changed["user"], changed["diff"]) == ("ben", {"balance": [0, 7]})
    assert (created["user"], created["diff"]) == ("ada", None)
    number = str(created["transaction"])
    assert shop.run("log", "--transaction", number, "--json") == 0
    assert len(printed()) == len(TENANTS)


def test_diff_shows_what_changed(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shop.run("diff", "t1", "1", model=True) == 0
    assert "-balance: 0\n+balance: 7" in capsys.readouterr().out
    assert shop.run("diff", "t1", "1", "--since", shop.time, model=True) == 0


def test_as_of_shows_rows(shop: Shop, printed: Callable[[], list[Any]]) -> None:
    assert shop.run("as-of", shop.time, "--json", model=True) == 0
    rows = {row["tenant"]: row["balance"] for row in printed()}
    assert rows == {tenant: 7 if tenant == "t1" else 0 for tenant in TENANTS}
    assert shop.run("as-of", shop.time, "t1", "1", "--json", model=True) == 0
    assert [row["balance"] for row in printed()] == [7]


def test_subject_prints_all_of_one_object(
    shop: Shop, printed: Callable[[], list[Any]]
) -> None:
    assert shop.run("subject", "t1", "1", "--json", model=True) == 0
    (found,) = printed()
    assert found["row"]["balance"] == 7
    assert [event["data"]["balance"] for event in found["events"]] == [0, 7]


def test_size_is_that_on_all_nodes(
    shop: Shop, printed: Callable[[], list[Any]]
) -> None:
    assert shop.run("size", "--keep", "1 month", "--json") == 0
    name = shop.model.events.table.name
    (found,) = (t for t in printed() if t["name"].endswith(f".{name}"))
    with shop.engine.connect() as connection:
        size = text("SELECT citus_total_relation_size(CAST(:name AS regclass))")
        assert found["bytes"] == connection.scalar(size, {"name": name})
    assert found["rows"] == 1 + len(TENANTS)
    assert found["removed_rows"] == 0


def test_objects_are_listed_taken_away_and_made_again(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shop.run("check") == 0
    assert shop.run("ls") == 0
    assert "missing" not in capsys.readouterr().out
    assert shop.run("install") == 0
    assert capsys.readouterr().out == "nothing to do\n"
    assert shop.run("uninstall") == 0
    assert shop.run("check") == 1
    assert shop.run("install") == 0
    assert shop.run("check") == 0


REFUSED = {
    "archive": "no event table has partitions",
    "seal": "no model asks for seals",
    "verify": "no model asks for seals",
    "erase": "can be erased; name its personal data",
    "baseline": "only triggers know the numbers that hold on all nodes of Citus",
}


@pytest.mark.parametrize("command", REFUSED)
def test_others_are_refused(
    command: str, shop: Shop, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = {"archive": ("--to", str(tmp_path)), "erase": ("t1", "1")}
    is_of_model = command == "erase"
    assert shop.run(command, *arguments.get(command, ()), model=is_of_model) == 2
    assert REFUSED[command] in capsys.readouterr().err


def test_no_table_has_partitions(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in ((), ("--convert",), ("--keep", "1 month")):
        assert shop.run("partitions", *arguments) == 0
        assert capsys.readouterr().out == "no event table has partitions\n"


@pytest.mark.parametrize("level", ["statement", "row"])
def test_role_can_only_read_the_history_on_all_nodes(
    level: str, cluster: Cluster, engine: Engine
) -> None:
    metadata = ledger(level=level, distribute="tenant", ignorable=False)
    metadata.create_all(engine)
    role = f"app_{level}"
    with cluster.connect() as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN")
        connection.execute(
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ledger, ledger_event TO {role}"
        )
    harden(engine, metadata, role=role)
    for node in range(3):
        app = create_engine(cluster.servers[node].set(username=role))
        with app.begin() as connection, history.context(connection, user=node):
            connection.execute(text(f"INSERT INTO ledger VALUES ({node}, 1, 0)"))
        for change in ("DELETE FROM ledger_event", "UPDATE ledger_event SET id = 2"):
            with app.connect() as connection, pytest.raises(DBAPIError, match="denied"):
                connection.execute(text(change))
        if node:
            with app.connect() as connection:
                shard = connection.scalar(
                    text(
                        "SELECT shard_name(logicalrelid, shardid) FROM pg_dist_shard"
                        " JOIN pg_dist_placement USING (shardid)"
                        " WHERE logicalrelid = 'ledger_event'::regclass"
                        f" AND groupid = {node} LIMIT 1"
                    )
                )
                connection.execute(text(f"SELECT FROM {shard}"))
                with pytest.raises(DBAPIError, match="denied"):
                    connection.execute(text(f"DELETE FROM {shard}"))
        app.dispose()
    with engine.connect() as connection:
        read = "SELECT tenant, pgh_context ->> 'user' FROM ledger_event ORDER BY 1"
        found = connection.execute(text(read)).all()
        assert [tuple(row) for row in found] == [(n, str(n)) for n in range(3)]
    metadata.drop_all(engine)
    with cluster.connect() as connection:
        connection.execute(f"DROP OWNED BY {role}")
        connection.execute(f"DROP ROLE {role}")
