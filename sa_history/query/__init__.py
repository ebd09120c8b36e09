"""SELECTs over history: aggregates, the changes of an attribute, the feed, time travel.

A module here makes statements, or reads by them, and writes nothing.
"""
