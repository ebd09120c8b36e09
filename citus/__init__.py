"""Tests that need Citus: ``nox -s citus``."""
