"""The catalogue: one DuckDB file in which anyone asks what exists, where it came from and how good it is.

What belongs here: projecting receipts into tables, views over the lake, and the queries people run on them. What
doesn't: anything that a step needs in order to succeed, since the file is a projection that may be locked, stale or
gone, and comes back from the receipts alone. Nothing here imports Dagster.
"""

from reasoningrec_assets.catalog.projection import connect, rebuild, sync

__all__ = ["connect", "rebuild", "sync"]
