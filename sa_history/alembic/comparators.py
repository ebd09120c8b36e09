"""The comparators of autogenerate, and their registration as a plugin of Alembic."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

from alembic.runtime.plugins import Plugin
from alembic.util import DispatchPriority, PriorityDispatchResult

from sa_history.alembic.compare import compare_history
from sa_history.alembic.generated_columns import compare_generated_columns

COMPARATORS: Mapping[str, Callable[..., PriorityDispatchResult]] = {
    "schema": compare_history,
    "table": compare_generated_columns,
}
"""What autogenerate calls, by what it compares."""


def register() -> None:
    """Register the plugin, unless Alembic has found its entry point.

    It has none where the package was copied and not installed.
    """
    # ValueError: it is registered.
    with contextlib.suppress(ValueError):
        plugin = Plugin("alembic.autogenerate.sa_history")
        for target, comparator in COMPARATORS.items():
            plugin.add_autogenerate_comparator(
                comparator, target, priority=DispatchPriority.LAST
            )
