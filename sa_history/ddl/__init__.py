"""Functions, triggers, views and sequences of PostgreSQL: as values, and as installed.

Nothing here knows events, trackers or models: this folder says what is installed and
how, not why. What needs a tracked table belongs into ``capture`` or ``tracking``.
"""
