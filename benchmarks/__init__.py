"""Measurements, as ratios within one run on one server; ``nox -s bench`` runs them."""
