"""Functions that write: events by hand, baselines, and undo.

Reading alone belongs in ``query``, and what triggers write in ``capture``.
"""
