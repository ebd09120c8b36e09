"""Random writes of many kinds, and a model that foretells the events of each row."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

import sa_history as history

Key = tuple[str, int]
"""A row: the tenant and its id."""

Row = tuple[int, str]
"""Its values."""


Author = Any
"""Who changes a row: a user, None for nobody, or a pair of that and a transaction."""


@dataclass
class Model:
    """The rows as they should be, and the events of each in their order."""

    rows: dict[Key, Row] = field(default_factory=dict)
    events: dict[Key, list[tuple[Any, ...]]] = field(default_factory=dict)

    def put(self, key: Key, row: Row, user: Author) -> None:
        """Insert a row, or give it other values."""
        old = self.rows.get(key)
        if old != row:
            op = "I" if old is None else "U"
            self.events.setdefault(key, []).append((op, *row, user))
        self.rows[key] = row

    def drop(self, key: Key, user: Author) -> None:
        """Delete a row."""
        row = self.rows.pop(key)
        self.events.setdefault(key, []).append(("D", *row, user))

    def rename(self, key: Key, number: int, user: Author) -> None:
        """Give a row another key."""
        row = self.rows.pop(key)
        self.rows[key[0], number] = row
        self.events.setdefault((key[0], number), []).append(("U", *row, user))

    def of(self, tenant: str) -> list[Key]:
        """Return the rows of a tenant."""
        return sorted(key for key in self.rows if key[0] == tenant)

    def count(self) -> int:
        """Return the number of events."""
        return sum(map(len, self.events.values()))


class Writer:
    """Writes at random by one connection, and tells the model of it."""

    def __init__(
        self, connection: Connection, model: Model, rng: random.Random, table: str
    ) -> None:
        self.connection = connection
        self.model = model
        self.rng = rng
        self.table = table
        self.user: str | None = None
        self.transaction = 0

    @contextlib.contextmanager
    def context(self, user: str) -> Iterator[None]:
        """Write as a user."""
        before, self.user = self.user, user
        try:
            with history.context(self.connection, user=user):
                yield
        finally:
            self.user = before

    def run(self, statement: str, *parameters: Any) -> None:
        """Execute a statement."""
        self.connection.execute(text(statement), *parameters)

    def write(self, tenant: str) -> None:
        """Execute one statement for a tenant."""
        kinds = [name for name in dir(self) if name.startswith("do_")]
        getattr(self, self.rng.choice(kinds))(tenant, f"{tenant}.{self.table}")

    def one_of(self, tenant: str) -> list[Key]:
        """Return a row of a tenant, none if it has no row."""
        keys = self.model.of(tenant)
        return [self.rng.choice(keys)] if keys else []

    def do_insert(self, tenant: str, table: str) -> None:
        number, balance = self.rng.randrange(60), self.rng.randrange(100)
        if (tenant, number) not in self.model.rows:
            self.run(f"INSERT INTO {table} VALUES ({number}, {balance}, 'i')")
            self.model.put((tenant, number), (balance, "i"), self.user)

    def do_update(self, tenant: str, table: str) -> None:
        for key in self.one_of(tenant):
            balance = self.rng.randrange(100)
            self.run(f"UPDATE {table} SET balance = {balance} WHERE id = {key[1]}")
            self.model.put(key, (balance, self.model.rows[key][1]), self.user)

    def do_delete(self, tenant: str, table: str) -> None:
        for key in self.one_of(tenant):
            self.run(f"DELETE FROM {table} WHERE id = {key[1]}")
            self.model.drop(key, self.user)

    def do_update_many(self, tenant: str, table: str) -> None:
        rest = self.rng.randrange(5)
        self.run(f"UPDATE {table} SET balance = balance + 1 WHERE id % 5 = {rest}")
        for key in self.model.of(tenant):
            if key[1] % 5 == rest:
                balance, note = self.model.rows[key]
                self.model.put(key, (balance + 1, note), self.user)

    def do_delete_in_a_cte(self, tenant: str, table: str) -> None:
        rest = self.rng.randrange(11)
        deleted = f"DELETE FROM {table} WHERE id % 11 = {rest} RETURNING id"
        self.run(f"WITH d AS ({deleted}) SELECT count(*) FROM d")
        for key in self.model.of(tenant):
            if key[1] % 11 == rest:
                self.model.drop(key, self.user)

    def do_upsert(self, tenant: str, table: str) -> None:
        numbers = sorted({self.rng.randrange(60) for _ in range(6)})
        balance = self.rng.randrange(100)
        values = ", ".join(f"({number}, {balance}, 'u')" for number in numbers)
        self.run(
            f"INSERT INTO {table} VALUES {values}"
            " ON CONFLICT (id) DO UPDATE SET balance = EXCLUDED.balance"
        )
        for number in numbers:
            note = self.model.rows.get((tenant, number), (0, "u"))[1]
            self.model.put((tenant, number), (balance, note), self.user)

    def do_executemany(self, tenant: str, table: str) -> None:
        numbers = {self.rng.randrange(60) for _ in range(5)}
        new = sorted(n for n in numbers if (tenant, n) not in self.model.rows)
        if new:
            self.run(
                f"INSERT INTO {table} VALUES (:id, 5, 'm')", [{"id": n} for n in new]
            )
        for number in new:
            self.model.put((tenant, number), (5, "m"), self.user)

    def do_copy(self, tenant: str, table: str) -> None:
        driver = self.connection.connection.driver_connection
        if driver is None or not hasattr(driver, "__enter__"):  # an async one
            return
        numbers = {self.rng.randrange(60) for _ in range(5)}
        new = sorted(n for n in numbers if (tenant, n) not in self.model.rows)
        self.run("SELECT 1")  # SQLAlchemy has to know of the transaction
        with driver.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as rows:
            for number in new:
                rows.write_row((number, 7, "c"))
        for number in new:
            self.model.put((tenant, number), (7, "c"), self.user)

    def do_insert_from_select(self, tenant: str, table: str) -> None:
        self.run(
            f"INSERT INTO {table} SELECT id + 1000, balance, 's' FROM {table}"
            " WHERE id % 7 = 3 AND id < 60 ON CONFLICT DO NOTHING"
        )
        for key in self.model.of(tenant):
            copied = (tenant, key[1] + 1000)
            if key[1] % 7 == 3 and key[1] < 60 and copied not in self.model.rows:
                self.model.put(copied, (self.model.rows[key][0], "s"), self.user)

    def do_change_key(self, tenant: str, table: str) -> None:
        for key in self.one_of(tenant):
            if (tenant, key[1] + 5000) not in self.model.rows:
                self.run(f"UPDATE {table} SET id = id + 5000 WHERE id = {key[1]}")
                self.model.rename(key, key[1] + 5000, self.user)

    def do_update_from(self, tenant: str, table: str) -> None:
        self.run(
            f"UPDATE {table} AS a SET balance = b.balance + 3 FROM {table} AS b"
            " WHERE b.id = a.id + 1 AND a.id % 4 = 2"
        )
        before = dict(self.model.rows)
        for key in self.model.of(tenant):
            other = before.get((tenant, key[1] + 1))
            if key[1] % 4 == 2 and other is not None:
                self.model.put(key, (other[0] + 3, before[key][1]), self.user)

    def do_nothing(self, tenant: str, table: str) -> None:
        self.run(f"UPDATE {table} SET balance = balance")

    def do_truncate(self, tenant: str, table: str) -> None:
        if self.rng.random() < 0.2:
            self.run(f"TRUNCATE {table}")
            for key in self.model.of(tenant):
                self.model.drop(key, self.user)


def transactions(writer: Writer, tenants: list[str], count: int) -> None:
    """Commit transactions, or roll them back, of statements in nested contexts.

    One that a deadlock has ended, as with a table that is moved, has done nothing.
    """
    model, connection = writer.model, writer.connection
    for _ in range(count):
        saved = copy.deepcopy((model.rows, model.events))
        try:
            is_committed = transaction(writer, tenants)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != "40P01":
                raise
            connection.rollback()
            is_committed = False
        if not is_committed:
            model.rows, model.events = saved


def transaction(writer: Writer, tenants: list[str]) -> bool:
    """Return whether the transaction was committed."""
    rng, model, connection = writer.rng, writer.model, writer.connection
    writer.transaction += 1
    with contextlib.ExitStack() as outer:
        if rng.random() < 0.2:  # a context that comes late
            writer.write(rng.choice(tenants))
        if rng.random() < 0.8:
            outer.enter_context(writer.context(rng.choice(["ada", "ben"])))
        # Most transactions are of one node, some of several.
        here = rng.sample(tenants, rng.choice([1, 1, 1, 2]))
        for _ in range(rng.randrange(1, 5)):
            with contextlib.ExitStack() as inner:
                if rng.random() < 0.3:
                    inner.enter_context(writer.context("eve"))
                if rng.random() < 0.2:
                    before = copy.deepcopy((model.rows, model.events))
                    point = connection.begin_nested()
                    writer.write(rng.choice(here))
                    if rng.random() < 0.5:
                        point.rollback()
                        model.rows, model.events = before
                writer.write(rng.choice(here))
        if rng.random() < 0.2:
            connection.rollback()
            return False
        connection.commit()
        return True
