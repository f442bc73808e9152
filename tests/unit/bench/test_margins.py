"""How close a call it was where two answers part."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlxctl.bench.build import build
from mlxctl.bench.client import Ask, Endpoint
from mlxctl.bench.margins import gap_at, margins
from mlxctl.bench.prompts import Prompter
from mlxctl.bench.records import Margin
from tests.api_server import serve_api
from tests.unit.bench.samples import DECODE, head, journal, run

pytestmark = pytest.mark.unit


def token(text: str, *logprobs: float) -> dict[str, Any]:
    return {"token": text, "top_logprobs": [{"logprob": logprob} for logprob in logprobs]}


TOKENS = [token("<think>", -0.1, -9.0), token("ab", -0.1, -3.0), token("cd", -0.7, -0.75), token("ef", -0.2, -2.0)]


@pytest.mark.parametrize(("at", "gap"), [(0, 2.9), (1, 2.9), (2, 0.05), (5, 1.8)])
def test_the_gap_is_that_of_the_token_that_brings_the_character(at: int, gap: float) -> None:
    assert gap_at(TOKENS, at) == pytest.approx(gap)


def test_beyond_the_answer_there_is_no_gap() -> None:
    assert gap_at(TOKENS, 6) is None


def test_one_likeliest_token_has_no_gap() -> None:
    assert gap_at([token("a", -0.1)], 0) is None


def test_the_margin_stands_beside_the_divergence() -> None:
    made = journal(of=head(dtype="bfloat16"))
    other = run(DECODE, 2, 1, 0, 1.0, text="a b d")
    margin = Margin(devices=2, workload=DECODE.id, index=0, at_character=4, margin=0.0123)
    found = build(replace(made, runs=(*made.runs, other), margins=(margin,)))
    assert found.equality.differences[0].logit_margin == 0.0123
    assert any("logit margin: 0.0123" in sentence.text for sentence in found.verdicts)


async def test_equal_answers_ask_for_nothing() -> None:
    async with Endpoint("http://127.0.0.1:1/v1", "canary") as endpoint:
        assert await margins(endpoint, Prompter(0, None), [DECODE], journal().runs, 2) == []


async def test_a_server_that_is_gone_tells_no_margin() -> None:
    runs = [run(DECODE, 1, 0, 0, 1.0), run(DECODE, 2, 1, 0, 1.0, text="a b d")]
    async with Endpoint("http://127.0.0.1:1/v1", "canary") as endpoint:
        assert await margins(endpoint, Prompter(0, None), [DECODE], runs, 2) == []


async def test_our_api_tells_the_two_likeliest_of_every_token() -> None:
    with serve_api() as server:
        async with Endpoint(f"{server.url}/v1", "canary") as endpoint:
            tokens = await endpoint.logprobs(Ask([{"role": "user", "content": "hi"}], 4, seed=0))
    assert [len(each["top_logprobs"]) for each in tokens] == [2] * 4
