"""Receipts into DuckDB: `sync` adds what is new, `rebuild` makes the file anew, `connect` reads it.

No step writes DuckDB itself: an open shell blocks writers, and would fail a step of six hours in its last second.
"""

import time
from collections import defaultdict
from pathlib import Path

from reasoningrec_assets.errors import Log, PermanentError, PlatformError, TransientError
from reasoningrec_assets.lake.files import disk_errors, exclusive, scratch_folder, try_exclusive
from reasoningrec_assets.lake.receipts import ReceiptStore, file_of
from reasoningrec_assets.lake.steps import CODE_VERSIONS, Lake
from reasoningrec_assets.sql import Connection, exact_path, literal, statements

FILE_NAME = "catalog.duckdb"
LOCK = Path("locks", "catalog.lock")
# Receipts whose rows are held in memory together: 500 took a tenth less time and a quarter more memory on ten thousand.
_CHUNK = 300
_SQL = statements(__file__)  # of each table, what fills it
_CURRENT, _CODE, _SEEDS = (_SQL.pop(name) for name in ("current", "code_versions", "leaderboard_seeds"))
# Part of the file itself: a catalogue of another layout is rebuilt, never migrated, since receipts hold all it says.
LAYOUT_VERSION = "11"
# Tables that several assets write: one view over all of them, told apart by a column of the table.
SHARED_VIEWS = ("predictions", "evaluation_metrics")


def connect(data_root: Path, *, wait_seconds: float = 5.0) -> Connection:
    """Open the catalogue read-only; close it soon, syncs skip it. PermanentError if damaged, TransientError if it stays taken."""
    import duckdb

    path = Path(data_root).absolute() / FILE_NAME
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            connection = duckdb.connect(str(path), read_only=True)
            connection.execute("FROM materializations LIMIT 0")
            return connection
        except duckdb.Error as error:
            failure = {"attempted": "open the catalogue", "where": str(path), "problem": _first_line(error)}
            if not _taken(error):
                remedy = f"Make it from the receipts: python -m reasoningrec_assets --data {data_root} rebuild"
                raise PermanentError(**failure, remedy=remedy) from error
            if time.monotonic() >= deadline:
                raise TransientError(**failure, remedy="Close the client that has it open for writing") from error
            time.sleep(0.05)


def sync(data_root: Path, *, log: Log = print, wait_seconds: float = 10.0) -> int | None:
    """Bring the catalogue up to the receipts in one transaction: add new ones, refresh the views; rebuild it on contradiction.

    Returns the number of receipts added, or None where another sync, which takes milliseconds, outlasts the wait; an open
    client gives None at once. Logs only what is skipped, damaged or rebuilt. A full or read-only disk is a PermanentError.
    """
    root = Path(data_root).absolute()
    with disk_errors("write the catalogue", root), try_exclusive(root / LOCK, wait_seconds=wait_seconds) as free:
        added = _update(Lake(root), log) if free else None
    if added is None:
        log("catalogue: another process has it open, skipped; the next sync catches up")
    return added


def rebuild(data_root: Path, *, log: Log = print) -> int:
    """Make the catalogue anew and rename it over the old file, which open clients keep; returns the number of receipts."""
    root = Path(data_root).absolute()
    with disk_errors("write the catalogue", root), exclusive(root / LOCK):
        return _replace(Lake(root), log)


def _update(lake: Lake, log: Log) -> int | None:
    """The number of receipts added, or None where somebody has the file open."""
    import duckdb

    path = lake.root / FILE_NAME
    if not path.exists():
        return _replace(lake, log)
    try:
        with duckdb.connect(str(path)) as connection:
            made_for = dict(connection.execute("SELECT name, value FROM catalog_info").fetchall())
            query = "SELECT receipt FROM materializations UNION ALL SELECT receipt FROM check_results"
            known = {receipt for (receipt,) in connection.execute(query).fetchall()}
            # compared as sets, not by the highest number: a damaged receipt that was repaired is followed too
            on_disk = lake.receipts.files()
            if made_for != _identity(lake):
                problem = f"was made for {made_for}"
            elif known - on_disk:
                problem = "names receipts that are gone"
            else:
                return _project(connection, lake, on_disk - known, log)
    except duckdb.Error as error:
        if _taken(error):
            return None
        problem = f"is damaged ({_first_line(error)})"
    log(f"catalogue: {path} {problem}; rebuilding it from the receipts")
    return _replace(lake, log)


def _replace(lake: Lake, log: Log) -> int:
    import duckdb

    with scratch_folder(lake.root / "scratch") as scratch:
        fresh = scratch / FILE_NAME
        try:
            with duckdb.connect(str(fresh)) as connection:
                connection.execute(Path(__file__).with_name("layout.sql").read_text(encoding="utf-8"))
                connection.executemany("INSERT INTO catalog_info VALUES (?, ?)", list(_identity(lake).items()))
                count = _project(connection, lake, lake.receipts.files(), log)
                connection.execute("CHECKPOINT")  # closing does it too, and is silent where the disk is full
        except duckdb.Error as error:
            doing, problem = "make the catalogue from the receipts", _first_line(error)
            remedy = "Check the free space and the permissions there; the receipts are untouched, so rebuild again"
            raise PermanentError(doing, where=str(fresh), problem=problem, remedy=remedy) from error
        # the old file's log must not be replayed into the new one; losing it is harmless, the receipts have it all
        (lake.root / f"{FILE_NAME}.wal").unlink(missing_ok=True)
        fresh.replace(lake.root / FILE_NAME)
    return count


def _identity(lake: Lake) -> dict[str, str]:
    # the data root, since the views hold absolute paths, which are wrong once it was moved
    return {"layout_version": LAYOUT_VERSION, "data_root": str(lake.root)}


def _project(connection: Connection, lake: Lake, receipts: set[str], log: Log) -> int:
    """Add receipts and refresh the views in one transaction; returns the number added."""
    connection.execute("BEGIN")
    ordered = sorted(receipts)
    added = sum(_add(connection, lake, ordered[at : at + _CHUNK], log) for at in range(0, len(ordered), _CHUNK))
    connection.execute(_CURRENT)
    connection.execute(_CODE, {"names": [*CODE_VERSIONS], "numbers": [*CODE_VERSIONS.values()]})
    _refresh_views(connection, log)
    connection.execute("COMMIT")
    return added


def _add(connection: Connection, lake: Lake, receipts: list[str], log: Log) -> int:
    texts: dict[str, str] = {}
    for relative in receipts:
        path = lake.receipts.root / relative
        try:
            if relative != (said := file_of(ReceiptStore.read(path))):  # copied or edited by hand: every sync would add it anew
                raise ValueError(f"it says that it is {said}")
            texts[relative] = path.read_text(encoding="utf-8")
        except (PlatformError, ValueError, OSError) as error:
            log(f"catalogue: receipt {path} is damaged ({_first_line(error)}), left out")
    connection.execute(_SQL["incoming"], {"files": [*texts], "texts": [*texts.values()]})
    for table, query in _SQL.items():
        if table != "incoming":
            connection.execute(f"INSERT INTO {table} {query}", {"root": str(lake.root)} if "$root" in query else {})
    return len(texts)


def _refresh_views(connection: Connection, log: Log) -> None:
    """Make the views name exactly the current files that exist, and touch none that is right already."""
    files: dict[str, list[str]] = defaultdict(list)
    current = "SELECT asset, path FROM current_materializations WHERE kind = 'table' AND path IS NOT NULL ORDER BY ALL"
    for asset, path in connection.execute(current).fetchall():
        last = asset.rsplit("/", 1)[-1]
        for view in {asset, last} if last in SHARED_VIEWS else {asset}:
            if Path(path).is_file():
                files[view].append(path)
    present = dict(connection.execute("SELECT name, definition FROM lake_views").fetchall())
    for view in sorted({*present, *files}):
        if present.get(view) == _lake_view(files[view]):
            continue
        sound = [path for path in files[view] if _readable(connection, path, log)]
        name = '"' + view.replace('"', '""') + '"'
        connection.execute(f'DROP VIEW IF EXISTS {name}; DROP VIEW IF EXISTS "{view}_seeds"')
        connection.execute("DELETE FROM lake_views WHERE name = ?", [view])
        if sound:
            connection.execute(f"CREATE VIEW {name} AS {_lake_view(sound)}")
            connection.execute("INSERT INTO lake_views VALUES (?, ?)", [view, _lake_view(sound)])
            if view == "leaderboard":
                connection.execute(_SEEDS)


def _lake_view(files: list[str]) -> str:
    """The query of a view over Parquet files: all rows, columns matched by name."""
    paths = ", ".join(literal(exact_path(file)) for file in files)
    # a folder called `a=b` is a name here, not a column
    return f"SELECT * FROM read_parquet([{paths}], union_by_name = true, hive_partitioning = false)"


def _readable(connection: Connection, path: str, log: Log) -> bool:
    import duckdb

    try:
        with connection.cursor() as probe:  # outside the open transaction, which an error would end
            probe.execute(f"{_lake_view([path])} LIMIT 0")
    except duckdb.Error as error:
        log(f"catalogue: {path} cannot be read, left out of its view ({_first_line(error)})")
        return False
    return True


def _taken(error: Exception) -> bool:
    """Whether another process, or another kind of connection in this one, has the file open."""
    import duckdb

    return isinstance(error, duckdb.ConnectionException) or "Could not set lock on file" in str(error)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
