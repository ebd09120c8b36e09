"""The parts of a definition: operations, conditions, columns, mapped tables.

Trackers and triggers are made of them. Nothing here makes an object in a database, or
knows what is tracked.
"""
