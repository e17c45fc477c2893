"""Questions that people ask of the catalogue, on a connection that is open; nothing is changed, and nothing printed."""

from typing import TYPE_CHECKING, Any

from reasoningrec_assets.errors import PermanentError

if TYPE_CHECKING:
    import duckdb

Record = dict[str, Any]

# An AUC that may be off by more than this cannot tell methods apart: published gains are smaller.
TOO_WIDE = 0.05

# Every asset and partition that was ever tried: its current materialization, or its last failure. Binds a partition.
CURRENT = """
    SELECT asset, partition, sequence AS seq, row_count AS rows, round(seconds, 1) AS seconds,
           coalesce(data_version[:12], status) AS version, strftime(finished_at, '%Y-%m-%d %H:%M') AS "finished (UTC)"
    FROM materializations WHERE partition = coalesce(?, partition)
    QUALIFY row_number() OVER (PARTITION BY asset, partition ORDER BY is_current DESC, sequence DESC) = 1
    ORDER BY partition, started_at, asset"""

# What an asset and a partition were made from, indented by the steps between, and what was replaced since it was read.
UPSTREAM = """
    SELECT concat(repeat('  ', depth), asset, '[', partition, ']') AS asset, coalesce(u.data_version[:12], 'failed') AS version,
           coalesce(run_id[:8], 'unknown') AS run, via AS "read by", if(u.is_current, '', 'replaced since') AS note
    FROM lineage_upstream(?, ?) u LEFT JOIN materializations m USING (asset, partition, sequence)
    ORDER BY depth, u.asset, u.sequence"""

# (name, value) pairs by title, about one asset, partition and sequence
_OF = "WHERE (asset, partition, sequence) = (?, ?, ?)"
_SECTIONS = {
    "Failed since": """SELECT 'attempt ' || sequence, error FROM materializations
        WHERE (asset, partition) = (?, ?) AND sequence > ? ORDER BY sequence""",
    "Schema (? may be null)": f"""SELECT name, concat(type, if(nullable, '?', ''), ': ', description)
        FROM columns {_OF} ORDER BY position""",
    "Column lineage": f"""
        SELECT column_name, string_agg(concat(upstream_asset, '.', upstream_column), ', ' ORDER BY upstream_asset)
        FROM column_lineage {_OF} GROUP BY 1 ORDER BY 1""",
    "Preview": f"SELECT name, value FROM metadata {_OF} AND kind = 'detail' AND name = 'preview'",
    "Metrics": f"SELECT name, value FROM metrics {_OF} ORDER BY name",
    "Details": f"SELECT name, value FROM metadata {_OF} AND kind = 'detail' AND name <> 'preview' ORDER BY name",
    "Settings": f"SELECT name, value FROM metadata {_OF} AND kind = 'setting' ORDER BY name",
    "Read": f"""SELECT concat(upstream_asset, '[', upstream_partition, ']'), 'version ' || upstream_data_version[:12]
        FROM lineage_edges {_OF} ORDER BY 1""",
    "Models, prompts and files": f"SELECT kind, concat_ws(' ', name, reference, version[:40]) FROM artifacts {_OF} ORDER BY ALL",
    # the newest of each check on this very data version
    "Checks": f"""SELECT check_name, concat(if(passed, 'passed', 'FAILED'), ' (', lower(severity), ') ', details)
        FROM check_results SEMI JOIN (FROM materializations {_OF}) USING (asset, partition, data_version)
        QUALIFY row_number() OVER (PARTITION BY check_name ORDER BY sequence DESC) = 1 ORDER BY check_name""",
}

# Studies evaluate some methods again on the same rows: one line for each is enough.
_EVALUATION = f"""
    WITH figures AS (
        SELECT DISTINCT method, metric, value, n, high - low > 2 * {TOO_WIDE} AS wide,
               format('{{:.3f}}', value) || if(low IS NULL, '', format(' [{{:.3f}}, {{:.3f}}]', low, high)) AS figure
        FROM evaluation_metrics WHERE dataset = ? AND method <> 'population'
    )
    SELECT method || if(bool_or(wide AND metric = 'auc'), ' *', '') AS method, min(n) FILTER (metric = 'auc') AS n,
           max(figure) FILTER (metric = 'auc') AS auc, max(figure) FILTER (metric = 'accuracy') AS accuracy,
           max(figure) FILTER (metric = 'brier') AS brier, max(figure) FILTER (metric = 'coverage') AS coverage
    FROM figures GROUP BY figures.method ORDER BY max(value) FILTER (metric = 'auc') DESC NULLS LAST, figures.method"""


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
    methods = records(connection, _EVALUATION, [partition])
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
