"""The methods without a language model, each a function of `baselines`: the floors, classics of the field, and the stack."""

import tomllib
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import dagster as dg

from reasoningrec_assets.assets.materialize import StepConfig, asset, materialize, settings_of
from reasoningrec_assets.datasets import registry
from reasoningrec_assets.lake.steps import Inputs, Output
from reasoningrec_assets.partitions import datasets
from reasoningrec_assets.resources.lake import LakeResource
from reasoningrec_assets.settings import TrainingSettings


def _asset(
    method: str, *, module: str, function: str, about: str, tables: Sequence[str], kind: str, learns: bool, factors: bool
) -> dg.AssetsDefinition:
    rows = "; trained on all train rows." if "sft_splits" not in tables else "; trained on the student's K rows."
    facts = {"kinds": {kind, "parquet"}, "group_name": "baselines", "owners": ["team:modelling"]}
    key, described = ["baselines", method, "predictions"], about.rstrip(".") + (rows if learns else ".")

    @asset(key=key, deps=list(map(dg.AssetKey, tables)), partitions_def=datasets, description=described, **facts)
    def baseline(context: dg.AssetExecutionContext, config: StepConfig, lake: LakeResource) -> dg.MaterializeResult:
        # only the events of all users are cut by dates
        cut = next(iter(registry.get(context.partition_key).cuts), None) if "cleaned_interactions" in tables else None
        seed = settings_of(TrainingSettings, "training", config, registry.get(context.partition_key)).seed

        def build(inputs: Inputs) -> Output:
            from reasoningrec_assets.baselines.features import Task

            task = Task(context.partition_key, method, {table: inputs[table] for table in tables}, cut, factors, seed)
            return Output(*getattr(import_module(f"reasoningrec_assets.baselines.{module}"), function)(task))

        return materialize(context, lake, build, settings={"cut": cut, "method": method, "seed": seed}, config=config)

    return baseline


_DECLARED = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
_KNOWN = {name: {"function": name, "learns": False, "factors": False} | known for name, known in _DECLARED.items()}
_OF_K = {f"{name}_k": known | {"tables": [*known["tables"], "sft_splits"]} for name, known in _KNOWN.items() if known["learns"]}
baselines = {method: _asset(method, **known) for method, known in (_KNOWN | _OF_K).items()}
baseline_assets = [*baselines.values()]
