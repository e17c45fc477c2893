"""Reads Amazon Review 2018: ratings as headerless CSV, metadata and reviews as JSON lines; 5-core sets have reviews alone."""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from reasoningrec_assets.datasets.adapters import delimited
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.sql import exact_path, literal, statements

if TYPE_CHECKING:
    import duckdb

_SQL = statements(__file__)
_RATINGS = delimited.Layout(("item_id", "user_id", "rating", "timestamp"), ",", lowest=1)
_METADATA = "{asin: 'TEXT', title: 'TEXT', brand: 'TEXT', price: 'TEXT', description: 'JSON'}"
_REVIEW = "{reviewerID: 'TEXT', asin: 'TEXT', overall: 'DOUBLE', unixReviewTime: 'BIGINT', verified: 'BOOL', reviewText: 'TEXT'}"
_EVENT = 'reviewerID AS user_id, asin AS item_id, overall AS rating, unixReviewTime AS "timestamp"'

_AMOUNT = r"\$[0-9][0-9,.]*"
_NO_PRICE = f"trim(price) <> '' AND NOT regexp_full_match(trim(price), {literal(f'{_AMOUNT}( ?- ?{_AMOUNT})?')})"
_NO_ITEM = "coalesce(asin, '') = ''"
_MISSING = "taken as missing"
# Conditions on a text, {0}. The longest honest titles have a few hundred characters, page dumps up to 423,494.
_LONGEST = {"title": 500, "brand": 500, "about": 10_000}
_TEXT_RULES = {
    "page_dump": (r"regexp_matches({0}, '(?i)</?(script|style|div|span|a)\b|function\s*\(|\bvar\s+\w+\s*=')", _MISSING),
    "too_long": ("length({0}) > {1}", _MISSING),
    "nested": ("left({0}, 1) IN ('[', '{{') AND json_valid({0})", _MISSING),
    "html_entities": (r"regexp_matches({0}, '&#?\w+;')", "resolved"),
    "control_characters": ("regexp_matches({0}, '[[:cntrl:]]')", "replaced by blanks"),
}
_RULES = {
    f"{of}_{rule}": (of, met.format(of, most), effect)
    for of, most in _LONGEST.items()
    for rule, (met, effect) in _TEXT_RULES.items()
}
_RULES["price_no_amount"] = ("price", _NO_PRICE, _MISSING)
_RULES["price_range"] = ("price", f"regexp_full_match(trim(price), {literal(f'{_AMOUNT} ?- ?{_AMOUNT}')})", "kept")
_RULES["about_list"] = ("about", "listed", "its parts are joined")
_RULES["row_without_asin"] = ("title", _NO_ITEM, "the row is left out")
RULES = {rule: (of, f"metadata WHERE {met}", effect) for rule, (of, met, effect) in _RULES.items()}
"""What `load_items` does, by rule: the column it is about, the rows that it meets, and its effect."""


def load_ratings(connection: "duckdb.DuckDBPyConnection", files: Mapping[str, Path]) -> None:
    """Create ``events`` (row, user_id, item_id, rating from 1 to 5, timestamp) from the role ``ratings``, else ``reviews``.

    PermanentError where there is neither, and for a line or row that breaks the layout.
    """
    if "ratings" in files:
        delimited.load(connection, "events", files["ratings"], _RATINGS)
    elif "reviews" in files:
        _load(connection, "reviews", files["reviews"], _REVIEW, _EVENT)
        delimited.load(connection, "events", files["reviews"], _RATINGS, reader="reviews")
    else:
        problem, remedy = "there is neither a ratings nor a reviews file", "Get one of the two, see the dataset's raw files"
        raise PermanentError("read the ratings", where=", ".join(map(str, files.values())), problem=problem, remedy=remedy)


def load_items(connection: "duckdb.DuckDBPyConnection", files: Mapping[str, Path]) -> None:
    """Create ``metadata``, the file of that role as it is, and ``raw_items`` (row, item_id, title, brand, price, about, genres, year).

    `RULES` say what becomes of a row; without the file there is none. PermanentError where a line is not a JSON object.
    """
    connection.create_function("html_unescape", html.unescape, ["VARCHAR"], "VARCHAR")  # pyright: ignore[reportArgumentType]
    connection.execute(_SQL["no_metadata"])
    if "metadata" in files:
        _load(connection, "metadata", files["metadata"], _METADATA, _SQL["metadata"])
    texts = {column: _text(column) for column in _LONGEST}
    connection.execute(_SQL["items"].format(**texts, no_price=_NO_PRICE, no_item=_NO_ITEM))


def load_reviews(connection: "duckdb.DuckDBPyConnection", files: Mapping[str, Path]) -> None:
    """Create ``raw_reviews`` (user_id, item_id, rating, timestamp, verified, text) of the items in the table ``needed``."""
    columns, needed = f"{_EVENT}, verified, reviewText AS text", "SEMI JOIN needed ON asin = needed.item_id"
    _load(connection, "raw_reviews", files["reviews"], _REVIEW, columns, needed)


def _text(column: str) -> str:
    """SQL for a text as the rules leave it, null where nothing is left."""
    missing = " OR ".join(met.format(column, _LONGEST[column]) for met, effect in _TEXT_RULES.values() if effect == _MISSING)
    plain = f"CASE WHEN {_TEXT_RULES['html_entities'][0].format(column)} THEN html_unescape({column}) ELSE {column} END"
    return f"CASE WHEN NOT ({missing}) THEN nullif(trim(regexp_replace({plain}, '[[:cntrl:]]', ' ', 'g')), '') END"


def _load(connection: "duckdb.DuckDBPyConnection", table: str, path: Path, columns: str, select: str, join: str = "") -> None:
    """Create ``table`` from JSON lines, read as a stream, in file order; an error names the line."""
    reader = f"read_json({literal(exact_path(path))}, format='newline_delimited', columns={columns})"
    delimited.create(connection, table, path, f"SELECT {select} FROM {reader} {join}")
