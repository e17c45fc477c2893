"""The code location: everything that Dagster loads, built by one function so that a test can swap any part."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from reasoningrec_assets.assets import baselines, evaluation, interactions, language, recommendations, sources, student, studies
from reasoningrec_assets.checks import asset_checks
from reasoningrec_assets.jobs import prepare, refresh
from reasoningrec_assets.resources.lake import LakeResource
from reasoningrec_assets.schedules import schedules
from reasoningrec_assets.sensors import raw_files_changed, run_failures

STAGES = (sources, interactions, language, student, studies, baselines, evaluation, recommendations)


def build_definitions(
    *, resources: Mapping[str, Any] | None = None, executor: dg.ExecutorDefinition | None = None
) -> dg.Definitions:
    """All definitions; in one process by default, in which a dozen light assets take 3 s, and 26 s in a process each."""
    # what the modules make, those in their lists included; Dagster's own loader takes each apart and rebuilds it
    made = [value if isinstance(value, list) else [value] for module in STAGES for value in vars(module).values()]
    assets = {asset.key: asset for found in made for asset in found if isinstance(asset, dg.AssetsDefinition)}
    started: dict[str, Any] = {"jobs": [refresh, prepare, *studies.jobs], "schedules": schedules, "asset_checks": asset_checks}
    started |= {"sensors": [raw_files_changed, run_failures], "executor": executor or dg.in_process_executor}
    return dg.Definitions(assets=[*assets.values()], resources={"lake": LakeResource(), **(resources or {})}, **started)


defs = build_definitions()
