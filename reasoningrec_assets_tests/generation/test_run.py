"""Plan, execute, publish: with an engine that counts, since what matters here is what is asked of it."""

import concurrent.futures
import contextlib
import dataclasses
import time

import pytest

from reasoningrec_assets.errors import DryRun, TransientError
from reasoningrec_assets.generation.cache import GenerationCache
from reasoningrec_assets.generation.plan import Writer
from reasoningrec_assets.generation.requests import Answer, ModelIdentity, Request, Sampling, key_of
from reasoningrec_assets.generation.run import write_texts

IDENTITY = ModelIdentity("model", "counting")
SAMPLING = Sampling(10, 0.0, 1.0, seed=3)


class CountingEngine:
    """Answers with the message reversed and keeps what it was asked; stops after `limit` chunks."""

    def __init__(self, limit=None, finish="stop", errors=()):
        self.batches, self.limit, self.finish, self.errors = [], limit, finish, errors

    def generate(self, batch, sampling):
        if self.limit is not None and len(self.batches) == self.limit:
            raise KeyboardInterrupt
        self.batches.append([request.message for _, request in batch])
        return [
            Answer(
                key,
                f"{request.message[::-1]}. Half a",
                self.finish,
                5,
                2,
                0.1,
                error="boom" if request.message in self.errors else None,
            )
            for key, request in batch
        ]


def write(requests, root, engine, *, identity=IDENTITY, sampling=SAMPLING, **more):
    return write_texts(requests, lambda request: request, writer(root, engine, identity=identity, sampling=sampling, **more))


def writer(root, engine, **more):
    options = {
        "model": "model",
        "identity": IDENTITY,
        "sampling": SAMPLING,
        "cache_root": root,
        "open_engine": lambda: contextlib.nullcontext(engine),
        "chunk_size": 4,
        "log": lambda _: None,
    }
    return Writer(**options | more)


def requests_of(*messages):
    return [Request(f"row {message}", message) for message in messages]


def test_texts_come_back_in_the_order_of_the_requests(tmp_path):
    written = write(requests_of("a", "cccc", "bb"), tmp_path, CountingEngine())
    assert [text.row for text in written.texts] == ["row a", "row cccc", "row bb"]
    assert [text.text for text in written.texts] == ["a. Half a", "cccc. Half a", "bb. Half a"]


def test_a_second_run_asks_nothing_and_does_not_open_the_engine(tmp_path):
    first = write(requests_of("a", "b", "c"), tmp_path, CountingEngine())

    def refuse():
        raise AssertionError("the engine was opened")

    second = write(requests_of("a", "b", "c"), tmp_path, None, open_engine=refuse)
    assert second.texts == first.texts
    assert second.metrics["generation_calls"] == 0
    assert second.metrics["generation_cache_hits"] == 3


def test_equal_requests_are_answered_once(tmp_path):
    engine = CountingEngine()
    written = write(requests_of("same", "same", "other"), tmp_path, engine)
    assert sum(map(len, engine.batches)) == 2
    assert written.metrics["generation_different_requests"] == 2
    assert written.texts[0].text == written.texts[1].text


def test_one_more_row_costs_one_call(tmp_path):
    write(requests_of("a", "b", "c"), tmp_path, CountingEngine())
    engine = CountingEngine()
    write(requests_of("a", "b", "c", "new"), tmp_path, engine)
    assert engine.batches == [["new"]]


@pytest.mark.parametrize(
    ("identity", "sampling", "calls"),
    [
        (ModelIdentity("other", "counting"), SAMPLING, 3),
        (ModelIdentity("model", "counting", adapter="x"), SAMPLING, 3),
        (ModelIdentity("model", "counting", quantization="int8"), SAMPLING, 3),
        (IDENTITY, Sampling(11, 0.0, 1.0, seed=3), 3),
        (IDENTITY, Sampling(10, 0.5, 1.0, seed=3), 3),
        (IDENTITY, Sampling(10, 0.0, 1.0, seed=4), 0),
    ],
    ids=["model", "adapter", "quantization", "length", "temperature", "a greedy answer ignores the seed"],
)
def test_what_decides_an_answer_is_part_of_its_key(tmp_path, identity, sampling, calls):
    write(requests_of("a", "b", "c"), tmp_path, CountingEngine())
    engine = CountingEngine()
    write(requests_of("a", "b", "c"), tmp_path, engine, identity=identity, sampling=sampling)
    assert sum(map(len, engine.batches)) == calls


def test_a_killed_run_loses_less_than_a_chunk_and_repeats_the_same_chunks(tmp_path):
    messages = [f"message {number:02d} {'x' * number}" for number in range(12)]
    undisturbed = CountingEngine()
    whole = write(requests_of(*messages), tmp_path / "undisturbed", undisturbed)
    with pytest.raises(KeyboardInterrupt):
        write(requests_of(*messages), tmp_path / "killed", CountingEngine(limit=2))
    resumed = CountingEngine()
    again = write(requests_of(*messages), tmp_path / "killed", resumed)
    # two of the three chunks were committed, the third one was lost
    assert resumed.batches == undisturbed.batches[2:]
    assert again.texts == whole.texts


def test_a_cut_answer_is_trimmed_and_flagged(tmp_path):
    written = write(requests_of("word"), tmp_path, CountingEngine(finish="length"))
    assert (written.texts[0].text, written.texts[0].status) == ("drow.", "trimmed")
    assert written.metrics["generation_trimmed"] == 1


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("<think>It was disliked.</think>\nA fine film.", "A fine film."),
        ("It was disliked.\n</think>\n\nA fine film.", "A fine film."),  # the template begins the thought
        ("<think>It was", ""),
    ],
)
def test_what_a_model_thinks_aloud_is_no_text(tmp_path, answer, text):
    class Thinking(CountingEngine):
        def generate(self, batch, sampling):
            return [dataclasses.replace(one, text=answer) for one in super().generate(batch, sampling)]

    written = write(requests_of("word"), tmp_path, Thinking())
    assert [(one.text, one.status) for one in written.texts] == [(text, "ok" if text else "empty")]


def test_many_empty_texts_are_warned_of(tmp_path):
    lines = []
    engine = CountingEngine(finish="length")
    engine.generate = lambda batch, _: [Answer(key, "Half a", "length", 5, 2, 0.1) for key, _ in batch]
    written = write(requests_of("a", "b"), tmp_path, engine, log=lines.append)
    assert written.metrics["generation_empty"] == 2
    assert lines[-1].startswith("WARNING: 2 of 2 texts are empty")


def test_too_many_failures_fail_the_run_and_the_rest_is_kept(tmp_path):
    with pytest.raises(TransientError, match=r"1 of 3 requests failed.*boom"):
        write(requests_of("a", "b", "c"), tmp_path, CountingEngine(errors=["b"]))
    engine = CountingEngine()
    write(requests_of("a", "b", "c"), tmp_path, engine)
    assert engine.batches == [["b"]]


def test_a_server_that_is_down_is_not_asked_for_all_the_rest(tmp_path):
    messages = [str(number) for number in range(40)]
    engine = CountingEngine(errors=messages)
    with pytest.raises(TransientError, match="4 of 40 requests failed"):
        write(requests_of(*messages), tmp_path, engine)
    assert len(engine.batches) == 1


def test_rows_that_always_fail_block_no_resumed_run(tmp_path):
    messages = [str(number) for number in range(40)]
    for _ in range(2):  # the second run has a chunk of failures alone
        written = write(requests_of(*messages), tmp_path, CountingEngine(errors=["7", "8"]), max_failed_share=0.1)
        assert written.metrics["generation_failed"] == 2


def test_a_second_try_that_fails_or_says_nothing_leaves_the_first_answer(tmp_path):
    for name, second in (("fails", TransientError("x", where="x", problem="x", remedy="x")), ("empty", "")):
        engine = CountingEngine(finish="length")

        def generate(batch, sampling, engine=engine, second=second):
            answers = CountingEngine.generate(engine, batch, sampling)
            if len(engine.batches) == 1:
                return answers
            if isinstance(second, Exception):
                raise second
            return [dataclasses.replace(answer, text=second, finish_reason="stop") for answer in answers]

        engine.generate = generate
        sampling = dataclasses.replace(SAMPLING, retry_tokens=32)
        written = write(requests_of("word"), tmp_path / name, engine, sampling=sampling)
        assert (written.texts[0].text, written.texts[0].status) == ("drow.", "trimmed")


def test_a_tolerated_failure_is_a_row_without_text(tmp_path):
    written = write(requests_of("a", "b", "c"), tmp_path, CountingEngine(errors=["b"]), max_failed_share=0.5)
    assert [(text.status, text.text == "") for text in written.texts] == [("ok", False), ("failed", True), ("ok", False)]


def test_a_damaged_shard_is_set_aside_and_written_again(tmp_path):
    first = write(requests_of("a", "b"), tmp_path, CountingEngine())
    (shard,) = (tmp_path / IDENTITY.folder).glob("*.parquet")
    shard.write_bytes(shard.read_bytes()[:-5])
    engine = CountingEngine()
    again = write(requests_of("a", "b"), tmp_path, engine)
    assert sum(map(len, engine.batches)) == 2
    assert again.texts == first.texts
    assert len(list((tmp_path / IDENTITY.folder).glob("*.corrupt"))) == 1


def test_what_another_run_wrote_while_this_one_waited_is_not_written_again(tmp_path):
    engine = CountingEngine()

    @contextlib.contextmanager
    def open_after_the_other_run():
        write(requests_of("a", "b", "c"), tmp_path, CountingEngine())
        yield engine

    written = write(requests_of("a", "b", "c", "d"), tmp_path, None, open_engine=open_after_the_other_run)
    assert engine.batches == [["d"]]
    assert len(written.texts) == 4


class CutEngine(CountingEngine):
    """Cuts an answer in the middle of a word where it gets fewer than 20 tokens."""

    def generate(self, chunk, sampling):
        answers = super().generate(chunk, sampling)
        if sampling.max_new_tokens < 20:
            return [dataclasses.replace(answer, finish_reason="length") for answer in answers]
        return [dataclasses.replace(answer, text=f"{answer.text} sentence.") for answer in answers]


def test_a_cut_answer_is_asked_for_once_more_with_room_to_finish(tmp_path):
    engine = CutEngine()
    ladder = dataclasses.replace(SAMPLING, retry_tokens=20)
    written = write(requests_of("a", "bb"), tmp_path, engine, sampling=ladder)
    assert engine.batches == [["bb", "a"], ["bb", "a"]]
    assert [(text.text, text.status) for text in written.texts] == [("a. Half a sentence.", "ok"), ("bb. Half a sentence.", "ok")]
    assert (written.metrics["generation_retried"], written.metrics["generation_completion_tokens"]) == (2, 8)
    again = CutEngine()
    assert write(requests_of("a", "bb"), tmp_path, again, sampling=ladder).texts == written.texts
    assert again.batches == []


def test_an_answer_still_cut_the_second_time_is_trimmed(tmp_path):
    written = write(
        requests_of("word"), tmp_path, CountingEngine(finish="length"), sampling=dataclasses.replace(SAMPLING, retry_tokens=15)
    )
    assert (written.texts[0].text, written.texts[0].status) == ("drow.", "trimmed")


def test_a_dry_run_says_what_it_would_spend_and_spends_nothing(tmp_path):
    said = []
    engine = CountingEngine()
    write(requests_of("a" * 40), tmp_path, engine)
    with pytest.raises(DryRun) as plan:
        write(requests_of("a" * 40, "b" * 40, "c" * 80), tmp_path, engine, dry_run=True, prices=(1e6, 2e6), log=said.append)
    assert len(engine.batches) == 1
    # ten and twenty tokens at four characters each, two answers of at most ten; 0.05 s a token as measured before
    expected = {
        "requests": 3,
        "different_requests": 3,
        "cache_hits": 1,
        "missing": 2,
        "prompt_tokens": 30,
        "completion_tokens": 20,
    }
    assert plan.value.figures == pytest.approx(expected | {"seconds": 1.0, "cost": 30 + 2 * 20})
    assert (
        "2 to write with model: about 30 prompt tokens, at most 20 new ones, at most 1 s for these, cost about 70.00" in said[0]
    )


def test_the_estimate_counts_a_spread_of_the_requests(tmp_path):
    requests = requests_of(*["x" * length for length in range(1, 2001)])
    counted = []
    with pytest.raises(DryRun) as plan:
        write(requests, tmp_path, None, dry_run=True, count_tokens=lambda text: counted.append(text) or len(text))
    assert len(counted) == 256
    assert plan.value.figures["prompt_tokens"] == pytest.approx(sum(range(1, 2001)), rel=0.01)


def test_prefix_order_puts_equal_beginnings_together(tmp_path):
    shared = [f"{user * 600} and then item {item}" for item in range(3) for user in "abc"]
    engine = CountingEngine()
    write(requests_of(*shared), tmp_path, engine, order="prefix", chunk_size=3)
    assert [{message[0] for message in chunk} for chunk in engine.batches] == [{chunk[0][0]} for chunk in engine.batches]


def test_rows_are_rendered_when_they_are_sent(tmp_path):
    written = write_texts(range(10), lambda number: Request(str(number), "x" * number), writer(tmp_path, CountingEngine()))
    assert [text.row for text in written.texts] == [str(number) for number in range(10)]


def test_texts_over_the_word_limit_are_counted(tmp_path):
    written = write(requests_of("a", "b"), tmp_path, CountingEngine(), word_limit=2)
    assert written.metrics["generation_over_word_limit_share"] == 1
    assert write(requests_of("a", "b"), tmp_path, None, word_limit=3).metrics["generation_over_word_limit_share"] == 0


def test_first_token_logprobs_survive_the_cache(tmp_path):
    class Telling(CountingEngine):
        def generate(self, chunk, sampling):
            return [
                dataclasses.replace(answer, first_logprobs={"Yes": -0.5, "No": -1.0})
                for answer in super().generate(chunk, sampling)
            ]

    cache = GenerationCache(tmp_path, IDENTITY)
    sampling = dataclasses.replace(SAMPLING, logprobs=2)
    write(requests_of("a"), tmp_path, Telling(), sampling=sampling)
    key = key_of(Request("", "a"), IDENTITY, sampling)
    assert cache.lookup([key])[0][key].first_logprobs == {"Yes": -0.5, "No": -1.0}


def test_two_runs_at_once_write_every_answer_once(tmp_path):
    asked = []

    class Slow(CountingEngine):
        def generate(self, chunk, sampling):
            time.sleep(0.05)
            asked.extend(key for key, _ in chunk)
            return super().generate(chunk, sampling)

    requests = requests_of(*map(str, range(12)))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        runs = [pool.submit(write, requests[start:], tmp_path, Slow(), chunk_size=2) for start in (0, 2)]
        texts = [run.result().texts for run in runs]
    assert sorted(asked) == sorted(set(asked))
    assert texts[0][2:] == texts[1]
