"""Capture: how changes are recorded in the database.

Trackers, the trigger functions and triggers that are made of them, event tables, and
the context table. All of it is values and definitions; nothing here knows which tables
of an application are tracked, or reads an event.
"""
