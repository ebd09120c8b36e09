"""Models by their names: as ``module:Base``, or as Flask's commands name one."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Iterable
from typing import Any

from sqlalchemy import MetaData, Table, inspect
from sqlalchemy.orm import Mapper

from sa_history.cli.command import Command, ModelChoice
from sa_history.exc import CommandError
from sa_history.tracking.registry import trackings_in
from sa_history.util.messages import suggestion


def load(models: str) -> dict[str, Any]:
    """Return what is named, each by its name.

    :param models: names as ``module:attribute``, separated by commas.
    :raises CommandError: a name is not of this form, or cannot be imported.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as "python -m" does
    return {name: _imported(name) for name in models.split(",")}


def metadatas_of(loaded: dict[str, Any]) -> list[MetaData]:
    """Return the MetaData of what :func:`load` returns.

    :raises CommandError: one has none.
    """
    return [_metadata(name, found) for name, found in loaded.items()]


def selected_model(command: Command, loaded: dict[str, Any]) -> Any | None:
    """Return the mapped class or table that a command is about, None for all.

    :param loaded: what :func:`load` returns.
    :raises CommandError: the command needs a model and got none, or several; or it is
        about all models, and got one.
    """
    models = [found for found in loaded.values() if _is_model(found)]
    if command.models is ModelChoice.ALL:
        if models:
            takes_tables = any(a.name == "tables" for a in command.arguments)
            of_one = ", and then the name of a table" if takes_tables else ""
            raise CommandError(
                f"{command.name} is about all models, got {','.join(loaded)!r}; write "
                f"the declarative base or the MetaData, such as app.models:Base{of_one}"
            )
        return None
    if models and len(loaded) == 1:
        return models[0]
    if models or command.models is ModelChoice.ONE:
        raise CommandError(
            f"{command.name} is about one model, got {','.join(loaded)!r}; write the "
            "module and the class, such as app.models:Account"
        )
    return None


def _is_model(found: Any) -> bool:
    if isinstance(found, Table):
        return True
    return isinstance(found, type) and isinstance(inspect(found, False), Mapper)


def _imported(models: str) -> Any:
    module_name, _, name = models.partition(":")
    if not module_name or not name:
        raise CommandError(
            f"{models!r} names no models; write module:Base or module:metadata"
        )
    found: Any = None
    try:
        found = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:
        # The module may raise anything.
        raise CommandError(
            f"{models!r} cannot be imported: {type(error).__name__}: {error}"
            f"{_where(error)}{_advice(error, module_name, found, name)}"
        ) from error
    return found


def _advice(error: Exception, module: str, found: Any, name: str) -> str:
    """Return what to do about a module that cannot be imported, or lacks a name.

    :param found: the module, or what was found in it; None if it was not imported.
    """
    if found is not None:
        close = difflib.get_close_matches(name, dir(found), n=1)
        named = f"did you mean {close[0]!r}?" if close else "name what has the models"
        return f"; {named}"
    missing = getattr(error, "name", None) or ""
    if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(
        f"{missing}."
    ):
        return f"; run it in the directory that has {missing}, or set PYTHONPATH"
    return "; import it in Python to see all of the error"


def _metadata(name: str, found: Any) -> MetaData:
    metadata = getattr(found, "metadata", found)
    if not isinstance(metadata, MetaData):
        raise CommandError(
            f"{name!r} is {found!r}, which is no declarative base and no MetaData; "
            "write module:Base or module:metadata"
        )
    return metadata


def _where(error: Exception) -> str:
    """Return the file and the line where a module raised an error."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    known = last.filename == __file__ or last.filename.startswith("<frozen importlib")
    is_python = last.filename == importlib.__file__
    return "" if known or is_python else f" ({last.filename}, line {last.lineno})"


def tracked_model(name: str, metadatas: Iterable[MetaData]) -> tuple[MetaData, Any]:
    """Return the tracked class or table with a name, after its MetaData.

    :param name: of the class or the table.
    :raises CommandError: there is none, or there are several.
    """
    trackings = trackings_in(*metadatas)
    found = {t.table: t for t in trackings if name in (t.subject, t.table.fullname)}
    if not found:
        known = dict.fromkeys(t.subject for t in trackings)
        raise CommandError(
            f"the application has no tracked model {name!r}{suggestion(name, known)}"
        )
    if len(found) > 1:
        tables = ", ".join(table.fullname for table in found)
        raise CommandError(
            f"{name!r} is the name of several models; give that of a table: {tables}"
        )
    ((table, tracking),) = found.items()
    return table.metadata, tracking.model or table
