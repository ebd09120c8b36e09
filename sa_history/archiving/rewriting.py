"""Rewriting a file of an archive, as when values in it are erased."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from sa_history.archiving.folder import ArchiveFolder
from sa_history.archiving.manifest import EXACT, ArchivedPart, Manifest
from sa_history.archiving.packages import load
from sa_history.archiving.part_files import first_difference, read_rows, write_rows
from sa_history.exc import ArchiveError


def rewrite_part(
    folder: ArchiveFolder,
    manifest: Manifest,
    part: ArchivedPart,
    change: Callable[[Any], Any],
) -> Manifest:
    """Write a file anew with other values, and note its old digest.

    The new file is compared with what it was to become before it takes the place of the
    old one. The manifest is written first: after an interruption between the two the
    file has a digest that the manifest has among those that were replaced, and the same
    call does the rest.

    :param folder: the archive.
    :param manifest: that of the part's table.
    :param part: the part, as the manifest has it; the open one as well.
    :param change: is given rows as a RecordBatch of pyarrow, more than once, and
        returns as many with the same columns; see :func:`with_nulls`.
    :return: the manifest as it is then.
    :raises ArchiveError: the file is neither what the manifest says nor an earlier
        version.
    """
    path = manifest.path(part)
    before = folder.digest(path)
    if before not in part.digests:
        raise ArchiveError(
            f"{folder.path(path)} has another digest than the manifest says; restore "
            "it from a backup before values in it are erased"
        )
    changed = manifest

    def rows() -> Iterator[Any]:
        with folder.open_file(path) as file:
            for batch in read_rows(file):
                yield change(batch)

    def write(stream: Any) -> None:
        write_rows(stream, part.columns, rows(), lambda rows, size: None)

    def check(written: str) -> None:
        nonlocal changed
        with folder.open_file(written) as file:
            theirs = read_rows(file)
            if first_difference(rows(), theirs, lambda rows: None) is not None:
                raise ArchiveError(
                    f"{folder.path(written)} is not what was written; the disk may be "
                    "failing, and nothing was changed"
                )
        digest = folder.digest(written)
        old = dict.fromkeys((*part.replaced, part.sha256, before))
        renewed = replace(
            part,
            sha256=digest,
            bytes=folder.size(written),
            replaced=tuple(d for d in old if d != digest),
        )
        if part == manifest.open:
            changed = replace(manifest, open=renewed)
        else:
            changed = manifest.with_part(renewed)
        folder.write_manifest(changed)

    folder.write(path, write, check)
    return changed


def with_nulls(batch: Any, rows: Any, *columns: str) -> Any:
    """Return rows with NULL in some columns, also in place of what only ``EXACT`` has.

    :param batch: the rows.
    :param rows: an array of booleans, True for the rows to change.
    :param columns: the names of columns.
    """
    pa, compute = load("pyarrow"), load("pyarrow.compute")
    for name in columns:
        values = batch.column(name)
        empty = pa.scalar(None, values.type)
        batch = with_column(batch, name, compute.if_else(rows, empty, values))
    exact = batch.column(EXACT)
    if exact.null_count < len(exact):
        kept = []
        for text, is_changed in zip(exact.to_pylist(), rows.to_pylist(), strict=True):
            if text is not None and is_changed:
                found = json.loads(text)
                left = {name: found[name] for name in found if name not in columns}
                text = json.dumps(left) if left else None
            kept.append(text)
        batch = with_column(batch, EXACT, pa.array(kept, pa.string()))
    return batch


def with_column(batch: Any, name: str, values: Any) -> Any:
    """Return rows with other values in a column."""
    pa = load("pyarrow")
    position = batch.schema.get_field_index(name)
    columns = [*batch.columns[:position], values, *batch.columns[position + 1 :]]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)
