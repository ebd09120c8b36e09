"""What an application says about its timeline."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sa_history.exc import DefinitionError
from sa_history.timeline.entries import Masks

Who = Callable[[Mapping[str, Any]], "str | None"]
"""Returns a user's name for the metadata of a context."""


@dataclass(frozen=True, eq=False)
class TimelineOptions:
    """The options of a timeline, which the adapters explain.

    :param authorize: says who may see the pages.
    :param authorize_restore: says whether an event may be restored; None if none may.
    :param masks: the attributes that are never shown.
    :param who: gives a user's name.
    :param page_size: how many events a page has.
    """

    authorize: Callable[..., Any]
    authorize_restore: Callable[..., Any] | None
    masks: Masks
    who: Who
    page_size: int

    @classmethod
    def of(
        cls,
        *,
        authorize: Callable[..., Any],
        authorize_restore: Callable[..., Any] | None,
        mask: Collection[str],
        who: Who | None,
        page_size: int,
    ) -> TimelineOptions:
        """Return the options that an application has given.

        :raises DefinitionError: one of them cannot be meant.
        """
        if not callable(authorize):
            raise DefinitionError(
                "timeline shows everything that was ever changed; give authorize=, a "
                f"function that says who may see it, got {authorize!r}"
            )
        if page_size < 1:
            raise DefinitionError(f"page_size is a number of events, got {page_size!r}")
        return cls(
            authorize,
            authorize_restore,
            Masks(frozenset(mask)),
            who or _user,
            page_size,
        )


def _user(metadata: Mapping[str, Any]) -> str | None:
    user = metadata.get("user")
    return None if user is None else str(user)


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
