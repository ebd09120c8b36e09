"""The house: who may import whom, and what stands at the front door."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import sa_history

PACKAGE = Path(sa_history.__file__).parent

# From the ground up. A module imports from floors below its own only.
FLOORS = [
    ["exc", "_types", "targets"],
    ["texts"],
    ["arguments", "operations", "models"],
    ["sql", "sql.compose", "sql.naming"],
    ["sql.bodies", "sql.catalog", "sql.expressions", "sql.settings", "sql.switch"],
    ["sql.comparison"],
    ["conditions", "ddl"],
    ["claims", "columns", "marks"],
    ["catalog", "creation", "locks"],
    ["triggers", "triggers.append_only", "triggers.rows", "triggers.values"],
    ["triggers.base", "triggers.record"],
    ["triggers.changing", "triggers.refusing"],
    [
        "triggers.audit",
        "triggers.free",
        "triggers.fsm",
        "triggers.protect",
        "triggers.read_only",
        "triggers.soft_delete",
        "triggers.touch",
        "triggers.versioned",
    ],
    ["attachments", "tables"],
    ["options", "trackers"],
    ["event_table"],
    ["differences", "restoring"],
    ["versions"],
    ["event_class"],
    ["tracking"],
    ["told"],
    ["event_data", "events", "lifecycle", "past", "written"],
    ["attach", "changes", "lives", "sources", "time_travel", "views"],
    ["aggregate", "manual", "track", "undo_steps"],
    ["feed"],
    ["frames", "pipelines"],
    ["wire"],
    ["blocks", "cursors", "soft_deletion"],
    ["driver"],
    ["context", "ignore", "listeners"],
    ["objects", "undo"],
    ["baseline", "drift", "hardening"],
    ["plan"],
    ["install"],
    ["__init__"],
    ["commands", "alembic.arguments", "alembic.lock", "alembic.operations"],
    [
        "cli",
        "alembic.event_tables",
        "alembic.first_events",
        "alembic.privileges",
        "alembic.renames",
    ],
    ["__main__", "alembic.compare", "flask.entries", "flask.requests"],
    ["flask.commands", "flask.queries"],
    ["flask.extension", "flask.timeline"],
    ["flask"],
    ["alembic"],
]
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
# A package of its own beside the house: it knows PostgreSQL and nothing of history.
ANNEX = "testing"


def modules() -> list[str]:
    return sorted(
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(
            ".__init__"
        )
        for path in PACKAGE.rglob("*.py")
    )


def imports(module: str) -> set[str]:
    path = PACKAGE.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {_module(name) for name in names if name.split(".")[0] == "sa_history"}


def _module(name: str) -> str:
    parts = name.split(".")[1:]
    while parts and ".".join(parts) not in modules():
        parts.pop()
    return ".".join(parts) or "__init__"


@pytest.mark.parametrize("module", [m for m in modules() if ANNEX not in m])
def test_a_module_imports_only_from_floors_below(module: str) -> None:
    above = {i for i in imports(module) if FLOOR_OF[i] >= FLOOR_OF[module]}
    assert not above, f"{module} imports {above} from its own floor or above"


@pytest.mark.parametrize("module", [m for m in modules() if ANNEX in m])
def test_the_annex_imports_only_itself(module: str) -> None:
    assert all(name.startswith(ANNEX) for name in imports(module))


def test_every_module_has_its_floor() -> None:
    assert sorted(FLOOR_OF) == [m for m in modules() if ANNEX not in m]


def test_no_module_uses_contextvars() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert "import contextvars" not in path.read_text()
        assert "from contextvars" not in path.read_text()


def test_the_front_door_offers_what_it_names_and_no_more() -> None:
    assert len(set(sa_history.__all__)) == len(sa_history.__all__)
    public = {
        name
        for name, value in vars(sa_history).items()
        if not name.startswith("_")
        and not (inspect.ismodule(value) and name != "exc")
        and name != "annotations"
    }
    assert public == set(sa_history.__all__)


@pytest.mark.parametrize("name", [n for n in sa_history.__all__ if n != "exc"])
def test_every_public_name_is_explained_with_an_example(name: str) -> None:
    value = getattr(sa_history, name)
    if name in ("old", "new"):
        value = type(value)
    if name == "Level":
        assert value.__doc__
        return
    assert "Example::" in (inspect.getdoc(value) or "")


# The asyncio extension of SQLAlchemy needs greenlet, which may not be installed.
@pytest.mark.parametrize(
    "unwanted", ["flask", "alembic", "pytest", "sqlalchemy.ext.asyncio"]
)
def test_importing_the_library_does_not_load(unwanted: str) -> None:
    code = f"import sys, sa_history; sys.exit({unwanted!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
