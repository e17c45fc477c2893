"""The lake: immutable Parquet tables and model directories, and the receipts that commit them. Nothing imports Dagster."""
