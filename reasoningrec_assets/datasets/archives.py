"""Safe unpacking and integrity of raw files, not where they come from or what their lines mean."""

import gzip
import hashlib
import lzma
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.files import sha256_file

# Eight times the largest raw file known (ml-32m's ratings.csv, 0.9 GB): a bomb stops here, no real file does.
MAX_MEMBER_BYTES = 8 * 2**30
_CHUNK = 1 << 20


def check_checksum(path: Path, checksum: str, *, where: str, remedy: str) -> None:
    """Raise a PermanentError where a file differs from the ``algorithm:hex`` that its source declares."""
    algorithm, _, expected = checksum.partition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != expected:
        problem = f"its {algorithm} checksum is {found}, {expected} was expected"
        raise PermanentError("download the raw files", where=where, problem=problem, remedy=remedy)


def _most_unpacked(packed: int) -> int:
    """The most bytes that a stream of so many bytes may hold: what packs a thousandfold holds nothing."""
    return max(100_000_000, 1000 * packed)


def measure(path: Path, *, where: str, remedy: str) -> tuple[int, str]:
    """Bytes and SHA-256 of a raw file, or of a folder's files: of the lines that sha256sum prints of them, in order of path.

    PermanentError where there is nothing in it, a gzip stream is truncated or damaged, or a link leads out of the folder.
    """
    refused = partial(PermanentError, "read the raw file", where=where, remedy=remedy)
    if path.is_dir():
        inside = {entry.relative_to(path).as_posix(): entry for entry in path.rglob("*")}
        if outside := [name for name, entry in inside.items() if not entry.resolve().is_relative_to(path.resolve())]:
            raise refused(problem=f"{outside[0]!r} in this folder is a link that leads out of it")
        files = {name: entry for name, entry in sorted(inside.items()) if entry.is_file()}
        if not (size := sum(entry.stat().st_size for entry in files.values())):
            raise refused(problem="the folder is empty")
        lines = "".join(f"{sha256_file(entry)}  {name}\n" for name, entry in files.items())
        return size, hashlib.sha256(os.fsencode(lines)).hexdigest()
    packed = path.suffix == ".gz"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            if not file.read(1):
                raise refused(problem="the file is empty")
            limit = _most_unpacked(path.stat().st_size)
            while packed and file.read(_CHUNK):
                if file.tell() > limit:
                    raise refused(problem=f"it unpacks to more than {limit} bytes, which no real file of its size does")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise refused(problem=f"the gzip archive is truncated or damaged ({error})") from error
    return path.stat().st_size, sha256_file(path)


def extract(archive: Path, choose: Callable[..., Mapping[str, str]], target: Path, *, where: str, remedy: str) -> dict[str, Path]:
    """Unpack the members of a zip or wheel that ``choose`` picks (all names -> role -> member); returns role -> file.

    Each becomes ``target``/role/name, without its folders, so no path leads out of it. PermanentError where the archive is
    truncated or damaged, or a chosen member is a link, has an unsafe path or is too large.
    """
    refused = partial(PermanentError, "unpack the archive", where=where, remedy=remedy)
    unpacked: dict[str, Path] = {}
    try:
        with zipfile.ZipFile(archive) as file:
            for role, name in choose(file.namelist()).items():
                info = file.getinfo(name)
                inside = PurePosixPath(name.replace("\\", "/"))
                if inside.is_absolute() or ".." in inside.parts:
                    raise refused(problem=f"the path of member {name!r} leads out of the archive")
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise refused(problem=f"member {name!r} is a symbolic link")
                # of the sizes on which this rests only the archive's own cannot lie
                limit = min(MAX_MEMBER_BYTES, _most_unpacked(min(info.compress_size, archive.stat().st_size)))
                if info.file_size > limit:
                    raise refused(problem=f"member {name!r} unpacks to {info.file_size} bytes, more than the limit of {limit}")
                unpacked[role] = target / role / inside.name
                unpacked[role].parent.mkdir()
                # zipfile stops at the size that the directory declares, and compares the CRC at the end.
                with file.open(info) as source, unpacked[role].open("wb") as sink:
                    shutil.copyfileobj(source, sink, _CHUNK)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # the disk's: what bzip2 finds damaged has no number
            raise
        raise refused(problem=f"the archive is truncated or damaged ({error})") from error
    return unpacked
