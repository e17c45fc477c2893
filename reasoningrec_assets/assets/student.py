"""The student: its rows, its LoRA adapter, and its predictions with reasons, of the main pipeline or of a study's variant."""

import shutil

import dagster as dg

from reasoningrec_assets.assets.materialize import asset, configured, materialize, settings_of, step_config
from reasoningrec_assets.datasets import registry
from reasoningrec_assets.lake.steps import Inputs, Output
from reasoningrec_assets.models import store
from reasoningrec_assets.partitions import datasets
from reasoningrec_assets.pools import GPU
from reasoningrec_assets.prompts import templates
from reasoningrec_assets.resources.lake import LakeResource
from reasoningrec_assets.settings import SamplingSettings, ScoringSettings, TrainingSettings
from reasoningrec_assets.training.variants import FULL, Variant

STUDENT = {"partitions_def": datasets, "group_name": "student", "owners": ["team:modelling"]}
TUNED, BASE, TEACHER = "fine-tuned student", "student's base", "teacher's model"
PREDICTIONS = {**STUDENT, "kinds": {"pytorch", "parquet"}, **GPU}
SplitConfig = step_config("SplitConfig", {"sampling": SamplingSettings})
TrainingConfig = step_config("TrainingConfig", {"training": TrainingSettings})
PredictionConfig = step_config("PredictionConfig", {"training": TrainingSettings, "scoring": ScoringSettings})


def model_settings(training: TrainingSettings) -> dict[str, str]:
    """What decides an answer of the student's base besides the rows and what is asked."""
    named = {"identity": store.identity(training.base_model), "quantization": training.quantization}
    return named | {"prefix": templates.SHA256["student_output"]}


def keys_of(variant: Variant, *tables: str) -> list[dg.AssetKey]:
    """The keys of the assets that are a variant's tables."""
    return [dg.AssetKey.from_user_string(variant.asset(table)) for table in tables]


def splits_of(variant: Variant) -> dg.AssetsDefinition:
    """The rows of a variant's student."""
    (key,), deps, run_config = keys_of(variant, "sft_splits"), keys_of(variant, *variant.inputs), configured(SplitConfig, variant)

    @asset(key=key, deps=deps, **STUDENT, kinds={"parquet"})
    def sft_splits(context: dg.AssetExecutionContext, config: run_config, lake: LakeResource) -> dg.MaterializeResult:
        """Instruction, input and output of the K training rows, the validation sample and the whole test split."""
        dataset = registry.get(context.partition_key)
        sampling = settings_of(SamplingSettings, "sampling", config, dataset, variant)

        def build(inputs: Inputs) -> Output:
            from reasoningrec_assets.datasets.sources import raw_paths
            from reasoningrec_assets.training.exchange import given_splits
            from reasoningrec_assets.training.student import build_splits

            if variant.given:
                return given_splits(dataset, raw_paths(inputs))
            tables = {table: inputs[variant.asset(table)] for table in variant.inputs}
            return build_splits(dataset, variant, sampling, tables, log=context.log.info)

        wording = {template: templates.SHA256[template] for template in templates.STUDENT}
        # where reasonings are learnt, their table holds the K rows
        drawn = sampling.model_dump(include={"valid_rows", "seed"} | ({"k"} if not variant.reasoning else set()))
        settings = {"sampling": drawn, "kind": dataset.item_kind, "templates": wording, **variant.facts}
        return materialize(context, lake, build, settings=settings, config=config)

    return sft_splits


def adapter_of(variant: Variant) -> dg.AssetsDefinition:
    """The adapter of a variant's student."""
    (key,), run_config = keys_of(variant, "lora_model"), configured(TrainingConfig, variant)

    @asset(key=key, deps=keys_of(variant, "sft_splits"), **STUDENT, kinds={"pytorch", "peft"}, **GPU)
    def lora_model(context: dg.AssetExecutionContext, config: run_config, lake: LakeResource) -> dg.MaterializeResult:
        """The LoRA adapter of the epoch with the best validation AUC, and a manifest that says what it is."""
        dataset = registry.get(context.partition_key)
        training = settings_of(TrainingSettings, "training", config, dataset, variant)
        scoring = settings_of(ScoringSettings, "scoring", config, dataset, variant)

        def build(inputs: Inputs) -> Output:
            from reasoningrec_assets.training.student import train

            checkpoints = inputs.lake.root / "checkpoints" / context.asset_key.to_user_string() / context.partition_key
            if config.force:  # trained anew, and not read from the end of the last training
                shutil.rmtree(checkpoints, ignore_errors=True)
            return train(inputs, variant, training, scoring.tokens_per_batch, checkpoints=checkpoints, log=context.log.info)

        settings = training.model_dump() | model_settings(training)
        return materialize(context, lake, build, settings=settings, config=config)

    return lora_model


def predictions_of(variant: Variant, method: str, who: str, *, key: list[str]) -> dg.AssetsDefinition:
    """The predictions of one of `TUNED`, with its adapter, `BASE` or `TEACHER` for a variant's rows."""
    deps = keys_of(variant, "sft_splits", *{TUNED: ["lora_model"], TEACHER: ["reasoning_labels"]}.get(who, []))
    about = f"What the {who} says to the valid and test rows of the variant {variant.name}, and its explanations of some."
    run_config = configured(PredictionConfig, variant)

    @asset(key=key, deps=deps, description=about, **PREDICTIONS)
    def predictions(context: dg.AssetExecutionContext, config: run_config, lake: LakeResource) -> dg.MaterializeResult:
        dataset = registry.get(context.partition_key)
        training = settings_of(TrainingSettings, "training", config, dataset, variant)
        scoring = settings_of(ScoringSettings, "scoring", config, dataset, variant)
        asked = {**scoring.model_dump(), "method": method, "max_tokens": training.max_tokens}

        def build(inputs: Inputs) -> Output:
            from reasoningrec_assets.training.student import predict

            base = inputs.of("reasoning_labels").models[0]["reference"] if who == TEACHER else training.base_model
            asking = training.model_copy(update={"base_model": base})
            return predict(method, inputs, variant, asking, scoring, log=context.log.info)

        settings = asked | model_settings(training)
        if who == TEACHER:
            del settings["identity"]  # the receipt of the reasoning says which model it is
        return materialize(context, lake, build, settings=settings, config=config)

    return predictions


sft_splits = splits_of(FULL)
lora_model = adapter_of(FULL)
predictions = predictions_of(FULL, "student", TUNED, key=["predictions"])


def zero_shot_of(name: str, variant: Variant = FULL, who: str = BASE) -> dg.AssetsDefinition:
    """The predictions of a model that saw no row before."""
    return predictions_of(variant, f"zero_shot_{name}", who, key=["zero_shot", name, "predictions"])


zero_shot_student_predictions = zero_shot_of("student")
