"""A conversation as OpenAI writes it, turned into what chat templates read. Pure; called by api.chat."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from mlxctl.api.schema import AssistantMessage, Content, Message, ToolCallPart, ToolMessage
from mlxctl.errors import RequestError


def template_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """`messages` as chat templates read them: content as one string, call arguments as objects, no `developer` role.

    Answers of tools come in the order of their calls, since templates match them by order and ignore ids.
    Raises RequestError where a call's arguments are no JSON object or a tool answers a call that was not made.
    """
    converted: list[dict[str, Any]] = []
    calls: list[str] = []
    answers: list[ToolMessage] = []
    for index, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in calls:
                raise RequestError(
                    f"messages[{index}]: no call with the id {message.tool_call_id!r} precedes this answer of a tool",
                    param=f"messages[{index}].tool_call_id",
                )
            answers.append(message)
            continue
        converted += _in_call_order(answers, calls)
        calls, answers = [], []
        if isinstance(message, AssistantMessage):
            calls = [call.id for call in message.tool_calls or ()]
            converted.append(_assistant(message, f"messages[{index}]"))
        else:
            role = "system" if message.role == "developer" else message.role
            converted.append({"role": role, "content": _text(message.content)})
    converted += _in_call_order(answers, calls)
    return converted


def _in_call_order(answers: Sequence[ToolMessage], calls: Sequence[str]) -> Iterator[dict[str, Any]]:
    for answer in sorted(answers, key=lambda answer: calls.index(answer.tool_call_id)):
        name = {} if answer.name is None else {"name": answer.name}
        yield {"role": "tool", "content": _text(answer.content), "tool_call_id": answer.tool_call_id, **name}


def _assistant(message: AssistantMessage, path: str) -> dict[str, Any]:
    converted: dict[str, Any] = {"role": "assistant", "content": _text(message.content or [])}
    if message.reasoning_content is not None:
        converted["reasoning_content"] = message.reasoning_content
    if message.tool_calls:
        converted["tool_calls"] = [
            _tool_call(call, f"{path}.tool_calls[{index}]") for index, call in enumerate(message.tool_calls)
        ]
    return converted


def _tool_call(call: ToolCallPart, path: str) -> dict[str, Any]:
    try:
        arguments = json.loads(call.function.arguments)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        param = f"{path}.function.arguments"
        raise RequestError(f"{param}: a JSON object as a string is expected", param=param, code="invalid_value")
    return {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": arguments}}


def _text(content: Content) -> str:
    return "".join(part.text for part in content)
