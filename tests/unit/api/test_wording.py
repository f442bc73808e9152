"""What is wrong with a request is said in plain words, never in the checking library's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from mlxctl.api.errors import from_validation
from mlxctl.api.schema import ChatRequest

pytestmark = pytest.mark.unit


def refusal(**fields: Any) -> str:
    document = {"model": "canary", "messages": [{"role": "user", "content": "Hello!"}], **fields}
    with pytest.raises(ValidationError) as caught:
        ChatRequest.model_validate_json(json.dumps(document))
    return from_validation(caught.value).message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"messages": [{"role": "user", "content": None}]},
            "messages[0].content: a string or an array of text parts is expected, not null",
        ),
        (
            {"messages": [{"role": "robot", "content": "x"}]},
            "messages[0].role: must be 'system', 'developer', 'user', 'assistant' or 'tool', not 'robot'",
        ),
        ({"messages": [{"content": "x"}]}, "messages[0].role: this field is required"),
        ({"messages": []}, "messages: must not be empty"),
        ({"messages": ["x"]}, "messages[0]: an object is expected, not a string"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0].type: only 'text' is supported, not 'image_url'",
        ),
        ({"n": 2}, "n: only 1 answer a request is supported, not 2"),
        ({"temperature": "1"}, "temperature: a number is expected, not a string"),
        ({"temperature": True}, "temperature: a number is expected, not true or false"),
        ({"temperature": 3}, "temperature: must be at most 2, not 3"),
        ({"top_k": 1.5}, "top_k: a whole number is expected, not 1.5"),
        ({"max_tokens": 0}, "max_tokens: must be at least 1, not 0"),
        ({"stream": [1]}, "stream: true or false is expected, not an array"),
        ({"stop": 5}, "stop: a string or an array of strings is expected, not a number"),
        ({"stop": ["a"] * 5}, "stop: must not have more than 4 items"),
        ({"stop": "a" * 257}, "stop[0]: must be at most 256 characters long"),
        ({"tool_choice": "required"}, "tool_choice: must be 'auto' or 'none', not 'required'"),
        ({"logit_bias": {"x": 1}}, "logit_bias.x: 'x' is no token id"),
        ({"user": {"a": 1}}, "user: a string is expected, not an object"),
        ({"tool_choice": "x" * 99}, f"tool_choice: must be 'auto' or 'none', not '{'x' * 40}…'"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value)[:40],
)
def test_a_mistake_is_one_plain_sentence(fields: dict[str, Any], message: str) -> None:
    assert refusal(**fields) == message
