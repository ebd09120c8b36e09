"""Random writes to a table whose rows are on several nodes."""

from __future__ import annotations

from .oracle import Author, Key, Writer

TENANTS = [f"t{number}" for number in range(12)]
"""So many that both workers have some."""


class DistributedWriter(Writer):
    """Writes at random to a distributed table: to one shard, or to many."""

    @property
    def by(self) -> Author:
        """Who writes, and in which transaction."""
        return (self.user, self.transaction)

    def write(self, tenant: str) -> None:
        """Execute one statement, for a tenant or for all of them."""
        kinds = [name for name in vars(DistributedWriter) if name.startswith("do_")]
        getattr(self, self.rng.choice(kinds))(tenant, self.table)

    def some_keys(self, count: int) -> list[Key]:
        """Return keys of any tenants, of rows that exist or not."""
        rng = self.rng
        keys = {(rng.choice(TENANTS), rng.randrange(30)) for _ in range(count)}
        return sorted(keys)

    def where(self, divisor: int, rest: int) -> list[Key]:
        """Return the rows of all tenants whose id has a rest."""
        return [key for key in sorted(self.model.rows) if key[1] % divisor == rest]

    def do_insert(self, tenant: str, table: str) -> None:
        key = (tenant, self.rng.randrange(30))
        if key not in self.model.rows:
            self.run(f"INSERT INTO {table} VALUES ('{tenant}', {key[1]}, 1, 'i')")
            self.model.put(key, (1, "i"), self.by)

    def do_update(self, tenant: str, table: str) -> None:
        for key in self.one_of(tenant):
            balance = self.rng.randrange(100)
            self.run(
                f"UPDATE {table} SET balance = {balance}"
                f" WHERE tenant = '{tenant}' AND id = {key[1]}"
            )
            self.model.put(key, (balance, self.model.rows[key][1]), self.by)

    def do_update_tenant(self, tenant: str, table: str) -> None:
        self.run(f"UPDATE {table} SET balance = balance + 2 WHERE tenant = '{tenant}'")
        for key in self.model.of(tenant):
            balance, note = self.model.rows[key]
            self.model.put(key, (balance + 2, note), self.by)

    def do_delete(self, tenant: str, table: str) -> None:
        for key in self.one_of(tenant):
            self.run(f"DELETE FROM {table} WHERE tenant = '{tenant}' AND id = {key[1]}")
            self.model.drop(key, self.by)

    def do_update_all(self, tenant: str, table: str) -> None:
        rest = self.rng.randrange(5)
        self.run(f"UPDATE {table} SET balance = balance + 1 WHERE id % 5 = {rest}")
        for key in self.where(5, rest):
            balance, note = self.model.rows[key]
            self.model.put(key, (balance + 1, note), self.by)

    def do_delete_all(self, tenant: str, table: str) -> None:
        rest = self.rng.randrange(17)
        self.run(f"DELETE FROM {table} WHERE id % 17 = {rest}")
        for key in self.where(17, rest):
            self.model.drop(key, self.by)

    def do_delete_in_a_cte(self, tenant: str, table: str) -> None:
        rest = self.rng.randrange(17)
        deleted = f"DELETE FROM {table} WHERE id % 17 = {rest} RETURNING tenant"
        self.run(f"WITH d AS ({deleted}) SELECT count(*) FROM d")
        for key in self.where(17, rest):
            self.model.drop(key, self.by)

    def do_upsert(self, tenant: str, table: str) -> None:
        keys, balance = self.some_keys(6), self.rng.randrange(100)
        values = ", ".join(f"('{t}', {number}, {balance}, 'u')" for t, number in keys)
        self.run(
            f"INSERT INTO {table} VALUES {values}"
            " ON CONFLICT (tenant, id) DO UPDATE SET balance = EXCLUDED.balance"
        )
        for key in keys:
            note = self.model.rows.get(key, (0, "u"))[1]
            self.model.put(key, (balance, note), self.by)

    def do_upsert_from_select(self, tenant: str, table: str) -> None:
        rest = self.rng.randrange(6)
        self.run(
            f"INSERT INTO {table} SELECT tenant, id, balance + 1, note FROM {table}"
            f" WHERE id % 6 = {rest}"
            " ON CONFLICT (tenant, id) DO UPDATE SET balance = EXCLUDED.balance"
        )
        for key in self.where(6, rest):
            balance, note = self.model.rows[key]
            self.model.put(key, (balance + 1, note), self.by)

    def new_keys(self, count: int) -> list[Key]:
        """Return keys of rows that do not exist."""
        return [key for key in self.some_keys(count) if key not in self.model.rows]

    def do_executemany(self, tenant: str, table: str) -> None:
        new = self.new_keys(5)
        if new:
            self.run(
                f"INSERT INTO {table} VALUES (:tenant, :id, 5, 'm')",
                [{"tenant": t, "id": number} for t, number in new],
            )
        for key in new:
            self.model.put(key, (5, "m"), self.by)

    def do_copy(self, tenant: str, table: str) -> None:
        driver = self.connection.connection.driver_connection
        if driver is None or not hasattr(driver, "__enter__"):  # an async one
            return
        new = self.new_keys(8)
        self.run("SELECT 1")  # SQLAlchemy has to know of the transaction
        with driver.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as rows:
            for t, number in new:
                rows.write_row((t, number, 7, "c"))
        for key in new:
            self.model.put(key, (7, "c"), self.by)

    def do_insert_from_select_beside(self, tenant: str, table: str) -> None:
        """The rows stay on their shards."""
        self.run(
            f"INSERT INTO {table} SELECT tenant, id + 1000, balance, 's' FROM {table}"
            " WHERE id % 7 = 3 AND id < 30 ON CONFLICT DO NOTHING"
        )
        for key in self.where(7, 3):
            copied = (key[0], key[1] + 1000)
            if key[1] < 30 and copied not in self.model.rows:
                self.model.put(copied, (self.model.rows[key][0], "s"), self.by)

    def do_insert_from_select_elsewhere(self, tenant: str, table: str) -> None:
        """Citus sends the rows to other shards."""
        self.run(
            f"INSERT INTO {table} SELECT 't' || (id % 12), 2000 + id * 12"
            f" + substr(tenant, 2)::int, balance, 'r' FROM {table}"
            " WHERE id % 7 = 4 AND id < 30 ON CONFLICT DO NOTHING"
        )
        for key in self.where(7, 4):
            copied = (f"t{key[1] % 12}", 2000 + key[1] * 12 + int(key[0][1:]))
            if key[1] < 30 and copied not in self.model.rows:
                self.model.put(copied, (self.model.rows[key][0], "r"), self.by)

    def do_insert_from_select_of_the_coordinator(self, tenant: str, table: str) -> None:
        number = 4000 + self.rng.randrange(20)
        self.run(
            f"INSERT INTO {table} SELECT 't' || n, {number}, n, 'g'"
            " FROM generate_series(0, 11) AS n ON CONFLICT DO NOTHING"
        )
        for n, each in enumerate(TENANTS):
            if (each, number) not in self.model.rows:
                self.model.put((each, number), (n, "g"), self.by)

    def do_change_key(self, tenant: str, table: str) -> None:
        for key in self.one_of(tenant):
            if (tenant, key[1] + 5000) not in self.model.rows:
                self.run(
                    f"UPDATE {table} SET id = id + 5000"
                    f" WHERE tenant = '{tenant}' AND id = {key[1]}"
                )
                self.model.rename(key, key[1] + 5000, self.by)

    def do_update_from(self, tenant: str, table: str) -> None:
        self.run(
            f"UPDATE {table} AS a SET balance = b.balance + 3 FROM {table} AS b"
            " WHERE b.tenant = a.tenant AND b.id = a.id + 1 AND a.id % 4 = 2"
        )
        before = dict(self.model.rows)
        for key in self.where(4, 2):
            other = before.get((key[0], key[1] + 1))
            if other is not None:
                self.model.put(key, (other[0] + 3, before[key][1]), self.by)

    def do_nothing(self, tenant: str, table: str) -> None:
        self.run(f"UPDATE {table} SET balance = balance")

    def do_truncate(self, tenant: str, table: str) -> None:
        if self.rng.random() < 0.1:
            self.run(f"TRUNCATE {table} CASCADE")
            for key in sorted(self.model.rows):
                self.model.drop(key, self.by)
