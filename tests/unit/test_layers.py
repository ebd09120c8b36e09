"""The layout of the package: which folder may import which, and what is public."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

import sa_history

PACKAGE = Path(sa_history.__file__).parent

# From the bottom up. A folder imports from those before it only, and from itself.
# A file that lies beside the folders stands here by its own name.
LAYERS = [
    "_types",
    "exc",
    "util",
    "sql",
    "contexts",
    "ddl",
    "definition",
    "triggers",
    "attachments",
    "capture",
    "tracking",
    "query",
    "sealing",
    "writing",
    "install",
    "archiving",
    "__init__",
    "spark",
    "timeline",
    "cli",
    "flask",
    "starlette",
    "alembic",
    "alembic_plugin",
    "__main__",
]
# A package of its own beside the others: it knows PostgreSQL and nothing of history.
STANDALONE = "testing"


def modules() -> list[str]:
    """Every module by its dotted name, a package by that of its ``__init__``."""
    return sorted(
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
    )


MODULES = modules()


def layer_of(module: str) -> str:
    return module.split(".")[0]


def imports(module: str) -> set[str]:
    path = PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {_module(name) for name in names if name.split(".")[0] == "sa_history"}


def _module(name: str) -> str:
    """Return the module that a dotted name is, or is in."""
    parts = name.split(".")[1:]
    while True:
        if parts and ".".join(parts) in MODULES:
            return ".".join(parts)
        if ".".join([*parts, "__init__"]) in MODULES:
            return ".".join([*parts, "__init__"])
        parts.pop()


def in_layers() -> list[str]:
    return [m for m in MODULES if layer_of(m) != STANDALONE]


@pytest.mark.parametrize("module", in_layers())
def test_a_module_imports_only_from_its_own_folder_and_those_below(
    module: str,
) -> None:
    layer = LAYERS.index(layer_of(module))
    above = {i for i in imports(module) if LAYERS.index(layer_of(i)) > layer}
    assert not above, f"{module} imports {above} from a folder above its own"


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {module: imports(module) - {module} for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"these import one another: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize("module", [m for m in MODULES if layer_of(m) == STANDALONE])
def test_the_testing_package_imports_only_itself(module: str) -> None:
    assert all(layer_of(name) == STANDALONE for name in imports(module))


def test_a_class_has_a_name_that_no_other_one_has() -> None:
    modules: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                modules.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    shared = {name: found for name, found in modules.items() if len(found) > 1}
    # The extension of Flask, by its public name, and what it makes.
    assert shared == {"History": ["flask/extension.py", "tracking/registry.py"]}


def test_every_folder_has_its_layer() -> None:
    assert sorted(LAYERS) == sorted({layer_of(m) for m in in_layers()})


def test_the_diagram_for_contributors_shows_the_layers_in_their_order() -> None:
    page = (PACKAGE.parent / "CONTRIBUTING.md").read_text()
    _, diagram, *_ = page.split("```text\n")
    shown = re.findall(r"^.{16}(\w+) ", diagram.partition("```")[0], re.MULTILINE)
    assert shown == [*reversed(LAYERS), STANDALONE]


def packages() -> list[str]:
    return [
        name
        for _, name, is_package in pkgutil.walk_packages(
            [str(PACKAGE)], prefix="sa_history."
        )
        if is_package
    ]


@pytest.mark.parametrize("package", ["sa_history", *packages()])
def test_no_module_hides_a_name_that_its_package_offers(package: str) -> None:
    module = importlib.import_module(package)
    inside = {name for _, name, _ in pkgutil.iter_modules(module.__path__)}
    hidden = {
        name
        for name in inside & set(dir(module))
        if not isinstance(getattr(module, name), ModuleType)
    }
    assert not hidden, f"in {package} these are a module and something else: {hidden}"


def test_no_module_uses_contextvars() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert "import contextvars" not in path.read_text()
        assert "from contextvars" not in path.read_text()


def test_the_package_offers_what_it_names_and_no_more() -> None:
    assert len(set(sa_history.__all__)) == len(sa_history.__all__)
    public = {
        name
        for name in dir(sa_history)
        if not name.startswith("_")
        and not (inspect.ismodule(getattr(sa_history, name)) and name != "exc")
        and name not in ("TYPE_CHECKING", "Any", "annotations")
    }
    assert public == set(sa_history.__all__)


def test_a_name_that_the_package_does_not_offer_is_an_attribute_error() -> None:
    name = "undone"
    with pytest.raises(AttributeError, match="'sa_history' has no attribute 'undone'"):
        getattr(sa_history, name)


@pytest.mark.parametrize("name", [n for n in sa_history.__all__ if n != "exc"])
def test_every_public_name_is_explained_with_an_example(name: str) -> None:
    value = getattr(sa_history, name)
    if name in ("old", "new"):
        value = type(value)
    if name == "Level":
        assert value.__doc__
        return
    assert "Example::" in (inspect.getdoc(value) or "")


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """The modules of a program that has imported the library, and nothing else."""
    code = "import sys, sa_history; print(*sys.modules)"
    program = [sys.executable, "-c", code]
    return {*subprocess.check_output(program, encoding="utf-8").split()}


# The asyncio extension of SQLAlchemy needs greenlet, which may not be installed.
@pytest.mark.parametrize(
    "unwanted",
    [
        "flask",
        "starlette",
        "jinja2",
        "alembic",
        "pytest",
        "sqlalchemy.ext.asyncio",
        "duckdb",
        "pyarrow",
        "adbc_driver_manager",
        "sa_history.writing",
        "sa_history.sealing",
        "sa_history.install",
        "sa_history.archiving",
    ],
)
def test_importing_the_library_does_not_load(unwanted: str, loaded: set[str]) -> None:
    assert "sa_history" in loaded
    assert unwanted not in loaded


def test_the_core_of_the_timeline_knows_no_framework() -> None:
    code = (
        "import sys, sa_history.timeline.pages; "
        "sys.exit(bool({'flask', 'starlette', 'werkzeug'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_importing_the_library_does_not_listen_to_the_statements_of_sessions() -> None:
    code = (
        "import sys, sa_history; from sqlalchemy.orm import Session; "
        "sys.exit(bool(Session().dispatch.do_orm_execute))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
