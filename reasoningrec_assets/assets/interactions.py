"""From raw files to leak-safe windows: cleaned interactions, their items, the examples cut from them, and the items' reviews."""

import enum

import dagster as dg
from pydantic import Field

from reasoningrec_assets.assets.materialize import StepConfig, asset, materialize
from reasoningrec_assets.assets.sources import raw_dataset
from reasoningrec_assets.datasets import cleaning, registry, reviews, sources, windows
from reasoningrec_assets.lake.steps import Inputs, Output
from reasoningrec_assets.partitions import datasets
from reasoningrec_assets.resources.lake import LakeResource

INTERACTIONS = {"partitions_def": datasets, "group_name": "interactions", "owners": ["team:data"], "kinds": {"duckdb", "parquet"}}
# where Dagster's automation sensor is on, new raw data is cleaned and cut by itself: seconds, and no model
INTERACTIONS["automation_condition"] = dg.AutomationCondition.eager()
RepeatedPairs = enum.StrEnum("RepeatedPairs", ["last", "first", "keep"])
Reviews = enum.StrEnum("Reviews", ["leak_safe", "paper"])


class CleaningConfig(StepConfig):
    """Run config of `cleaned_interactions`."""

    repeated_pairs: RepeatedPairs = Field(RepeatedPairs.last, description="Of a pair's rows, which stays; keep: all (leaks).")


@asset(deps=[raw_dataset], **INTERACTIONS)
def cleaned_interactions(context: dg.AssetExecutionContext, config: CleaningConfig, lake: LakeResource) -> dg.MaterializeResult:
    """Ratings of the users who pass the dataset's filter, one row per user and item, in time order."""
    dataset = registry.get(context.partition_key)

    def build(inputs: Inputs) -> Output:
        kept = {"repeated_pairs": config.repeated_pairs, "scratch": inputs.scratch}
        return Output(*cleaning.clean(dataset, sources.raw_paths(inputs), **kept))

    # how many items a history or a profile holds is no matter of cleaning: changing it must not clean again
    decides = {"min_ratings", "liked_at_least", "liked_above", "sample_users", "sample_seed", "one_user_per_sequence"}
    settings = {"dataset": dataset.reading | dataset.model_dump(include=decides), "repeated_pairs": config.repeated_pairs}
    return materialize(context, lake, build, settings=settings, config=config)


@asset(deps=[raw_dataset, cleaned_interactions], **INTERACTIONS)
def items(context: dg.AssetExecutionContext, config: StepConfig, lake: LakeResource) -> dg.MaterializeResult:
    """Title, year, genres, brand, price and the seller's words of every item that a cleaned interaction names."""
    dataset = registry.get(context.partition_key)

    def build(inputs: Inputs) -> Output:
        return Output(*cleaning.read_items(dataset, sources.raw_paths(inputs), inputs["cleaned_interactions"]))

    return materialize(context, lake, build, settings=dataset.reading, config=config)


@asset(deps=[raw_dataset, cleaned_interactions], **INTERACTIONS)
def cleaning_report(context: dg.AssetExecutionContext, config: StepConfig, lake: LakeResource) -> dg.MaterializeResult:
    """What cleaning did to the raw data: every rule, the rows that it met, and examples of them."""
    dataset = registry.get(context.partition_key)

    def build(inputs: Inputs) -> Output:
        files, cleaned = sources.raw_paths(inputs), inputs.receipts["cleaned_interactions"]
        return Output(cleaning.report(dataset, files, inputs["cleaned_interactions"], cleaned.metrics, cleaned.details))

    return materialize(context, lake, build, settings=dataset.reading, config=config)


@asset(deps=[cleaned_interactions], **INTERACTIONS)
def interaction_windows(context: dg.AssetExecutionContext, config: StepConfig, lake: LakeResource) -> dg.MaterializeResult:
    """History and target of each user's train, validation and test example; profile items that are no target."""
    dataset = registry.get(context.partition_key)

    def build(inputs: Inputs) -> Output:
        return Output(*windows.build(dataset, inputs["cleaned_interactions"], inputs.scratch))

    lengths = {"history_length", "profile_items"}
    lengths |= {"cut_dates", "targets_per_user"} if dataset.cut_dates else {"profile_skip_last"}
    settings: dict[str, object] = {"dataset": dataset.model_dump(mode="json", include=lengths)}
    settings["protocol"] = "global-temporal" if dataset.cut_dates else "leave-last-out"
    return materialize(context, lake, build, settings=settings, config=config)


class ReviewsConfig(StepConfig):
    """Run config of `item_reviews`."""

    reviews: Reviews = Field(Reviews.leak_safe, description="leak_safe: none that tells of a target; paper: all, which leaks.")


@asset(deps=[raw_dataset, interaction_windows], **INTERACTIONS)
def item_reviews(context: dg.AssetExecutionContext, config: ReviewsConfig, lake: LakeResource) -> dg.MaterializeResult:
    """The items that a window needs, and the reviews that a description of each may be written from."""
    dataset, leak_safe = registry.get(context.partition_key), config.reviews == Reviews.leak_safe

    def build(inputs: Inputs) -> Output:
        files, windows = sources.raw_paths(inputs), inputs["interaction_windows"]
        return Output(*reviews.choose(dataset, files, windows, leak_safe=leak_safe, scratch=inputs.scratch))

    settings = dataset.reading | {"reviews": config.reviews, "seed": dataset.sample_seed, "cuts": dataset.cuts[:1]}
    return materialize(context, lake, build, settings=settings, config=config)
