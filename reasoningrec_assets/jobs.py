"""Jobs: the selections that a person or a schedule launches for one dataset."""

import dagster as dg

from reasoningrec_assets.partitions import datasets

refresh = dg.define_asset_job(
    "refresh",
    selection=dg.AssetSelection.all(),
    partitions_def=datasets,
    description="The whole pipeline for one dataset; what did not change is reused.",
)

prepare = dg.define_asset_job(
    "prepare",
    selection=dg.AssetSelection.groups("sources", "interactions"),
    partitions_def=datasets,
    description="The cheap part for one dataset: raw files to windows, without any model.",
)
