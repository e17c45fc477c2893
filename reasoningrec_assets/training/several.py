"""A training on several cards: a process for each, which share the rows of every step and add up their gradients."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from reasoningrec_assets import compute
from reasoningrec_assets.training.checkpoints import Checkpoints
from reasoningrec_assets.training.lora import Log, Progress, train_adapter


def train_on(count: int, checkpoints: Checkpoints, scratch: Path, *, device: compute.Device, log: Log, **known: Any) -> Progress:
    """`train_adapter` in `count` processes, one on each card of `device`, or in this one where it is one.

    A step's gradient is that of one process, up to the order of its sums. The figures are those of the first process, whose
    log goes to standard output; what ends any of them ends all, and is told in torch's `ProcessRaisedException`.
    """
    if count == 1:
        return train_adapter(**known, device=device, checkpoints=checkpoints, log=log)
    checkpoints.newest()  # which drops those that are damaged, before the processes look for them at once
    kept = {"folder": checkpoints.folder, "about": checkpoints.about}
    torch.multiprocessing.spawn(_process, (count, device, kept, scratch, known), nprocs=count)
    return Progress(**json.loads((scratch / "progress.json").read_text(encoding="utf-8")))


def _process(place: int, count: int, taken: compute.Device, kept: dict[str, Any], scratch: Path, known: dict[str, Any]) -> None:
    log: Log = print if place == 0 else lambda _: None
    names = taken.name.split("+")
    device = replace(compute.prepare([names[place % len(names)]], compute.visible_devices()), dtype=taken.dtype)
    if card := device.torch_name != "cpu":
        torch.cuda.set_device(device.torch_name)
    rendezvous = f"file://{scratch / 'rendezvous'}"  # where a port might be taken
    torch.distributed.init_process_group("nccl" if card else "gloo", init_method=rendezvous, rank=place, world_size=count)
    progress = train_adapter(**known, device=device, checkpoints=Checkpoints(**kept, log=log), log=log)
    if place == 0:
        (scratch / "progress.json").write_text(json.dumps(asdict(progress)), encoding="utf-8")
    torch.distributed.destroy_process_group()
