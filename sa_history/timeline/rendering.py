"""Pages as HTML, made of the templates in the folder beside."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sa_history.install.sizes import human
from sa_history.timeline.entries import GONE_VERBS
from sa_history.timeline.filters import PERIODS

# Its own, since an application may have templates and variables of any name.
_ENVIRONMENT = Environment(
    loader=PackageLoader("sa_history.timeline"),
    autoescape=True,
    undefined=StrictUndefined,
    auto_reload=False,
)
_ENVIRONMENT.globals.update(gone=GONE_VERBS, human=human, periods=PERIODS)


def render(template: str, **values: Any) -> str:
    """Return a page.

    :param template: the name of the template, such as ``"events.html"``.
    :param values: what the template is about; all that it names has to be given.
    """
    return _ENVIRONMENT.get_template(template).render(values)
