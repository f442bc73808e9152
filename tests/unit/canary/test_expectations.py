"""The table that other tests compare answers with is what unsplit mlx-lm really generates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm import load, stream_generate

from mlxctl.canary import MODEL_DIR
from tests.canary_expectations import EXPECTATIONS, Expectation

pytestmark = [pytest.mark.unit, pytest.mark.model]


@pytest.fixture(scope="module")
def canary() -> Iterator[tuple[Any, Any]]:
    model, tokenizer = load(str(MODEL_DIR))
    yield model, tokenizer
    mx.clear_cache()


def test_there_are_expectations_with_and_without_thinking_and_tools() -> None:
    cases = EXPECTATIONS.values()
    assert {case.thinking for case in cases} == {True, False}
    assert {case.finish_reason for case in cases} == {"stop", "length", "tool_calls"}
    assert any(case.prompt_tokens > 1500 for case in cases)


@pytest.mark.parametrize("case", EXPECTATIONS.values(), ids=str)
def test_unsplit_mlx_lm_generates_the_expected_text(case: Expectation, canary: tuple[Any, Any]) -> None:
    model, tokenizer = canary
    prompt = tokenizer.apply_chat_template(
        list(case.messages),
        tools=list(case.tools) or None,
        add_generation_prompt=True,
        enable_thinking=case.thinking,
    )
    steps = list(stream_generate(model, tokenizer, prompt, max_tokens=case.max_tokens))
    ended = steps[-1].finish_reason == "stop"

    assert "".join(step.text for step in steps) == case.text
    assert len(prompt) == case.prompt_tokens
    assert steps[-1].generation_tokens - ended == case.answer_tokens
    assert ended == (case.finish_reason != "length")
    assert min(_lead(step.logprobs) for step in steps) > 4


def _lead(logprobs: mx.array) -> float:
    """How far the best token is ahead of the second, in nats."""
    second, best = np.sort(np.asarray(logprobs))[-2:]
    return float(best - second)
