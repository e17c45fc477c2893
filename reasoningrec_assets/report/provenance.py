"""What a report was made from: the upstream walk over the receipts that were really read, and the adapter's manifest.

What doesn't belong here: reading tables (`gather`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reasoningrec_assets.lake.receipts import Receipt
from reasoningrec_assets.lake.steps import MANIFEST, Lake


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


def training_curve(adapter: Path) -> list[dict[str, Any]]:
    """The epochs that an adapter's manifest records: ``epoch``, ``train_loss`` and ``valid_auc``."""
    return json.loads((adapter / MANIFEST).read_text(encoding="utf-8"))["epochs"]
