"""Functions, triggers, views and sequences of PostgreSQL, as values and as installed.

Nothing here knows events or trackers: what is to be installed, not why.
"""
