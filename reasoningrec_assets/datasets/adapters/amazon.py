"""Reads Amazon Review 2018: ratings as headerless CSV, metadata and reviews as JSON lines; 5-core sets have reviews alone."""

import html
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reasoningrec_assets.datasets.adapters import delimited
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.sql import Connection, exact_path, literal, statements

_SQL = statements(__file__)
_RATINGS = delimited.Layout(("item_id", "user_id", "rating", "timestamp"), ",", lowest=1)
_METADATA = "{asin: 'TEXT', title: 'TEXT', brand: 'TEXT', price: 'TEXT', description: 'JSON'}"
_REVIEW = "{reviewerID: 'TEXT', asin: 'TEXT', overall: 'DOUBLE', unixReviewTime: 'BIGINT', verified: 'BOOL', reviewText: 'TEXT'}"
# DuckDB reads a list or an object as its text, and that would be another user, whose reviews nothing withholds
_ID = "CASE WHEN left({0}, 1) NOT IN ('[', '{{') THEN {0} END AS "
_EVENT = f'{_ID.format("reviewerID")}user_id, {_ID.format("asin")}item_id, overall AS rating, unixReviewTime AS "timestamp"'
_KNOWN: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
_RULES = {
    f"{of}_{name}": rule | {"of": of, "met": rule["met"].format(of, *limits)}
    for of, limits in _KNOWN["limits"].items()
    for name, rule in _KNOWN["text"].items()
} | _KNOWN["row"]
RULES = {name: (rule["of"], f"metadata WHERE {rule['met']}", rule["effect"]) for name, rule in _RULES.items()}
"""What `load_items` does, by rule: the column it is about, the rows that it meets, and its effect."""


def load_ratings(connection: Connection, files: Mapping[str, Path]) -> None:
    """Create ``events`` (row, user_id, item_id, rating, timestamp) from the role ``ratings``, else ``reviews``; else refuse."""
    if "ratings" in files:
        delimited.load(connection, "events", files["ratings"], _RATINGS)
    elif "reviews" in files:
        _load(connection, "reviews", files["reviews"], _REVIEW, _EVENT)
        delimited.load(connection, "events", files["reviews"], _RATINGS, reader="reviews")
    else:
        problem, remedy = "there is neither a ratings nor a reviews file", "Get one of the two, see the dataset's raw files"
        raise PermanentError("read the ratings", where=", ".join(map(str, files.values())), problem=problem, remedy=remedy)


def load_items(connection: Connection, files: Mapping[str, Path]) -> None:
    """Create ``metadata``, the file of that role as it is, and ``raw_items`` (row, item_id, title, brand, price, about, genres, year).

    `RULES` say what becomes of a row; without the file there is none. PermanentError where a line is not a JSON object.
    """
    connection.create_function("html_unescape", html.unescape, ["VARCHAR"], "VARCHAR")  # pyright: ignore[reportArgumentType]
    connection.execute(_SQL["no_metadata"])
    if "metadata" in files:
        _load(connection, "metadata", files["metadata"], _METADATA, _SQL["metadata"])
    texts = {column: _text(column) for column in _KNOWN["limits"]}
    connection.execute(_SQL["items"].format(**texts, rules=_RULES))


def load_reviews(connection: Connection, files: Mapping[str, Path]) -> None:
    """Create ``raw_reviews`` (user_id, item_id, rating, timestamp, verified, text) of the items in the table ``needed``."""
    columns = _EVENT.replace("overall", "CASE WHEN overall BETWEEN 1 AND 5 THEN overall END") + ", verified, reviewText AS text"
    _load(connection, "raw_reviews", files["reviews"], _REVIEW, columns, "SEMI JOIN needed ON asin = needed.item_id")


def _text(column: str) -> str:
    """SQL for a text as the rules leave it, null where nothing is left."""
    met = {name: rule["met"].format(column, *_KNOWN["limits"][column]) for name, rule in _KNOWN["text"].items()}
    missing = " OR ".join(met[name] for name, rule in _KNOWN["text"].items() if rule["effect"] == "taken as missing")
    plain = f"CASE WHEN {met['html_entities']} THEN html_unescape({column}) ELSE {column} END"
    return f"CASE WHEN NOT ({missing}) THEN nullif(trim(regexp_replace({plain}, '[[:cntrl:]]', ' ', 'g')), '') END"


def _load(connection: Connection, table: str, path: Path, columns: str, select: str, join: str = "") -> None:
    """Create ``table`` from JSON lines, read as a stream, in file order; an error names the line."""
    reader = f"read_json({literal(exact_path(path))}, format='newline_delimited', columns={columns})"
    delimited.create(connection, table, path, f"SELECT {select} FROM {reader} {join}")
