"""Reads MovieLens as published: 1M, 100K, latest and RecBole's typed tables, with one spelling of titles and genres."""

from collections.abc import Mapping
from pathlib import Path

from reasoningrec_assets.datasets.adapters import delimited
from reasoningrec_assets.datasets.adapters.delimited import Layout, bad_line
from reasoningrec_assets.sql import Connection, literal, statements

_EVENT, _ITEM = ("user_id", "item_id", "rating", "timestamp"), ("item_id", "title", "genres")
# The 19 flag columns of `u.item`, in order.
_SQL = statements(__file__)
_FLAGS = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
_DATA_ITEMS = Layout(("item_id", "title", "release", "video", "url", *(f"flag{n}" for n in range(len(_FLAGS)))), "|", "latin-1")

# What the headers of the other two layouts, CSV and RecBole's, call our columns.
_NAMES = {name: name for name in (*_EVENT, *_ITEM)}
_NAMES.update(userId="user_id", movieId="item_id", movie_title="title", release_year="year", genre="genres")
_NAMES["class"] = "genres"

# A year, or years, in brackets at the end, perhaps followed by IMDb's mark of a video release such as "(V)".
_YEAR = literal(r"\s*\((\d{4})(?:[-–]\d{0,4})?\)(?: \([IVX]+\))?$")


def load_ratings(connection: Connection, files: Mapping[str, Path]) -> None:
    """Create ``events`` (row, user_id, item_id, rating, timestamp) from the role ``ratings``; errors as in `delimited.load`."""
    delimited.load(connection, "events", files["ratings"], _layout(files["ratings"], Layout(_EVENT, "\t"), _EVENT))


def load_items(connection: Connection, files: Mapping[str, Path]) -> None:
    """Create ``raw_items`` (row, item_id, title, brand, price, about, genres, year) from the role ``items``; errors as above.

    Titles are trimmed and lose their year; genres keep the file's order; "unknown" is no genre.
    """
    layout = _layout(files["items"], _DATA_ITEMS, _ITEM)
    delimited.load(connection, "item_lines", files["items"], layout)
    title = "title"
    if "year" in layout.columns:
        # RecBole cut the last bracket off each title: put back before parsing, all layouts come out the same.
        title = "CASE WHEN regexp_full_match(year, '\\d{4}|[IVX]+') THEN title || ' (' || year || ')' ELSE title END"
    genres = f"string_split(coalesce(genres, ''), {literal(' ' if layout.delimiter == chr(9) else '|')})"
    if layout is _DATA_ITEMS:
        flags = (f"CASE WHEN flag{n} = '1' THEN {literal(genre)} END" for n, genre in enumerate(_FLAGS))
        genres = f"[{', '.join(flags)}]"
    connection.execute(_SQL["items"].format(genres=genres, title=title, year=_YEAR))


def _layout(path: Path, data: Layout, needed: tuple[str, ...]) -> Layout:
    """The layout of a file by its ending: ``data`` is that of 100K; the header line says that of CSV and of RecBole's tables."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".csv"):
        delimiter, quote = ",", '"'
    elif name.endswith((".inter", ".item")) and name != "u.item":
        delimiter, quote = "\t", ""
    else:
        return Layout(needed, "::", "latin-1") if name.endswith(".dat") else data
    header = next(delimited.lines(path), "")
    if not header:
        raise bad_line(path, 1, "the file is empty")
    fields = [field.strip().strip('"').partition(":")[0] for field in header.split(delimiter)]
    columns = tuple(_NAMES.get(field, f"other{n}") for n, field in enumerate(fields))
    missing = [column for column in needed if column not in columns]
    if missing or len(set(columns)) != len(columns):
        raise bad_line(path, 1, f"the header has no usable column for {', '.join(missing or needed)}: {header[:80]!r}")
    return Layout(columns, delimiter, header=True, quote=quote)
