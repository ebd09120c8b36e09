"""An archive: closed partitions of history as verified Parquet files, and its readers.

What writes, reads, checks and restores such files belongs here. pyarrow, ADBC and
DuckDB are imported where they are used, since the library goes without them.
"""
