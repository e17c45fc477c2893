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


def test_a_broken_metadata_line_is_named(tmp_path):
    path = tmp_path / "meta.json"
    path.write_text('{"asin": "B01"}\n{"asin":\n')
    with pytest.raises(PermanentError, match="Malformed JSON") as caught:
        amazon.load_items(connect(), {"metadata": path})
    assert str(path) in str(caught.value)
