"""What a report was made from, and what that took: the upstream walk over the receipts that were really read.

What belongs here: receipts to the plain rows that the page shows. What doesn't: reading tables (`gather`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from reasoningrec_assets.lake.receipts import Receipt
from reasoningrec_assets.lake.steps import MANIFEST, Lake
from reasoningrec_assets.report.gather import Cost, Epoch, Version


def upstream_receipts(lake: Lake, receipts: Mapping[str, Receipt]) -> list[Receipt]:
    """Every receipt that the given ones were made from, themselves included, each once, sources first."""
    found: dict[str, Receipt] = {}

    def visit(receipt: Receipt) -> None:
        name = f"{receipt.asset}/{receipt.sequence}"
        if name in found:
            return
        for edge in receipt.upstream:
            visit(lake.receipts.at(edge.asset, edge.partition, edge.sequence))
        found[name] = receipt

    for receipt in receipts.values():
        visit(receipt)
    return list(found.values())


def costs(receipts: list[Receipt]) -> list[Cost]:
    """Seconds, generated tokens and cache hits of each step."""
    return [
        Cost(
            receipt.asset,
            receipt.seconds,
            _whole(receipt, "generation_completion_tokens"),
            _whole(receipt, "generation_cache_hits"),
        )
        for receipt in receipts
    ]


def versions(receipts: list[Receipt]) -> list[Version]:
    """The data version of each step."""
    return [Version(receipt.asset, receipt.data_version or "") for receipt in receipts]


def training_curve(adapter: Path) -> list[Epoch]:
    """The epochs that an adapter's manifest records."""
    manifest = json.loads((adapter / MANIFEST).read_text(encoding="utf-8"))
    return [Epoch(epoch["epoch"], epoch["train_loss"], epoch["valid_auc"]) for epoch in manifest["epochs"]]


def _whole(receipt: Receipt, metric: str) -> int | None:
    return int(receipt.metrics[metric]) if metric in receipt.metrics else None
