"""The checks as Dagster runs them: on published tables, in the versions that an asset was made from."""

from __future__ import annotations

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasoningrec_assets.datasets import registry
from reasoningrec_assets.definitions import build_definitions
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.lake.steps import Lake, Output, Step, run_step
from reasoningrec_assets.resources.lake import LakeResource

EMPTY = {"string": "", "int64": 0, "float64": 0.0, "bool": True, "list<string>": [], "list<bool>": []}
USERS = 40


class Published:
    """A lake of honest tables; a test publishes others, and runs checks on what is there."""

    def __init__(self, root, partition):
        self.lake, self.partition = Lake(root), partition
        events = [(user, day) for user in range(USERS) for day in range(8)]
        self.interactions = [
            {"user_id": f"u{u}", "item_id": f"i{u}-{day}", "liked": (u + day) % 2 == 0, "timestamp": day, "position": day}
            for u, day in events
        ]
        self.windows = [
            {
                "split": split,
                "user_id": f"u{u}",
                "target_item_id": f"i{u}-{day}",
                "label": (u + day) % 2 == 0,
                "target_time": day,
                "history_item_ids": [f"i{u}-{shown}" for shown in range(day)],
                "history_liked": [(u + shown) % 2 == 0 for shown in range(day)],
            }
            for split, day in (("train", 5), ("valid", 6), ("test", 7))
            for u in range(USERS)
        ]

    def publish(self, asset, rows, upstream=(), **metrics):
        schema = TABLES[asset.rsplit("/", 1)[-1]]
        filled = [{c.name: row.get(c.name, EMPTY[c.type]) for c in schema.columns} | {"dataset": self.partition} for row in rows]
        table = pa.Table.from_pylist(filled, schema=schema.arrow())
        step = Step(asset, self.partition, "1", upstream=upstream, force=True)
        return run_step(self.lake, step, lambda _: Output(table, metrics), log=lambda _: None)[0]

    def publish_windows(self, **metrics):
        self.publish("cleaned_interactions", self.interactions)
        self.publish("interaction_windows", self.windows, ("cleaned_interactions",), **metrics)

    def check(self, asset, only=None):
        """Runs an asset's checks, or one of them, and nothing else; the outcomes by check."""
        definitions = build_definitions(resources={"lake": LakeResource(root=str(self.lake.root))})
        keys = definitions.resolve_asset_graph().get_check_keys_for_assets({dg.AssetKey(asset)})
        keys = {key for key in keys if only in (None, key.name)}
        assert keys, "a job of no checks would be one of all assets"
        job = definitions.resolve_implicit_global_asset_job_def().get_subset(asset_selection=set(), asset_check_selection=keys)
        result = job.execute_in_process(tags={"dagster/partition": self.partition})
        return {found.check_name: found for found in result.get_asset_check_evaluations()}


@pytest.fixture
def published(tmp_path):
    return Published(tmp_path, "ml100k")


def failed(checks):
    return {name: check.severity.value for name, check in checks.items() if not check.passed}


def figures(check):
    return {name: value.value for name, value in check.metadata.items()}


def test_honest_windows_pass_every_check(published):
    published.publish_windows()
    checks = published.check("interaction_windows")
    assert len(checks) == 7
    assert failed(checks) == {}


def test_a_leak_fails_its_check_with_its_figures_in_metadata_and_receipt(published):
    published.windows[0]["history_item_ids"] = ["i0-6"]
    published.publish_windows()
    checks = published.check("interaction_windows")
    assert failed(checks) == {"nothing_later_than_target": "ERROR"}
    found = {"at_or_after_target": 1, "at_or_after_cut": 0, "without_event": 0}
    assert figures(checks["nothing_later_than_target"]) == found
    (path,) = published.lake.receipts.root.glob("interaction_windows/*/checks/nothing_later_than_target/*.json")
    assert '"passed":false' in path.read_text()
    assert '"at_or_after_target":1.0' in path.read_text()


def test_a_check_reads_the_very_versions_that_the_asset_was_made_from(published):
    published.publish_windows()
    published.publish("cleaned_interactions", published.interactions[:1])
    assert failed(published.check("interaction_windows")) == {}


def test_the_cuts_are_those_of_the_dataset(tmp_path):
    published = Published(tmp_path, "ml100k_temporal")
    published.publish_windows(targets_per_user=5)
    assert failed(published.check("interaction_windows")) == {}
    _, _, cut = registry.get("ml100k_temporal").cuts
    for event in published.interactions:
        event["timestamp"] += cut
    for row in published.windows:
        row["target_time"] += cut
    published.publish_windows(targets_per_user=5)
    checks = published.check("interaction_windows")
    assert failed(checks) == {"nothing_later_than_target": "ERROR"}
    assert figures(checks["nothing_later_than_target"])["at_or_after_cut"] == USERS * (5 + 6 + 7)


@pytest.mark.parametrize(("metrics", "passes"), [({}, False), ({"targets_per_user": 1}, False), ({"targets_per_user": 2}, True)])
def test_the_receipt_says_how_many_targets_a_user_may_have(published, metrics, passes):
    second = {"target_item_id": "i0-6", "target_time": 6, "label": True}
    published.windows.append(published.windows[0] | second)
    published.publish_windows(**metrics)
    assert published.check("interaction_windows")["targets_per_user"].passed == passes


def test_equal_test_rows_are_a_warning_beyond_one_in_a_hundred(published):
    row = published.windows[-1]
    published.windows = [other for other in published.windows if (other["split"], other["user_id"]) != ("test", "u1")]
    published.windows.append(row | {"user_id": "u1"})
    published.interactions += [event | {"user_id": "u1"} for event in published.interactions[-8:]]
    published.publish_windows()
    checks = published.check("interaction_windows")
    assert failed(checks) == {"repeated_test_rows": "WARN"}
    assert figures(checks["repeated_test_rows"]) == {"repeated_test_share": 2 / USERS}


@pytest.mark.parametrize("told", [True, False])
def test_a_description_that_knows_its_targets_label_fails(published, told):
    # the test targets are of one rater each; the train and valid targets of two
    shared = [event | {"user_id": "x", "position": n} for n, event in enumerate(published.interactions) if event["position"] < 7]
    published.interactions += shared
    published.publish_windows()
    words = [f"word{n % 7} thing{n % 11}" for n in range(len(published.windows))]
    texts = {
        row["target_item_id"]: word + (" good" if row["label"] else " bad") * (told and row["split"] == "test")
        for row, word in zip(published.windows, words, strict=True)
    }
    published.publish("items", [{"item_id": item} for item in texts], ("cleaned_interactions",))
    made = [{"item_id": item, "text": text} for item, text in texts.items()]
    published.publish("item_descriptions", made, ("interaction_windows", "items"), generation_over_word_limit_share=0)
    checks = published.check("item_descriptions")
    assert failed(checks) == ({"description_without_own_review": "ERROR"} if told else {})
    assert figures(checks["description_without_own_review"])["judged"] == 1


@pytest.mark.parametrize("told", [True, False])
def test_a_summary_that_knows_the_label_is_a_warning(published, told):
    labels = [
        row | {"text": f"{'liked' if row['label'] else 'disliked'} word{n % 7}" if told else f"word{n % 7} thing{n % 11}"}
        for n, row in enumerate(published.windows)
    ]
    published.publish("reasoning_labels", labels, generation_over_word_limit_share=0)
    assert failed(published.check("reasoning_labels")) == ({"first_half_without_label": "WARN"} if told else {})


@pytest.mark.parametrize(
    ("leak_safe", "reviewer", "outcome"), [(1, "u2", {}), (1, "u1", {"no_review_of_a_target": "ERROR"}), (0, "u1", {})]
)
def test_a_review_by_the_user_of_a_target_is_found_in_the_table_itself(published, leak_safe, reviewer, outcome):
    published.publish_windows()
    rows = [{"item_id": "i1-7", "reviews": ["rated 5: Good."], "reviewers": [reviewer]}]
    published.publish("item_reviews", rows, ("interaction_windows",), leak_safe=leak_safe)
    assert failed(published.check("item_reviews", "no_review_of_a_target")) == outcome


@pytest.mark.parametrize(("leak_safe", "outcome"), [(1, {}), (0, {"leak_safe": "WARN"})])
def test_reviews_as_in_the_paper_are_a_warning(published, leak_safe, outcome):
    published.publish("item_reviews", [{"item_id": "i"}], leak_safe=leak_safe)
    assert failed(published.check("item_reviews", "leak_safe")) == outcome


def test_with_too_few_rows_the_classifiers_pass_and_say_that_they_judged_nothing(published):
    published.publish("reasoning_labels", published.windows[:3], generation_over_word_limit_share=0)
    checks = published.check("reasoning_labels")
    assert failed(checks) == {}
    assert figures(checks["first_half_without_label"]) == {"judged": 0, "rows": 0}


def test_a_file_with_other_columns_than_declared_fails(published):
    published.publish_windows()
    path = published.lake.path_of(published.lake.newest("interaction_windows", "ml100k"))
    table = pq.read_table(path)
    pq.write_table(table.rename_columns(["set" if name == "split" else name for name in table.schema.names]), path)
    checks = published.check("interaction_windows", "schema")
    assert failed(checks) == {"schema": "ERROR"}
    assert figures(checks["schema"]) == {"differing_columns": 2}
