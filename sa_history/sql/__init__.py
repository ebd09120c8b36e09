"""SQL text: how it is composed, and the parts that many modules share.

No module outside of this package formats SQL. They pass values
(:class:`~sa_history.sql.compose.Ident`, :class:`~sa_history.sql.compose.Literal`,
SQLAlchemy expressions) and get text in which every name and every value is quoted.
Nothing here connects to a database or knows a model.
"""
