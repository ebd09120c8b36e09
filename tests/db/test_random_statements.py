"""Random statements of many forms, at both levels, next to triggers of the application.

What is recorded of each row is what a plain trigger for each row saw, and a transaction
that is undone leaves the tables as they were before it. ``INJECTION_SCALE=12`` tries
twelve times as many tables and statements, others each time.
"""

from __future__ import annotations

import os
import random
from typing import Any

import psycopg
import pytest
from sqlalchemy import Computed, Engine, ForeignKey, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sa_history as history
from sa_history import AfterDelete, Snapshot, track

SCALE = int(os.environ.get("INJECTION_SCALE", "1"))
TRANSACTIONS = 30

TABLES = ("place", "item", "parted", "note")
KEYS = {name: ("id", "x") if name == "parted" else ("id",) for name in TABLES}

PARTITIONS = """
CREATE TABLE parted_0 PARTITION OF parted FOR VALUES IN (0, 1);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (2, 3);
CREATE TABLE parted_rest PARTITION OF parted DEFAULT;
CREATE VIEW some_places AS SELECT id, x, b, p FROM place WHERE x < 50;
CREATE FUNCTION count_note(number int) RETURNS int LANGUAGE sql AS $$
  INSERT INTO note (id, x) VALUES (number, 1)
  ON CONFLICT (id) DO UPDATE SET x = coalesce(note.x, 0) + 1 RETURNING id
$$;
"""

TRIGGERS = """
CREATE TABLE seen (number bigserial, name text, op text, old jsonb, new jsonb);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    EXECUTE format('INSERT INTO seen (name, op, old)
      SELECT %L, ''T'', to_jsonb(r) FROM %I AS r', TG_TABLE_NAME, TG_TABLE_NAME);
  ELSIF to_jsonb(OLD) IS DISTINCT FROM to_jsonb(NEW) THEN
    INSERT INTO seen (name, op, old, new)
    VALUES (TG_ARGV[0], left(TG_OP, 1), to_jsonb(OLD), to_jsonb(NEW));
  END IF;
  RETURN NULL;
END $$;
CREATE FUNCTION change_first() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    IF OLD.b = 'keep' THEN RETURN NULL; END IF;
    RETURN OLD;
  END IF;
  IF NEW.b = 'skip' THEN RETURN NULL; END IF;
  IF NEW.b = 'change' THEN NEW.b := 'changed'; END IF;
  RETURN NEW;
END $$;
CREATE FUNCTION write_notes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.b = 'notes' AND pg_trigger_depth() < 4 THEN
    UPDATE note SET x = coalesce(x, 0) + 1 WHERE id % 3 = 0;
    INSERT INTO note (id, x, b) SELECT coalesce(max(id), 0) + 1, 1, 'n' FROM note;
    DELETE FROM note WHERE id % 7 = 0;
  END IF;
  RETURN NULL;
END $$;
"""

SEES = """
CREATE TRIGGER zz_see AFTER INSERT OR UPDATE OR DELETE ON {0}
FOR EACH ROW EXECUTE FUNCTION see('{0}');
CREATE TRIGGER aa_see BEFORE TRUNCATE ON {0} EXECUTE FUNCTION see('{0}');
"""
CHANGES = """
CREATE TRIGGER zz_change BEFORE INSERT OR UPDATE OR DELETE ON {0}
FOR EACH ROW EXECUTE FUNCTION change_first();
"""
WRITES = """
CREATE TRIGGER zz_write AFTER INSERT OR UPDATE ON {0}
FOR EACH ROW EXECUTE FUNCTION write_notes();
"""


def make_tables(base: Any, chance: random.Random, level: str) -> None:
    """Map the tables, with foreign keys that do different things."""

    def reference() -> ForeignKey:
        actions = ("CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", None)
        is_deferrable = chance.random() < 0.6 or None
        return ForeignKey(
            "place.id",
            ondelete=chance.choice(actions),
            onupdate=chance.choice(("CASCADE", "SET NULL", None)),
            deferrable=is_deferrable,
            initially=is_deferrable and chance.choice((None, "DEFERRED")),
        )

    def tracked() -> Any:
        context = chance.choice(("reference", "inline", None))
        return track(Snapshot, AfterDelete, level=level, context=context)

    @tracked()
    class Place(base):  # type: ignore[misc]
        __tablename__ = "place"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        x: Mapped[int | None]
        b: Mapped[str | None]
        p: Mapped[int | None] = mapped_column(reference(), server_default="1")

    @tracked()
    class Item(base):  # type: ignore[misc]
        __tablename__ = "item"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        x: Mapped[int | None]
        b: Mapped[str | None]
        p: Mapped[int | None] = mapped_column(reference())
        double: Mapped[int | None] = mapped_column(Computed("x * 2", persisted=True))

    @tracked()
    class Parted(base):  # type: ignore[misc]
        __tablename__ = "parted"
        __table_args__ = {"postgresql_partition_by": "LIST (x)"}
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        x: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        b: Mapped[str | None]
        p: Mapped[int | None] = mapped_column(reference())

    @tracked()
    class Note(base):  # type: ignore[misc]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        x: Mapped[int | None]
        b: Mapped[str | None]
        p: Mapped[int | None]


class Statements:
    """Statements at random, some of which the database refuses.

    :param chance: what decides.
    """

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def any(self) -> str:
        """Return a statement of any form."""
        table, number = self.chance.choice(TABLES), self.chance.random()
        if number < 0.65:
            return self.plain(table)
        if number < 0.75:
            return self.merge(table)
        if number < 0.84:
            return self.with_several(table)
        if number < 0.88:
            return self.through_view()
        if number < 0.91:
            return f"SELECT count_note(id) FROM place WHERE {self.where()}"
        if number < 0.93:
            return f"TRUNCATE {self.chance.choice(('note', 'item', 'place CASCADE'))}"
        if number < 0.95:
            part = self.chance.choice(("parted_0", "parted_1", "parted_rest"))
            return f"UPDATE {part} SET {self.set('parted')} WHERE {self.where()}"
        if number < 0.97:
            return self.at_cursor(self.chance.choice(("place", "item", "note")))
        if number < 0.99:
            return self.in_block(table)
        when = self.chance.choice(("IMMEDIATE", "DEFERRED"))
        return f"SET CONSTRAINTS ALL {when}"

    def plain(self, table: str) -> str:
        """Return an INSERT, UPDATE or DELETE of a table."""
        forms = (self.insert, self.insert, self.update, self.update, self.delete)
        return self.chance.choice(forms)(table)

    def insert(self, table: str) -> str:
        """Return an INSERT of some rows, with or without ON CONFLICT."""
        ids = self.chance.sample(range(1, 30), self.chance.randint(1, 4))
        rows = ", ".join(
            f"({i}, {self.number(table)}, {self.word()}, {self.place()})" for i in ids
        )
        others = self.chance.choice(TABLES)
        shifted = (
            f"SELECT id + {self.chance.randint(1, 30)}, coalesce(x, 0) % 6, b,"
            f" NULL::int FROM {others} WHERE {self.where()}"
        )
        key = ", ".join(KEYS[table])
        conflict = (
            "",
            "ON CONFLICT DO NOTHING",
            f"ON CONFLICT ({key}) DO UPDATE SET b = excluded.b, p = excluded.p",
            f"ON CONFLICT ({key}) DO UPDATE SET b = 'c' WHERE {table}.id % 2 = 0",
        )
        source = self.chance.choice((f"VALUES {rows}", f"VALUES {rows}", shifted))
        end = self.chance.choice(conflict)
        return f"INSERT INTO {table} (id, x, b, p) {source} {end}"

    def update(self, table: str) -> str:
        """Return an UPDATE, of the key too."""
        number = self.chance.random()
        if number < 0.6:
            return f"UPDATE {table} SET {self.set(table)} WHERE {self.where()}"
        if number < 0.8:
            other = self.chance.choice(TABLES)
            joined = f"FROM {other} AS q WHERE q.id = {table}.id"
            return f"UPDATE {table} SET b = 'from ' || q.b {joined}"
        values = "(SELECT 'several', max(id) FROM place)"
        return f"UPDATE {table} SET (b, p) = {values} WHERE {self.where()}"

    def delete(self, table: str) -> str:
        """Return a DELETE."""
        if self.chance.random() < 0.7:
            return f"DELETE FROM {table} WHERE {self.where()}"
        using = f"USING {self.chance.choice(TABLES)} AS q WHERE q.id = {table}.id"
        return f"DELETE FROM {table} {using} AND q.x > {self.chance.randint(0, 30)}"

    def merge(self, table: str) -> str:
        """Return a MERGE, which PostgreSQL 15 has; BY SOURCE came with 17."""
        source = (
            "SELECT id, max(coalesce(x, 0) % 6), max(b)"
            f" FROM {self.chance.choice(TABLES)} GROUP BY id"
        )
        matched = self.chance.choice(("b = s.b", "x = s.x", "id = m.id + 200"))
        branches = (
            "WHEN MATCHED AND m.id % 3 = 0 THEN DELETE",
            f"WHEN MATCHED THEN UPDATE SET {matched}",
            "WHEN NOT MATCHED THEN INSERT (id, x, b) VALUES (s.id, s.x, s.b)",
            "WHEN NOT MATCHED BY SOURCE AND m.id % 5 = 0 THEN DELETE",
        )
        often = (0.5, 0.8, 0.8, 0.2)
        chosen = [
            branch
            for branch, chance in zip(branches, often, strict=True)
            if self.chance.random() < chance
        ]
        return (
            f"MERGE INTO {table} AS m USING ({source}) AS s(id, x, b) ON s.id = m.id "
            + " ".join(chosen or ["WHEN MATCHED THEN DO NOTHING"])
        )

    def with_several(self, table: str) -> str:
        """Return a statement with others in its WITH."""
        parts = []
        for number in range(self.chance.randint(1, 3)):
            other = self.chance.choice(TABLES)
            parts.append(f"w{number} AS ({self.plain(other)} RETURNING {other}.id)")
        last = self.chance.choice(("SELECT count(*) FROM w0", self.plain(table)))
        return f"WITH {', '.join(parts)} {last}"

    def through_view(self) -> str:
        """Return a statement that writes a view."""
        row = f"({self.id()}, {self.number('place')}, {self.word()}, {self.place()})"
        statements = (
            f"INSERT INTO some_places VALUES {row}",
            f"UPDATE some_places SET b = {self.word()} WHERE {self.where()}",
            f"DELETE FROM some_places WHERE {self.where()}",
        )
        return self.chance.choice(statements)

    def at_cursor(self, table: str) -> str:
        """Return a block that writes the rows of a cursor, one by one."""
        write = (f"UPDATE {table} SET b = 'cursor'", f"DELETE FROM {table}")
        return (
            f"DO $$ DECLARE one record; rows CURSOR FOR SELECT * FROM {table}"
            f" WHERE {self.where()} FOR UPDATE; BEGIN FOR one IN rows LOOP"
            f" {self.chance.choice(write)} WHERE CURRENT OF rows; END LOOP; END $$"
        )

    def in_block(self, table: str) -> str:
        """Return a block of which the second part is rolled back."""
        return (
            f"DO $$ BEGIN {self.update(table)}; BEGIN {self.delete(table)};"
            " RAISE 'rolled back'; EXCEPTION WHEN OTHERS THEN NULL; END; END $$"
        )

    def set(self, table: str) -> str:
        """Return what an UPDATE sets."""
        chosen = []
        if self.chance.random() < 0.6:
            chosen.append(f"b = {self.word()}")
        if self.chance.random() < 0.5:
            chosen.append("x = (x + 1) % 6")
        if self.chance.random() < 0.3:
            chosen.append(f"p = {self.place()}")
        if self.chance.random() < 0.25:
            keys = ("id + 100", "-id", "1000 - id", str(self.id()))
            chosen.append(f"id = {self.chance.choice(keys)}")
        return ", ".join(chosen) or "b = b"

    def where(self) -> str:
        """Return which rows are written."""
        first = self.id()
        criteria = (
            *(f"id = {first}", f"id % {self.chance.randint(2, 5)} = 0", "true"),
            *(f"x > {self.chance.randint(0, 40)}", "p IS NOT NULL"),
            f"id BETWEEN {first} AND {first + 6}",
        )
        return self.chance.choice(criteria)

    def id(self) -> int:
        """Return a key that a row may have."""
        return self.chance.randint(1, 25)

    def number(self, table: str) -> str:
        """Return a value of ``x``, by which one table has its partitions."""
        known = str(self.chance.randint(0, 5))
        return self.chance.choice((known, known if table == "parted" else "NULL"))

    def word(self) -> str:
        """Return a value of ``b``; triggers of the application know some of them."""
        words = ("'change'", "'notes'", "'skip'", "'keep'", "NULL")
        plain = f"'w{self.chance.randint(0, 9)}'"
        return self.chance.choice((plain, plain, self.chance.choice(words)))

    def place(self) -> str:
        """Return a value of ``p``, the reference to a place."""
        some = "(SELECT min(id) FROM place)"
        return self.chance.choice(("NULL", "NULL", some, str(self.id())))


def write(connection: DBAPIConnection, statements: Statements) -> tuple[int, int]:
    """Write a transaction; what the database refuses is rolled back.

    :return: the transaction's number, and how many of its statements were not refused.
    """
    driver: Any = connection
    count = number = 0
    try:
        with driver.transaction():
            for _ in range(statements.chance.randint(1, 4)):
                try:
                    with driver.transaction():
                        driver.execute(statements.any())
                    count += 1
                except psycopg.Error:
                    continue
            (number,) = driver.execute("SELECT txid_current()").fetchone()
    except psycopg.IntegrityError:  # of constraints that were deferred
        return number, 0
    return number, count


def rows_of(connection: Any) -> dict[str, list[Any]]:
    """Return the rows of all tables."""
    return {
        name: sorted(
            str(row)
            for (row,) in connection.execute(f"SELECT to_jsonb(r) FROM {name} AS r")
        )
        for name in TABLES
    }


def by_key(name: str, changes: Any) -> dict[Any, list[Any]]:
    """Return what was done to the rows of a table, by their keys and in order.

    :param changes: of each the operation, the values, and the key before it if it had
        another one.
    """
    found: dict[Any, list[Any]] = {}
    for op, values, old_key in changes:
        key = tuple(values[column] for column in KEYS[name])
        found.setdefault(key, []).append((op, values, old_key))
    return found


@pytest.fixture
def tables(
    request: pytest.FixtureRequest,
    base: type[DeclarativeBase],
    level: str,
    pg_engine: Engine,
) -> Any:
    """Make the tables, and return what decides about all else."""
    chance = random.Random(f"{request.node.originalname} {request.param} {level}")
    make_tables(base, chance, level)
    with pg_engine.begin() as connection:
        base.metadata.create_all(connection)
        connection.execute(text(PARTITIONS))
    return chance


SEEDS = pytest.mark.parametrize("tables", range(SCALE), indirect=True)


@SEEDS
def test_events_are_what_a_trigger_for_each_row_saw(
    tables: random.Random, pg_engine: Engine
) -> None:
    statements, done = Statements(tables), 0
    with pg_engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.autocommit = True
        driver.execute(TRIGGERS)
        for name in TABLES:
            driver.execute(SEES.format(name) + CHANGES.format(name))
            if name != "note":
                driver.execute(WRITES.format(name))
        for _ in range(TRANSACTIONS):
            done += write(driver, statements)[1]
        for name in TABLES:
            old_key, new_key = (
                f"jsonb_build_array({', '.join(f'{row}->{c!r}' for c in KEYS[name])})"
                for row in ("old", "new")
            )
            saw = driver.execute(
                f"SELECT op, coalesce(new, old), CASE WHEN {old_key} <> {new_key}"
                f" AND op = 'U' THEN {old_key} END"
                f" FROM seen WHERE name = '{name}' ORDER BY number"
            )
            recorded = driver.execute(
                "SELECT pgh_op, (SELECT jsonb_object_agg(key, value)"
                " FROM jsonb_each(to_jsonb(e)) WHERE key NOT LIKE 'pgh%'),"
                f" pgh_old_key FROM {name}_event AS e ORDER BY pgh_id"
            )
            assert by_key(name, recorded) == by_key(name, saw)
        driver.autocommit = False
    assert done > TRANSACTIONS


@SEEDS
def test_a_transaction_that_is_undone_leaves_the_tables_as_they_were(
    tables: random.Random, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    statements, undone = Statements(tables), 0
    with pg_engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.autocommit = True
        for _ in range(TRANSACTIONS):
            before = rows_of(driver)
            transaction, count = write(driver, statements)
            if not count or tables.random() < 0.4:
                continue
            with Session(pg_engine) as session, session.begin():
                history.undo(session, base, transaction=transaction)
            assert rows_of(driver) == before
            undone += 1
        driver.autocommit = False
    assert undone > TRANSACTIONS / 4
