"""The one place where SQL text is made.

Modules outside this package pass values (:class:`~sa_history.sql.compose.Ident`,
:class:`~sa_history.sql.compose.Literal`, SQLAlchemy expressions) and get text
that quotes itself; none of them formats SQL.
"""
