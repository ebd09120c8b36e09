"""What PostgreSQL can hold as text, and as a name."""

from __future__ import annotations

from sa_history.exc import DefinitionError

MAX_BYTES = 63
"""PostgreSQL cuts longer names, silently (NAMEDATALEN is 64)."""


def unstorable(text: str) -> str | None:
    """Return what PostgreSQL cannot store of a text, None where it can."""
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

    :param owner: what it is, for messages.
    :raises DefinitionError: says why.
    """
    wrong = unstorable(text)
    if wrong is not None:
        raise DefinitionError(
            f"{owner} cannot contain {wrong}, got {text!r}; remove it"
        )


def check_name(owner: str, name: str) -> None:
    """Refuse what PostgreSQL cannot have as a name, or would cut.

    :param owner: what it is, for messages.
    :raises DefinitionError: says why.
    """
    check_text(owner, name)
    size = len(name.encode())
    if not 0 < size <= MAX_BYTES:
        raise DefinitionError(
            f"{owner} has 1 to {MAX_BYTES} bytes in PostgreSQL, got {name!r} with "
            f"{size}; rename it"
        )
