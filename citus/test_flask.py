"""An application of Flask whose tenants have a sharded schema each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import flask
import pytest
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy.session import Session as FlaskSession
from sqlalchemy import URL, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import track
from sa_history.flask import History, timeline

from .conftest import Cluster

SHOPS = ["north", "south"]


class TenantSession(FlaskSession):
    """A session for the schema of the request's tenant."""

    def get_bind(self, *arguments: Any, **options: Any) -> Any:
        bind = super().get_bind(*arguments, **options)
        tenant = flask.request.headers["Tenant"]
        return bind.execution_options(schema_translate_map={None: tenant})


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base, session_options={"class_": TenantSession})


@track(distribute=True)
class Note(db.Model):  # type: ignore[name-defined, misc]
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    body: Mapped[str]


def application(url: URL) -> flask.Flask:
    app = flask.Flask("shop", root_path="/")
    app.config.update(SECRET_KEY="secret", TESTING=True, SQLALCHEMY_DATABASE_URI=url)
    db.init_app(app)
    # Given the session, the timeline reads where that does.
    History(db.session, models=db.Model).init_app(app)
    pages = timeline(authorize=lambda: True)
    app.register_blueprint(pages, url_prefix="/history")

    @app.put("/notes/<int:number>")
    def put(number: int) -> str:
        note = db.session.get(Note, number) or Note(id=number)
        note.body = flask.request.get_data(as_text=True)
        db.session.add(note)
        db.session.commit()
        with history.context(via="a second transaction"):
            note.body += "!"
            db.session.commit()
        return ""

    return app


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Any]:
    app = application(cluster.servers[0])
    with app.app_context():
        for shop in SHOPS:
            cluster.create_tenant(shop)
            tenant = {"schema_translate_map": {None: shop}}
            db.metadata.create_all(db.engine.execution_options(**tenant))
        yield app.test_client()
        db.engine.dispose()
    assert {cluster.node_of(shop) for shop in SHOPS} == {1, 2}


def test_each_tenant_has_a_history_of_its_own(client: Any) -> None:
    for shop in [*SHOPS, SHOPS[0]]:
        headers = {"Tenant": shop}
        assert client.put("/notes/1", data=f"of {shop}", headers=headers).text == ""
    for shop, number in (("north", 4), ("south", 2)):
        tenant = {"schema_translate_map": {None: shop}}
        with Session(db.engine.execution_options(**tenant)) as session:
            events = session.scalars(Note.events.select()).all()
            assert [event.body for event in events] == [
                *[f"of {shop}", f"of {shop}!"] * (number // 2)
            ]
            said = [event.pgh_context.metadata for event in events]
            assert {context["path"] for context in said} == {"/notes/1"}
            assert [context.get("via") for context in said] == (
                [None, "a second transaction"] * (number // 2)
            )
            assert session.scalar(select(Note.body)) == f"of {shop}!"
        headers = {"Tenant": shop, "Accept": "application/json"}
        listed = client.get("/history/", headers=headers).json["events"]
        assert [each["data"]["body"] for each in listed] == [
            event.body for event in reversed(events)
        ]
