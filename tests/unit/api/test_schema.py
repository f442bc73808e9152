"""Which bodies are taken, and how the others are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mlxctl.api.errors import from_validation
from mlxctl.api.schema import ChatRequest
from mlxctl.errors import RequestError

pytestmark = pytest.mark.unit

HELLO = {"role": "user", "content": "Hello!"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "description": "d"}}


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "canary", "messages": [HELLO], **fields}


def parse(document: Any) -> ChatRequest:
    return ChatRequest.model_validate_json(json.dumps(document))


def refusal(document: Any) -> RequestError:
    with pytest.raises(ValidationError) as caught:
        parse(document)
    return from_validation(caught.value)


HONOURED = [
    {"temperature": 0},
    {"temperature": 0.7, "top_p": 1, "top_k": 40, "min_p": 0.05, "seed": -1},
    {"max_tokens": 1},
    {"max_completion_tokens": 1},
    {"stop": "a"},
    {"stop": ["a", "b", "c", "d"]},
    {"stop": []},
    {"stream": True, "stream_options": {"include_usage": True}},
    {"tools": [TOOL], "tool_choice": "auto"},
    {"tools": [{"type": "function", "function": {"name": "f", "strict": False}}], "parallel_tool_calls": True},
    {"chat_template_kwargs": {"enable_thinking": False}},
    {"response_format": {"type": "text"}},
    {"frequency_penalty": -2, "presence_penalty": 2, "repetition_penalty": 1.1, "repetition_context_size": 64},
    {"xtc_probability": 1, "xtc_threshold": 0.5},
    {"logit_bias": {"0": -100, "511": 100}},
    {"logprobs": True, "top_logprobs": 20},
    {"timeout": 0.5, "priority": "batch"},
]
ASKS_FOR_WHAT_HAPPENS_ANYWAY = [
    {"n": 1},
    {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}},
    {"logprobs": False, "top_logprobs": 0},
    {"store": False, "service_tier": "auto", "modalities": ["text"]},
    {"user": "me", "metadata": {"a": "b"}, "safety_identifier": "x", "prompt_cache_key": "y"},
]


@pytest.mark.parametrize("fields", HONOURED + ASKS_FOR_WHAT_HAPPENS_ANYWAY, ids=str)
def test_what_can_be_honoured_is_taken(fields: dict[str, Any]) -> None:
    parse(body(**fields))


def test_null_means_absent_in_every_optional_field() -> None:
    optional = {name: None for name, field in ChatRequest.model_fields.items() if not field.is_required()}
    assert parse(body(**optional)) == parse(body())


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"logprobs": 0}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.type"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"store": True}, "store"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]}, "tools[0].function.strict"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
        ({"tools": []}, "tools"),
        ({"functions": []}, "functions"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"temprature": 1}, "temprature"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    ],
    ids=str,
)
def test_what_cannot_be_honoured_is_refused_and_named(fields: dict[str, Any], param: str) -> None:
    error = refusal(body(**fields))
    assert error.param == param and param in error.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": "1"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"top_k": 1.5}, "top_k"),
        ({"min_p": 2}, "min_p"),
        ({"seed": 2**63}, "seed"),
        ({"seed": 0.5}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"max_completion_tokens": 2**31}, "max_completion_tokens"),
        ({"frequency_penalty": 2.1}, "frequency_penalty"),
        ({"presence_penalty": -2.1}, "presence_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"xtc_threshold": 0.6, "xtc_probability": 1}, "xtc_threshold"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1"),
        ({"logit_bias": {"-1": 1}}, "logit_bias.-1"),
        ({"logit_bias": {"1e3": 1}}, "logit_bias.1e3"),
        ({"logit_bias": {str(token): 1 for token in range(1025)}}, "logit_bias"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"timeout": 0}, "timeout"),
        ({"priority": "urgent"}, "priority"),
        ({"stop": ""}, "stop[0]"),
        ({"stop": 5}, "stop"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ["a" * 257]}, "stop[0]"),
        ({"stream": "yes"}, "stream"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [5]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "system", "content": {"type": "text", "text": "x"}}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x", "name": "Ada"}]}, "messages[0].name"),
        ({"messages": [HELLO, {"role": "tool", "content": "x"}]}, "messages[1].tool_call_id"),
        ({"messages": [{"role": "assistant", "tool_calls": [{**CALL, "id": 5}]}]}, "messages[0].tool_calls[0].id"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0].type",
        ),
        ({"chat_template_kwargs": ["x"]}, "chat_template_kwargs"),
        ({"metadata": {"a": 1}}, "metadata.a"),
    ],
    ids=str,
)
def test_a_wrong_type_or_value_is_refused_and_named(fields: dict[str, Any], param: str) -> None:
    assert refusal(body(**fields)).param == param


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_tokens": 5, "max_completion_tokens": 5}, "give one"),
        ({"stream_options": {"include_usage": True}}, "stream: true"),
        ({"tool_choice": "auto"}, "needs tools"),
        ({"messages": [{"role": "assistant", "content": None}]}, "content or tool_calls"),
        ({"top_logprobs": 3}, "logprobs: true"),
        ({"xtc_threshold": 0.1}, "xtc_probability above 0"),
        ({"repetition_context_size": 9, "repetition_penalty": 1}, "needs a penalty"),
    ],
    ids=str,
)
def test_fields_that_do_not_go_together_are_refused(fields: dict[str, Any], words: str) -> None:
    assert words in refusal(body(**fields)).message


def test_a_missing_field_has_openais_code() -> None:
    assert refusal({"messages": [HELLO]}).code == "missing_required_parameter"


def test_the_clients_own_message_can_be_sent_back() -> None:
    said = {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "reasoning_content": "hm",
        "tool_calls": [CALL],
    }
    parse(body(messages=[HELLO, said, {"role": "tool", "tool_call_id": "c1", "content": "x"}]))


def test_a_tool_reaches_the_template_in_the_clients_order() -> None:
    turned = {"function": {"parameters": {}, "strict": None, "name": "f"}, "type": "function"}
    tools = parse(body(tools=[turned])).tools
    assert tools is not None
    assert json.dumps(tools[0].for_template()) == '{"function": {"parameters": {}, "name": "f"}, "type": "function"}'


@pytest.mark.parametrize(
    "text", ["", "{", "nul", '{"model": "a"}}', '{"temperature": NaN}', '"\\ud800"', "[" * 100_000]
)
def test_what_is_not_json_or_no_object_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ChatRequest.model_validate_json(text)
    assert "\n" not in from_validation(caught.value).message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(ChatRequest.model_fields)), JSON))
def test_any_body_is_taken_or_refused_with_a_reason(document: dict[str, Any]) -> None:
    try:
        parse(document)
    except ValidationError as error:
        assert from_validation(error).message
