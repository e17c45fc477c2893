"""Asset checks: what must hold of a published partition and the tables it was made from, with its figures as metadata."""

import itertools
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from reasoningrec_assets import sql
from reasoningrec_assets.assets import evaluation
from reasoningrec_assets.assets.materialize import sync_catalogue
from reasoningrec_assets.datasets import registry
from reasoningrec_assets.datasets.probes import FORBIDDEN, PROBES
from reasoningrec_assets.lake.receipts import CheckReceipt
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.metrics.probes import label_from_text
from reasoningrec_assets.resources.lake import LakeResource

_WARN, _ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR
_SQL = sql.statements(__file__)
_HOLDS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
_HOLDS |= {name: query.splitlines()[0][3:] for name, query in FORBIDDEN.items()}


@dataclass(frozen=True)
class _Check:
    """A check on the one row of a query, on what a classifier learns of `sides` in its rows, or on the receipt's figures.

    The query's values are `$path`, the partition's file, by asset all that it was made from, and what else is known.
    """

    name: str
    query: str | None = None
    passes: Callable[[Mapping[str, float]], bool] = lambda figures: not any(figures.values())
    severity: dg.AssetCheckSeverity = _ERROR
    sides: tuple[str, ...] = ()


_WORDS = _Check("word_limit", None, lambda f: f["generation_over_word_limit_share"] <= 0.1, _WARN)
_SAFE = _Check("leak_safe", None, lambda f: f["leak_safe"] == 1, _WARN)
_REPEATED = _Check("repeated_test_rows", PROBES["repeated_test_rows"], lambda f: f["repeated_test_share"] <= 0.01, _WARN)
_HALVES = _Check("first_half_without_label", PROBES["first_halves"], lambda f: f.get("auc_all_low", 0) <= 0.6, _WARN, ("all",))
_TOLD, _SIDES = PROBES["target_descriptions"], ("single_rater", "others")
_LEAK = _Check("description_without_own_review", _TOLD, lambda f: f.get("lead_low", 0) <= 0.05, sides=_SIDES)
_OWN = {
    "interaction_windows": [*itertools.starmap(_Check, FORBIDDEN.items()), _REPEATED],
    "item_reviews": [_Check("no_review_of_a_target", PROBES["target_reviews"]), _SAFE],
    "item_descriptions": [_WORDS, _LEAK],
    "user_profiles": [_WORDS],
    "reasoning_labels": [_WORDS, _HALVES],
    "sft_splits": [_Check("label_balance", _SQL["balance"], lambda f: all(0 < share < 1 for share in f.values()))],
    "evaluation_metrics": [_Check("coverage", _SQL["coverage"], lambda f: f["least_coverage"] == 1)],
}
_ROWS = "SELECT count(*) AS rows, count(*) - count(DISTINCT ({})) AS repeated_keys FROM read_parquet($path)"


def _checks_of(asset: dg.AssetsDefinition) -> dg.AssetChecksDefinition:
    """An asset's checks as one step: a step each took longer to start than to run. A run can leave any out."""
    table, own = TABLES[asset.key.path[-1]], _OWN.get(asset.key.to_user_string(), ())
    rows_once = _Check("rows", _ROWS.format(", ".join(table.key)), lambda f: f["rows"] > 0 and f["repeated_keys"] == 0)
    checks = [_Check("schema", _SQL["columns"]), rows_once, *own]
    specs = [dg.AssetCheckSpec(check.name, asset=asset.key, description=_HOLDS[check.name]) for check in checks]

    @dg.multi_asset_check(name="__".join([*asset.key.path, "checks"]), specs=specs, can_subset=True)
    def run_checks(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> Iterator[dg.AssetCheckResult]:
        opened = lake.open()
        receipt = opened.newest(asset.key.to_user_string(), context.partition_key, wanted_by=f"the checks of {asset.key}")
        known: dict[str, Any] = {made.asset: opened.path_of(made) for made in opened.receipts.ancestry([receipt])}
        known |= {"path": opened.path_of(receipt), "declared": table.arrow().names, "targets_per_user": 1}
        known |= {"cuts": registry.get(context.partition_key).cuts, **receipt.metrics}
        of = {name: getattr(receipt, name) for name in ("asset", "partition", "data_version")} | {"run_id": context.run.run_id}
        for check in (one for one in checks if dg.AssetCheckKey(asset.key, one.name) in context.selected_asset_check_keys):
            rows = sql.query(check.query, **known).to_pylist() if check.query else [receipt.metrics]
            found = label_from_text(rows, *check.sides) if check.sides else rows[0]
            passed = check.passes(figures := {figure: float(value or 0) for figure, value in found.items()})
            told = {"severity": check.severity.value, "metrics": figures, "details": {"holds": _HOLDS[check.name]}}
            told |= {"check": check.name, "passed": passed, "at": datetime.now(UTC).isoformat()}
            opened.receipts.append(CheckReceipt(**of, **told))
            yield dg.AssetCheckResult(passed=passed, check_name=check.name, severity=check.severity, metadata=dict(figures))
        sync_catalogue(opened, context.log.info)

    return run_checks


_EVALUATED = (*evaluation.STAGES, *evaluation.METHODS.values(), evaluation.evaluation_metrics)
asset_checks = [_checks_of(asset) for asset in _EVALUATED if asset.key.path[-1] in TABLES]
