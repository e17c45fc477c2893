"""Real materializations of the whole graph on a tiny random model."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasoningrec_assets.assets import sources
from reasoningrec_assets.catalog import connect, sync
from reasoningrec_assets.errors import PermanentError, TransientError
from reasoningrec_assets.lake.steps import Output, Step, run_step, verify
from reasoningrec_assets.lake.tables import read_rows
from reasoningrec_assets.models import store
from reasoningrec_assets_tests.assets.conftest import DEMO
from reasoningrec_assets_tests.tiny import write_movielens

TABLE_VIEWS = {
    "raw_dataset",
    "cleaned_interactions",
    "cleaning_report",
    "items",
    "interaction_windows",
    "item_reviews",
    "item_descriptions",
    "user_profiles",
    "reasoning_labels",
    "sft_splits",
    "predictions",
    "evaluation_metrics",
}


@pytest.fixture
def no_model(monkeypatch):
    """From here on, loading any model is an error."""

    def refuse(*_args, **_more):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(store, "load_causal_model", refuse)
    monkeypatch.setattr("reasoningrec_assets.metrics.text.BertScore._encoder", property(refuse))


def test_the_whole_pipeline_runs_and_a_second_run_does_no_work(pipeline, monkeypatch, request):
    first = pipeline.run()
    versions = pipeline.versions()
    assert len(versions) == 17
    checks = first.get_asset_check_evaluations()
    assert len(checks) > 25
    assert not [check.check_name for check in checks if not check.passed]

    request.getfixturevalue("no_model")
    receipts = sorted(pipeline.lake.receipts.root.rglob("*.json"))
    second = pipeline.run()
    assert pipeline.versions() == versions
    reused = [
        event.step_materialization_data.materialization.metadata["reused"].value
        for event in second.all_events
        if event.is_step_materialization
    ]
    assert reused == [True] * 17
    new = [path for path in sorted(pipeline.lake.receipts.root.rglob("*.json")) if path not in receipts]
    assert all("checks" in path.parts for path in new), "a reused step left another receipt"


def test_a_run_can_leave_out_some_of_an_assets_checks(pipeline):
    rows = dg.AssetCheckKey(dg.AssetKey("items"), "rows")
    selected = dg.AssetSelection.assets("raw_dataset", "cleaned_interactions", "items").without_checks()
    one = dg.define_asset_job("one_check", selected | dg.AssetSelection.checks(rows))
    definitions = dg.Definitions.merge(pipeline.definitions, dg.Definitions(jobs=[one]))
    found = definitions.resolve_job_def("one_check").execute_in_process(partition_key=DEMO).get_asset_check_evaluations()
    assert [(check.asset_check_key, check.passed, check.metadata["rows"].value) for check in found] == [(rows, True, 40)]


@pytest.mark.parametrize(("kind", "tries"), [(TransientError, 3), (PermanentError, 1), (RuntimeError, 1)])
def test_what_may_pass_is_tried_again_and_nothing_else_is(pipeline, monkeypatch, kind, tries):
    real, made = sources.obtain, []

    def fails_twice(*known):
        made.append(None)
        if len(made) <= 2:
            raise kind("boom") if kind is RuntimeError else kind("ask", where="there", problem="boom", remedy="Wait")
        return real(*known)

    monkeypatch.setattr(sources, "obtain", fails_twice)
    result = pipeline.run(selection='key:"raw_dataset"', raise_on_error=False)
    assert (len(made), result.success) == (tries, tries == 3)
    failed = [path for path in pipeline.lake.receipts.root.rglob("*.json") if '"failed"' in path.read_text()]
    assert len(failed) == min(tries, 2), "every attempt that failed is on record"


def test_sql_answers_where_every_figure_came_from(pipeline):
    pipeline.run()
    sync(pipeline.lake.root, log=lambda _: None)
    with duckdb.connect(str(pipeline.lake.root / "catalog.duckdb"), read_only=True) as client:
        views = {row[0] for row in client.sql("select view_name from duckdb_views() where not internal").fetchall()}
        assert views >= TABLE_VIEWS
        for view in TABLE_VIEWS:
            assert client.sql(f"select count(*) from {view}").fetchall()[0][0] > 0, view
        methods = {row[0] for row in client.sql("select distinct method from predictions").fetchall()}
        assert methods == {"student", "zero_shot_student", "like_rate", "logistic_regression"}
        walk = client.sql(f"select asset, data_version from lineage_upstream('evaluation_metrics', '{DEMO}')").fetchall()
        assert dict(walk) == {asset: version for asset, version in pipeline.versions().items() if asset != "evaluation_report"}
        checked = client.sql("select bool_and(passed), count(*) from check_results").fetchall()[0]
        assert checked[0]
        assert checked[1] > 25
        assert client.sql("select value from metrics where asset = 'evaluation_metrics' and name = 'student_auc'").fetchall()


def test_the_report_shows_every_method_the_checks_and_what_cleaning_did_and_follows_the_boards_of_other_seeds(
    pipeline, data_root, monkeypatch
):
    def report():
        run = pipeline.run(selection='key:"evaluation_report"')
        return run.asset_materializations_for_node("evaluation_report")[0].metadata

    monkeypatch.setenv("REASONINGREC_DATA", str(data_root))
    (data_root / "datasets").mkdir()
    (data_root / "datasets" / "ml100k_seed43.toml").write_text('base = "ml100k"\ntitle = "Seed 43"\n', encoding="utf-8")
    pipeline.run(selection='+key:"evaluation_metrics" or key:"baselines/item_like_rate/predictions" or key:"leaderboard"')
    made = report()
    path = made["path"].value
    assert (made["report"].value, f"`{path}`" in made["report_by_hand"].value) == (f"file://{path}", True)
    page = Path(path).read_text(encoding="utf-8")
    for told in (
        "What cleaning did",
        "target not in own history",
        "No target is in its own history",
        "item_like_rate",
        "paired test",
    ):
        assert told in page, told
    assert "Over seeds" not in page
    assert page.count("<span>item_like_rate</span>") > 1, "it is among the scores of the users"

    board = pq.read_table(pipeline.lake.path_of(pipeline.lake.newest("leaderboard", DEMO)))
    other = board.set_column(0, "dataset", pa.array(["ml100k_seed43"] * board.num_rows))
    run_step(pipeline.lake, Step("leaderboard", "ml100k_seed43", "1"), lambda _: Output(other), log=print)
    again = report()
    assert not again["reused"].value
    assert "Over seeds" in Path(again["path"].value).read_text(encoding="utf-8")
    assert report()["reused"].value


def test_everything_the_ui_shows_is_in_the_catalogue(pipeline):
    result = pipeline.run(selection='+key:"interaction_windows"')
    (shown,) = [
        event.step_materialization_data.materialization.metadata
        for event in result.all_events
        if event.is_step_materialization and event.asset_key.to_user_string() == "interaction_windows"
    ]
    sync(pipeline.lake.root, log=lambda _: None)
    with connect(pipeline.lake.root) as client:
        columns = dict(client.execute("select name, type from columns where asset = 'interaction_windows'").fetchall())
        assert columns == {column.name: column.type for column in shown["dagster/column_schema"].value.columns}
        lineage = set(
            client.execute(
                "select column_name, upstream_asset, upstream_column from column_lineage where asset = 'interaction_windows'"
            ).fetchall()
        )
        assert lineage == {
            (name, dep.asset_key.to_user_string(), dep.column_name)
            for name, deps in shown["dagster/column_lineage"].value.deps_by_column.items()
            for dep in deps
        }
        assert "| label | cleaned_interactions.liked |" in shown["made_of"].value.splitlines()
        figures = dict(client.execute("select name, value from metrics where asset = 'interaction_windows'").fetchall())
        assert figures["windows"] == shown["windows"].value
        preview = client.execute("select value from metadata where asset = 'interaction_windows' and name = 'preview'").fetchall()
        assert preview == [(shown["preview"].value,)]
        rows = client.execute("select row_count from current_materializations where asset = 'interaction_windows'").fetchall()
        assert rows == [(shown["dagster/row_count"].value,)]


def test_forced_training_on_the_same_data_gives_the_same_student(pipeline, monkeypatch):
    from reasoningrec_assets.training import lora

    steps, step = [], lora._Run.step
    monkeypatch.setattr(lora._Run, "step", lambda *told: steps.append(1) or step(*told))
    pipeline.run()
    trained = len(steps)
    before = pipeline.versions()
    sequence = pipeline.lake.newest("lora_model", DEMO).sequence
    pipeline.run(
        selection="key:lora_model or key:predictions",
        config={"lora_model": {"config": {"force": True}}, "predictions": {"config": {"force": True}}},
    )
    assert pipeline.lake.newest("lora_model", DEMO).sequence == sequence + 1
    assert len(steps) == 2 * trained > 0  # not what the last training left
    assert pipeline.versions() == before


def test_run_config_overrides_one_setting_and_only_what_depends_on_it_is_made_again(pipeline):
    pipeline.run()
    before = pipeline.versions()
    pipeline.run(config={"lora_model": {"config": {"training": {"learning_rate": 0.05}}}})
    after = pipeline.versions()
    changed = {asset for asset in after if after[asset] != before[asset]}
    assert changed == {"lora_model", "predictions", "evaluation_metrics", "evaluation_report"}
    assert pipeline.lake.newest("lora_model", DEMO).settings["learning_rate"] == 0.05


def test_labels_are_written_only_for_the_rows_that_need_them(pipeline):
    pipeline.run()
    paths = {
        asset: pipeline.lake.path_of(pipeline.lake.newest(asset, DEMO))
        for asset in ("reasoning_labels", "sft_splits", "item_descriptions", "interaction_windows")
    }
    labels = read_rows(paths["reasoning_labels"])
    assert [sum(row["split"] == split for row in labels) for split in ("train", "valid", "test")] == [8, 0, 12]
    assert sum(row["label"] for row in labels if row["split"] == "train") == 4
    splits = read_rows(paths["sft_splits"])
    windows = read_rows(paths["interaction_windows"])
    assert sum(row["split"] == "test" for row in splits) == sum(row["split"] == "test" for row in windows)
    needed = {item for row in windows for item in (row["target_item_id"], *row["history_item_ids"], *row["profile_item_ids"])}
    assert {row["item_id"] for row in read_rows(paths["item_descriptions"])} == needed


def test_explanations_follow_the_models_own_prediction(pipeline, monkeypatch):
    from reasoningrec_assets.training import student

    asked = []
    original = student.write_texts
    monkeypatch.setattr(
        student, "write_texts", lambda rows, ask, writer: (asked.extend(map(ask, rows)), original(rows, ask, writer))[1]
    )
    pipeline.run()
    path = pipeline.lake.path_of(pipeline.lake.newest("predictions", DEMO))
    scores = {f"{row['split']}/{row['user_id']}/{row['target_item_id']}": row["score"] for row in read_rows(path)}
    explained = [request for request in asked if request.row in scores]
    swapped = [row for row in read_rows(path) if row["swapped_score"] is not None]
    assert len(swapped) == len(explained) / 2
    assert all(row["swapped_score"] != row["score"] for row in swapped)
    other = {request.message for request in asked if request.row.startswith("swapped/")}
    assert len(other) == len(swapped)
    assert not other & {request.message for request in explained}
    labels = read_rows(pipeline.lake.path_of(pipeline.lake.newest("reasoning_labels", DEMO)))
    referenced = [row for row in labels if row["split"] == "test" and row["text"]]
    assert referenced
    assert len(explained) == 2 * len(referenced), "each row with a reference, once fine-tuned and once zero-shot"
    path = pipeline.lake.path_of(pipeline.lake.newest("zero_shot/student/predictions", DEMO))
    zero_shot = {f"{row['split']}/{row['user_id']}/{row['target_item_id']}": row["score"] for row in read_rows(path)}
    said = {(request.row, request.prefill) for request in explained}
    expected = {
        (row, f"Prediction: {'Yes' if by_row[row] > 0 else 'No'}\n")
        for by_row in (scores, zero_shot)
        for row in {r.row for r in explained}
    }
    assert said == expected


def test_a_new_raw_file_is_noticed(pipeline):
    pipeline.run(selection='+key:"interaction_windows"')
    before = pipeline.versions()
    write_movielens(pipeline.lake.root / "raw" / "ml100k", users=25)
    pipeline.run(selection='+key:"interaction_windows"')
    assert all(
        pipeline.versions()[asset] != before[asset] for asset in ("raw_dataset", "cleaned_interactions", "interaction_windows")
    )


def test_a_failed_step_leaves_the_old_partition_readable(pipeline):
    pipeline.run(selection='+key:"interaction_windows"')
    before = pipeline.versions()
    with (pipeline.lake.root / "raw" / "ml100k" / "u.data").open("a") as file:
        file.write("1\t2\tthree\t880000000\n")
    result = pipeline.run(selection='+key:"interaction_windows"', raise_on_error=False)
    assert not result.success
    failure = next(event for event in result.all_events if event.is_step_failure).step_failure_data
    assert "u.data" in failure.user_failure_data.description
    assert "three" in failure.user_failure_data.description
    assert failure.error.cause is not None
    assert {asset: version for asset, version in pipeline.versions().items() if asset != "raw_dataset"} == {
        asset: version for asset, version in before.items() if asset != "raw_dataset"
    }
    assert verify(pipeline.lake, pipeline.lake.newest("interaction_windows", DEMO))
    assert not [path for path in (pipeline.lake.root / "scratch").rglob("*") if path.is_file() and path.name != ".sweep"]


@pytest.mark.parametrize("dataset", ["beauty", "fashion"])
def test_a_missing_raw_file_gives_one_error_that_lists_them_all(pipeline, dataset, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there: no source answers
    result = pipeline.run(selection="raw_dataset", partition=dataset, raise_on_error=False)
    description = next(
        event for event in result.all_events if event.is_step_failure
    ).step_failure_data.user_failure_data.description
    category = {"beauty": "All_Beauty", "fashion": "AMAZON_FASHION"}[dataset]
    for name in (f"{category}.csv", f"{category}.json", f"meta_{category}.json", f"raw/{dataset}", "https://"):
        assert name in description
    failed = pipeline.lake.receipts.at("raw_dataset", dataset, 1)
    assert failed.status == "failed"


def test_a_full_disk_names_the_folder_and_leaves_nothing(pipeline, monkeypatch):
    pipeline.run(selection='+key:"items"')
    import pyarrow.parquet as pq

    def full(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    result = pipeline.run(selection="interaction_windows", raise_on_error=False)
    description = next(
        event for event in result.all_events if event.is_step_failure
    ).step_failure_data.user_failure_data.description
    assert str(pipeline.lake.root) in description
    assert "Free space" in description
    assert pipeline.lake.receipts.newest("interaction_windows", DEMO) is None
    assert not list((pipeline.lake.root / "lake" / "interaction_windows").rglob("*.parquet"))


def test_a_missing_upstream_says_which_command_makes_it(pipeline):
    result = pipeline.run(selection="items", raise_on_error=False)
    description = next(
        event for event in result.all_events if event.is_step_failure
    ).step_failure_data.user_failure_data.description
    assert "raw_dataset" in description or "cleaned_interactions" in description
    assert "dagster asset materialize" in description


def test_a_setting_out_of_bounds_fails_with_its_name(pipeline):
    config = {"reasoning_labels": {"config": {"sampling": {"k": 0}}}}
    result = pipeline.run(selection='+key:"reasoning_labels"', config=config, raise_on_error=False)
    event = next(event for event in result.all_events if event.is_step_failure)
    assert "sampling" in str(event.step_failure_data)
    assert "k: Input should be greater than or equal to 2" in str(event.step_failure_data)


@pytest.mark.parametrize(
    ("selection", "settings", "named"),
    [
        ("leaderboard", {"evaluation": {"encoder": "/nowhere"}}, "/nowhere"),
        ("sft_splits", {"sampling": {"k": 0}}, "section sampling): k"),
        ("lora_model", {"training": {"base_model": "/nowhere"}}, "/nowhere"),
        ("item_descriptions", {"item_descriptions": {"words": 0}}, "section item_descriptions): words"),
    ],
)
def test_a_mistake_in_a_setting_is_an_attempt_that_nothing_repeats(pipeline, selection, settings, named):
    if selection != "leaderboard":  # few of whose methods there are, as a rule: here none
        pipeline.run(selection=f'+key:"{selection}"')
    result = pipeline.run(selection=f'key:"{selection}"', config={selection: {"config": settings}}, raise_on_error=False)
    failure = result.failure_data_for_node(selection)
    assert named in failure.user_failure_data.description, "it is a dg.Failure, which no retry policy repeats"
    with connect(pipeline.lake.root) as catalogue:
        found = "SELECT error FROM materializations WHERE asset = ? AND status = 'failed'"
        ((error,),) = catalogue.execute(found, [selection]).fetchall()
    assert error.startswith("PermanentError: ")
    assert named in error
