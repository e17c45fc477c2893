"""The machine: which device there is, who holds it, and in which precision to compute on it. Models don't belong here."""

import contextlib
import ctypes
import itertools
import os
import tempfile
from collections.abc import Collection, Generator
from dataclasses import dataclass
from pathlib import Path

from reasoningrec_assets.errors import Log, PermanentError
from reasoningrec_assets.lake.files import pause, try_exclusive


@dataclass(frozen=True)
class Device:
    """A leased device."""

    name: str  # cpu:0, or cuda:<index on this machine>, several of these joined by +
    torch_name: str  # what torch calls the first of them: its place among the cards that this process sees
    dtype: str  # as torch calls what to compute in: without instructions for it, bf16 is several times slower than fp32


def visible_devices() -> list[str]:
    """Devices of this machine that this process may use: its CUDA cards, else the CPU as one device."""
    there = ",".join(sorted(path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*")))
    cards = map(str.strip, os.environ.get("CUDA_VISIBLE_DEVICES", there).split(","))
    return [f"cuda:{card}" for card in cards if card not in {"", "-1"}] or ["cpu:0"]


def lease_file(device: str) -> Path:
    """The file that the holder of a device locks."""
    # a device belongs to a machine and not to a data root, which may be shared
    folder = Path(tempfile.gettempdir()) / f"reasoningrec-leases-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{device.replace(':', '-')}.lock"


@contextlib.contextmanager
def lease(*, count: int = 1, cards: Collection[str] = (), log: Log = print, poll_seconds: float = 1.0) -> Generator[Device]:
    """Within the block, hold `count` cards, or those at the places `cards`, or the CPU, one device whatever is asked.

    Waits until they are free, and says so; PermanentError where the machine has fewer cards. Two models on one device
    run out of memory or, on a CPU, slow each other down several times, so every engine and every training holds a lease.
    It is a kernel lock, so it is free again the moment its holder dies, with or without a Dagster instance.
    """
    visible, places = visible_devices(), {card for card in cards if card.isdigit()}
    cpu = visible == ["cpu:0"]
    names = [name for place, name in enumerate(visible) if cpu or not places or str(place) in places]
    wanted = 1 if cpu else max(count, len(places))
    if wanted > len(names):
        remedy = "Set a smaller tensor_parallel_size or training.processes, name fewer in max_memory, or make more cards visible"
        raise PermanentError("lease devices", where=", ".join(names), problem=f"{wanted} are asked for", remedy=remedy)
    for attempt in itertools.count():
        # all or none: two runs that each hold one card of two would wait for each other
        with contextlib.ExitStack() as held:
            free = (name for name in names if held.enter_context(try_exclusive(lease_file(name))))
            taken = list(itertools.islice(free, wanted))
            if len(taken) == wanted:
                yield prepare(taken, visible)
                return
        if attempt % max(1, round(20 / poll_seconds)) == 0:
            held_by = f"{', '.join(names)}, by the locks in {lease_file(names[0]).parent}"
            log(f"too few devices are free ({held_by}); waiting for {attempt * poll_seconds:.0f} s")
        pause(poll_seconds)


def prepare(taken: list[str], visible: list[str]) -> Device:
    """Make this process ready for the devices taken, of those that it may use."""
    if taken[0].startswith("cuda"):
        return Device("+".join(taken), f"cuda:{visible.index(taken[0])}", "bfloat16")
    # spinning OpenMP threads make a training step up to ten times slower when anything else wants the cores; this has
    # an effect only before torch is imported for the first time
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # glibc keeps the memory of freed tensors, which the kernel would map and zero anew: measured on two cores, forward
    # passes of a 135M model ran 9 to 90 % faster with this (median of five batch sizes: 20 %)
    with contextlib.suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 32 * 1024 * 1024)  # M_MMAP_THRESHOLD, at its largest
        libc.mallopt(-1, 1024 * 1024 * 1024)  # M_TRIM_THRESHOLD
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    return Device(taken[0], "cpu", "bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32")
