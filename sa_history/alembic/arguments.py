"""The arguments of autogenerate on the command line, ``-x name=value``."""

from __future__ import annotations

from alembic.autogenerate.api import AutogenContext


def x_arguments(autogen_context: AutogenContext) -> dict[str, list[str]]:
    """Return the values by name; an argument without a value has an empty one."""
    migration = autogen_context.migration_context
    environment = migration.environment_context if migration else None
    arguments: dict[str, list[str]] = {}
    if environment is not None and environment.config is not None:
        for item in environment.get_x_argument():
            name, _, value = item.partition("=")
            arguments.setdefault(name, []).append(value)
    return arguments
