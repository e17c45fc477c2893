"""MovieLens in each layout that it is published in: 1M, 100K, latest, and RecBole's typed tables.

What belongs here: which column means what, and the one spelling of titles and genres that all layouts come out with.
Filtering and ordering belong to `cleaning`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from reasoningrec_assets.datasets.adapters import delimited
from reasoningrec_assets.datasets.adapters.delimited import Layout, bad_line, plain_name
from reasoningrec_assets.sql import literal

if TYPE_CHECKING:
    import duckdb

_EVENT = ("user_id", "item_id", "rating", "timestamp")
# The 19 flag columns of `u.item`, in order.
# fmt: off
_FLAGS = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)
# fmt: on
_NO_GENRE = ("", "unknown", "(no genres listed)")

_DATA_RATINGS = Layout(_EVENT, "\t")
_DAT_RATINGS = Layout(_EVENT, "::", "latin-1")
_DATA_ITEMS = Layout(("item_id", "title", "release", "video", "url", *(f"flag{n}" for n in range(len(_FLAGS)))), "|", "latin-1")
_DAT_ITEMS = Layout(("item_id", "title", "genres"), "::", "latin-1")

# What the headers of the other two layouts, CSV and RecBole's, call our columns.
_NAMES = {
    **{name: name for name in (*_EVENT, "title", "genres")},
    **{"userId": "user_id", "movieId": "item_id"},
    **{"movie_title": "title", "release_year": "year", "class": "genres", "genre": "genres"},
}

# A year, or years, in brackets at the end, perhaps followed by IMDb's mark of a video release such as "(V)".
_YEAR = r"\s*\((\d{4})(?:[-–]\d{0,4})?\)(?: \([IVX]+\))?$"


def load_ratings(connection: duckdb.DuckDBPyConnection, files: Mapping[str, Path]) -> None:
    """Create ``events`` (row, user_id, item_id, rating, timestamp) from the file with the role ``ratings``.

    Raises:
        PermanentError: The file breaks its layout; the message names the line.
    """
    path = files["ratings"]
    delimited.load(connection, "events", path, _layout(path, _DAT_RATINGS, _DATA_RATINGS, _EVENT))


def load_items(connection: duckdb.DuckDBPyConnection, files: Mapping[str, Path]) -> None:
    """Create ``raw_items`` (row, item_id, title, brand, price, genres, year) from the file with the role ``items``.

    Titles are trimmed and lose their year; genres keep the file's order; "unknown" is no genre. `u.item`, the zip and
    RecBole's table come out the same: RecBole cut the last bracket off each title, so it is put back before parsing.

    Raises:
        PermanentError: The file breaks its layout; the message names the line.
    """
    layout = _layout(files["items"], _DAT_ITEMS, _DATA_ITEMS, ("item_id", "title", "genres"))
    delimited.load(connection, "item_lines", files["items"], layout)
    title = "title"
    if "year" in layout.columns:
        title = "CASE WHEN regexp_full_match(year, '\\d{4}|[IVX]+') THEN title || ' (' || year || ')' ELSE title END"
    if layout is _DATA_ITEMS:
        flags = ", ".join(f"CASE WHEN flag{n} = '1' THEN {literal(genre)} END" for n, genre in enumerate(_FLAGS))
        genres = f"[{flags}]"
    else:
        genres = f"string_split(coalesce(genres, ''), {literal(' ' if layout.delimiter == chr(9) else '|')})"
    no_genre = ", ".join(map(literal, _NO_GENRE))
    year = literal(_YEAR)
    connection.execute(
        f"""
        CREATE TABLE raw_items AS
        WITH spelled AS (
            SELECT row, item_id, replace(trim(regexp_replace({title}, '\\s+', ' ', 'g')), 'unkonwn', 'unknown') AS full_title, {genres} AS names
            FROM item_lines
        )
        SELECT
            row, item_id,
            coalesce(nullif(trim(regexp_replace(full_title, {year}, '')), ''), nullif(full_title, '')) AS title,
            NULL::VARCHAR AS brand, NULL::VARCHAR AS price,
            list_filter(names, lambda name: name IS NOT NULL AND name NOT IN ({no_genre})) AS genres,
            try_cast(nullif(regexp_extract(full_title, {year}, 1), '') AS BIGINT) AS year
        FROM spelled
        """
    )


def _layout(path: Path, dat: Layout, data: Layout, needed: tuple[str, ...]) -> Layout:
    """The layout of a file by its ending, and for CSV and RecBole's typed tables by the header line.

    Raises:
        PermanentError: The file is empty, or its header lacks a column that is needed.
    """
    name = plain_name(path)
    if name.endswith(".csv"):
        delimiter, quote = ",", '"'
    elif name.endswith((".inter", ".item")) and name != "u.item":
        delimiter, quote = "\t", ""
    else:
        return dat if name.endswith(".dat") else data
    _, header = next(delimited.lines(path), (1, ""))
    if not header:
        raise bad_line(path, 1, "the file is empty")
    fields = [field.strip().strip('"').partition(":")[0] for field in header.split(delimiter)]
    columns = tuple(_NAMES.get(field, f"other{n}") for n, field in enumerate(fields))
    missing = [column for column in needed if column not in columns]
    if missing or len(set(columns)) != len(columns):
        raise bad_line(path, 1, f"the header has no usable column for {', '.join(missing or needed)}: {header[:80]!r}")
    return Layout(columns, delimiter, header=True, quote=quote)
