"""The triggers that ``attach`` takes: definitions that make SQL for a table.

A module for each kind, and what they share: ``base``, ``before_row`` and ``refusing``
are base classes, ``transition_rows`` and ``column_values`` are parts of their SQL. What
an attached trigger does to the ORM belongs into ``attachments``; what writes events
belongs into ``capture``.
"""
