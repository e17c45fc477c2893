"""Jobs: the selections that a person or a schedule launches for one dataset."""

import dagster as dg

_WHOLE = dg.AssetSelection.assets("evaluation_metrics", "evaluation_report").upstream()
refresh = dg.define_asset_job("refresh", _WHOLE, description="The whole pipeline for one dataset; what did not change is reused.")
_CHEAP = dg.AssetSelection.groups("sources", "interactions")
prepare = dg.define_asset_job("prepare", _CHEAP, description="The cheap part for one dataset: raw files to windows, no model.")
