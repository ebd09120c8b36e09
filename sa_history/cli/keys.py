"""Keys on a command line: the values of one, or any number of them by ``--id``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sa_history.exc import CommandError
from sa_history.tracking.events import trackings_of


def texts_of_keys(
    model: Any, key: Sequence[str], ids: Sequence[str]
) -> list[list[str]]:
    """Return keys, each as the texts of its values.

    :param model: a tracked class or table.
    :param key: the values of one key; none for no such key.
    :param ids: keys; commas separate the values of a key of several.
    :raises EventsError: the model is not tracked.
    """
    has_several = bool(ids) and len(trackings_of(model)[0].tracked_columns.key) > 1
    listed = [one.split(",") if has_several else [one] for one in ids]
    return [[*key], *listed] if key else listed


def texts_of_one_key(
    command: str, model: Any, key: Sequence[str], ids: Sequence[str]
) -> list[str]:
    """Return the key that a command is about, as the texts of its values.

    :param command: what the command is called.
    :return: no text if there is no key.
    :raises CommandError: there are several keys.
    """
    found = texts_of_keys(model, key, ids)
    if len(found) > 1:
        raise CommandError(
            f"{command} is about one row, got {len(found)} keys; give one of them"
        )
    return found[0] if found else []
