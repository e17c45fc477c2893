"""What the teacher writes: item descriptions, user profiles, and the reasoning about known labels."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import dagster as dg
from pydantic import Field

from reasoningrec_assets.assets.interactions import interaction_windows, item_reviews, items
from reasoningrec_assets.assets.materialize import StepConfig, asset, configured, materialize, settings_of, step_config
from reasoningrec_assets.datasets import registry
from reasoningrec_assets.errors import DryRun
from reasoningrec_assets.lake.steps import Inputs, Output
from reasoningrec_assets.partitions import datasets
from reasoningrec_assets.pools import GPU
from reasoningrec_assets.prompts import templates
from reasoningrec_assets.resources.lake import LakeResource
from reasoningrec_assets.settings import EngineSettings, GenerationSettings, ReasoningSettings, SamplingSettings
from reasoningrec_assets.training.variants import FULL, Variant

LANGUAGE: dict[str, Any] = {"partitions_def": datasets, "group_name": "language", "owners": ["team:modelling"], **GPU}
# a dry run plans and yields nothing, and what depends on it is skipped
LANGUAGE |= {"kinds": {"llm", "parquet"}, "output_required": False}
Results = Iterator[dg.MaterializeResult]


def _config(name: str, **sections: Any) -> type[StepConfig]:
    dry_run = (bool, Field(default=False, description="Say what the step would spend, and stop there."))
    return step_config(name, {**sections, "engine": EngineSettings}, dry_run=dry_run)


DescriptionConfig = _config("DescriptionConfig", item_descriptions=GenerationSettings)
ProfileConfig = _config("ProfileConfig", user_profiles=GenerationSettings)
ReasoningConfig = _config("ReasoningConfig", reasoning_labels=ReasoningSettings, sampling=SamplingSettings)


def _write(
    context: dg.AssetExecutionContext,
    config: StepConfig,
    lake: LakeResource,
    settings: GenerationSettings,
    build: Callable[[Inputs, Any], Output],
    *,
    word_limit: int,
    **decides: object,
) -> Results:
    """Materialize what a teacher writes; `decides` is what its texts depend on besides settings, model, item kind and rows."""
    from reasoningrec_assets.generation import teacher

    dataset = registry.get(context.partition_key)
    engine = settings_of(EngineSettings, "engine", config, dataset)

    def observe(figures: Mapping[str, float]) -> None:
        context.log_event(dg.AssetObservation(context.asset_key, partition=context.partition_key, metadata=dict(figures)))

    told = {"log": context.log.info, "observe": observe, "dry_run": getattr(config, "dry_run", False)}
    writer = teacher.teacher_writer(settings, engine, lake.open().root, word_limit=word_limit, **told)
    decided = {**settings.model_dump(), "identity": asdict(writer.identity), "kind": dataset.item_kind, **decides}
    try:
        yield materialize(context, lake, lambda inputs: build(inputs, writer), settings=decided, config=config)
    except DryRun as plan:
        context.log.info(f"{plan}; it would need {plan.figures}")


@asset(deps=[items, item_reviews], **LANGUAGE)
def item_descriptions(context: dg.AssetExecutionContext, config: DescriptionConfig, lake: LakeResource) -> Results:
    """The teacher's description of every item that a window needs, from its reviews where there are any."""
    from reasoningrec_assets.generation import teacher

    dataset = registry.get(context.partition_key)
    settings = settings_of(GenerationSettings, "item_descriptions", config, dataset)
    build = partial(teacher.describe_items, dataset, settings.words)
    wording = [templates.SHA256[template] for template in templates.DESCRIPTION]
    yield from _write(context, config, lake, settings, build, word_limit=settings.words, templates=wording)


def profiles_of(variant: Variant) -> dg.AssetsDefinition:
    """The profiles that a variant shows."""
    key, run_config = dg.AssetKey.from_user_string(variant.asset("user_profiles")), configured(ProfileConfig, variant)
    deps = [interaction_windows, items, *([item_descriptions] if variant.descriptions else [])]

    @asset(key=key, deps=deps, **LANGUAGE)
    def user_profiles(context: dg.AssetExecutionContext, config: run_config, lake: LakeResource) -> Results:
        """The teacher's profile of every user, from the profile items alone, which are no target of any split."""
        from reasoningrec_assets.generation import teacher

        dataset = registry.get(context.partition_key)
        settings = settings_of(GenerationSettings, "user_profiles", config, dataset, variant)
        words = min(settings.words, dataset.profile_words)
        build = partial(teacher.profile_users, dataset, words)
        decides = {"template": templates.SHA256["user_profile"], "profile_words": words}
        yield from _write(context, config, lake, settings, build, word_limit=words, **decides)

    return user_profiles


def labels_of(variant: Variant) -> dg.AssetsDefinition:
    """The reasonings that a variant's student learns, written from no more than it sees itself."""
    key, seen = dg.AssetKey.from_user_string(variant.asset("reasoning_labels")), {*variant.inputs} - {"reasoning_labels"}
    deps = [dg.AssetKey.from_user_string(variant.asset(table)) for table in sorted(seen)]
    run_config = configured(ReasoningConfig, variant)

    @asset(key=key, deps=deps, **LANGUAGE)
    def reasoning_labels(context: dg.AssetExecutionContext, config: run_config, lake: LakeResource) -> Results:
        """Why each known label came about: for the K training rows, and for the test rows that are explained."""
        from reasoningrec_assets.generation import teacher

        dataset = registry.get(context.partition_key)
        settings = settings_of(ReasoningSettings, "reasoning_labels", config, dataset, variant)
        sampling = settings_of(SamplingSettings, "sampling", config, dataset, variant)
        build = partial(teacher.reason_about_labels, dataset, settings, sampling)
        wording = [templates.SHA256["reasoning"], templates.SHA256["reasoning_blind"]]
        drawn = sampling.model_dump(include={"k", "explained_rows", "seed"})
        # the question asks for that many words for each of two parts
        limit = 2 * settings.words
        yield from _write(context, config, lake, settings, build, word_limit=limit, templates=wording, sampling=drawn)

    return reasoning_labels


user_profiles = profiles_of(FULL)
reasoning_labels = labels_of(FULL)
