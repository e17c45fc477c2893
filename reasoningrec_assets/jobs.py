"""Jobs: the selections that a person or a schedule launches for one dataset."""

import dagster as dg

refresh = dg.define_asset_job(
    "refresh",
    selection=dg.AssetSelection.assets("evaluation_metrics", "evaluation_report").upstream(),
    description="The whole pipeline for one dataset; what did not change is reused.",
)
prepare = dg.define_asset_job(
    "prepare",
    selection=dg.AssetSelection.groups("sources", "interactions"),
    description="The cheap part for one dataset: raw files to windows, without any model.",
)
