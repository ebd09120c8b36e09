"""A program with Flask-SQLAlchemy, whose models have a base that is an attribute."""

from __future__ import annotations

from typing import ClassVar

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from typing_extensions import assert_type

import sa_history as history
from sa_history import AggregateEvent, Event, Events, track
from sa_history.flask import History


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)


@track()
class Visit(db.Model):  # error: mypy, ty
    """Its events are not declared: type checkers know its MetaData."""

    id: Mapped[int] = mapped_column(primary_key=True)


@track()
class Account(db.Model):  # error: mypy, ty
    events: ClassVar[Events]
    id: Mapped[int] = mapped_column(primary_key=True)


def functions(app: Flask, visit: Visit, account: Account) -> None:
    History(db).init_app(app)
    with history.context(db.session, user=7), history.ignore(db.session, Visit):
        history.undo(db.session, Visit, db.Model, transaction=7)
    assert_type(db.session.scalars(account.events.select()).one(), Event)
    db.session.execute(AggregateEvent.select(visit, account, db.metadata))
    db.session.execute(history.changes(visit, "id"))
    history.create_event(db.session, visit, label="seen")
    with history.as_of(db.session, transaction=7) as past:
        past.get(Visit, 7)
    history.context(db, user=7)  # error
    history.undo(db, Visit, transaction=7)  # error
