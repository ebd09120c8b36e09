"""The plugin that Alembic finds by its entry point, with no line in ``env.py``.

Alembic loads it while it is itself being imported, so nothing else of Alembic can be
imported here: the comparators are, when autogenerate first calls one. The entry point
has a name in Alembic's own namespace, because without ``autogenerate_plugins`` in
``env.py`` only plugins of that namespace compare anything.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alembic.runtime.plugins import Plugin


class _IterableModule(ModuleType):
    """A module that is a list of itself.

    Alembic 1.18.0 to 1.20.0 iterate what an entry point names; from 1.20.1 on it is a
    module, and a list is deprecated.
    """

    def __iter__(self) -> Iterator[ModuleType]:
        yield self


sys.modules[__name__].__class__ = _IterableModule


def setup(plugin: Plugin) -> None:
    """Add the comparators; Alembic calls it.

    :param plugin: the plugin that Alembic has made for the entry point.
    """
    # Not above: whoever imports this module first would import it in a circle.
    from alembic.util import DispatchPriority

    for target in ("schema", "table"):
        plugin.add_autogenerate_comparator(
            _comparator(target), target, priority=DispatchPriority.LAST
        )


def _comparator(target: str) -> Callable[..., Any]:
    def compare(*arguments: Any) -> Any:
        module = importlib.import_module("sa_history.alembic.comparators")
        return module.COMPARATORS[target](*arguments)

    return compare
