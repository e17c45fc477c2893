"""The few file operations that the lake's guarantees rest on; locks are `flock`s, which the kernel frees after a kill."""

import contextlib
import errno
import fcntl
import hashlib
import itertools
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO, Any

from reasoningrec_assets.errors import PermanentError, PlatformError


def default_root() -> Path:
    """The data root that the environment names, else ``./data``."""
    return Path(os.environ.get("REASONINGREC_DATA") or "data")


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, read in blocks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no white space: equal values give equal text, and so equal hashes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256_json(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _flush(path: Path) -> None:
    """Have the kernel write a file's content, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move_into_place(source: Path, target: Path) -> None:
    """Make a finished file or folder appear at its final path in one atomic, durable step; a folder that is there is kept."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for path in (source, *source.rglob("*")):
        _flush(path)
    if not target.is_dir():  # else it holds the same, by the hash in its path: the caller has removed a damaged one
        source.replace(target)
    _flush(target.parent)


def create_exclusive(path: Path, content: str, scratch: Path) -> bool:
    """Write a file that must not exist yet, first in a `scratch_folder` on the same disk: no reader sees it half-written.

    False, and nothing changed, where the path was taken. This is the one place where concurrent writers get their order.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = scratch / uuid.uuid4().hex
    temporary.write_text(content, encoding="utf-8")
    _flush(temporary)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    _flush(path.parent)
    return True


WAITED = {"seconds": 0.0}  # by this process, for what others held: no part of what its steps cost


@contextlib.contextmanager
def exclusive(path: Path, *, on_wait: Callable[[], object] = lambda: None) -> Generator[None]:
    """Hold a lock file for the length of the block; calls `on_wait` twice a minute while its holder has to finish or die first."""
    # made where it is missing, and never removed: removing a locked path is a race
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as handle:
        attempts = itertools.count()
        while not _locked(handle):
            if next(attempts) % 600 == 0:
                on_wait()
            pause(0.05)
        yield


def pause(seconds: float) -> None:
    """Wait for another process."""
    time.sleep(seconds)
    WAITED["seconds"] += seconds


@contextlib.contextmanager
def try_exclusive(path: Path, *, wait_seconds: float = 0.0) -> Generator[bool]:
    """Like `exclusive`, but yields False where somebody else still holds the lock after the wait."""
    deadline = time.monotonic() + wait_seconds
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as handle:
        while not (free := _locked(handle)) and time.monotonic() < deadline:
            time.sleep(0.02)
        yield free


def _locked(handle: IO[bytes]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Generator[Path]:
    """A private folder for unfinished files, removed at the end of the block, or by the next caller after a kill."""
    folder = parent / uuid.uuid4().hex
    lock = folder.with_suffix(".lock")
    with contextlib.ExitStack() as held:
        # between making a lock file and locking it, a sweep would take it for a dead one: one at a time
        with exclusive(parent / ".sweep"):
            # a free lock says that its process is gone; a process id would not, since another may carry it by then
            for left in parent.glob("*.lock"):
                with try_exclusive(left) as free:
                    if free:
                        discard(left)
            held.enter_context(exclusive(lock))
            held.callback(discard, lock)
            folder.mkdir()
        yield folder


def discard(lock: Path) -> None:
    """Remove a scratch folder by its lock file, which the caller holds."""
    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
    lock.unlink(missing_ok=True)


@contextlib.contextmanager
def disk_errors(attempted: str, where: Path) -> Generator[None]:
    """Turn a full or read-only disk into a `PermanentError` that says which folder it is and what to do."""
    try:
        yield
    except Exception as error:
        # by the text: DuckDB and safetensors tell of a full disk in exceptions of their own
        faults = [text for text in map(os.strerror, (errno.ENOSPC, errno.EROFS, errno.EDQUOT)) if text in str(error)]
        if not faults or isinstance(error, PlatformError):
            raise
        remedy = "Free space there or set REASONINGREC_DATA to another disk, then run again; nothing half-written was kept"
        raise PermanentError(attempted, where=str(where), problem=faults[0], remedy=remedy) from error
