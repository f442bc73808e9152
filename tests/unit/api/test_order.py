"""What a request asks of the engine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlxctl.api.order import Order, prepare
from mlxctl.api.schema import ChatRequest
from mlxctl.errors import ContextLengthExceeded, RequestError
from mlxctl.request import Sampling
from mlxctl.tokenizer import Tokenizer
from tests.unit.test_tokenizer import changed_model

pytestmark = pytest.mark.unit

CONTEXT = 64
PROMPT_TOKENS = 10  # of "Hello!" through the canary's template, thinking on


def order(tokenizer: Tokenizer, *, content: str = "Hello!", **fields: Any) -> Order:
    document = {"model": "canary", "messages": [{"role": "user", "content": content}], **fields}
    return prepare(ChatRequest.model_validate_json(json.dumps(document)), tokenizer, CONTEXT)


def _limit(name: str, tokens: int) -> dict[str, Any]:
    return {name: tokens}


def test_without_a_limit_the_answer_may_fill_the_context(tokenizer: Tokenizer) -> None:
    generation = order(tokenizer).generation
    assert (len(generation.prompt), generation.max_tokens) == (PROMPT_TOKENS, CONTEXT - PROMPT_TOKENS)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_limit_is_kept_up_to_the_last_token_of_the_context(tokenizer: Tokenizer, name: str) -> None:
    left = CONTEXT - PROMPT_TOKENS
    assert order(tokenizer, **_limit(name, left)).generation.max_tokens == left
    with pytest.raises(ContextLengthExceeded, match=rf"{CONTEXT} tokens.*{CONTEXT + 1}.*{PROMPT_TOKENS}") as caught:
        order(tokenizer, **_limit(name, left + 1))
    assert caught.value.param == name


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(tokenizer: Tokenizer) -> None:
    long = "a b c d e f g h " * 10
    tokens = len(tokenizer.render([{"role": "user", "content": long}]).ids)
    with pytest.raises(ContextLengthExceeded, match=f"{CONTEXT} tokens.* {tokens} tokens") as caught:
        order(tokenizer, content=long, max_tokens=5)
    assert (caught.value.param, caught.value.code) == ("messages", "context_length_exceeded")


def test_sampling_is_the_models_where_the_request_is_silent(tokenizer: Tokenizer) -> None:
    assert order(tokenizer).generation.sampling.temperature == 0
    asked = order(tokenizer, temperature=0.5, top_p=0.9, top_k=3, min_p=0.1, seed=7).generation.sampling
    assert (asked.temperature, asked.top_p, asked.top_k, asked.min_p, asked.seed) == (0.5, 0.9, 3, 0.1, 7)


def test_a_nucleus_of_nothing_is_greedy(tokenizer: Tokenizer) -> None:
    sampling = order(tokenizer, temperature=1, top_p=0).generation.sampling
    assert (sampling.temperature, sampling.top_p) == (0, 1)


def test_without_a_seed_two_requests_draw_differently(tokenizer: Tokenizer) -> None:
    assert order(tokenizer).generation.sampling.seed != order(tokenizer).generation.sampling.seed


def test_a_negative_seed_is_a_seed(tokenizer: Tokenizer) -> None:
    assert order(tokenizer, seed=-1).generation.sampling.seed == 2**64 - 1


TOOLS = [{"type": "function", "function": {"name": "f"}}]


def test_tools_not_to_be_used_are_not_shown_to_the_model(tokenizer: Tokenizer) -> None:
    made = order(tokenizer, tools=TOOLS, tool_choice="none")
    assert made.generation.prompt == order(tokenizer).generation.prompt and not made.answer_format.tools


def test_tools_for_a_model_that_cannot_call_them_are_refused(tmp_path: Any) -> None:
    plain = changed_model(
        tmp_path, tokenizer_config={"tokenizer_class": "TokenizersBackend"}, chat_template="{{ messages[0].content }}"
    )
    with pytest.raises(RequestError) as caught:
        order(Tokenizer.load(plain), tools=TOOLS)
    assert caught.value.param == "tools"


def test_messages_that_come_to_nothing_are_refused(tmp_path: Any) -> None:
    plain = changed_model(tmp_path, chat_template="{{ messages[0].content }}")
    with pytest.raises(RequestError, match="empty"):
        order(Tokenizer.load(plain), content="")


def test_what_shapes_the_draw_reaches_the_engine(tokenizer: Tokenizer) -> None:
    asked = order(
        tokenizer,
        frequency_penalty=0.5,
        presence_penalty=-0.5,
        repetition_penalty=1.2,
        repetition_context_size=64,
        xtc_probability=0.25,
        xtc_threshold=0.2,
        logprobs=True,
        top_logprobs=3,
    ).generation.sampling
    assert (asked.frequency_penalty, asked.presence_penalty, asked.repetition_penalty) == (0.5, -0.5, 1.2)
    assert (asked.repetition_context, asked.xtc_probability, asked.xtc_threshold) == (64, 0.25, 0.2)
    assert set(tokenizer.stop_ids) < set(asked.xtc_kept_ids) and asked.top_logprobs == 3


def test_what_is_not_asked_for_is_off(tokenizer: Tokenizer) -> None:
    assert order(tokenizer, seed=0, logprobs=False).generation.sampling == Sampling(seed=0)


def test_biases_come_in_the_order_of_ids_without_those_that_change_nothing(tokenizer: Tokenizer) -> None:
    asked = order(tokenizer, logit_bias={"20": 1, "3": -100, "4": 0}).generation.sampling
    assert asked.logit_bias == ((3, -100), (20, 1))


def test_a_bias_for_no_token_is_refused_and_named(tokenizer: Tokenizer) -> None:
    beyond = tokenizer.vocabulary_size
    with pytest.raises(RequestError, match=f"{beyond} is no token") as caught:
        order(tokenizer, logit_bias={str(beyond): 1})
    assert caught.value.param == f"logit_bias.{beyond}"


def test_a_deadline_and_a_priority_reach_the_engine(tokenizer: Tokenizer) -> None:
    asked, silent = order(tokenizer, timeout=2.5, priority="batch").generation, order(tokenizer).generation
    assert (asked.timeout_s, asked.priority) == (2.5, "batch")
    assert (silent.timeout_s, silent.priority) == (None, "interactive")
