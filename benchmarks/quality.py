"""The student's AUC on ml100k beside the floors, on all 943 users, K=256: one seed here, every variant and seed in the grid.

`python -m benchmarks.quality VARIANT:SEED ...` trains what is named and is not there yet, and writes `results/quality-grid.json`
of all that is; a killed training goes on at its last checkpoint. What a student predicted is kept in `results/quality/` as
scores alone, in the order of the rows that the same seed draws again: MovieLens may not be passed on.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import CACHE, RESULTS, Figure, write_result
from benchmarks.inputs import MODEL, tables
from reasoningrec_assets import compute
from reasoningrec_assets.baselines.feature_models import logistic_regression, stack
from reasoningrec_assets.baselines.features import Made, Task
from reasoningrec_assets.baselines.like_rate import like_rate
from reasoningrec_assets.baselines.matrix_factorisation import matrix_factorisation
from reasoningrec_assets.datasets import registry
from reasoningrec_assets.lake.steps import code_version
from reasoningrec_assets.metrics.comparison import delong
from reasoningrec_assets.metrics.ranking import auc, auc_interval
from reasoningrec_assets.models import store
from reasoningrec_assets.models.adapters import with_adapter
from reasoningrec_assets.prompts.chat import Chat
from reasoningrec_assets.settings import SamplingSettings, TrainingSettings
from reasoningrec_assets.training.checkpoints import Checkpoints
from reasoningrec_assets.training.encode import EncodedRow, encode_rows
from reasoningrec_assets.training.lora import train_adapter
from reasoningrec_assets.training.scoring import label_log_odds
from reasoningrec_assets.training.student import build_splits
from reasoningrec_assets.training.variants import VARIANTS, Variant

FOLDER, KEPT = CACHE / "quality", RESULTS / "quality"
KEY = ["split", "user_id", "target_item_id"]
K, STOPPING_ROWS, TOKENS = 256, 256, 4096
# after a variant's name: trained on its rows with their answers dealt anew, or not at all, it can have learnt nothing here
SHUFFLED, UNTRAINED = "+shuffled", "+untrained"
SETTINGS = TrainingSettings(
    base_model=MODEL,
    lora_rank=8,
    lora_alpha=16,
    lora_dropout=0.0,  # it costs a tenth of the time, and guards against rows seen again: in one epoch none is
    target_modules=["q_proj", "v_proj"],
    learning_rate=1e-3,
    batch_size=8,
    tokens_per_micro_batch=2048,
    epochs=4,
    patience=2,
    max_tokens=2048,
    seed=0,
)


def run(quick: bool) -> list[Figure]:
    if quick:
        raise SystemExit("quality trains for tens of minutes and has no quick form")
    floors = floor_methods(seed=1)
    seconds, aucs = {}, {}
    for variant in ("titles", "grounded"):
        floors |= with_stacks(variant, predictions(variant, seed=1), seed=1)
        seconds[variant] = json.loads(floors[variant].with_name("seconds.json").read_text())
    for name, path in floors.items():
        aucs[name] = test_auc(path)["auc"]
    plain, grounded = (against(floors[name], floors["like_rate"]) for name in ("titles", "grounded"))
    above = grounded["p"] if grounded["difference"] > 0 else 1.0  # the test has two sides
    best = max((name for name in floors if name.split(",")[0] in seconds), key=aucs.__getitem__)
    for floor in ("logistic_regression", "logistic_regression_mf"):
        print(f"(c) {best} against {floor}: {against(floors[best], floors[floor])}")
    return [
        Figure("plain student's AUC above the like-rate's", plain["difference"], 0.0, details=aucs | {"p": plain["p"]}),
        Figure("grounded student above the like-rate: DeLong's p", above, 0.01, at_most=True, details=grounded),
        Figure("minutes of training and scoring", sum(seconds.values()) / 60, 50, at_most=True, details=seconds),
        off_plain("titles", 1),
    ]


def given() -> dict[str, Path]:
    """The tables of ml100k that no model writes."""
    windows, items = tables()
    return {"interaction_windows": windows, "items": items, "cleaned_interactions": windows.with_name("interactions.parquet")}


class Asked(NamedTuple):
    """What a variant's student of one seed is trained on and asked, and the digest of all that decides its answers."""

    rows: dict[str, list[dict[str, Any]]]
    decided: str

    @property
    def scored(self) -> list[dict[str, Any]]:
        return self.rows["valid"] + self.rows["test"]

    def table(self, variant: str, scores: list[float]) -> pa.Table:
        rows = zip(self.scored, scores, strict=True)
        return pa.Table.from_pylist(
            [{name: row[name] for name in (*KEY, "label")} | {"method": variant, "score": score} for row, score in rows]
        )


def _variant(name: str) -> Variant:
    return VARIANTS[name.removesuffix(SHUFFLED).removesuffix(UNTRAINED)]


def asked(variant: str, seed: int) -> Asked:
    """The seed draws the K rows too. The validation rows are those of early stopping; the stacks are fitted on them."""
    known, everyone = _variant(variant), pq.read_metadata(given()["interaction_windows"]).num_rows
    if lacking := {*known.inputs} - given().keys():
        raise SystemExit(f"{variant} needs {', '.join(sorted(lacking))}, which a teacher writes: run its assets instead")
    sampling = SamplingSettings(k=K, valid_rows=everyone, explained_rows=0, seed=seed)
    splits = build_splits(registry.get("ml100k"), known, sampling, given()).table.to_pylist()
    rows = {split: [row for row in splits if row["split"] == split] for split in ("train", "valid", "test")}
    rows["valid"] = rows["valid"][:: len(rows["valid"]) // STOPPING_ROWS]
    if variant.endswith(SHUFFLED):
        answers = [row["output"] for row in rows["train"]]
        random.Random(seed).shuffle(answers)
        rows["train"] = [row | {"output": answer} for row, answer in zip(rows["train"], answers, strict=True)]
    # the rows too: a prompt in other words is another student, and so is one that other code trains
    made_by = [code_version(asset) for asset in ("lora_model", "predictions")]
    return Asked(
        rows,
        hashlib.sha256((settings_of(variant, seed).model_dump_json() + repr((variant, splits, made_by))).encode()).hexdigest(),
    )


def settings_of(variant: str, seed: int) -> TrainingSettings:
    return SETTINGS.model_copy(update={**_variant(variant).settings.get("training", {}), "seed": seed})


def predictions(variant: str, seed: int) -> Path:
    """A trained variant's predictions for its valid rows and all test rows; made once for a seed on a machine."""
    wanted = asked(variant, seed)
    folder = FOLDER / f"{variant}-{seed}-{wanted.decided[:8]}"
    path = folder / "predictions.parquet"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    base = store.resolve(MODEL, CACHE)
    chat = Chat(store.load_tokenizer(base))
    encoded = {split: encode_rows(found, chat, max_tokens=SETTINGS.max_tokens) for split, found in wanted.rows.items()}
    settings, trained = settings_of(variant, seed), folder / "training-seconds.json"
    with compute.lease() as device:
        about = {"variant": variant, "settings": settings.model_dump(), "decided": wanted.decided}
        adapter = None if variant.endswith(UNTRAINED) else folder / "adapter"
        if adapter is None:
            trained.write_text("0")
        elif not trained.exists():
            shutil.rmtree(adapter, ignore_errors=True)  # of a kill while it was saved
            progress = train_adapter(
                encoded["train"],
                encoded["valid"] if settings.epochs > 1 else [],  # of one epoch there is none to choose
                base=base,
                chat=chat,
                settings=settings,
                tokens_per_batch=TOKENS,
                device=device,
                folder=adapter,
                checkpoints=Checkpoints(folder / "checkpoints", about, print),
            )
            trained.write_text(json.dumps(progress.seconds))  # those before a kill too
        began = time.monotonic()
        model = store.load_causal_model(base, device.dtype, device.torch_name)
        model = model if adapter is None else with_adapter(model, adapter)
        both = encoded["valid"] + encoded["test"]
        scores = label_log_odds(model, both, chat.label_tokens(), tokens_per_batch=TOKENS, device=device.torch_name)
    (folder / "seconds.json").write_text(json.dumps(json.loads(trained.read_text()) + time.monotonic() - began))
    pq.write_table(wanted.table(variant, scores), path.with_suffix(".tmp"))
    path.with_suffix(".tmp").rename(path)
    return path


def off_plain(variant: str, seed: int) -> Figure:
    """The AUC of a trained student's scores, in bf16 where the machine computes in it, beside that of a plain fp32 pass."""
    path, wanted = predictions(variant, seed), asked(variant, seed)  # trained already by `run`
    test = pq.read_table(path).slice(len(wanted.rows["valid"])).to_pylist()
    chat = Chat(store.load_tokenizer(store.resolve(MODEL, CACHE)))
    rows = encode_rows(wanted.rows["test"], chat, max_tokens=SETTINGS.max_tokens)
    plain = plain_log_odds(rows, path.with_name("adapter"))
    labels, scores = [row.label for row in rows], [row["score"] for row in test]
    found, expected = auc(labels, scores), auc(labels, plain)
    details = {"rows": len(rows), "AUC": found, "in fp32": expected, "deviation of log-odds": statistics.pstdev(plain)}
    details["largest difference of log-odds"] = max(abs(one - other) for one, other in zip(scores, plain, strict=True))
    return Figure(
        "difference of a student's AUC to a plain fp32 pass", abs(found - expected), 0.002, at_most=True, details=details
    )


def plain_log_odds(rows: Sequence[EncodedRow], adapter: Path | None = None) -> list[float]:
    """Yes against No in fp32 by transformers and peft alone: a forward pass for each row."""
    import peft
    import torch
    import transformers

    base = store.resolve(MODEL, CACHE)
    labels = Chat(store.load_tokenizer(base)).label_tokens()
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        model = peft.PeftModel.from_pretrained(model, str(adapter))
    model.eval()
    found = []
    with torch.inference_mode():
        for row in rows:
            last = model(torch.tensor([[*row.prompt, *labels.prefix]]), logits_to_keep=1).logits[0, -1]
            found.append(float(last[list(labels.yes)].logsumexp(0) - last[list(labels.no)].logsumexp(0)))
    return found


def keep(variant: str, seed: int) -> None:
    """Train what `results/quality/` does not hold yet, and put its scores there."""
    kept, decided = KEPT / f"{variant}-{seed}.json", asked(variant, seed).decided
    if kept.exists() and json.loads(kept.read_text())["decided"] == decided:
        return
    path = predictions(variant, seed)
    found = {
        "decided": decided,
        "seconds": json.loads(path.with_name("seconds.json").read_text()),
        "scores": [round(score, 5) for score in pq.read_table(path)["score"].to_pylist()],
    }
    KEPT.mkdir(exist_ok=True)
    kept.write_text(json.dumps(found) + "\n", encoding="utf-8")


def kept(path: Path) -> Path:
    """The predictions whose scores lie at `path`, as a table again; refused where they answer other prompts than today's."""
    (variant, seed), found = path.stem.split("-"), json.loads(path.read_text())
    wanted = asked(variant, int(seed))
    if wanted.decided != found["decided"]:
        raise SystemExit(
            f"{path} was scored on other prompts or settings, or by older code: run python -m benchmarks.quality {variant}:{seed}"
        )
    made = FOLDER / f"{path.stem}.parquet"
    pq.write_table(wanted.table(variant, found["scores"]), made)
    return made


def floor_methods(seed: int) -> dict[str, Path]:
    """What a student of this seed is held against; a factorisation begins at random."""
    floors = {one.__name__: made(one, seed=seed) for one in (like_rate, matrix_factorisation, logistic_regression)}
    return floors | {"logistic_regression_mf": made(logistic_regression, factors=True, seed=seed)}


class Words(NamedTuple):
    """What a regression without a language model knows of the prompts of `titles`: the target's words, the history's like-rate."""

    train: np.ndarray
    labels: list[bool]
    scored: np.ndarray

    @classmethod
    def of(cls, wanted: Asked) -> Words:
        from sklearn.feature_extraction.text import CountVectorizer

        def told(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[float]]]:
            halves = [row["input"].split("Target movie:") for row in rows]
            return [target for _, target in halves], [
                [history.count("\n- liked:") / history.count("\n- ")] for history, _ in halves
            ]

        (words, rates), (others, their_rates) = told(wanted.rows["train"]), told(wanted.scored)
        counted = CountVectorizer(min_df=10).fit(words)
        return cls(
            np.hstack([counted.transform(words).toarray(), rates]),
            [row["label"] for row in wanted.rows["train"]],
            np.hstack([counted.transform(others).toarray(), their_rates]),
        )

    def scores(self, labels: Sequence[bool]) -> list[float]:
        """Log-odds of the valid and test rows, by a regression that was told these answers to the train rows."""
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(max_iter=1000).fit(self.train, labels).decision_function(self.scored).tolist()


def words_regression(seed: int) -> Path:
    """The predictions of a regression on the words of the rows that `titles` of this seed is trained on."""
    wanted, path = asked("titles", seed), FOLDER / f"words-{seed}.parquet"
    words = Words.of(wanted)
    pq.write_table(wanted.table("words", words.scores(words.labels)), path)
    return path


def dealt_anew(seed: int, count: int = 200) -> dict[str, float]:
    """Where that regression's test AUC ends when it is told answers that were dealt anew, over as many dealings.

    All of them learnt nothing, and yet each orders the test rows in some direction, which the dealing decides: an interval
    over test users does not hold that. So a student on shuffled answers is held against this range.
    """
    wanted = asked("titles", seed)
    words, test = Words.of(wanted), len(wanted.rows["test"])
    truth, found = [row["label"] for row in wanted.rows["test"]], []
    for dealing in range(count):
        labels = list(words.labels)
        random.Random(dealing).shuffle(labels)
        found.append(auc(truth, words.scores(labels)[-test:]))
    low, median, high = np.percentile(found, [2.5, 50, 97.5]).tolist()
    return {"dealings": count, "low": low, "median": median, "high": high}


def made(method: Callable[[Task], Made], *, seed: int, factors: bool = False, **more: Path) -> Path:
    """The predictions of a baseline; a stack is given a student's as `predictions`."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{method.__name__}-{hashlib.sha256(repr((factors, seed, more)).encode()).hexdigest()[:8]}.parquet"
    pq.write_table(method(Task("ml100k", method.__name__, given() | more, factors=factors, seed=seed))[0], path)
    return path


def with_stacks(name: str, path: Path, seed: int) -> dict[str, Path]:
    """A student's predictions, and those of the two stacks on them, by name."""
    stacks = {"stack": False, "stack_mf": True}
    return {name: path} | {
        f"{name}, {way}": made(stack, factors=factors, seed=seed, predictions=path) for way, factors in stacks.items()
    }


def averaged(name: str, paths: Sequence[Path]) -> Path:
    """The mean of several seeds' log-odds for each row: what as many students say together."""
    rows = [pq.read_table(path).sort_by([(key, "ascending") for key in KEY]) for path in paths]
    assert all(one.select(KEY) == rows[0].select(KEY) for one in rows)
    means = np.mean([one["score"].to_numpy() for one in rows], axis=0)
    path = FOLDER / f"{name}.parquet"
    pq.write_table(rows[0].drop_columns("score").append_column("score", pa.array(means)), path)
    return path


def _test_rows(path: Path) -> dict[str, list]:
    table = pq.read_table(path)
    rows = sorted(
        (row for row in table.to_pylist() if row["split"] == "test"), key=lambda row: (row["user_id"], row["target_item_id"])
    )
    return {name: [row[name] for row in rows] for name in ("user_id", "label", "score")}


def test_auc(path: Path) -> dict[str, float]:
    rows = _test_rows(path)
    found = auc_interval(rows["label"], rows["score"], groups=rows["user_id"])
    return {"auc": found.value, "low": found.low, "high": found.high, "rows": len(rows["label"])}


def against(one: Path, other: Path) -> dict[str, float]:
    """DeLong's paired test on the test rows."""
    mine, floor = _test_rows(one), _test_rows(other)
    assert mine["user_id"] == floor["user_id"]
    return delong(mine["label"], mine["score"], floor["score"])._asdict()


def measured(path: Path, floors: dict[str, Path]) -> dict[str, Any]:
    """A method's AUC, and DeLong's tests against every floor."""
    return test_auc(path) | {f"against_{floor}": against(path, made_by) for floor, made_by in floors.items()}


def grid(wanted: list[str]) -> None:
    for name in wanted:
        variant, seed = name.split(":")
        keep(variant, int(seed))
    figures: dict[str, dict[str, Any]] = {}
    aucs: dict[str, list[float]] = {}
    seeds: dict[str, list[Path]] = {}
    floors: dict[str, dict[str, Path]] = {}
    for scores in sorted(KEPT.glob("*.json")):
        (variant, seed), path = scores.stem.split("-"), kept(scores)
        seeds.setdefault(variant, []).append(path)
        ways = with_stacks(variant, path, int(seed))
        if seed not in floors:
            floors[seed] = floor_methods(int(seed)) | {"words": words_regression(int(seed))}
            ways = floors[seed] | ways
        for name, found in ways.items():
            figures[f"{name}, seed {seed}"] = measured(found, floors[seed])
            aucs.setdefault(name, []).append(figures[f"{name}, seed {seed}"]["auc"])
        if variant.endswith(SHUFFLED):
            untrained = scores.with_name(scores.name.replace(SHUFFLED, UNTRAINED))
            figures[f"{variant}, seed {seed}"] |= {
                "dealt_anew": dealt_anew(int(seed)),
                "against_untrained": against(path, kept(untrained)) if untrained.exists() else None,
            }
        figures[f"{variant}, seed {seed}"]["seconds"] = json.loads(scores.read_text())["seconds"]
    for variant, paths in seeds.items():
        if len(paths) > 1:  # what was tried, too: several students of a variant together
            name = f"{variant}, mean of {len(paths)} seeds"
            together = with_stacks(name, averaged(name, paths), int(min(floors)))
            figures |= {way: measured(found, floors[min(floors)]) for way, found in together.items()}
    means = {name: statistics.mean(found) for name, found in aucs.items()}
    about = "Every variant and seed of the student, K=256, all 943 users: `python -m benchmarks.quality VARIANT:SEED ...`."
    settings = {variant: settings_of(variant, 1).model_dump(exclude={"seed"}) for variant in sorted(seeds)}
    write_result("quality-grid", {"about": about, "settings": settings, "mean_auc": means, "figures": figures})
    print(json.dumps({"mean_auc": means, "figures": figures}, indent=1))


if __name__ == "__main__":
    grid(sys.argv[1:])
