"""One module per family of raw files: each loads ratings and items into DuckDB, and nothing else."""
