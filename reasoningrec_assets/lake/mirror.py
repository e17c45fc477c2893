"""``python -m reasoningrec_assets.lake.mirror FROM TO``: copy what another data root lacks; either may be an ``s3://`` address.

Data and receipts never change once they are written, so a copy is complete when it has every name. Receipts come last: a
reader of the copy never finds one without its data, whenever the copying was killed.
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from reasoningrec_assets.errors import PermanentError

PARTS = ("raw", "downloads", "cache", "lake", "receipts")


def mirror(source: str, target: str) -> int:
    """Copy every file that `target` lacks, or holds in another size, and return how many those were.

    PermanentError where `source` holds nothing, or both hold different receipts of one name: they were written apart.
    """
    import fsspec

    (read, start), (write, end) = (fsspec.url_to_fs(root) for root in (source, target))
    copied = 0
    for part in PARTS:
        here, there = _files(read, start, part), _files(write, end, part)
        if part == "receipts":
            if not here:
                remedy = "Check the address; a data root holds a folder receipts"
                raise PermanentError("mirror a data root", where=source, problem="it has no receipt", remedy=remedy)
            _same(read, start, write, end, sorted(here.keys() & there.keys()))
        for name, size in sorted(here.items()):
            if there.get(name) != size:
                _copy(read, f"{start}/{name}", write, f"{end}/{name}")
                copied += 1
    return copied


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


def main() -> int:
    """Copy; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m reasoningrec_assets.lake.mirror", description=__doc__)
    parser.add_argument("source")
    parser.add_argument("target")
    chosen = parser.parse_args()
    try:
        print(f"{mirror(chosen.source, chosen.target)} files copied to {chosen.target}")
    except Exception as error:  # noqa: BLE001 - every store has errors of its own
        print(f"{error}; run it again: it goes on where it stopped", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
