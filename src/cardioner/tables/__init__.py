"""Notes in tables, read and written in record batches: Parquet, CSV, JSON lines, Arrow, databases (needs pyarrow)."""
