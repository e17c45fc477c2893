"""The student: its rows, its LoRA adapter, and its predictions with reasons."""

import dagster as dg

from reasoningrec_assets.assets.interactions import interaction_windows, items
from reasoningrec_assets.assets.language import item_descriptions, reasoning_labels, user_profiles
from reasoningrec_assets.assets.materialize import StepConfig, materialize, settings_of, step_config
from reasoningrec_assets.datasets import registry
from reasoningrec_assets.lake.steps import Inputs, Output
from reasoningrec_assets.models import store
from reasoningrec_assets.partitions import datasets
from reasoningrec_assets.prompts import templates
from reasoningrec_assets.resources.lake import LakeResource
from reasoningrec_assets.settings import SamplingSettings, ScoringSettings, TrainingSettings
from reasoningrec_assets.training.variants import FULL

STUDENT = {"partitions_def": datasets, "group_name": "student", "owners": ["team:modelling"]}
PREDICTIONS = {**STUDENT, "kinds": {"pytorch", "parquet"}, "pool": "gpu"}
SPLIT_INPUTS = (interaction_windows, items, item_descriptions, user_profiles, reasoning_labels)

SplitConfig = step_config("SplitConfig", {"sampling": SamplingSettings})
TrainingConfig = step_config("TrainingConfig", {"training": TrainingSettings})
PredictionConfig = step_config("PredictionConfig", {"training": TrainingSettings, "scoring": ScoringSettings})


def model_settings(reference: str) -> dict[str, str]:
    """What decides an answer of the student's base besides the rows."""
    return {"identity": store.identity(reference), "prefix": templates.STUDENT_OUTPUT.sha256}


@dg.asset(deps=SPLIT_INPUTS, **STUDENT, kinds={"parquet"}, code_version="1")
def sft_splits(context: dg.AssetExecutionContext, config: SplitConfig, lake: LakeResource) -> dg.MaterializeResult:
    """Instruction, input and output of the K training rows, the validation sample and the whole test split."""
    dataset = registry.get(context.partition_key)
    sampling = settings_of(SamplingSettings, "sampling", config, dataset)

    def build(inputs: Inputs) -> Output:
        from reasoningrec_assets.training.student import build_splits

        written = {"descriptions": "item_descriptions", "profiles": "user_profiles", "labels": "reasoning_labels"}
        tables = {argument: inputs[asset] for argument, asset in written.items()}
        arguments = (dataset, FULL, inputs["interaction_windows"], inputs["items"], sampling)
        return build_splits(*arguments, **tables, log=context.log.info)

    wording = {template.name: template.sha256 for template in templates.STUDENT}
    drawn = sampling.model_dump(include={"valid_rows", "seed"})
    settings = {"sampling": drawn, "kind": dataset.item_kind, "templates": wording}
    return materialize(context, lake, build, settings=settings, config=config)


@dg.asset(deps=[sft_splits], **STUDENT, kinds={"pytorch", "peft"}, pool="gpu", code_version="2")
def lora_model(context: dg.AssetExecutionContext, config: TrainingConfig, lake: LakeResource) -> dg.MaterializeResult:
    """The LoRA adapter of the epoch with the best validation AUC, and a manifest that says what it is."""
    dataset = registry.get(context.partition_key)
    training = settings_of(TrainingSettings, "training", config, dataset)
    scoring = settings_of(ScoringSettings, "scoring", config, dataset)

    def build(inputs: Inputs) -> Output:
        from reasoningrec_assets.training.student import train

        version = inputs.receipts["sft_splits"].data_version or ""
        checkpoints = inputs.lake.root / "checkpoints" / context.asset_key.to_user_string() / context.partition_key
        arguments = (inputs["sft_splits"], training, scoring.tokens_per_batch, inputs.lake.root, inputs.scratch)
        return train(*arguments, checkpoints=checkpoints, data_version=version, log=context.log.info)

    return materialize(context, lake, build, settings=training.model_dump() | model_settings(training.base_model), config=config)


def _predictions(
    context: dg.AssetExecutionContext, config: StepConfig, lake: LakeResource, method: str, adapter: str | None
) -> dg.MaterializeResult:
    """Predictions of the student, with the adapter asset or without one."""
    dataset = registry.get(context.partition_key)
    training = settings_of(TrainingSettings, "training", config, dataset)
    scoring = settings_of(ScoringSettings, "scoring", config, dataset)
    base, most = training.base_model, training.max_tokens

    def build(inputs: Inputs) -> Output:
        from reasoningrec_assets.training.student import predict

        arguments = (dataset, method, inputs["sft_splits"], base, scoring, inputs.lake.root)
        folder = inputs[adapter] if adapter else None
        return predict(*arguments, max_tokens=most, adapter=folder, log=context.log.info)

    settings = {**scoring.model_dump(), "method": method, "max_tokens": most, **model_settings(base)}
    return materialize(context, lake, build, settings=settings, config=config)


@dg.asset(deps=[sft_splits, lora_model], **PREDICTIONS, code_version="2")
def predictions(context: dg.AssetExecutionContext, config: PredictionConfig, lake: LakeResource) -> dg.MaterializeResult:
    """The fine-tuned student's log-odds for every validation and test row, and its explanations of some."""
    return _predictions(context, config, lake, "student", "lora_model")


@dg.asset(key=["zero_shot", "student", "predictions"], deps=[sft_splits], **PREDICTIONS, code_version="2")
def zero_shot_student_predictions(
    context: dg.AssetExecutionContext, config: PredictionConfig, lake: LakeResource
) -> dg.MaterializeResult:
    """What the student's base model says before any fine-tuning, on the same rows and prompts."""
    return _predictions(context, config, lake, "zero_shot_student", None)
