"""The timeline of tables that Citus has: each page, in each framework."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import flask
import pytest
from sqlalchemy import Engine, NullPool, func, select, text, update
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from starlette.applications import Starlette
from starlette.middleware.sessions import SessionMiddleware

import sa_history as history
import sa_history.starlette
from sa_history.flask import History, timeline
from tests.timeline.visitor import (
    FRAMEWORKS,
    SECRET_KEY,
    AsgiClient,
    Looker,
    set_token,
    words,
)

from .conftest import Cluster
from .distributed_oracle import TENANTS
from .models import Account, Distributed, Order, Sharded


@dataclass(frozen=True)
class Shop:
    """A base with a model, and an engine for its tables."""

    engine: Engine
    base: type[DeclarativeBase]
    model: Any
    until: str = ""
    """A time after the first events, which are all that some tests look at."""

    @property
    def events(self) -> str:
        """The name of the event table."""
        return str(self.model.events.table.name)


@pytest.fixture(scope="module", params=["distributed", "sharded"])
def shop(request: Any, cluster: Cluster, engine: Engine) -> Iterator[Shop]:
    """Rows of all tenants that ada has made, and ben changed; nobody deleted one."""
    if request.param == "distributed":
        made = Shop(engine, Distributed, Account)
    else:
        cluster.create_tenant("north")
        options: Any = {"schema_translate_map": {None: "north"}}
        made = Shop(engine.execution_options(**options), Sharded, Order)
    made.base.metadata.create_all(made.engine)
    model = made.model
    with Session(made.engine) as session:
        with history.context(session, user="ada"):
            session.add_all(
                [model(tenant=t, id=1, balance=0, note=f"of {t}") for t in TENANTS]
            )
            session.commit()
        with history.context(session, user="ben"):
            session.execute(update(model).values(balance=7))
            session.commit()
        session.delete(session.get_one(model, ("t3", 1)))
        session.commit()
        now = session.scalar(select(func.clock_timestamp()))
        until = now.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")
    yield replace(made, until=until)
    made.base.metadata.drop_all(made.engine)
    if request.param == "sharded":
        with cluster.connect() as connection:
            connection.execute("DROP SCHEMA north CASCADE")


@pytest.fixture(params=FRAMEWORKS)
def look(request: Any, shop: Shop) -> Looker:
    """Somebody who may do all that the pages can."""
    options = {
        "models": shop.base,
        "page_size": 10,
        "authorize_restore": lambda event: True,
        "authorize_undo": lambda plan: True,
    }
    url, given = shop.engine.url, dict(shop.engine.get_execution_options())
    if request.param == "flask":
        app = flask.Flask("shop", root_path="/")
        app.config["SECRET_KEY"] = SECRET_KEY
        History(sessionmaker(shop.engine), models=shop.base).init_app(app)
        pages = timeline(authorize=lambda: True, authorize_size=lambda: True, **options)
        app.register_blueprint(pages, url_prefix="/history")
        client: Any = app.test_client()
    else:
        engine: Any = shop.engine
        if request.param == "fastapi":
            engine = create_async_engine(
                url.set(drivername="postgresql+asyncpg"),
                poolclass=NullPool,
                execution_options=given,
            )
        site = Starlette()
        site.add_middleware(SessionMiddleware, secret_key=SECRET_KEY)
        application = sa_history.starlette.timeline(
            engine,
            authorize=lambda request: True,
            authorize_size=lambda request: True,
            secret_key=SECRET_KEY,
            **options,
        )
        site.mount("/history", application)
        client = AsgiClient(site)
    set_token(client, "known")
    return Looker(client)


NUMBER = 2 * len(TENANTS) + 1
"""How many events there are at first."""


def test_lists_have_all_events(shop: Shop, look: Looker) -> None:
    until = f"until={shop.until}"
    found, path = [], f"/?{until}"
    while path:
        answer = look.json(path)
        found += answer["events"]
        path = answer["next"]
    numbers = [event["id"] for event in found]
    assert len(numbers) == NUMBER
    assert numbers == sorted(set(numbers), reverse=True)
    assert [e["diff"] for e in found].count({"balance": [0, 7]}) == len(TENANTS)
    changed, created = found[1], found[-1]
    for criterion, count in {
        "": NUMBER,
        "user=ben": len(TENANTS),
        "text=of+t3": 3,
        f"table={shop.events}": NUMBER,
        f"table={shop.events}&key={quote(created['key'])}": 2,
    }.items():
        lines = look.page(f"/export.jsonl?{until}&{criterion}").splitlines()
        assert len(lines) == count, criterion
        assert len(look.page(f"/export.csv?{until}&{criterion}").splitlines()) > count
    for path in (f"/?{until}", "/?user=ben", "/?text=of+t3", f"/chart?{until}"):
        look.page(path)
    for page in (
        "contexts/" + changed["context_id"],
        f"transactions/{changed['transaction']}",
    ):
        together = look.json(f"/{page}")["events"]
        assert {e["user"] for e in together} == {"ben"}
        look.page(f"/{page}")
    days = look.json(f"/chart?{until}")["days"]
    assert sum(day["events"] for day in days) == NUMBER


def test_size_is_that_on_all_nodes(shop: Shop, look: Looker) -> None:
    with shop.engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")
    with shop.engine.connect() as connection:
        schemas = shop.engine.get_execution_options().get("schema_translate_map", {})
        name = f"{schemas.get(None, 'public')}.{shop.events}"
        size = text("SELECT citus_total_relation_size(CAST(:name AS regclass))")
        on_nodes = connection.scalar(size, {"name": name})
    (found,) = (t for t in look.json("/size")["tables"] if t["name"] == name)
    assert found["bytes"] == on_nodes > 8192
    assert found["rows"] >= NUMBER
    look.page("/size")


def test_row_is_restored_after_a_preview(shop: Shop, look: Looker) -> None:
    first = look.json(f"/?until={shop.until}&user=ada")["events"][0]
    key = json.loads(first["key"])
    page = f"/objects/{shop.events}/{quote(first['key'])}"
    assert look.json(f"{page}?at={shop.until}")["state"]["data"]["balance"] == 7
    path = f"/restore/{shop.events}/{first['id']}"
    (preview,) = look.json(path)["events"]
    assert preview["diff"] == {"balance": [7, 0]}
    assert "balance 7 0" in words(look.page(path))
    answer = look.client.post(f"/history{path}", data={"token": "known"})
    assert answer.status_code == 303
    newest, *_ = look.json(page)["events"]
    assert newest["diff"] == {"balance": [7, 0]}
    assert newest["context"]["restored"] == first["id"]
    with Session(shop.engine) as session:
        row = session.get_one(shop.model, tuple(key))
        assert row.balance == 0
        row.balance = 7  # for the next one
        session.commit()


def test_transaction_is_undone_after_a_preview_and_its_undo_as_well(
    shop: Shop, look: Looker
) -> None:
    with Session(shop.engine) as session, history.context(session, user="eve"):
        model = shop.model
        session.execute(update(model).where(model.tenant > "t5").values(note="new"))
        session.commit()
    number = look.json("/?user=eve")["events"][0]["transaction"]
    tenants = sorted(tenant for tenant in TENANTS if tenant > "t5")
    for note in ("new", None):
        path = f"/transactions/{number}/undo"
        preview = look.json(path)
        assert sorted(e["data"]["tenant"] for e in preview["events"]) == tenants
        assert "What will be written" in words(look.page(path))
        answer = look.client.post(f"/history{path}", data={"token": "known"})
        assert answer.status_code == 303
        page = str(answer.location)
        undone = look.json(page)["events"]
        assert sorted(e["data"]["tenant"] for e in undone) == tenants
        assert all(e["diff"]["note"][0] == note or note is None for e in undone)
        number = int(page.rsplit("/", 1)[-1])
        look.page(page.removeprefix("/history"))
    with Session(shop.engine) as session:
        row = session.get_one(shop.model, (tenants[0], 1))
        assert row.note == "new"
