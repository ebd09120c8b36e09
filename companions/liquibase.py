"""Liquibase, which npm has with its Java classes and drivers."""

from __future__ import annotations

import subprocess
from pathlib import Path

PACKAGE = "liquibase@4.28.1"


def install(directory: Path) -> Path:
    """Install it into a folder, and return that of its program.

    Node.js and Java have to be there.
    """
    options = ["--no-audit", "--no-fund", "--prefix", str(directory)]
    command = ["npm", "install", *options, PACKAGE]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    files = directory / "node_modules" / "liquibase" / "dist"
    (driver,) = (files / "drivers").glob("postgresql-*.jar")
    program = files / "liquibase"
    driver.rename(program / "lib" / driver.name)
    return program
