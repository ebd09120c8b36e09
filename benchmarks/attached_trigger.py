"""What an attached trigger costs beside one that is written by hand.

Both have the same body. The attached one has the switch in WHEN, by which it can be
ignored; here nothing is.
"""

from __future__ import annotations

from sqlalchemy import Column, Engine, Integer, MetaData, Table, text

from benchmarks.harness import Variant, measured, table
from sa_history import Insert, Trigger, Update, attach

ROWS = 300_000
ROUNDS = 7
BODY = "NEW.b = NEW.a + 1; RETURN NEW;"
VARIANTS = ("without a trigger", "written by hand", "attached")


def _tables(metadata: MetaData) -> dict[str, Table]:
    return {
        name: Table(
            name.replace(" ", "_"),
            metadata,
            Column("id", Integer, primary_key=True, autoincrement=False),
            Column("a", Integer),
            Column("b", Integer),
            prefixes=["UNLOGGED"],  # the trigger is measured, not the disk
        )
        for name in VARIANTS
    }


def _create(engine: Engine) -> dict[str, Table]:
    metadata = MetaData()
    tables = _tables(metadata)
    attach(Trigger("fill", "before", Insert | Update, body=BODY))(tables["attached"])
    metadata.drop_all(engine)
    metadata.create_all(engine)
    by_hand = tables["written by hand"].name
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE OR REPLACE FUNCTION by_hand() RETURNS trigger LANGUAGE plpgsql"
            f" AS $$ BEGIN {BODY} END $$"
        )
        connection.exec_driver_sql(
            f"CREATE TRIGGER fill BEFORE INSERT OR UPDATE ON {by_hand}"
            " FOR EACH ROW EXECUTE FUNCTION by_hand()"
        )
    return tables


def _insert(table_: Table) -> Variant:
    def prepare(engine: Engine) -> None:
        with engine.begin() as connection:
            connection.execute(text(f"TRUNCATE {table_.name}"))

    def work(engine: Engine) -> None:
        with engine.begin() as connection:
            connection.execute(
                text(
                    f"INSERT INTO {table_.name} (id, a)"
                    f" SELECT n, n FROM generate_series(1, {ROWS}) AS n"
                )
            )

    return Variant(table_.name.replace("_", " "), prepare, work)


def _update(table_: Table) -> Variant:
    def prepare(engine: Engine) -> None:
        _insert(table_).prepare(engine)
        _insert(table_).work(engine)
        with engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.execute(text(f"VACUUM ANALYZE {table_.name}"))

    def work(engine: Engine) -> None:
        with engine.begin() as connection:
            connection.execute(text(f"UPDATE {table_.name} SET a = a + 1"))

    return Variant(table_.name.replace("_", " "), prepare, work)


def run(engine: Engine) -> str:
    """Return the results, as text."""
    tables = _create(engine)
    inserts = [_insert(tables[name]) for name in VARIANTS]
    updates = [_update(tables[name]) for name in VARIANTS]
    parts = []
    for what, variants in (("INSERT", inserts), ("UPDATE", updates)):
        results = measured(engine, variants, ROUNDS)
        parts.append(table(f"{what} of {ROWS:,} rows", results, base=VARIANTS[1]))
    return "\n\n".join(parts)
