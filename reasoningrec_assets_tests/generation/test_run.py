"""Plan, execute, publish: with an engine that counts, since what matters here is what is asked of it."""

import contextlib

import pytest

from reasoningrec_assets.errors import TransientError
from reasoningrec_assets.generation.requests import Answer, ModelIdentity, Request, Sampling
from reasoningrec_assets.generation.run import write_texts

IDENTITY = ModelIdentity("model", "counting")
SAMPLING = Sampling(10, 0.0, 1.0, seed=3)


class CountingEngine:
    """Answers with the message reversed and keeps what it was asked; stops after `limit` batches."""

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
    options = {"batch_size": 2, "chunk_size": 4, **more}
    return write_texts(
        requests,
        identity=identity,
        sampling=sampling,
        cache_root=root,
        open_engine=lambda: contextlib.nullcontext(engine),
        log=lambda _: None,
        **options,
    )


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

    second = write_texts(
        requests_of("a", "b", "c"),
        identity=IDENTITY,
        sampling=SAMPLING,
        cache_root=tmp_path,
        open_engine=refuse,
        batch_size=2,
        chunk_size=4,
        log=print,
    )
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


def test_a_killed_run_loses_less_than_a_chunk_and_repeats_the_same_batches(tmp_path):
    messages = [f"message {number:02d} {'x' * number}" for number in range(12)]
    undisturbed = CountingEngine()
    whole = write(requests_of(*messages), tmp_path / "undisturbed", undisturbed)
    with pytest.raises(KeyboardInterrupt):
        write(requests_of(*messages), tmp_path / "killed", CountingEngine(limit=3))
    resumed = CountingEngine()
    again = write(requests_of(*messages), tmp_path / "killed", resumed)
    # batches of two, chunks of two batches: the first chunk was committed, the third batch was lost
    assert resumed.batches == undisturbed.batches[2:]
    assert again.texts == whole.texts


def test_a_cut_answer_is_trimmed_and_flagged(tmp_path):
    written = write(requests_of("word"), tmp_path, CountingEngine(finish="length"))
    assert (written.texts[0].text, written.texts[0].status) == ("drow.", "trimmed")
    assert written.metrics["generation_trimmed"] == 1


def test_too_many_failures_fail_the_run_and_the_rest_is_kept(tmp_path):
    with pytest.raises(TransientError, match=r"1 of 3 requests failed.*boom"):
        write(requests_of("a", "b", "c"), tmp_path, CountingEngine(errors=["b"]))
    engine = CountingEngine()
    write(requests_of("a", "b", "c"), tmp_path, engine)
    assert engine.batches == [["b"]]


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

    written = write_texts(
        requests_of("a", "b", "c", "d"),
        identity=IDENTITY,
        sampling=SAMPLING,
        cache_root=tmp_path,
        open_engine=open_after_the_other_run,
        batch_size=2,
        chunk_size=4,
        log=lambda _: None,
    )
    assert engine.batches == [["d"]]
    assert len(written.texts) == 4
