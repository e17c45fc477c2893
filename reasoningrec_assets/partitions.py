"""The one partitions definition, of every asset: a partition is a dataset of the registry, or a declaration with a mistake."""

import dagster as dg

from reasoningrec_assets.datasets import registry

datasets = dg.StaticPartitionsDefinition([name for group in registry.load() for name in group])
