"""Parts of messages that many modules write alike."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the names that exist.

    :param name: the unknown name.
    :param known: the names that exist; the one most like ``name`` is suggested.
    :return: text that begins with a semicolon, to put after the error's first part.

    Example::

        >>> suggestion("tilte", ["id", "title"])
        "; did you mean 'title'? it has id, title"
    """
    names = tuple(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"; {hint}it has {', '.join(names)}"


def counted(number: int, noun: str) -> str:
    """Return a number with what it counts, in the singular or the plural.

    :param noun: in the singular; the plural has an "s".

    Example::

        >>> counted(1, "event"), counted(2, "event")
        ('1 event', '2 events')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
