"""Writing a file of Parquet, and comparing one with the rows it was made of."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from sa_history.archiving.carriers import arrow_schema
from sa_history.archiving.manifest import ArchivedColumn
from sa_history.archiving.packages import load

ROW_GROUP = 122_880
"""The rows of a row group, which is what a thread of DuckDB reads at a time."""

_LEVEL = 3
"""The level of Zstandard's compression."""

_PAGE = 64 * 1024
"""The size of a page in bytes; readers pass over those without what they look for."""

_PAGE_ROWS = 8192
"""The rows of a page, at most: a reader decodes a page as a whole, also for one row."""

_DICTIONARY = 256 * 1024
"""The size of the dictionary of a column in bytes, at most.

Readers decode it as a whole, also for one row. One that would be larger is of values
that repeat too seldom.
"""


def write_rows(
    stream: Any,
    columns: Sequence[ArchivedColumn],
    batches: Iterable[Any],
    on_rows: Callable[[int, int], None],
) -> None:
    """Write rows to a file of Parquet.

    :param stream: where to write, open.
    :param columns: the columns.
    :param batches: the rows.
    :param on_rows: is called when rows are written, with their number and with that of
        the bytes that they take.
    """
    pa, parquet = load("pyarrow"), load("pyarrow.parquet")
    schema = arrow_schema(columns)
    groups = _groups(batches)
    first = [pa.Table.from_batches(group, schema) for group in islice(groups, 1)]
    encodings = _encodings(schema, first)
    size = stream.tell()
    with parquet.ParquetWriter(
        stream,
        schema,
        compression="zstd",
        compression_level=_LEVEL,
        use_dictionary=[name for name in schema.names if name not in encodings],
        dictionary_pagesize_limit=_DICTIONARY,
        data_page_size=_PAGE,
        max_rows_per_page=_PAGE_ROWS,
        column_encoding=encodings,
        store_decimal_as_integer=True,
        write_page_index=True,
    ) as writer:
        following = (pa.Table.from_batches(group, schema) for group in groups)
        for table in chain(first, following):
            first.clear()  # or its memory would be kept until the end
            writer.write_table(table, row_group_size=ROW_GROUP)
            on_rows(table.num_rows, stream.tell() - size)
            size = stream.tell()


def _encodings(schema: Any, first: Sequence[Any]) -> dict[str, str]:
    """Return the encodings of the columns that have no dictionary.

    :param first: the first row group; empty if there are no rows.
    """
    types = load("pyarrow").types
    found = {}
    for field in schema:
        if types.is_integer(field.type) or types.is_timestamp(field.type):
            found[field.name] = "DELTA_BINARY_PACKED"
        elif any(_dictionary_size(t.column(field.name)) > _DICTIONARY for t in first):
            # What a value shares with the one before it is not repeated.
            found[field.name] = "DELTA_BYTE_ARRAY"
    return found


def _dictionary_size(column: Any) -> int:
    """Return the bytes that the dictionary of a column would have; 0 if not of text."""
    pa, compute = load("pyarrow"), load("pyarrow.compute")
    if not (pa.types.is_string(column.type) or pa.types.is_binary(column.type)):
        return 0
    values = compute.unique(column)
    return (compute.sum(compute.binary_length(values)).as_py() or 0) + 4 * len(values)


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


class RowCount:
    """Counts rows, and finds the first and the last of their keys and times.

    :param key: the column of keys, numbers or UUIDs as text.
    :param time: the column of times; None if there is none.
    """

    def __init__(self, key: str, time: str | None) -> None:
        self._key = key
        self._time = time
        self._ids: list[Any] = []
        self._times: list[int] = []
        self.rows = 0

    def counted(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield batches as they are, and count their rows."""
        for batch in batches:
            self.rows += batch.num_rows
            self._ids = self._ends(self._ids, batch.column(self._key))
            if self._time is not None:
                times = batch.column(self._time).cast("int64")
                self._times = self._ends(self._times, times)
            yield batch

    def _ends(self, ends: list[Any], column: Any) -> list[Any]:
        """Return the lowest and the highest value of some; an empty list if none."""
        found = load("pyarrow.compute").min_max(column).as_py()
        values = [v for v in (*ends, *found.values()) if v is not None]
        return [min(values), max(values)] if values else []

    @property
    def first_id(self) -> str | None:
        """The lowest key; None if there are no rows."""
        return str(self._ids[0]) if self._ids else None

    @property
    def last_id(self) -> str | None:
        """The highest key; None if there are no rows."""
        return str(self._ids[1]) if self._ids else None

    @property
    def since(self) -> str | None:
        """The earliest time, in ISO 8601; None if there is none."""
        return _iso(self._times[0]) if self._times else None

    @property
    def until(self) -> str | None:
        """The latest time, in ISO 8601; None if there is none."""
        return _iso(self._times[1]) if self._times else None


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def _iso(microseconds: int) -> str:
    return (_EPOCH + datetime.timedelta(microseconds=microseconds)).isoformat()


def read_rows(file: Any) -> Iterator[Any]:
    """Yield the rows of a file, in batches.

    :param file: open to read.
    """
    parquet = load("pyarrow.parquet")
    with parquet.ParquetFile(file, pre_buffer=False) as opened:
        yield from opened.iter_batches(batch_size=ROW_GROUP // 4)


def shape_of(file: Any) -> tuple[int, Any]:
    """Return the number of rows of a file, and its schema as pyarrow has it.

    :param file: open to read.
    """
    with load("pyarrow.parquet").ParquetFile(file, pre_buffer=False) as opened:
        return opened.metadata.num_rows, opened.schema_arrow


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
        if not is_same(a.slice(0, rows), b.slice(0, rows)):
            return position + _first_row(a, b, rows)
        position += rows
        on_rows(rows)
        a, b = a.slice(rows), b.slice(rows)


def _filled(batch: Any, following: Iterator[Any]) -> Any:
    while batch is None or not batch.num_rows:
        batch = next(following, None)
        if batch is None:
            return None
    return batch


def _first_row(a: Any, b: Any, rows: int) -> int:
    """Return which of so many rows is the first that differs; one does."""
    same, end = 0, rows
    while end - same > 1:
        middle = (same + end) // 2
        length = middle - same
        if is_same(a.slice(same, length), b.slice(same, length)):
            same = middle
        else:
            end = middle
    return same


def is_same(a: Any, b: Any) -> bool:
    """Return whether two batches of one schema have the same rows, bit by bit."""
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
