"""psycopg: settings go with a statement, by cursors and methods of our own.

The hook is the driver's ``cursor_factory``, below SQLAlchemy, so that COPY and whatever
else is done with the driver's own connection has its context too.

What does no I/O is in the ``_base`` modules. ``cursors`` and ``connection`` are made of
their ``_async`` twins by ``tools/async_to_sync.py``.
"""
