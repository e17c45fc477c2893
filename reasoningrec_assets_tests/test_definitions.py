from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import dagster as dg

from reasoningrec_assets.datasets import registry
from reasoningrec_assets.definitions import build_definitions
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.resources.lake import LakeResource
from reasoningrec_assets.schedules import weekly_refresh
from reasoningrec_assets.sensors import raw_files_changed
from reasoningrec_assets_tests.catalog.conftest import Store

ROOT = Path(__file__).parent.parent
HEAVY = (
    "torch",
    "transformers",
    "peft",
    "vllm",
    "bert_score",
    "sklearn",
    "scipy",
    "pandas",
    "numpy",
    "fsspec",
    "duckdb",
    "pyarrow",
    "openai",
)


def python(code):
    # compiled once, as dagster was by pip when it was installed
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    run = [sys.executable, "-c", code]
    return subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT, env=environment).stdout


def test_loading_the_definitions_imports_nothing_heavy():
    code = f"import sys, reasoningrec_assets.definitions; print([name for name in {HEAVY} if name in sys.modules])"
    assert python(code).strip() == "[]"


def test_loading_the_definitions_takes_at_most_half_as_long_again_as_dagster():
    # processor time of one and the other in the same process: what else runs on the machine slows both
    clock = "from time import process_time as now; start = now(); import dagster; between = now(); "
    clock += "import reasoningrec_assets.definitions; print((now() - start) / (between - start))"
    assert statistics.median(float(python(clock)) for _ in range(9)) <= 1.5


def test_one_layer_above_the_metrics_is_the_whole_pipeline():
    """The command line takes `+name` for one layer; the README's command must run everything."""
    graph = build_definitions().resolve_asset_graph()
    selected = dg.AssetSelection.from_string("+evaluation_metrics").resolve(graph)
    assert selected == dg.AssetSelection.assets("evaluation_metrics").upstream().resolve(graph)
    assert len(selected) == 16


def test_every_asset_says_what_it_is():
    graph = build_definitions().resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description, key
        assert node.group_name != "default", key
        assert node.owners, key
        assert node.kinds, key
        assert node.code_version, key
        assert node.partitions_def.get_partition_keys() == list(registry.load()[0]), key


def test_every_heavy_asset_asks_for_the_gpu_pool():
    graph = build_definitions().resolve_asset_graph()
    pooled = {key.to_user_string() for key in graph.get_all_asset_keys() if graph.get(key).pools == {"gpu"}}
    assert {key for key in pooled if "/" not in key} == {
        *("item_descriptions", "user_profiles", "reasoning_labels", "lora_model", "predictions", "evaluation_metrics"),
        "recommendations",
        "leaderboard",  # the encoder of BERTScore
    }
    # of studies and zero-shot students all that runs a model; of baselines nothing
    branches = {key.rsplit("/", 1)[-1] for key in pooled if "/" in key}
    assert branches == {"user_profiles", "reasoning_labels", "lora_model", "predictions"}
    assert not any(key.startswith("baselines/") for key in pooled)


def test_declared_column_sources_exist():
    for table in TABLES.values():
        for column in table.columns:
            for source in column.made_of:
                upstream, name = source.split(".")
                assert name in TABLES[upstream].arrow().names, f"{table.name}.{column.name} <- {source}"


def test_the_weekly_schedule_is_off_and_asks_once_for_each_dataset_in_use(tmp_path):
    assert weekly_refresh.default_status == dg.DefaultScheduleStatus.STOPPED
    store = Store(tmp_path)

    def tick():
        told = {"scheduled_execution_time": datetime(2026, 1, 5, 3), "resources": {"lake": LakeResource(root=str(tmp_path))}}
        repository = build_definitions().get_repository_def()
        return weekly_refresh.evaluate_tick(dg.build_schedule_context(repository_def=repository, **told))

    assert "no dataset has been materialized yet" in tick().skip_message
    for dataset in ("ml1m", "ml100k_demo"):
        store.publish("raw_dataset", dataset)
    (tmp_path / "receipts/raw_dataset/ml1m/00000001.json").write_text("{", encoding="utf-8")  # its run will say so
    requests = list(tick().run_requests)
    assert [request.partition_key for request in requests] == ["ml100k_demo", "ml1m"]
    assert len({request.run_key for request in requests}) == len(requests)


def test_the_sensor_of_raw_files_is_off_and_launches_the_whole_pipeline():
    assert raw_files_changed.default_status == dg.DefaultSensorStatus.STOPPED
    found = build_definitions().get_repository_def().get_sensor_def("raw_files_changed")
    assert found.job_name == "refresh"


def test_the_workspace_file_loads_outside_an_installed_environment(tmp_path):
    """`working_directory` makes the code location importable from a bare checkout."""
    code = (
        "import json; from dagster._core.workspace.load import location_origins_from_yaml_paths as load; "
        f"(origin,) = load([{str(ROOT / 'workspace.yaml')!r}]); print(json.dumps([origin.loadable_target_origin.module_name, origin.loadable_target_origin.working_directory]))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    module, folder = json.loads(found.stdout.splitlines()[-1])
    assert module == "reasoningrec_assets.definitions"
    assert Path(folder).samefile(ROOT)
