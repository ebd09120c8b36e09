"""Who makes a change and why: context blocks, and how they reach the database.

A block puts a frame on a stack (``block``, ``context``, ``frame``, ``stack``). For each
database connection a state machine knows which settings it has (``connection_state``),
and a driver sends what has changed with the next statement (``drivers``). ``listeners``
connects these with SQLAlchemy; ``refusals`` translates the errors of triggers.

No tracked model, trigger or DDL may enter: what is here can be tested without one.
"""
