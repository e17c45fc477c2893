from importlib.resources import files

import pytest

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.settings import SamplingSettings, TrainingSettings, load_profile, resolve


@pytest.mark.parametrize("name", ["small", "paper"])
def test_the_shipped_profiles_are_valid(name):
    assert load_profile(name).training.base_model


def test_the_paper_profile_holds_the_papers_figures():
    training = load_profile("paper").training
    assert (training.lora_rank, training.lora_alpha, training.lora_dropout) == (8, 16, 0.05)
    assert (training.learning_rate, training.batch_size, training.epochs, training.max_tokens) == (1e-4, 8, 100, 2100)


def test_the_run_config_beats_the_dataset_which_beats_the_profile(monkeypatch):
    monkeypatch.delenv("REASONINGREC_PROFILE", raising=False)
    dataset = {"sampling": {"k": 32, "valid_rows": 9}}
    found = resolve(SamplingSettings, "sampling", dataset, {}, {"k": 16, "valid_rows": None, "seed": None})
    assert (found.k, found.valid_rows, found.seed) == (16, 9, load_profile("small").sampling.seed)


def test_a_value_out_of_bounds_is_named_with_its_bound():
    with pytest.raises(PermanentError, match=r"section training.*learning_rate.*greater than 0"):
        resolve(TrainingSettings, "training", {}, {}, {"learning_rate": -1.0})


def test_an_unknown_profile_lists_the_known_ones():
    with pytest.raises(PermanentError, match="paper, small"):
        load_profile("large")


def test_a_misspelt_setting_is_refused(tmp_path):
    text = (files("reasoningrec_assets") / "profiles" / "small.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("lora_rank", "lora_rnak"))
    with pytest.raises(PermanentError, match="lora_rnak"):
        load_profile(str(path))


@pytest.mark.parametrize(
    ("section", "values", "problem"),
    [
        ("engine", {"kind": "openai"}, "needs a base_url"),
        ("engine", {"kind": "openai", "base_url": "http://127.0.0.1/v1", "adapter": "x"}, "leave adapter out"),
        ("engine", {"kind": "openai", "base_url": "http://me:secret@127.0.0.1/v1"}, "OPENAI_API_KEY's alone"),
        ("engine", {"kind": "openai", "base_url": "http://127.0.0.1/v1?api_key=secret"}, "OPENAI_API_KEY's alone"),
        ("engine", {"kind": "vllm", "quantization": "int8"}, "fp8 or nf4 or none"),
        ("item_descriptions", {"retry_tokens": 20}, "set it above max_new_tokens"),
        ("reasoning_labels", {"teacher_mode": "blind"}, "set it above 0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(section, values, problem, monkeypatch):
    monkeypatch.delenv("REASONINGREC_PROFILE", raising=False)
    kind = type(getattr(load_profile(), section))
    with pytest.raises(PermanentError, match=problem):
        resolve(kind, section, {}, {}, values)
