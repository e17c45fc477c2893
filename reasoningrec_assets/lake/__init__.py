"""The lake: immutable Parquet tables and model directories, and the receipts that commit them.

What belongs here: writing, verifying and finding versions. What doesn't: what a table means (its stage knows) and
questions across tables (the catalogue answers them). Nothing here imports Dagster.
"""
