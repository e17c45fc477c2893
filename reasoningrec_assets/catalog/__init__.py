"""The catalogue: a DuckDB file that says what exists and where it came from; a projection of the receipts that no step needs."""

from reasoningrec_assets.catalog.projection import connect, rebuild, sync

__all__ = ["connect", "rebuild", "sync"]
