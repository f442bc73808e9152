"""Requests are timed as their client sees them, and counted as the server does."""

from __future__ import annotations

import pytest

from mlxctl.bench.client import Ask, Endpoint, cached_tokens, check_answers
from mlxctl.bench.prompts import fingerprint
from mlxctl.bench.records import Answer
from mlxctl.errors import RequestError
from tests.scripted_api import Cut, ErrorEvent, Pause, Refusal, ScriptedApi, Thinking, serve

pytestmark = pytest.mark.unit

HELLO = Ask([{"role": "user", "content": "hi"}], 4, seed=1, keep_text=True)


async def ask(api: ScriptedApi, what: Ask = HELLO, stop_ids: tuple[int, ...] = ()) -> Answer:
    async with Endpoint(api.base_url, "canary", stop_ids=stop_ids) as endpoint:
        return await endpoint.ask(what)


async def test_an_answer_is_counted_by_the_servers_usage() -> None:
    with serve() as api:
        api.scripts.append(["one", " two"])
        answer = await ask(api)
    assert (answer.completion_tokens, answer.tokens_from, answer.text) == (2, "usage", "one two")
    assert answer.text_sha256 == fingerprint("one two")


async def test_the_first_token_is_the_first_with_a_text_thinking_included() -> None:
    with serve() as api:
        api.scripts.append(["", Pause(0.05), Thinking("hm"), Pause(0.05), "yes"])
        answer = await ask(api)
    assert answer.ttft_s is not None
    assert 0.05 <= answer.ttft_s < answer.e2e_s
    assert len(answer.gaps_ms) == 1


async def test_time_per_output_token_leaves_the_first_one_out() -> None:
    with serve() as api:
        api.scripts.append(["a", Pause(0.05), "b", Pause(0.05), "c"])
        answer = await ask(api)
    assert answer.ttft_s is not None
    assert answer.tpot_s == pytest.approx((answer.e2e_s - answer.ttft_s) / 2)


async def test_requests_are_greedy_seeded_and_kept_from_stopping() -> None:
    with serve() as api:
        api.scripts.append(["a"])
        await ask(api, stop_ids=(2, 0))
    body = api.requests[0]
    assert (body["temperature"], body["seed"], body["max_tokens"]) == (0.0, 1, 4)
    assert body["logit_bias"] == {"2": -100.0, "0": -100.0}


async def test_a_field_that_a_server_refuses_is_left_out_from_then_on() -> None:
    with serve() as api:
        api.scripts += [[Refusal(400, "logit_bias is not supported")], ["a"], ["b"]]
        async with Endpoint(api.base_url, "canary", stop_ids=(2,)) as endpoint:
            answers = [await endpoint.ask(HELLO) for _ in range(2)]
            refused = endpoint.refused
    assert refused == ["logit_bias"]
    assert [answer.error for answer in answers] == [None, None]
    assert [("logit_bias" in request) for request in api.requests] == [True, False, False]


async def test_a_refusal_that_has_nothing_to_do_with_fields_is_an_error() -> None:
    with serve() as api:
        api.scripts.append([Refusal(404, "no such model", code="model_not_found")])
        answer = await ask(api)
    assert answer.error == "no such model"


@pytest.mark.parametrize("step", [Cut(), ErrorEvent("a stage is lost")])
async def test_an_answer_that_breaks_off_is_an_error(step: object) -> None:
    with serve() as api:
        api.scripts.append(["a", step])  # type: ignore[list-item]
        answer = await ask(api)
    assert answer.error


async def test_latency_counts_from_the_moment_a_request_was_due() -> None:
    with serve() as api:
        api.scripts.append(["a"])
        answer = await ask(api, Ask(HELLO.messages, 4, 0, due_s=0.0))
    assert answer.ttft_s is not None and answer.ttft_s > 0
    assert answer.late_s > 0
    assert answer.text is None


async def test_a_status_that_is_not_new_is_no_status() -> None:
    with serve() as api:
        async with Endpoint(api.base_url, "canary") as endpoint:
            assert await endpoint.status() is None


def test_cached_tokens_are_read_where_the_server_tells_them() -> None:
    assert cached_tokens('{"usage": {"prompt_tokens_details": {"cached_tokens": 7}}}') == 7
    assert cached_tokens('{"usage": {"prompt_tokens": 9}}') is None


async def test_a_workload_of_which_every_request_fails_cannot_be_measured() -> None:
    with serve() as api:
        api.scripts.append([Refusal(404, "no such model", code="model_not_found")])
        answer = await ask(api)
    with pytest.raises(RequestError, match="no such model"):
        check_answers([answer])
