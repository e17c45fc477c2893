"""The methods without a language model, each a function of `baselines`: the floors, classics of the field, and the stack."""

from dataclasses import dataclass
from importlib import import_module

import dagster as dg

from reasoningrec_assets.assets.materialize import StepConfig, materialize
from reasoningrec_assets.datasets import registry
from reasoningrec_assets.lake.steps import Inputs, Output
from reasoningrec_assets.partitions import datasets
from reasoningrec_assets.resources.lake import LakeResource

EVENTS, CONTENT = ("interaction_windows", "cleaned_interactions"), ("interaction_windows", "items", "item_descriptions")


@dataclass(frozen=True)
class Baseline:
    """A method: where in `baselines` its function is, the tables that it reads, and what it is."""

    module: str
    function: str
    tables: tuple[str, ...]
    about: str
    kind: str = "scikitlearn"


LEARNED = {
    "logistic_regression": Baseline(
        "feature_models", "logistic_regression", EVENTS, "Logistic regression on five features of the training events"
    ),
    "gradient_boosting": Baseline("feature_models", "gradient_boosting", EVENTS, "Gradient boosting on the same five features"),
    "content": Baseline("content", "content", CONTENT, "How near the target's words are to those of liked and disliked items"),
    "sasrec": Baseline("sequential", "sasrec", ("interaction_windows",), "SASRec as a model of clicks", "pytorch"),
    "caser": Baseline("sequential", "caser", ("interaction_windows",), "Caser as a model of clicks", "pytorch"),
}
BASELINES = {
    "like_rate": Baseline(
        *("like_rate", "like_rate", ("interaction_windows",)),
        "The floor without any training: the share of liked items in the shown history.",
        "duckdb",
    ),
    "item_like_rate": Baseline("like_rate", "item_like_rate", EVENTS, "The share of likes among the target's ratings.", "duckdb"),
    "matrix_factorisation": Baseline(
        *("matrix_factorisation", "matrix_factorisation", EVENTS), "Biases and factors of users and items.", "pytorch"
    ),
    "stack": Baseline(
        "feature_models", "stack", (*EVENTS, "predictions"), "The five features and the student's log-odds together."
    ),
    **{name: Baseline(b.module, b.function, b.tables, f"{b.about}; all train rows.", b.kind) for name, b in LEARNED.items()},
    **{
        f"{name}_k": Baseline(b.module, b.function, (*b.tables, "sft_splits"), f"{b.about}; the student's K rows.", b.kind)
        for name, b in LEARNED.items()
    },
}


def _asset(method: str, known: Baseline) -> dg.AssetsDefinition:
    about = {
        "group_name": "baselines",
        "kinds": {known.kind, "parquet"},
        "description": known.about,
        "owners": ["team:modelling"],
    }
    upstream = [dg.AssetKey(table) for table in known.tables]

    @dg.asset(key=["baselines", method, "predictions"], deps=upstream, partitions_def=datasets, code_version="2", **about)
    def baseline(context: dg.AssetExecutionContext, config: StepConfig, lake: LakeResource) -> dg.MaterializeResult:
        # only the events of all users are cut by dates
        cut = next(iter(registry.get(context.partition_key).cuts), None) if "cleaned_interactions" in known.tables else None

        def build(inputs: Inputs) -> Output:
            from reasoningrec_assets.baselines.features import Task

            predict = getattr(import_module(f"reasoningrec_assets.baselines.{known.module}"), known.function)
            tables = {table: inputs[table] for table in known.tables}
            return Output(*predict(Task(context.partition_key, method, tables, cut)))

        return materialize(context, lake, build, settings={"cut": cut, "method": method}, config=config)

    return baseline


baselines = {method: _asset(method, known) for method, known in BASELINES.items()}
baseline_assets = [*baselines.values()]
