"""Helpers that know nothing of history: identifiers, arguments, kinds of sessions.

What belongs here could serve any library on SQLAlchemy and PostgreSQL.
"""
