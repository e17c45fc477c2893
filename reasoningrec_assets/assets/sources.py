"""Where data enters: the raw files of a dataset, found or fetched, and recorded by name, size and hash."""

import dagster as dg

from reasoningrec_assets.assets.materialize import StepConfig, asset, materialize
from reasoningrec_assets.datasets import registry
from reasoningrec_assets.datasets.sources import obtain, raw_dataset_table
from reasoningrec_assets.lake.steps import Inputs, Output
from reasoningrec_assets.partitions import datasets
from reasoningrec_assets.resources.lake import LakeResource


@asset(partitions_def=datasets, group_name="sources", owners=["team:data"], kinds={"file"})
def raw_dataset(context: dg.AssetExecutionContext, config: StepConfig, lake: LakeResource) -> dg.MaterializeResult:
    """The dataset's raw files: the user's own in data/raw, else the official source, else a package that holds them."""
    dataset = registry.get(context.partition_key)

    def build(inputs: Inputs) -> Output:
        files = obtain(dataset, inputs.lake.root, context.log.info)
        metrics = {"raw_files": len(files), "raw_bytes": sum(file.bytes for file in files)}
        return Output(raw_dataset_table(dataset, files, inputs.lake.root), metrics)

    # the user may change a file at any time: it is hashed on every run, and committed only when it is another one
    sources = {"sources": [source.model_dump() for source in dataset.sources]}
    return materialize(context, lake, build, settings=sources, config=config, external=True)
