"""Asset checks: what must hold of a published partition and the tables it was made from, with its figures as metadata."""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from reasoningrec_assets import sql
from reasoningrec_assets.assets import evaluation, language, student
from reasoningrec_assets.assets.interactions import interaction_windows, item_reviews
from reasoningrec_assets.assets.materialize import sync_catalogue
from reasoningrec_assets.datasets import probes, registry
from reasoningrec_assets.lake.receipts import CheckReceipt
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.metrics.probes import label_from_text
from reasoningrec_assets.resources.lake import LakeResource

_EVALUATED = (*evaluation.STAGES, *evaluation.METHODS.values(), evaluation.evaluation_metrics)
MOST_OVER_LIMIT = 0.1
_WARN = dg.AssetCheckSeverity.WARN
TABLE_ASSETS = tuple(asset for asset in _EVALUATED if asset.key.path[-1] in TABLES)
_SQL = sql.statements(__file__)

_HOLDS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
_HOLDS |= {name: query.splitlines()[0][3:] for name, query in probes.FORBIDDEN.items()}


def _check(
    asset: dg.AssetsDefinition,
    name: str,
    query: str | None,
    passes: Callable[[Mapping[str, float]], bool] = lambda figures: not any(figures.values()),
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
    sides: tuple[str, ...] = (),
) -> dg.AssetChecksDefinition:
    """A check on the one row of a query, on what a classifier learns of `sides` in its rows, or on the receipt's figures.

    The query's values are `$path`, the partition's file, by asset all that it was made from, and what else is `known`.
    """

    @dg.asset_check(asset=asset, name=name, description=_HOLDS[name])
    def check(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
        opened = lake.open()
        receipt = opened.newest(asset.key.to_user_string(), context.partition_key, wanted_by=f"the check {name}")
        known: dict[str, Any] = {made.asset: opened.path_of(made) for made in opened.receipts.ancestry([receipt])}
        known |= {"path": opened.path_of(receipt), "declared": TABLES[asset.key.path[-1]].column_names}
        known |= {"cuts": registry.get(context.partition_key).cuts, "targets_per_user": 1, **receipt.metrics}
        rows = sql.query(query, **known).to_pylist() if query else [receipt.metrics]
        figures = {figure: float(value or 0) for figure, value in (label_from_text(rows, *sides) if sides else rows[0]).items()}
        passed = passes(figures)
        of = {"asset": receipt.asset, "partition": receipt.partition, "data_version": receipt.data_version}
        outcome = {"check": name, "passed": passed, "severity": severity.value, "metrics": figures, "details": {}}
        opened.receipts.append(CheckReceipt(**of, **outcome, run_id=context.run.run_id, at=datetime.now(UTC).isoformat()))
        sync_catalogue(opened, context.log.info)
        return dg.AssetCheckResult(passed=passed, severity=severity, metadata=dict(figures))

    return check


def _table_checks(asset: dg.AssetsDefinition) -> Iterator[dg.AssetChecksDefinition]:
    key = ", ".join(TABLES[asset.key.path[-1]].key)
    yield _check(asset, "schema", _SQL["columns"])
    counts = f"SELECT count(*) AS rows, count(*) - count(DISTINCT ({key})) AS repeated_keys FROM read_parquet($path)"
    yield _check(asset, "rows", counts, lambda f: f["rows"] > 0 and f["repeated_keys"] == 0)


asset_checks = [
    *(check for asset in TABLE_ASSETS for check in _table_checks(asset)),
    *(
        _check(asset, "word_limit", None, lambda f: f["generation_over_word_limit_share"] <= MOST_OVER_LIMIT, _WARN)
        for asset in (language.item_descriptions, language.user_profiles, language.reasoning_labels)
    ),
    *(_check(interaction_windows, name, query) for name, query in probes.FORBIDDEN.items()),
    _check(
        interaction_windows, "repeated_test_rows", probes.REPEATED_TEST_ROWS, lambda f: f["repeated_test_share"] <= 0.01, _WARN
    ),
    _check(item_reviews, "no_review_of_a_target", probes.TARGET_REVIEWS),
    _check(item_reviews, "leak_safe", None, lambda f: f["leak_safe"] == 1, _WARN),
    _check(
        language.item_descriptions,
        "description_without_own_review",
        probes.TARGET_DESCRIPTIONS,
        lambda f: f.get("lead_low", 0) <= 0.05,
        sides=("single_rater", "others"),
    ),
    _check(
        language.reasoning_labels,
        "first_half_without_label",
        probes.FIRST_HALVES,
        lambda f: f.get("auc_all_low", 0) <= 0.6,
        _WARN,
        sides=("all",),
    ),
    _check(student.sft_splits, "label_balance", _SQL["balance"], lambda f: all(0 < share < 1 for share in f.values())),
    _check(evaluation.evaluation_metrics, "coverage", _SQL["coverage"], lambda f: f["least_coverage"] == 1),
]
