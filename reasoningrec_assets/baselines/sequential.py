"""SASRec (Kang and McAuley 2018) and Caser (Tang and Wang 2018) as models of clicks, with their papers' sizes.

A history is a sequence of items, each with what the user thought of it; the answer is one logit for the target. The
published comparison applied a sigmoid twice and mixed users in a batch: here the loss takes logits, and a row is one user's.
"""

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from reasoningrec_assets.baselines.features import SQL, Made, Task, predictions_table, taught
from reasoningrec_assets.sql import query

WIDTH, HORIZONTAL, VERTICAL = 50, 16, 4  # of an embedding; Caser's filters
EVENTS, EPOCHS, STEPS, BATCH, RATE, DROPOUT = 100_000, 30, 8_000, 128, 1e-3, 0.2  # at most so many events, epochs and steps


class _SASRec(nn.Module):
    """Two blocks of causal self-attention with one head; the last place's output is held against the target."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.places = nn.Embedding(length, WIDTH)
        block = nn.TransformerEncoderLayer(WIDTH, 1, WIDTH, DROPOUT, batch_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)

    def forward(self, shown: Any, target: Any, padding: Any) -> Any:
        causal = nn.Transformer.generate_square_subsequent_mask(shown.shape[1])
        # not minus infinity: a place that sees nothing but padding would get no number, and spoil the gradient of all
        unseen = padding * causal.new_tensor(-1e9)
        states = self.blocks(shown + self.places.weight, mask=causal, src_key_padding_mask=unseen)
        return (states[:, -1] * target).sum(1)


class _Caser(nn.Module):
    """Filters over runs of places and over columns of the embedding, then a dense layer."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.runs = nn.ModuleList(nn.Conv2d(1, HORIZONTAL, (size, WIDTH)) for size in range(1, length + 1))
        self.columns = nn.Conv2d(1, VERTICAL, (length, 1))
        self.dense = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(HORIZONTAL * length + VERTICAL * WIDTH, WIDTH), nn.ReLU())

    def forward(self, shown: Any, target: Any, padding: Any) -> Any:
        image = (shown * ~padding[..., None])[:, None]
        runs = [torch.relu(filters(image)).amax(dim=(2, 3)) for filters in self.runs]
        return (self.dense(torch.cat([*runs, self.columns(image).flatten(1)], 1)) * target).sum(1)


def _trained(task: Task, kind: type[_SASRec] | type[_Caser]) -> Made:
    windows, events = task.tables["interaction_windows"], task.tables["cleaned_interactions"]
    sql = SQL["histories" if "sft_splits" in task.tables else "sequences"].format(**SQL)
    table = query(sql, windows=windows, interactions=events, cut=task.cut, most=EVENTS)
    rows = table.to_pylist()
    known = {item for row in rows for item in (row["target_item_id"], *row["history_item_ids"])}
    numbers = {item: number for number, item in enumerate(sorted(known), 1)}
    length = max((len(row["history_item_ids"]) for row in rows), default=0) or 1
    shown, thought = torch.zeros(len(rows), length, dtype=torch.long), torch.zeros(len(rows), length, dtype=torch.long)
    for place, row in enumerate(rows):
        if history := [numbers[item] for item in row["history_item_ids"]]:
            shown[place, -len(history) :] = torch.tensor(history)
            thought[place, -len(history) :] = torch.tensor([1 + liked for liked in row["history_liked"]])
    target = torch.tensor([numbers[row["target_item_id"]] for row in rows])
    labels = torch.tensor([float(row["label"]) for row in rows])
    torch.manual_seed(task.seed)
    items, opinions, bias = nn.Embedding(len(numbers) + 1, WIDTH), nn.Embedding(3, WIDTH), nn.Embedding(len(numbers) + 1, 1)
    nn.init.zeros_(bias.weight)
    model = nn.ModuleList([kind(length), items, opinions, bias])

    def logits(chosen: Any) -> Any:
        seen = items(shown[chosen]) + opinions(thought[chosen])
        return model[0](seen, items(target[chosen]), shown[chosen] == 0) + bias(target[chosen])[:, 0]

    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    learned = torch.from_numpy(np.flatnonzero(taught(task, table)))
    for _ in range(min(EPOCHS, STEPS * BATCH // (len(learned) or 1) + 1)):
        for batch in learned[torch.randperm(len(learned))].split(BATCH):
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(logits(batch), labels[batch]).backward()
            optimizer.step()
    model.eval()
    asked = np.flatnonzero(table["split"].to_numpy() != "train")
    with torch.inference_mode():
        parts = [logits(part).double() for part in torch.from_numpy(asked).split(4096)] if len(asked) else [torch.empty(0)]
    return predictions_table(task, table.take(pa.array(asked)), torch.cat(parts).numpy()), {"train_rows": float(len(learned))}


sasrec, caser = partial(_trained, kind=_SASRec), partial(_trained, kind=_Caser)  # their logit of the target after the history
