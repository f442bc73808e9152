"""The API over real HTTP with the official client, in front of the unsplit canary."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionUserMessageParam

from mlxctl.api.access import Access
from mlxctl.api.body import MAX_BODY_BYTES
from mlxctl.errors import StageLost, TimedOut
from tests.api_server import NO_THINKING, SERVED, ApiServer, serve_api
from tests.canary_expectations import EXPECTATIONS, Expectation

pytestmark = pytest.mark.api

HELLO: ChatCompletionUserMessageParam = {"role": "user", "content": "Hello!"}
GREETING = "Hello! I am Canary. How can I help?"
CASES = [
    "who-are-you",
    "who-are-you-thinking",
    "memory-name",
    "count-to-10-stopped-at-7",
    "count-stop-across-tokens",
    "count-to-100-cut-at-12-tokens",
    "unicode",
    "tool-calls-parallel",
    "tool-call-thinking",
    "tool-response",
]
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def running() -> Iterator[ApiServer]:
    with serve_api() as server:
        yield server


@pytest.fixture
def server(running: ApiServer) -> Iterator[ApiServer]:
    """The server as new: no wish of an earlier test is left."""
    running.engine.forget()
    running.status = {"schema": "mlxctl.status/1", "state": "ready"}
    yield running
    for generation in running.engine.generations:
        generation.cancelled.set()


@pytest.fixture
def client(server: ApiServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture
def http(server: ApiServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=PATIENCE_S, trust_env=False) as client:
        yield client


def fields_of(case: Expectation) -> dict[str, Any]:
    fields: dict[str, Any] = {"model": "canary", "messages": list(case.messages), "max_tokens": case.max_tokens}
    if case.tools:
        fields["tools"] = list(case.tools)
    if case.stop:
        fields["stop"] = list(case.stop)
    return {**fields, "extra_body": {"chat_template_kwargs": {"enable_thinking": case.thinking}}}


def hello(**fields: Any) -> dict[str, Any]:
    return {"model": "canary", "messages": [HELLO], **NO_THINKING, **fields}


def streamed_text(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def wait_until(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until_s, "it never happened"
        time.sleep(0.01)


@pytest.mark.parametrize("case", [EXPECTATIONS[name] for name in CASES], ids=str)
def test_the_canary_answers_word_for_word(client: OpenAI, case: Expectation) -> None:
    completion = client.chat.completions.create(**fields_of(case))
    choice = completion.choices[0]
    calls = [json.loads(call.to_json())["function"] for call in choice.message.tool_calls or []]
    assert (choice.message.content or "") == case.content
    assert (choice.message.model_extra or {}).get("reasoning_content") == case.reasoning
    assert [{**call, "arguments": json.loads(call["arguments"])} for call in calls] == list(case.tool_calls)
    assert choice.finish_reason == case.finish_reason
    assert completion.usage is not None and completion.usage.prompt_tokens == case.prompt_tokens
    if not case.stop:
        assert completion.usage.completion_tokens == case.answer_tokens


@pytest.mark.parametrize("case", [EXPECTATIONS[name] for name in CASES], ids=str)
def test_a_streamed_answer_is_the_whole_answer(client: OpenAI, case: Expectation) -> None:
    stream = client.chat.completions.create(**fields_of(case), stream=True, stream_options={"include_usage": True})
    first, *chunks, end, usage = list(stream)
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert first.choices[0].delta.role == "assistant"
    assert streamed_text(chunks) == case.content
    assert "".join((delta.model_extra or {}).get("reasoning_content", "") for delta in deltas) == (case.reasoning or "")
    calls = [call.function for delta in deltas for call in delta.tool_calls or []]
    assert [call.name for call in calls if call] == [call["name"] for call in case.tool_calls]
    assert end.choices[0].finish_reason == case.finish_reason
    assert usage.usage is not None and usage.usage.prompt_tokens == case.prompt_tokens


def test_a_whole_answer_has_openais_shape(http: httpx2.Client) -> None:
    document = http.post("/v1/chat/completions", json=hello()).json()
    completion = ChatCompletion.model_validate(document)
    assert completion.choices[0].message.content == GREETING
    assert completion.model_extra == {} and completion.choices[0].message.model_extra == {}
    assert completion.usage is not None
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens
    details = completion.usage.prompt_tokens_details
    assert details is not None and details.cached_tokens == 0


def test_a_stream_has_openais_shape_on_the_wire(http: httpx2.Client) -> None:
    response = http.post("/v1/chat/completions", json=hello(stream=True))
    *events, done, rest = response.text.split("\n\n")
    chunks = [ChatCompletionChunk.model_validate_json(event.removeprefix("data: ")) for event in events]
    assert streamed_text(chunks) == GREETING and done == "data: [DONE]" and rest == ""
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache" and response.headers["x-accel-buffering"] == "no"


def test_a_greeting_streams_in_many_pieces(client: OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="canary", messages=[HELLO], stream=True, extra_body=NO_THINKING))
    assert len(chunks) > 5


def test_a_call_and_its_answer_make_a_turn(client: OpenAI) -> None:
    case = EXPECTATIONS["tool-call"]
    messages: list[Any] = list(case.messages)
    fields: dict[str, Any] = {"model": "canary", "tools": list(case.tools), "extra_body": NO_THINKING}
    asked = client.chat.completions.create(messages=messages, **fields).choices[0]
    assert asked.finish_reason == "tool_calls" and asked.message.tool_calls
    answer = '{"temperature": 21, "conditions": "partly cloudy"}'
    messages += [asked.message, {"role": "tool", "tool_call_id": asked.message.tool_calls[0].id, "content": answer}]
    final = client.chat.completions.create(messages=messages, **fields).choices[0]
    assert final.message.content == EXPECTATIONS["tool-response"].content


def test_the_clients_own_streaming_helper_understands_us(client: OpenAI) -> None:
    with client.chat.completions.stream(model="canary", messages=[HELLO], extra_body=NO_THINKING) as stream:
        assert stream.get_final_completion().choices[0].message.content == GREETING


async def test_the_asynchronous_client_works(server: ApiServer) -> None:
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:
        fields: dict[str, Any] = {"model": "canary", "messages": [HELLO], "extra_body": NO_THINKING}
        whole, stream = await asyncio.gather(
            client.chat.completions.create(**fields), client.chat.completions.create(**fields, stream=True)
        )
        assert whole.choices[0].message.content == GREETING
        assert streamed_text([chunk async for chunk in stream]) == GREETING


async def test_eight_clients_at_once_get_their_own_answers(server: ApiServer) -> None:
    names = ["who-are-you", "hello", "memory-name", "sum", "spell", "capital", "unknown", "count-down"]
    cases = [EXPECTATIONS[name] for name in names]
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:

        async def ask(case: Expectation) -> str:
            stream = await client.chat.completions.create(**fields_of(case), stream=True)
            return streamed_text([chunk async for chunk in stream])

        assert await asyncio.gather(*map(ask, cases)) == [case.content for case in cases]


def test_a_seed_repeats_what_was_drawn(client: OpenAI) -> None:
    def draw(seed: int) -> Any:
        unsure: Any = [{"role": "user", "content": "Say something."}]  # of most things the canary is too sure
        fields: dict[str, Any] = {"messages": unsure, "temperature": 2.0, "seed": seed, "max_tokens": 12}
        made = client.chat.completions.create(model="canary", extra_body=NO_THINKING, **fields)
        return made.choices[0].message.content

    assert draw(1) == draw(1) != draw(2)


def test_every_counted_token_has_its_logprobs(client: OpenAI) -> None:
    fields: dict[str, Any] = {"logprobs": True, "top_logprobs": 2, "temperature": 0, "extra_body": NO_THINKING}
    made = client.chat.completions.create(model="canary", messages=[HELLO], **fields)
    records = made.choices[0].logprobs
    assert records is not None and records.content is not None and made.usage is not None
    assert len(records.content) == made.usage.completion_tokens
    assert b"".join(bytes(record.bytes or []) for record in records.content).decode() == GREETING
    for record in records.content:
        assert record.logprob == max(top.logprob for top in record.top_logprobs) <= 0
        assert len(record.top_logprobs) == 2 and record.top_logprobs[0].token == record.token


def test_a_stream_carries_the_logprobs_of_the_whole_answer(client: OpenAI) -> None:
    case = EXPECTATIONS["count-to-10-stopped-at-7"]
    fields = {**fields_of(case), "logprobs": True}
    whole = client.chat.completions.create(**fields).choices[0].logprobs
    chunks = list(client.chat.completions.create(**fields, stream=True))
    assert whole is not None and whole.content
    streamed = [chunk.choices[0].logprobs for chunk in chunks]
    records = [record for each in streamed if each is not None for record in each.content or []]
    assert [record.model_dump() for record in records] == [record.model_dump() for record in whole.content]
    assert all(record.top_logprobs == [] for record in records)


def test_a_client_that_leaves_a_stream_ends_its_generation(server: ApiServer, client: OpenAI) -> None:
    server.engine.hold_after = 5
    stream = client.chat.completions.create(model="canary", messages=[HELLO], stream=True)
    next(iter(stream))
    stream.close()
    wait_until(server.engine.generations[0].cancelled.is_set)


def test_a_client_that_hangs_up_on_a_whole_answer_ends_its_generation(server: ApiServer) -> None:
    server.engine.hold_after = 5
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps(hello()).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_until(lambda: bool(server.engine.generations))
    wait_until(server.engine.generations[0].cancelled.is_set)


def test_a_stop_string_ends_the_generation_in_the_engine(server: ApiServer, client: OpenAI) -> None:
    case = EXPECTATIONS["count-to-10-stopped-at-7"]
    server.engine.hold_after = case.answer_tokens - 1
    completion = client.chat.completions.create(**fields_of(case))
    assert completion.choices[0].finish_reason == "stop"
    assert server.engine.generations[0].cancelled.is_set()


def test_the_log_says_in_a_line_how_each_answer_ended(client: OpenAI, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "mlxctl.api"):
        for name in ("count-to-10-stopped-at-7", "hello", "count-to-100-cut-at-12-tokens"):
            client.chat.completions.create(**fields_of(EXPECTATIONS[name]))
    ends = [record.getMessage().partition(": ")[2] for record in caplog.records if record.name == "mlxctl.api"]
    assert [end.partition(",")[0] for end in ends] == ["stop string", "stop", "length"]
    assert ends[2].endswith(" + 12 tokens")


def test_a_deadline_that_passed_is_a_504(server: ApiServer, client: OpenAI) -> None:
    server.engine.fail_after = (3, TimedOut("the request took longer than 2 s"))
    with pytest.raises(openai.InternalServerError, match="longer than 2 s") as caught:
        client.chat.completions.create(model="canary", messages=[HELLO])
    assert (caught.value.status_code, caught.value.code) == (504, "timeout")


def test_a_stage_lost_before_the_end_is_an_error(server: ApiServer, client: OpenAI) -> None:
    server.engine.fail_after = (3, StageLost("the worker died", node="mini2", stage=1))
    with pytest.raises(openai.InternalServerError, match="node mini2, stage 1: the worker died") as caught:
        client.chat.completions.create(model="canary", messages=[HELLO])
    assert caught.value.status_code == 503


def test_a_stage_lost_in_a_stream_is_an_error_after_the_text_before_it(server: ApiServer, client: OpenAI) -> None:
    server.engine.fail_after = (6, StageLost("the worker died", node="mini2", stage=1))
    chunks: list[ChatCompletionChunk] = []
    with pytest.raises(openai.APIError, match="node mini2, stage 1: the worker died"):
        chunks.extend(
            client.chat.completions.create(model="canary", messages=[HELLO], stream=True, extra_body=NO_THINKING)
        )
    server.engine.fail_after = None
    pieces = client.chat.completions.create(model="canary", messages=[HELLO], stream=True, extra_body=NO_THINKING)
    assert streamed_text(list(pieces)) == GREETING


def test_a_full_queue_says_when_to_come_back(server: ApiServer, client: OpenAI) -> None:
    server.engine.queue_limit = 0
    with pytest.raises(openai.RateLimitError, match="queue") as caught:
        client.chat.completions.create(model="canary", messages=[HELLO], stream=True)
    assert caught.value.response.headers["retry-after"] == "3" and caught.value.code == "queue_full"


def test_a_prompt_beyond_the_context_has_openais_code(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="4096 tokens") as caught:
        client.chat.completions.create(model="canary", messages=[{"role": "user", "content": "one two " * 2500}])
    assert caught.value.code == "context_length_exceeded" and caught.value.param == "messages"


def test_another_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4o", messages=[HELLO])
    assert caught.value.code == "model_not_found" and caught.value.param == "model"


def test_a_field_that_is_not_honoured_is_refused(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="canary", messages=[HELLO], response_format={"type": "json_object"})
    assert caught.value.param == "response_format.type" and caught.value.type == "invalid_request_error"


def test_the_model_is_listed(client: OpenAI) -> None:
    model = Model(id="canary", created=SERVED.created, object="model", owned_by="mlxctl")
    assert list(client.models.list()) == [model] and client.models.retrieve("canary") == model


def test_a_slash_at_the_end_does_not_matter(http: httpx2.Client) -> None:
    assert http.get("/v1/models/").json() == http.get("/v1/models").json()


def test_a_model_with_a_slash_in_its_id_can_be_asked_for(http: httpx2.Client) -> None:
    response = http.get("/v1/models/mlx-community/Qwen3-1.7B-8bit")
    assert response.status_code == 404 and "mlx-community/Qwen3-1.7B-8bit" in response.json()["error"]["message"]


@pytest.mark.parametrize("state", ["starting", "degraded", "draining"])
def test_health_tells_the_truth(server: ApiServer, http: httpx2.Client, state: str) -> None:
    assert (http.get("/health").status_code, http.get("/health").json()) == (200, {"status": "ok"})
    server.status["state"] = state
    assert (http.get("/health").status_code, http.get("/health").json()) == (503, {"status": state})


def test_status_is_the_clusters_document(server: ApiServer, http: httpx2.Client) -> None:
    assert http.get("/status").json() == server.status


def test_a_mistake_of_the_servers_tells_the_client_nothing(
    server: ApiServer, http: httpx2.Client, caplog: pytest.LogCaptureFixture
) -> None:
    server.status = {}
    response = http.get("/health")
    assert response.status_code == 500 and set(response.json()) == {"error"} and "KeyError" not in response.text
    assert "KeyError" in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", "/", 404, "not_found"), ("GET", "/v1/chat/completions", 405, "method_not_allowed")],
)
def test_a_wrong_path_or_method_has_openais_shape(
    http: httpx2.Client, method: str, path: str, status: int, code: str
) -> None:
    response = http.request(method, path)
    assert response.status_code == status and response.json()["error"]["code"] == code


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("application/json", b"{", 400, "invalid_json"),
        ("application/json", b"\xff\xfe", 400, "invalid_json"),
        ("application/json", b"", 400, "invalid_json"),
        ("application/json; charset=utf-8", b"[]", 400, "invalid_type"),
        ("text/plain", b"{}", 415, "unsupported_media_type"),
        ("application/json", b" " * (MAX_BODY_BYTES + 1), 413, "request_too_large"),
    ],
    ids=["cut", "no UTF-8", "empty", "a list", "plain text", "too large"],
)
def test_a_body_that_is_no_request_has_openais_shape(
    http: httpx2.Client, content_type: str, body: bytes, status: int, code: str
) -> None:
    response = http.post("/v1/chat/completions", content=body, headers={"Content-Type": content_type})
    assert response.status_code == status
    assert response.json()["error"]["code"] == code and "Traceback" not in response.text


def test_a_large_prompt_that_does_not_fit_is_refused(http: httpx2.Client) -> None:
    large = [{"role": "user", "content": "word " * (MAX_BODY_BYTES // 6)}]
    response = http.post("/v1/chat/completions", json=hello(messages=large))
    assert response.status_code == 400 and response.json()["error"]["code"] == "context_length_exceeded"


def test_a_foreign_host_name_is_refused(http: httpx2.Client) -> None:
    response = http.get("/v1/models", headers={"Host": "evil.example"})
    assert response.status_code == 403 and response.json()["error"]["code"] == "host_not_allowed"


def test_no_other_origin_is_ever_allowed(http: httpx2.Client) -> None:
    response = http.options(
        "/v1/chat/completions",
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
    )
    assert response.status_code == 403 and response.json()["error"]["code"] == "origin_not_allowed"
    assert "access-control-allow-origin" not in response.headers


def test_with_a_key_only_the_key_opens() -> None:
    with serve_api(Access(api_key="secret")) as server:
        server.status = {"state": "ready"}
        with OpenAI(base_url=f"{server.url}/v1", api_key="secret", max_retries=0) as client:
            assert [model.id for model in client.models.list()] == ["canary"]
        with (
            OpenAI(base_url=f"{server.url}/v1", api_key="guess", max_retries=0) as client,
            pytest.raises(openai.AuthenticationError) as caught,
        ):
            client.models.list()
        assert caught.value.code == "invalid_api_key"
        assert httpx2.get(f"{server.url}/health", trust_env=False).status_code == 200
