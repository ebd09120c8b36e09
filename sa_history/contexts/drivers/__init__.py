"""How the settings of a context reach the connections of each driver.

A driver has one place here, and ``registry`` names it: ``psycopg`` sends settings by
cursors of its own; ``sqlalchemy_events`` serves every other driver. A new driver is a
subclass of ``base.Driver`` in a module beside these, and a line in the registry. What
is the same for all drivers belongs to ``connection_state``.
"""
