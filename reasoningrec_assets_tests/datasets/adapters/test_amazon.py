from __future__ import annotations

import gzip
import json

import pytest

from reasoningrec_assets.datasets.adapters import amazon
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.sql import connect


def test_ratings_come_item_first(tmp_path):
    path = tmp_path / "AMAZON_FASHION.csv"
    path.write_text("B01,A1,4.0,1500000000\nB02,A2,1.0,1500000001\n")
    connection = connect()
    amazon.load_ratings(connection, {"ratings": path})
    assert connection.execute('SELECT row, user_id, item_id, rating, "timestamp" FROM events ORDER BY row').fetchall() == [
        (1, "A1", "B01", 4.0, 1500000000),
        (2, "A2", "B02", 1.0, 1500000001),
    ]


def test_half_a_star_is_not_an_amazon_rating(tmp_path):
    path = tmp_path / "AMAZON_FASHION.csv"
    path.write_text("B01,A1,4.0,1500000000\nB02,A2,0.5,1500000001\n")
    with pytest.raises(PermanentError, match=r"line 2\).*outside 1 to 5"):
        amazon.load_ratings(connect(), {"ratings": path})


def test_metadata_keeps_texts_and_refuses_page_dumps(tmp_path):
    lines = [
        {"asin": "B01", "title": " Mary&#39;s &amp; Co ", "brand": "Acme", "price": "$4.99", "also_buy": ["B02"]},
        {
            "asin": "B02",
            "title": "var aPageStart = (new Date()).getTime();",
            "price": ".a-box-inner{background:#fff}",
            "brand": "",
        },
        {"asin": "B03", "title": "x" * 400_000, "price": "$4.99 - $10.00"},
        {"asin": "B04"},
    ]
    path = tmp_path / "meta_AMAZON_FASHION.json.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))
    connection = connect()
    amazon.load_items(connection, {"metadata": path})
    assert connection.execute("SELECT item_id, title, brand, price FROM raw_items ORDER BY row").fetchall() == [
        ("B01", "Mary's & Co", "Acme", "$4.99"),
        ("B02", None, None, None),
        ("B03", None, None, "$4.99 - $10.00"),
        ("B04", None, None, None),
    ]


@pytest.fixture
def write(tmp_path):
    """Writes JSON lines, or what is meant to be some, plain or gz."""

    def make(*lines, name="reviews.json"):
        content = b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return make


def review(user="A1", item="B01", rating=5.0, time=1_500_000_000, **more):
    return {"reviewerID": user, "asin": item, "overall": rating, "unixReviewTime": time, **more}


@pytest.mark.parametrize("name", ["AMAZON_FASHION_5.json", "AMAZON_FASHION_5.json.gz"])
def test_reviews_alone_give_the_ratings_in_the_order_of_the_file(write, name):
    ids = ["A 1", '"q"', "😀", "'; DROP TABLE events; --", "../../etc/passwd", "A1"]
    path = write(*(review(user=user, item=user[::-1], vote="3", style={"Size:": "L"}) for user in ids), name=name)
    connection = connect()
    amazon.load_ratings(connection, {"reviews": path})
    assert connection.execute("FROM events ORDER BY row").fetchall() == [
        (n, user, user[::-1], 5.0, 1_500_000_000) for n, user in enumerate(ids, start=1)
    ]


def test_where_there_are_ratings_the_reviews_are_not_read_for_them(write, tmp_path):
    path = tmp_path / "AMAZON_FASHION.csv"
    path.write_text("B01,A1,4.0,1500000000\n")
    connection = connect()
    amazon.load_ratings(connection, {"ratings": path, "reviews": write(b"no JSON")})
    assert connection.execute("SELECT count(*) FROM events").fetchall() == [(1,)]


def test_neither_ratings_nor_reviews_is_one_clear_error(tmp_path):
    with pytest.raises(PermanentError, match="neither a ratings nor a reviews file"):
        amazon.load_ratings(connect(), {"metadata": tmp_path / "meta.json"})


BROKEN = {
    "cut": (b'{"reviewerID": "A1", "asin":', "unexpected end"),
    "latin-1": ('{"reviewerID": "é"}'.encode("latin-1"), "invalid UTF-8"),
    "half an emoji": (b'{"reviewerID": "\\ud83d"}', "surrogate"),
    "a list": (b"[1]", "Expected OBJECT"),
    "a key twice": (b'{"asin": "B1", "asin": "B2"}', "duplicate key"),
    "null": (b"null", "the item id and user id and rating and timestamp is empty"),
    "a word as rating": (review(rating="five"), "five"),
    "a list as time": (review(time=[1]), "cast"),
    "a rating of 0": (review(rating=0), "outside 1 to 5"),
    "a rating of 6": (review(rating=6), "outside 1 to 5"),
    "no rating": (review(rating=None), "the rating is empty"),
    "no user": ({"asin": "B1", "overall": 5, "unixReviewTime": 1}, "the user id is empty"),
    "an empty item": (review(item=""), "the item id is empty"),
    "no time": (review(time=None), "the timestamp is empty"),
    "milliseconds": (review(time=1_500_000_000_000), "another unit"),
}


@pytest.mark.parametrize("name", ["reviews.json", "reviews.json.gz"])
@pytest.mark.parametrize(("bad", "problem"), BROKEN.values(), ids=list(BROKEN))
def test_a_bad_review_is_named_by_file_and_line(write, name, bad, problem):
    path = write(review(), review(user="A2"), bad, review(user="A3"), name=name)
    with pytest.raises(PermanentError) as caught:
        amazon.load_ratings(connect(), {"reviews": path})
    assert f"{path}, line 3)" in str(caught.value) or f"{path}, row 3)" in str(caught.value)
    assert problem in str(caught.value)


def test_a_bad_line_far_down_a_file_is_counted_right(write):
    path = write(*(review(summary="x" * 400) for _ in range(100_000)), b"{")  # DuckDB reads it in several pieces
    with pytest.raises(PermanentError, match=r"line 100001\)"):
        amazon.load_ratings(connect(), {"reviews": path})


def test_a_byte_order_mark_is_named(write):
    with pytest.raises(PermanentError, match=r"line 1\).*byte order mark"):
        amazon.load_ratings(connect(), {"reviews": write(b"\xef\xbb\xbf" + json.dumps(review()).encode())})


def test_reviews_are_read_for_the_needed_items_alone(write):
    lines = [review(verified=True, reviewText="good"), review(item="B02", reviewText="bad"), review(user="A2")]
    connection = connect()
    connection.execute("CREATE TABLE needed AS SELECT 'B01' AS item_id")
    amazon.load_reviews(connection, {"reviews": write(*lines)})
    assert connection.execute("FROM raw_reviews ORDER BY user_id").fetchall() == [
        ("A1", "B01", 5.0, 1_500_000_000, True, "good"),
        ("A2", "B01", 5.0, 1_500_000_000, None, None),
    ]


def test_without_metadata_no_item_is_known():
    connection = connect()
    amazon.load_items(connection, {})
    assert connection.execute("FROM raw_items").fetchall() == []


def test_texts_are_repaired_and_what_is_no_text_is_missing(write):
    lines = [
        {"asin": "B01", "title": "Caf&eacute; &amp;lt; \u0007&#10;Bar", "brand": ["Acme", "Co"], "price": 4.99},
        {"asin": "B02", "title": {"name": "x"}, "brand": "<script>x</script>", "description": ["a", "b"]},
        {"asin": "B03", "title": "[2 Pack] Socks", "brand": None, "description": "a text", "also_buy": {"x": []}},
        {"title": "of no item"},
    ]
    connection = connect()
    amazon.load_items(connection, {"metadata": write(*lines)})
    assert connection.execute("SELECT item_id, title, brand, price, about FROM raw_items ORDER BY row").fetchall() == [
        ("B01", "Café &lt;   Bar", None, None, None),
        ("B02", None, None, None, "a b"),
        ("B03", "[2 Pack] Socks", None, None, "a text"),
    ]


@pytest.mark.parametrize(
    ("description", "about"),
    [
        (["One.", "Two &amp; three."], "One. Two & three."),
        ([None, "Two."], "Two."),
        ([""], None),
        ([], None),
        (None, None),
        ({"text": "x"}, None),
        ([{"text": "x"}], None),
        (["x" * 10_001], None),
        (["x" * 9_000], "x" * 9_000),
        (["<script>alert(1)</script>"], None),
        (["<p>Kept as it is: prompts strip it.</p>"], "<p>Kept as it is: prompts strip it.</p>"),
        (7, "7"),
    ],
)
def test_a_sellers_description_is_one_text_whatever_it_comes_as(write, description, about):
    connection = connect()
    amazon.load_items(connection, {"metadata": write({"asin": "B01", "description": description})})
    assert connection.execute("SELECT about FROM raw_items").fetchone() == (about,)


def test_a_broken_metadata_line_is_named(tmp_path):
    path = tmp_path / "meta.json"
    path.write_text('{"asin": "B01"}\n{"asin":\n')
    with pytest.raises(PermanentError, match="unexpected") as caught:
        amazon.load_items(connect(), {"metadata": path})
    assert f"{path}, line 2" in str(caught.value)


def test_honest_words_are_no_page_and_a_link_is_no_page_of_a_description(write):
    connection = connect()
    titles = ["Casio Watch Multi-Function (Black)", "function a() {return 1}", "Scarf <span>new</span>"]
    lines = [{"asin": f"B{number}", "title": title} for number, title in enumerate(titles)]
    lines.append({"asin": "B9", "title": "Hat", "description": 'Warm. <a href="x">More</a>'})
    amazon.load_items(connection, {"metadata": write(*lines, name="meta.json")})
    found = connection.execute("SELECT title, about FROM raw_items ORDER BY row").fetchall()
    assert [title for title, _ in found] == [titles[0], None, None, "Hat"]
    assert "Warm." in found[-1][1]


def test_an_id_that_is_no_text_is_none(write):
    with pytest.raises(PermanentError, match=r"row 2\).*user id is empty"):
        amazon.load_ratings(connect(), {"reviews": write(review(), review(user=["A1"]))})
    with pytest.raises(PermanentError, match=r"row 2\).*item id is empty"):
        amazon.load_ratings(connect(), {"reviews": write(review(), review(item={"x": 1}))})


def test_a_review_keeps_its_words_and_loses_a_rating_that_there_is_not(write):
    connection = connect()
    connection.execute("CREATE TABLE needed AS SELECT 'B01' AS item_id")
    amazon.load_reviews(connection, {"reviews": write(review(reviewText="fine"), review(user="A2", rating=99, reviewText="odd"))})
    assert connection.execute("SELECT rating, text FROM raw_reviews").fetchall() == [(5.0, "fine"), (None, "odd")]
