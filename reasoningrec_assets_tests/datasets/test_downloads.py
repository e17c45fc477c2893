"""Downloads that go wrong, against a server that breaks off, changes its files, ignores ranges or answers with pages."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from reasoningrec_assets.datasets import sources
from reasoningrec_assets.datasets.registry import Source
from reasoningrec_assets.errors import PermanentError

OLD, NEW = os.urandom(300_000), os.urandom(300_000)
ITEMS = b"2|Two (1990)\n"
PAGE = b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>"


@dataclass
class Site:
    """What the server has, how it behaves, and what it was asked for."""

    files: dict[str, bytes]
    cuts: list[int] = field(default_factory=list)  # bytes after which an answer with ratings breaks off, one for each answer
    etag: str | None = None  # of the ratings; by default their hash
    date: str | None = "Mon, 05 Jan 2026 03:00:00 GMT"
    ranges: bool = True
    if_range: bool = True  # whether a range is refused where the file is another one by now
    most: int | None = None  # bytes of a range that one answer holds
    kind: str = "application/octet-stream"
    encoding: str | None = None
    packs: bool = False  # what a client takes packed
    redirects: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0  # seconds between two pieces of 10 kB
    after_cut: object = None  # called as an answer breaks off
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path and range of each request
    sent: int = 0
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        site: Site = self.server.site
        name = self.path[1:].partition("?")[0]
        wanted = self.headers.get("Range")
        site.asked.append((name, wanted))
        if name in site.redirects:
            self.send_response(302)
            self.send_header("Location", site.redirects[name])
            self.end_headers()
            return
        if name not in site.files:
            self.send_error(404)
            return
        data = site.files[name]
        if site.packs and "gzip" in self.headers.get("Accept-Encoding", ""):
            data, site.encoding = gzip.compress(data), "gzip"
        tags = {"ETag": f'"{hashlib.md5(data).hexdigest()}"' if site.etag is None else site.etag, "Last-Modified": site.date}
        tags = {key: value for key, value in tags.items() if value}
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and site.ranges else 0
        if site.if_range and self.headers.get("If-Range") not in tags.values():
            start = 0
        if start >= len(data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            end = min(len(data), start + (site.most or len(data)))
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
            data = data[:end]
        for key, value in {**tags, "Content-Type": site.kind, "Content-Encoding": site.encoding}.items():
            if value:
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        cut = site.cuts.pop(0) if site.cuts and name.endswith("u.data") else None
        body = data[start:][:cut]
        for begin in range(0, len(body), 10_000):
            self.wfile.write(body[begin : begin + 10_000])
            site.sent += len(body[begin : begin + 10_000])
            time.sleep(site.pause)
        if cut is not None and site.after_cut:
            site.after_cut()


@pytest.fixture
def site():
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    httpd.site = Site({"u.data": OLD, "u.item": ITEMS}, url=f"http://127.0.0.1:{httpd.server_address[1]}/")
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    yield httpd.site
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def dataset(site, make_dataset):
    return make_dataset(sources=(_source(site.url),))


def _source(url, ratings="u.data"):
    return Source(kind="url", location=url, members={"items": "u.item", "ratings": ratings})


def _ratings(dataset, root, log=print):
    """The published ratings, whose recorded hash is that of what lies there; nothing unfinished is left."""
    file = next(file for file in sources.obtain(dataset, root, log) if file.role == "ratings")
    data = file.path.read_bytes()
    assert file.sha256 == hashlib.sha256(data).hexdigest()
    assert file.bytes == len(data)
    assert _parts(root) == []
    return data


def _parts(root):
    return [path for path in (root / "downloads" / "tiny").glob("*") if ".part" in path.name]


def _asked(site, name="u.data"):
    return [wanted for path, wanted in site.asked if path == name]


def test_a_download_that_ends_early_goes_on_where_it_ended(tmp_path, site, dataset):
    site.cuts = [200_000]
    assert _ratings(dataset, tmp_path) == OLD
    assert _asked(site) == [None, "bytes=199999-"]


def test_a_download_that_ends_early_twice_goes_on_in_the_next_call(tmp_path, site, dataset):
    site.cuts = [100_000, 50_000]
    with pytest.raises(PermanentError, match="no source could be reached"):
        sources.obtain(dataset, tmp_path, print)
    site.asked.clear()
    assert _ratings(dataset, tmp_path) == OLD
    assert _asked(site) == ["bytes=149998-"]
    # The items had come whole: one byte shows that they are still the same.
    assert _asked(site, "u.item") == [f"bytes={len(ITEMS) - 1}-"]


def test_a_killed_download_goes_on_in_the_next_call(tmp_path, site, dataset):
    site.pause = 0.05
    code = (
        "import sys; from pathlib import Path; from reasoningrec_assets.datasets import registry, sources; "
        "sources.obtain(registry.Dataset.model_validate_json(sys.argv[1]), Path(sys.argv[2]), print)"
    )
    with subprocess.Popen([sys.executable, "-c", code, dataset.model_dump_json(), str(tmp_path)]) as process:
        deadline = time.monotonic() + 30
        while site.sent < 100_000 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    (part,) = [path for path in _parts(tmp_path) if path.name.endswith("u.data.part")]
    kept = part.stat().st_size
    assert 0 < kept < len(OLD)
    site.pause = 0.0
    site.asked.clear()
    assert _ratings(dataset, tmp_path) == OLD
    assert _asked(site) == [f"bytes={kept - 1}-"]


def test_ranges_smaller_than_asked_for_are_no_whole_file(tmp_path, site, dataset):
    site.cuts, site.most = [200_000], 50_001
    with pytest.raises(PermanentError, match="it ended after 250000 of 300000 bytes"):
        sources.obtain(dataset, tmp_path, print)
    assert _ratings(dataset, tmp_path) == OLD


@pytest.mark.parametrize("if_range", [True, False])
@pytest.mark.parametrize("new", [NEW, NEW[:50_000]])
def test_a_file_that_changes_meanwhile_is_fetched_from_its_start(tmp_path, site, dataset, new, if_range):
    site.cuts, site.if_range = [200_000, 0], if_range

    def change():
        site.files["u.data"] = new

    site.after_cut = change
    with pytest.raises(PermanentError, match="no source could be reached"):
        sources.obtain(dataset, tmp_path, print)
    assert _ratings(dataset, tmp_path) == new


@pytest.mark.parametrize("behaviour", [{"ranges": False}, {"etag": 'W/"weak"', "date": None}, {"etag": "", "date": None}])
def test_without_ranges_or_a_version_it_starts_from_zero(tmp_path, site, dataset, behaviour):
    vars(site).update(behaviour)
    site.cuts = [200_000]
    assert _ratings(dataset, tmp_path) == OLD
    assert _asked(site) == [None, "bytes=199999-" if "ranges" in behaviour else None]


def test_a_date_tells_the_version_where_the_etag_is_weak(tmp_path, site, dataset):
    site.etag, site.cuts = 'W/"weak"', [200_000]
    assert _ratings(dataset, tmp_path) == OLD
    assert _asked(site) == [None, "bytes=199999-"]


def test_a_server_that_never_sends_ranges_of_the_right_place_is_not_believed(tmp_path, site, dataset, monkeypatch):
    site.cuts = [200_000]
    plain = _Handler.send_header
    monkeypatch.setattr(
        _Handler,
        "send_header",
        lambda self, key, value: plain(
            self, key, value.replace("bytes 199999-", "bytes 0-") if key == "Content-Range" else value
        ),
    )
    with pytest.raises(PermanentError, match="the file changed while it was fetched"):
        sources.obtain(dataset, tmp_path, print)
    assert _ratings(dataset, tmp_path) == OLD


def test_a_redirect_to_a_page_names_page_and_reason(tmp_path, site, dataset):
    site.redirects, site.files["login"] = {"u.data": "/login?next=u.data"}, PAGE
    with pytest.raises(PermanentError, match="the server answered with a web page") as caught:
        sources.obtain(dataset, tmp_path, print)
    assert f"{site.url}login?next=u.data" in str(caught.value)
    assert not list((tmp_path / "downloads" / "tiny").glob("*u.data*"))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html; charset=utf-8", b"Service unavailable"),
        ("application/zip", PAGE),
        ("application/zip", b"\xef\xbb\xbf<HTML lang=en>"),
        ("application/zip", b"<!doctype html>"),
    ],
)
def test_a_page_is_known_by_its_kind_or_its_beginning_and_the_next_mirror_is_tried(
    tmp_path, site, make_dataset, kind, body, server_of_good
):
    site.kind, site.files = kind, {"u.data": body, "u.item": body}
    lines = []
    dataset = make_dataset(sources=(_source(site.url), _source(server_of_good)))
    assert _ratings(dataset, tmp_path, lines.append) == OLD
    assert f"{site.url}u.item the server answered with a web page" in lines[0]


@pytest.fixture
def server_of_good():
    """The URL of a second server, which has the files."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    httpd.site = Site({"u.data": OLD, "u.item": ITEMS})
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}/"
    httpd.shutdown()
    httpd.server_close()


def test_a_page_in_between_does_not_cost_what_has_come(tmp_path, site, dataset):
    site.cuts = [100_000, 0]
    with pytest.raises(PermanentError):
        sources.obtain(dataset, tmp_path, print)
    site.redirects, site.files["login"] = {"u.data": "/login"}, PAGE
    with pytest.raises(PermanentError, match="web page"):
        sources.obtain(dataset, tmp_path, print)
    site.redirects = {}
    site.asked.clear()
    assert _ratings(dataset, tmp_path) == OLD
    assert _asked(site) == ["bytes=99999-"]


def test_what_a_dead_mirror_left_is_removed_when_another_has_it_all(tmp_path, site, make_dataset, server_of_good):
    site.cuts = [100_000, 50_000]
    dataset = make_dataset(sources=(_source(site.url), _source(server_of_good)))
    assert _ratings(dataset, tmp_path) == OLD


def test_the_files_of_a_mirror_that_is_down_are_asked_of_the_next(tmp_path, site, make_dataset, server_of_good):
    site.files = {}
    lines = []
    dataset = make_dataset(sources=(_source(site.url), _source(server_of_good)))
    assert _ratings(dataset, tmp_path, lines.append) == OLD
    assert "404" in lines[0]


def test_a_packed_file_is_kept_as_it_lies_on_the_server(tmp_path, site, make_dataset):
    """Some servers declare a .gz as a packed form of the file, which a client would unpack on the way."""
    packed = gzip.compress(OLD)
    site.encoding, site.files = "gzip", {"u.data.gz": packed, "u.item": gzip.compress(ITEMS)}
    assert _ratings(make_dataset(sources=(_source(site.url, "u.data.gz"),)), tmp_path) == packed


def test_nothing_is_asked_for_packed(tmp_path, site, dataset):
    site.packs = True
    assert _ratings(dataset, tmp_path) == OLD


def test_a_rest_that_begins_like_a_page_is_data(tmp_path, site, dataset):
    site.files["u.data"] = OLD[:99_999] + PAGE + OLD
    site.cuts = [100_000]
    assert _ratings(dataset, tmp_path) == OLD[:99_999] + PAGE + OLD
    assert _asked(site)[1] == "bytes=99999-"


def test_progress_is_told_by_the_clock_and_not_by_the_piece(tmp_path, site, dataset, monkeypatch):
    site.pause = 0.02
    monkeypatch.setattr(sources, "_PROGRESS_SECONDS", 0.15)
    lines = []
    start = time.monotonic()
    assert _ratings(dataset, tmp_path, lines.append) == OLD
    told = [line for line in lines if "MB/s" in line]
    assert 1 < len(told) <= (time.monotonic() - start) / 0.15
    assert re.fullmatch(re.escape(f"{site.url}u.data") + r": 0\.\d MB \(\d\d?%\), \d+\.\d MB/s", told[0])


def test_a_short_download_says_nothing_on_its_way(tmp_path, dataset):
    lines = []
    _ratings(dataset, tmp_path, lines.append)
    assert len(lines) == 1
