"""The catalogue and Dagster under load: fifty partitions, ten thousand receipts, sixteen runs at once, the web UI's asset page.

`python -m benchmarks.load RECEIPTS ...` measures a sync of each of these numbers, and draws the growth.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import requests

from benchmarks import faults
from benchmarks.harness import ROOT, Figure, fresh_folder, ours, write_result
from reasoningrec_assets.catalog import connect, sync
from reasoningrec_assets.lake.files import canonical_json, sha256_json
from reasoningrec_assets.lake.steps import Lake
from reasoningrec_assets_tests.tiny import write_movielens

PARTITIONS = 50
RUNS = 16
CHAIN = ["raw_dataset", "cleaned_interactions", "items", "interaction_windows"]
SLOWEST_PAGE = 5.0  # seconds; what a person would still wait for


def simulate(root: Path, count: int) -> int:
    """Fill a data root with about `count` receipts: real ones, of a small run and its checks, repeated over partitions and time."""
    whole = faults.Stage().whole
    store = whole.receipts
    known = [json.loads((store.root / relative).read_text(encoding="utf-8")) for relative in sorted(store.files())]
    all_rounds = -(-count // len(known))
    for number in range(PARTITIONS):
        rounds = all_rounds // PARTITIONS + (number < all_rounds % PARTITIONS)
        partition = f"set{number:02d}"
        for facts in known:
            folder = root / "receipts" / facts["asset"] / partition
            folder = folder / "checks" / facts["check"] if "check" in facts else folder
            folder.mkdir(parents=True, exist_ok=True)
            for sequence in range(1, rounds + 1):
                path = folder / f"{sequence:08d}.json"
                path.write_text(canonical_json(_moved(facts, partition, sequence)), encoding="utf-8")
        _link_newest(whole, root, partition, rounds)
    return len(known) * all_rounds


def _version(asset: str, partition: str, sequence: int) -> str:
    return sha256_json([asset, partition, sequence])


def _moved(facts: dict, partition: str, sequence: int) -> dict:
    asset, version = facts["asset"], _version(facts["asset"], partition, sequence)
    moved = facts | {"partition": partition, "sequence": sequence, "data_version": version, "run_id": f"{partition}-{sequence}"}
    if "check" in facts:
        return moved
    upstream = [
        edge | {"partition": partition, "sequence": sequence, "data_version": _version(edge["asset"], partition, sequence)}
        for edge in facts["upstream"]
    ]
    return moved | {"upstream": upstream, "path": f"{asset}/{partition}/{version}{Path(facts['path']).suffix}"}


def _link_newest(whole, root: Path, partition: str, sequence: int) -> None:
    for path in (whole.root / "lake").rglob("*.parquet"):
        asset = str(path.relative_to(whole.root / "lake").parent.parent)
        target = root / "lake" / asset / partition / f"{_version(asset, partition, sequence)}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)


# a child of this process would count this one's memory as its own, up to its first instruction
_SYNC = "from benchmarks.harness import *; print(json.dumps(whole_process([sys.executable, '-m', 'reasoningrec_assets', '--data', sys.argv[1], 'sync'])))"


def synced(root: Path) -> dict[str, dict[str, float]]:
    """A sync in a process of its own, from the receipts alone, and one more of which nothing is new."""
    command = [sys.executable, "-c", _SYNC, str(root)]
    return {when: json.loads(subprocess.check_output(command, cwd=ROOT)) for when in ("new", "again")}


def queries(root: Path) -> dict[str, float]:
    """Seconds of the slowest of five, by query."""
    asked = {
        "lineage_upstream": "FROM lineage_upstream('evaluation_report', 'set07')",
        "lineage_downstream": "FROM lineage_downstream('raw_dataset', 'set07')",
        "column_lineage": "FROM column_lineage WHERE asset = 'predictions' AND partition = 'set07'",
        "stale_partitions": "FROM stale_partitions",
        "current_materializations": "FROM current_materializations",
        "runs": "FROM runs",
    }
    found = {}
    with connect(root) as connection:
        for name, query in asked.items():
            times = []
            for _ in range(5):
                begun = time.monotonic()
                rows = len(connection.execute(query).fetchall())
                times.append(time.monotonic() - begun)
            assert rows or name == "stale_partitions", name
            found[name] = max(times)
    return found


def sixteen_runs() -> list[int]:
    """Materialize the cheap steps of sixteen partitions at once, in one lake, on one SQLite instance: failures, receipts lost."""
    folder = fresh_folder()
    root, home = folder / "data", _home(folder)
    write_movielens(root / "raw" / "ml100k")
    declare(root)
    # the datasets are declared before the definitions are imported
    environment = os.environ | {"REASONINGREC_DATA": str(root)}
    found = subprocess.check_output(ours("load", "runs", str(root), str(home)), env=environment, cwd=ROOT, text=True)
    shutil.rmtree(folder)
    return json.loads(found.splitlines()[-1])


def _runs(root: Path, home: Path) -> list[int]:
    faults.Stage()
    children = [faults.begin(Lake(root), CHAIN, home, partition=f"set{number:02d}") for number in range(RUNS)]
    failed = sum(faults.finished(child) != 0 for child in children)
    sync(root, log=lambda _: None)
    with connect(root) as connection:
        known = connection.execute("SELECT count(*) FROM current_materializations").fetchall()[0][0]
    return [failed, RUNS * len(CHAIN) - known]


def declare(root: Path) -> None:
    (root / "datasets").mkdir(parents=True, exist_ok=True)
    for number in range(PARTITIONS):
        (root / "datasets" / f"set{number:02d}.toml").write_text(f'title = "Set {number}"\nbase = "ml100k"\n', encoding="utf-8")


def _home(folder: Path) -> Path:
    home = folder / "dagster_home"
    home.mkdir()
    shutil.copyfile(ROOT / "deploy" / "dagster.yaml", home / "dagster.yaml")
    # Dagster makes its tables on first use, and two processes that do so at once fail
    script = "import dagster; dagster.DagsterInstance.get().get_runs_count()"
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ | {"DAGSTER_HOME": str(home)})
    return home


PAGE = """
query Page($asset: AssetKeyInput!) {
  assetNodeOrError(assetKey: $asset) {
    ... on AssetNode {
      partitionKeys
      assetPartitionStatuses { ... on DefaultPartitionStatuses { materializedPartitions } }
      assetMaterializations(limit: 100) { partition timestamp metadataEntries { label } }
    }
  }
}
"""


def asset_page(count: int) -> float:
    """Seconds of the slowest of three answers to what the UI asks for an asset's page, with `count` materializations behind it."""
    folder = fresh_folder()
    home, root = _home(folder), folder / "data"
    declare(root)
    environment = os.environ | {"DAGSTER_HOME": str(home), "REASONINGREC_DATA": str(root), "DAGSTER_DISABLE_TELEMETRY": "1"}
    subprocess.run(ours("load", "report", str(count)), check=True, env=environment, cwd=ROOT)
    times = []
    with _webserver(environment) as url:
        for _ in range(3):
            begun = time.monotonic()
            asked = {"query": PAGE, "variables": {"asset": {"path": ["evaluation_metrics"]}}}
            answer = requests.post(f"{url}/graphql", json=asked, timeout=120).json()
            times.append(time.monotonic() - begun)
            node = answer["data"]["assetNodeOrError"]
            shown, partitions = node["assetMaterializations"], node["assetPartitionStatuses"]["materializedPartitions"]
            assert len(shown) >= min(100, count // 17), len(shown)
            assert len(partitions) == PARTITIONS, partitions
    shutil.rmtree(folder)
    return max(times)


def _report(count: int) -> None:
    home = os.environ["DAGSTER_HOME"]
    assets = faults.Stage().assets
    with dg.DagsterInstance.from_config(home) as instance:
        for number in range(count):
            place, asset = divmod(number, len(assets))
            key = dg.AssetKey.from_user_string(assets[asset])
            partition, metadata = f"set{place % PARTITIONS:02d}", {"dagster/row_count": number, "seconds": 1.5}
            instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition, metadata=metadata))


@contextlib.contextmanager
def _webserver(environment: dict[str, str]) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [Path(sys.executable).with_name("dagster-webserver"), "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            with contextlib.suppress(requests.ConnectionError):
                requests.get(f"{url}/server_info", timeout=5)
                break
            time.sleep(0.25)
        yield url
    finally:
        server.terminate()
        server.wait()


def run(quick: bool) -> list[Figure]:
    count = 1_000 if quick else 10_000
    root = fresh_folder()
    made = simulate(root, count)
    took, asked = synced(root), queries(root)
    shutil.rmtree(root)
    failed, lost = sixteen_runs()
    page = asset_page(count)
    return [
        Figure(
            "sync of all receipts",
            took["new"]["seconds"],
            5,
            at_most=True,
            unit=" s",
            details={"receipts": made, "seconds with nothing new": took["again"]["seconds"]},
        ),
        Figure("its memory", took["new"]["mb"], 300, at_most=True, unit=" MB"),
        Figure("slowest lineage query", max(asked.values()), 0.1, at_most=True, unit=" s", details=asked),
        Figure("failures of sixteen runs at once", failed, 0, at_most=True),
        Figure("receipts that the catalogue lacks after them", lost, 0, at_most=True),
        Figure("asset page", page, SLOWEST_PAGE, at_most=True, unit=" s", details={"materializations": count}),
    ]


def growth(counts: list[int]) -> None:
    """Sync that many receipts from nothing, note seconds, memory and the slowest query, and draw them."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    found = []
    for count in counts:
        root = fresh_folder()
        made = simulate(root, count)
        took, asked = synced(root), queries(root)
        size = (root / "catalog.duckdb").stat().st_size / 1e6
        shutil.rmtree(root)
        found.append(
            {
                "receipts": made,
                "sync seconds": took["new"]["seconds"],
                "sync again seconds": took["again"]["seconds"],
                "sync MB": took["new"]["mb"],
                "catalogue MB": size,
                "slowest query seconds": max(asked.values()),
                "queries": asked,
            }
        )
        print(json.dumps(found[-1]), flush=True)
        about = "The catalogue with ten thousand, a hundred thousand and a million receipts: seconds, memory and the slowest lineage query."
        write_result("load-growth", {"about": about, "sizes": found})
    drawn = ("sync seconds", "sync again seconds", "sync MB", "slowest query seconds")
    figure, places = pyplot.subplots(1, len(drawn), figsize=(14, 3.2), layout="constrained")
    for place, name in zip(places, drawn, strict=True):
        place.loglog([size["receipts"] for size in found], [size[name] for size in found], marker="o")
        place.set(title=name, xlabel="receipts")
        place.grid(alpha=0.3)
    figure.savefig(ROOT / "docs" / "images" / "catalogue-growth.svg", metadata={"Date": None})


if __name__ == "__main__":
    if sys.argv[1] == "report":
        _report(int(sys.argv[2]))
    elif sys.argv[1] == "runs":
        print(json.dumps(_runs(Path(sys.argv[2]), Path(sys.argv[3]))))
    else:
        growth([int(count) for count in sys.argv[1:]])
