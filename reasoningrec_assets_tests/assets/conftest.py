from __future__ import annotations

import dagster as dg
import pytest

from reasoningrec_assets.definitions import build_definitions
from reasoningrec_assets.lake.steps import Lake
from reasoningrec_assets.resources.lake import LakeResource

DEMO = "ml100k"
MAIN = '+key:"evaluation_metrics" or key:"evaluation_report"'


class Pipeline:
    """The whole graph on a data root of its own, run in this process on an ephemeral instance."""

    def __init__(self, root):
        self.lake = Lake(root)
        self.definitions = build_definitions(resources={"lake": LakeResource(root=str(root))})

    def run(self, *, selection=MAIN, partition=DEMO, config=None, raise_on_error=True, instance=None):
        job = self.definitions.resolve_implicit_global_asset_job_def()
        keys = list(dg.AssetSelection.from_string(selection).resolve(self.definitions.resolve_asset_graph()))
        return job.execute_in_process(
            partition_key=partition,
            asset_selection=keys,
            run_config={"ops": config or {}},
            raise_on_error=raise_on_error,
            instance=instance,
        )

    def versions(self):
        """Data version of every asset's newest receipt."""
        found = {}
        for key in self.definitions.resolve_all_asset_keys():
            receipt = self.lake.receipts.newest(key.to_user_string(), DEMO)
            if receipt is not None:
                found[receipt.asset] = receipt.data_version
        return found


@pytest.fixture
def pipeline(data_root, tiny_profile, monkeypatch):
    # a second try need not wait for a server that will not come
    monkeypatch.setattr("reasoningrec_assets.assets.materialize.FIRST_WAIT", 0.01)
    return Pipeline(data_root)
