"""Checks of texts and names that PostgreSQL has to store."""

from __future__ import annotations

from sa_history.exc import DefinitionError

MAX_BYTES = 63
"""The bytes of a name at most; PostgreSQL cuts longer ones (NAMEDATALEN is 64)."""


def unstorable(text: str) -> str | None:
    """Return what keeps PostgreSQL from storing a text, or None if nothing does."""
    if "\0" in text:
        return "NUL"
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return "half of a surrogate pair"
    return None


def check_text(owner: str, text: str) -> None:
    """Refuse a text that PostgreSQL cannot store.

    :param owner: what the text is, for messages.
    :raises DefinitionError: the text has a NUL, or half of a surrogate pair.
    """
    wrong = unstorable(text)
    if wrong is not None:
        raise DefinitionError(
            f"{owner} cannot contain {wrong}, got {text!r}; remove it"
        )


def check_name(owner: str, name: str) -> None:
    """Refuse a name that PostgreSQL cannot store, or would cut.

    :param owner: what the name is of, for messages.
    :raises DefinitionError: the name cannot be stored, is empty, or has more than 63
        bytes.
    """
    check_text(owner, name)
    size = len(name.encode())
    if not 0 < size <= MAX_BYTES:
        raise DefinitionError(
            f"{owner} has 1 to {MAX_BYTES} bytes in PostgreSQL, got {name!r} with "
            f"{size}; rename it"
        )
