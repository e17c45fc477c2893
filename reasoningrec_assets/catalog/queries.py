"""Questions that people ask of the catalogue, on a connection that is open; nothing is changed, and nothing printed."""

from collections.abc import Iterator
from pathlib import Path

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.sql import Connection, Relation, statements

# An AUC that may be off by more than this cannot tell methods apart: published gains are smaller.
TOO_WIDE = 0.05
_SQL = statements(__file__)
_SECTIONS = statements(str(Path(__file__).with_name("sections")))


def answers(connection: Connection, command: str, asset: str | None, partition: str | None) -> Iterator[tuple[str, Relation]]:
    """Titles and tables of ``metrics``, ``lineage`` or ``show``; an unknown name is a PermanentError that lists those known."""
    if command == "metrics":
        exists = connection.execute("SELECT 1 FROM lake_views WHERE name = 'evaluation_metrics'").fetchall()
        known = connection.execute("SELECT DISTINCT dataset FROM evaluation_metrics ORDER BY 1").fetchall() if exists else []
        partition = _choose("evaluated partition", partition, [dataset for (dataset,) in known])
        yield f"Population of {partition}", connection.sql(_SQL["population"], params=[partition])
        told = f"Best AUC first, with 95 % intervals; *: too small a sample, the AUC may be off by more than {TOO_WIDE}"
        yield told, connection.sql(_SQL["evaluation"], params=[TOO_WIDE, partition])
    elif asset is None:
        yield "", connection.sql(_SQL["current"], params=[partition])
    else:
        pairs = connection.execute("SELECT DISTINCT asset, partition FROM materializations ORDER BY ALL").fetchall()
        _choose("asset", asset, sorted({name for name, _ in pairs}))
        partition = _choose(f"partition of {asset}", partition, [found for name, found in pairs if name == asset])
        if command == "lineage":
            yield "", connection.sql(_SQL["upstream"], params=[asset, partition])
        else:
            of = [asset, partition, connection.execute(_SQL["sequence"], [asset, partition]).fetchall()[0][0]]
            yield from ((title, connection.sql(query, params=of)) for title, query in _SECTIONS.items())


def _choose(what: str, wanted: str | None, known: list[str]) -> str:
    if wanted is None and len(known) == 1:
        return known[0]
    if wanted in known:
        return wanted
    where, problem = wanted or "--partition is missing", "there is none of this name" if wanted else "there is not exactly one"
    remedy = f"Name one of these: {', '.join(known) or 'none yet'}"
    raise PermanentError(f"find the {what} in the catalogue", where=where, problem=problem, remedy=remedy)
