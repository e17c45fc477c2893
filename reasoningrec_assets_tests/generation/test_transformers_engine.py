import pytest
import torch

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.generation.engines.transformers import TransformersEngine
from reasoningrec_assets.generation.requests import Request, Sampling
from reasoningrec_assets.models import packing
from reasoningrec_assets.models.store import load_causal_model, load_tokenizer
from reasoningrec_assets.prompts.chat import Chat


@pytest.fixture
def engine(tiny_model):
    return TransformersEngine(load_causal_model(tiny_model, "float32", "cpu"), Chat(load_tokenizer(tiny_model)), "cpu")


MESSAGES = [f"the same long beginning of every message, then {'word ' * number}{number}" for number in range(6)]
GREEDY = Sampling(12, 0.0, 1.0, seed=0)


def answers(engine, messages, sampling=GREEDY, prefill=""):
    return engine.generate([(message, Request(message, message, prefill)) for message in messages], sampling)


def test_a_batch_answers_like_single_requests(engine):
    batched = answers(engine, MESSAGES)
    single = [answers(engine, [message])[0] for message in MESSAGES]
    assert [answer.text for answer in batched] == [answer.text for answer in single]
    assert [answer.completion_tokens for answer in batched] == [answer.completion_tokens for answer in single]


def test_sharing_the_prefix_changes_no_answer(engine, monkeypatch):
    shared = answers(engine, MESSAGES)
    monkeypatch.setattr(packing, "SHORTEST", 10**9)
    assert [answer.text for answer in answers(engine, MESSAGES)] == [answer.text for answer in shared]


def test_the_answer_is_cut_out_by_tokens_and_says_why_it_ended(engine):
    (answer,) = answers(engine, MESSAGES[:1])
    prompt = engine.chat.prompt(MESSAGES[0])
    with torch.inference_mode():
        plain = engine.model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)[0, len(prompt) :].tolist()
    assert answer.text == engine.chat.decode(plain)
    assert answer.prompt_tokens == len(prompt)
    assert answer.finish_reason == ("stop" if engine.chat.tokenizer.eos_token_id in plain else "length")


def test_an_answer_goes_on_from_its_prefill(engine):
    (plain,), (continued,) = answers(engine, MESSAGES[:1]), answers(engine, MESSAGES[:1], prefill="Prediction: Yes\n")
    assert continued.prompt_tokens == plain.prompt_tokens + len(engine.chat.ids("Prediction: Yes\n"))


def test_a_seeded_draw_repeats_and_another_seed_draws_otherwise(engine):
    warm = Sampling(12, 1.0, 1.0, seed=1)
    first, second = answers(engine, MESSAGES, warm), answers(engine, MESSAGES, warm)
    assert [answer.text for answer in first] == [answer.text for answer in second]
    other = answers(engine, MESSAGES, Sampling(12, 1.0, 1.0, seed=2))
    assert [answer.text for answer in other] != [answer.text for answer in first]


def test_the_common_prefix_leaves_every_row_a_token():
    assert packing.common_prefix([[1] * 20, [1] * 20]) == [1] * 19
    assert packing.common_prefix([list(range(30)), [*range(18), 99, 98]]) == list(range(18))
    assert packing.common_prefix([[1, 2, 3], [1, 2, 4]]) == []
    assert packing.common_prefix([[1] * 20]) == []


def test_answers_are_one_of_the_choices(engine):
    sampling = Sampling(12, 0.0, 1.0, seed=0, choices=("Prediction: Yes", "Prediction: No", "Prediction: None of them"))
    found = answers(engine, MESSAGES, sampling)
    assert {answer.text for answer in found} <= set(sampling.choices)
    assert {answer.finish_reason for answer in found} == {"stop"}
    assert any(answer.text not in sampling.choices for answer in answers(engine, MESSAGES))


def test_first_token_logprobs_are_those_of_a_plain_forward(engine):
    found = answers(engine, MESSAGES[:3], Sampling(4, 0.0, 1.0, seed=0, logprobs=3))
    for message, answer in zip(MESSAGES, found, strict=False):
        with torch.inference_mode():
            logits = engine.model(torch.tensor([engine.chat.prompt(message)])).logits[0, -1].log_softmax(-1)
        values, ids = logits.topk(3)
        assert list(answer.first_logprobs) == [engine.chat.tokenizer.decode([token]) for token in ids.tolist()]
        assert list(answer.first_logprobs.values()) == pytest.approx(values.tolist(), abs=1e-4)


def test_a_prompt_longer_than_the_context_is_flagged_and_the_others_are_answered(engine):
    long, short = answers(engine, ["word " * 5000, MESSAGES[0]])
    assert "exceeds the model's context of 4096" in long.error
    assert (short.error, short.text) == (None, answers(engine, MESSAGES[:1])[0].text)


def test_the_batch_is_halved_when_memory_runs_out(engine, monkeypatch):
    whole = answers(engine, MESSAGES)
    original, sizes, said = engine._batch, [], []

    def scarce(batch, prompts, sampling):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return original(batch, prompts, sampling)

    monkeypatch.setattr(engine, "_batch", scarce)
    engine.at_once.size, engine.at_once.log = 8, said.append
    assert [answer.text for answer in answers(engine, MESSAGES)] == [answer.text for answer in whole]
    assert sizes == [6, 3, 1, 1, 1, 1, 1, 1]
    assert said == [
        "memory ran out on cpu: going on with 3 requests at once",
        "memory ran out on cpu: going on with 1 requests at once",
    ]


def test_memory_that_never_suffices_is_an_error_that_names_the_settings(engine, monkeypatch):
    def never(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine, "_batch", never)
    with pytest.raises(PermanentError, match=r"memory ran out, after it was halved 2 times.*max_new_tokens"):
        answers(engine, MESSAGES)


def test_another_error_is_not_taken_for_a_lack_of_memory(engine, monkeypatch):
    monkeypatch.setattr(engine, "_batch", lambda *_: (_ for _ in ()).throw(RuntimeError("shapes do not match")))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        answers(engine, MESSAGES)
