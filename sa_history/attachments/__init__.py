"""Triggers and views that models have, made and dropped with their tables."""
