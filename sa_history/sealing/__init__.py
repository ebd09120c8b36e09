"""Proof that events are as they were, and erasure of personal data in them.

Digests of events, their chain, and what reads or changes events under it belong here.
Nothing here runs when a tracked table is written.
"""
