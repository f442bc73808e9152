"""Conversations on their way to the chat template."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlxctl.api.messages import template_messages
from mlxctl.api.schema import ChatRequest
from mlxctl.errors import RequestError

pytestmark = pytest.mark.unit


def convert(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    request = ChatRequest.model_validate_json(json.dumps({"model": "m", "messages": messages}))
    return template_messages(request.messages)


def call(call_id: str, arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "f", "arguments": arguments}}


def calls(*call_ids: str) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [call(call_id) for call_id in call_ids]}


def answer(call_id: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": f"answer to {call_id}"}


def test_text_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    assert convert({"role": "user", "content": parts}) == [{"role": "user", "content": "Hello"}]


def test_a_developer_is_a_system_to_the_template() -> None:
    assert convert({"role": "developer", "content": "Be brief."})[0]["role"] == "system"


def test_arguments_of_calls_become_objects() -> None:
    said = {"role": "assistant", "content": None, "tool_calls": [call("a", '{"x": 1}')]}
    assert convert(said)[0]["tool_calls"][0]["function"]["arguments"] == {"x": 1}
    assert convert(said)[0]["content"] == ""


@pytest.mark.parametrize("arguments", ["", "[]", "nonsense", "[" * 100_000])
def test_arguments_that_are_no_object_are_refused(arguments: str) -> None:
    with pytest.raises(RequestError) as caught:
        convert({"role": "assistant", "tool_calls": [call("a", arguments)]})
    assert caught.value.param == "messages[0].tool_calls[0].function.arguments"


def test_thinking_of_earlier_turns_goes_to_the_template() -> None:
    said = {"role": "assistant", "content": "x", "reasoning_content": "hm"}
    assert convert(said)[0]["reasoning_content"] == "hm"


def test_answers_of_tools_come_in_the_order_of_their_calls() -> None:
    converted = convert(calls("a", "b"), answer("b"), answer("a"), {"role": "user", "content": "and?"})
    assert [message.get("tool_call_id") for message in converted] == [None, "a", "b", None]


@pytest.mark.parametrize(
    "conversation",
    [
        [answer("a")],
        [calls("a"), answer("b")],
        [calls("a"), answer("a"), {"role": "user", "content": "x"}, answer("a")],
    ],
)
def test_an_answer_to_a_call_that_was_not_made_is_refused(conversation: list[dict[str, Any]]) -> None:
    with pytest.raises(RequestError, match="no call with the id"):
        convert(*conversation)
