"""A process that takes raw ratings to windows with the domain code alone, as the assets do: `python -m benchmarks.prepare CSV FOLDER`."""

import sys
from pathlib import Path

from reasoningrec_assets.datasets import cleaning, registry, windows
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.lake.tables import write_table

ratings, folder = map(Path, sys.argv[1:3])
dataset = registry.get("ml1m")
interactions = folder / "interactions.parquet"
write_table(
    TABLES["cleaned_interactions"],
    cleaning.clean(dataset, {"ratings": ratings}, scratch=folder)[0],
    interactions,
    dataset="ml1m",
)
rows = write_table(
    TABLES["interaction_windows"], windows.build(dataset, interactions)[0], folder / "windows.parquet", dataset="ml1m"
)
print(f"{rows} windows")
