"""Questions that people ask of the catalogue, on a connection that is open; nothing is changed, and nothing printed."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.sql import statements

if TYPE_CHECKING:
    import duckdb

Record = dict[str, Any]

# An AUC that may be off by more than this cannot tell methods apart: published gains are smaller.
TOO_WIDE = 0.05

_SQL = statements(__file__)
# Every asset and partition that was ever tried: its current materialization, or its last failure. Binds a partition.
CURRENT = _SQL["current"]
# What an asset and a partition were made from, indented by the steps between, and what was replaced since it was read.
UPSTREAM = _SQL["upstream"]
_SECTIONS = statements(str(Path(__file__).with_name("sections")))


def records(connection: "duckdb.DuckDBPyConnection", query: str, values: list[Any]) -> list[Record]:
    """The rows of a query as dictionaries."""
    cursor = connection.execute(query, values)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def resolve(connection: "duckdb.DuckDBPyConnection", asset: str, partition: str | None) -> tuple[str, str]:
    """The asset and its partition, by default its only one; where there is none of the name, a PermanentError lists them."""
    pairs = connection.execute("SELECT DISTINCT asset, partition FROM materializations ORDER BY ALL").fetchall()
    _choose("asset", asset, sorted({name for name, _ in pairs}))
    return asset, _choose(f"partition of {asset}", partition, [found for name, found in pairs if name == asset])


def _choose(what: str, wanted: str | None, known: list[str]) -> str:
    if wanted is None and len(known) == 1:
        return known[0]
    if wanted in known:
        return wanted
    where, problem = wanted or "--partition is missing", "there is none of this name" if wanted else "there is not exactly one"
    remedy = f"Name one of these: {', '.join(known) or 'none yet'}"
    raise PermanentError(f"find the {what} in the catalogue", where=where, problem=problem, remedy=remedy)


def materialization(connection: "duckdb.DuckDBPyConnection", asset: str, partition: str) -> dict[str, list[tuple[str, Any]]]:
    """All that is known of a current materialization, or of the last failure: (name, value) pairs by title, as shown."""
    newest = "SELECT * FROM materializations WHERE (asset, partition) = (?, ?) ORDER BY is_current DESC, sequence DESC LIMIT 1"
    (facts,) = records(connection, newest, [asset, partition])
    sections = {f"{asset}[{partition}]": [(name, value) for name, value in facts.items() if value is not None]}
    of = [asset, partition, facts["sequence"]]
    sections |= {title: connection.execute(query, of).fetchall() for title, query in _SECTIONS.items()}
    return {title: pairs for title, pairs in sections.items() if pairs}


def evaluation(connection: "duckdb.DuckDBPyConnection", partition: str | None) -> tuple[list[Record], list[str]]:
    """The evaluated methods, best AUC first, and notes; a PermanentError lists the partitions where it is none of them."""
    exists = connection.execute("SELECT 1 FROM lake_views WHERE name = 'evaluation_metrics'").fetchall()
    known = connection.execute("SELECT DISTINCT dataset FROM evaluation_metrics ORDER BY 1").fetchall() if exists else []
    partition = _choose("evaluated partition", partition, [dataset for (dataset,) in known])
    methods = records(connection, _SQL["evaluation"], [TOO_WIDE, partition])
    rest = """SELECT DISTINCT method = 'population', metric, round(value, 4) FROM evaluation_metrics
        WHERE dataset = ? AND metric NOT IN ('auc', 'accuracy', 'brier', 'coverage') ORDER BY ALL"""
    found = connection.execute(rest, [partition]).fetchall()
    hidden = dict.fromkeys(metric for of_population, metric, _ in found if not of_population)
    population = [f"{metric} {value:,.12g}" for of_population, metric, value in found if of_population and value is not None]
    small = any(row["method"].endswith("*") for row in methods)
    notes = [
        f"Evaluation of {partition}, best AUC first; [low, high] is the 95 % interval.",
        f"Also in the table evaluation_metrics: {', '.join(hidden)}." if hidden else "",
        f"Population: {', '.join(population)}." if population else "",
        f"* The sample is too small to judge these methods by: their AUC may be off by more than {TOO_WIDE}." if small else "",
    ]
    return methods, [note for note in notes if note]
