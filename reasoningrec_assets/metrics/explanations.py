"""What explanations state, name and copy, and how near they come to the teacher's; the rules of words are in SQL."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reasoningrec_assets.metrics.intervals import Floats, Interval, mean_interval
from reasoningrec_assets.metrics.text import BertScore, deranged
from reasoningrec_assets.sql import Connection, connect, execute, query, statements

# The name of a metric, its value, and the number of rows that it is computed on.
Row = tuple[str, float | Interval | None, int]
_SQL = statements(__file__)


@dataclass(frozen=True)
class Texts:
    """What explanations are held against; without an encoder there is no BERTScore."""

    items: Path
    prompts: Mapping[str, Path]  # by method the `sft_splits` that it was asked with; one that is not known is left out
    references: Path  # `reasoning_labels`
    encoder: BertScore | None = None


def flagged(predictions: Sequence[Path], windows: Path, texts: Texts) -> Connection:
    """A connection with the table ``flags``: what the words of every explained test row say, by method, user and item.

    ``stated``: whether it says that the target is liked, null where it does not say. ``titles_not_shown``: titles of the
    catalogue that it names though they are neither target nor history; ``titles_unknown``: what it quotes as a title that is
    none. ``copied``: the share of its runs of four words that stand in the prompt that the method saw, null where none is known.
    """
    on = connect()
    on.execute(_SQL["macros"])
    tables = {"predictions": predictions, "windows": windows, "items": texts.items}
    for method, path in texts.prompts.items():
        execute(_SQL["prompts"], on=on, predictions=predictions, method=method, path=path)
    on.register("flags", query(_SQL["flags"], on=on, **tables))
    return on


def explanation_figures(method: str, flags: Connection, texts: Texts, draws: Mapping[str, int]) -> Iterator[Row]:
    """A method's texts by `flagged`, and against the teacher's: ROUGE-L and BERTScore, beside two floors.

    One that was asked for and came back empty scores 0. The floors: the teacher's reasoning about another row, and a template's.
    """
    for row in query(_SQL["figures"], on=flags, method=method, references=texts.references).to_pylist():
        yield row["metric"], row["value"], row["n"]
    pairs = query(_SQL["pairs"], on=flags, method=method, references=texts.references)
    users, written, own, template = (pairs[name].to_pylist() for name in ("user_id", "text", "reference", "template"))
    measured: dict[str, Sequence[float] | Floats] = {"rouge_l": rouge_l(written, own)}
    measured["rouge_l_template_floor"] = rouge_l(template, own)
    if texts.encoder:
        # A single row has no other row's reference to be held against, and so no floor.
        shuffled = [own[row] for row in deranged(len(own), draws["seed"])]
        score = texts.encoder.score
        measured |= {f"bertscore_{metric}": values for metric, values in score(written, own)._asdict().items()}
        measured["bertscore_f1_shuffled_floor"] = score(written[: len(shuffled)], shuffled).f1
        measured["bertscore_f1_template_floor"] = score(template, own).f1
    for metric, values in measured.items():
        yield metric, mean_interval(values, groups=users[: len(values)], **draws), len(values)


def swapped_figures(predictions: Path, windows: Path, draws: Mapping[str, int]) -> Iterator[Row]:
    """How far an answer depends on the user: what changed in the rows that were asked again with another user's history.

    ``swapped_score_change``: mean absolute difference of the log-odds. ``swapped_rouge_l``: likeness of the two texts, where
    both predict the same label, which would change the text by itself; 1 says that the reasons are about no user at all.
    """
    rows = query(_SQL["swapped"], predictions=predictions, windows=windows)
    alike = rows.filter(rows["same_label"])
    texts = rouge_l(alike["explanation"].to_pylist(), alike["swapped_explanation"].to_pylist())
    for metric, found, values in (("swapped_score_change", rows, rows["change"].to_pylist()), ("swapped_rouge_l", alike, texts)):
        if values:
            yield metric, mean_interval(values, groups=found["user_id"].to_pylist(), **draws), len(values)


def rouge_l(candidates: Sequence[str], references: Sequence[str]) -> list[float]:
    """ROUGE-L of each pair (Lin 2004): the F1 of their longest common subsequence of words; 0 where either has none."""
    from rapidfuzz.distance import LCSseq

    words = [[re.findall(r"[^\W_]+", text.lower()) for text in texts] for texts in (candidates, references)]
    return [2 * LCSseq.similarity(one, other) / max(len(one) + len(other), 1) for one, other in zip(*words, strict=True)]
