"""The folder of an archive, on a disk or in any store that pyarrow can write."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sa_history.archiving.manifest import MANIFEST, Manifest
from sa_history.archiving.packages import load
from sa_history.exc import ArchiveError

_CHUNK = 2**20
"""How much is read at a time, in bytes."""


class ArchiveFolder:
    """A folder of an archive.

    A file is written under another name, which begins with a dot so that readers pass
    over it, and gets its own once all of it is stored.

    :param place: a path; a URI such as ``s3://bucket/folder``, of a file system that
        pyarrow knows, or with ``fsspec+`` before it one of fsspec; or a file system of
        pyarrow, whose root is the folder.
    """

    def __init__(self, place: Any) -> None:
        fs = load("pyarrow.fs")
        if not isinstance(place, fs.FileSystem) and not _is_path(place):
            raise ArchiveError(
                "the folder of an archive is a path, a URI or a file system of pyarrow,"
                f" got {place!r}"
            )
        if isinstance(place, fs.FileSystem):
            self._files, self._root = place, ""
            self.name = f"{place.type_name}:{getattr(place, 'base_path', '')}"
        elif "://" in (name := os.fspath(place)):
            self._files, self._root = _from_uri(fs, name)
            self.name = name
        else:
            self.name = os.path.abspath(name)
            self._files, self._root = fs.LocalFileSystem(), self.name
        self._is_local = isinstance(self._files, fs.LocalFileSystem)
        self._named: set[str] = set()
        self._file_type = fs.FileType
        self._selector = fs.FileSelector

    def __str__(self) -> str:
        return self.name

    def path(self, *parts: str) -> str:
        """Return the path of a file, as the file system has it."""
        return "/".join(filter(None, (self._root.rstrip("/"), *parts)))

    def exists(self, path: str) -> bool:
        """Return whether there is a file.

        :param path: from the folder, as for all that follow.
        """
        return bool(self._info(path).type == self._file_type.File)

    def has_folder(self, path: str) -> bool:
        """Return whether there is a folder."""
        return bool(self._info(path).type == self._file_type.Directory)

    def _info(self, path: str) -> Any:
        with self._errors(path):
            (found,) = self._files.get_file_info([self.path(path)])
        return found

    def open_file(self, path: str) -> Any:
        """Return a file to read at any position; to be closed."""
        with self._errors(path):
            return self._files.open_input_file(self.path(path))

    def digest(self, path: str) -> str:
        """Return the SHA-256 of a file, in hexadecimal digits."""
        found = hashlib.sha256()
        with self._errors(path), self._files.open_input_stream(self.path(path)) as file:
            while chunk := file.read(_CHUNK):
                found.update(chunk)
        return found.hexdigest()

    def size(self, path: str) -> int:
        """Return the size of a file in bytes."""
        return int(self._info(path).size)

    def write(
        self,
        path: str,
        write: Callable[[Any], None],
        check: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Write a file, or replace it, so that there is never half of it.

        :param path: from the folder.
        :param write: is given an open stream.
        :param check: is given the path of what is written, before it gets its name;
            an error leaves the file that was there.
        """
        folder, _, name = path.rpartition("/")
        written = f"{folder}/.{name}.tmp"
        with self._errors(path):
            self._files.create_dir(self.path(folder), recursive=True)
            try:
                with self._files.open_output_stream(self.path(written)) as stream:
                    write(stream)
                self._sync(written)
                check(written)
                self._files.move(self.path(written), self.path(path))
            except BaseException:
                self._forget(written)
                raise
            self._sync_folders(folder)

    def _forget(self, path: str) -> None:
        # It is the error before it that has to be known.
        with suppress(OSError):
            self._files.delete_file(self.path(path))

    def remove(self, folder: str) -> None:
        """Remove a folder with its files, if there is one."""
        self._named.discard(folder)
        if self.has_folder(folder):
            with self._errors(folder):
                self._files.delete_dir(self.path(folder))

    def remove_unfinished(self, folder: str) -> None:
        """Remove what an interrupted run has left below a folder."""
        with self._errors(folder):
            selector = self._selector(
                self.path(folder), allow_not_found=True, recursive=True
            )
            for found in self._files.get_file_info(selector):
                name = found.base_name
                if name.startswith(".") and name.endswith(".tmp"):
                    self._files.delete_file(found.path)

    def read_manifest(self, folder: str) -> Manifest | None:
        """Return the manifest of a table's folder; None if there is none."""
        path = f"{folder}/{MANIFEST}"
        if not self.exists(path):
            return None
        with self._errors(path), self.open_file(path) as file:
            text = file.read().decode(errors="replace")
        manifest = Manifest.from_json(text, self.path(path))
        if manifest.folder != folder:
            raise ArchiveError(
                f"{self.path(path)} is that of {manifest.folder}; give folders the "
                "names that they had"
            )
        return manifest

    def write_manifest(self, manifest: Manifest) -> None:
        """Write the manifest of a table."""
        text = manifest.to_json().encode()
        self.write(f"{manifest.folder}/{MANIFEST}", lambda stream: stream.write(text))

    def folders(self) -> list[str]:
        """Return the folders of tables, in the order of their names."""
        with self._errors(""):
            selector = self._selector(self.path() or "", allow_not_found=True)
            found = self._files.get_file_info(selector)
        names = [f.base_name for f in found if f.type == self._file_type.Directory]
        return sorted(n for n in names if self.exists(f"{n}/{MANIFEST}"))

    def lacks_models(self) -> ArchiveError:
        """Return the error that no table of some models is in the archive."""
        return ArchiveError(
            f"{self} has nothing of these models; it has "
            f"{', '.join(self.folders()) or 'no archive'}"
        )

    def _sync(self, path: str) -> None:
        """Have a disk store what was written; other stores have done so."""
        if self._is_local:
            descriptor = os.open(self.path(path), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _sync_folders(self, folder: str) -> None:
        """Have a disk store the names in a folder, and those of folders around it.

        The name of a folder is stored once; it does not change.
        """
        self._sync(folder)
        while folder and folder not in self._named:
            self._named.add(folder)
            folder = folder.rpartition("/")[0]
            self._sync(folder)

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ArchiveError(f"{self.path(path)}: {error}") from error


def _is_path(place: Any) -> bool:
    """Return whether something is a path, and names more than where we are."""
    path = os.fspath(place) if isinstance(place, os.PathLike) else place
    return isinstance(path, str) and path != ""


def _from_uri(fs: Any, uri: str) -> tuple[Any, str]:
    try:
        files, path = fs.FileSystem.from_uri(uri)
    except (ImportError, OSError, ValueError) as error:
        raise ArchiveError(
            f"{uri!r} cannot be opened: {error}; give a path, a URI of a file system "
            "that pyarrow knows, or one of fsspec with fsspec+ before it"
        ) from error
    return files, path
