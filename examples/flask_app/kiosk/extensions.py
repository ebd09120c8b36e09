"""The extensions, of which each application of the process uses the same."""

from __future__ import annotations

from flask_login import LoginManager
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase

from sa_history.flask import History


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)
history = History(db)
migrate = Migrate(render_as_batch=False)
login = LoginManager()
login.login_view = "kiosk.log_in"
