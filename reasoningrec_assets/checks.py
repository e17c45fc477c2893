"""Asset checks: what must hold of a published partition, each read from that one alone, with its figures as metadata."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import dagster as dg

from reasoningrec_assets import sql
from reasoningrec_assets.assets import evaluation, interactions, language, student
from reasoningrec_assets.assets.materialize import sync_catalogue
from reasoningrec_assets.lake.receipts import CheckReceipt
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.resources.lake import LakeResource

_EVALUATED = (*evaluation.STAGES, *evaluation.METHODS.values(), evaluation.evaluation_metrics)
MOST_OVER_LIMIT = 0.1
TABLE_ASSETS = tuple(asset for asset in _EVALUATED if asset.key.path[-1] in TABLES)


def _check(
    asset: dg.AssetsDefinition,
    name: str,
    description: str,
    query: str | None,
    passes: Callable[[Mapping[str, float]], bool],
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> dg.AssetChecksDefinition:
    """A check on one row of SQL over the partition's file, bound as `$path`, or, without SQL, on its receipt's figures."""

    @dg.asset_check(asset=asset, name=name, description=description)
    def check(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
        opened = lake.open()
        receipt = opened.newest(asset.key.to_user_string(), context.partition_key, wanted_by=f"the check {name}")
        row = sql.query(query, path=opened.path_of(receipt)).to_pylist()[0] if query else receipt.metrics
        figures = {figure: float(value or 0) for figure, value in row.items()}
        passed = passes(figures)
        of = {"asset": receipt.asset, "partition": receipt.partition, "data_version": receipt.data_version}
        outcome = {
            "passed": passed,
            "severity": severity.value,
            "run_id": context.run.run_id,
            "at": datetime.now(UTC).isoformat(),
        }
        opened.receipts.append(CheckReceipt(**of, check=name, **outcome, metrics=figures, details={}))
        sync_catalogue(opened, context.log.info)
        return dg.AssetCheckResult(passed=passed, severity=severity, metadata=dict(figures))

    return check


def _schema_check(asset: dg.AssetsDefinition) -> dg.AssetChecksDefinition:
    names = TABLES[asset.key.path[-1]].column_names
    declared = ", ".join(map(sql.literal, names))
    query = f"""
        SELECT count(*) FILTER (name IN ({declared})) AS declared_columns,
               count(*) FILTER (name NOT IN ({declared})) AS other_columns, {len(names)} AS expected_columns
        FROM parquet_schema($path) WHERE name NOT IN ('schema', 'list', 'element')"""
    about = "The file holds exactly the declared columns."
    return _check(asset, "schema", about, query, lambda f: f["declared_columns"] == len(names) and f["other_columns"] == 0)


def _row_check(asset: dg.AssetsDefinition) -> dg.AssetChecksDefinition:
    key = ", ".join(TABLES[asset.key.path[-1]].key)
    query = f"SELECT count(*) AS rows, count(*) - count(DISTINCT ({key})) AS repeated_keys FROM read_parquet($path)"
    about = "There are rows, and no key stands twice."
    return _check(asset, "rows", about, query, lambda f: f["rows"] > 0 and f["repeated_keys"] == 0)


def _word_check(asset: dg.AssetsDefinition) -> dg.AssetChecksDefinition:
    about = f"At most {MOST_OVER_LIMIT:.0%} of the texts are longer than the words that were asked for."
    fits = lambda f: f["generation_over_word_limit_share"] <= MOST_OVER_LIMIT  # noqa: E731
    return _check(asset, "word_limit", about, None, fits, dg.AssetCheckSeverity.WARN)


asset_checks = [
    *map(_schema_check, TABLE_ASSETS),
    *map(_row_check, TABLE_ASSETS),
    *map(_word_check, (language.item_descriptions, language.user_profiles, language.reasoning_labels)),
    _check(
        interactions.interaction_windows,
        "target_not_in_own_history",
        "No target stands in its own history or profile, where its label would be read off.",
        """SELECT count(*) FILTER (list_contains(history_item_ids, target_item_id)) AS in_history,
                  count(*) FILTER (list_contains(profile_item_ids, target_item_id)) AS in_profile FROM read_parquet($path)""",
        lambda f: f["in_history"] == 0 and f["in_profile"] == 0,
    ),
    _check(
        interactions.interaction_windows,
        "one_row_per_user_and_split",
        "Under leave-last-out no user has two rows in a split.",
        "SELECT count(*) - count(DISTINCT (split, user_id)) AS repeated FROM read_parquet($path)",
        lambda f: f["repeated"] == 0,
    ),
    _check(
        student.sft_splits,
        "label_balance",
        "Training and test rows hold both classes; with one alone there is nothing to learn, or no AUC.",
        """SELECT avg(label::int) FILTER (split = 'train') AS train_liked_share,
                  avg(label::int) FILTER (split = 'test') AS test_liked_share FROM read_parquet($path)""",
        lambda f: all(0 < share < 1 for share in f.values()),
    ),
    _check(
        evaluation.evaluation_metrics,
        "coverage",
        "Every method scored the whole test population.",
        "SELECT min(value) AS least_coverage FROM read_parquet($path) WHERE metric = 'coverage'",
        lambda f: f["least_coverage"] == 1,
    ),
]
