"""The one partitions definition: a partition is a dataset, read from the registry.

Every asset of the pipeline has it and no other, so that one command materializes all of them.
"""

import dagster as dg

from reasoningrec_assets.datasets import registry

datasets = dg.StaticPartitionsDefinition(list(registry.datasets()))
