"""Receipts into DuckDB: `sync` adds what is new, `rebuild` makes the file anew, `connect` reads it.

What belongs here: who may write, when, and in which transaction. What doesn't: what the rows mean. Steps never write
DuckDB themselves, because a reader in another process blocks a writer: one open shell would fail a six-hour step in
its last second. A sync that finds the file taken skips instead, and the next one catches up.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from reasoningrec_assets.catalog import layout
from reasoningrec_assets.catalog.receipt_rows import Row, receipt_files, rows_of
from reasoningrec_assets.errors import PermanentError, PlatformError, TransientError
from reasoningrec_assets.lake.files import disk_errors, exclusive, scratch_folder, try_exclusive
from reasoningrec_assets.lake.steps import Lake

if TYPE_CHECKING:
    import duckdb

FILE_NAME = "catalog.duckdb"
Log = Callable[[str], None]

# Receipts whose rows are held in memory together: more of them make nothing faster.
_CHUNK = 500


@dataclass(frozen=True)
class SyncResult:
    """What a sync did: the receipts that it added, and how long it took."""

    status: Literal["synced", "skipped"]
    new_receipts: int
    seconds: float


def connect(data_root: Path, *, wait_seconds: float = 5.0) -> duckdb.DuckDBPyConnection:
    """Open the catalogue read-only; close it soon, since a sync skips for as long as it is open.

    Args:
        data_root: The data root that holds ``catalog.duckdb``.
        wait_seconds: How long to wait for a sync that is at work, which takes well under a second as a rule.

    Raises:
        PermanentError: There is no catalogue, or the file is damaged.
        TransientError: Another process keeps it open for writing.
    """
    import duckdb

    path = Path(data_root).absolute() / FILE_NAME
    if not path.is_file():
        raise PermanentError(
            "open the catalogue",
            where=str(path),
            problem="it does not exist",
            remedy=f"Check the data root, or make it: python -m reasoningrec_assets.catalog --data {data_root} sync",
        )
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return duckdb.connect(str(path), read_only=True)
        except duckdb.Error as error:
            if not _taken(error):
                raise PermanentError(
                    "open the catalogue",
                    where=str(path),
                    problem=_first_line(error),
                    remedy=f"Rebuild it from the receipts: python -m reasoningrec_assets.catalog --data {data_root} rebuild",
                ) from error
            if time.monotonic() > deadline:
                raise TransientError(
                    "open the catalogue",
                    where=str(path),
                    problem=_first_line(error),
                    remedy="Close the client that has it open for writing",
                ) from error
        time.sleep(0.05)


def sync(data_root: Path, *, log: Log = print) -> SyncResult:
    """Bring the catalogue up to the receipts: add new ones, drop those that are gone, refresh the views.

    One transaction; running it again changes nothing. It does not wait for other writers or open clients.

    Args:
        data_root: The data root with ``receipts/``; the catalogue is made where it is missing.
        log: Receives one line where something is skipped, damaged or rebuilt, and none otherwise.

    Returns:
        ``skipped`` where another process holds the file or syncs it right now.

    Raises:
        PermanentError: The disk is full or read-only.
    """
    import duckdb

    clock = time.monotonic()
    lake = Lake(Path(data_root).absolute())
    path = lake.root / FILE_NAME

    def result(status: Literal["synced", "skipped"], count: int) -> SyncResult:
        return SyncResult(status, count, round(time.monotonic() - clock, 3))

    with disk_errors("write the catalogue", lake.root), try_exclusive(_lock(lake)) as free:
        if not free:
            log("catalogue: another process is writing it, skipped; the next sync catches up")
            return result("skipped", 0)
        if not path.exists():
            return result("synced", _replace(lake, log))
        try:
            with duckdb.connect(str(path)) as connection:
                if (problem := _outdated(connection, lake)) is None:
                    return result("synced", _project(connection, lake, log))
        except duckdb.Error as error:
            if _taken(error):
                log("catalogue: another process has it open, skipped; the next sync catches up")
                return result("skipped", 0)
            problem = f"is damaged ({_first_line(error)})"
        log(f"catalogue: {path} {problem}; rebuilding it from the receipts")
        return result("synced", _replace(lake, log))


def rebuild(data_root: Path, *, log: Log = print) -> SyncResult:
    """Make the catalogue anew from the receipts alone, beside the old file, and rename it over it.

    Clients that have the old file open keep reading it until they reconnect.
    """
    clock = time.monotonic()
    lake = Lake(Path(data_root).absolute())
    waiting = lambda: log("catalogue: another process is writing it, waiting")  # noqa: E731
    with disk_errors("write the catalogue", lake.root), exclusive(_lock(lake), on_wait=waiting):
        count = _replace(lake, log)
    return SyncResult("synced", count, round(time.monotonic() - clock, 3))


def _lock(lake: Lake) -> Path:
    return lake.root / "locks" / "catalog.lock"


def _replace(lake: Lake, log: Log) -> int:
    import duckdb

    with scratch_folder(lake.root / "scratch") as scratch:
        fresh = scratch / FILE_NAME
        try:
            with duckdb.connect(str(fresh)) as connection:
                connection.execute(layout.creation_script())
                connection.executemany("INSERT INTO catalog_info VALUES (?, ?)", list(_identity(lake).items()))
                count = _project(connection, lake, log)
        except duckdb.Error as error:
            raise PermanentError(
                "make the catalogue from the receipts",
                where=str(fresh),
                problem=_first_line(error),
                remedy="Check the free space and the permissions there; the receipts are untouched, so rebuild again",
            ) from error
        # the old file's log must not be replayed into the new one; losing it is harmless, the receipts have it all
        (lake.root / f"{FILE_NAME}.wal").unlink(missing_ok=True)
        fresh.replace(lake.root / FILE_NAME)
    return count


def _identity(lake: Lake) -> dict[str, str]:
    return {"layout_version": layout.LAYOUT_VERSION, "data_root": str(lake.root)}


def _outdated(connection: duckdb.DuckDBPyConnection, lake: Lake) -> str | None:
    """Why the file has to be made anew, or None: its absolute paths are wrong once the data root was moved."""
    found = dict(connection.execute("SELECT name, value FROM catalog_info").fetchall())
    for name, wanted in _identity(lake).items():
        if found.get(name) != wanted:
            return f"was made for {name} {found.get(name)}, not {wanted}"
    return None


def _project(connection: duckdb.DuckDBPyConnection, lake: Lake, log: Log) -> int:
    """Add, forget and refresh in one transaction; returns the number of receipts added."""
    on_disk = receipt_files(lake.receipts.root)
    connection.execute("BEGIN")
    known_rows = "SELECT receipt FROM materializations UNION ALL SELECT receipt FROM check_results"
    known: set[str] = {row[0] for row in connection.execute(known_rows).fetchall()}
    # compared as sets, not by the highest number: a damaged receipt that was repaired or removed is followed too
    gone = known - on_disk
    if gone:
        _forget(connection, sorted(gone))
    added = _add(connection, lake, sorted(on_disk - known), log)
    if gone or added:
        connection.execute(
            """UPDATE materializations m SET is_current = NOT m.is_current
            FROM (SELECT asset, partition, max(sequence) FILTER (status = 'success') AS newest
                  FROM materializations GROUP BY asset, partition) n
            WHERE m.asset = n.asset AND m.partition = n.partition AND m.is_current <> (m.sequence = coalesce(n.newest, -1))"""
        )
    _refresh_views(connection, log)
    connection.execute("COMMIT")
    return added


def _forget(connection: duckdb.DuckDBPyConnection, receipts: list[str]) -> None:
    gone = "receipt IN (SELECT unnest(?::VARCHAR[]))"
    for table in layout.DETAIL_TABLES:
        connection.execute(
            f"DELETE FROM {table} t USING materializations m WHERE m.{gone}"
            " AND t.asset = m.asset AND t.partition = m.partition AND t.sequence = m.sequence",
            [receipts],
        )
    for table in ("materializations", "check_results"):
        connection.execute(f"DELETE FROM {table} WHERE {gone}", [receipts])


def _add(connection: duckdb.DuckDBPyConnection, lake: Lake, receipts: list[str], log: Log) -> int:
    if len(receipts) > _CHUNK:
        return sum(_add(connection, lake, receipts[at : at + _CHUNK], log) for at in range(0, len(receipts), _CHUNK))
    try:
        tables = _columns_of(lake, receipts)
    except (PlatformError, ValueError, TypeError, KeyError, AttributeError) as error:
        if len(receipts) > 1:  # one damaged receipt costs itself alone: halving finds it
            middle = len(receipts) // 2
            return sum(_add(connection, lake, half, log) for half in (receipts[:middle], receipts[middle:]))
        log(f"catalogue: receipt {lake.receipts.root / receipts[0]} is damaged ({_first_line(error)}), left out")
        return 0
    for table, columns in tables.items():
        # a column at a time: row by row takes seconds for what takes milliseconds, and Arrow brings pandas and 80 MB along
        types = layout.TABLES[table]
        lists = ", ".join(f"unnest(?::{types[name]}[]) AS {name}" for name in columns)
        connection.execute(f"INSERT INTO {table} BY NAME SELECT {lists}", list(columns.values()))
    return len(receipts)


def _columns_of(lake: Lake, receipts: list[str]) -> dict[str, dict[str, list[object]]]:
    """Tables, their columns, and the values that the receipts add to them.

    Raises:
        ValueError: A value is of another type than its column; an insert would fail with the whole transaction.
    """
    rows: dict[str, list[Row]] = defaultdict(list)
    for relative in receipts:
        for table, row in rows_of(lake, relative):
            rows[table].append(row)
    tables = {table: {name: [row[name] for row in found] for name in layout.TABLES[table]} for table, found in rows.items()}
    for table, columns in tables.items():
        for name, values in columns.items():
            wanted = layout.TABLES[table][name]
            if wrong := {*map(type, values)} - layout.PYTHON_TYPES[wanted]:
                raise ValueError(f"{name} is {', '.join(sorted(t.__name__ for t in wrong))}, not {wanted}")
    return tables


def _refresh_views(connection: duckdb.DuckDBPyConnection, log: Log) -> None:
    """Make the views name exactly the current files that exist, and touch none that is right already."""
    files: dict[str, list[str]] = defaultdict(list)
    current = (
        "SELECT asset, path FROM current_materializations WHERE kind = 'table' AND path IS NOT NULL ORDER BY asset, partition"
    )
    for asset, path in connection.execute(current).fetchall():
        if not Path(path).is_file():
            continue
        last = asset.rsplit("/", 1)[-1]
        for view in {asset, last} if last in layout.SHARED_VIEWS else {asset}:
            if view not in layout.RESERVED:
                files[view].append(path)
    generation = "SELECT DISTINCT name FROM metrics WHERE starts_with(name, 'generation_') ORDER BY name"
    names = [row[0] for row in connection.execute(generation).fetchall()]
    wanted = {view: layout.lake_view(paths) for view, paths in files.items()}
    present = dict(connection.execute("SELECT name, definition FROM lake_views").fetchall())
    for view, definition in list(wanted.items()):
        if present.get(view) != definition and not _readable(connection, definition):
            sound = [path for path in files[view] if _readable(connection, layout.lake_view([path]))]
            log(f"catalogue: {', '.join(sorted({*files[view]} - {*sound}))} cannot be read, left out of the view {view}")
            del wanted[view]
            if sound:
                wanted[view] = layout.lake_view(sound)
    wanted["generation_statistics"] = layout.generation_view(names)
    for view in present.keys() - wanted.keys():
        connection.execute(f"DROP VIEW IF EXISTS {layout.identifier(view)}")
        connection.execute("DELETE FROM lake_views WHERE name = ?", [view])
    for view in sorted(view for view in wanted if present.get(view) != wanted[view]):
        connection.execute(f"CREATE OR REPLACE VIEW {layout.identifier(view)} AS {wanted[view]}")
        connection.execute("DELETE FROM lake_views WHERE name = ?", [view])
        connection.execute("INSERT INTO lake_views VALUES (?, ?)", [view, wanted[view]])


def _readable(connection: duckdb.DuckDBPyConnection, query: str) -> bool:
    """Whether a query binds, tried outside the open transaction, which an error would end."""
    import duckdb

    try:
        with connection.cursor() as probe:
            probe.execute(f"SELECT * FROM ({query}) LIMIT 0")
    except duckdb.Error:
        return False
    return True


def _taken(error: Exception) -> bool:
    """Whether another process, or another kind of connection in this one, has the file open."""
    import duckdb

    return isinstance(error, duckdb.ConnectionException) or "Could not set lock on file" in str(error)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
