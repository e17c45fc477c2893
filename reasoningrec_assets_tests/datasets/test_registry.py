from __future__ import annotations

import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from reasoningrec_assets.datasets import cleaning, registry, sources
from reasoningrec_assets.errors import PermanentError


@pytest.mark.parametrize(
    ("name", "min_ratings", "at_least", "above", "history", "skip", "words"),
    [
        ("ml100k", 20, None, 3, 12, 3, 100),
        ("ml1m", 20, 3, None, 20, 3, 200),
        ("fashion", 7, None, 3, 4, 7, 100),
        ("beauty", 6, None, 3, 5, 6, 100),
    ],
)
def test_records_carry_the_figures_of_the_paper(name, min_ratings, at_least, above, history, skip, words):
    record = registry.get(name)
    assert (record.min_ratings, record.liked_at_least, record.liked_above) == (min_ratings, at_least, above)
    assert (record.history_length, record.profile_skip_last, record.profile_words) == (history, skip, words)
    assert record.profile_items == 15


def test_demo_shares_the_files_of_its_base_and_samples_users():
    demo, base = registry.get("ml100k_demo"), registry.get("ml100k")
    assert demo.raw_name == base.raw_name == "ml100k"
    assert (demo.sample_users, demo.history_length, demo.profile_items) == (32, 8, 8)
    assert demo.settings["sampling"]["k"] == 32


def test_names_match_their_keys():
    assert all(name == record.name for name, record in registry.load()[0].items())


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(PermanentError, match="ml100k_demo") as caught:
        registry.get("ml20k")
    assert "'ml20k'" in str(caught.value)


@pytest.mark.parametrize("rule", [{"liked_above": None}, {"liked_at_least": 3.0}])
def test_exactly_one_like_rule(rule):
    fields = registry.get("ml100k").model_dump()
    with pytest.raises(ValidationError, match="exactly one"):
        registry.Dataset(**{**fields, **rule})


def test_a_profile_that_could_reach_a_target_is_refused():
    fields = registry.get("ml100k").model_dump()
    with pytest.raises(ValidationError, match="profile_skip_last"):
        registry.Dataset(**{**fields, "profile_skip_last": 2})


def test_a_checksum_needs_one_file_to_be_of():
    fields = {"kind": "url", "members": {"ratings": "u.data"}, "checksum": f"sha256:{'0' * 64}"}
    assert registry.Source(location="http://localhost/ml.zip", **fields).checksum
    with pytest.raises(ValidationError, match="a checksum is that of one archive"):
        registry.Source(location="http://localhost/ml/", **fields)


def test_importing_the_package_loads_nothing_heavy():
    modules = "registry, declared, sources, archives, cleaning, windows, sampling"
    heavy = "{'duckdb', 'pyarrow', 'pooch', 'requests', 'numpy', 'pandas', 'dagster'}"
    code = f"import sys; from reasoningrec_assets.datasets import {modules}; sys.exit(str({heavy} & set(sys.modules)) if {heavy} & set(sys.modules) else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_amazon_reviews_alone_are_a_complete_set(tmp_path):
    """The 5-core sets of 2018 have no ratings file and often come without metadata."""
    own = tmp_path / "raw" / "fashion"
    own.mkdir(parents=True)
    row = '{{"overall": {}, "reviewerID": "u", "asin": "B{:03d}", "unixReviewTime": {}, "verified": true, "reviewText": "Fits {}."}}\n'
    (own / "AMAZON_FASHION_5.json").write_text("".join(row.format(1 + n % 5, n, 1_400_000_000 + n, n) for n in range(9)))
    dataset = registry.get("fashion")
    files = {file.role: file.path for file in sources.obtain(dataset, tmp_path, print)}
    assert list(files) == ["reviews"]
    table = cleaning.clean(dataset, files)[0].read_all()
    assert table["item_id"].to_pylist() == [f"B{n:03d}" for n in range(9)]
    pq.write_table(table, tmp_path / "interactions.parquet")
    found, counts = cleaning.read_items(dataset, files, tmp_path / "interactions.parquet")
    assert (found["title"].to_pylist(), counts["items_without_title"]) == ([f"B{n:03d}" for n in range(9)], 9)
