from __future__ import annotations

import datetime as dt
import gzip
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasoningrec_assets.datasets import cleaning
from reasoningrec_assets.datasets.adapters import delimited, tables
from reasoningrec_assets.datasets.registry import RawRole
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.sql import connect, query

EVENT = {"user_id": "who", "item_id": "what", "rating": "stars", "timestamp": "when"}
EVENTS = [("1", "10", 5.0, 1_500_000_000), ("1", "20", 3.5, 1_500_000_001), ("2", "10", 0.5, 1_400_000_000)]
DAYS = [dt.datetime.fromtimestamp(time, dt.UTC) for *_, time in EVENTS]


@pytest.fixture
def declare(make_dataset):
    def make(file, columns=EVENT, role="ratings", **changes):
        table = {name: changes.pop(name) for name in ("time_unit",) if name in changes}
        declared = {"ratings": {"file": "ratings.csv", "columns": EVENT}} | {role: {"file": file, "columns": columns, **table}}
        raw_files = {name: RawRole(names=(table["file"],)) for name, table in declared.items()}
        return make_dataset(**{"adapter": "tables", "tables": declared, "raw_files": raw_files, **changes})

    return make


def load(dataset, path, role="ratings"):
    connection = connect(threads=4)
    getattr(tables.adapter(dataset), f"load_{role}")(connection, {role: path})
    name = {"ratings": "events", "items": "raw_items", "reviews": "raw_reviews"}[role]
    return [tuple(row.values()) for row in query(f"FROM {name} ORDER BY row", on=connection).to_pylist()]


def numbered(rows):
    return [(number, *row) for number, row in enumerate(rows, start=1)]


def text(path, header, rows, *, delimiter=","):
    data = "".join(delimiter.join(map(str, row)) + "\n" for row in [header, *rows]).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["r.csv", "r.csv.gz", "r.tsv", "r.tsv.gz"])
def test_text_is_read_by_the_names_of_its_columns(declare, tmp_path, name):
    rows = [(time, "unused", user, stars, item) for user, item, stars, time in EVENTS]
    header = ("when", "more", "who", "stars", "what")
    path = text(tmp_path / name, header, rows, delimiter="\t" if "tsv" in name else ",")
    assert load(declare(name), path) == numbered(EVENTS)


@pytest.mark.parametrize(
    ("unit", "times"),
    [
        ("milliseconds", [time * 1000 + 999 for *_, time in EVENTS]),
        ("iso", [f"{day:%Y-%m-%dT%H:%M:%S}Z" for day in DAYS]),
        ("iso", [f"{day:%Y-%m-%d %H:%M:%S}" for day in DAYS]),
        ("iso", [day.astimezone(dt.timezone(dt.timedelta(hours=2))).isoformat() for day in DAYS]),
    ],
)
def test_times_become_seconds_whatever_the_zone_here(declare, tmp_path, monkeypatch, unit, times):
    monkeypatch.setenv("TZ", "America/New_York")
    rows = [(*event[:3], time) for event, time in zip(EVENTS, times, strict=True)]
    path = text(tmp_path / "r.csv", EVENT.values(), rows)
    assert load(declare("r.csv", time_unit=unit), path) == numbered(EVENTS)


def parquet(path, **columns):
    names = {"who": [user for user, *_ in EVENTS], "what": [item for _, item, *_ in EVENTS]}
    others = {"stars": [event[2] for event in EVENTS], "when": [event[3] for event in EVENTS]}
    pq.write_table(pa.table({"more": [None] * len(EVENTS), **names, **others, **columns}), path)
    return path


@pytest.mark.parametrize(
    "columns",
    [
        {"who": pa.array([1, 1, 2])},
        {"who": pa.array([1.0, 1.0, 2.0]), "what": pa.array([10.0, 20.0, 10.0], pa.float32())},
        {"stars": pa.array(["5", "3.5", "0.5"])},
        {"when": pa.array(DAYS, pa.timestamp("ns", tz="Europe/Berlin"))},
        {"when": pa.array([day.replace(tzinfo=None) for day in DAYS], pa.timestamp("ms"))},
    ],
)
def test_parquet_types_become_ours(declare, tmp_path, columns):
    assert load(declare("r.parquet"), parquet(tmp_path / "r.parquet", **columns)) == numbered(EVENTS)


def test_a_day_is_its_first_second(declare, tmp_path):
    path = parquet(tmp_path / "r.parquet", when=pa.array([dt.date(1970, 1, 2)] * 3))
    assert {time for *_, time in load(declare("r.parquet"), path)} == {86_400}


def test_a_float_that_is_no_whole_number_stays_as_an_id(declare, tmp_path):
    path = parquet(tmp_path / "r.parquet", who=pa.array([1.5, 1e15, 2.0]))
    assert [row[1] for row in load(declare("r.parquet"), path)] == ["1.5", "1000000000000000", "2"]


def test_a_folder_is_read_in_order_of_its_names_and_rows(declare, tmp_path):
    folder = tmp_path / "it's [1] year=2019"
    folder.mkdir()
    for part, start in (("b", 50_000), ("a", 0)):
        items = pa.array(range(start, start + 50_000))
        same = {"who": ["u"] * 50_000, "stars": [3] * 50_000, "when": [7] * 50_000}
        pq.write_table(pa.table({"what": items, **same}), folder / f"{part}.parquet", row_group_size=5_000)
    (folder / "_SUCCESS").write_text("")
    rows = load(declare("folder"), folder)
    assert [(row[0], row[2]) for row in rows] == [(n + 1, str(n)) for n in range(100_000)]


def test_no_parquet_of_a_folder_is_passed_over(declare, tmp_path):
    for name in ("a.parquet", "b.PARQUET", "deep/er/c.parquet"):
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"who": ["u"], "what": [name], "stars": [3], "when": [7]}), path)
    assert [row[2] for row in load(declare("folder"), tmp_path / "folder")] == ["a.parquet", "b.PARQUET", "deep/er/c.parquet"]


HOSTILE = [" a b ", '"q"', "'; DROP TABLE events; --", "../../etc/passwd", "😀", "NULL", "007", "1.0", "nan", "%", "a,b"]


def test_ids_stay_as_they_are(declare, tmp_path):
    quoted = "".join('"' + user.replace('"', '""') + '",x,3,7\n' for user in HOSTILE)
    (tmp_path / "r.csv").write_text("\ufeffwho,what,stars,when\n" + quoted, encoding="utf-8")
    assert [row[1] for row in load(declare("r.csv"), tmp_path / "r.csv")] == HOSTILE
    path = text(tmp_path / "r.tsv", EVENT.values(), [(user, "x", 3, 7) for user in HOSTILE], delimiter="\t")
    assert [row[1] for row in load(declare("r.tsv"), path)] == HOSTILE
    same = {"what": ["x"] * len(HOSTILE), "stars": [3] * len(HOSTILE), "when": [7] * len(HOSTILE)}
    pq.write_table(pa.table({"who": HOSTILE, **same}), tmp_path / "r.parquet")
    assert [row[1] for row in load(declare("r.parquet"), tmp_path / "r.parquet")] == HOSTILE


def test_ratings_have_the_declared_bounds(declare, tmp_path):
    path = text(tmp_path / "r.csv", EVENT.values(), [("u", "i", rating, 7) for rating in (0, 0.3, 1)])
    dataset = declare("r.csv", lowest=0, highest=1, liked_above=0.5)
    assert [row[3] for row in load(dataset, path)] == [0, 0.3, 1]
    path = text(tmp_path / "r.csv", EVENT.values(), [("u", "i", 1, 7), ("u", "i", 1.1, 7)])
    with pytest.raises(PermanentError, match=r"line 3.*outside 0 to 1"):
        load(dataset, path)


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        ("who,what,stars,when\n1,2,3\n", 2, "Found: 3"),
        ("who,what,stars,when\n1,2,three,4\n", 2, 'Could not convert string "three"'),
        ("who,what,stars,when\n1,2,nan,4\n", 2, "outside 0.5 to 5"),
        ("who,what,stars,when\n1,2,inf,4\n", 2, "outside 0.5 to 5"),
        ("who,what,stars,when\n1,2,3,4\n,2,3,4\n", 3, "the user id is empty"),
        ("who,what,stars,when\n", 1, "a header and no rows"),
        ("who,what,stars,when\n1,2,3,1500000000\n1,2,3,1500000000000\n1,2,3,1500000000\n", 3, "another unit"),
    ],
)
def test_a_bad_line_is_named(declare, tmp_path, content, line, words):
    (tmp_path / "r.csv").write_text(content)
    with pytest.raises(PermanentError) as caught:
        load(declare("r.csv"), tmp_path / "r.csv")
    assert f"r.csv, line {line})" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "row", "words"),
    [
        ({"who": ["1", None, "2"]}, 2, "the user id is empty"),
        ({"what": ["1", "1", ""]}, 3, "the item id is empty"),
        ({"who": [1.0, math.nan, 2.0]}, 2, "the user id is empty"),
        ({"stars": [1.0, 2.0, math.nan]}, 3, "outside 0.5 to 5"),
        ({"stars": ["1", "two", "3"]}, 2, "the rating is empty"),
        ({"when": [5, None, 6]}, 2, "the timestamp is empty"),
        ({"when": [1_500_000_000_000, 1_500_000_000, 1_500_000_000_000]}, 2, "another unit"),
    ],
)
def test_a_bad_row_of_parquet_is_named(declare, tmp_path, columns, row, words):
    with pytest.raises(PermanentError) as caught:
        load(declare("r.parquet"), parquet(tmp_path / "r.parquet", **columns))
    assert f"r.parquet, row {row})" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(("unit", "time"), [("seconds", 1_500_000_000_000), ("milliseconds", 1_500_000_000)])
def test_a_file_wholly_in_another_unit_says_what_to_set(declare, tmp_path, unit, time):
    path = text(tmp_path / "r.csv", EVENT.values(), [("u", "i", 3, time)] * 3)
    with pytest.raises(PermanentError, match=f"none of its timestamps can be in {unit}.*Set time_unit"):
        load(declare("r.csv", time_unit=unit), path)


@pytest.mark.parametrize("name", ["r.csv", "r.parquet"])
def test_a_missing_column_lists_those_that_the_file_has(declare, tmp_path, name):
    path = (
        parquet(tmp_path / name) if name.endswith("parquet") else text(tmp_path / name, ("more", "who", "what", "when"), EVENTS)
    )
    with pytest.raises(PermanentError, match="no column score, or two of it; its columns are more, who, what") as caught:
        load(declare(name, EVENT | {"rating": "score"}), path)
    assert "[tables.ratings]" in str(caught.value)


def test_a_column_that_a_file_has_twice_is_refused(declare, tmp_path):
    path = text(tmp_path / "r.csv", ("who", "what", "stars", "when", "who"), [(1, 2, 3, 4, 5)])
    with pytest.raises(PermanentError, match="no column who, or two of it"):
        load(declare("r.csv"), path)


@pytest.mark.parametrize("content", [b"who,what,stars,when\r1,2,3,4\r", b"x" * 200_000])
def test_a_header_that_is_none_is_told_of_in_short(declare, tmp_path, content):
    (tmp_path / "r.csv").write_bytes(content)
    with pytest.raises(PermanentError, match=r"r\.csv") as caught:
        load(declare("r.csv"), tmp_path / "r.csv")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("content", [b"PAR1 and no more", b""])
def test_a_file_that_is_no_parquet_is_named(declare, tmp_path, content):
    (tmp_path / "r.parquet").write_bytes(content)
    with pytest.raises(PermanentError, match=r"r\.parquet"):
        load(declare("r.parquet"), tmp_path / "r.parquet")


def test_a_folder_without_parquet_is_named(declare, tmp_path):
    with pytest.raises(PermanentError, match="needs at least one file"):
        load(declare("folder"), tmp_path)


def test_items_have_what_is_declared_and_genres_are_split(declare, tmp_path):
    columns = {"item_id": "id", "title": "name", "genres": "kinds", "year": "made", "price": "cost", "about": "pitch"}
    rows = [
        ("1", '"A, ""B"""', '"Drama|Sci-Fi, too"', "1999", "$4", "Buy it."),
        ("2", "", '"War , Drama"', "soon", "", ""),
        ("3", "C", "", "", "9", ""),
    ]
    path = text(tmp_path / "i.csv", ("id", "name", "kinds", "made", "cost", "pitch"), rows)
    assert load(declare("i.csv", columns, "items"), path, "items") == [
        (1, "1", 'A, "B"', None, "$4", "Buy it.", ["Drama", "Sci-Fi, too"], 1999),
        (2, "2", None, None, None, None, ["War", "Drama"], None),
        (3, "3", "C", None, "9", None, None, None),
    ]
    listed = {"id": [7.0], "name": ["A"], "kinds": [["x", "y|z"]], "made": [1999.0], "cost": [4.5], "pitch": ["New."]}
    pq.write_table(pa.table(listed), tmp_path / "i.parquet")
    found = load(declare("i.parquet", columns, "items"), tmp_path / "i.parquet", "items")
    assert found == [(1, "7", "A", None, "4.5", "New.", ["x", "y|z"], 1999)]


def test_without_an_items_file_every_item_is_called_by_its_id(declare, tmp_path):
    dataset = declare("r.csv")
    path = text(tmp_path / "r.csv", EVENT.values(), [("u", f"i{n}", 3, n) for n in range(5)])
    reader, *_ = cleaning.clean(dataset, {"ratings": path})
    pq.write_table(reader.read_all(), tmp_path / "interactions.parquet")
    items, counts = cleaning.read_items(dataset, {"ratings": path}, tmp_path / "interactions.parquet")
    assert items["title"].to_pylist() == [f"i{n}" for n in range(5)]
    assert counts == {"items": 5, "items_without_title": 5}


def test_reviews_without_a_column_for_it_are_verified_and_texts_keep_their_lines(declare, tmp_path):
    columns = {"user_id": "who", "item_id": "what", "text": "said"}
    path = tmp_path / "t.csv"
    path.write_text('who,what,said\n1,10,"so, ""good""\nreally"\n1,20,\n')
    rows = [(1, "1", "10", 'so, "good"\nreally', None, True, None), (2, "1", "20", None, None, True, None)]
    assert load(declare("t.csv", columns, "reviews"), path, "reviews") == rows
    more = {"rating": "stars", "verified": "bought", "timestamp": "when"}
    path = text(tmp_path / "t.csv", ("who", "what", "said", "stars", "bought", "when"), [(1, 10, "good", 4, "false", 7)])
    assert load(declare("t.csv", columns | more, "reviews"), path, "reviews") == [(1, "1", "10", "good", 4.0, False, 7)]
    path = text(tmp_path / "t.csv", ("who", "what", "said", "stars", "bought", "when"), [(1, 10, "good", 4, "unverified", 7)])
    with pytest.raises(PermanentError, match="unverified"):
        load(declare("t.csv", columns | more, "reviews"), path, "reviews")


def test_texts_with_line_ends_are_read_however_large_the_file(declare, tmp_path):
    said = 'good, "not" great\n\nThe end, really'.replace('"', '""') + "x" * 500
    rows = [(f"i{number}", f'"{said} {number}"') for number in range(20_000)]  # the reader's buffer holds 4 MB of these 11
    path = text(tmp_path / "i.csv", ("what", "name"), rows)
    found = load(declare("i.csv", {"item_id": "what", "title": "name"}, "items"), path, "items")
    assert len(found) == len(rows)
    assert found[-1][2] == rows[-1][1].strip('"').replace('""', '"')


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"who": ["001", "002"], "what": [1, 2], "stars": [3, 4], "when": [1, 2]}, "who in different types"),
        ({"who": [1, 2], "what": [1, 2], "stars": [3.5, 4.0], "when": [1, 2]}, "stars in different types"),
        ({"who": [1, 2], "what": [1, 2], "when": [1, 2]}, "not all of them have it"),
    ],
)
def test_a_folder_whose_files_differ_is_refused(declare, tmp_path, other, named):
    folder = tmp_path / "folder"
    folder.mkdir()
    pq.write_table(pa.table({"who": [1, 2], "what": [1, 2], "stars": [3, 4], "when": [1, 2]}), folder / "a.parquet")
    pq.write_table(pa.table(other), folder / "b.parquet")
    with pytest.raises(PermanentError, match=named):
        load(declare("folder"), folder)


def test_a_folder_may_hold_whole_numbers_of_several_widths(declare, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, kind in (("a", pa.int32()), ("b", pa.int64())):
        same = {"stars": [3.0], "when": [1_400_000_000]}
        pq.write_table(pa.table({"who": pa.array([1], kind), "what": pa.array([2], kind), **same}), folder / f"{name}.parquet")
    assert [row[1:3] for row in load(declare("folder"), folder)] == [("1", "2"), ("1", "2")]


def test_padding_behind_a_gzip_is_an_error_that_names_the_file(declare, tmp_path):
    path = text(tmp_path / "r.csv.gz", EVENT.values(), EVENTS)
    path.write_bytes(path.read_bytes() + b"\0" * 50)
    with pytest.raises(PermanentError, match=r"r\.csv\.gz.*GZIP"):
        load(declare("r.csv.gz"), path)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (
            'Invalid Input Error: "maximum_object_size" of 16 bytes exceeded (>16 bytes).\n Try increasing "maximum_object_size".',
            "16",
        ),
        ("Invalid Input Error: Expected OBJECT, but got ARRAY. Try auto-detecting the JSON format.", "but got ARRAY."),
    ],
)
def test_duckdbs_advice_on_its_settings_is_left_out(tmp_path, found, told):
    problem = delimited.diagnose(tmp_path / "r.json", found).problem
    assert told in problem
    assert "ry " not in problem
