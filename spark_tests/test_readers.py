"""The files are read by what knows Parquet, without sa_history and its manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from sa_history.archiving.carriers import arrow_schema
from sa_history.archiving.manifest import EXACT, ArchivedColumn
from sa_history.archiving.part_files import write_rows
from spark_tests.conftest import Archive


def _expected(archive: Archive) -> Any:
    with archive.engine.connect() as connection:
        return connection.exec_driver_sql(
            "SELECT count(*), sum(balance), count(DISTINCT id) FROM account_event"
        ).one()


def test_spark_reads_the_folder_of_a_table(spark: Any, archive: Archive) -> None:
    frame = spark.read.parquet(f"{archive.folder}/public.account_event")
    found = frame.selectExpr("count(*)", "sum(balance)", "count(DISTINCT id)")
    assert found.collect() == [tuple(_expected(archive))]
    jars = spark.sparkContext.getConf().get("spark.jars", "")
    assert jars == ""


def test_duckdb_reads_it_without_extensions(archive: Archive) -> None:
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET autoinstall_known_extensions = false")
    connection.execute("SET autoload_known_extensions = false")
    files = f"{archive.folder}/public.account_event/*/events.parquet"
    found = connection.execute(
        "SELECT count(*), sum(balance), count(DISTINCT id) FROM read_parquet(?)",
        [files],
    )
    assert found.fetchall() == [tuple(_expected(archive))]


def test_polars_reads_it(archive: Archive) -> None:
    import polars

    files = f"{archive.folder}/public.account_event/*/events.parquet"
    frame = polars.scan_parquet(files, hive_partitioning=False)
    found = frame.select(
        polars.len(),
        polars.col("balance").cast(polars.Int64).sum(),
        polars.col("id").n_unique(),
    ).collect()
    assert found.row(0) == tuple(_expected(archive))


def test_all_read_columns_of_many_values(spark: Any, tmp_path: Path) -> None:
    import duckdb
    import polars

    columns = [
        ArchivedColumn("number", "bigint", "int64"),
        ArchivedColumn("word", "text", "string"),
        ArchivedColumn("raw", "bytea", "binary"),
    ]
    count = 150_000  # more than one row group
    words = [f"value {n * 7919 % count}" if n % 9 else None for n in range(count)]
    values = [range(count), words, [word and word.encode() for word in words]]
    arrays = [*values, [None] * count]
    schema = arrow_schema(columns)
    batch = pa.record_batch(dict(zip(schema.names, arrays, strict=True)), schema=schema)
    path = tmp_path / "many.parquet"
    with path.open("wb") as file:
        write_rows(file, columns, [batch], lambda *_: None)
    expected = list(zip(*values, strict=True))
    by_spark = spark.read.parquet(str(path)).drop(EXACT).orderBy("number")
    found = [(*row[:2], row[2] and bytes(row[2])) for row in by_spark.collect()]
    assert found == expected
    assert polars.read_parquet(path).drop(EXACT).rows() == expected
    selected = f"SELECT * EXCLUDE {EXACT} FROM '{path}'"
    assert duckdb.sql(selected).fetchall() == expected


def test_no_other_file_is_seen_beside_the_data(archive: Archive) -> None:
    folder = Path(archive.folder, "public.account_event")
    beside = [p.name for p in folder.rglob("*") if p.is_file()]
    assert {name for name in beside if not name.startswith(("_", "."))} == {
        "events.parquet"
    }
