"""Reading history over many rows and models: aggregates, changes, feed, time travel."""
