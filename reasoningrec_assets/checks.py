"""Asset checks: what must hold of a partition, read from the lake after it was published.

What belongs here: one check per property, with its figures as metadata. What doesn't: validation that stops a table
from being published at all, which the lake's writer does. A check reads its own partition, never all of them.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import dagster as dg

from reasoningrec_assets import sql
from reasoningrec_assets.assets import evaluation, interactions, language, sources, student
from reasoningrec_assets.assets.materialize import sync_catalogue
from reasoningrec_assets.lake.receipts import CheckReceipt
from reasoningrec_assets.lake.schemas import table_of
from reasoningrec_assets.resources.lake import LakeResource

TABLE_ASSETS: tuple[dg.AssetsDefinition, ...] = (
    sources.raw_dataset,
    interactions.cleaned_interactions,
    interactions.items,
    interactions.interaction_windows,
    language.item_descriptions,
    language.user_profiles,
    language.reasoning_labels,
    student.sft_splits,
    student.predictions,
    student.zero_shot_student_predictions,
    evaluation.like_rate_predictions,
    evaluation.logistic_regression_predictions,
    evaluation.evaluation_metrics,
)


def _check(
    asset: dg.AssetsDefinition,
    name: str,
    description: str,
    query: Callable[[str], str],
    passes: Callable[[Mapping[str, float]], bool],
) -> dg.AssetChecksDefinition:
    """A check whose figures are one row of SQL over the partition's file, bound as `$path`."""

    @dg.asset_check(asset=asset, name=name, description=description)
    def check(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
        opened = lake.open()
        receipt = opened.newest(asset.key.to_user_string(), context.partition_key, wanted_by=f"the check {name}")
        row = sql.query(query(asset.key.to_user_string()), path=opened.path_of(receipt)).to_pylist()[0]
        figures = {name: float(value or 0) for name, value in row.items()}
        passed = passes(figures)
        opened.receipts.append_check(
            CheckReceipt(
                asset=receipt.asset,
                partition=receipt.partition,
                check=name,
                passed=passed,
                severity="ERROR",
                run_id=context.run.run_id,
                at=datetime.now(UTC).isoformat(),
                data_version=receipt.data_version,
                metrics=figures,
                details={},
            )
        )
        sync_catalogue(opened, context.log.info)
        return dg.AssetCheckResult(passed=passed, metadata=dict(figures))

    return check


def _schema_query(asset: str) -> str:
    schema = table_of(asset)
    assert schema is not None
    declared = ", ".join(f"'{name}'" for name in schema.column_names)
    return f"""
        select count(*) filter (name in ({declared})) as declared_columns,
               count(*) filter (name not in ({declared})) as other_columns,
               {len(schema.columns)} as expected_columns
        from (select name from parquet_schema($path) where name not in ('schema', 'list', 'element'))
    """


def _row_query(asset: str) -> str:
    schema = table_of(asset)
    assert schema is not None
    key = ", ".join(schema.key)
    return f"select count(*) as rows, count(*) - count(distinct ({key})) as repeated_keys from read_parquet($path)"


def _build() -> list[dg.AssetChecksDefinition]:
    checks = [
        _check(
            asset,
            "schema",
            "The file holds exactly the declared columns.",
            _schema_query,
            lambda f: f["declared_columns"] == f["expected_columns"] and f["other_columns"] == 0,
        )
        for asset in TABLE_ASSETS
    ]
    checks += [
        _check(
            asset,
            "rows",
            "There are rows, and no key stands twice.",
            _row_query,
            lambda f: f["rows"] > 0 and f["repeated_keys"] == 0,
        )
        for asset in TABLE_ASSETS
    ]
    windows = interactions.interaction_windows
    checks += [
        _check(
            windows,
            "target_not_in_own_history",
            "No target stands in its own history or profile, where its label would be read off.",
            lambda _: (
                """
                select count(*) filter (list_contains(history_item_ids, target_item_id)) as in_history,
                       count(*) filter (list_contains(profile_item_ids, target_item_id)) as in_profile
                from read_parquet($path)
            """
            ),
            lambda f: f["in_history"] == 0 and f["in_profile"] == 0,
        ),
        _check(
            windows,
            "one_row_per_user_and_split",
            "Under leave-last-out no user has two rows in a split.",
            lambda _: "select count(*) - count(distinct (split, user_id)) as repeated from read_parquet($path)",
            lambda f: f["repeated"] == 0,
        ),
        _check(
            student.sft_splits,
            "label_balance",
            "Training and test rows hold both classes; with one alone there is nothing to learn, or no AUC.",
            lambda _: (
                """
                select avg(label::int) filter (split = 'train') as train_liked_share,
                       avg(label::int) filter (split = 'test') as test_liked_share
                from read_parquet($path)
            """
            ),
            lambda f: all(0 < share < 1 for share in f.values()),
        ),
        _check(
            evaluation.evaluation_metrics,
            "coverage",
            "Every method scored the whole test population.",
            lambda _: "select min(value) as least_coverage from read_parquet($path) where metric = 'coverage'",
            lambda f: f["least_coverage"] == 1,
        ),
    ]
    return checks


asset_checks = _build()
