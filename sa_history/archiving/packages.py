"""The packages that an archive needs, which come with an extra."""

from __future__ import annotations

import importlib
from typing import Any

from sa_history.exc import ArchiveError


def load(name: str) -> Any:
    """Return a module of the extra ``archive``.

    :param name: such as ``"pyarrow.parquet"``.
    :raises ArchiveError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ArchiveError(
            f"an archive needs {name}, which is not installed ({error}); run: pip "
            'install "sa_history[archive]"'
        ) from error
