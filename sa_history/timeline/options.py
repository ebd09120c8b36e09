"""What an application says about its timeline."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sa_history.archiving.folder import ArchiveFolder
from sa_history.archiving.packages import load
from sa_history.exc import DefinitionError
from sa_history.timeline.display import Labels, zone_of
from sa_history.timeline.entries import Entry, Hidden, Masks
from sa_history.tracking.registry import Tracking
from sa_history.util.arguments import as_names

Who = Callable[[Mapping[str, Any]], "str | None"]
"""Returns a user's name for the metadata of a context."""

Link = Callable[[Entry], "str | None"]
"""Returns the address of an event's row in the application, or None."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TimelineOptions:
    """The options of a timeline as an application gives them to an adapter.

    The adapters explain them, and have their defaults.

    :param authorize: says who may see the pages.
    :param authorize_restore: says whether an event may be restored; None if none may.
    :param mask: the attributes that are never shown.
    :param who: gives a user's name; None for the key ``user`` of a context.
    :param page_size: how many events a page has.
    :param users: gives the users to choose from; None if they are typed.
    :param link: gives the address of an event's row in the application; None for none.
    :param export_limit: how many events an export has.
    :param authorize_undo: says whether something may be undone; None if nothing may.
    :param labels: what models and attributes are called; None for their names.
    :param name_of: gives the name of an object that a foreign key refers to; None for
        its key.
    :param time_zone: the time zone of times, or what gives it.
    :param authorize_size: says who may see how large event tables are; None if nobody
        may.
    :param authorize_verify: says whether a sealed event may be verified; None if none
        may.
    :param archive: the folder with the events that were removed; None if there is none.
    :raises DefinitionError: one of them cannot be meant.
    :raises ArchiveError: what reads an archive is not installed.
    """

    authorize: Callable[..., Any]
    authorize_restore: Callable[..., Any] | None
    mask: Collection[str]
    who: Who | None
    page_size: int
    users: Callable[[], Any] | None
    link: Link | None
    export_limit: int
    authorize_undo: Callable[..., Any] | None
    labels: Labels | None
    name_of: Callable[[Any], str | None] | None
    time_zone: Any
    authorize_size: Callable[..., Any] | None
    authorize_verify: Callable[..., Any] | None
    archive: Any

    def __post_init__(self) -> None:
        if not callable(self.authorize):
            raise DefinitionError(
                "timeline shows everything that was ever changed; give authorize=, a "
                f"function that says who may see it, got {self.authorize!r}"
            )
        for option in ("page_size", "export_limit"):
            size = getattr(self, option)
            if type(size) is not int or size < 1:
                raise DefinitionError(
                    f"{option} is a number of events, got {size!r}; give an int from 1 "
                    "on"
                )
        for option in _FUNCTIONS:
            given = getattr(self, option)
            if given is not None and not callable(given):
                raise DefinitionError(
                    f"{option} is a function, got {given!r}; write {option}=lambda ..."
                )
        for option in ("who", "link", "labels"):
            given = getattr(self, option)
            if inspect.iscoroutinefunction(given):
                raise DefinitionError(
                    f"{option} is called for each event and is not awaited, got the "
                    f"coroutine function {given.__name__}; write it without async"
                )
        labels = self.labels
        if not (labels is None or callable(labels) or isinstance(labels, Mapping)):
            raise DefinitionError(
                "labels is a mapping of names to what they are called, or a function, "
                f'got {labels!r}; write labels={{"Order.note": "Remark"}}'
            )
        if not callable(self.time_zone):
            zone_of(self.time_zone)
        if self.archive is not None:
            load("duckdb")
        # They refuse what cannot be meant, which else the first page would.
        _ = self.masks, self.archive_folder

    @cached_property
    def masks(self) -> Masks:
        """The attributes that are never shown."""
        return Masks(frozenset(as_names("mask", self.mask)))

    @cached_property
    def archive_folder(self) -> ArchiveFolder | None:
        """The archive of events that were removed; None if there is none."""
        return None if self.archive is None else ArchiveFolder(self.archive)

    @property
    def user_name(self) -> Who:
        """What gives a user's name for the metadata of a context."""
        return self.who or user_of

    @property
    def names_users(self) -> bool:
        """Whether headings have the names that ``users`` gives."""
        return self.users is not None and self.user_name is user_of

    def hidden(self, trackings: Sequence[Tracking]) -> Hidden:
        """Return the columns that are never shown.

        :param trackings: all that is tracked, in any database.
        :raises DefinitionError: ``mask`` or ``labels`` names what no tracked model has.
        """
        if isinstance(self.labels, Mapping):
            _require_known(self.labels, trackings)
        return self.masks.of(trackings)


_FUNCTIONS = (
    "authorize_restore",
    "authorize_undo",
    "authorize_size",
    "authorize_verify",
    "who",
    "users",
    "link",
    "name_of",
)
"""The options that are functions, if they are given."""


def _require_known(labels: Mapping[str, str], trackings: Sequence[Tracking]) -> None:
    unknown = [name for name in labels if not _is_known(name, trackings)]
    if unknown:
        raise DefinitionError(
            f"labels names {', '.join(unknown)}, which no tracked model has; write "
            "models as 'Order', and attributes as 'note' or 'Order.note'"
        )


def _is_known(name: str, trackings: Sequence[Tracking]) -> bool:
    model, _, attribute = name.rpartition(".")
    return any(
        name == tracking.subject
        or (
            model in ("", tracking.subject)
            and attribute in tracking.tracked_columns.by_attribute
        )
        for tracking in trackings
    )


def user_of(metadata: Mapping[str, Any]) -> str | None:
    """Return the user of a context's metadata, None without one."""
    user = metadata.get("user")
    return None if user is None else str(user)


def choices(users: Any) -> dict[str, str]:
    """Return the users that ``users`` gave, as values of the field with their names.

    :param users: a mapping of users to their names, or the users alone.
    """
    named = users.items() if isinstance(users, Mapping) else ((u, u) for u in users)
    return {str(user): str(name) for user, name in named}


def checked_link(address: str | None) -> str | None:
    """Return an address that ``link`` gave, if it leads to a page.

    :raises DefinitionError: it is of another kind, such as ``javascript:``.
    """
    if address is None or _LEADS_TO_PAGE.match(address):
        return address
    raise DefinitionError(
        f"link returns an address of http or a path that begins with /, got {address!r}"
    )


_LEADS_TO_PAGE = re.compile(r"https?://|/(?![/\\])", re.IGNORECASE)


def is_permission(name: str, answer: Any) -> bool:
    """Return the answer of a function of the application: a permission, or none.

    :param name: the option that the function was given as, for the error.
    :raises DefinitionError: the answer is something else that is true, such as a
        coroutine, a response, or Flask-Login's ``current_user``, which anonymous users
        have too.
    """
    if answer and answer is not True:
        raise DefinitionError(
            f"{name} returns True or False, got {answer!r}; write bool(...) around it "
            "if that is what is meant"
        )
    return bool(answer)
