"""The lineage macros reach the root, with the versions that were read and not the newest ones."""

from __future__ import annotations

import json
import re

from reasoningrec_assets.lake.receipts import Receipt, Upstream
from reasoningrec_assets.lake.steps import code_version

AT = "2026-01-02T03:04:05+00:00"
WALK = "SELECT depth, asset, sequence, data_version, is_current FROM lineage_upstream(?, ?)"


def test_upstream_reaches_the_root(store):
    store.chain()
    store.sync()
    found = store.query(WALK, ["predictions", "fashion"])
    assert [(depth, asset) for depth, asset, *_ in found] == [
        (0, "predictions"),
        (1, "lora_model"),
        (1, "sft_splits"),
        (2, "interaction_windows"),
        (2, "item_descriptions"),
        (3, "cleaned_interactions"),
        (3, "items"),
        (4, "raw_dataset"),
    ]
    assert all(is_current for *_, is_current in found)


def test_upstream_tells_what_was_read_after_an_upstream_was_made_again(store):
    store.chain()
    read = store.lake.newest("raw_dataset", "fashion")
    store.publish("raw_dataset", salt="new")
    store.sync()
    root = store.query(WALK, ["predictions", "fashion"])[-1]
    assert root == (4, "raw_dataset", 1, read.data_version, False)

    store.chain(salt="new")
    store.sync()
    assert store.query(WALK, ["predictions", "fashion"])[-1][2:] == (
        2,
        store.lake.newest("raw_dataset", "fashion").data_version,
        True,
    )


def test_upstream_of_a_partition_stays_in_it(store):
    store.chain()
    store.chain("beauty", salt="b")
    store.sync()
    found = store.query("SELECT DISTINCT partition FROM lineage_upstream('predictions', 'beauty')")
    assert found == [("beauty",)]


def test_upstream_starts_at_the_current_success_not_at_a_later_failure(store):
    store.chain()
    store.fail("predictions")
    store.sync()
    assert store.query(WALK, ["predictions", "fashion"])[0][:3] == (0, "predictions", 1)
    assert store.query(WALK, ["nothing", "fashion"]) == []


def test_downstream_holds_everything_made_from_the_current_version(store):
    store.chain()
    store.sync()
    found = store.query("SELECT asset FROM lineage_downstream('items', 'fashion') ORDER BY depth, asset")
    assert found == [("items",), ("item_descriptions",), ("sft_splits",), ("lora_model",), ("predictions",)]


def test_downstream_of_a_new_version_is_empty_until_something_reads_it(store):
    store.chain()
    store.publish("items", salt="new")
    store.sync()
    downstream = "SELECT asset, sequence FROM lineage_downstream('items', 'fashion') ORDER BY depth"
    assert store.query(downstream) == [("items", 2)]
    store.publish("item_descriptions", salt="new")
    store.sync()
    assert store.query(downstream) == [("items", 2), ("item_descriptions", 2)]


def test_downstream_survives_an_identical_forced_rebuild(store):
    store.chain()
    store.publish("items", force=True)
    store.publish("item_descriptions")
    store.sync()
    found = store.query("SELECT asset, sequence FROM lineage_downstream('items', 'fashion') ORDER BY depth LIMIT 2")
    assert found == [("items", 2), ("item_descriptions", 1)]


def test_edges_keep_the_whole_history(store):
    store.publish("raw_dataset")
    store.publish("cleaned_interactions")
    store.publish("raw_dataset", salt="new")
    store.publish("cleaned_interactions")
    store.sync()
    found = store.query("SELECT sequence, upstream_asset, upstream_sequence FROM lineage_edges ORDER BY sequence")
    assert found == [(1, "raw_dataset", 1), (2, "raw_dataset", 2)]


def test_any_depth(store):
    """A chain of 300 steps, and receipts that were edited into a circle, which must not hang a query."""
    for step in range(300):
        upstream = (Upstream(f"step/{step - 1}", "fashion", f"v{step - 1}", 1),) if step else ()
        append(store, f"step/{step}", f"v{step}", upstream)
    append(store, "circle/a", "a", (Upstream("circle/b", "fashion", "b", 1),))
    append(store, "circle/b", "b", (Upstream("circle/a", "fashion", "a", 1),))
    store.sync()
    assert store.query(WALK, ["step/299", "fashion"])[-1][:2] == (299, "step/0")
    assert len(store.query(WALK, ["circle/a", "fashion"])) == 2


def append(store, asset: str, version: str, upstream: tuple[Upstream, ...]) -> None:
    plain = Receipt(asset, "fashion", "success", "run-1", AT, AT, 0.0, "1", "", data_version=version, upstream=upstream)
    store.lake.receipts.append(plain)


def test_stale_names_the_first_cause_and_all_that_stands_on_it(store):
    store.chain()
    store.chain("beauty")
    store.sync()
    assert store.query("FROM stale_partitions") == []
    store.publish("items", salt="new")
    store.publish("lora_model", "beauty", code_version="99")
    store.sync()
    assert store.query("FROM stale_partitions") == [
        # not predictions of beauty: its lora_model was made again by newer code, with the same content
        ("item_descriptions", "fashion", "items was replaced"),
        ("lora_model", "fashion", f"made by code {code_version('lora_model')}, the newest is 99"),
        ("predictions", "fashion", "lora_model is stale"),
        ("sft_splits", "fashion", "item_descriptions is stale"),
    ]


def test_the_newest_code_is_that_of_the_highest_number_whatever_the_clocks_say(store):
    store.publish("items", "beauty", code_version="100")
    store.publish("items", code_version="99")  # later
    store.sync()
    assert store.query("FROM stale_partitions") == [("items", "fashion", "made by code 99, the newest is 100")]


def test_newer_code_is_seen_before_it_has_made_anything(store):
    for asset in ("items", "baselines/like_rate/predictions", "study/grounded/predictions"):
        store.publish(asset, code_version="0")
    append(store, "somebody/elses", "v", ())
    store.sync()
    newest = {name: int(code_version(name)) for name in ("items", "baselines", "predictions")}
    assert store.query("FROM stale_partitions ORDER BY asset") == [
        ("baselines/like_rate/predictions", "fashion", f"made by code 0, the newest is {newest['baselines']}"),
        ("items", "fashion", f"made by code 0, the newest is {newest['items']}"),
        ("study/grounded/predictions", "fashion", f"made by code 0, the newest is {newest['predictions']}"),
    ]


def test_differences_of_two_materializations(store):
    store.chain()
    store.publish("items", salt="new")
    store.publish("item_descriptions", code_version="99", settings={"salt": "", "nested": {"rate": 0.2}})
    store.sync()
    one, other = (store.lake.receipts.at("item_descriptions", "fashion", sequence) for sequence in (1, 2))
    read = [receipt.upstream[0].data_version for receipt in (one, other)]
    assert store.query("FROM differences('item_descriptions', 'fashion', 1, 2)") == [
        ("code", "code_version", code_version("item_descriptions"), "99"),
        ("setting", "nested.names", '["a"]', None),
        ("setting", "nested.rate", "0.1", "0.2"),
        ("upstream", "items", *read),
    ]
    assert store.query("FROM differences('items', 'fashion', 1, 1)") == []


def test_models_and_prompts_behind_an_asset(store):
    store.chain()
    store.sync()
    found = store.query("SELECT asset, kind, name FROM made_with('predictions', 'fashion')")
    assert ("item_descriptions", "prompt", "describe") in found
    assert ("lora_model", "model_used", "base") in found
    assert not [row for row in found if row[0] == "baselines/like_rate/predictions"]


def test_mermaid_draws_every_edge_once_and_marks_what_was_replaced(store):
    store.chain()
    store.publish("raw_dataset", salt="new")
    store.sync()
    ((text,),) = store.query("SELECT lineage_mermaid('interaction_windows', 'fashion')")
    first, *lines = text.splitlines()
    assert first == "flowchart LR"
    assert sorted(line.count("-->") for line in lines) == [0, 1, 1]
    assert '["raw_dataset"] --> ' in text
    assert sum(line.endswith("stroke-dasharray: 5") for line in lines) == 1
    assert store.query("SELECT lineage_mermaid('nothing', 'fashion')") == [("flowchart LR",)]


def test_openlineage_tells_inputs_outputs_columns_and_failures(store):
    store.chain()
    store.fail("items")
    store.sync()
    events = {
        (asset, sequence): json.loads(event)
        for asset, sequence, event in store.query("SELECT asset, sequence, event FROM openlineage")
    }
    assert len(events) == len({event["run"]["runId"] for event in events.values()}) == 10
    made, failed = events["items", 1], events["items", 2]
    assert (made["eventType"], failed["eventType"], failed["outputs"]) == ("COMPLETE", "FAIL", [])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", made["eventTime"])
    assert [one["name"] for one in made["inputs"]] == ["cleaned_interactions/fashion", "raw_dataset/fashion"]
    version = store.lake.newest("raw_dataset", "fashion").data_version
    assert made["inputs"][1]["facets"]["version"]["datasetVersion"] == version
    assert failed["run"]["facets"]["errorMessage"]["message"] == "RuntimeError: the engine fell over"
    assert made["run"]["facets"].keys() == {"parent"}
    (output,) = made["outputs"]
    assert output["facets"]["version"]["datasetVersion"] == store.lake.newest("items", "fashion").data_version
    assert [field["name"] for field in output["facets"]["schema"]["fields"]][:2] == ["dataset", "item_id"]
    title = output["facets"]["columnLineage"]["fields"]["title"]["inputFields"]
    assert title == [{"namespace": "reasoningrec", "name": "raw_dataset/fashion", "field": "path"}]
    assert events["raw_dataset", 1]["inputs"] == []
