"""Tracking: ``track``, and the events of one tracked model.

What is registered for a MetaData, event classes, ``Model.events``, versions of a row
and their differences. Queries over several models belong to ``query``, and changes of
events or rows by the program to ``writing``; ``revert`` of a single event is here.
"""
