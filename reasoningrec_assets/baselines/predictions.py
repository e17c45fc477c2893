"""The step that all baselines end with: scores become rows of the `predictions` table.

What belongs here: the table's form. What doesn't: any model.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reasoningrec_assets.lake.schemas import PREDICTIONS


def predictions_table(dataset_name: str, method: str, rows: pa.Table, scores: NDArray[np.float64]) -> pa.Table:
    """Rows of `predictions` for a method without explanations.

    Args:
        dataset_name: The dataset partition.
        method: Name of the method.
        rows: split, user_id, target_item_id and label of each row.
        scores: Log-odds of liking, finite, shape (rows,).
    """
    return pa.table(
        {
            "dataset": pa.array([dataset_name] * rows.num_rows, pa.string()),
            "method": pa.array([method] * rows.num_rows, pa.string()),
            **{name: rows[name] for name in ("split", "user_id", "target_item_id", "label")},
            "score": scores,
            # tanh form of the logistic function: exact at 0, and it can't overflow.
            "probability": 0.5 * (1.0 + np.tanh(0.5 * scores)),
            "explanation": pa.nulls(rows.num_rows, pa.string()),
        },
        schema=PREDICTIONS.arrow(),
    )
