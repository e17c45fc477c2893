"""Reads Amazon Review 2018: the headerless ratings CSV and the metadata as JSON lines; reviews are not read here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from reasoningrec_assets.datasets.adapters import delimited
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.sql import exact_path, literal

if TYPE_CHECKING:
    import duckdb

_RATINGS = delimited.Layout(("item_id", "user_id", "rating", "timestamp"), ",", lowest=1)
_COLUMNS = "{'asin': 'VARCHAR', 'title': 'VARCHAR', 'brand': 'VARCHAR', 'price': 'VARCHAR'}"

# The longest honest titles have a few hundred characters, dumps of page scripts up to 423,494.
_LONGEST_TITLE = 500
_PAGE_DUMP = r"(?i)</?(script|style|div|span|a)\b|function\s*\(|\bvar\s+\w+\s*="
_PRICE = r"\$[0-9][0-9,.]*( ?- ?\$[0-9][0-9,.]*)?"
# `&amp;` comes last, or "&amp;lt;" would be unescaped twice.
_ENTITIES = {"&quot;": '"', "&#34;": '"', "&#39;": "'", "&apos;": "'", "&nbsp;": " ", "&lt;": "<", "&gt;": ">", "&amp;": "&"}


def load_ratings(connection: duckdb.DuckDBPyConnection, files: Mapping[str, Path]) -> None:
    """Create ``events`` (row, user_id, item_id, rating from 1 to 5, timestamp) from the role ``ratings``, as `delimited.load`."""
    delimited.load(connection, "events", files["ratings"], _RATINGS)


def load_items(connection: duckdb.DuckDBPyConnection, files: Mapping[str, Path]) -> None:
    """Create ``raw_items`` (row, item_id, title, brand, price, genres, year) from the file with the role ``metadata``.

    A title that is empty or a page dump becomes null, as does a price that is not an amount. PermanentError where a line is
    not a JSON object.
    """
    import duckdb

    path = files["metadata"]
    reader = f"read_json({literal(exact_path(path))}, format='newline_delimited', columns={_COLUMNS})"
    honest = f"length(title) <= {_LONGEST_TITLE} AND NOT regexp_matches(title, {literal(_PAGE_DUMP)})"
    sql = f"""
    CREATE TABLE raw_items AS
    SELECT row, asin AS item_id, CASE WHEN {honest} THEN {_text("title")} END AS title, {_text("brand")} AS brand,
        CASE WHEN regexp_full_match(trim(price), {literal(_PRICE)}) THEN trim(price) END AS price,
        []::VARCHAR[] AS genres, NULL::BIGINT AS year
    FROM (SELECT row_number() OVER () AS row, * FROM {reader}) WHERE asin IS NOT NULL
    """
    try:
        connection.execute(sql)
    except duckdb.ProgrammingError as error:
        # DuckDB names the line.
        problem = str(error).split("\n", maxsplit=1)[0]
        raise PermanentError("read the metadata", where=str(path), problem=problem, remedy=delimited.REMEDY) from error


def _text(column: str) -> str:
    """SQL for a text without HTML entities and outer blanks, null where nothing is left."""
    expression = column
    for entity, character in _ENTITIES.items():
        expression = f"replace({expression}, {literal(entity)}, {literal(character)})"
    return f"nullif(trim({expression}), '')"
