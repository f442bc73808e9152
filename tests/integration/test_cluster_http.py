"""The whole product: the official client, HTTP, the coordinator, gRPC, worker processes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from openai import APIError, AsyncOpenAI, BadRequestError, InternalServerError, OpenAI

import mlxctl
from mlxctl.launch.state import read_state
from tests.canary_expectations import EXPECTATIONS, Expectation
from tests.pipelines import local_profile

pytestmark = [pytest.mark.integration, pytest.mark.api]

MEANING = (
    "who-are-you-thinking",
    "memory-city-after-three-turns",
    "tool-call",
    "tool-response",
    "count-to-10-stopped-at-7",
    "unicode",
    "needle",
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[mlxctl.Cluster]:
    with mlxctl.Cluster.up(local_profile(2)) as running:
        yield running


def request_of(case: Expectation, **fields: Any) -> dict[str, Any]:
    request: dict[str, Any] = {
        "model": "canary",
        "messages": list(case.messages),
        "temperature": 0,
        "max_tokens": case.max_tokens,
        "extra_body": {"chat_template_kwargs": {"enable_thinking": case.thinking}},
        **fields,
    }
    if case.tools:
        request["tools"] = list(case.tools)
    if case.stop:
        request["stop"] = list(case.stop)
    return request


def check(case: Expectation, completion: Any) -> None:
    choice = completion.choices[0]
    assert choice.finish_reason == case.finish_reason
    assert (choice.message.content or "") == ("" if case.tool_calls else case.content)
    assert len(choice.message.tool_calls or []) == len(case.tool_calls)
    for call, expected in zip(choice.message.tool_calls or [], case.tool_calls, strict=True):
        assert call.function.name == expected["name"]
    assert completion.usage.prompt_tokens == case.prompt_tokens


@pytest.mark.parametrize("case_id", MEANING)
def test_two_workers_answer_right(cluster: mlxctl.Cluster, case_id: str) -> None:
    with OpenAI(base_url=cluster.base_url, api_key="unused") as client:
        check(EXPECTATIONS[case_id], client.chat.completions.create(**request_of(EXPECTATIONS[case_id])))


async def test_eight_workers_answer_right_all_at_once() -> None:
    with mlxctl.Cluster.up(local_profile(8)) as cluster:
        assert len(cluster.status()["stages"]) == 8
        async with AsyncOpenAI(base_url=cluster.base_url, api_key="unused") as client:
            cases = [EXPECTATIONS[case_id] for case_id in MEANING]
            answers = await asyncio.gather(*(client.chat.completions.create(**request_of(c)) for c in cases))
    for case, answer in zip(cases, answers, strict=True):
        check(case, answer)


async def test_eight_clients_stream_at_once_and_one_that_leaves_is_not_noticed(cluster: mlxctl.Cluster) -> None:
    before = cluster.status()
    ids = ("who-are-you", "hello", "count-to-10", "memory-name", "sum", "spell", "capital", "json")
    cases = [EXPECTATIONS[case_id] for case_id in ids]

    async def read(client: AsyncOpenAI, case: Expectation) -> str:
        stream = await client.chat.completions.create(**request_of(case, stream=True))
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    async def leave(client: AsyncOpenAI) -> None:
        stream = await client.chat.completions.create(**request_of(EXPECTATIONS["count-to-100"], stream=True))
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                break
        await stream.close()

    async with AsyncOpenAI(base_url=cluster.base_url, api_key="unused") as client:
        *texts, _ = await asyncio.gather(*(read(client, case) for case in cases), leave(client))
    assert texts == [case.content for case in cases]
    after = wait_until_idle(cluster)
    assert after["requests"]["cancelled"] == before["requests"]["cancelled"] + 1
    assert after["requests"]["completed"] == before["requests"]["completed"] + len(cases)
    assert [stage["pid"] for stage in after["stages"]] == [stage["pid"] for stage in before["stages"]]


def test_a_stream_that_is_left_frees_its_lane_on_every_stage(cluster: mlxctl.Cluster) -> None:
    with OpenAI(base_url=cluster.base_url, api_key="unused") as client:
        stream = client.chat.completions.create(**request_of(EXPECTATIONS["count-to-100"], stream=True))
        next(iter(stream))
        stream.close()
    status = wait_until_idle(cluster)
    assert status["lanes"]["rows"] == []
    assert [stage["caches"] for stage in status["stages"]] == [status["lanes"]["kept_sequences"]] * 2


def test_more_requests_than_fit_wait_and_then_are_refused_with_retry_after(cluster: mlxctl.Cluster) -> None:
    body = {"model": "canary", "messages": [{"role": "user", "content": "Count from 1 to 100."}], "max_tokens": 40}

    async def flood() -> list[httpx2.Response]:
        limits = httpx2.Limits(max_connections=120)
        async with httpx2.AsyncClient(timeout=120, limits=limits, trust_env=False) as client:
            url = f"{cluster.base_url}/chat/completions"
            return await asyncio.gather(*(client.post(url, json=body) for _ in range(90)))

    responses = asyncio.run(flood())
    codes = {response.status_code for response in responses}
    assert codes == {200, 429}
    refused = next(response for response in responses if response.status_code == 429)
    assert int(refused.headers["retry-after"]) > 0 and refused.json()["error"]["code"] == "queue_full"
    wait_until_idle(cluster)


def test_a_prompt_beyond_the_context_is_refused_in_openais_words(cluster: mlxctl.Cluster) -> None:
    with OpenAI(base_url=cluster.base_url, api_key="unused") as client, pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(model="canary", messages=[{"role": "user", "content": "word " * 9000}])
    assert caught.value.code == "context_length_exceeded"


def test_a_field_that_is_not_honoured_is_refused(cluster: mlxctl.Cluster) -> None:
    with OpenAI(base_url=cluster.base_url, api_key="unused") as client, pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(
            model="canary", messages=[{"role": "user", "content": "Hi"}], response_format={"type": "json_object"}
        )
    assert caught.value.param == "response_format.type"


def test_logprobs_of_a_sharded_answer_are_those_of_its_tokens(cluster: mlxctl.Cluster) -> None:
    case = EXPECTATIONS["who-are-you"]
    with OpenAI(base_url=cluster.base_url, api_key="unused") as client:
        made = client.chat.completions.create(**request_of(case, logprobs=True, top_logprobs=3))
    records = made.choices[0].logprobs
    assert records is not None and records.content is not None and made.usage is not None
    assert b"".join(bytes(record.bytes or []) for record in records.content).decode() == case.content
    assert len(records.content) == made.usage.completion_tokens
    for record in records.content:  # greedy: the token drawn is the likeliest
        assert record.top_logprobs[0].token == record.token and len(record.top_logprobs) == 3


def test_a_bias_decides_what_is_drawn(cluster: mlxctl.Cluster) -> None:
    with OpenAI(base_url=cluster.base_url, api_key="unused") as client:
        made = client.chat.completions.create(
            **request_of(EXPECTATIONS["who-are-you"], logit_bias={"99": 100}, logprobs=True, max_tokens=3)
        )
    records = made.choices[0].logprobs
    assert records is not None and records.content is not None
    assert len({record.token for record in records.content}) == 1 and len(records.content) == 3


def test_a_request_that_takes_longer_than_it_may_is_a_504(cluster: mlxctl.Cluster) -> None:
    request = request_of(EXPECTATIONS["count-to-100"])
    with (
        OpenAI(base_url=cluster.base_url, api_key="unused", max_retries=0) as client,
        pytest.raises(InternalServerError) as caught,
    ):
        client.chat.completions.create(**{**request, "extra_body": {**request["extra_body"], "timeout": 0.01}})
    assert (caught.value.status_code, caught.value.code) == (504, "timeout")
    assert wait_until_idle(cluster)["requests"]["running"] == 0


def test_a_worker_lost_in_mid_stream_is_an_error_that_names_it() -> None:
    with mlxctl.Cluster.up(local_profile(2)) as cluster:
        state = read_state(cluster.name)
        assert state is not None
        with OpenAI(base_url=cluster.base_url, api_key="unused", max_retries=0) as client:
            stream = client.chat.completions.create(**request_of(EXPECTATIONS["count-to-100"], stream=True))
            with pytest.raises(APIError, match="node w1") as caught:
                for chunk in stream:
                    if chunk.choices and chunk.choices[0].delta.content:
                        os.kill(state.workers[1].process.pid, signal.SIGKILL)
            assert caught.value.code == "stage_lost"
            with pytest.raises(InternalServerError, match="node w1"):
                client.chat.completions.create(**request_of(EXPECTATIONS["hello"]))
        health = httpx2.get(cluster.base_url.removesuffix("/v1") + "/health", trust_env=False)
        assert (health.status_code, health.json()["status"]) == (503, "degraded")


def wait_until_idle(cluster: mlxctl.Cluster) -> dict[str, Any]:
    """The status once nothing runs and the workers have said so."""
    until_s = time.monotonic() + 20
    while True:
        status = cluster.status()
        caches = {stage["caches"] for stage in status["stages"]}
        if status["requests"]["running"] == 0 and caches == {status["lanes"]["kept_sequences"]}:
            return status
        assert time.monotonic() < until_s, status
        time.sleep(0.1)
