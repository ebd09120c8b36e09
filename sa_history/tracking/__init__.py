"""Tracked models: the registry of a MetaData, event classes, and one row's history."""
