"""The pages. Nothing here is about history, but for the lines that annotate."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from flask_login import current_user, login_required, login_user, logout_user
from sqlalchemy import select
from sqlalchemy.orm import selectinload
from werkzeug.wrappers import Response

from kiosk.extensions import db, history
from kiosk.forms import amount, number, text
from kiosk.models import STATUSES, Item, Order, Product, Tag, load_user

views = Blueprint("kiosk", __name__)
Model = TypeVar("Model")
PAGE = 25


@views.route("/login", methods=["GET", "POST"])
def log_in() -> Any:
    if request.method == "GET":
        return render_template("login.html")
    user = load_user(text("name"))
    if user is None or not user.has_password(text("password")):
        flash("There is no such user with this password.")
        return render_template("login.html"), 403
    login_user(user)
    user.seen_at = datetime.datetime.now(datetime.timezone.utc)
    db.session.commit()
    return redirect(_inside(request.args.get("next")) or url_for(".orders"))


def _inside(target: str | None) -> str | None:
    """Return an address if it is one of this site."""
    parts = urlsplit((target or "").replace("\\", "/"))
    return None if parts.scheme or parts.netloc else target


@views.post("/logout")
@login_required
def log_out() -> Response:
    logout_user()
    return redirect(url_for(".log_in"))


@views.route("/password", methods=["GET", "POST"])
@login_required
def password() -> Any:
    if request.method == "GET":
        return render_template("password.html")
    current_user.set_password(text("password"))
    db.session.commit()
    flash("You have a new password.")
    return redirect(url_for(".orders"))


@views.get("/")
@login_required
def orders() -> str:
    statement = select(Order).options(selectinload(Order.items)).order_by(-Order.id)
    if status := request.args.get("status"):
        statement = statement.where(Order.status == status)
    if before := request.args.get("before", type=int):
        statement = statement.where(Order.id < before)
    found = db.session.scalars(statement.limit(PAGE + 1)).all()
    return render_template(
        "orders.html", orders=found[:PAGE], more=found[PAGE:], statuses=STATUSES
    )


@views.route("/orders/new", methods=["GET", "POST"])
@login_required
def new_order() -> Any:
    if request.method == "GET":
        return render_template("new_order.html")
    order = Order(customer=text("customer"), address=text("address"))
    db.session.add(order)
    db.session.commit()
    return _to(order)


@views.route("/orders/<int:order_id>", methods=["GET", "POST"])
@login_required
def order(order_id: int) -> Any:
    order = _get(Order, order_id)
    if request.method == "GET":
        return render_template(
            "order.html",
            order=order,
            statuses=STATUSES,
            tags=_all(Tag),
            products=_all(Product),
        )
    if request.form.get("status") not in STATUSES:
        abort(400, "There is no such status.")
    order.customer = text("customer")
    order.address = text("address")
    order.status = request.form["status"]
    order.note = request.form.get("note", "").strip()
    chosen = request.form.getlist("tag", type=int)
    order.tags = [tag for tag in _all(Tag) if tag.id in chosen]
    db.session.commit()
    flash("The order is saved.")
    return _to(order)


@views.post("/orders/<int:order_id>/delete")
@login_required
def delete_order(order_id: int) -> Response:
    db.session.delete(_get(Order, order_id))
    db.session.commit()
    flash(f"Order {order_id} is deleted.")
    return redirect(url_for(".orders"))


@views.post("/orders/<int:order_id>/items")
@login_required
def add_item(order_id: int) -> Response:
    order, product = _get(Order, order_id), _get(Product, number("product"))
    item = Item(product=product, quantity=number("quantity"), price=product.price)
    order.items.append(item)
    # Found on the timeline by order=7, as is all else that has this key.
    history.annotate(order=order.id)
    db.session.commit()
    return _to(order)


@views.post("/orders/<int:order_id>/items/<int:item_id>/delete")
@login_required
def delete_item(order_id: int, item_id: int) -> Response:
    item = _get(Item, item_id)
    if item.order_id != order_id:
        abort(404)
    flash(f"The {item.product.name} is deleted.")
    history.annotate(order=order_id)
    db.session.delete(item)
    db.session.commit()
    return redirect(url_for(".order", order_id=order_id))


@views.get("/products")
@login_required
def products() -> str:
    return render_template("products.html", products=_all(Product))


@views.post("/products/<int:product_id>")
@login_required
def price(product_id: int) -> Response:
    product = _get(Product, product_id)
    product.price = amount("price")
    db.session.commit()
    flash(f"The {product.name} has a new price.")
    return redirect(url_for(".products"))


@views.route("/tags", methods=["GET", "POST"])
@login_required
def tags() -> Any:
    if request.method == "GET":
        return render_template("tags.html", tags=_all(Tag))
    name = text("name")
    if any(tag.name == name for tag in _all(Tag)):
        abort(400, "There is such a tag.")
    db.session.add(Tag(name=name))
    db.session.commit()
    return redirect(url_for(".tags"))


def _get(model: type[Model], number: int) -> Model:
    return db.get_or_404(model, number)


def _all(model: type[Product] | type[Tag]) -> Sequence[Any]:
    return db.session.scalars(select(model).order_by(model.name)).all()


def _to(order: Order) -> Response:
    return redirect(url_for(".order", order_id=order.id))
