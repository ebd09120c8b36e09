"""What a page answers: a response, or an error that becomes one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from sqlalchemy.orm import Session

HTML = "text/html; charset=utf-8"

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
"""The headers of every answer: nothing from elsewhere, no script."""

CACHE_CONTROL = "no-store"
"""The header ``Cache-Control`` of what has none of its own."""


@dataclass(frozen=True, eq=False)
class PageResponse:
    """An answer to a request.

    :param body: the text of the answer.
    :param status: the status of HTTP.
    :param content_type: the header ``Content-Type``.
    :param headers: further headers.
    :param error: the error that the answer tells of, None if it is no error page.
    :param parts: functions that return what follows the body, each to be called with a
        session of its own as the client takes what was before.
    """

    body: str
    status: int = 200
    content_type: str = HTML
    headers: Mapping[str, str] = field(default_factory=dict)
    error: PageError | None = None
    parts: Sequence[Callable[[Session], str]] = ()


def redirect(address: str) -> PageResponse:
    """Return an answer that leads to another page, which is asked for by GET."""
    return PageResponse("", 303, headers={"Location": address})


class PageError(Exception):
    """A request gets no page, but an answer that says why.

    :param message: sentences for the one who asks; what the class says, if left out.
    """

    status: ClassVar[int]
    title: ClassVar[str]
    message: str

    def __init__(self, message: str | None = None) -> None:
        if message is not None:
            self.message = message
        super().__init__(self.message)


class BadRequest(PageError):
    """Something that was given cannot be read."""

    status, title = 400, "Not understood"


class Forbidden(PageError):
    """The user may not do this."""

    status, title = 403, "Not allowed"
    message = "You may not see this, or not do it. Log in as somebody who may."


class NotFound(PageError):
    """There is no such page."""

    status, title = 404, "Not found"
    message = (
        "There is nothing at this address: it has a mistake, or what was recorded has "
        "been deleted."
    )


class ChangeRefused(PageError):
    """The database refused a change."""

    status, title = 409, "Refused"


class TookTooLong(PageError):
    """The database needs more time than a page may take."""

    status, title = 503, "Took too long"
    message = (
        "The database needs too long to go through so many events. Choose a model, a "
        "user or a shorter time."
    )


class NoArchive(PageError):
    """The archive that has the rest of a list cannot be read."""

    status, title = 503, "The archive cannot be read"
