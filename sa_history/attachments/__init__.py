"""Triggers and views that are attached to models, installed with their tables.

What a trigger does belongs into ``triggers``; here is which tables have one, and what
SQLAlchemy's ORM has to know of it. Nothing here knows events or tracking.
"""
