"""What a statement's text says about the settings that are sent with it.

Text that is not understood counts as a statement that writes, and that may take
settings back: then they are sent once more than needed, and never once less.
"""

from __future__ import annotations

import re
from typing import Any

# Not SET CONSTRAINTS: it runs what was deferred.
_NEEDS_NO_SETTINGS = re.compile(
    r"\s*(SET(?!\s+CONSTRAINTS)|RESET|SHOW|LOCK|SAVEPOINT|RELEASE|ROLLBACK|ABORT)\b"
    r"[^;]*[;\s]*$",
    re.IGNORECASE,
)

_KEEPS_SETTINGS = re.compile(
    r"[\s(]*(SELECT|INSERT|UPDATE|DELETE|MERGE|WITH|VALUES|FETCH|SHOW|SAVEPOINT|RELEASE)"
    r"\b[^;]*[;\s]*$",
    re.IGNORECASE,
)

_RELEASES = re.compile(r"\s*RELEASE\b", re.IGNORECASE)

_COMMENT_OR_QUOTE = re.compile(r"--[^\r\n]*|/\*|['\"$]")

_COMMENT_SIGN = re.compile(r"/\*|\*/")


def needs_no_settings(query: Any) -> bool:
    """Return True for a single statement that writes nothing, and runs no trigger.

    SET TRANSACTION has to come before any query of its transaction, and LOCK before
    what sees a snapshot, so settings cannot be sent before. SHOW and the statements of
    savepoints may precede it. After an error only a rollback is possible. The next
    statement carries the context.

    :param query: text or bytes; any other form that the driver takes gives False.
    """
    return _NEEDS_NO_SETTINGS.match(_without_comments(_as_text(query))) is not None


def may_take_settings_back(query: str) -> bool:
    """Return False for a single statement after which the settings are as before.

    A rollback to a savepoint takes them back, as RESET ALL does; COMMIT AND CHAIN
    begins anew. RELEASE leaves them.

    :param query: what was executed.
    """
    return _KEEPS_SETTINGS.match(_without_comments(query)) is None


def releases_savepoint(query: str) -> bool:
    """Return True for a RELEASE, which leaves settings, but not on all nodes of Citus.

    Citus forgets after it what was set since the savepoint, and tells nodes that are
    reached later nothing of it.

    :param query: what was executed.
    """
    return _RELEASES.match(_without_comments(query)) is not None


def is_one_statement(query: Any) -> bool:
    """Return True for text without a semicolon before its end.

    :param query: text or bytes; any other form that the driver takes gives False.
    """
    is_text = isinstance(query, (str, bytes))
    return is_text and ";" not in _as_text(query).rstrip("; \n\t")


def _as_text(query: Any) -> str:
    """Return a query as text, which is empty for what is neither text nor bytes."""
    if isinstance(query, bytes):
        return query.decode(errors="replace")
    return query if isinstance(query, str) else ""


def _without_comments(text: str) -> str:
    """Return text with a space for each comment, up to the first quote.

    After a quote, what looks like a comment may be inside of a string, and stays.
    """
    if "--" not in text and "/*" not in text:
        return text
    kept, end = [], 0
    while (found := _COMMENT_OR_QUOTE.search(text, end)) and found[0] not in "'\"$":
        kept.append(text[end : found.start()])
        is_block = found[0] == "/*"
        end = _end_of_comment(text, found.start()) if is_block else found.end()
    return " ".join((*kept, text[end:]))


def _end_of_comment(text: str, start: int) -> int:
    """Return the end of a comment that begins with ``/*``, and may hold others."""
    depth = 0
    for sign in _COMMENT_SIGN.finditer(text, start):
        depth += 1 if sign[0] == "/*" else -1
        if depth == 0:
            return sign.end()
    return len(text)
