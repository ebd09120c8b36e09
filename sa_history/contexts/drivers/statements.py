"""What has to be known of a statement's text before settings are sent with it."""

from __future__ import annotations

import re
from typing import Any

# Not SET CONSTRAINTS: it runs what was deferred.
_FIRST = re.compile(r"\s*(SET(?!\s+CONSTRAINTS)|LOCK)\b[^;]*;?\s*$", re.IGNORECASE)


def must_come_first(query: Any) -> bool:
    """Return True for a query that may have to be the first of its transaction.

    SET TRANSACTION has to, and LOCK before what sees a snapshot. Neither writes; the
    statement after it carries the context.

    :param query: text; any other form that the driver takes gives False.
    """
    return isinstance(query, str) and _FIRST.match(query) is not None


def is_one_statement(query: Any) -> bool:
    """Return True for text without a semicolon before its end.

    :param query: text or bytes; any other form that the driver takes gives False.
    """
    if isinstance(query, bytes):
        query = query.decode(errors="replace")
    return isinstance(query, str) and ";" not in query.rstrip("; \n\t")
