"""The machine: which device there is, who holds it, and in which precision to compute on it.

What belongs here: device detection without torch, the lease that keeps two models off one device, and torch's thread
settings. What doesn't: models. The lease is a kernel lock, so it is free again the moment its holder dies, with or
without a Dagster instance.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reasoningrec_assets.lake.files import try_exclusive

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Device:
    """A leased device.

    Attributes:
        name: ``cpu:0``, or ``cuda:<index on this machine>``.
        torch_name: What torch calls it inside this process, where only the leased card is visible.
    """

    name: str
    torch_name: str


def visible_devices() -> list[str]:
    """Devices of this machine that this process may use: its CUDA cards, else the CPU as one device."""
    declared = os.environ.get("CUDA_VISIBLE_DEVICES")
    if declared is not None:
        cards = [card.strip() for card in declared.split(",") if card.strip() not in {"", "-1"}]
    else:
        cards = sorted(path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
    return [f"cuda:{card}" for card in cards] or ["cpu:0"]


@contextlib.contextmanager
def lease(*, log: Callable[[str], None] = print, poll_seconds: float = 1.0) -> Generator[Device]:
    """Hold one device for the length of the block, waiting until one is free.

    Two models on one device either run out of memory or, on a CPU, slow each other down several times, so every
    engine and every training holds a lease. The lock file lies in the machine's temporary folder, since a device
    belongs to a machine and not to a data root, which may be shared.
    """
    folder = Path(tempfile.gettempdir()) / f"reasoningrec-leases-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    said = False
    while True:
        for name in visible_devices():
            with try_exclusive(folder / f"{name.replace(':', '-')}.lock") as free:
                if not free:
                    continue
                yield _prepare(name)
                return
        if not said:
            log(f"all devices are taken ({', '.join(visible_devices())}); waiting for one")
            said = True
        time.sleep(poll_seconds)


def _prepare(name: str) -> Device:
    kind, index = name.split(":")
    if kind == "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = index
        return Device(name, "cuda:0")
    # spinning OpenMP threads make a training step up to ten times slower when anything else wants the cores; this has
    # an effect only before torch is imported for the first time
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    _keep_freed_memory()
    return Device(name, "cpu")


def _keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors instead of handing it back and asking for it again.

    By default every tensor of some megabytes is mapped and zeroed by the kernel anew: measured on two cores, forward
    passes of a 135M model ran 9 to 90 % faster with this (median of five batch sizes: 20 %).
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 32 * 1024 * 1024)  # M_MMAP_THRESHOLD, at its largest
        libc.mallopt(-1, 1024 * 1024 * 1024)  # M_TRIM_THRESHOLD


def precision(device: Device) -> torch.dtype:
    """The precision to compute in: bf16 on CUDA and on processors with bf16 instructions, else fp32."""
    import torch

    if device.name.startswith("cuda"):
        return torch.bfloat16
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    return torch.bfloat16 if "avx512_bf16" in flags or "amx_bf16" in flags else torch.float32


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
