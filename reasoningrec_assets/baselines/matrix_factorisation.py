"""Matrix factorisation with biases: who likes what, from the training events alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from reasoningrec_assets.baselines.features import SQL, Made, Task, predictions_table
from reasoningrec_assets.sql import connect, query, statements

FACTORS, EPOCHS, BATCH, RATE, DECAY = 8, 40, 8192, 0.02, 0.02
_SQL = statements(__file__)


def factorise(windows: Path | Sequence[Path], interactions: Path, *, cut: int | None = None, seed: int = 0) -> pa.Table:
    """``score``, the log-odds of liking, of every window of any split, after its split, user_id, target_item_id and label.

    Logistic factorisation: a mean, a bias per user and item, and the product of `FACTORS` factors of each, by Adam with
    weight decay on all training events (see `features.window_features`), which hold no target. ``windows`` and ``cut`` as there.
    """
    import torch

    values: dict[str, Any] = {"windows": windows, "interactions": interactions, "cut": cut}
    numbered = _SQL["numbered"].format(training_events=SQL["training_events"])
    fit, ask = (_SQL[name].format(numbered=numbered) for name in ("fit", "ask"))
    events, asked = query(fit, on=connect(threads=1), **values), query(ask, **values)
    user, item = (torch.from_numpy(events[name].to_numpy().copy()) for name in ("user_number", "item_number"))
    liked = torch.from_numpy(events["liked"].to_numpy().astype(np.float32))
    draw = torch.Generator().manual_seed(seed)
    rate = float((liked.sum() + 0.5) / (len(liked) + 1))
    mean = float(np.log(rate / (1 - rate)))
    tables = []  # of users and items: factors, and the bias in the last column
    for numbers in (user, item):
        table = 0.1 * torch.randn(int(numbers.max()) + 1 if len(numbers) else 1, FACTORS + 1, generator=draw)
        table[0], table[:, -1] = 0, 0
        tables.append(table.requires_grad_())

    def odds(users: Any, items: Any) -> Any:
        one, other = tables[0][users], tables[1][items]
        return mean + one[:, -1] + other[:, -1] + (one[:, :-1] * other[:, :-1]).sum(1)

    optimizer = torch.optim.Adam(tables, lr=RATE)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(liked), generator=draw).split(BATCH):
            held = sum((table[numbers[batch]] ** 2).sum() for table, numbers in zip(tables, (user, item), strict=True))
            found = odds(user[batch], item[batch])
            loss = torch.nn.functional.binary_cross_entropy_with_logits(found, liked[batch], reduction="sum")
            optimizer.zero_grad()
            ((loss + DECAY * held) / len(batch)).backward()
            optimizer.step()
    with torch.no_grad():
        found = odds(*(torch.from_numpy(asked[name].to_numpy().copy()) for name in ("user_number", "item_number")))
    return asked.select(["split", "user_id", "target_item_id", "label"]).append_column("score", pa.array(found.double().numpy()))


def matrix_factorisation(task: Task) -> Made:
    """The factorisation's log-odds; it knows nothing of the windows but which rows it is asked."""
    scored = factorise(task.tables["interaction_windows"], task.tables["cleaned_interactions"], cut=task.cut, seed=task.seed)
    rows = scored.filter(pa.array(scored["split"].to_numpy() != "train"))
    return predictions_table(task, rows, rows["score"].to_numpy()), {}
