"""Questions that people ask of the catalogue, answered as plain Python values.

What belongs here: finding a materialization by its names, and reading all that the catalogue knows of it. What
doesn't: how it looks on a screen. Every function takes an open connection and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reasoningrec_assets.errors import PermanentError

if TYPE_CHECKING:
    import duckdb

Record = dict[str, Any]


def records(connection: duckdb.DuckDBPyConnection, query: str, values: list[Any] | None = None) -> list[Record]:
    """The rows of a query as dictionaries."""
    cursor = connection.execute(query, values or [])
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def current(connection: duckdb.DuckDBPyConnection) -> list[Record]:
    """Every asset and partition that was ever tried: its current materialization, or its last failure."""
    return records(
        connection,
        """SELECT * FROM materializations
        QUALIFY row_number() OVER (PARTITION BY asset, partition ORDER BY is_current DESC, sequence DESC) = 1
        ORDER BY partition, started_at, asset""",
    )


def resolve(connection: duckdb.DuckDBPyConnection, asset: str, partition: str | None) -> tuple[str, str]:
    """An asset and a partition that exist; the partition may be left out where the asset has one alone.

    Raises:
        PermanentError: There is no such asset or partition; the message lists those there are.
    """
    pairs = connection.execute("SELECT DISTINCT asset, partition FROM materializations ORDER BY ALL").fetchall()
    partitions = [found for name, found in pairs if name == asset]
    if not partitions:
        known = sorted({name for name, _ in pairs})
        raise _unknown(f"asset {asset}", "no run has materialized an asset of this name", "assets", known)
    if partition is None and len(partitions) == 1:
        return asset, partitions[0]
    if partition is None:
        raise _unknown(f"asset {asset}", "it has several partitions", "partitions", partitions)
    if partition not in partitions:
        raise _unknown(f"{asset}[{partition}]", "no run has materialized this partition", "partitions", partitions)
    return asset, partition


def _unknown(where: str, problem: str, what: str, known: list[str]) -> PermanentError:
    listed = ", ".join(known) if known else "none yet"
    return PermanentError("find it in the catalogue", where=where, problem=problem, remedy=f"Name one of its {what}: {listed}")


@dataclass(frozen=True)
class Materialization:
    """All that the catalogue knows of one materialization; lists of records, in the order they are shown."""

    summary: Record
    newer_failures: list[Record]
    upstream: list[Record]
    columns: list[Record]
    column_lineage: dict[str, list[str]]
    metrics: list[Record]
    settings: dict[str, str]
    details: dict[str, str]
    artifacts: list[Record]
    checks: list[Record]


def materialization(connection: duckdb.DuckDBPyConnection, asset: str, partition: str) -> Materialization:
    """The current materialization of a partition, or its last failure where none succeeded.

    Check results are the newest of each check on this very data version.
    """
    pair = [asset, partition]
    attempts = records(
        connection,
        "SELECT * FROM materializations WHERE asset = ? AND partition = ? ORDER BY is_current DESC, sequence DESC",
        pair,
    )
    summary = attempts[0]
    key = [*pair, summary["sequence"]]

    def of(table: str, order: str) -> list[Record]:
        where = "WHERE asset = ? AND partition = ? AND sequence = ?"
        return records(connection, f"SELECT * FROM {table} {where} ORDER BY {order}", key)

    sources: dict[str, list[str]] = {}
    for row in of("column_lineage", "column_name, upstream_asset, upstream_column"):
        sources.setdefault(row["column_name"], []).append(f"{row['upstream_asset']}.{row['upstream_column']}")
    metadata = of("metadata", "name")
    return Materialization(
        summary=summary,
        newer_failures=[row for row in attempts[1:] if row["sequence"] > summary["sequence"]],
        upstream=of("lineage_edges", "upstream_asset"),
        columns=of("columns", "position"),
        column_lineage=sources,
        metrics=of("metrics", "name"),
        settings={row["name"]: row["value"] for row in metadata if row["kind"] == "setting"},
        details={row["name"]: row["value"] for row in metadata if row["kind"] == "detail"},
        artifacts=of("artifacts", "kind, name"),
        checks=records(
            connection,
            """SELECT * FROM check_results
            WHERE asset = ? AND partition = ? AND data_version IS NOT DISTINCT FROM ?
            QUALIFY row_number() OVER (PARTITION BY check_name ORDER BY sequence DESC) = 1 ORDER BY check_name""",
            [*pair, summary["data_version"]],
        ),
    )


def upstream_walk(connection: duckdb.DuckDBPyConnection, asset: str, partition: str) -> list[Record]:
    """The upstream walk in reading order: each row before what it was made from.

    Returns:
        Records with depth, asset, partition, sequence, data_version, run_id, status, is_current and repeated; a
        version that several others read is walked once, and marked as repeated after that.
    """
    shown = materialization(connection, asset, partition).summary
    everything = records(connection, "SELECT asset, partition, sequence, data_version, run_id, is_current FROM materializations")
    by_key = {(row["asset"], row["partition"], row["sequence"]): row for row in everything}
    current_version = {(row["asset"], row["partition"]): row["data_version"] for row in everything if row["is_current"]}
    edges: dict[tuple[str, str, int], list[Record]] = {}
    for edge in records(connection, "SELECT * FROM lineage_edges ORDER BY upstream_asset, upstream_partition"):
        edges.setdefault((edge["asset"], edge["partition"], edge["sequence"]), []).append(edge)
    walk: list[Record] = []
    seen: set[tuple[str, str, int]] = set()
    pending = [(0, (shown["asset"], shown["partition"], shown["sequence"]), shown["data_version"])]
    while pending:
        depth, key, version = pending.pop()
        names = dict(zip(("asset", "partition", "sequence"), key, strict=True))
        walk.append(
            {
                **names,
                "depth": depth,
                "data_version": version,
                "run_id": by_key.get(key, {}).get("run_id"),
                "is_current": current_version.get(key[:2]) == version,
                "repeated": key in seen and key in edges,
            }
        )
        if key in seen:
            continue
        seen.add(key)
        for edge in reversed(edges.get(key, [])):
            upstream = (edge["upstream_asset"], edge["upstream_partition"], edge["upstream_sequence"])
            pending.append((depth + 1, upstream, edge["upstream_data_version"]))
    return walk


def evaluation(connection: duckdb.DuckDBPyConnection, partition: str | None) -> tuple[str, list[Record]]:
    """The partition, and its rows of ``evaluation_metrics``: method, metric, value, low, high, n.

    Raises:
        PermanentError: Nothing was evaluated, or not this partition; the message lists those that were.
    """
    views = {row[0] for row in connection.execute("SELECT name FROM lake_views").fetchall()}
    known: list[str] = []
    if "evaluation_metrics" in views:
        known = [row[0] for row in connection.execute("SELECT DISTINCT dataset FROM evaluation_metrics ORDER BY 1").fetchall()]
    if partition is None and len(known) == 1:
        partition = known[0]
    if partition is None:
        problem = "several partitions were evaluated" if known else "none was"
        raise _unknown("evaluation_metrics", problem, "partitions", known)
    if partition not in known:
        raise _unknown(f"evaluation_metrics[{partition}]", "it was not evaluated", "partitions", known)
    # studies evaluate some methods again on the same rows: one line for each is enough
    query = "SELECT DISTINCT method, metric, value, low, high, n FROM evaluation_metrics WHERE dataset = ? ORDER BY ALL"
    return partition, records(connection, query, [partition])
