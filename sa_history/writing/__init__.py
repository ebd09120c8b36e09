"""Writing by means of history: events by hand, baselines, and undo."""
