"""What the teacher writes: item descriptions, user profiles, and the reasoning about known labels."""

import dagster as dg

from reasoningrec_assets.assets.interactions import interaction_windows, items
from reasoningrec_assets.assets.materialize import materialize, settings_of, step_config
from reasoningrec_assets.datasets import registry
from reasoningrec_assets.lake.steps import Inputs, Output
from reasoningrec_assets.partitions import datasets
from reasoningrec_assets.prompts import templates
from reasoningrec_assets.resources.lake import LakeResource
from reasoningrec_assets.settings import GenerationSettings, SamplingSettings

LANGUAGE = {
    "partitions_def": datasets,
    "group_name": "language",
    "owners": ["team:modelling"],
    "kinds": {"llm", "parquet"},
    "pool": "gpu",
}

DescriptionConfig = step_config("DescriptionConfig", {"item_descriptions": GenerationSettings})
ProfileConfig = step_config("ProfileConfig", {"user_profiles": GenerationSettings})
ReasoningConfig = step_config("ReasoningConfig", {"reasoning_labels": GenerationSettings, "sampling": SamplingSettings})


def teacher_settings(settings: GenerationSettings, template: templates.Template, **more: object) -> dict[str, object]:
    """What decides a teacher's texts besides the rows: the model's content, the wording, and how it draws."""
    from reasoningrec_assets.models.store import identity

    return {**settings.model_dump(), "identity": identity(settings.model), "template": template.sha256, **more}


@dg.asset(deps=[interaction_windows, items], **LANGUAGE, code_version="1")
def item_descriptions(context: dg.AssetExecutionContext, config: DescriptionConfig, lake: LakeResource) -> dg.MaterializeResult:
    """The teacher's description of every item that a window needs."""
    dataset = registry.get(context.partition_key)
    settings = settings_of(GenerationSettings, "item_descriptions", config, dataset)

    def build(inputs: Inputs) -> Output:
        from reasoningrec_assets.generation.teacher import describe_items

        return describe_items(
            dataset, inputs["interaction_windows"], inputs["items"], settings, lake.open().root, log=context.log.info
        )

    return materialize(
        context,
        lake,
        build,
        settings=teacher_settings(settings, templates.ITEM_DESCRIPTION, kind=dataset.item_kind),
        config=config,
    )


@dg.asset(deps=[interaction_windows, items, item_descriptions], **LANGUAGE, code_version="1")
def user_profiles(context: dg.AssetExecutionContext, config: ProfileConfig, lake: LakeResource) -> dg.MaterializeResult:
    """The teacher's profile of every user, from the profile items alone, which are no target of any split."""
    dataset = registry.get(context.partition_key)
    settings = settings_of(GenerationSettings, "user_profiles", config, dataset)

    def build(inputs: Inputs) -> Output:
        from reasoningrec_assets.generation.teacher import profile_users

        tables = (inputs["interaction_windows"], inputs["items"], inputs["item_descriptions"])
        return profile_users(dataset, *tables, settings, lake.open().root, log=context.log.info)

    return materialize(
        context,
        lake,
        build,
        settings=teacher_settings(settings, templates.USER_PROFILE, profile_words=dataset.profile_words),
        config=config,
    )


@dg.asset(deps=[interaction_windows, items, item_descriptions, user_profiles], **LANGUAGE, code_version="1")
def reasoning_labels(context: dg.AssetExecutionContext, config: ReasoningConfig, lake: LakeResource) -> dg.MaterializeResult:
    """Why each known label came about: for the K training rows, and for the test rows that are explained."""
    dataset = registry.get(context.partition_key)
    settings = settings_of(GenerationSettings, "reasoning_labels", config, dataset)
    sampling = settings_of(SamplingSettings, "sampling", config, dataset)

    def build(inputs: Inputs) -> Output:
        from reasoningrec_assets.generation.teacher import reason_about_labels

        tables = (inputs["interaction_windows"], inputs["items"], inputs["item_descriptions"], inputs["user_profiles"])
        return reason_about_labels(dataset, *tables, settings, sampling, lake.open().root, log=context.log.info)

    drawn = sampling.model_dump(include={"k", "explained_rows", "seed"})
    return materialize(
        context, lake, build, settings=teacher_settings(settings, templates.REASONING, sampling=drawn), config=config
    )
