"""Helpers that could serve any library on SQLAlchemy and PostgreSQL.

They check identifiers and arguments, tell kinds of sessions apart, and word messages.
Nothing here knows of history.
"""
