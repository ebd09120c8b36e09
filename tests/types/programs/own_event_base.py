"""A program whose event classes have a base with the types of their columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from typing_extensions import assert_type

import sa_history as history
from sa_history import AfterDelete, Event, Events, HistoryMixin, Snapshot, track


class Base(DeclarativeBase):
    pass


class AccountEvent(Event):
    balance: Mapped[int]
    owner: Mapped[str | None]

    def shown(self) -> str:
        return f"{self.pgh_label}: {self.balance}"


@track(Snapshot, AfterDelete, base=AccountEvent)
class Account(Base):
    __tablename__ = "account"

    events: ClassVar[Events[AccountEvent]]
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]
    owner: Mapped[str | None]


class OrderEvent(Event):
    total: Mapped[int]
    pgh_obj: Mapped[Order | None]
    pgh_context: Mapped[Any]


class Order(HistoryMixin[OrderEvent], Base):
    __tablename__ = "order"
    __history_options__ = {"base": OrderEvent, "context": "inline"}

    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int]


class AuditedEvent(Event):
    def audit(self) -> str:
        return f"{self.pgh_label} {self.pgh_created_at}"


class AuditedBase(HistoryMixin[AuditedEvent], DeclarativeBase):
    __history_options__ = {"base": AuditedEvent}


class Invoice(AuditedBase):
    __tablename__ = "invoice"

    id: Mapped[int] = mapped_column(primary_key=True)


def show(events: Events, session: Session) -> Sequence[Event]:
    return session.scalars(events.select()).all()


def decorator_form(session: Session, account: Account) -> None:
    assert_type(Account.events.model, type[AccountEvent])
    low = Account.events.where(Account.events.model.balance < 0)
    assert_type(session.scalars(low).all(), Sequence[AccountEvent])
    event = session.scalars(account.events.last()).one()
    assert_type(event.balance, int)
    assert_type(event.owner, str | None)
    assert_type(event.shown(), str)
    assert_type(event.pgh_id, int)
    show(account.events, session)
    for event, _ in history.steps(session.scalars(account.events.select())):
        assert_type(event, AccountEvent)
        print(event.balance + event.pgh_label)  # error
        print(event.owner.upper())  # error
    print(event.balanse, account.events.balanse)  # is wrong, but not found
    Account.events.model.balanse  # error
    Account.events.where(Account.events.model.shown)  # error


def mixin_form(session: Session, order: Order, invoice: Invoice) -> None:
    assert_type(Order.events, Events[OrderEvent])
    event = session.scalars(order.events.select()).one()
    assert_type(event, OrderEvent)
    assert_type(event.total, int)
    assert_type(event.pgh_obj, Order | None)  # error: pyrefly
    print(event.pgh_context["user"])  # error: pyrefly
    print(event.pgh_obj.total)  # error: not pyrefly
    assert_type(session.scalars(invoice.events.first()).one().audit(), str)
    show(order.events, session)


class NoEvent:
    balance: Mapped[int]


@track(events="others")
class Wrong(Base):
    __tablename__ = "wrong"

    others: ClassVar[Events[NoEvent]]  # error
    id: Mapped[int] = mapped_column(primary_key=True)
