"""Two years of believable history.

Each step is written as a request would write it: in a transaction, and in a context of
its own. They come in the order of time, but all of them now; :func:`backdate` then sets
their times. It can, since these event tables are not append-only.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeAlias

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    DateTime,
    cast,
    column,
    func,
    select,
    update,
)
from sqlalchemy.orm import Session

from kiosk.extensions import db, history
from kiosk.models import Item, Order, Product, Tag, User, order_tag
from sa_history import events

ADMIN = ("ada", "kiosk")
"""The name of the admin, and the password of everybody."""

CLERKS = ("ben", "chiara", "dmitri")
TAGS = ("express", "fragile", "gift", "regular customer")
PRODUCTS = {
    "umbrella": "24.90",
    "postcards": "4.50",
    "map of the town": "8.00",
    "honey, 500 g": "9.80",
    "candle": "12.00",
    "tea towel": "11.50",
    "notebook": "7.20",
    "fountain pen": "38.00",
    "picture book": "19.90",
    "wooden train": "45.00",
}
FIRST = ("Amara", "Björn", "Carmen", "Devi", "Emil", "Fatou", "Grace", "Hanna", "Ivo")
LAST = ("Aalto", "Brandt", "Costa", "Dubois", "Ekström", "Fischer", "Garcia", "Haddad")
STREETS = ("Mill Lane", "Harbour Road", "Station Street", "Church Square", "Elm Walk")
NOTES = (
    "Ring twice.",
    "Leave it with the neighbour.",
    "Not before noon.",
    "The customer called: please wrap it as a present, and put the card with the "
    "sunflower into it; she will pay for the paper when she comes by on Saturday.",
)

Step: TypeAlias = Callable[[datetime.datetime], None]


@dataclass
class Seeds:
    """What is sown.

    :param session: keeps objects as they are after a commit, to be quick.
    :param orders: how many.
    :param chance: where all that looks like chance comes from.
    :param moments: the time of each transaction, by its number.
    """

    session: Session
    orders: int
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    moments: dict[int, datetime.datetime] = field(default_factory=dict)

    @contextmanager
    def request(
        self,
        moment: datetime.datetime,
        user: str,
        path: str,
        endpoint: str,
        **annotated: Any,
    ) -> Iterator[None]:
        """Commit what is written in the block, as a request of that time would."""
        with history.context(
            user=user,
            method="POST",
            path=path,
            endpoint=f"kiosk.{endpoint}",
            remote=f"192.0.2.{len(user)}",
            **annotated,
        ):
            yield
            self._commit(moment)

    def sow(self) -> None:
        """Make everything, in the order of time."""
        now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        start = now - datetime.timedelta(days=730)
        self._stock(start - datetime.timedelta(days=1))
        steps: list[tuple[datetime.datetime, int, Step]] = []
        # Something happens almost to the end, whenever it is sown.
        span = (now - start - datetime.timedelta(hours=1)) / max(self.orders, 1)
        for number in range(self.orders):
            moment = start + span * (number + self.chance.random())
            for step in self._steps_of_an_order():
                steps.append((moment, len(steps), step))
                moment += datetime.timedelta(hours=self.chance.expovariate(1 / 15))
        for day in range(20, 730, 45):
            moment = start + datetime.timedelta(days=day, hours=day % 9)
            steps.append((moment, len(steps), self._new_price))
        for moment, _, step in sorted(steps):
            if moment < now:
                step(moment)

    def _stock(self, moment: datetime.datetime) -> None:
        with history.context(reason="opening"):
            for name in (ADMIN[0], *CLERKS):
                user = User(name=name, is_admin=name == ADMIN[0])
                user.set_password(ADMIN[1])
                self.session.add(user)
            self.products = [
                Product(name=name, price=Decimal(price))
                for name, price in PRODUCTS.items()
            ]
            self.tags = [Tag(name=name) for name in TAGS]
            self.session.add_all([*self.products, *self.tags])
            self._commit(moment)

    def _steps_of_an_order(self) -> list[Step]:
        """Return what happens to one order, one thing after the other."""
        chance = self.chance
        order = Order(
            customer=f"{chance.choice(FIRST)} {chance.choice(LAST)}",
            address=f"{chance.randint(1, 90)} {chance.choice(STREETS)}",
            status="new",
            note="",
        )
        clerk = chance.choice(CLERKS)

        def place(moment: datetime.datetime) -> None:
            with self.request(moment, clerk, "/orders/new", "new_order"):
                self.session.add(order)

        def add(moment: datetime.datetime) -> None:
            path = f"/orders/{order.id}/items"
            with self.request(moment, clerk, path, "add_item", order=order.id):
                product = chance.choice(self.products)
                quantity = chance.randint(1, 4)
                order.items.append(
                    Item(product=product, quantity=quantity, price=product.price)
                )

        def remove(moment: datetime.datetime) -> None:
            item = order.items[-1]
            path = f"/orders/{order.id}/items/{item.id}/delete"
            with self.request(moment, clerk, path, "delete_item", order=order.id):
                order.items.remove(item)

        def edit(**changes: Any) -> Step:
            def step(moment: datetime.datetime) -> None:
                who = chance.choice((clerk, ADMIN[0]))
                with self.request(moment, who, f"/orders/{order.id}", "order"):
                    for name, value in changes.items():
                        setattr(order, name, value)

            return step

        def delete(moment: datetime.datetime) -> None:
            path = f"/orders/{order.id}/delete"
            with self.request(moment, ADMIN[0], path, "delete_order"):
                self.session.delete(order)

        steps = [place, *[add] * chance.randint(1, 3)]
        if chance.random() < 0.2:
            steps.append(remove)
        if chance.random() < 0.4:
            steps.append(edit(note=chance.choice(NOTES)))
        if chance.random() < 0.4:
            steps.append(edit(tags=chance.sample(self.tags, chance.randint(1, 2))))
        if chance.random() < 0.1:
            return [*steps, edit(status="cancelled"), *[delete] * chance.randint(0, 1)]
        steps += [edit(status="paid"), edit(status="sent")]
        if chance.random() < 0.05:
            steps.append(edit(status="returned"))
        return steps

    def _new_price(self, moment: datetime.datetime) -> None:
        product = self.chance.choice(self.products)
        with self.request(moment, ADMIN[0], f"/products/{product.id}", "price"):
            product.price += Decimal(self.chance.randint(1, 12)) / 10

    def _commit(self, moment: datetime.datetime) -> None:
        self.session.flush()
        number = self.session.scalar(select(func.txid_current()))
        self.session.commit()
        self.moments[number] = moment


def sow(orders: int) -> int:
    """Fill the database, and return how many events there are."""
    with Session(db.engine, expire_on_commit=False) as session:
        seeds = Seeds(session, orders)
        seeds.sow()
        return backdate(session, seeds.moments)


def backdate(session: Session, moments: dict[int, datetime.datetime]) -> int:
    """Set the times of events and contexts to those of their transactions.

    PostgreSQL has no clock that could be turned back while they are written.

    :return: how many events were given another time.
    """
    at = (
        func.unnest(
            cast(list(moments), ARRAY(BigInteger)),
            cast(list(moments.values()), ARRAY(DateTime(timezone=True))),
        )
        .table_valued(
            column("number", BigInteger), Column("moment", DateTime(timezone=True))
        )
        .render_derived()
    )
    contexts = db.metadata.tables["pghistory_context"]
    changed = 0
    for target in (User, Product, Tag, Order, Item, order_tag):
        written = events(target).table
        result = session.execute(
            update(written)
            .where(written.c.pgh_xact_id == at.c.number)
            .values(pgh_created_at=at.c.moment)
        )
        changed += result.rowcount
        session.execute(
            update(contexts)
            .where(contexts.c.id == written.c.pgh_context_id)
            .values(
                created_at=written.c.pgh_created_at,
                updated_at=written.c.pgh_created_at,
            )
        )
    session.commit()
    return changed
