"""Event columns that do not hold each value of the columns that they store."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Numeric, Table, text

from sa_history import Snapshot, track
from sa_history.install import check

HELD = [
    ("integer", "bigint"),
    ("integer", "numeric"),
    ("bigint", "numeric"),
    ("real", "double precision"),
    ("varchar(5)", "varchar(6)"),
    ("varchar(5)", "text"),
    ("text", "varchar"),
    ("citext", "text"),
    ("numeric(5,2)", "numeric"),
    ("numeric(5,2)", "numeric(6,3)"),
    ("timestamptz(3)", "timestamptz"),
    ("timestamptz", "timestamptz(6)"),
    ("date", "timestamp"),
    ("jsonb", "json"),
    ("uuid", "text"),
    ("amount", "numeric(5,2)"),
    ("numeric(5,2)", "amount"),
    ("integer[]", "bigint[]"),
    ("varchar(5)[]", "text[]"),
]
NOT_HELD = [
    ("bigint", "integer"),
    ("numeric", "integer"),
    ("numeric", "double precision"),
    ("bigint", "double precision"),
    ("double precision", "real"),
    ("text", "varchar(5)"),
    ("varchar(5)", "varchar(4)"),
    ("numeric", "numeric(5,2)"),
    ("numeric(5,3)", "numeric(5,2)"),
    ("numeric(5,2)", "numeric(5,3)"),
    ("numeric(5,-2)", "numeric(5,-3)"),
    ("timestamptz", "timestamptz(3)"),
    ("timestamptz", "timestamp"),
    ("timestamp", "timestamptz"),
    ("timestamp", "date"),
    ("date", "timestamptz"),
    ("integer", "numeric(5,2)"),
    ("bit(3)", "bit(4)"),
    ("numeric(5,3)", "amount"),
    ("bigint[]", "integer[]"),
    ("integer[]", "integer"),
]


def test_which_types_hold_the_values_of_which(pg_engine: Engine) -> None:
    pairs = [*HELD, *NOT_HELD]
    with pg_engine.begin() as connection:
        connection.execute(text("CREATE EXTENSION citext"))
        connection.execute(text("CREATE DOMAIN amount AS numeric(5,2)"))
        for name, sides in zip(("row", "event"), zip(*pairs, strict=True), strict=True):
            columns = ", ".join(f"c{n} {type_}" for n, type_ in enumerate(sides))
            connection.execute(text(f'CREATE TABLE "{name}" ({columns})'))
        metadata = MetaData()
        row = Table(
            "row", metadata, *(Column(f"c{n}", Integer) for n in range(len(pairs)))
        )
        track(Snapshot, event_table="event")(row)
        found = {
            finding.name.rpartition(".")[2]: finding.advice
            for finding in check(connection, metadata)
            if finding.kind == "column" and finding.problem == "outdated"
        }
    wrong = {pairs[int(name[1:])] for name in found}
    assert wrong == {*NOT_HELD}


@pytest.mark.parametrize("level", ["statement", "row"])
def test_a_column_that_was_altered_and_its_event_column_was_not_is_found(
    pg_engine: Engine, level: str
) -> None:
    metadata = MetaData()
    price = Table(
        "price",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("amount", Numeric(12, 2)),
    )
    track(Snapshot, level=level)(price)
    metadata.create_all(pg_engine)
    assert check(pg_engine, metadata) == []
    with pg_engine.begin() as connection:
        if level == "row":  # PostgreSQL refuses it while a WHEN names the column
            connection.execute(text("DROP TRIGGER price_event_update ON price"))
        wider = "ALTER TABLE price ALTER COLUMN amount TYPE numeric(12, 4)"
        connection.execute(text(wider))
        connection.execute(text("INSERT INTO price VALUES (1, 0.1234)"))
        stored = connection.scalar(text("SELECT amount::text FROM price_event"))
        assert stored == "0.12"
    finding, *_ = check(pg_engine, metadata)
    assert str(finding) == (
        "outdated column public.price_event.amount: it is numeric(12,2), which does "
        "not hold each numeric(12,4) of public.price; give it that type by a "
        "migration, and in the model"
    )
