"""Writing a file of Parquet, and comparing one with the rows it was made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from sa_history.archiving.carriers import arrow_schema, delta_encoded
from sa_history.archiving.manifest import ArchivedColumn
from sa_history.archiving.packages import load

ROW_GROUP = 122_880
"""The rows of a row group, which is what a thread of DuckDB reads at a time."""

_LEVEL = 3
"""The level of Zstandard's compression."""


def write_rows(
    stream: Any,
    columns: Sequence[ArchivedColumn],
    batches: Iterable[Any],
    on_rows: Callable[[int], None],
) -> int:
    """Write rows to a file of Parquet.

    :param stream: where to write, open.
    :param columns: the columns.
    :param batches: the rows.
    :param on_rows: is called with a number of rows when they are written.
    :return: how many rows there are.
    """
    pa, parquet = load("pyarrow"), load("pyarrow.parquet")
    schema, deltas = arrow_schema(columns), delta_encoded(columns)
    written = 0
    with parquet.ParquetWriter(
        stream,
        schema,
        compression="zstd",
        compression_level=_LEVEL,
        use_dictionary=[name for name in schema.names if name not in deltas],
        column_encoding=dict.fromkeys(deltas, "DELTA_BINARY_PACKED"),
        store_decimal_as_integer=True,
        write_page_index=True,
    ) as writer:
        for group in _groups(batches):
            table = pa.Table.from_batches(group, schema=schema)
            writer.write_table(table, row_group_size=ROW_GROUP)
            written += table.num_rows
            on_rows(table.num_rows)
    return written


def _groups(batches: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield batches of a row group together, the last ones with what remains."""
    group: list[Any] = []
    rows = 0
    for batch in batches:
        while batch.num_rows:
            part = batch.slice(0, ROW_GROUP - rows)
            group.append(part)
            rows += part.num_rows
            batch = batch.slice(part.num_rows)
            if rows == ROW_GROUP:
                yield group
                group, rows = [], 0
    if group:
        yield group


def read_rows(file: Any, columns: Sequence[ArchivedColumn]) -> Iterator[Any]:
    """Yield the rows of a file, in batches.

    :param file: open to read.
    """
    parquet = load("pyarrow.parquet")
    schema = arrow_schema(columns)
    with parquet.ParquetFile(file, pre_buffer=False) as opened:
        if not opened.schema_arrow.equals(schema):
            raise ValueError(f"its columns are {opened.schema_arrow}, not {schema}")
        yield from opened.iter_batches(batch_size=ROW_GROUP // 4)


def first_difference(
    ours: Iterable[Any], theirs: Iterable[Any], on_rows: Callable[[int], None]
) -> int | None:
    """Return the position of the first row that is not the same; None if all are.

    :param ours: batches of rows.
    :param theirs: batches of rows, of the same schema.
    :param on_rows: is called with a number of rows when they are compared.
    """
    left, right = iter(ours), iter(theirs)
    a = b = None
    position = 0
    while True:
        a, b = _filled(a, left), _filled(b, right)
        if a is None or b is None:
            return None if a is b else position
        rows = min(a.num_rows, b.num_rows)
        if not _is_same(a.slice(0, rows), b.slice(0, rows)):
            return position
        position += rows
        on_rows(rows)
        a, b = a.slice(rows), b.slice(rows)


def _filled(batch: Any, following: Iterator[Any]) -> Any:
    while batch is None or not batch.num_rows:
        batch = next(following, None)
        if batch is None:
            return None
    return batch


def _is_same(a: Any, b: Any) -> bool:
    pairs = zip(a.columns, b.columns, strict=True)
    return all(_bits(x).equals(_bits(y)) for x, y in pairs)


def _bits(column: Any) -> Any:
    """Return floats as integers, by which NaN is itself and -0.0 is not 0.0."""
    pa = load("pyarrow")
    if pa.types.is_float64(column.type):
        return column.view(pa.int64())
    if pa.types.is_float32(column.type):
        return column.view(pa.int32())
    return column
