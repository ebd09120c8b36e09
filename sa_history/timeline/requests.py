"""What a page is asked for, as each framework's adapter gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from itsdangerous import BadSignature, URLSafeSerializer

from sa_history.timeline.responses import BadRequest

HTML = "text/html"
JSON = "application/json"


@dataclass(frozen=True, eq=False)
class PageRequest:
    """A request for a page.

    :param method: the method of HTTP, such as ``"GET"``.
    :param root: the address of the timeline without a slash at its end, as a browser
        writes it.
    :param home: the address of the application, for those who may not see the timeline.
    :param accept: the header ``Accept``.
    :param arguments: the values of each argument of the query string.
    :param form: the fields of the form that was posted.
    :param session: the user's session, which the user can read and nobody can forge;
        None if the application has none.
    :param signing_key: returns the key that signs what addresses have of ours.
    :param call: calls a function of the application, and returns what it returns. If
        that is awaitable, it waits.
    :param context: the keys and values that what the request changes is recorded with.
    :param subject: what functions are given that decide about the request, not about
        an event; nothing where the framework knows the request everywhere.
    """

    method: str
    root: str
    home: str
    accept: str
    arguments: Mapping[str, Sequence[str]]
    form: Mapping[str, str]
    session: MutableMapping[str, Any] | None
    signing_key: Callable[[], str | bytes]
    call: Callable[..., Any]
    context: Mapping[str, Any]
    subject: Sequence[Any] = ()

    def argument(self, name: str) -> str | None:
        """Return the first value of an argument without spaces around it, or None."""
        values = self.arguments.get(name) or ("",)
        return values[0].strip() or None

    @property
    def wants_json(self) -> bool:
        """True if the header ``Accept`` prefers JSON to HTML."""
        return _preference(self.accept, JSON) > _preference(self.accept, HTML)

    @property
    def cursor(self) -> int | None:
        """The number of the event that the page begins after, None for the newest.

        :raises BadRequest: it has not been signed by :meth:`sign`.
        """
        values = self.arguments.get("before")
        if not values:
            return None
        try:
            return int(self._signer().loads(values[0]))
        except BadSignature as error:
            raise BadRequest(
                "The address has been changed: its “before” is not one that a page "
                "has given."
            ) from error

    def sign(self, event_id: int) -> str:
        """Return the number of an event as an argument ``before``."""
        return str(self._signer().dumps(event_id))

    def _signer(self) -> URLSafeSerializer:
        return URLSafeSerializer(self.signing_key(), salt="sa_history.timeline")


def _preference(accept: str, media_type: str) -> tuple[float, int]:
    """Return the quality of a media type, and how exactly the header names it."""
    main = media_type.partition("/")[0]
    exactness = {"*/*": 0, f"{main}/*": 1, media_type: 2}
    found = (0.0, -1)
    for part in accept.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if name in exactness:
            # What names the type most exactly counts, be it less than another.
            found = max(found, (_quality(parameters), exactness[name]), key=_exactness)
    return found if found[0] else (0.0, -1)


def _exactness(preference: tuple[float, int]) -> int:
    return preference[1]


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
