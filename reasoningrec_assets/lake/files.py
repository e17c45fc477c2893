"""The few file operations that the lake's guarantees rest on.

What belongs here: hashing, durable renames, create-exclusive writes, kernel locks and scratch folders. What doesn't:
any knowledge of tables or receipts. Locks are `flock`s, so that the kernel frees them when a process is killed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO, Any

from reasoningrec_assets.errors import PermanentError, PlatformError


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
    """Make a finished file or folder appear at its final path in one atomic, durable step.

    A folder that is there already is kept: paths carry a content hash, so it holds the same bytes, unless it was
    damaged, in which case the caller has removed it first.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        for path in source.rglob("*"):
            _flush(path)
        if not target.exists():
            source.rename(target)
    else:
        _flush(source)
        source.replace(target)
    _flush(target.parent)


def create_exclusive(path: Path, content: str, scratch: Path) -> bool:
    """Write a file that must not exist yet; no reader ever sees it half-written.

    Args:
        path: Where the file appears.
        content: Its text.
        scratch: A `scratch_folder` on the same disk, where it is written first.

    Returns:
        False where the path was taken, in which case nothing was changed. This is the local form of a conditional
        PUT, and the one place where concurrent writers are put into an order.
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


@contextlib.contextmanager
def exclusive(path: Path, *, on_wait: Callable[[], None] | None = None) -> Generator[None]:
    """Hold a lock file for the length of the block, waiting for its holder to finish or die.

    Args:
        path: The lock file; made where it is missing, never removed, since removing a locked path is a race.
        on_wait: Called once if somebody else holds the lock, to say so.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as handle:
        if not _locked(handle):
            if on_wait is not None:
                on_wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


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
    """A private folder for unfinished files, removed at the end of the block.

    The folder of a process that was killed stays behind with its lock free: the next caller removes it. The check
    is on the lock, not on a process id, which another process may carry by then.
    """
    folder = parent / uuid.uuid4().hex
    lock = parent / f"{folder.name}.lock"
    with contextlib.ExitStack() as held:
        # between making a lock file and locking it, a sweep would take it for a dead one: one at a time
        with exclusive(parent / ".sweep"):
            _sweep(parent)
            held.enter_context(exclusive(lock))
            folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _sweep(parent: Path) -> None:
    for lock in parent.glob("*.lock"):
        with try_exclusive(lock) as free:
            if free:
                shutil.rmtree(parent / lock.stem, ignore_errors=True)
                lock.unlink(missing_ok=True)


@contextlib.contextmanager
def disk_errors(attempted: str, where: Path) -> Generator[None]:
    """Turn a full or read-only disk into an error that says which folder it is and what to do."""
    try:
        yield
    except Exception as error:
        # by the text: DuckDB and safetensors tell of a full disk in exceptions of their own
        faults = [text for text in map(os.strerror, (errno.ENOSPC, errno.EROFS, errno.EDQUOT)) if text in str(error)]
        if not faults or isinstance(error, PlatformError):
            raise
        raise PermanentError(
            attempted,
            where=str(where),
            problem=faults[0],
            remedy="Free space there or set REASONINGREC_DATA to another disk, then run again; nothing half-written was kept",
        ) from error
