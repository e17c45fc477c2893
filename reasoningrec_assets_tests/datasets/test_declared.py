from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from reasoningrec_assets.datasets import cleaning, registry
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.steps import Lake
from reasoningrec_assets.sql import query

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "ml-latest-small.zip"
SHIPPED = list(registry.load()[0])

# the example of docs/datasets.md
EXAMPLE = """\
title = "MovieLens latest-small, September 2018"
min_ratings = 20
liked_above = 3.5
history_length = 12

[tables.ratings]
file = "ratings.csv"
columns = { user_id = "userId", item_id = "movieId", rating = "rating", timestamp = "timestamp" }

[tables.items]
file = "movies.csv"
columns = { item_id = "movieId", title = "title", genres = "genres" }
"""


@pytest.fixture
def declare(tmp_path, monkeypatch):
    """Writes declarations below a data root that the environment names."""
    monkeypatch.setenv("REASONINGREC_DATA", str(tmp_path))
    (tmp_path / "datasets").mkdir()

    def write(text=EXAMPLE, name="mine.toml"):
        path = tmp_path / "datasets" / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def mistake(name="mine"):
    assert name in registry.load()[1]
    assert set(SHIPPED) <= set(registry.load()[0])
    with pytest.raises(PermanentError) as caught:
        registry.get(name)
    return str(caught.value)


def test_the_example_is_the_one_of_the_documentation():
    text = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert EXAMPLE in text


def test_a_declaration_is_a_dataset_after_the_shipped_ones(declare):
    declare()
    assert list(registry.load()[0]) == [*SHIPPED, "mine"]
    record = registry.get("mine")
    assert (record.name, record.adapter, record.liked_above, record.profile_items) == ("mine", "tables", 3.5, 15)
    assert {role: raw.names for role, raw in record.raw_files.items()} == {"ratings": ("ratings.csv",), "items": ("movies.csv",)}


def test_every_field_of_the_record_can_be_declared(declare):
    checksum = "md5:" + "0" * 32
    more = """
[tables.reviews]
file = "said.parquet"
columns = { user_id = "u", item_id = "i", text = "t" }
time_unit = "milliseconds"
[settings.sampling]
k = 32
[[sources]]
kind = "url"
location = "http://localhost/a.zip"
checksum = "CHECKSUM"
members = { ratings = "a/ratings.csv", items = "a/movies.csv", reviews = "a/said.parquet" }
""".replace("CHECKSUM", checksum)
    dates = "cut_dates = [2012-01-01, 2014-01-01, 2016-01-01]\none_user_per_sequence = true\nlowest = 0\nhighest = 10\n"
    declare("\ufeff" + dates + EXAMPLE.replace("\n", "\r\n") + more)
    record = registry.get("mine")
    assert record.cut_dates == (date(2012, 1, 1), date(2014, 1, 1), date(2016, 1, 1))
    assert (record.one_user_per_sequence, record.lowest, record.highest) == (True, 0, 10)
    assert (record.settings["sampling"]["k"], record.sources[0].checksum) == (32, checksum)
    assert record.tables["reviews"].time_unit == "milliseconds"


def test_a_base_gives_what_is_not_set_and_its_files(declare):
    declare()
    declare('title = "Fewer"\nbase = "mine"\nsample_users = 5\nliked_at_least = 4', "a_sample.toml")
    declare('base = "ml100k_demo"\nhistory_length = 3', "demo_short.toml")
    sample, short = registry.get("a_sample"), registry.get("demo_short")
    assert (sample.title, sample.raw_name, sample.sample_users, sample.history_length) == ("Fewer", "mine", 5, 12)
    assert (sample.liked_at_least, sample.liked_above) == (4, None)
    assert sample.tables == registry.get("mine").tables
    assert (short.raw_name, short.sample_users, short.history_length, short.liked_above) == ("ml100k", 32, 3, 3)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("min_ratings = 20", "min_ratings 20", ["line 2, column"]),
        (
            "min_ratings",
            "min_rating",
            ["line 2, min_rating: there is no such key; use adapter, base, cut_dates", "min_ratings: Field"],
        ),
        ("min_ratings = 20", "min_ratings = 0", ["line 2, min_ratings: Input should be greater than or equal to 1"]),
        ("min_ratings = 20\n", "", ["min_ratings: Field required"]),
        ("liked_above = 3.5\n", "", ["set exactly one of liked_at_least and liked_above"]),
        ("liked_above = 3.5", "liked_above = 7", ["line 3, liked_above is outside of the ratings' bounds, 0.5 to 5"]),
        ("liked_above = 3.5", "liked_above = nan", ["line 3, liked_above: Input should be a finite number"]),
        ("rating = ", "rate = ", ["line 8, tables.ratings.columns.rate: Input should be 'user_id', 'item_id', 'rating'"]),
        ('rating = "rating", ', "", ["[tables.ratings] needs the columns user_id, item_id, rating, timestamp"]),
        (
            'genres = "',
            'rating = "',
            ["[tables.items] needs the columns item_id, takes title, brand, price, about, genres, year"],
        ),
        ('"movieId", rating', '"userId", rating', ["two columns of one, are the same, ratings: userId"]),
        ('file = "movies.csv"', 'file = "ratings.csv"', ["two of the tables", "are the same, ratings.csv"]),
        ('file = "movies.csv"', 'file = "../movies.csv"', ["line 11, tables.items.file: String should match pattern"]),
        ('file = "movies.csv"', 'file = "movies.xlsx"', ["line 11, tables.items.file: String should match pattern"]),
        ('file = "movies.csv"', "", ["line 10, tables.items.file: Field required"]),
        (
            'file = "movies.csv"',
            'fil = "movies.csv"',
            ["line 11, tables.items.fil: there is no such key; use columns, file, time_unit"],
        ),
        ("[tables.items]", "[tables.movies]", ["line 10, tables.movies: Input should be 'ratings', 'items' or 'reviews'"]),
        (
            "[tables.items]",
            "[settings.sampling]\nkk = 32\n[tables.items]",
            ["line 11, settings.sampling.kk: there is no such key; use explained_rows, k"],
        ),
        (
            "[tables.items]",
            "[settings.sampling]\nk = 1\n[tables.items]",
            ["line 11, settings.sampling.k: Input should be greater than or equal to 2"],
        ),
        ("history_length", 'adapter = "movielens"\nhistory_length', ["for the adapter tables alone"]),
        (
            "[tables.items]",
            '[raw_files.items]\nnames = ["movies.csv"]\n[tables.items]',
            ["the adapter tables reads ratings: raw_files must have them"],
        ),
        ("[tables.items]", "[settings.trainin]", ["line 10, settings.trainin: Input should be 'engine', 'item_descriptions'"]),
        ('file = "ratings.csv"', 'file = "ratings.csv"\ntime_unit = "minutes"', ["line 8", "'seconds', 'milliseconds' or 'iso'"]),
        (
            "history_length",
            'base = "nothing"\nhistory_length',
            ["line 4: no such base 'nothing'; use one of beauty, fashion, ml100k, ml100k_demo"],
        ),
        ("history_length", 'base = "mine"\nhistory_length', ["no such base 'mine'"]),
        ("history_length", "base = [1]\nhistory_length", ["no such base [1]"]),
        ("history_length", 'name = "other"\nhistory_length', ["a dataset has the name of its file"]),
        ("history_length", 'adapter = "amazon"\nhistory_length', ["for the adapter tables alone"]),
        ("history_length", "cut_dates = [2014-01-01, 2012-01-01, 2016-01-01]\nhistory_length", ["line 4, cut_dates must go up"]),
        (
            "[tables.ratings]",
            '[[sources]]\nkind = "url"\nlocation = "https://a/b.zip"\nmembers = { "../evil" = "r.csv" }\n[tables.ratings]',
            ["line 6, sources have members for ../evil; use ratings, items"],
        ),
        ("history_length", "cut_dates = [2014-01-01]\nhistory_length", ["line 4, cut_dates"]),
    ],
)
def test_a_mistake_is_answered_with_its_line_and_what_is_allowed(declare, old, new, words):
    assert old in EXAMPLE
    path = declare(EXAMPLE.replace(old, new, 1))
    message = mistake()
    assert str(path) in message
    for expected in words:
        assert expected in message


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a = " + b"[" * 100_000, b"\x00"])
def test_what_is_no_declaration_is_answered(declare, content):
    path = declare(content)
    assert str(path) in mistake()


def test_what_is_no_file_is_answered(declare, tmp_path):
    folder = tmp_path / "datasets"
    (folder / "folder.toml").mkdir()
    (folder / "dangling.toml").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "pipe.toml")
    for name in ("folder", "dangling", "pipe"):
        assert "not a file that can be read" in mistake(name)


@pytest.mark.parametrize(
    ("file", "partition"),
    [
        ("ml100k.toml", "ml100k.toml"),
        ("My Data.toml", "My%20Data.toml"),
        ("a...b.toml", "a%2E%2E%2Eb.toml"),
        ("a,[b]|c.toml", "a%2C%5Bb%5D%7Cc.toml"),
        ("d\n.toml", "d%0A.toml"),
        (os.fsdecode(b"\xff.toml"), "%FF.toml"),
    ],
)
def test_a_name_that_no_dataset_can_have_is_a_partition_of_its_own(declare, file, partition):
    declare(name=file)
    assert "name" in mistake(partition)
    assert registry.get("ml100k").title == "MovieLens-100K"
    assert (
        dg.StaticPartitionsDefinition([key for group in registry.load() for key in group]).get_partition_keys()[-1] == partition
    )


def test_files_of_editors_are_no_declarations(declare):
    for name in (".#mine.toml", "mine.toml~", "README.md"):
        declare(name=name)
    assert (list(registry.load()[0]), registry.load()[1]) == (SHIPPED, {})


def test_an_unknown_dataset_lists_the_declared_ones_too(declare):
    declare()
    with pytest.raises(PermanentError, match=r"ml100k_demo.*mine"):
        registry.get("ml20k")


def small_zip(path):
    """A made-up archive in the layout of ml-latest-small: 30 users with 25 ratings of 40 films."""
    films = [f'{n},"Film {n}, The (19{n:02})",{"Drama|War" if n % 2 else "(no genres listed)"}' for n in range(1, 41)]
    events = [
        f"{user},{1 + (user * 7 + n) % 40},{0.5 + (user + n) % 10 / 2},{1_500_000_000 + 1_000 * user + n // 2}"
        for user in range(1, 31)
        for n in range(25)
    ]
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("ml-latest-small/README.txt", "about")
        file.writestr("ml-latest-small/tags.csv", "userId,movieId,tag,timestamp\r\n1,1,funny,1500000000\r\n")
        file.writestr("ml-latest-small/ratings.csv", "\r\n".join(["userId,movieId,rating,timestamp", *events, ""]))
        file.writestr("ml-latest-small/movies.csv", "\r\n".join(["movieId,title,genres", *films, ""]))
    return {"rows": 750, "users": 30, "items": 40}


@pytest.fixture(params=["written", pytest.param("real", marks=pytest.mark.skipif(not REAL.is_file(), reason="no real zip"))])
def example(request, declare, tmp_path):
    declare(name="ml_latest_small.toml")
    declare("title = 5", "broken.toml")
    own = tmp_path / "raw" / "ml_latest_small"
    own.mkdir(parents=True)
    if request.param == "written":
        return small_zip(own / "ml-latest-small.zip")
    shutil.copy(REAL, own)
    return {"rows": 100_836, "users": 610, "items": 9_724}


def materialize(tmp_path, partition, selection):
    dagster = str(Path(sys.executable).parent / "dagster")
    command = [dagster, "asset", "materialize", "-m", "reasoningrec_assets.definitions", "--select", selection]
    environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    environment |= {"REASONINGREC_DATA": str(tmp_path)}
    run = [*command, "--partition", partition]
    return subprocess.run(run, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)


@pytest.mark.slow
def test_the_documented_commands_lead_to_windows(example, tmp_path):
    done = materialize(tmp_path, "ml_latest_small", "interaction_windows,cleaned_interactions,items,raw_dataset")
    assert done.returncode == 0, done.stderr[-3000:]
    lake = Lake(tmp_path)
    receipts = {asset: lake.receipts.newest(asset, "ml_latest_small") for asset in ("cleaned_interactions", "items")}
    windows = lake.receipts.newest("interaction_windows", "ml_latest_small")
    assert receipts["cleaned_interactions"].metrics["rows_out"] == example["rows"]
    assert receipts["items"].row_count == example["items"]
    assert windows.row_count == 3 * example["users"]
    half = "SELECT count(*) FILTER (rating = 3.5 AND NOT liked) AS n, count(*) FILTER (liked <> (rating > 3.5)) AS wrong FROM read_parquet($p)"
    found = query(half, p=lake.path_of(receipts["cleaned_interactions"])).to_pylist()[0]
    assert found["n"] > 0
    assert found["wrong"] == 0


@pytest.mark.slow
def test_a_broken_declaration_fails_its_own_raw_dataset_with_the_message(declare, tmp_path):
    path = declare("title = 5", "broken.toml")
    done = materialize(tmp_path, "broken", "raw_dataset")
    assert done.returncode != 0
    assert f"({path}): line 1, title: Input should be a valid string" in done.stderr + done.stdout


def test_the_docs_example_of_an_amazon_category_is_a_dataset(declare):
    page = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    declare(page.split("### Another category of Amazon")[1].split("```toml\n")[1].split("```")[0], "luxury_beauty.toml")
    record = registry.get("luxury_beauty")
    assert (record.adapter, {role for role, raw in record.raw_files.items() if raw.required}) == ("amazon", {"reviews"})


def test_a_broken_profile_hides_no_shipped_dataset(declare, monkeypatch):
    declare(EXAMPLE + "\n[settings]\nsampling = { k = 32 }\n")
    monkeypatch.setenv("REASONINGREC_PROFILE", "/nowhere.toml")
    registry._shipped.cache_clear()
    assert list(registry.load()[0]) == list(SHIPPED)
    assert "/nowhere.toml" in mistake()


def test_the_documented_repetition_is_its_base_with_other_draws(declare):
    text = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    (block,) = [block for block in re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL) if "seed 43" in block]
    declare(block, "ml100k_seed43.toml")
    repetition, base = registry.get("ml100k_seed43"), registry.get("ml100k")
    other = {"name", "title", "base", "settings"}
    assert repetition.model_dump(exclude=other) == base.model_dump(exclude=other)
    assert (repetition.raw_name, repetition.settings) == ("ml100k", {"sampling": {"seed": 43}, "training": {"seed": 43}})
    declare(block.replace("ml100k", "ml1m"), "ml1m_seed43.toml")
    expected = {"sampling": {"seed": 43}, "training": {"learning_rate": 4e-5, "seed": 43}}
    assert registry.get("ml1m_seed43").settings == expected, "what else its base sets"


def test_rows_that_were_made_elsewhere_have_no_ratings(declare):
    declare('title = "Theirs"\nadapter = "published"\nmin_ratings = 1\nliked_above = 3\nhistory_length = 1\n', "theirs.toml")
    with pytest.raises(PermanentError, match="study_published"):
        cleaning.clean(registry.get("theirs"), {})
