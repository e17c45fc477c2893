"""Dagster resources: what assets are given and tests swap."""
