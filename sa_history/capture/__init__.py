"""What writes an event: trackers, recording triggers, event tables, contexts' table."""
