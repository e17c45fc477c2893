"""Safe unpacking and integrity of raw files, not where they come from or what their lines mean."""

import gzip
import hashlib
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from reasoningrec_assets.errors import PermanentError

# Eight times the largest raw file known (ml-32m's ratings.csv, 0.9 GB): a bomb stops here, no real file does.
MAX_MEMBER_BYTES = 8 * 2**30
_CHUNK = 1 << 20


def check_checksum(path: Path, checksum: str, *, origin: str, remedy: str) -> None:
    """Raise a PermanentError where a file differs from the ``algorithm:hex`` that its source declares."""
    algorithm, _, expected = checksum.partition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != expected:
        problem = f"its {algorithm} checksum is {found}, {expected} was expected"
        raise PermanentError("download the raw files", where=f"{path.name} from {origin}", problem=problem, remedy=remedy)


def check_intact(path: Path, *, remedy: str) -> None:
    """Raise a PermanentError where a raw file holds nothing, or its gzip stream is truncated or damaged."""
    filled, problem = path.stat().st_size > 0, "the file is empty"
    if filled and path.suffix == ".gz":
        try:
            with gzip.open(path) as file:
                filled = bool(file.read(1))
                while file.read(_CHUNK):
                    pass
        except (OSError, EOFError, zlib.error) as error:
            filled, problem = False, f"the gzip archive is truncated or damaged ({error})"
    if not filled:
        raise PermanentError("read the raw file", where=str(path), problem=problem, remedy=remedy)


def extract(archive: Path, choose: Callable[[list[str]], Mapping[str, str]], target: Path, *, remedy: str) -> dict[str, Path]:
    """Unpack the members of a zip or wheel that ``choose`` picks (all names -> role -> member); returns role -> file.

    Each becomes a plain file directly in ``target``, without its folders, so no path leads out of it. PermanentError where the
    archive is truncated or damaged, or a chosen member is a link, has an unsafe path or is too large.
    """

    def fail(problem: str) -> PermanentError:
        return PermanentError("unpack the archive", where=str(archive), problem=problem, remedy=remedy)

    unpacked: dict[str, Path] = {}
    try:
        with zipfile.ZipFile(archive) as file:
            for role, name in choose(file.namelist()).items():
                info = file.getinfo(name)
                inside = PurePosixPath(name.replace("\\", "/"))
                if inside.is_absolute() or ".." in inside.parts:
                    raise fail(f"the path of member {name!r} leads out of the archive")
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise fail(f"member {name!r} is a symbolic link")
                if info.file_size > MAX_MEMBER_BYTES:
                    raise fail(f"member {name!r} unpacks to {info.file_size} bytes, more than the limit of {MAX_MEMBER_BYTES}")
                unpacked[role] = target / inside.name
                # zipfile stops at the size that the directory declares, and compares the CRC at the end.
                with file.open(info) as source, unpacked[role].open("wb") as sink:
                    shutil.copyfileobj(source, sink, _CHUNK)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise fail(f"the archive is truncated or damaged ({error})") from error
    return unpacked
