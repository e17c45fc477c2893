"""Checkpoints of a training that say what they are: a killed one goes on from the last that is whole."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load, save

from reasoningrec_assets.errors import Log
from reasoningrec_assets.lake.files import canonical_json, move_into_place, scratch_folder

KEPT = 2  # the last one, and the one before it should the last be damaged


@dataclass(frozen=True)
class Checkpoints:
    """Safetensors files named by step and content's hash; those `about` another base, data version or settings are removed."""

    folder: Path
    about: Mapping[str, Any]
    log: Log

    def save(self, step: int, tensors: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
        """Commit the tensors and what else is known after so many steps, and drop what is older than `KEPT`."""
        described = {"about": canonical_json(self.about), "progress": canonical_json(progress)}
        content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata=described)
        with scratch_folder(self.folder.parent / "scratch") as scratch:
            (scratch / "checkpoint").write_bytes(content)
            move_into_place(scratch / "checkpoint", self.folder / f"{step:08d}-{hashlib.sha256(content).hexdigest()}.safetensors")
        for old in self._newest_first()[KEPT:]:
            old.unlink()

    def newest(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Tensors and progress of the newest whole checkpoint of this training; None where it begins."""
        for path in self._newest_first():
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != path.stem.partition("-")[2]:
                self.log(f"the checkpoint {path} is damaged: going back to the one before it")
                path.unlink()
                continue
            described = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
            if described["about"] == canonical_json(self.about):
                return load(content), json.loads(described["progress"])
            self.log(f"the checkpoint {path} is of another base, of other rows, settings or code: it is removed")
            path.unlink()
        return None

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors"), reverse=True)
