"""The lineage macros reach the root, with the versions that were read and not the newest ones."""

from __future__ import annotations

from reasoningrec_assets.lake.receipts import Receipt, Upstream

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
