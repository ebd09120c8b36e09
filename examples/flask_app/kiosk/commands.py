"""``flask create-user`` and ``flask seed``."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from kiosk.extensions import db
from kiosk.models import User
from kiosk.seeds import sow


@click.command("create-user")
@click.argument("name")
@click.option("--admin", is_flag=True, help="May see the history, and restore.")
@click.password_option()
@with_appcontext
def create_user(name: str, admin: bool, password: str) -> None:
    """Add somebody who can log in."""
    user = User(name=name, is_admin=admin)
    user.set_password(password)
    db.session.add(user)
    db.session.commit()


@click.command("seed")
@click.option("--orders", default=300, show_default=True, help="How many.")
@with_appcontext
def seed(orders: int) -> None:
    """Fill an empty database with two years of history."""
    events = sow(orders)
    click.echo(f"{orders} orders, {events} events")
