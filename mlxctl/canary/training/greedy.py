"""Greedy answers of a model through mlx_lm on this machine. Called by both evaluations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlx_lm import generate, load

THOUGHT_END = "</think>"
_CALL_START, _CALL_END = "<tool_call>", "</tool_call>"


class Model:
    """A model folder, loaded."""

    def __init__(self, folder: Path) -> None:
        self._model, self._tokenizer = load(str(folder))[:2]

    def answer(self, prompt: Sequence[int], *, most_tokens: int) -> str:
        """What the model says after `prompt`, thought and tool calls included."""
        return str(generate(self._model, self._tokenizer, list(prompt), max_tokens=most_tokens))

    def prompt(self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]], *, thinks: bool) -> list[int]:
        """The messages in the chat template."""
        template = self._tokenizer.apply_chat_template
        ids: list[int] = template(
            list(messages), tools=list(tools) or None, add_generation_prompt=True, enable_thinking=thinks
        )
        return ids


def without_thought(text: str) -> str:
    """The answer proper."""
    return text.rpartition(THOUGHT_END)[2].strip()


def tool_calls(text: str) -> list[dict[str, Any]]:
    """The calls in an answer: name and arguments of each. Raises ValueError where one is not JSON."""
    return [json.loads(part.partition(_CALL_END)[0]) for part in text.split(_CALL_START)[1:]]
