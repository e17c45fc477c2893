"""Recommendations: what the student would have each user see next, and why."""

from functools import partial

import dagster as dg

from reasoningrec_assets.assets.interactions import cleaned_interactions, items
from reasoningrec_assets.assets.language import item_descriptions, user_profiles
from reasoningrec_assets.assets.materialize import asset, materialize, settings_of, step_config
from reasoningrec_assets.assets.student import STUDENT, lora_model, model_settings
from reasoningrec_assets.datasets import registry
from reasoningrec_assets.lake.steps import Inputs, Output, code_version
from reasoningrec_assets.pools import GPU
from reasoningrec_assets.resources.lake import LakeResource
from reasoningrec_assets.settings import RecommendationSettings, ScoringSettings, TrainingSettings
from reasoningrec_assets.training.variants import FULL

SECTIONS = {"recommendations": RecommendationSettings, "scoring": ScoringSettings, "training": TrainingSettings}
RecommendationConfig = step_config("RecommendationConfig", SECTIONS)
MADE_FROM = (cleaned_interactions, items, item_descriptions, user_profiles, lora_model)


@asset(deps=MADE_FROM, **STUDENT, kinds={"pytorch", "parquet"}, **GPU)
def recommendations(context: dg.AssetExecutionContext, config: RecommendationConfig, lake: LakeResource) -> dg.MaterializeResult:
    """The best unrated items for every user, by the student's score, the first with a reason that is checked by its words."""
    from reasoningrec_assets.training.recommend import source_identity

    dataset = registry.get(context.partition_key)
    wanted, scoring, training = (settings_of(kind, name, config, dataset) for name, kind in SECTIONS.items())
    asked = {**wanted.model_dump(exclude={"users"}), **scoring.model_dump(), "max_tokens": training.max_tokens}
    decided = {"code": code_version("recommendations"), "source_identity": source_identity(wanted.source)}
    decided |= asked | model_settings(training)

    def build(inputs: Inputs) -> Output:
        from reasoningrec_assets.training.recommend import recommend
        from reasoningrec_assets.training.student import open_student

        student = partial(open_student, inputs, FULL, training, scoring, log=context.log.info)
        return recommend(dataset, inputs, wanted, decided, student, anew=config.force, log=context.log.info)

    return materialize(context, lake, build, settings={**decided, "users": wanted.users}, config=config)
