"""What Kiosk's users do, and what is on the timeline then."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import check, downgrade
from kiosk.extensions import db
from kiosk.models import Item, Order, User, order_tag
from kiosk.seeds import ADMIN
from sqlalchemy import func, inspect, select

from sa_history import AggregateEvent, events

JSON = {"Accept": "application/json"}


def timeline(client: FlaskClient, path: str = "", **filters: str) -> list[Any]:
    answer = client.get(f"/history/{path}", query_string=filters, headers=JSON)
    assert answer.status_code == 200
    return answer.json["events"]


def token_of(page: str) -> str:
    return page.partition('name="token" value="')[2].partition('"')[0]


@pytest.fixture
def order(app: Flask) -> Order:
    """An order with items."""
    with app.app_context():
        return db.session.scalars(select(Order).join(Order.items)).first()


@pytest.fixture
def item(app: Flask, order: Order) -> Item:
    with app.app_context():
        return db.session.scalars(select(Item).filter_by(order_id=order.id)).first()


def fields(order: Order, **changed: object) -> dict[str, object]:
    names = ("customer", "address", "status", "note")
    return {**{name: getattr(order, name) for name in names}, **changed}


def test_an_order_that_is_edited(ada: FlaskClient, ben: FlaskClient, order: Order):
    path = f"/orders/{order.id}"
    assert ben.submit(path, **fields(order, customer="Zoë")).status_code == 302
    newest = timeline(ada, f"objects/orders_event/{order.id}")[0]
    assert newest["diff"] == {"customer": [order.customer, "Zoë"]}
    assert newest["user"] == "ben"
    assert newest["context"] == {
        "user": "ben",
        "method": "POST",
        "path": path,
        "endpoint": "kiosk.order",
        "remote": "127.0.0.1",
    }


def test_an_item_that_is_deleted(ada: FlaskClient, ben: FlaskClient, item: Item):
    path = f"/orders/{item.order_id}/items/{item.id}/delete"
    assert ben.submit(path).status_code == 302
    newest = timeline(ada, context=f"order={item.order_id}")[0]
    assert (newest["model"], newest["key"]) == ("Item", str(item.id))
    assert (newest["operation"], newest["user"]) == ("deleted", "ben")
    assert newest["data"]["price"] == float(item.price)


def test_tags_are_put_on_an_order(
    app: Flask, ada: FlaskClient, ben: FlaskClient, order: Order
):
    with app.app_context():
        before = db.session.scalar(
            select(func.count()).select_from(order_tag).filter_by(order_id=order.id)
        )
    ben.submit(f"/orders/{order.id}", **fields(order, note="x", tag=[1, 2, 3, 4]))
    together = timeline(ada, f"contexts/{timeline(ada)[0]['context_id']}")
    assert len(together) == 1 + 4 - before
    assert {event["model"] for event in together} == {"Order", "order_tag"}
    assert {event["user"] for event in together} == {"ben"}


def test_a_password_is_on_no_page(app: Flask, ada: FlaskClient, ben: FlaskClient):
    ben.submit("/password", password="a new one")
    assert timeline(ada)[0]["diff"] == {"password_hash": ["•••", "•••"]}
    with app.app_context():
        hashes = db.session.scalars(select(User.events.password_hash)).all()
    key = timeline(ada)[0]["key"]
    for path in ("/history/?table=users_event", f"/history/objects/users_event/{key}"):
        for headers in ({}, JSON):
            page = ada.get(path, headers=headers)
            assert page.status_code == 200
            assert not any(value in page.text for value in hashes)


def test_logging_in_is_no_event(app: Flask, ada: FlaskClient):
    with app.app_context():
        seen = db.session.scalar(select(User.seen_at).filter_by(name="ada"))
    assert seen is not None
    assert timeline(ada, user="ada", table="users_event") == []


def test_what_an_admin_restores(app: Flask, ada: FlaskClient, order: Order):
    ada.submit(f"/orders/{order.id}", **fields(order, customer="Zoë"))
    path = f"objects/orders_event/{order.id}"
    first = timeline(ada, path)[-1]
    restore = f"/history/restore/orders_event/{first['id']}"
    answer = ada.post(restore, data={"token": token_of(ada.get(restore).text)})
    assert answer.location == f"/history/{path}"
    newest = timeline(ada, path)[0]
    assert newest["data"] == first["data"]
    assert newest["context"]["restored"] == first["id"]
    assert newest["user"] == "ada"


def test_what_cannot_be_restored(app: Flask, ada: FlaskClient, item: Item):
    ada.submit(f"/orders/{item.order_id}/delete")
    path = f"objects/item_event/{item.id}"
    deleted = timeline(ada, path)[0]
    order = timeline(ada, f"objects/orders_event/{item.order_id}")[0]
    page = ada.get(f"/history/restore/orders_event/{order['id']}").text
    # Its order is gone.
    restore = f"/history/restore/item_event/{deleted['id']}"
    refused = ada.post(restore, data={"token": token_of(page)})
    for answer in (ada.get(restore), refused):
        assert answer.status_code == 409
        assert "item_order_id_fkey" in answer.text
        assert "INSERT" not in answer.text
    assert timeline(ada, path)[0] == deleted


def test_who_may_see_the_timeline(app: Flask, ben: FlaskClient, order: Order):
    path = f"/history/objects/orders_event/{order.id}"
    assert ben.get(path).status_code == 403
    anybody = app.test_client()
    answer = anybody.get(path)
    assert answer.status_code == 302
    answer = anybody.submit(answer.location, name=ADMIN[0], password=ADMIN[1])
    assert answer.location == path


def test_a_login_leads_nowhere_else(ada: FlaskClient):
    for target in ("//evil.example", "https://evil.example", "%5C%5Cevil.example"):
        answer = ada.submit(f"/login?next={target}", name=ADMIN[0], password=ADMIN[1])
        assert answer.location == "/"


def test_a_form_needs_its_token(app: Flask, ben: FlaskClient, order: Order):
    path = f"/orders/{order.id}/delete"
    for data in ({}, {"csrf_token": ""}, {"csrf_token": "é"}):
        assert ben.post(path, data=data).status_code == 400
    with app.app_context():
        assert db.session.get(Order, order.id) is not None


def test_a_form_that_is_filled_in_wrongly(ada: FlaskClient):
    before = timeline(ada)
    for path, form in (
        ("/products/1", {"price": "a lot"}),
        ("/products/1", {"price": "nan"}),
        ("/products/1", {"price": "-1"}),
        ("/products/1", {"price": "100000"}),
        ("/orders/1", {"customer": "x", "address": "x", "status": "lost"}),
        ("/orders/1/items", {"product": "1", "quantity": "0"}),
        ("/orders/new", {"customer": " ", "address": "x"}),
        ("/tags", {"name": "gift"}),
    ):
        assert ada.submit(path, **form).status_code == 400
    assert timeline(ada) == before


def test_every_page_is_there(ada: FlaskClient, order: Order):
    for path in ("", "?status=sent", "orders/new", "products", "tags", "password"):
        assert ada.get(f"/{path}").status_code == 200
    assert ada.get(f"/orders/{order.id}").text.count("Delete item") > 0
    assert ada.get("/orders/0").status_code == 404


def test_a_command_is_a_context(app: Flask, ada: FlaskClient):
    arguments = ["create-user", "eve", "--password", "x"]
    assert app.test_cli_runner().invoke(args=arguments).exit_code == 0
    newest = timeline(ada)[0]
    assert newest["data"]["name"] == "eve"
    assert newest["context"] == {"command": "create-user"}


def test_the_seeds_are_of_two_years(app: Flask):
    now = datetime.datetime.now(datetime.timezone.utc)
    with app.app_context():
        rows = db.session.execute(AggregateEvent.select(db.metadata)).all()
        contexts = db.session.execute(
            select(db.metadata.tables["pghistory_context"])
        ).all()
    times = [row.pgh_created_at for row in rows]
    assert times == sorted(times)
    assert now - times[0] > datetime.timedelta(days=729)
    assert datetime.timedelta() < now - times[-1] < datetime.timedelta(days=120)
    assert {row.pgh_obj_model for row in rows} == {
        "User",
        "Product",
        "Tag",
        "Order",
        "Item",
        "order_tag",
    }
    assert {c.created_at for c in contexts} == set(times)
    assert {c.id for c in contexts} == {row.pgh_context_id for row in rows}


def test_the_migrations_are_those_of_the_models(app: Flask):
    with app.app_context():
        check()  # exits, if autogenerate would do anything
        assert app.test_cli_runner().invoke(args=["history", "check"]).exit_code == 0
        assert events(Order).table.name in inspect(db.engine).get_table_names()
        downgrade(revision="base")
        assert inspect(db.engine).get_table_names() == ["alembic_version"]
