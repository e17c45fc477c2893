"""How good, how sure, compared with what: the floors, the metrics of every method, and the report."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from reasoningrec_assets import compute
from reasoningrec_assets.assets import interactions, studies
from reasoningrec_assets.assets.baselines import baselines
from reasoningrec_assets.assets.interactions import cleaned_interactions, interaction_windows, items
from reasoningrec_assets.assets.language import item_descriptions, reasoning_labels, user_profiles
from reasoningrec_assets.assets.materialize import StepConfig, asset, materialize, settings_of, step_config
from reasoningrec_assets.assets.sources import raw_dataset
from reasoningrec_assets.assets.student import lora_model, predictions, sft_splits, zero_shot_student_predictions
from reasoningrec_assets.datasets import registry
from reasoningrec_assets.lake.steps import Inputs, Output, verify
from reasoningrec_assets.lake.tables import markdown
from reasoningrec_assets.models import store
from reasoningrec_assets.partitions import datasets
from reasoningrec_assets.pools import GPU
from reasoningrec_assets.resources.lake import LakeResource
from reasoningrec_assets.settings import EvaluationSettings

EVALUATION = {"partitions_def": datasets, "group_name": "evaluation", "owners": ["team:modelling"]}
FIGURES = {**EVALUATION, "kinds": {"scikitlearn", "parquet"}, **GPU}
# a week and a day after the last run, which counts also where it found nothing to do
WEEKLY = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=8))
EvaluationConfig = step_config("EvaluationConfig", {"evaluation": EvaluationSettings})
Methods = Mapping[str, dg.AssetsDefinition]
Build = Callable[[Inputs, dict[str, Any]], Output]
METHODS = {"student": predictions, "zero_shot_student": zero_shot_student_predictions}
METHODS |= {name: baselines[name] for name in ("like_rate", "logistic_regression")}
"""The assets whose predictions are evaluated side by side, by method."""

# every stage is read, not only the tables that metrics are computed from: what each of them left out is part of the
# result. So one layer upstream is the whole pipeline, which is what `--select '+evaluation_metrics'` means to the CLI.
STAGES = (
    *(raw_dataset, cleaned_interactions, items, interaction_windows, interactions.cleaning_report, interactions.item_reviews),
    *(item_descriptions, user_profiles, reasoning_labels, sft_splits, lora_model),
)


def _files(inputs: Inputs, methods: Methods) -> dict[str, Path]:
    """What exists of these methods' assets."""
    return {name: inputs[key] for name, asset in methods.items() if (key := asset.key.to_user_string()) in inputs.receipts}


def _texts(inputs: Inputs, methods: Methods) -> Any:
    """What these methods' explanations are held against: of prompts, each method's own, by the receipt of its predictions."""
    from reasoningrec_assets.metrics.explanations import Texts

    asked = {name: inputs.read_by(methods[name].key.to_user_string(), "sft_splits") for name in _files(inputs, methods)}
    return Texts(inputs["items"], {name: path for name, path in asked.items() if path}, inputs["reasoning_labels"])


def _evaluated(
    context: dg.AssetExecutionContext, config: StepConfig, lake: LakeResource, methods: Methods, build: Build, **more: Any
) -> dg.MaterializeResult:
    """Materialize what ``build`` makes of what `evaluate` takes, with BERTScore where there are texts and an encoder."""
    settings = settings_of(EvaluationSettings, "evaluation", config, registry.get(context.partition_key))

    def step(inputs: Inputs) -> Output:
        from reasoningrec_assets.metrics.text import BertScore

        told: dict[str, Any] = {"predictions": _files(inputs, methods), "dataset": context.partition_key}
        told |= {"windows": inputs["interaction_windows"], **settings.model_dump(include={"replicates", "seed"})}
        told["texts"] = _texts(inputs, methods) if inputs.receipts.keys() >= {"items", "reasoning_labels"} else None
        if not (told["texts"] and settings.encoder):
            return build(inputs, told)
        encoder = store.resolve(settings.encoder, inputs.lake.root, log=context.log.info)
        with compute.lease(log=context.log.info) as device:
            told["texts"] = replace(told["texts"], encoder=BertScore(str(encoder), settings.encoder_layer, device.torch_name))
            return replace(build(inputs, told), models=({"role": "encoder", "reference": settings.encoder},))

    # a local encoder folder is known by its content, as every model is
    decided = settings.model_dump() | {"encoder": settings.encoder and store.identity(settings.encoder)}
    return materialize(context, lake, step, settings=decided, config=config, **more)


@asset(deps=[*METHODS.values(), *STAGES], **FIGURES, freshness_policy=WEEKLY)
def evaluation_metrics(context: dg.AssetExecutionContext, config: EvaluationConfig, lake: LakeResource) -> dg.MaterializeResult:
    """AUC with intervals and more for every method on one test population, and how near explanations are to the teacher's."""

    def build(inputs: Inputs, told: dict[str, Any]) -> Output:
        from reasoningrec_assets.metrics.evaluate import evaluate, left_out

        figures = {asset: receipt.metrics for asset, receipt in inputs.receipts.items()}
        table = evaluate(**told, rows_in=int(figures["cleaned_interactions"]["rows_in"]), dropped=left_out(figures))
        named = {f"{row['method']}_{row['metric']}": row["value"] for row in table.to_pylist() if row["value"] is not None}
        return Output(table, named, {"raw_files": inputs.receipts["raw_dataset"].details["preview"]})

    return _evaluated(context, config, lake, METHODS, build)


# all methods there are, by the name that their rows carry
COMPARED = {**METHODS, **baselines, **studies.TRAINED, **studies.ZERO_SHOT}
EXISTING = [asset.key for asset in (*COMPARED.values(), items, reasoning_labels)]


@asset(deps=[*EXISTING, interaction_windows.key], **FIGURES)
def leaderboard(context: dg.AssetExecutionContext, config: EvaluationConfig, lake: LakeResource) -> dg.MaterializeResult:
    """Every method of the partition that exists, studies and baselines too, with its figures and tests against floors and best."""

    def build(_: Inputs, told: dict[str, Any]) -> Output:
        from reasoningrec_assets.metrics.leaderboard import leaderboard

        table = leaderboard(**told)
        rows = table.to_pylist()
        problems = [(row["method"], row["problem"]) for row in rows if row["problem"]]
        for method, problem in problems:
            context.log.warning("%s is left out: %s. Materialize its predictions again", method, problem)
        figures = {f"auc_{row['method']}": row["auc"] for row in rows if row["auc"] is not None}
        figures |= {"methods": float(len(rows)), "methods_left_out": float(len(problems))}
        return Output(table, figures, {"left_out": markdown(("method", "problem"), problems)} if problems else {})

    return _evaluated(context, config, lake, COMPARED, build, optional=EXISTING)


SEED = re.compile(r"_seed\d+$")  # behind the name of a dataset's repetition
ADAPTERS = {"student": lora_model, **studies.ADAPTERS}
REPORTED = (evaluation_metrics, *METHODS.values(), *STAGES)
# the stack asks the student
BASELINES = [name for name, asset in baselines.items() if predictions.key not in asset.dependency_keys]


@asset(deps=REPORTED, **EVALUATION, kinds={"html"})
def evaluation_report(context: dg.AssetExecutionContext, config: StepConfig, lake: LakeResource) -> dg.MaterializeResult:
    """One self-contained HTML page: leaderboard, intervals, dropped rows, costs, and users with every method's score."""
    from reasoningrec_assets.report import page
    from reasoningrec_assets.report.gather import gather, training_curve

    dataset, receipts = registry.get(context.partition_key), lake.open().receipts
    # with other seeds, see docs/studies.md: boards of other partitions are no upstream, and count by their content
    alike = [name for name in registry.load()[0] if SEED.sub("", name) == SEED.sub("", dataset.name)]
    boards = [board for name in alike if (board := receipts.newest("leaderboard", name)) and verify(lake.open(), board)]
    checks = [check for stage in STAGES for check in receipts.checks(stage.key.to_user_string(), dataset.name)]
    told = {"title": dataset.title, "facts": dataset.model_dump(include={"history_length", "profile_items", "min_ratings"})}

    def build(inputs: Inputs) -> Output:
        tables = {"metrics": "evaluation_metrics", "windows": "interaction_windows", "cleaning": "cleaning_report"}
        read: dict[str, Any] = {name: inputs[asset] for name, asset in tables.items()} | {"baselines": BASELINES}
        read["training"] = {name: training_curve(path) for name, path in _files(inputs, ADAPTERS).items()}
        read["receipts"] = steps = receipts.ancestry(inputs.receipts.values())
        read["checks"] = [check for check in checks if check.data_version in {step.data_version for step in steps}]
        methods, texts = _files(inputs, COMPARED), _texts(inputs, COMPARED)
        report = gather(dataset.name, methods, texts, [inputs.lake.path_of(board) for board in boards], **told, **read)
        path = inputs.scratch / "report.html"
        path.write_text(page.render(report), encoding="utf-8")
        return Output(path=path)

    decided = told | {"looks": page.looks(), "boards": {board.partition: board.data_version for board in boards}}
    decided["checks"] = {f"{check.asset}/{check.check}": [check.passed, check.metrics, check.data_version] for check in checks}
    # no dependency of Dagster's: `+evaluation_report` would train every study
    optional = [asset.key for asset in (leaderboard, *ADAPTERS.values(), *COMPARED.values())]
    return materialize(context, lake, build, settings=decided, config=config, optional=optional)
