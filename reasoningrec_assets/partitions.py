"""The one partitions definition: a partition is a dataset of the registry, or a declaration with a mistake.

Every asset of the pipeline has it and no other, so that one command materializes all of them.
"""

import dagster as dg

from reasoningrec_assets.datasets import registry

datasets = dg.StaticPartitionsDefinition([name for group in registry.load() for name in group])
