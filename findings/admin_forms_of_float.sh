#!/usr/bin/env bash
# sqladmin 0.32.0, starlette-admin 1.0.3, Flask-Admin 2.2.1: beside SQLAlchemy 2.1 they have
# no field for a Float column.
#
# Expected: a column of Mapped[float] has a field in the form, as beside SQLAlchemy 2.0. None
#   of the three excludes SQLAlchemy 2.1 in its requirements.
# Seen: sqladmin raises NoConverterFound, starlette-admin NotSupportedColumn. Flask-Admin
#   leaves the column out of the form without a word, so it can be neither seen nor written
#   there. In SQLAlchemy 2.1 Float is no subclass of Numeric any more, by which they find it.
# Who meets it: whoever has a model with a float and raises SQLAlchemy. What helps is
#   form_overrides or a converter for Float, and SQLAlchemy 2.0.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

"$python" -m pip install --quiet sqladmin==0.32.0 starlette-admin==1.0.3 flask-admin==2.2.1 \
    flask-sqlalchemy==3.1.1 wtforms==3.2.2 python-multipart itsdangerous greenlet

for version in 2.0.58 2.1.9; do
    "$python" -m pip install --quiet sqlalchemy==$version
    "$python" - <<'END'
import asyncio
import sys
import warnings

import flask
import flask_admin
import sqlalchemy
from flask_admin.contrib.sqla import ModelView as FlaskView
from sqladmin import Admin, ModelView
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from starlette.applications import Starlette
from starlette_admin.contrib.sqla import ModelView as StarletteView


warnings.simplefilter("ignore", DeprecationWarning)


class Base(DeclarativeBase):
    pass


class Reading(Base):
    __tablename__ = "reading"

    id: Mapped[int] = mapped_column(primary_key=True)
    celsius: Mapped[float]


engine = create_engine("sqlite://")


class ReadingView(ModelView, model=Reading):
    pass


def of_sqladmin():
    admin = Admin(Starlette(), engine)
    admin.add_view(ReadingView)
    form = asyncio.run(admin.views[0].scaffold_form())
    return hasattr(form, "celsius")


def of_starlette_admin():
    return "celsius" in [field.name for field in StarletteView(Reading).fields]


def of_flask_admin():
    application = flask.Flask("shop")
    admin = flask_admin.Admin(application)
    view = FlaskView(Reading, Session(engine))
    admin.add_view(view)
    with application.app_context():
        return hasattr(view.scaffold_form(), "celsius")


seen = []
print(f"SQLAlchemy {sqlalchemy.__version__}, a field for a column of floats")
for name, has_field in {
    "sqladmin": of_sqladmin,
    "starlette-admin": of_starlette_admin,
    "Flask-Admin": of_flask_admin,
}.items():
    try:
        seen.append(has_field())
    except Exception as error:
        seen.append(type(error).__name__)
    print(f"  {name}: expected True, seen {seen[-1]}")
if seen != (
    [True, True, True]
    if sqlalchemy.__version__.startswith("2.0")
    else ["NoConverterFound", "NotSupportedColumn", False]
):
    print("  that has changed")
    sys.exit(1)
END
done
