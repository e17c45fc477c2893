"""The student: its rows, its LoRA adapter, and its predictions with reasons."""

import dagster as dg

from reasoningrec_assets.assets.interactions import interaction_windows, items
from reasoningrec_assets.assets.language import item_descriptions, reasoning_labels, user_profiles
from reasoningrec_assets.assets.materialize import materialize, settings_of, step_config
from reasoningrec_assets.datasets import registry
from reasoningrec_assets.lake.steps import Inputs, Output
from reasoningrec_assets.partitions import datasets
from reasoningrec_assets.prompts import templates
from reasoningrec_assets.resources.lake import LakeResource
from reasoningrec_assets.settings import SamplingSettings, ScoringSettings, TrainingSettings

STUDENT = {"partitions_def": datasets, "group_name": "student", "owners": ["team:modelling"]}

SplitConfig = step_config("SplitConfig", {"sampling": SamplingSettings})
TrainingConfig = step_config("TrainingConfig", {"training": TrainingSettings})
PredictionConfig = step_config("PredictionConfig", {"training": TrainingSettings, "scoring": ScoringSettings})


def model_settings(reference: str) -> dict[str, str]:
    """What decides an answer of the student's base besides the rows."""
    from reasoningrec_assets.models.store import identity

    return {"identity": identity(reference), "prefix": templates.STUDENT_OUTPUT.sha256}


@dg.asset(
    deps=[interaction_windows, items, item_descriptions, user_profiles, reasoning_labels],
    **STUDENT,
    kinds={"parquet"},
    code_version="1",
)
def sft_splits(context: dg.AssetExecutionContext, config: SplitConfig, lake: LakeResource) -> dg.MaterializeResult:
    """Instruction, input and output of the K training rows, the validation sample and the whole test split."""
    dataset = registry.get(context.partition_key)
    sampling = settings_of(SamplingSettings, "sampling", config, dataset)

    def build(inputs: Inputs) -> Output:
        from reasoningrec_assets.training.student import build_splits

        tables = (
            inputs[name] for name in ("interaction_windows", "items", "item_descriptions", "user_profiles", "reasoning_labels")
        )
        return build_splits(dataset, *tables, sampling, log=context.log.info)

    wording = {template.name: template.sha256 for template in templates.STUDENT}
    drawn = sampling.model_dump(include={"valid_rows", "seed"})
    return materialize(
        context, lake, build, settings={"sampling": drawn, "kind": dataset.item_kind, "templates": wording}, config=config
    )


@dg.asset(deps=[sft_splits], **STUDENT, kinds={"pytorch", "peft"}, pool="gpu", code_version="1")
def lora_model(context: dg.AssetExecutionContext, config: TrainingConfig, lake: LakeResource) -> dg.MaterializeResult:
    """The LoRA adapter of the epoch with the best validation AUC, and a manifest that says what it is."""
    dataset = registry.get(context.partition_key)
    training = settings_of(TrainingSettings, "training", config, dataset)
    scoring = settings_of(ScoringSettings, "scoring", config, dataset)

    def build(inputs: Inputs) -> Output:
        from reasoningrec_assets.training.student import train

        version = inputs.receipts["sft_splits"].data_version or ""
        log = context.log.info
        return train(
            inputs["sft_splits"],
            training,
            scoring.tokens_per_batch,
            lake.open().root,
            inputs.scratch,
            data_version=version,
            log=log,
        )

    return materialize(context, lake, build, settings=training.model_dump() | model_settings(training.base_model), config=config)


def _predictions(
    context: dg.AssetExecutionContext, config: dg.Config, lake: LakeResource, method: str, adapter: str | None
) -> dg.MaterializeResult:
    """Predictions of the student, with the adapter asset or without one."""
    dataset = registry.get(context.partition_key)
    training = settings_of(TrainingSettings, "training", config, dataset)
    scoring = settings_of(ScoringSettings, "scoring", config, dataset)

    def build(inputs: Inputs) -> Output:
        from reasoningrec_assets.training.student import predict

        folder = inputs[adapter] if adapter else None
        base, root = training.base_model, lake.open().root
        return predict(
            dataset,
            method,
            inputs["sft_splits"],
            base,
            scoring,
            root,
            max_tokens=training.max_tokens,
            adapter=folder,
            log=context.log.info,
        )

    settings = {
        **scoring.model_dump(),
        "method": method,
        "max_tokens": training.max_tokens,
        **model_settings(training.base_model),
    }
    return materialize(context, lake, build, settings=settings, config=config)


@dg.asset(deps=[sft_splits, lora_model], **STUDENT, kinds={"pytorch", "parquet"}, pool="gpu", code_version="1")
def predictions(context: dg.AssetExecutionContext, config: PredictionConfig, lake: LakeResource) -> dg.MaterializeResult:
    """The fine-tuned student's log-odds for every validation and test row, and its explanations of some."""
    return _predictions(context, config, lake, "student", "lora_model")


@dg.asset(
    key=["zero_shot", "student", "predictions"],
    deps=[sft_splits],
    **STUDENT,
    kinds={"pytorch", "parquet"},
    pool="gpu",
    code_version="1",
)
def zero_shot_student_predictions(
    context: dg.AssetExecutionContext, config: PredictionConfig, lake: LakeResource
) -> dg.MaterializeResult:
    """What the student's base model says before any fine-tuning, on the same rows and prompts."""
    return _predictions(context, config, lake, "zero_shot_student", None)
