"""A training killed at five random moments, each time gone on with: does it end with the bytes of one that was left alone?"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import students
from benchmarks.harness import CACHE, ROOT, Figure, fresh_folder, ours
from benchmarks.inputs import MODEL
from reasoningrec_assets import compute
from reasoningrec_assets.lake.files import sha256_file
from reasoningrec_assets.models import store
from reasoningrec_assets.training.checkpoints import Checkpoints
from reasoningrec_assets.training.lora import train_adapter


def run(quick: bool) -> list[Figure]:
    kills, rows = (1, 16) if quick else (5, 48)
    path = students.saved("resume", students.synthetic_rows(rows, 40, 80) if quick else students.real_rows("train", rows))
    folder, drawn = fresh_folder(), random.Random()
    began = time.monotonic()
    undisturbed = _trained(folder / "undisturbed", path)
    seconds = time.monotonic() - began
    equal, moments, left = 0, [], []
    for number in range(kills):
        place = folder / str(number)
        while True:
            moments.append(drawn.uniform(0.2, 0.95) * seconds)
            process = subprocess.Popen(_command(place, path), cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
            try:
                process.wait(moments[-1])
            except subprocess.TimeoutExpired:
                break
            print(f"it ended before the {moments.pop():.0f} s that it was to be killed after: drawn again", flush=True)
            shutil.rmtree(place)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        left.append(max((int(found.stem.partition("-")[0]) for found in (place / "checkpoints").glob("*")), default=0))
        again = _trained(place, path)
        equal += again == undisturbed
        print(
            f"killed after {moments[-1]:.0f} of {seconds:.0f} s, went on after step {left[-1]}: {again == undisturbed}",
            flush=True,
        )
    shutil.rmtree(folder)
    details = {"adapter": undisturbed, "killed after s": moments, "went on after step": left, "undisturbed s": seconds}
    return [Figure(f"adapters equal to the undisturbed one's, of {kills}", equal, kills, details=details)]


def _command(place: Path, rows: Path) -> list[str]:
    return ours("training_resume", str(place), str(rows))


def _trained(place: Path, rows: Path) -> str:
    subprocess.run(_command(place, rows), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return sha256_file(place / "adapter" / "adapter_model.safetensors")


def main(place: Path, path: str) -> None:
    tempfile.tempdir = str(place.parent)  # a lease of its own
    rows = students.loaded(path)
    settings = students.SETTINGS.model_copy(update={"epochs": 2, "patience": 2, "lora_dropout": 0.05, "checkpoint_steps": 1})
    shutil.rmtree(place / "adapter", ignore_errors=True)
    with compute.lease() as device:
        train_adapter(
            rows[: len(rows) * 2 // 3],
            rows[len(rows) * 2 // 3 :],
            base=store.resolve(MODEL, CACHE),
            chat=students.chat(),
            settings=settings,
            tokens_per_batch=4096,
            device=device,
            folder=place / "adapter",
            checkpoints=Checkpoints(place / "checkpoints", {"benchmark": "resume"}, print),
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
