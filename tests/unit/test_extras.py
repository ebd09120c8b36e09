"""Packages that need an extra of sa_history say so where it is not installed."""

from __future__ import annotations

import importlib
import sys

import pytest


@pytest.mark.parametrize(
    ("package", "module", "missing", "extra"),
    [
        ("sa_history.starlette", "application", "anyio", "starlette"),
        ("sa_history.flask", "blueprint", "flask", "flask"),
    ],
)
def test_the_extra_of_a_package_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    module: str,
    missing: str,
    extra: str,
) -> None:
    importlib.import_module(package)
    monkeypatch.delitem(sys.modules, package)
    monkeypatch.delitem(sys.modules, f"{package}.{module}")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModuleNotFoundError) as refusal:
        importlib.import_module(package)
    assert refusal.value.name == missing
    assert str(refusal.value) == (
        f"{package} needs {missing}, which is not installed; install sa_history with "
        f"its extra: sa_history[{extra}]"
    )
