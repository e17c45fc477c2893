"""The engine for OpenAI-compatible servers, against a local server that misbehaves on purpose."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
import time

import pytest

from reasoningrec_assets.errors import PermanentError, TransientError
from reasoningrec_assets.generation.engines import openai as engine_module
from reasoningrec_assets.generation.requests import Request, Sampling
from reasoningrec_assets.settings import EngineSettings

GREEDY = Sampling(16, 0.0, 1.0, seed=0)
KEY = "sk-very-secret-key"


class Server(http.server.ThreadingHTTPServer):
    """Answers every question with its last word; `misbehave(number, message)` may do something else first."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.misbehave = lambda _number, _message: None
        self.bodies, self.headers, self.active, self.most, self.key = [], [], 0, 0, None
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def reply(self, status, value, **headers):
        content = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def refused(self):
        if self.server.key and self.headers["Authorization"] != f"Bearer {self.server.key}":
            self.reply(401, {"error": {"message": f"wrong key: {self.headers['Authorization']}"}})
            return True
        return False

    def do_GET(self):
        if not self.refused():
            self.reply(200, {"object": "list", "data": [{"id": "writer", "object": "model", "created": 0, "owned_by": "me"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.bodies.append(body)
            number = len(server.bodies) - 1
            server.active += 1
            server.most = max(server.most, server.active)
        try:
            if self.refused():
                return
            answer = server.misbehave(number, body["messages"][0]["content"])
            if answer == "drop":
                self.connection.shutdown(socket.SHUT_RDWR)
            elif isinstance(answer, tuple):
                self.reply(answer[0], answer[1], **(answer[2] if len(answer) > 2 else {}))
            else:
                self.reply(200, completion(body))
        finally:
            with server.lock:
                server.active -= 1


def completion(body):
    text = body["messages"][0]["content"].split()[-1]
    logprobs = {"content": [{"token": text, "logprob": -0.25, "top_logprobs": [{"token": text, "logprob": -0.25}]}]}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}, "logprobs": logprobs}
    usage = {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice], "usage": usage}


@pytest.fixture
def server():
    server = Server()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    # the waits between attempts are the client's own; shorter ones test the same
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.05)


def ask(server, messages, sampling=GREEDY, model="writer", **settings):
    options = {"kind": "openai", "base_url": getattr(server, "url", server), "concurrency": 4, "timeout_seconds": 5, **settings}
    chunk = [(f"{place:064x}", Request(str(place), message)) for place, message in enumerate(messages)]
    with engine_module.open_engine(model, EngineSettings(**options), log=lambda _: None) as engine:
        return engine.generate(chunk, sampling)


QUESTIONS = [f"say word{number}" for number in range(20)]


def texts(answers):
    return [answer.text for answer in answers]


def test_answers_come_back_in_order_with_their_figures(server):
    answers = ask(server, QUESTIONS)
    assert texts(answers) == [f"word{number}" for number in range(20)]
    assert {(a.finish_reason, a.prompt_tokens, a.completion_tokens, a.attempts, a.error) for a in answers} == {
        ("stop", 7, 1, 1, None)
    }


def test_no_more_requests_are_under_way_than_allowed(server):
    server.misbehave = lambda *_: time.sleep(0.05)
    ask(server, QUESTIONS, concurrency=3)
    assert server.most == 3


@pytest.mark.parametrize("fault", [(500, "{}"), (503, "{}"), (429, "{}"), (408, "{}"), "drop"], ids=str)
def test_half_the_requests_failing_once_costs_a_second_attempt_and_nothing_else(server, fault):
    seen = set()

    def once(_number, message):
        first = message not in seen
        seen.add(message)
        return fault if first and int(message.removeprefix("say word")) % 2 else None

    server.misbehave = once
    answers = ask(server, QUESTIONS)
    assert texts(answers) == [f"word{number}" for number in range(20)]
    assert [answer.attempts for answer in answers] == [1, 2] * 10


def test_the_server_says_how_long_to_wait(server):
    server.misbehave = lambda number, _: (429, "{}", {"Retry_After": "1"}) if number == 0 else None
    started = time.monotonic()
    (answer,) = ask(server, QUESTIONS[:1])
    assert (answer.attempts, time.monotonic() - started >= 1) == (2, True)


def test_a_server_that_stalls_is_asked_again(server):
    server.misbehave = lambda number, _: time.sleep(3) if number == 0 else None
    (answer,) = ask(server, QUESTIONS[:1], timeout_seconds=0.5)
    assert (answer.text, answer.attempts) == ("word0", 2)


def test_one_request_that_always_fails_is_a_row_with_an_error(server):
    server.misbehave = lambda _, message: (500, '{"error": {"message": "no luck"}}') if message == "say word3" else None
    answers = ask(server, QUESTIONS, retries=1)
    assert [place for place, answer in enumerate(answers) if answer.error] == [3]
    assert "no luck" in answers[3].error
    assert answers[3].attempts == 2


def test_a_prompt_longer_than_the_context_is_flagged_without_a_retry(server):
    problem = {"error": {"message": "This model's maximum context length is 8 tokens"}}
    server.misbehave = lambda _, message: (400, problem) if message == "say word1" else None
    answers = ask(server, QUESTIONS[:3])
    assert "maximum context length" in answers[1].error
    assert len(server.bodies) == 3


@pytest.mark.parametrize("garbage", ["<html>busy</html>", "{}", '{"choices": []}', "null"])
def test_an_answer_of_another_form_is_a_row_with_an_error(server, garbage):
    server.misbehave = lambda _, message: (200, garbage) if message == "say word1" else None
    answers = ask(server, QUESTIONS[:3])
    assert [bool(answer.error) for answer in answers] == [False, True, False]


@pytest.mark.parametrize("status", [401, 403, 404, 422, 503])
def test_a_request_that_is_refused_costs_no_other_its_answer(server, status):
    server.misbehave = lambda _, message: (status, {"error": {"message": "no"}}) if message.endswith("2") else None
    answers = ask(server, QUESTIONS[:4], retries=1)
    assert texts(answers) == ["word0", "word1", "", "word3"]
    assert str(status) in answers[2].error


def test_an_answer_that_drips_has_an_end(server, monkeypatch):
    monkeypatch.setattr(engine_module, "PATIENCE", 0.2)

    def drip(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(100):
                self.wfile.write(b" ")
                time.sleep(0.1)

    monkeypatch.setattr(Handler, "do_POST", drip)
    started = time.monotonic()
    (answer,) = ask(server, QUESTIONS[:1], retries=0, timeout_seconds=0.5)
    assert "TimeoutError" in answer.error
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"usage": None}, ("word0", "stop", 0, 0)),
        ({"usage": {"prompt_tokens": 7, "total_tokens": 8}}, ("word0", "stop", 7, 0)),
        ({"finish_reason": "content_filter"}, ("word0", "length", 7, 1)),
        ({"finish_reason": None}, ("word0", "length", 7, 1)),
        ({"text": "half \ud83d"}, ("half ?", "stop", 7, 1)),
    ],
)
def test_a_paid_answer_of_an_odd_form_is_kept(server, change, expected):
    def odd(number, _):
        found = completion(server.bodies[number])
        found |= {name: value for name, value in change.items() if name == "usage"}
        choice = found["choices"][0]
        choice |= {name: value for name, value in change.items() if name == "finish_reason"}
        choice["message"]["content"] = change.get("text", choice["message"]["content"])
        return 200, found

    server.misbehave = odd
    (answer,) = ask(server, QUESTIONS[:1])
    assert (answer.text, answer.finish_reason, answer.prompt_tokens, answer.completion_tokens) == expected


def test_a_list_of_models_that_is_none_is_an_error_of_the_server(server, monkeypatch):
    monkeypatch.setattr(Handler, "do_GET", lambda self: self.reply(200, "<html>hello</html>"))
    with pytest.raises(TransientError, match="Check that the server runs"):
        ask(server, QUESTIONS[:1])


def test_blanks_around_the_key_are_no_part_of_it(server, monkeypatch):
    server.key = "sk-secret"
    monkeypatch.setenv("OPENAI_API_KEY", " sk-secret\n")
    assert texts(ask(server, QUESTIONS[:1])) == ["word0"]


def test_an_unreachable_server_is_named_before_anything_is_asked():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(TransientError, match=url):
        ask(url, QUESTIONS, retries=1)


def test_a_wrong_key_is_refused_and_never_told(server, monkeypatch, capfd):
    server.key = "another"
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(PermanentError, match="OPENAI_API_KEY") as refused:
        ask(server, QUESTIONS)
    # the server's own message repeats the key
    assert "wrong key: Bearer ***" in str(refused.value)
    assert KEY not in str(refused.value) + "".join(capfd.readouterr())
    assert refused.value.__cause__ is None
    assert server.bodies == []


def test_a_key_that_ends_is_refused_once_it_serves_no_request(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.misbehave = lambda _number, _message: (401, {"error": {"message": "it has expired"}})
    with pytest.raises(PermanentError, match=r"it has expired.*OPENAI_API_KEY"):
        ask(server, QUESTIONS[:3])


def test_a_key_that_may_not_list_models_writes(server, monkeypatch):
    forbidden = lambda handler: handler.reply(403, {"error": {"message": "no permission to list"}})  # noqa: E731
    monkeypatch.setattr(Handler, "do_GET", forbidden)
    assert texts(ask(server, QUESTIONS[:1])) == ["word0"]


def test_the_right_key_is_taken_from_the_environment(server, monkeypatch):
    server.key = KEY
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert texts(ask(server, QUESTIONS[:1])) == ["word0"]


def test_a_model_that_the_server_does_not_have_is_named_with_those_it_has(server):
    with pytest.raises(PermanentError, match=r"use the model other .*the server has writer"):
        ask(server, QUESTIONS, model="other")


def test_sampling_prefill_choices_and_logprobs_reach_the_server(server):
    sampling = Sampling(5, 0.7, 0.9, seed=3, logprobs=2, choices=("Yes", "No"))
    with engine_module.open_engine("writer", EngineSettings(kind="openai", base_url=server.url), log=lambda _: None) as engine:
        (answer,) = engine.generate([("000000a0" + "0" * 56, Request("row", "say so", prefill="Prediction:"))], sampling)
    assert answer.first_logprobs == {"so": -0.25}
    (body,) = server.bodies
    assert body["messages"][1] == {"role": "assistant", "content": "Prediction:"}
    assert (body["max_tokens"], body["temperature"], body["top_p"], body["seed"]) == (5, 0.7, 0.9, 10)
    assert (body["top_logprobs"], body["structured_outputs"]) == (2, {"choice": ["Yes", "No"]})
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
