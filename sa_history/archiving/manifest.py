"""The manifest of an archived table: what its files hold, and their digests.

A folder of an archive has a folder for each table, which has a manifest and, for each
partition, a folder in the style of Hive with one file::

    public.account_event/_manifest.json
    public.account_event/pgh_part=1/events.parquet
    public.account_event/pgh_part=8000001/events.parquet

Of names with other than letters, digits and the like, see :func:`folder_of`.
``pgh_part=first`` has the contexts before any bound, and ``pgh_part=open`` what was
not yet closed when it was written. Apache Spark passes over names that begin with an
underscore or a dot, but over no others.
"""

from __future__ import annotations

import datetime
import functools
import json
import re
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from sa_history.capture.partitioning import CONTEXT_KEY
from sa_history.exc import ArchiveError

FORMAT = 1
"""The number of this format; it grows where older readers would misread a folder."""

MANIFEST = "_manifest.json"
"""The name of the file."""

EXACT = "pgh_exact"
"""The column of files with what other columns cannot hold.

A JSON object: names of columns, each with its value as PostgreSQL writes it; NULL in
rows whose values all have a place of their own. Such a value is NULL in its column.
"""


_NOT_IN_FOLDERS = re.compile(r"[%/\\*?\[\]{}]")
"""What ends the name of a folder, or is a pattern where files are read."""


def folder_of(schema: str, table: str) -> str:
    """Return the name of a table's folder in an archive.

    It is both names with a dot between them. A dot in the name of the schema, and
    characters that cannot stand in the name of a folder everywhere, are written as in
    URLs.

    :param schema: the schema of the table in the database.

    Example::

        >>> folder_of("public", "account_event")
        'public.account_event'
        >>> folder_of("v1.0", "in/out_event")
        'v1%2E0.in%2Fout_event'
    """
    return f"{_in_folders(schema).replace('.', '%2E')}.{_in_folders(table)}"


def _in_folders(name: str) -> str:
    return _NOT_IN_FOLDERS.sub(lambda found: f"%{ord(found[0]):02X}", name)


@dataclass(frozen=True)
class ArchivedColumn:
    """A column of an archived table.

    :param name: its name, in the database and in the files.
    :param type: its type as PostgreSQL calls it, such as ``numeric(10,2)``.
    :param carrier: the type in the files, as Arrow calls it, such as
        ``decimal128(10, 2)``; ``string`` for what is stored as PostgreSQL's text.
    """

    name: str
    type: str
    carrier: str


@dataclass(frozen=True)
class ArchivedPart:
    """A partition in the archive.

    :param path: its file, from the folder of the table, with slashes.
    :param lower: its lower bound, as in its folder's name: the first ``pgh_id``, or of
        contexts a UUID; None if it has none.
    :param upper: the bound that it is below; None of an open part.
    :param columns: its columns; those of later partitions may be others.
    :param rows: how many rows it has.
    :param first_id: the lowest key in it, as text; None if it is empty.
    :param last_id: the highest one.
    :param since: the earliest ``pgh_created_at``, in ISO 8601; None of contexts.
    :param until: the latest one.
    :param sha256: the digest of the file, in hexadecimal digits.
    :param bytes: the size of the file.
    :param archived_at: when it was written, in ISO 8601.
    :param replaced: the digests of earlier versions of the file, of which values were
        erased, or that lacked rows that came late.
    """

    path: str
    lower: str | None
    upper: str | None
    columns: tuple[ArchivedColumn, ...]
    rows: int
    first_id: str | None
    last_id: str | None
    since: str | None
    until: str | None
    sha256: str
    bytes: int
    archived_at: str
    replaced: tuple[str, ...] = ()

    @property
    def earliest(self) -> datetime.datetime | None:
        """The time of ``since``; None of contexts."""
        return _time(self.since)

    @property
    def latest(self) -> datetime.datetime | None:
        """The time of ``until``; None of contexts."""
        return _time(self.until)

    @property
    def digests(self) -> tuple[str, ...]:
        """The digests of all versions of the file, of the present one first."""
        return (self.sha256, *self.replaced)

    @functools.cached_property
    def json(self) -> str:
        """The part as it stands in a manifest, which is written for each new part."""
        return json.dumps(asdict(self))


def _time(iso: str | None) -> datetime.datetime | None:
    return None if iso is None else datetime.datetime.fromisoformat(iso)


@dataclass(frozen=True)
class Manifest:
    """What an archive holds of one table.

    :param schema: the schema of the table in the database.
    :param table: its name.
    :param key: the column by which it is partitioned: ``pgh_id`` of events, ``id`` of
        contexts.
    :param parts: the partitions, in the order of their bounds.
    :param versions: the versions of what wrote it, by name.
    :param open: what came after the last partition, as it was when it was written; it
        is still in the database. None if it was not written.
    """

    schema: str
    table: str
    key: str
    parts: tuple[ArchivedPart, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()
    open: ArchivedPart | None = None

    @property
    def name(self) -> str:
        """The name of the table in ``pghistory_archive``."""
        return f"{self.schema}.{self.table}"

    @property
    def has_contexts(self) -> bool:
        """Whether the rows are contexts, and not events."""
        return self.key == CONTEXT_KEY

    @property
    def folder(self) -> str:
        """The name of the table's folder."""
        return folder_of(self.schema, self.table)

    @property
    def columns(self) -> tuple[ArchivedColumn, ...]:
        """The columns of all parts, each as the latest part has it."""
        return columns_of(self.parts)

    def path(self, part: ArchivedPart) -> str:
        """Return the path of a part's file, from the folder of the archive."""
        return f"{self.folder}/{part.path}"

    def with_part(self, part: ArchivedPart) -> Manifest:
        """Return the manifest with a part, in place of one of the same path."""
        parts = {p.path: p for p in self.parts}
        parts[part.path] = part
        return replace(self, parts=tuple(sorted(parts.values(), key=_position)))

    def to_json(self) -> str:
        """Return the text of the file."""
        fields = {
            "format": FORMAT,
            "schema": self.schema,
            "table": self.table,
            "key": self.key,
            "versions": dict(self.versions),
            "open": None if self.open is None else asdict(self.open),
        }
        # A line for each part. Python would take long to indent many of them.
        parts = ",\n ".join(part.json for part in self.parts)
        return f'{json.dumps(fields)[:-1]}, "parts": [\n {parts}\n]}}\n'

    @classmethod
    def from_json(cls, text: str, where: str) -> Manifest:
        """Return what the text of a file says.

        :param where: the file, for errors.
        :raises ArchiveError: it is none, or of a later version.
        """
        try:
            fields = json.loads(text)
            if not isinstance(fields["parts"], list):
                raise TypeError(f"{fields['parts']!r} is no list of parts")
            if fields.pop("format") != FORMAT:
                raise ArchiveError(
                    f"{where} was written by a later version of sa_history, whose "
                    "format is another one; upgrade sa_history to read it"
                )
            parts = tuple(_part(part) for part in fields.pop("parts"))
            if len({part.path for part in parts}) < len(parts):
                raise ValueError("a part is named twice")
            versions = tuple(fields.pop("versions").items())
            still_open = fields.pop("open")
            return cls(
                parts=parts,
                versions=versions,
                open=None if still_open is None else _part(still_open),
                **fields,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ArchiveError(
                f"{where} is no manifest of an archive: {error!r}; restore it from a "
                "backup, or archive into another folder"
            ) from error


def columns_of(parts: Iterable[ArchivedPart]) -> tuple[ArchivedColumn, ...]:
    """Return the columns of parts, each as the latest part has it.

    :param parts: in the order of their bounds.
    """
    return tuple({c.name: c for part in parts for c in part.columns}.values())


_CARRIER = re.compile(
    r"bool|int16|int32|int64|float|double|string|binary|date32\[day\]"
    r"|timestamp\[us(, tz=UTC)?\]|decimal128\(\d+, ?\d+\)"
)


def _part(fields: dict[str, Any]) -> ArchivedPart:
    """Return what a manifest says of a part.

    :raises ValueError: what files are found by, or rows are chosen by, is none.
    """
    path = fields["path"]
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"{path!r} is outside of the folder")
    if not isinstance(fields["rows"], int):
        raise ValueError(f"{fields['rows']!r} is no number of rows")
    for bound in filter(None, (fields["lower"], fields["upper"])):
        uuid.UUID(bound) if "-" in bound[1:] else int(bound)
    for time in filter(None, (fields["since"], fields["until"])):
        datetime.datetime.fromisoformat(time)
    columns = tuple(ArchivedColumn(**column) for column in fields.pop("columns"))
    for column in columns:
        if not _CARRIER.fullmatch(column.carrier):
            raise ValueError(f"{column.carrier!r} is no type of files")
    replaced = tuple(fields.pop("replaced"))
    return ArchivedPart(columns=columns, replaced=replaced, **fields)


def _position(part: ArchivedPart) -> tuple[bool, int, str]:
    """Return what sorts parts by their bounds, be these numbers or UUIDs."""
    lower = part.lower
    if lower is None:
        return False, 0, ""
    return True, 0 if "-" in lower[1:] else int(lower), lower
