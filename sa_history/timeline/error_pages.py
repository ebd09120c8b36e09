"""Errors as pages, and as JSON."""

from __future__ import annotations

from sa_history.sql.readable_json import dumps
from sa_history.timeline.addresses import Addresses
from sa_history.timeline.rendering import render
from sa_history.timeline.requests import JSON, PageRequest
from sa_history.timeline.responses import Forbidden, PageError, PageResponse


def turned_away(request: PageRequest) -> PageResponse:
    """Return the answer to somebody who may not see the pages.

    It is the same for all that may be asked for, whether it exists or not.
    """
    return _as_html(Forbidden(), request, ("Back to the application", request.home))


def error_page(
    error: PageError, request: PageRequest, back: tuple[str, str]
) -> PageResponse:
    """Return an error as an answer, of the kind that is asked for.

    :param back: the text and the address of the link that leads away from it.
    """
    if not request.wants_json:
        return _as_html(error, request, back)
    body = dumps({"error": error.message})
    return PageResponse(body, error.status, JSON, error=error)


def _as_html(
    error: PageError, request: PageRequest, back: tuple[str, str]
) -> PageResponse:
    body = render("error.html", error=error, back=back, address=Addresses(request.root))
    return PageResponse(body, error.status, error=error)
