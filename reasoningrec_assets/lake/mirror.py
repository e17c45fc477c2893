"""A copy of a data root wherever fsspec can read and write, such as ``s3://``.

Data and receipts never change once they are written, so a copy is complete when it has every name. Receipts come last: a
reader of the copy never finds one without its data, whenever the copying was killed.
"""

import shutil
from pathlib import Path
from typing import Any

from reasoningrec_assets.errors import PermanentError, PlatformError, TransientError

PARTS = ("raw", "downloads", "cache", "lake", "receipts")


def mirror(source: str, target: str) -> int:
    """Copy every file that `target` lacks, or holds in another size, and return how many those were.

    PermanentError where `source` holds nothing, or both hold different receipts of one name: they were written apart.
    TransientError where a store fails.
    """
    import fsspec

    (read, start), (write, end) = (fsspec.url_to_fs(root) for root in (source, target))
    try:
        return sum(_mirrored(read, start, write, end, part) for part in PARTS)
    except PlatformError:
        raise
    except Exception as error:  # every store has errors of its own
        attempted, problem = f"mirror {source}", f"{type(error).__name__}: {error}"
        raise TransientError(
            attempted, where=target, problem=problem, remedy="Run it again: it goes on where it stopped"
        ) from error


def _mirrored(read: Any, start: str, write: Any, end: str, part: str) -> int:
    here, there = _files(read, start, part), _files(write, end, part)
    if part == "receipts":
        if not here:
            remedy = "Check the address; a data root holds a folder receipts"
            raise PermanentError("mirror a data root", where=start, problem="it has no receipt", remedy=remedy)
        _same(read, start, write, end, sorted(here.keys() & there.keys()))
    missing = sorted(name for name, size in here.items() if there.get(name) != size)
    for name in missing:
        _copy(read, f"{start}/{name}", write, f"{end}/{name}")
    return len(missing)


def _files(system: Any, root: str, part: str) -> dict[str, int]:
    system.invalidate_cache()
    found = system.find(f"{root}/{part}", detail=True)
    hidden = (".lock", ".part")
    return {path[len(root) + 1 :]: facts["size"] for path, facts in found.items() if not path.endswith(hidden)}


def _same(read: Any, start: str, write: Any, end: str, names: list[str]) -> None:
    mine = read.cat([f"{start}/{name}" for name in names]) if names else {}
    theirs = write.cat([f"{end}/{name}" for name in names]) if names else {}
    if differing := [name for name in names if mine[f"{start}/{name}"] != theirs[f"{end}/{name}"]]:
        problem = f"{len(differing)} receipts differ from those of the same name at {start}, such as {differing[0]}"
        remedy = "Two machines wrote them apart; let one machine at a time write, or mirror to another address"
        raise PermanentError("mirror a data root", where=end, problem=problem, remedy=remedy)


def _copy(read: Any, source: str, write: Any, target: str) -> None:
    local = "file" in write.protocol  # where an unfinished file would show under its name; an object never does
    unfinished = f"{target}.part" if local else target
    write.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
    with read.open(source, "rb") as file, write.open(unfinished, "wb") as copy:
        shutil.copyfileobj(file, copy, 1 << 22)
    if local:
        Path(unfinished).replace(target)
