"""Recommendations with reasons: a source's candidates, scored by the student, the best of them explained and checked."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from reasoningrec_assets.datasets.registry import Dataset
from reasoningrec_assets.datasets.windows import window_name
from reasoningrec_assets.errors import Log, PermanentError
from reasoningrec_assets.lake.files import sha256_file, sha256_json
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.lake.steps import Inputs, Output, verify
from reasoningrec_assets.lake.tables import read_rows
from reasoningrec_assets.metrics.explanations import Texts, flagged
from reasoningrec_assets.metrics.ranking import checked
from reasoningrec_assets.prompts.context import Context, load_context
from reasoningrec_assets.prompts.render import student_record
from reasoningrec_assets.settings import RecommendationSettings
from reasoningrec_assets.sql import query, statements
from reasoningrec_assets.training.student import STUDENT_TEMPLATES, Answering, probability

_SQL = statements(__file__)
SOURCES = ("popular", "co_liked")
_ROWS_TOGETHER = 1280  # about so many are scored, explained and checked at once: what bounds the memory
Row = dict[str, Any]
Opening = Callable[[], AbstractContextManager[tuple[Answering, str]]]


def source_identity(source: str) -> str:
    """What decides the candidates of a source: its name, or a table's content; PermanentError where it is neither."""
    import duckdb

    if source in SOURCES:
        return source
    try:
        query("SELECT user_id, item_id FROM read_parquet($source) LIMIT 0", source=Path(source))
    except duckdb.Error as error:
        known = f"it is none of {', '.join(SOURCES)}, and no Parquet file with user_id and item_id"
        told = {"problem": f"{known} ({str(error).splitlines()[0]})", "remedy": "Correct recommendations.source"}
        raise PermanentError("find candidates", where=source, **told) from error
    return sha256_file(Path(source))


def recommend(
    dataset: Dataset, inputs: Inputs, settings: RecommendationSettings, decided: Any, student: Opening, *, anew: bool, log: Log
) -> Output:
    """Rows of ``recommendations``: the best ``top`` of each user's candidates, the first ``explained`` of them with a reason.

    A candidate is never an item that the user has rated. A user whose events and profile, and all that is `decided` besides,
    are those of the newest ``recommendations`` keeps its rows and costs nothing: the student is opened for the others alone,
    or for all that are asked for where it is `anew`. Who is not asked for and has rows that were made otherwise loses them.
    """
    values: Row = {**settings.model_dump(), "events": inputs["cleaned_interactions"], "items": inputs["items"]}
    values |= {"history_length": dataset.history_length, "profiles": inputs["user_profiles"]}
    if settings.source not in SOURCES:
        values["candidates"] = 2**31  # a table's are all wanted
    people: list[Row] = query(_SQL["users"], **values).to_pylist()
    made_from = {row["user_id"]: sha256_json([decided, inputs.of("lora_model").data_version, row]) for row in people}
    wanted = {*settings.users} or made_from.keys()
    newest = inputs.lake.receipts.newest("recommendations", dataset.name)
    before: list[Row] = read_rows(inputs.lake.path_of(newest)) if newest and verify(inputs.lake, newest) else []
    known: set[str] = {row["item_id"] for row in read_rows(inputs["items"], ["item_id"])}
    old = {row["user_id"] for row in before if row["item_id"] not in known or made_from.get(row["user_id"]) != row["made_from"]}
    gone = old | {*wanted} if anew else old
    rows = [row for row in before if row["user_id"] not in gone]
    values["users"] = asked = sorted((wanted & made_from.keys()) - {row["user_id"] for row in rows})
    kept, lost = len(wanted) - len(asked), len(old - {*asked})
    log(f"{kept} of {len(wanted)} users have no new event and keep their rows; {lost} not asked for lose theirs, made otherwise")
    if unknown := sorted(wanted - made_from.keys()):
        log(f"{len(unknown)} of the users asked for have no event, such as {unknown[0]}")
    chosen = _SQL["chosen"].format(source=_SQL[settings.source if settings.source in SOURCES else "table"])
    items = {row["user_id"]: row["item_ids"] for row in query(chosen, **values).to_pylist()}
    fresh, device = [row | {"items": items[row["user_id"]]} for row in people if row["user_id"] in items], None
    if bare := sorted({*asked} - items.keys()):
        log(f"{len(bare)} users get no row: {settings.source} has no item that they have not rated, such as for {bare[0]}")
    figures = Counter[str](users=len(made_from), users_asked=len(asked), users_unknown=len(unknown), users_let_go=lost)
    figures["users_without_candidate"] = len(bare)
    if fresh:
        context = load_context(inputs["items"], descriptions=inputs["item_descriptions"], profiles=inputs["user_profiles"])
        together = max(1, _ROWS_TOGETHER // max(len(row["items"]) for row in fresh))
        with student() as (answer, device):
            for start in range(0, len(fresh), together):
                made, told = _recommended(dataset, inputs, settings, answer, context, fresh[start : start + together])
                rows += [row | {"made_from": made_from[row["user_id"]]} for row in made]
                figures.update({name: value for name, value in told.items() if not name.endswith(("_share", "_per_second"))})
    rows.sort(key=lambda row: (row["user_id"], row["rank"]))
    return Output(TABLES["recommendations"].table(rows), dict(figures), prompts=STUDENT_TEMPLATES, device=device)


def _recommended(
    dataset: Dataset, inputs: Inputs, settings: RecommendationSettings, answer: Answering, context: Context, people: Sequence[Row]
) -> tuple[list[Row], Any]:
    """The best candidates of some users, with what `flagged` finds in their explanations, and the figures of the answers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    asked = ({**one, "target_item_id": item, "split": "test", "label": False} for one in people for item in one["items"])
    rows = [Row(row | student_record(context.window(row), kind=dataset.item_kind, liked=False, reasoning="")) for row in asked]

    def best(scores: Sequence[float]) -> list[int]:
        checked([False] * len(scores), scores, "student")
        seen = Counter[str]()
        for place in sorted(range(len(rows)), key=lambda place: (-scores[place], rows[place]["target_item_id"])):
            seen[user := rows[place]["user_id"]] += 1
            found = {"rank": seen[user], "score": scores[place], "probability": probability(scores[place])}
            rows[place] |= found | {"candidates": len(rows[place]["items"]), "dataset": dataset.name, "method": "student"}
        return [place for place, row in enumerate(rows) if row["rank"] <= settings.explained]

    _, texts, figures = answer(rows, best)
    made = [row | {"explanation": texts.get(window_name(row))} for row in rows if row["rank"] <= settings.top]
    shown = inputs.scratch / "shown.parquet"  # all that `flagged` reads of predictions, windows and prompts
    pq.write_table(pa.Table.from_pylist(made), shown)
    on = flagged([shown], shown, Texts(inputs["items"], {"student": shown}, shown))
    return query(_SQL["checked"], on=on, shown=shown).to_pylist(), figures
