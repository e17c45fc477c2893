"""How good, how sure, compared with what: the floors, the metrics of every method, and the report."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from reasoningrec_assets.errors import Log
from reasoningrec_assets.lake.steps import Inputs, Output
from reasoningrec_assets.lake.tables import markdown
from reasoningrec_assets.models import store
from reasoningrec_assets.partitions import datasets
from reasoningrec_assets.pools import GPU
from reasoningrec_assets.resources.lake import LakeResource
from reasoningrec_assets.settings import EvaluationSettings

if TYPE_CHECKING:
    from reasoningrec_assets.metrics.explanations import Texts

EVALUATION = {"partitions_def": datasets, "group_name": "evaluation", "owners": ["team:modelling"]}
FIGURES = {**EVALUATION, "kinds": {"scikitlearn", "parquet"}, **GPU}
# a week and a day after the last run, which counts also where it found nothing to do
WEEKLY = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=8))
EvaluationConfig = step_config("EvaluationConfig", {"evaluation": EvaluationSettings})
METHODS = {"student": predictions, "zero_shot_student": zero_shot_student_predictions}
METHODS |= {name: baselines[name] for name in ("like_rate", "logistic_regression")}
"""The assets whose predictions are evaluated side by side, by method."""

# every stage is read, not only the tables that metrics are computed from: what each of them left out is part of the
# result. So one layer upstream is the whole pipeline, which is what `--select '+evaluation_metrics'` means to the CLI.
STAGES = (
    *(raw_dataset, cleaned_interactions, items, interaction_windows, interactions.cleaning_report, interactions.item_reviews),
    *(item_descriptions, user_profiles, reasoning_labels, sft_splits, lora_model),
)


def _files(inputs: Inputs, methods: Mapping[str, dg.AssetsDefinition]) -> dict[str, Path]:
    """What exists of these methods' assets."""
    found = {name: asset.key.to_user_string() for name, asset in methods.items()}
    return {name: inputs[key] for name, key in found.items() if key in inputs.receipts}


def _texts(inputs: Inputs, methods: Mapping[str, dg.AssetsDefinition]) -> "Texts":
    """What these methods' explanations are held against: of prompts, each method's own, by the receipt of its predictions."""
    from reasoningrec_assets.metrics.explanations import Texts

    asked = {name: inputs.read_by(methods[name].key.to_user_string(), "sft_splits") for name in _files(inputs, methods)}
    return Texts(inputs["items"], {name: path for name, path in asked.items() if path}, inputs["reasoning_labels"])


def _told(
    inputs: Inputs, methods: Mapping[str, dg.AssetsDefinition], settings: EvaluationSettings, log: Log, held: ExitStack
) -> Any:
    """What `evaluate` takes besides files, with BERTScore where there are texts and an encoder, whose device stays ``held``."""
    from reasoningrec_assets.metrics.text import BertScore

    texts = _texts(inputs, methods) if inputs.receipts.keys() >= {"items", "reasoning_labels"} else None
    if texts and settings.encoder:
        encoder = store.resolve(settings.encoder, inputs.lake.root, log=log)
        device = held.enter_context(compute.lease(log=log))
        texts = replace(texts, encoder=BertScore(str(encoder), settings.encoder_layer, device.torch_name))
    return {"windows": inputs["interaction_windows"], "texts": texts} | settings.model_dump(include={"replicates", "seed"})


def _models(settings: EvaluationSettings) -> tuple[dict[str, str], ...]:
    return ({"role": "encoder", "reference": settings.encoder},) if settings.encoder else ()


def _decided(settings: EvaluationSettings) -> dict[str, Any]:
    # a local encoder folder is known by its content, as every model is
    return settings.model_dump() | {"encoder": settings.encoder and store.identity(settings.encoder)}


@asset(deps=[*METHODS.values(), *STAGES], **FIGURES, freshness_policy=WEEKLY)
def evaluation_metrics(context: dg.AssetExecutionContext, config: EvaluationConfig, lake: LakeResource) -> dg.MaterializeResult:
    """AUC with intervals and more for every method on one test population, and how near explanations are to the teacher's."""
    settings = settings_of(EvaluationSettings, "evaluation", config, registry.get(context.partition_key))

    def build(inputs: Inputs) -> Output:
        from reasoningrec_assets.metrics.evaluate import evaluate, left_out, metrics_by_name

        figures = {asset: receipt.metrics for asset, receipt in inputs.receipts.items()}
        counts = {"rows_in": int(figures["cleaned_interactions"]["rows_in"]), "dropped": left_out(figures)}
        with ExitStack() as held:
            told = _told(inputs, METHODS, settings, context.log.info, held)
            table = evaluate(_files(inputs, METHODS), dataset=context.partition_key, **counts, **told)
        details = {"raw_files": inputs.receipts["raw_dataset"].details["preview"]}
        return Output(table, metrics_by_name(table), models=_models(settings), details=details)

    return materialize(context, lake, build, settings=_decided(settings), config=config)


# all methods there are, by the name that their rows carry
COMPARED = {**METHODS, **baselines, **studies.TRAINED, **studies.ZERO_SHOT}
EXISTING = (*COMPARED.values(), items, reasoning_labels)


@asset(deps=[*EXISTING, interaction_windows], **FIGURES)
def leaderboard(context: dg.AssetExecutionContext, config: EvaluationConfig, lake: LakeResource) -> dg.MaterializeResult:
    """Every method of the partition that exists, studies and baselines too, with its figures and its tests against the floors."""
    settings = settings_of(EvaluationSettings, "evaluation", config, registry.get(context.partition_key))

    def build(inputs: Inputs) -> Output:
        from reasoningrec_assets.metrics.leaderboard import leaderboard

        with ExitStack() as held:
            told = _told(inputs, COMPARED, settings, context.log.info, held)
            table = leaderboard(_files(inputs, COMPARED), dataset=context.partition_key, **told)
        rows = table.to_pylist()
        best = {f"auc_{row['method']}": row["auc"] for row in rows if row["auc"] is not None}
        problems = [(row["method"], row["problem"]) for row in rows if row["problem"]]
        for method, problem in problems:
            context.log.warning("%s is left out: %s. Materialize its predictions again", method, problem)
        figures = {"methods": float(len(rows)), "methods_left_out": float(len(problems)), **best}
        details = {"left_out": markdown(("method", "problem"), problems)} if problems else {}
        return Output(table, figures, details, models=_models(settings))

    return materialize(context, lake, build, settings=_decided(settings), config=config, optional=EXISTING)


ADAPTERS = {"student": lora_model, **studies.ADAPTERS}
REPORTED = (evaluation_metrics, *METHODS.values(), interaction_windows, items, reasoning_labels, lora_model)


@asset(deps=REPORTED, **EVALUATION, kinds={"html"})
def evaluation_report(context: dg.AssetExecutionContext, config: StepConfig, lake: LakeResource) -> dg.MaterializeResult:
    """One self-contained HTML page: leaderboard, intervals, dropped rows, costs, and users with every method's score."""
    from reasoningrec_assets.report import page
    from reasoningrec_assets.report.gather import gather, training_curve

    dataset, receipts = registry.get(context.partition_key), lake.open().receipts
    # with other seeds, see docs/studies.md: boards of other partitions are no upstream, and count by their content
    alike = [name for name in registry.datasets() if name.split("_seed")[0] == dataset.name.split("_seed")[0]]
    boards = {name: board for name in alike if (board := receipts.newest("leaderboard", name))}
    names = {"History length": "history_length", "Profile items": "profile_items", "Fewest ratings": "min_ratings"}
    facts = {title: getattr(dataset, name) for title, name in names.items()}

    def build(inputs: Inputs) -> Output:
        tables: dict[str, Any] = {"metrics": inputs["evaluation_metrics"], "windows": inputs["interaction_windows"]}
        tables |= {"predictions": _files(inputs, METHODS), "texts": _texts(inputs, METHODS)}
        tables["boards"] = {name: inputs.lake.path_of(board) for name, board in boards.items()}
        tables["training"] = {name: training_curve(path) for name, path in _files(inputs, ADAPTERS).items()}
        steps = receipts.ancestry(inputs.receipts.values())
        path = inputs.scratch / "report.html"
        report = gather(dataset=dataset.name, title=dataset.title, facts=facts, receipts=steps, **tables)
        path.write_text(page.render(report), encoding="utf-8")
        return Output(path=path)

    decided = {"title": dataset.title, "facts": facts, "looks": page.looks()}
    decided["boards"] = {name: board.data_version for name, board in boards.items()}
    # no dependency of Dagster's: `+evaluation_report` would train every study
    return materialize(context, lake, build, settings=decided, config=config, optional=[leaderboard, *ADAPTERS.values()])
