"""`kill -9` of a generation step at random moments, for each engine: what the next run repeats, and whether it ends the same."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from benchmarks.harness import CACHE, ROOT, Figure, fresh_folder
from benchmarks.inputs import MODEL, descriptions
from reasoningrec_assets.generation.cache import GenerationCache
from reasoningrec_assets.generation.engines import open_engine
from reasoningrec_assets.generation.plan import Writer
from reasoningrec_assets.generation.requests import ModelIdentity, Sampling
from reasoningrec_assets.generation.run import write_texts
from reasoningrec_assets.models import store
from reasoningrec_assets.settings import EngineSettings

CHUNK = 8
SAMPLING = Sampling(16, 0.0, 1.0, seed=0)


class Noting:
    """An engine that notes which keys it was asked for, so that repeated work shows."""

    def __init__(self, engine, path: Path) -> None:
        self.engine, self.path = engine, path

    def generate(self, chunk, sampling):
        with self.path.open("a", encoding="utf-8") as notes:
            notes.write("".join(f"{key}\n" for key, _ in chunk))
        return self.engine.generate(chunk, sampling)


def step(root: Path, kind: str, count: int, url: str) -> None:
    """One run of the step, to be killed: texts go to `texts.json` at its end."""
    settings = EngineSettings(kind=kind, eager=True, max_model_tokens=1024, base_url=url or None)
    model = _model(kind)

    @contextlib.contextmanager
    def opened():
        with open_engine(settings, model, CACHE, batch_size=CHUNK, log=lambda _: None) as engine:
            yield Noting(engine, root / "asked")

    writer = Writer(
        model=model,
        identity=ModelIdentity(model, kind),
        sampling=SAMPLING,
        cache_root=root / "cache",
        open_engine=opened,
        chunk_size=CHUNK,
        log=lambda line: print(line, flush=True),
    )
    written = write_texts(descriptions(count), lambda request: request, writer)
    (root / "texts.json").write_text(json.dumps([[text.row, text.text, text.status, text.cache_key] for text in written.texts]))


def run(quick: bool) -> list[Figure]:
    trials, count = (1, 24) if quick else (10, 64)
    server = Echo()
    draw = random.Random(0)
    figures: list[Figure] = []
    for kind in ("transformers", "openai", "vllm"):
        whole = fresh_folder()
        undisturbed = _run(whole, kind, count, server.url)
        repeated, same, twice, changed = 0, 0, 0, 0
        for trial in range(trials):
            root = fresh_folder()
            cached = _killed(root, kind, count, server.url, draw.random())
            _run(root, kind, count, server.url)
            asked = (root / "asked").read_text().split()
            repeated = max(repeated, len(asked) - len(set(asked)))
            texts = json.loads((root / "texts.json").read_text())
            keys = [key for *_, key in texts]
            reference = json.loads((whole / "texts.json").read_text())
            same += texts == reference if kind == "transformers" else [row[0] for row in texts] == [row[0] for row in reference]
            final, _ = GenerationCache(root / "cache", ModelIdentity(_model(kind), kind)).lookup(keys)
            twice += len(_all_keys(root)) - len(set(_all_keys(root)))
            changed += sum(final[key].text != text for key, text in cached.items())
            print(
                f"{kind}, trial {trial + 1}: killed with {len(cached)} of {count} cached, {len(asked) - len(set(asked))} asked again",
                flush=True,
            )
            shutil.rmtree(root)
        shutil.rmtree(whole)
        figures += [
            Figure(
                f"{kind}: most requests repeated after a kill",
                repeated,
                CHUNK,
                at_most=True,
                details={"undisturbed seconds": undisturbed},
            ),
            Figure(f"{kind}: reruns with the {'same table' if kind == 'transformers' else 'same keys'}", same, trials),
            Figure(f"{kind}: answers that stand in two shards, or were changed", twice + changed, 0, at_most=True),
        ]
    return figures


def _model(kind: str) -> str:
    return "echo" if kind == "openai" else str(store.resolve(MODEL, CACHE))


def _start(root: Path, kind: str, count: int, url: str) -> subprocess.Popen[str]:
    environment = os.environ | {"TMPDIR": str(root)}  # a lease of its own
    command = [sys.executable, "-m", "benchmarks.generation_kill", str(root), kind, str(count), url]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)


def _run(root: Path, kind: str, count: int, url: str) -> float:
    started = time.monotonic()
    assert _start(root, kind, count, url).wait() == 0
    return time.monotonic() - started


def _killed(root: Path, kind: str, count: int, url: str, share: float) -> dict[str, str]:
    """Kill a run somewhere between its first request and its last, and tell what the cache holds then."""
    process = _start(root, kind, count, url)
    chunks = count // CHUNK
    wanted = 1 + int(share * chunks)
    while process.poll() is None and _asked(root) < min(wanted, chunks) * CHUNK:
        time.sleep(0.01)
    time.sleep(share * 0.3)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    answers, _ = GenerationCache(root / "cache", ModelIdentity(_model(kind), kind)).lookup(_all_keys(root))
    return {key: answer.text for key, answer in answers.items()}


def _asked(root: Path) -> int:
    return len((root / "asked").read_text().split()) if (root / "asked").exists() else 0


def _all_keys(root: Path) -> list[str]:
    import pyarrow.parquet as pq

    return [key for path in (root / "cache").rglob("*.parquet") for key in pq.read_table(path)["key"].to_pylist()]


class Echo(http.server.ThreadingHTTPServer):
    """A server on loopback that takes its time and answers with the question's last words."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), EchoHandler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class EchoHandler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self._reply({"object": "list", "data": [{"id": "echo", "object": "model", "created": 0, "owned_by": "me"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(0.2)
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": body["messages"][0]["content"][-40:]},
        }
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        self._reply({"id": "1", "object": "chat.completion", "created": 0, "model": "echo", "choices": [choice], "usage": usage})

    def _reply(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(content)


if __name__ == "__main__":
    step(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
